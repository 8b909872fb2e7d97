// SPDX-License-Identifier: Apache-2.0
//
// RocksDB with twinlog in the place of its write-ahead log. A put is durable when it returns. RocksDB keeps what was put
// in memory until it flushes it to a file; after a crash what is missing comes from the log.
//
//     c++ -std=c++17 rocksdb.cc $(pkg-config --cflags --libs twinlog) -lrocksdb -pthread -o rocksdb
//     ./rocksdb DIR                        # a short check of itself
//     ./rocksdb DIR bench                  # puts a second, beside RocksDB's own log
//     sudo twinlog-powercut -- ./rocksdb   # cuts the power, and looks what is missing
//
// Three rules make it right:
//  - The puts of one key reach RocksDB in the order of their LSNs: a lock for each of 4096 parts of the keys is held from
//    the append to the put. Puts of different keys pass each other; replaying them in the order of LSNs gives the same.
//  - A checkpoint takes all these locks, so every record up to the newest LSN is in RocksDB; then it flushes, and only then
//    moves the cursor "rocksdb" there. Opening replays what is behind the cursor; a put that is there already does no harm.
//  - What the cursor has passed is trimmed. A trim never removes what a cursor has not passed.
#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>
#include <twinlog.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static const char cursor_name[] = "rocksdb";

static void check(int rc, const char *what)
{
    if (rc < 0)
        throw std::runtime_error(std::string(what) + ": " + twinlog_strerror(rc));
}

static void check(const rocksdb::Status &status, const char *what)
{
    if (!status.ok())
        throw std::runtime_error(std::string(what) + ": " + status.ToString());
}

class Store
{
  public:
    // Without a log it is RocksDB with its own one, which syncs each put. Both are set up for many threads.
    Store(const std::string &dir, bool has_log)
    {
        rocksdb::Options options;
        options.create_if_missing = true;
        options.unordered_write = true; // the order that matters is that of change()
        options.enable_write_thread_adaptive_yield = false;
        own.sync = !has_log;
        own.disableWAL = has_log;
        rocksdb::DB *opened;
        check(rocksdb::DB::Open(options, dir, &opened), "cannot open RocksDB");
        db.reset(opened);
        if (!has_log)
            return;
        check(twinlog_open((dir + "/log").c_str(), nullptr, &log), "cannot open the log");
        replay();
    }

    ~Store()
    {
        if (log)
            twinlog_close(log);
    }

    void put(const std::string &key, const std::string &value) { change(SET, key, value); }
    void remove(const std::string &key) { change(REMOVE, key, ""); }

    bool get(const std::string &key, std::string *value)
    {
        return db->Get(rocksdb::ReadOptions(), key, value).ok();
    }

    // Makes the log short. A store calls it now and then, from a thread of its own.
    void checkpoint()
    {
        for (std::mutex &part : parts)
            part.lock();
        uint64_t lsn = twinlog_last_lsn(log);
        for (std::mutex &part : parts)
            part.unlock();
        check(db->Flush(rocksdb::FlushOptions()), "cannot flush");
        check(twinlog_cursor_set(log, cursor_name, lsn), "cannot move the cursor");
        twinlog_trim_options limit = TWINLOG_TRIM_OPTIONS_INIT;
        limit.before_lsn = lsn + 1;
        check(twinlog_trim(log, &limit, nullptr), "cannot trim");
    }

    uint64_t records() const { return twinlog_last_lsn(log); }
    uint64_t replayed = 0;

  private:
    enum {
        SET = 1,
        REMOVE = 2
    }; // the type of a record; its tag is the size of the key

    void change(uint8_t type, const std::string &key, const std::string &value)
    {
        std::unique_lock<std::mutex> held(parts[std::hash<std::string>{}(key) % parts.size()]);
        if (log) {
            iovec pieces[2] = { { const_cast<char *>(key.data()), key.size() },
                                { const_cast<char *>(value.data()), value.size() } };
            twinlog_entry entry{};
            entry.pieces = pieces;
            entry.piece_count = 2;
            entry.type = type;
            entry.tag = static_cast<uint16_t>(key.size());
            if (key.size() > UINT16_MAX)
                throw std::runtime_error("a key is at most 65,535 bytes long");
            check(twinlog_append_batch(log, &entry, 1, nullptr, nullptr), "cannot append");
        } else {
            held.unlock(); // RocksDB has an order of its own
        }
        apply(type, key, value);
    }

    void apply(uint8_t type, const rocksdb::Slice &key, const rocksdb::Slice &value)
    {
        check(type == SET ? db->Put(own, key, value) : db->Delete(own, key), "cannot write to RocksDB");
    }

    void replay()
    {
        twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
        twinlog_reader *reader;
        twinlog_record record;
        uint64_t lsn = 0;
        int rc = twinlog_cursor_get(log, cursor_name, &lsn);
        if (rc == -ENOENT) // the first opening: from now on nothing is trimmed that RocksDB has not flushed
            rc = twinlog_cursor_set(log, cursor_name, 0);
        check(rc, "cannot find the cursor");
        options.from_lsn = lsn + 1;
        check(twinlog_reader_attach(log, &options, &reader), "cannot read the log");
        while ((rc = twinlog_reader_next(reader, &record)) > 0) {
            const char *data = static_cast<const char *>(record.data);
            apply(record.type, { data, record.tag }, { data + record.tag, record.size - record.tag });
            replayed++;
        }
        twinlog_reader_close(reader);
        check(rc, "cannot replay");
    }

    std::unique_ptr<rocksdb::DB> db;
    twinlog *log = nullptr;
    rocksdb::WriteOptions own;
    std::array<std::mutex, 4096> parts;
};

