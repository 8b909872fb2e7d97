/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads append durably, and write lines to a plain file; then the program reads everything back.
 *
 *     g++ -std=c++20 example.cpp $(pkg-config --cflags --libs twinlog) -pthread && ./a.out journal
 */
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <twinlog.hpp>
#include <vector>

static void take_orders(twl::log &log, twl::sink &sink, int worker)
{
    twl::sink_stream lines(sink); // of this thread
    for (int i = 0; i < 25; i++) {
        log.append("order " + std::to_string(i) + " of worker " + std::to_string(worker)).value();
        // the order survives a power cut from here on: confirm it to the customer
        lines << "worker " << worker << " took order " << i << '\n';
        // the line survives a kill -9, and is there for tail and grep
    }
}

int main(int argc, char **argv)
try {
    if (argc != 2) {
        std::cerr << "usage: a.out DIR\n";
        return 2;
    }
    auto log = twl::log::open(argv[1]).value();
    const std::string text = argv[1] + std::string(".txt");
    // other processes may have it open, too
    auto sink = twl::sink::open(text, { .shared = true, .lines = true }).value();
    std::vector<std::jthread> workers;
    for (int worker = 0; worker < 8; worker++)
        workers.emplace_back(take_orders, std::ref(log), std::ref(sink), worker);
    workers.clear(); // waits for them
    log.close().value();
    sink.close().value();

    int count = 0;
    auto reader = twl::reader::open(argv[1]).value();
    while (auto record = reader.next().value())
        count += record->text().starts_with("order ");
    int lines = 0;
    std::ifstream file(text);
    for (std::string line; std::getline(file, line);)
        lines += line.starts_with("worker ");
    std::cout << count << " orders, " << lines << " lines\n";
    return count != 200 || lines != 200;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
