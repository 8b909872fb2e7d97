/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog for C++20: <twinlog.h> and <twinlog_sink.h> with ownership, spans, results, coroutines and a stream. Header
 * only, allocates almost nothing.
 *
 *     auto log = twl::log::open("journal").value();
 *     std::uint64_t lsn = log.append("hello").value();     // on stable storage
 *
 * Nothing throws but result::value() and what the standard library throws; what fails returns an error. The manual is
 * that of the headers of C, and where a structure of C says all that is needed, it is used as it is.
 *
 * A log is closed by close(), which says whether that worked, or by its destructor. A reader that is attached to a log
 * keeps it open: the last of the log and its readers closes it. As in C, no thread may start a call on a log whose
 * close has begun.
 */
#ifndef TWINLOG_HPP
#define TWINLOG_HPP

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <streambuf>
#include <string>
#include <string_view>
#include <system_error>
/* A function of C and its struct may have one name, which -Wshadow of g++ takes for a mistake. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <twinlog_admin.h>
#include <twinlog_sink.h>
#pragma GCC diagnostic pop
#include <utility>
#include <variant>
#include <vector>
#ifdef __cpp_impl_coroutine
#include <coroutine>
#endif

namespace twl
{

using bytes = std::span<const std::byte>;

inline bytes bytes_of(std::string_view text)
{
    return std::as_bytes(std::span(text));
}

/* ---- results ----------------------------------------------------------------------------------- */

#pragma GCC visibility push(default)
class error_category final : public std::error_category
{
  public:
    const char *name() const noexcept override { return "twinlog"; }
    std::string message(int number) const override { return twinlog_strerror(number); }
    std::error_condition default_error_condition(int number) const noexcept override
    {
        if (number <= TWINLOG_ECORRUPT)
            return { number, *this };
        return { -number, std::generic_category() };
    }
};
#pragma GCC visibility pop

/* One for the process, also where libraries that use it hide their symbols. */
[[gnu::visibility("default")]] inline const std::error_category &category()
{
    static const error_category the_category;
    return the_category;
}

/* Why a call failed. `number` is -errno or TWINLOG_E... If `lsn` is not 0 there is a record although the append has
 * failed, as after a deadline: twl::log::wait() says what becomes of it. `report`, which may be null, has file, offset,
 * LSNs and what to do; `path` is the log's directory, or the sink's file, of what opens one. */
struct error {
    int number = 0;
    std::uint64_t lsn = 0;
    std::shared_ptr<const twinlog_report> report = {};
    std::filesystem::path path = {};

    const char *message() const { return twinlog_strerror(number); }
    std::error_code code() const { return { number, category() }; } /* equals std::errc, too */
    std::system_error as_exception() const
    {
        std::string text = path.string();
        const auto add = [&text](const std::string &more) {
            if (!text.empty())
                text += ": ";
            text += more;
        };

        const std::string where = place();
        if (!where.empty())
            add(where);
        if (report)
            add(report->text);

        if (text.empty())
            return std::system_error(code());
        return std::system_error(code(), text);
    }
    friend bool operator==(const error &a, int b) { return a.number == b; }

  private:
    /* File, offset and LSNs of the report, as far as it has them. */
    std::string place() const
    {
        if (!report)
            return "";

        std::string text = report->file;
        if (report->segment)
            text += ", offset " + std::to_string(report->offset);

        const bool has_lsns_in_text = number == TWINLOG_ETRIMMED || number == TWINLOG_ETRUNCATED;
        if (text.empty() || report->first_lsn == 0 || has_lsns_in_text)
            return text;
        text += ", LSN " + std::to_string(report->first_lsn);
        if (report->last_lsn > report->first_lsn)
            text += " to " + std::to_string(report->last_lsn);
        return text;
    }
};

namespace detail
{
/* The value of that type which is nearest, and not negative. */
template <class To> To clamped(std::chrono::milliseconds::rep value)
{
    if (value < 0)
        return 0;
    if (value > std::numeric_limits<To>::max())
        return std::numeric_limits<To>::max();
    return static_cast<To>(value);
}
/* Without exceptions, value() of what is an error ends the process: ask has_value() first. */
[[noreturn]] inline void fail(const twl::error &why)
{
#ifdef __cpp_exceptions
    throw why.as_exception();
#else
    static_cast<void>(why);
    std::abort();
#endif
}
} // namespace detail

/* A value or an error, as std::expected will be. */
template <class T> class [[nodiscard]] result
{
  public:
    result(T value) : content(std::in_place_index<0>, std::move(value)) {}
    result(twl::error why) : content(std::in_place_index<1>, std::move(why)) {}

    bool has_value() const { return content.index() == 0; }
    explicit operator bool() const { return has_value(); }
    T &operator*() & { return *std::get_if<0>(&content); }
    const T &operator*() const & { return *std::get_if<0>(&content); }
    T &&operator*() && { return std::move(*std::get_if<0>(&content)); }
    T *operator->() { return std::get_if<0>(&content); }
    const T *operator->() const { return std::get_if<0>(&content); }
    const twl::error &error() const { return std::get<1>(content); }
    T &value() & { return check(), **this; }
    const T &value() const & { return check(), **this; }
    T value() && { return check(), std::move(**this); }

  private:
    void check() const
    {
        if (!has_value())
            detail::fail(error());
    }
    std::variant<T, twl::error> content;
};