// ---- what tries it --------------------------------------------------------------------------------

static const int key_count = 10; // of each thread
static const int thread_count = 4;

static std::string key_of(int thread, int i)
{
    return std::to_string(thread) + "." + std::to_string(i % key_count);
}

static unsigned long number_of(Store &store, const std::string &key)
{
    std::string value;
    return store.get(key, &value) ? strtoul(value.c_str(), nullptr, 10) : 0;
}

// Sets keys to growing numbers, and prints "KEY NUMBER" when put() has returned.
static void set_keys(Store &store, int thread, int changes, bool prints)
{
    for (int i = 0; i < changes; i++) {
        std::string key = key_of(thread, i), value = std::to_string(number_of(store, key) + 1);
        store.put(key, value);
        std::string line = key + " " + value + "\n";
        if (prints && (fwrite(line.data(), 1, line.size(), stdout) != line.size() || fflush(stdout) != 0))
            throw std::runtime_error("cannot print");
    }
}

static void run(Store &store, int changes, bool prints)
{
    std::vector<std::thread> threads;
    std::atomic<int> running{ thread_count };
    for (int thread = 0; thread < thread_count; thread++)
        threads.emplace_back([&, thread] {
            set_keys(store, thread, changes, prints);
            running--;
        });
    while (running > 0) {
        store.checkpoint();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    for (std::thread &thread : threads)
        thread.join();
}

// Each line of standard input says what was promised.
static int check_promises(Store &store)
{
    char key[32];
    unsigned long number, promises = 0, broken = 0;
    for (; scanf("%31s %lu", key, &number) == 2; promises++)
        if (number_of(store, key) < number && broken++ < 10)
            fprintf(stderr, "%s has a smaller number than %lu\n", key, number);
    fprintf(stderr, "%lu promises, %lu of them broken; %llu records replayed\n", promises, broken,
            static_cast<unsigned long long>(store.replayed));
    return broken > 0;
}

static int check_itself(const std::string &dir)
{
    {
        Store store(dir, true);
        run(store, 200, false);
        store.put("gone", "x");
        store.remove("gone");
    }
    Store store(dir, true);
    for (int thread = 0; thread < thread_count; thread++)
        for (int i = 0; i < key_count; i++)
            if (number_of(store, key_of(thread, i)) != 200 / key_count)
                throw std::runtime_error("a change is missing");
    std::string value;
    if (store.get("gone", &value))
        throw std::runtime_error("what was removed is there");
    printf("%llu records, %llu of them replayed\n", static_cast<unsigned long long>(store.records()),
           static_cast<unsigned long long>(store.replayed));
    return 0;
}

static double rate(const std::string &dir, bool has_log, int threads, double seconds)
{
    Store store(dir, has_log);
    std::atomic<bool> stops{ false };
    std::atomic<unsigned long> puts{ 0 };
    std::vector<std::thread> all;
    const auto began = std::chrono::steady_clock::now();
    for (int thread = 0; thread < threads; thread++)
        all.emplace_back([&, thread] {
            const std::string value(100, 'v');
            for (unsigned i = 0; !stops; i++, puts++)
                store.put(std::to_string(thread) + "." + std::to_string(i), value);
        });
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    const double done = static_cast<double>(puts);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    stops = true;
    for (std::thread &thread : all)
        thread.join();
    return done / took.count();
}

// A line for each round goes to the file $ROUNDS, too (bench/others.sh).
static int bench(const std::string &dir)
{
    const char *path = getenv("ROUNDS");
    FILE *rounds = fopen(path ? path : "/dev/null", "ae");
    printf(
        "| threads | RocksDB on twinlog | RocksDB alone | against RocksDB |\n|--:|--:|--:|--:|\n");
    for (int threads : { 1, 16, 64, 256 }) {
        std::array<double, 10> ours, theirs, ratios;
        for (size_t round = 0; round < ratios.size(); round++) {
            const std::string place = dir + "/" + std::to_string(threads) + "." + std::to_string(round);
            for (size_t turn = 0; turn < 2; turn++) // ours first, theirs first
                if ((turn + round) % 2 == 0)
                    ours[round] = rate(place + ".twinlog", true, threads, 0.6);
                else
                    theirs[round] = rate(place + ".own", false, threads, 0.6);
            ratios[round] = ours[round] / theirs[round];
            if (rounds)
                fprintf(rounds, "rocksdb,twinlog,%d,%.0f\nrocksdb,RocksDB,%d,%.0f\n", threads, ours[round],
                        threads, theirs[round]);
        }
        for (auto *values : { &ours, &theirs, &ratios })
            std::sort(values->begin(), values->end());
        printf("| %d | %.0f | %.0f | %.2f (%.2f to %.2f) |\n", threads, (ours[4] + ours[5]) / 2,
               (theirs[4] + theirs[5]) / 2, (ratios[4] + ratios[5]) / 2, ratios[0], ratios[9]);
        fflush(stdout);
    }
    return rounds && fclose(rounds) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
try {
    const char *phase = getenv("POWERCUT"), *place = getenv("POWERCUT_DIR");
    const std::string dir = place ? std::string(place) + "/store" : argc > 1 ? argv[1] : "store";
    rocksdb::Env::Default()->CreateDirIfMissing(dir);
    if (argc > 2 && strcmp(argv[2], "bench") == 0)
        return bench(dir);
    if (!phase)
        return check_itself(dir);
    Store store(dir, true);
    if (strcmp(phase, "check") == 0)
        return check_promises(store);
    run(store, 1000000000, true);
    return 0;
} catch (const std::exception &error) {
    fprintf(stderr, "%s\n", error.what());
    return 1;
}
