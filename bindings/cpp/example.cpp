/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads append durably; then the program reads everything back.
 *
 *     g++ -std=c++20 example.cpp $(pkg-config --cflags --libs twinlog) -pthread && ./a.out journal
 */
#include <exception>
#include <iostream>
#include <string>
#include <thread>
#include <twinlog.hpp>
#include <vector>

static void take_orders(twl::log &log, int worker)
{
    for (int i = 0; i < 25; i++)
        log.append("order " + std::to_string(i) + " of worker " + std::to_string(worker)).value();
    // each order survives a power cut from here on: confirm it to the customer
}

int main(int argc, char **argv)
try {
    if (argc != 2) {
        std::cerr << "usage: a.out DIR\n";
        return 2;
    }
    auto log = twl::log::open(argv[1]).value();
    std::vector<std::jthread> workers;
    for (int worker = 0; worker < 8; worker++)
        workers.emplace_back(take_orders, std::ref(log), worker);
    workers.clear(); // waits for them
    log.close().value();

    int count = 0;
    auto reader = twl::reader::open(argv[1]).value();
    while (auto record = reader.next().value())
        count += record->text().starts_with("order ");
    std::cout << count << " orders\n";
    return count != 200;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