template <> class [[nodiscard]] result<void>
{
  public:
    result() = default;
    result(twl::error why) : failure(std::move(why)) {}

    bool has_value() const { return failure.number == 0; }
    explicit operator bool() const { return has_value(); }
    const twl::error &error() const { return failure; }
    void value() const
    {
        if (!has_value())
            detail::fail(failure);
    }

  private:
    twl::error failure;
};

/* ---- options and terms -------------------------------------------------------------------------- */

inline twinlog_options options()
{
    return TWINLOG_OPTIONS_INIT;
}

inline twinlog_reader_options reader_options()
{
    return TWINLOG_READER_OPTIONS_INIT;
}

inline twinlog_consumer_options consumer_options()
{
    return TWINLOG_CONSUMER_OPTIONS_INIT;
}

/* What a call waits for, as in { .level = TWINLOG_LEVEL_WRITTEN, .timeout = 50ms }. */
struct terms {
    twinlog_level level = TWINLOG_LEVEL_OF_MODE;
    std::optional<std::chrono::milliseconds> timeout = {};
    bool only_try = false; /* TWINLOG_TRY */
    const struct twinlog_cancel *cancel = nullptr;

    std::uint64_t deadline_ns() const
    {
        if (!timeout)
            return 0;
        return twinlog_deadline(detail::clamped<std::uint32_t>(timeout->count()));
    }
    twinlog_terms in_c() const
    {
        twinlog_terms c = TWINLOG_TERMS_INIT;
        if (only_try)
            c.flags = TWINLOG_TRY;
        c.level = level;
        c.deadline_ns = deadline_ns();
        c.cancel = cancel;
        return c;
    }
};

/** Edits of values and cursors, and a trim, for log::change(). It has copies of what it is given. */
class change
{
  public:
    change &set_meta(std::string name, bytes value)
    {
        return add(TWINLOG_EDIT_SET_VALUE, std::move(name), { value.begin(), value.end() }, 0);
    }
    change &remove_meta(std::string name) { return add(TWINLOG_EDIT_REMOVE_VALUE, std::move(name), {}, 0); }
    change &set_cursor(std::string name, std::uint64_t lsn)
    {
        return add(TWINLOG_EDIT_SET_CURSOR, std::move(name), {}, lsn);
    }
    change &remove_cursor(std::string name)
    {
        return add(TWINLOG_EDIT_REMOVE_CURSOR, std::move(name), {}, 0);
    }
    /** Removes the records with a smaller LSN; what a cursor holds stays, unless past_cursors. */
    change &trim_before(std::uint64_t lsn, bool past_cursors = false)
    {
        trim_before_lsn = lsn;
        is_past_cursors = past_cursors;
        return *this;
    }
    /** Makes the log durable up to this record first. */
    change &after(std::uint64_t lsn)
    {
        durable_lsn = lsn;
        return *this;
    }

    int make(struct twinlog *log, std::uint64_t deadline_ns, twinlog_trim_result *ret_result) const
    {
        std::vector<twinlog_edit> all;
        struct twinlog_change c = TWINLOG_CHANGE_INIT;
        for (const auto &one : edits) {
            if (one.name.find('\0') != std::string::npos)
                return -EINVAL;
            all.push_back({ one.kind, 0, one.name.c_str(), one.value.data(), one.value.size(), one.lsn });
        }
        if (is_past_cursors)
            c.flags = TWINLOG_TRIM_PAST_CURSORS;
        c.edits = all.data();
        c.edit_count = static_cast<std::uint32_t>(all.size());
        c.trim_before_lsn = trim_before_lsn;
        c.durable_lsn = durable_lsn;
        c.deadline_ns = deadline_ns;
        return twinlog_change(log, &c, ret_result);
    }

  private:
    struct edit {
        std::uint32_t kind;
        std::string name;
        std::vector<std::byte> value;
        std::uint64_t lsn;
    };
    std::vector<edit> edits;
    std::uint64_t trim_before_lsn = 0, durable_lsn = 0;
    bool is_past_cursors = false;

    change &add(std::uint32_t kind, std::string name, std::vector<std::byte> value, std::uint64_t lsn)
    {
        edits.push_back({ kind, std::move(name), std::move(value), lsn });
        return *this;
    }
};

inline twinlog_entry entry(bytes data, std::uint8_t type = 0, std::uint16_t tag = 0)
{
    twinlog_entry c = {};
    c.data = data.data();
    c.size = data.size();
    c.type = type;
    c.tag = tag;
    return c;
}

