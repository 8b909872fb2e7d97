/* SPDX-License-Identifier: Apache-2.0 */
/* What twinlog.hpp promises: ownership, errors, terms, cursors, coroutines that go on here or there, plain files. */
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <poll.h>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <twinlog.hpp>
#include <type_traits>
#include <unistd.h>

using namespace std::chrono_literals;
using namespace std::string_literals;

#define CHECK(expression)                                                                                    \
    do {                                                                                                     \
        if (!(expression)) {                                                                                 \
            std::fprintf(stderr, "test.cpp:%d: %s\n", __LINE__, #expression);                                \
            std::exit(1);                                                                                    \
        }                                                                                                    \
    } while (0)

static_assert(std::is_nothrow_move_constructible_v<twl::log> && !std::is_copy_constructible_v<twl::log>);
static_assert(std::is_nothrow_move_constructible_v<twl::reader> &&
              !std::is_copy_constructible_v<twl::reader>);
static_assert(std::is_nothrow_move_constructible_v<twl::consumer> &&
              !std::is_copy_constructible_v<twl::consumer>);
static_assert(std::is_nothrow_move_constructible_v<twl::owned_record> &&
              !std::is_copy_constructible_v<twl::owned_record>);
static_assert(std::is_nothrow_move_constructible_v<twl::sink> && !std::is_copy_constructible_v<twl::sink>);
static_assert(!std::is_copy_constructible_v<twl::sink_stream> &&
              !std::is_move_constructible_v<twl::sink_stream>);

static void errors_are_values(const std::string &dir)
{
    auto missing = twl::log::open(dir + "/not/here");
    CHECK(!missing && missing.error() == -ENOENT);
    CHECK(missing.error().code() == std::errc::no_such_file_or_directory);
    CHECK(missing.error().message() == std::string(twinlog_strerror(-ENOENT)));
    try {
        (void)std::move(missing).value();
        CHECK(false);
    } catch (const std::system_error &e) {
        CHECK(e.code() == std::errc::no_such_file_or_directory);
        CHECK(std::string(e.what()).starts_with(dir + "/not/here: cannot create"));
    }
    CHECK((twl::error{ TWINLOG_ETRIMMED }).code().message() == twinlog_strerror(TWINLOG_ETRIMMED));
    CHECK((twl::error{ TWINLOG_ETRIMMED }).code().default_error_condition().category() == twl::category());
}

static void errors_name_the_place(const std::string &dir)
{
    const std::string file = "0000000000000001.twl";
    CHECK(twl::log::open(dir).value().append("x").has_value());
    std::fstream(dir + "/" + file, std::ios::in | std::ios::out)
        .seekp(4096)
        .write(std::string(4096, 0).data(), 4096);
    const twl::error damaged = twl::log::open(dir).error();
    const std::string what = damaged.as_exception().what();
    CHECK(damaged == TWINLOG_ECORRUPT &&
          what.starts_with(dir + ": " + file + ", offset 4096, LSN 1: record 1"));

    /* Each call on a reader says why, and nothing that was moved from has a report. */
    auto reader = twl::reader::open(dir).value();
    const twl::error refused = reader.seek(std::uint64_t{ 0 }).error();
    CHECK(refused == -EINVAL && refused.report && refused.report->error == -EINVAL);
    auto other = std::move(reader);
    const twl::error gone = reader.seek(std::uint64_t{ 0 }).error();
    CHECK(gone == -EINVAL && !gone.report && !reader.wait(0ms).error().report);
}

static void appends_and_reads(const std::string &dir)
{
    auto log = twl::log::open(dir).value();
    const twl::error busy = twl::log::open(dir).error();
    CHECK(busy == -EBUSY && busy.path == dir && busy.report && std::strlen(busy.report->text) > 0);
    CHECK(log.append("one").value() == 1);
    const std::vector<int> numbers = { 1, 2, 3 };
    CHECK(log.append(std::as_bytes(std::span(numbers))).value() == 2);
    const twinlog_entry batch[] = { twl::entry("three", 7, 300), twl::entry("four") };
    CHECK(log.append(batch, { .timeout = 1h }).value() == 3);
    CHECK(log.append(std::span<const twinlog_entry>()).error() == -EINVAL);
    const auto enqueued = log.append(twl::entry("five"), { .level = TWINLOG_LEVEL_BUFFERED }).value();
    CHECK(enqueued == 5 && log.wait(enqueued).has_value() && log.durable_lsn() == 5);
    CHECK(log.sync().has_value() && log.stat().value().appends == 5);
    CHECK(log.set_flush_interval(60000).has_value() && log.set_flush_interval(0).has_value());

    twl::change snapshot;
    snapshot.set_meta("snapshot", twl::bytes_of("dump-3")).set_cursor("copy", 3).after(5);
    CHECK(log.change(snapshot).value() == 0 && log.cursor("copy").value() == 3);
    CHECK(log.meta("snapshot").value().size() == 6);
    CHECK(log.change(twl::change().set_meta("snapshot", twl::bytes_of("dump-9")).set_cursor("copy", 99))
              .error() == -ERANGE);
    CHECK(static_cast<char>(log.meta("snapshot").value()[5]) == '3');
    CHECK(log.change(twl::change().remove_meta("snapshot").remove_cursor("copy"), 1h).has_value());
    CHECK(log.meta("snapshot").error() == -ENOENT && log.change(twl::change()).error() == -EINVAL);
    CHECK(log.change(twl::change().set_cursor(std::string("a\0b", 3), 1)).error() == -EINVAL);
    CHECK(log.first_lsn() == 1 && log.last_lsn() == 5);

    auto reader = log.attach().value();
    CHECK(log.close().error() == -EBUSY); /* and is open as before */
    CHECK(reader.next().value()->text() == "one");
    CHECK(reader.next().value()->data.size() == numbers.size() * sizeof(int));
    const auto third = reader.next().value();
    CHECK(third->lsn == 3 && third->type == 7 && third->tag == 300);
    CHECK(third->time > std::chrono::system_clock::now() - 1h);
    CHECK(reader.previous().value()->lsn == 3);
    CHECK(reader.seek(5).has_value() && reader.next().value()->text() == "five");
    CHECK(!reader.next().value() && !reader.wait(0ms).value());
    CHECK(reader.seek(0).error() == -EINVAL);
    CHECK(reader.seek(std::chrono::system_clock::now() + 1h).has_value() && !reader.next().value());
    CHECK(reader.fd().value() >= 0);

    auto other = std::move(log); /* what was moved from is closed */
    CHECK(log.append("nowhere").error() == -EINVAL && log.last_lsn() == 0);
    CHECK(other.append("six").value() == 6 && reader.wait().value());
}

static void a_reader_keeps_its_log(const std::string &dir)
{
    auto reader = [&] { return twl::log::open(dir).value().attach().value(); }();
    CHECK(reader.next().value()->text() == "one");
    CHECK(twl::log::open(dir).error() == -EBUSY);
    reader = twl::reader::open(dir).value(); /* the log goes after its reader */
    auto log = twl::log::open(dir).value();
    CHECK(log.close().has_value());
    CHECK(log.close().has_value() && log.append("closed").error() == -EINVAL);
}

static void cursors_and_values(const std::string &dir)
{
    auto log = twl::log::open(dir).value();
    CHECK(log.set_cursor("billing", 2).has_value() && log.cursor("billing").value() == 2);
    CHECK(log.cursors().value() == (std::map<std::string, std::uint64_t>{ { "billing", 2 } }));
    CHECK(log.set_cursor("a\0b"s, 2).error() == -EINVAL);
    const auto trimmed = log.trim(5).value();
    CHECK(trimmed.holder == TWINLOG_HELD_BY_CURSOR && trimmed.first_lsn == 3);
    CHECK(log.remove_cursor("billing").has_value() && log.cursor("billing").error() == -ENOENT);
    CHECK(log.set_meta("vote", twl::bytes_of("me")).has_value() && log.meta("vote").value().size() == 2);
    CHECK(log.remove_meta("vote").has_value() && log.meta("vote").error() == -ENOENT);
    CHECK(log.truncate(5).has_value() && log.last_lsn() == 5);
    auto reader = log.attach().value();
    CHECK(reader.seek(1).has_value() && reader.next().error() == TWINLOG_ETRIMMED);
    CHECK(reader.next().error().report->first_lsn == log.first_lsn());
    CHECK(reader.seek_first().has_value() && reader.next().value()->lsn == 3);
    CHECK(log.reset(100).has_value() && log.append("hundred").value() == 100);
    CHECK(log.skip(103).has_value() && log.append("third").value() == 103 &&
          log.read(102).error() == -ENOENT);
    struct twinlog_cancel cancel = {};
    CHECK(twinlog_cancel(log.get(), &cancel) == 0);
    CHECK(log.append(twl::entry("perhaps"), { .cancel = &cancel }).error() == -ECANCELED);
}

static void single_records_are_read(const std::string &dir)
{
    auto log = twl::log::open(dir).value();
    const std::string large(10000, 'x');
    CHECK(log.append(twl::entry("small", 7, 300)).value() == 1 && log.append(large).value() == 2);
    CHECK(log.append("").value() == 3);
    auto first = log.read(1).value();
    auto moved = std::move(first);
    CHECK(first.data.empty());
    first = std::move(moved);
    moved = std::move(first);
    CHECK(moved.lsn == 1 && moved.type == 7 && moved.tag == 300 && moved.text() == "small");
    CHECK(log.read(2).value().text() == large && log.read(3).value().data.empty());
    CHECK(log.read(4).error() == -ERANGE && log.read(0).error() == -EINVAL);
    CHECK(log.written_lsn() == 3);
    CHECK(log.trim(3).has_value() && log.read(1).error() == TWINLOG_ETRIMMED);
    CHECK(log.close().has_value() && log.read(3).error() == -EINVAL);
}

static void a_consumer_goes_on(const std::string &dir)
{
    auto log = twl::log::open(dir).value();
    for (const char *text : { "a", "b" })
        CHECK(log.append(text).has_value());
    for (const char *text : { "a", "b" }) {
        auto consumer = twl::consumer::open(dir, "billing").value();
        CHECK(twl::consumer::open(dir, "billing").error() == -EBUSY);
        CHECK(consumer.next().value()->text() == text && consumer.commit().has_value());
        CHECK(consumer.commit(100).error() == -EINVAL);
    }
    CHECK(log.cursor("billing").value() == 2);
    auto consumer = twl::consumer::open(dir, "billing").value();
    CHECK(!consumer.next().value() && !consumer.wait(0ms).value() && consumer.fd().value() >= 0);
    CHECK(log.append("c").has_value() && consumer.wait().value());
    auto other = std::move(consumer); /* what was moved from is closed */
    CHECK(consumer.next().error() == -EINVAL && consumer.commit().error() == -EINVAL);
    CHECK(consumer.wait(0ms).error() == -EINVAL && consumer.fd().error() == -EINVAL);
    CHECK(other.next().value()->text() == "c");
    CHECK(twl::consumer::open(dir, "a\0b"s).error() == -EINVAL);
    CHECK(twl::consumer::open(dir + "/none", "billing").error() == -ENOENT);
}

/* The list in bindings/README.md; what is not here does not compile. */
static void misuse(const std::string &dir)
{
    auto options = twl::options();
    options.segment_bytes = 1;
    CHECK(twl::log::open(dir + "\0x"s).error() == -EINVAL);
    CHECK(twl::log::open(dir, options).error() == -EINVAL);
    options = twl::options();
    options.flags = 1u << 31;
    CHECK(twl::log::open(dir, options).error() == -EINVAL);
    CHECK(!std::filesystem::exists(dir));

    options = twl::options();
    options.buffer_bytes = 16384;
    options.max_record_bytes = 4096;
    auto log = twl::log::open(dir, options).value();
    CHECK(twl::reader::open(dir + "\0x"s).error() == -EINVAL);
    CHECK(twl::consumer::open(dir + "\0x"s, "name").error() == -EINVAL);
    for (const std::string &name : { ""s, "a\0b"s, std::string(64, 'x') }) {
        CHECK(twl::consumer::open(dir, name).error() == -EINVAL);
        CHECK(log.set_cursor(name, 0).error() == -EINVAL);
        CHECK(log.set_meta(name, twl::bytes_of("value")).error() == -EINVAL);
    }
    const std::string large(4097, 'x');
    const std::vector<twinlog_entry> batch(3, twl::entry(std::string_view(large).substr(97)));
    CHECK(log.append(std::span<const twinlog_entry>()).error() == -EINVAL);
    CHECK(log.append(large).error() == -EMSGSIZE && log.append(batch).error() == -EMSGSIZE);
    CHECK(log.set_meta("name", twl::bytes_of(large)).error() == -EINVAL);
    CHECK(log.read(0).error() == -EINVAL && log.read(UINT64_MAX).error() == -ERANGE);
    CHECK(log.wait(1).error() == -EINVAL && log.truncate(UINT64_MAX).error() == -EINVAL);
    CHECK(log.reset(0).error() == -EINVAL && log.set_cursor("name", 1).error() == -ERANGE);
    CHECK(log.attach().value().seek(0).error() == -EINVAL);
    CHECK(!log.attach().value().wait(-1ms).value() && !log.attach().value().wait(-10000h).value());
    CHECK(log.last_lsn() == 0 && log.cursors().value().empty() && log.meta("name").error() == -ENOENT);

    CHECK(log.append("x").has_value());
    auto consumer = twl::consumer::open(dir, "name").value();
    CHECK(twl::consumer::open(dir, "name").error() == -EBUSY && consumer.commit(1).error() == -EINVAL);
    const pid_t child = fork();
    if (child == 0)
        _exit(log.append("y").error() == TWINLOG_EFORKED && log.close().error() == TWINLOG_EFORKED ? 7 : 1);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    CHECK(log.append("y").value() == 2 && log.close().has_value());
    CHECK(log.append("z").error() == -EINVAL && log.sync().error() == -EINVAL &&
          log.attach().error() == -EINVAL);
    CHECK(log.stat().error() == -EINVAL && log.cursors().error() == -EINVAL &&
          log.trim(1).error() == -EINVAL);
}

/* Also when what it was moved to is gone, with what its calls have reported. */
static void what_was_moved_from_is_closed(const std::string &dir)
{
    auto log = twl::log::open(dir).value();
    auto reader = twl::reader::open(dir).value();
    auto consumer = twl::consumer::open(dir, "billing").value();
    CHECK(reader.seek(2).error() == -ERANGE || reader.seek(2).has_value());
    {
        auto other = std::move(reader);
        auto another = std::move(consumer);
    }
    CHECK(reader.next().error() == -EINVAL && consumer.next().error() == -EINVAL);
    reader = twl::reader::open(dir).value();
    consumer = twl::consumer::open(dir, "billing").value();
    consumer = twl::consumer::open(dir, "others").value();
    CHECK(!reader.next().value() && !consumer.next().value());
}

#ifdef __cpp_impl_coroutine
struct task {
    struct promise_type {
        task get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

static task append_some(twl::log &log, twl::queue &queue, std::uint64_t &last, std::thread::id &where)
{
    for (int i = 0; i < 10; i++) {
        const std::string text = "number " + std::to_string(i);
        last = (co_await log.submit(twl::entry(text), queue)).value();
        if (last > log.durable_lsn())
            std::abort();
    }
    where = std::this_thread::get_id();
}

static task append_batches(twl::log &log, twl::queue &queue, int &left)
{
    const twinlog_entry batch[] = { twl::entry("a"), twl::entry("b") };
    const auto lsn = co_await log.submit(batch, queue);
    const auto refused = co_await log.submit(std::span<const twinlog_entry>(), queue, { .timeout = 0ms });
    if (!lsn || refused.error().number != -EINVAL || refused.error().lsn != 0)
        std::abort();
    left--;
}

struct throwing {
    struct promise_type : task::promise_type {
        throwing get_return_object() { return { std::coroutine_handle<promise_type>::from_promise(*this) }; }
        void unhandled_exception() { throw; }
    };
    std::coroutine_handle<> frame;
};

static throwing append_and_throw(twl::log &log, twl::queue &queue, int &left)
{
    (void)co_await log.submit(twl::entry("x"), queue);
    left--;
    throw std::runtime_error("of this one");
}

/* The others that are done meanwhile go on. */
static void an_exception_stops_no_other(const std::string &dir)
{
    auto queue = twl::queue::open().value();
    auto log = twl::log::open(dir).value();
    int left = 8;
    std::vector<throwing> thrown;
    while (thrown.size() < 8)
        thrown.push_back(append_and_throw(log, queue, left));
    CHECK(log.close().has_value()); /* completes them all */
    try {
        (void)queue.run(0ms);
        CHECK(false);
    } catch (const std::runtime_error &) {
        CHECK(left == 0);
    }
    for (const throwing &one : thrown)
        one.frame.destroy();
}

static void coroutines_go_on(const std::string &dir)
{
    auto queue = twl::queue::open().value();
    auto log = twl::log::open(dir).value();
    std::uint64_t last[4] = {};
    std::thread::id where[4];
    for (int i = 0; i < 4; i++)
        append_some(log, queue, last[i], where[i]);
    for (int resumed = 0; resumed < 40;)
        resumed += queue.run().value();
    for (int i = 0; i < 4; i++)
        CHECK(last[i] > 0 && where[i] == std::this_thread::get_id());
    CHECK(queue.run(0ms).value() == 0 && queue.fd() >= 0);

    int left = 8;
    for (int i = 0; i < 8; i++)
        append_batches(log, queue, left);
    for (int resumed = 0; resumed < 8;)
        resumed += queue.run().value();
    CHECK(left == 0);
    CHECK(log.close().has_value());
}

/* The loop commits itself, by running the queue. */
static void a_loop_commits_without_a_thread(const std::string &dir)
{
    auto queue = twl::queue::open().value();
    auto committer = twl::committer::open(queue).value();
    CHECK(twl::committer::open(queue).error() == -EBUSY); /* it has one */
    pollfd readable = { queue.fd(), POLLIN, 0 };

    twinlog_options options = twl::options();
    options.committer = committer.get();
    auto log = twl::log::open(dir, options).value();
    const std::uint64_t before = log.last_lsn();
    CHECK(committer.close().error() == -EBUSY);

    std::uint64_t last[4] = {};
    std::thread::id where[4];
    for (int i = 0; i < 4; i++)
        append_some(log, queue, last[i], where[i]);
    for (int resumed = 0; resumed < 40;) {
        const int now = queue.run(0ms).value();
        resumed += now;
        CHECK(now > 0 || resumed == 40 || poll(&readable, 1, 10000) == 1);
    }
    for (int i = 0; i < 4; i++)
        CHECK(last[i] > before && where[i] == std::this_thread::get_id());

    std::thread([&] { CHECK(log.append("of a thread").value() == before + 41); }).join();
    CHECK(log.close().has_value() && committer.close().has_value());
    CHECK(committer.close().has_value() && !committer.get());
    const auto elsewhere = std::move(queue);
    CHECK(twl::committer::open(queue).error() == -EINVAL);
}
#endif

/* Hundreds of logs, one thread that commits. */
static void one_thread_commits_for_many(const std::string &dir)
{
    auto committer = twl::committer::open().value();
    twinlog_options options = twl::options();
    options.committer = committer.get();
    options.buffer_bytes = 32 << 10;
    options.segment_bytes = 1 << 20;
    std::vector<twl::log> logs;
    for (int i = 0; i < 8; i++)
        logs.push_back(twl::log::open(dir + "." + std::to_string(i), options).value());
    for (twl::log &log : logs)
        CHECK(log.append("x").value() == 1);
    logs.clear();
    CHECK(committer.close().has_value());
}

/* ---- plain files -------------------------------------------------------------------------------- */

/* As every other program reads it. */
static std::string content(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    return { std::istreambuf_iterator<char>(file), {} };
}

static auto soon()
{
    return std::chrono::system_clock::now() + 1h;
}

static void a_sink_is_exact_at_each_moment(const std::string &path)
{
    auto sink = twl::sink::open(path).value();
    CHECK(std::filesystem::exists(path) && content(path).empty());
    CHECK(sink.write("one\n").value() == 0 && content(path) == "one\n");
    const std::vector<std::uint8_t> two = { 't', 0, '\n' };
    CHECK(sink.write(std::as_bytes(std::span(two))).value() == 4 && content(path) == "one\nt\0\n"s);
    const iovec pieces[] = { twl::piece("th"), twl::piece(""), twl::piece(std::as_bytes(std::span(two))) };
    CHECK(sink.writev(pieces).value() == 7 && content(path) == "one\nt\0\ntht\0\n"s);
    CHECK(sink.writev({}).value() == 12 && sink.write("").value() == 12);
    CHECK(sink.sync().has_value() && sink.rotation_error().has_value() && sink.sync_error().has_value());
    CHECK(!sink.reopen().value());

    auto other = std::move(sink); /* what was moved from is closed */
    CHECK(sink.get() == nullptr && sink.write("x").error() == -EINVAL && sink.close().has_value());
    CHECK(other.write("end\n").value() == 12);
    other = twl::sink::open(path + ".other").value(); /* closes the first one */
    CHECK(twl::sink::open(path).has_value() && content(path) == "one\nt\0\ntht\0\nend\n"s);
    CHECK(other.close().has_value() && other.write("x").error() == -EINVAL);
}

static void a_sink_is_mapped_on_demand(const std::string &path)
{
    auto sink = twl::sink::open(path, { .mapped = true, .initial_bytes = 1 << 20 }).value();
    CHECK(sink.write("one\n").value() == 0 && content(path).size() == 1 << 20);
    CHECK(twl::sink::open(path, { .shared = true }).error() == -EMEDIUMTYPE);
    CHECK(sink.rotate(soon()).error() == -ENOTSUP);
    CHECK(sink.close().has_value() && content(path) == "one\n");
    std::ofstream(path, std::ios::app) << std::string(10, 0);
    CHECK(twl::sink::open(path, { .mapped = true }).error() == -EUCLEAN);
    CHECK(twl::sink::open(path, { .mapped = true, .drop_zeros = true }).has_value());
    CHECK(content(path) == "one\n");
}

static void a_sink_goes_on_in_another_file(const std::string &path)
{
    auto sink = twl::sink::open(path, { .max_bytes = 10, .keep_files = 1 }).value();
    for (const char *line : { "line 0\n", "line 1\n", "line 2\n" })
        CHECK(sink.write(line).value() == 0);
    CHECK(content(path) == "line 2\n" && content(path + ".1") == "line 1\n");
    CHECK(!std::filesystem::exists(path + ".2"));

    const iovec pieces[] = { twl::piece("line 3\n"), twl::piece("line 4\n") };
    CHECK(sink.writev(pieces).value() == 0 && content(path) == "line 3\nline 4\n"); /* in one piece */
    CHECK(content(path + ".1") == "line 2\n");

    CHECK(!sink.rotate({}).value()); /* the file is not so old */
    CHECK(sink.rotate(soon()).value() && !sink.rotate(soon()).value());
    CHECK(content(path).empty() && content(path + ".1") == "line 3\nline 4\n");

    std::filesystem::rename(path, path + ".renamed");
    CHECK(sink.reopen().value() && !sink.reopen().value() && std::filesystem::exists(path));

    std::filesystem::remove(path + ".1");
    std::filesystem::create_directory(path + ".1");
    CHECK(sink.write("line 3\n").value() == 0 && sink.write("line 4\n").value() == 7);
    CHECK(!sink.rotation_error() && !sink.rotate(soon()));
    CHECK(content(path) == "line 3\nline 4\n");
}

/* A line of several pieces and threads: each is there, and none is inside another one. */
static void processes_share_a_sink(const std::string &path)
{
    const auto write_lines = [](twl::sink &sink, int writer) {
        twl::sink_stream lines(sink);
        for (int i = 0; i < 500; i++)
            lines << "writer " << writer << " line " << i << '\n';
        return lines.good();
    };
    /* no thread is beside the forks: with the address sanitizer a child may inherit a lock of its registry */
    std::vector<pid_t> children;
    for (int writer = 0; writer < 3; writer++) {
        children.push_back(fork());
        if (children.back() == 0) {
            auto own = twl::sink::open(path, { .shared = true, .lines = true });
            _exit(own && write_lines(*own, writer) ? 7 : 1);
        }
    }
    auto sink = twl::sink::open(path, { .shared = true, .lines = true }).value();
    std::vector<std::thread> threads;
    for (int writer = 3; writer < 6; writer++)
        threads.emplace_back([&, writer] { CHECK(write_lines(sink, writer)); });
    for (std::thread &thread : threads)
        thread.join();
    for (const pid_t child : children) {
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    }

    std::vector<int> next(6);
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        int writer = -1, number = -1;
        CHECK(std::sscanf(line.c_str(), "writer %d line %d", &writer, &number) == 2 && writer < 6);
        CHECK(line == "writer " + std::to_string(writer) + " line " + std::to_string(number));
        CHECK(number == next[static_cast<std::size_t>(writer)]++);
    }
    CHECK(next == std::vector<int>(6, 500));
}

static void a_stream_writes_whole_lines(const std::string &path)
{
    auto sink = twl::sink::open(path).value();
    {
        twl::sink_stream out(sink);
        out << "number " << std::setw(3) << 7;
        CHECK(out.good() && content(path).empty());
        out << " ends\nand the next";
        CHECK(content(path) == "number   7 ends\n");
        out << " is flushed" << std::flush;
        CHECK(content(path) == "number   7 ends\nand the next is flushed");
        out.put('\n');
        CHECK(content(path) == "number   7 ends\nand the next is flushed\n");
        out << "of the destructor";
    }
    CHECK(content(path) == "number   7 ends\nand the next is flushed\nof the destructor");

    twl::sink_stream out(sink);
    CHECK(sink.close().has_value());
    out << "waits";
    CHECK(out.good());
    out << std::endl;
    CHECK(out.bad());
    sink = twl::sink::open(path + ".2").value();
    out.clear();
    out << "goes on\n";
    CHECK(out.good() && content(path + ".2") == "goes on\n");
}

static bool wait_until_written(twl::sink_stream &out, const std::string &line)
{
    const auto end = std::chrono::steady_clock::now() + 30s;
    for (out << line; out.bad() && std::chrono::steady_clock::now() < end; out << line) {
        out.clear();
        std::this_thread::sleep_for(1ms);
    }
    return out.good();
}

static void limit_files(rlim_t bytes)
{
    const struct rlimit limit = { bytes, RLIM_INFINITY };
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/* In a process of its own, which has the limit. */
static void a_full_file_is_told_and_the_next_line_works(const std::string &path)
{
    const std::string large = std::string(1000, 'x') + '\n';
    const pid_t child = fork();
    if (child == 0) {
        CHECK(std::signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
        limit_files(1000);
        auto sink = twl::sink::open(path, { .lines = true }).value();
        twl::sink_stream out(sink);
        CHECK(sink.write("first\n").has_value() && sink.write(large).error() == -EFBIG);
        out << large;
        CHECK(out.bad() && content(path) == "first\n");
        out.clear();
        out << "second\n";
        CHECK(out.good());
        limit_files(RLIM_INFINITY);
        CHECK(wait_until_written(out, large));
        _exit(7);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    CHECK(content(path) == "first\nsecond\n" + large);
}

/* The list in bindings/README.md; what is not here does not compile. */
static void misuse_of_a_sink(const std::string &path)
{
    CHECK(twl::sink::open(path + "\0x"s).error() == -EINVAL);
    CHECK(twl::sink::open(path, { .keep_files = 10000 }).error() == -EINVAL);
    CHECK(twl::sink::open(path, { .mapped = true, .initial_bytes = UINT64_MAX }).error() == -EINVAL);
    CHECK(twl::sink::open(path, { .initial_bytes = 1 << 20 }).error() == -EINVAL);
    CHECK(twl::sink::open(path, { .growth_bytes = 1 << 20 }).error() == -EINVAL);
    CHECK(twl::sink::open(path, { .lines = true, .mapped = true }).error() == -EINVAL);
    CHECK(twl::sink::open(path, { .shared = true, .mapped = true, .max_bytes = 1 << 20 }).error() == -EINVAL);
    CHECK(!std::filesystem::exists(path));
    const twl::error missing = twl::sink::open(path + "/not/here").error();
    CHECK(missing == -ENOENT && missing.path == path + "/not/here");

    auto sink = twl::sink::open(path).value();
    CHECK(twl::sink::open(path, { .shared = true }).error() == -EBUSY);
    const iovec nowhere[] = { { nullptr, 5 } };
    CHECK(sink.writev(nowhere).error() == -EINVAL);
    const pid_t child = fork();
    if (child == 0) {
        const bool is_told = sink.write("x").error() == TWINLOG_EFORKED &&
                             sink.sync().error() == TWINLOG_EFORKED &&
                             sink.close().error() == TWINLOG_EFORKED;
        _exit(is_told ? 7 : 1);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    CHECK(content(path).empty() && sink.close().has_value() && sink.close().has_value());
    CHECK(sink.write("x").error() == -EINVAL && sink.writev({}).error() == -EINVAL &&
          sink.sync().error() == -EINVAL);
    CHECK(sink.reopen().error() == -EINVAL && sink.rotate({}).error() == -EINVAL &&
          sink.rotation_error().error() == -EINVAL && sink.sync_error().error() == -EINVAL);
}

int main(int, char **argv)
{
    const std::string dir = argv[1];
    errors_are_values(dir);
    errors_name_the_place(dir + ".damaged");
    appends_and_reads(dir);
    a_reader_keeps_its_log(dir);
    cursors_and_values(dir);
    single_records_are_read(dir + ".read");
    a_consumer_goes_on(dir + ".consumer");
    misuse(dir + ".misuse");
    what_was_moved_from_is_closed(dir + ".moved");
    a_sink_is_exact_at_each_moment(dir + ".exact");
    a_sink_is_mapped_on_demand(dir + ".mapped");
    a_sink_goes_on_in_another_file(dir + ".rotated");
    processes_share_a_sink(dir + ".shared");
    one_thread_commits_for_many(dir + ".many");
    a_stream_writes_whole_lines(dir + ".stream");
    a_full_file_is_told_and_the_next_line_works(dir + ".limit");
    misuse_of_a_sink(dir + ".sink");
#ifdef __cpp_impl_coroutine
    coroutines_go_on(dir);
    an_exception_stops_no_other(dir + ".throwing");
    a_loop_commits_without_a_thread(dir + ".loop");
#else
    std::puts("SKIP bindings-cpp, coroutines: this compiler has none of C++20");
#endif
    return 0;
}