inline twinlog_entry entry(std::string_view data, std::uint8_t type = 0, std::uint16_t tag = 0)
{
    return entry(bytes_of(data), type, tag);
}

/* ---- reading ------------------------------------------------------------------------------------ */

namespace detail
{
struct handle {
    ::twinlog *raw = nullptr;
    handle() = default;
    handle(const handle &) = delete;
    handle &operator=(const handle &) = delete;
    ~handle() { twinlog_close(raw); }
};
struct close_reader {
    void operator()(twinlog_reader *reader) const { twinlog_reader_close(reader); }
};

/* What a call with this report has returned. */
inline error with_report(int rc, const twinlog_report *report, const std::filesystem::path &path = {})
{
    const bool has_report = report && report->error == rc && report->text[0] != '\0';
    error e{ rc, 0, nullptr, path };
    if (has_report)
        e.report = std::make_shared<const twinlog_report>(*report);
    return e;
}
inline result<void> in_cpp(int rc)
{
    if (rc < 0)
        return error{ rc };
    return {};
}
inline result<std::uint64_t> in_cpp(int rc, std::uint64_t lsn)
{
    if (rc < 0)
        return error{ rc, lsn };
    return lsn;
}
inline bool has_nul(const std::string &name)
{
    return name.find('\0') != std::string::npos;
}
inline int milliseconds(const std::optional<std::chrono::milliseconds> &timeout)
{
    if (!timeout)
        return -1;
    return clamped<int>(timeout->count()); /* what is over may be less than 0, which for C has no limit */
}
/* Of a call on a reader, or a consumer. What was moved from has nothing of its own, nor a report. */
inline error of_reader(int rc, const void *from, const twinlog_report *report)
{
    if (!from)
        return error{ rc };
    return with_report(rc, report);
}
inline result<bool> wait(twinlog_reader *reader, const std::optional<std::chrono::milliseconds> &timeout,
                         const twinlog_report *report)
{
    const int rc = twinlog_reader_wait(reader, milliseconds(timeout));
    if (rc < 0)
        return of_reader(rc, reader, report);
    return rc > 0;
}
inline result<int> fd_of(twinlog_reader *reader, const twinlog_report *report)
{
    const int rc = twinlog_reader_fd(reader);
    if (rc < 0)
        return of_reader(rc, reader, report);
    return rc;
}
} // namespace detail

struct record {
    std::uint64_t lsn;
    std::chrono::sys_time<std::chrono::nanoseconds> time;
    bytes data; /* valid until the next call on the reader */
    std::uint16_t tag;
    std::uint8_t type;

    std::string_view text() const { return { reinterpret_cast<const char *>(data.data()), data.size() }; }
};

namespace detail
{
inline record in_cpp(const twinlog_record &c)
{
    return { c.lsn, std::chrono::sys_time<std::chrono::nanoseconds>(std::chrono::nanoseconds(c.time_ns)),
             bytes(static_cast<const std::byte *>(c.data), c.size), c.tag, c.type };
}
template <class From>
result<std::optional<record>> step(int (*move)(From *, twinlog_record *), From *from,
                                   const twinlog_report *report)
{
    twinlog_record c = {};
    const int rc = move(from, &c);
    if (rc < 0)
        return of_reader(rc, from, report);
    if (rc == 0)
        return std::optional<record>();
    return std::optional<record>(in_cpp(c));
}
} // namespace detail

/* A record of log::read(), with bytes of its own. */
struct owned_record : record {
    owned_record(std::vector<std::byte> content, const twinlog_record &c)
        : record(detail::in_cpp(c)), bytes_(std::move(content))
    {
        data = { bytes_.data(), c.size };
    }
    owned_record(owned_record &&other) noexcept : record(other), bytes_(std::move(other.bytes_))
    {
        other.data = {}; /* the bytes are this one's, where they were */
    }
    owned_record &operator=(owned_record &&other) noexcept
    {
        if (this != &other) {
            record::operator=(other);
            bytes_ = std::move(other.bytes_);
            other.data = {};
        }
        return *this;
    }

  private:
    std::vector<std::byte> bytes_;
};

/* One thread at a time. */
class reader
{
  public:
    reader(reader &&) noexcept = default;
    reader &operator=(reader &&other) noexcept
    {
        raw = std::move(other.raw); /* before the log that it may be attached to */
        log_handle = std::move(other.log_handle);
        own_report = std::move(other.own_report);
        given_report = other.given_report;
        return *this;
    }

    /* On the log in `dir`, in any process. */
    static result<reader> open(const std::filesystem::path &dir,
                               twinlog_reader_options options = reader_options())
    {
        reader r;
        twinlog_reader *raw;
        if (detail::has_nul(dir.native()))
            return error{ -EINVAL, 0, nullptr, dir };
        r.take_report(options);
        const int rc = twinlog_reader_open(dir.c_str(), &options, &raw);
        if (rc < 0)
            return detail::with_report(rc, r.report(), dir);
        r.raw.reset(raw);
        return r;
    }

    /* The next record, nothing when there is none for now, or an error. */
    result<std::optional<record>> next() { return detail::step(twinlog_reader_next, raw.get(), report()); }
    result<std::optional<record>> previous()
    {
        return detail::step(twinlog_reader_previous, raw.get(), report());
    }

    result<void> seek(std::uint64_t lsn) { return in_cpp(twinlog_reader_seek(raw.get(), lsn)); }
    result<void> seek_first() { return in_cpp(twinlog_reader_seek_first(raw.get())); }
    result<void> seek_end() { return in_cpp(twinlog_reader_seek_end(raw.get())); }
    result<void> seek(std::chrono::sys_time<std::chrono::nanoseconds> time)
    {
        return in_cpp(twinlog_reader_seek_time(raw.get(), time.time_since_epoch().count()));
    }

    /* Waits until next() has something to say; without a timeout as long as it takes. */
    result<bool> wait(std::optional<std::chrono::milliseconds> timeout = {})
    {
        return detail::wait(raw.get(), timeout, report());
    }
    result<int> fd() { return detail::fd_of(raw.get(), report()); }
    twinlog_reader *get() const { return raw.get(); }

  private:
    friend class log;
    reader() = default;
    const twinlog_report *report() const
    {
        if (own_report)
            return own_report.get();
        return given_report;
    }
    result<void> in_cpp(int rc) const
    {
        if (rc < 0)
            return detail::of_reader(rc, raw.get(), report());
        return {};
    }
    void take_report(twinlog_reader_options &options)
    {
        if (!options.ret_report) {
            own_report = std::make_unique<twinlog_report>();
            options.ret_report = own_report.get();
        }
        given_report = options.ret_report;
    }

    std::unique_ptr<twinlog_report> own_report; /* that the reader of C points to */
    const twinlog_report *given_report = nullptr;
    std::shared_ptr<detail::handle> log_handle; /* before the reader, so that the log is closed after it */
    std::unique_ptr<twinlog_reader, detail::close_reader> raw;
};

/* Goes on where the last consumer of its name ended. One thread at a time. */
class consumer
{
  public:
    /* On the log in `dir`, in any process. */
    static result<consumer> open(const std::filesystem::path &dir, const std::string &name,
                                 twinlog_consumer_options options = consumer_options())
    {
        std::unique_ptr<twinlog_report> report;
        twinlog_consumer *raw;
        if (detail::has_nul(name) || detail::has_nul(dir.native()))
            return error{ -EINVAL, 0, nullptr, dir };
        if (!options.ret_report) {
            report = std::make_unique<twinlog_report>();
            options.ret_report = report.get();
        }
        const int rc = twinlog_consumer_open(dir.c_str(), name.c_str(), &options, &raw);
        if (rc < 0)
            return detail::with_report(rc, options.ret_report, dir);
        return consumer(raw, std::move(report), options.ret_report);
    }

    /* As reader::next(); TWINLOG_ETRIMMED and TWINLOG_ETRUNCATED come once, and the next call goes on. */
    result<std::optional<record>> next() { return detail::step(twinlog_consumer_next, raw.get(), report); }

    /* It has finished with every record up to `lsn`; 0: with all that next() has returned. */
    result<void> commit(std::uint64_t lsn = 0)
    {
        return detail::in_cpp(twinlog_consumer_commit(raw.get(), lsn));
    }

    result<bool> wait(std::optional<std::chrono::milliseconds> timeout = {})
    {
        return detail::wait(twinlog_consumer_reader(raw.get()), timeout, report);
    }
    result<int> fd() { return detail::fd_of(twinlog_consumer_reader(raw.get()), report); }
    twinlog_consumer *get() const { return raw.get(); }

  private:
    struct close {
        void operator()(twinlog_consumer *consumer) const { twinlog_consumer_close(consumer); }
    };
    consumer(twinlog_consumer *c, std::unique_ptr<twinlog_report> own, const twinlog_report *used)
        : own_report(std::move(own)), report(used), raw(c)
    {
    }
    std::unique_ptr<twinlog_report> own_report; /* that the consumer of C points to */
    const twinlog_report *report;
    std::unique_ptr<twinlog_consumer, close> raw;
};

/* ---- queues, committers, coroutines -------------------------------------------------------------- */

/* Where appends of coroutines wait to be resumed; its descriptor is readable when run() has work, for an event loop.
 * Close it after the logs whose appends it has, and not before they are resumed. */
class queue
{
  public:
    static result<queue> open()
    {
        twinlog_queue *raw;
        const int rc = twinlog_queue_open(&raw);
        if (rc < 0)
            return error{ rc };
        return queue(raw);
    }
    int fd() const { return twinlog_queue_fd(raw.get()); }
    twinlog_queue *get() const { return raw.get(); }

#ifdef __cpp_impl_coroutine
    /* Resumes, on this thread, the coroutines whose appends are done; waits for the first one up to the timeout,
     * without one as long as it takes. How many that were. An exception that leaves one comes behind the others. */
    result<int> run(std::optional<std::chrono::milliseconds> timeout = {});
#endif

  private:
    struct close {
        void operator()(twinlog_queue *queue) const { twinlog_queue_close(queue); }
    };
    explicit queue(twinlog_queue *c) : raw(c) {}
    std::unique_ptr<twinlog_queue, close> raw;
};

/* Commits for the logs that are opened with get() in options.committer. Close or destroy it after them: while a log is
 * open with it, a destructor, or an assignment, leaves it to the end of the process. */
class committer
{
  public:
    /* With a thread, for many logs. */
    static result<committer> open() { return open_with(nullptr); }

    /* Without one, for a loop: run() of this queue does the work, and the queue's fd(), which must be asked for after
     * this call, is readable while there is any. The loop runs the queue after it has submitted until nothing is
     * resumed, and only then waits. Declare the queue before. */
    static result<committer> open(queue &loop)
    {
        if (!loop.get()) /* the queue was moved from */
            return error{ -EINVAL };
        return open_with(loop.get());
    }

    /* -EBUSY while a log is open with it; it is as it was then. */
    result<void> close()
    {
        const int rc = twinlog_committer_close(raw.get());
        if (rc != -EBUSY)
            (void)raw.release();
        return detail::in_cpp(rc);
    }
    twinlog_committer *get() const { return raw.get(); }

  private:
    static result<committer> open_with(twinlog_queue *loop)
    {
        twinlog_committer_options options = TWINLOG_COMMITTER_OPTIONS_INIT;
        twinlog_committer *raw;
        options.queue = loop;
        const int rc = twinlog_committer_open(&options, &raw);
        if (rc < 0)
            return error{ rc };
        return committer(raw);
    }
    struct closer {
        void operator()(twinlog_committer *committer) const { twinlog_committer_close(committer); }
    };
    explicit committer(twinlog_committer *c) : raw(c) {}
    std::unique_ptr<twinlog_committer, closer> raw;
};

#ifdef __cpp_impl_coroutine
/* What co_await log.submit(...) waits for: the LSN of the first record, once the batch is at the terms' level. The
 * coroutine goes on in the thread that calls queue::run(). The coroutine must not be destroyed while it waits. */
class [[nodiscard]] submission
{
  public:
    submission(::twinlog *to, std::span<const twinlog_entry> batch, queue &where, const terms &how)
        : log(to), entries(batch), c_terms(how.in_c())
    {
        request.queue = where.get();
    }
    submission(::twinlog *to, const twinlog_entry &one, queue &where, const terms &how)
        : submission(to, std::span<const twinlog_entry>(), where, how)
    {
        only = one;
    }
    submission(const submission &) = delete;
    submission &operator=(const submission &) = delete;

    bool await_ready() const { return false; }
    bool await_suspend(std::coroutine_handle<> coroutine)
    {
        request.context = coroutine.address();
        const int rc = submit();
        if (rc == 0)
            return true; /* this object may be gone already */
        request.result = rc;
        request.first_lsn = 0;
        return false;
    }
    result<std::uint64_t> await_resume() const { return detail::in_cpp(request.result, request.first_lsn); }

  private:
    friend class queue;
    int submit()
    {
        std::span<const twinlog_entry> all = entries;
        if (only)
            all = std::span<const twinlog_entry>(&*only, 1);
        if (all.size() > UINT32_MAX)
            return -EMSGSIZE;
        return twinlog_submit(log, all.data(), static_cast<std::uint32_t>(all.size()), &c_terms, &request);
    }
    static void resume(twinlog_request *done)
    {
        std::coroutine_handle<>::from_address(done->context).resume();
    }

    ::twinlog *log;
    std::span<const twinlog_entry> entries;
    std::optional<twinlog_entry> only;
    twinlog_terms c_terms;
    twinlog_request request = {};
};

inline result<int> queue::run(std::optional<std::chrono::milliseconds> timeout)
{
    twinlog_request *done[64];
    const int count = twinlog_queue_poll(raw.get(), done, 64, detail::milliseconds(timeout));
    if (count < 0)
        return error{ count };
#ifdef __cpp_exceptions
    std::exception_ptr thrown;
    for (int i = 0; i < count; i++) {
        try {
            submission::resume(done[i]);
        } catch (...) {
            if (!thrown)
                thrown = std::current_exception();
        }
    }
    if (thrown)
        std::rethrow_exception(thrown);
#else
    for (int i = 0; i < count; i++)
        submission::resume(done[i]);
#endif
    return count;
}
#endif

/* ---- the log ------------------------------------------------------------------------------------ */

/* Any thread, any number of them, but for close, moves and the destructor. */
class log
{
  public:
    log(log &&) noexcept = default;
    log &operator=(log &&) noexcept = default;

    static result<log> open(const std::filesystem::path &dir, twinlog_options options = twl::options())
    {
        log l;
        twinlog_report report = {};
        if (detail::has_nul(dir.native()))
            return error{ -EINVAL, 0, nullptr, dir };
        if (!options.ret_report)
            options.ret_report = &report;
        l.handle = std::make_shared<detail::handle>();
        const int rc = twinlog_open(dir.c_str(), &options, &l.handle->raw);
        if (rc < 0)
            return detail::with_report(rc, options.ret_report, dir);
        return l;
    }

    /* -EBUSY while a reader is attached; the log is as it was then. After any other result it is closed. */
    result<void> close()
    {
        const int rc = twinlog_close(get());
        if (handle && rc != -EBUSY)
            handle->raw = nullptr;
        return detail::in_cpp(rc);
    }

    result<std::uint64_t> append(bytes data)
    {
        std::uint64_t lsn = 0;
        const int rc = twinlog_append(get(), data.data(), data.size(), &lsn);
        return detail::in_cpp(rc, lsn);
    }
    result<std::uint64_t> append(std::string_view data) { return append(bytes_of(data)); }

    /* All of them or none; the LSN of the first. */
    result<std::uint64_t> append(std::span<const twinlog_entry> batch, const terms &how = {})
    {
        if (batch.size() > UINT32_MAX)
            return error{ -EMSGSIZE };
        const twinlog_terms c = how.in_c();
        std::uint64_t lsn = 0;
        const int rc =
            twinlog_append_batch(get(), batch.data(), static_cast<std::uint32_t>(batch.size()), &c, &lsn);
        return detail::in_cpp(rc, lsn);
    }
    result<std::uint64_t> append(const twinlog_entry &one, const terms &how = {})
    {
        return append(std::span<const twinlog_entry>(&one, 1), how);
    }

#ifdef __cpp_impl_coroutine
    /* For co_await. The data is read before the coroutine is suspended. */
    submission submit(std::span<const twinlog_entry> batch, queue &where, const terms &how = {})
    {
        return { get(), batch, where, how };
    }
    submission submit(const twinlog_entry &one, queue &where, const terms &how = {})
    {
        return { get(), one, where, how };
    }
#endif

    result<void> wait(std::uint64_t lsn, const terms &how = {})
    {
        return detail::in_cpp(twinlog_wait(get(), lsn, how.level, how.deadline_ns()));
    }
    result<void> sync()
    {
        return detail::in_cpp(twinlog_sync(get()));
    }
    /** What was accepted and is not durable yet becomes durable within this time; 0 ends the flushes. Not kept. */
    result<void> set_flush_interval(std::uint32_t interval_ms)
    {
        return detail::in_cpp(twinlog_set_flush_interval(get(), interval_ms));
    }

    std::uint64_t first_lsn() const
    {
        return twinlog_first_lsn(get());
    }
    std::uint64_t last_lsn() const
    {
        return twinlog_last_lsn(get());
    }
    std::uint64_t written_lsn() const
    {
        return twinlog_written_lsn(get());
    }
    std::uint64_t durable_lsn() const
    {
        return twinlog_durable_lsn(get());
    }

    /* One record. -ERANGE: there is none yet; -ENOENT: a filler; -ENODATA: of a lost one;
     * TWINLOG_ETRIMMED: removed. */
    result<owned_record> read(std::uint64_t lsn)
    {
        std::vector<std::byte> content(512);
        twinlog_record c = {};
        int rc;
        while ((rc = twinlog_read(get(), lsn, content.data(), content.size(), &c)) == -ENOBUFS)
            content.resize(c.size);
        if (rc < 0)
            return error{ rc };
        return owned_record(std::move(content), c);
    }

    result<reader> attach(twinlog_reader_options options = reader_options())
    {
        reader r;
        twinlog_reader *raw;
        r.take_report(options);
        const int rc = twinlog_reader_attach(get(), &options, &raw);
        if (rc < 0)
            return detail::with_report(rc, r.report());
        r.log_handle = handle;
        r.raw.reset(raw);
        return r;
    }

    /* Removes records with a smaller LSN; what a cursor holds stays. */
    result<twinlog_trim_result> trim(std::uint64_t before_lsn)
    {
        twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
        options.before_lsn = before_lsn;
        return trim(options);
    }
    result<twinlog_trim_result> trim(const twinlog_trim_options &options)
    {
        twinlog_trim_result c = TWINLOG_TRIM_RESULT_INIT;
        const int rc = twinlog_trim(get(), &options, &c);
        if (rc < 0)
            return error{ rc };
        return c;
    }
    /** All of it in one step, durable on return; after a crash all of it has happened, or nothing. Returns the oldest LSN
     * that is kept, 0 without a trim. */
    result<std::uint64_t> change(const class change &what,
                                 std::optional<std::chrono::milliseconds> timeout = {})
    {
        twinlog_trim_result c = TWINLOG_TRIM_RESULT_INIT;
        const int rc = what.make(get(), terms{ .timeout = timeout }.deadline_ns(), &c);
        if (rc < 0)
            return error{ rc };
        return c.first_lsn;
    }
    result<void> truncate(std::uint64_t last_lsn)
    {
        return detail::in_cpp(twinlog_truncate(get(), last_lsn));
    }
    /* Fillers use up the LSNs before. */
    result<void> skip(std::uint64_t next_lsn)
    {
        return detail::in_cpp(twinlog_skip(get(), next_lsn));
    }
    result<void> reset(std::uint64_t next_lsn)
    {
        return detail::in_cpp(twinlog_reset(get(), next_lsn));
    }

    result<void> set_cursor(const std::string &name, std::uint64_t lsn)
    {
        if (detail::has_nul(name))
            return error{ -EINVAL };
        return detail::in_cpp(twinlog_cursor_set(get(), name.c_str(), lsn));
    }
    result<std::uint64_t> cursor(const std::string &name)
    {
        std::uint64_t lsn = 0;
        if (detail::has_nul(name))
            return error{ -EINVAL };
        const int rc = twinlog_cursor_get(get(), name.c_str(), &lsn);
        if (rc < 0)
            return error{ rc };
        return lsn;
    }
    result<void> remove_cursor(const std::string &name)
    {
        if (detail::has_nul(name))
            return error{ -EINVAL };
        return detail::in_cpp(twinlog_cursor_remove(get(), name.c_str()));
    }
    result<std::map<std::string, std::uint64_t>> cursors()
    {
        std::map<std::string, std::uint64_t> all;
        const auto add = [](void *context, const char *name, std::uint64_t lsn) noexcept {
            static_cast<std::map<std::string, std::uint64_t> *>(context)->emplace(name, lsn);
            return 0;
        };
        const int rc = twinlog_cursor_each(get(), add, &all);
        if (rc < 0)
            return error{ rc };
        return all;
    }

    result<void> set_meta(const std::string &name, bytes value)
    {
        if (detail::has_nul(name))
            return error{ -EINVAL };
        return detail::in_cpp(twinlog_meta_set(get(), name.c_str(), value.data(), value.size()));
    }
    result<std::vector<std::byte>> meta(const std::string &name)
    {
        std::vector<std::byte> value(TWINLOG_META_BYTES);
        std::size_t size = 0;
        if (detail::has_nul(name))
            return error{ -EINVAL };
        const int rc = twinlog_meta_get(get(), name.c_str(), value.data(), value.size(), &size);
        if (rc < 0)
            return error{ rc };
        value.resize(size);
        return value;
    }
    result<void> remove_meta(const std::string &name)
    {
        if (detail::has_nul(name))
            return error{ -EINVAL };
        return detail::in_cpp(twinlog_meta_remove(get(), name.c_str()));
    }

    result<struct twinlog_stat> stat()
    {
        struct twinlog_stat c = TWINLOG_STAT_INIT;
        const int rc = ::twinlog_stat(get(), &c);
        if (rc < 0)
            return error{ rc };
        return c;
    }

    ::twinlog *get() const
    {
        if (!handle) /* it was moved from */
            return nullptr;
        return handle->raw;
    }

  private:
    log() = default;

    std::shared_ptr<detail::handle> handle;
};

/* ---- plain files -------------------------------------------------------------------------------- */

/* Of an exact sink, as in { .shared = true, .lines = true }: the file has the bytes that were written and no others at
 * every moment, for every program to read. `mapped` is the other kind, as fast as memory: the file ends in zeros while
 * it is open. 0 is the default of each number. */
struct sink_options {
    bool shared = false;     /* TWINLOG_SINK_SHARED */
    bool lines = false;      /* TWINLOG_SINK_LINES */
    bool mapped = false;     /* TWINLOG_SINK_MAPPED */
    bool drop_zeros = false; /* TWINLOG_SINK_DROP_ZEROS */
    std::uint64_t initial_bytes = 0;
    std::uint64_t growth_bytes = 0;
    std::uint64_t max_bytes = 0;
    std::uint32_t keep_files = 0;
    std::uint32_t flush_interval_ms = 0;

    twinlog_sink_options in_c() const
    {
        twinlog_sink_options c = TWINLOG_SINK_OPTIONS_INIT;
        if (shared)
            c.flags |= TWINLOG_SINK_SHARED;
        if (lines)
            c.flags |= TWINLOG_SINK_LINES;
        if (mapped)
            c.flags |= TWINLOG_SINK_MAPPED;
        if (drop_zeros)
            c.flags |= TWINLOG_SINK_DROP_ZEROS;
        c.initial_bytes = initial_bytes;
        c.growth_bytes = growth_bytes;
        c.max_bytes = max_bytes;
        c.keep_files = keep_files;
        c.flush_interval_ms = flush_interval_ms;
        return c;
    }
};

/* A piece of one write. */
inline iovec piece(bytes data)
{
    return { const_cast<std::byte *>(data.data()), data.size() };
}

inline iovec piece(std::string_view data)
{
    return piece(bytes_of(data));
}

/* A plain file that threads and processes append to. Any thread, any number of them, but for close, moves and the
 * destructor. */
class sink
{
  public:
    static result<sink> open(const std::filesystem::path &file, const sink_options &options = {})
    {
        const twinlog_sink_options c = options.in_c();
        twinlog_sink *raw;
        if (detail::has_nul(file.native()))
            return error{ -EINVAL, 0, nullptr, file };
        const int rc = twinlog_sink_open(file.c_str(), &c, &raw);
        if (rc < 0)
            return error{ rc, 0, nullptr, file };
        return sink(raw);
    }

    /* It is closed after any result, which is that of truncating a mapped file. Does not sync. */
    result<void> close() { return detail::in_cpp(twinlog_sink_close(raw.release())); }

    /* Appends in one piece, and returns where in the file the bytes begin. They survive the end of this process. */
    result<std::uint64_t> write(bytes data)
    {
        const iovec one = piece(data);
        return writev(std::span<const iovec>(&one, 1));
    }
    result<std::uint64_t> write(std::string_view data) { return write(bytes_of(data)); }

    /* All pieces as one. */
    result<std::uint64_t> writev(std::span<const iovec> pieces)
    {
        if (pieces.size() > INT32_MAX)
            return error{ -EMSGSIZE };
        std::uint64_t offset = 0;
        const int rc = twinlog_sink_writev(get(), pieces.data(), static_cast<int>(pieces.size()), &offset);
        if (rc < 0)
            return error{ rc };
        return offset;
    }

    /* What any process had written is on stable storage. */
    result<void> sync() { return detail::in_cpp(twinlog_sink_sync(get())); }

    /* Goes on in the file that the path names by now, or makes it; false: it is the same one. Without a call the sink
     * looks five times a second. */
    result<bool> reopen() { return yes_or_no(twinlog_sink_reopen(get())); }

    /* Begins a new file if this one has bytes and was made before that time; true: the sink is in another one now. */
    result<bool> rotate(std::chrono::sys_time<std::chrono::nanoseconds> made_before)
    {
        return yes_or_no(twinlog_sink_rotate(get(), made_before.time_since_epoch().count()));
    }

    /* Why the sink is not in the file that its path names, or could not begin the next one for max_bytes. */
    result<void> rotation_error() const
    {
        if (!raw) /* it was moved from */
            return error{ -EINVAL };
        return detail::in_cpp(twinlog_sink_rotation_error(get()));
    }

    /* The error of the last sync that flush_interval_ms has made. */
    result<void> sync_error() const
    {
        if (!raw) /* it was moved from */
            return error{ -EINVAL };
        return detail::in_cpp(twinlog_sink_sync_error(get()));
    }

    twinlog_sink *get() const { return raw.get(); }

  private:
    struct close_raw {
        void operator()(twinlog_sink *c) const { twinlog_sink_close(c); }
    };
    explicit sink(twinlog_sink *c) : raw(c) {}
    static result<bool> yes_or_no(int rc)
    {
        if (rc < 0)
            return error{ rc };
        return rc > 0;
    }
    std::unique_ptr<twinlog_sink, close_raw> raw;
};

/* Whole lines for a sink: what ends in a newline is one write, with all that came before it; a flush, or the
 * destructor, writes the line that has no end yet. Text that cannot be written is thrown away, and the call says so.
 * One thread at a time, but several may have one sink, which must live as long and stay where it is. */
class sink_buffer : public std::streambuf
{
  public:
    explicit sink_buffer(twl::sink &where) : to(where) {}
    sink_buffer(const sink_buffer &) = delete;
    sink_buffer &operator=(const sink_buffer &) = delete;
    ~sink_buffer() override { write_out(); }

  protected:
    int_type overflow(int_type c) override
    {
        if (traits_type::eq_int_type(c, traits_type::eof()))
            return traits_type::not_eof(c);
        const char one = traits_type::to_char_type(c);
        if (xsputn(&one, 1) != 1)
            return traits_type::eof();
        return c;
    }
    std::streamsize xsputn(const char *text, std::streamsize size) override
    {
        const std::string_view all(text, static_cast<std::size_t>(size));
        const std::size_t whole = all.rfind('\n') + 1; /* npos + 1 is 0 */
        line.append(all.substr(0, whole));
        if (whole > 0 && !write_out())
            return 0;
        line.append(all.substr(whole));
        return size;
    }
    int sync() override
    {
        if (!write_out())
            return -1;
        return 0;
    }

  private:
    bool write_out()
    {
        const bool is_written = line.empty() || to.write(line).has_value();
        line.clear();
        return is_written;
    }
    twl::sink &to;
    std::string line; /* that has no end yet */
};

/* A stream of lines. badbit: some text is not in the file; after clear() it goes on with what comes next. */
class sink_stream : public std::ostream
{
  public:
    explicit sink_stream(twl::sink &where) : std::ostream(nullptr), buffer(where) { rdbuf(&buffer); }

  private:
    sink_buffer buffer;
};

} // namespace twl

#endif
