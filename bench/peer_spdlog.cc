/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spdlog: lines of a file by the logger that most programs in C++ have. Its pattern is the line alone, which is less than
 * a time in front of it, and what the others write. Plain it fills the buffer of the C library, which the end of the
 * process loses; with a flush each the line survives that; asynchronous, one thread writes what comes in a queue of 8,192.
 */
#include <cerrno>
#include <spdlog/async.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include "peer.h"

struct lines {
    std::shared_ptr<spdlog::details::thread_pool> pool; /* of spdlog-async; joined behind the logger */
    std::shared_ptr<spdlog::logger> logger;
};

static int open_lines(const struct peer_setup *setup, void **ret_state)
{
    try {
        auto *lines = new struct lines;
        *ret_state = lines;
        auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(setup->dir);
        if (setup->peer == &peer_spdlog_async) {
            lines->pool = std::make_shared<spdlog::details::thread_pool>(8192, 1);
            lines->logger = std::make_shared<spdlog::async_logger>("bench", sink, lines->pool);
        } else {
            lines->logger = std::make_shared<spdlog::logger>("bench", sink);
        }
        lines->logger->set_formatter(
            std::make_unique<spdlog::pattern_formatter>("%v", spdlog::pattern_time_type::local, ""));
        if (setup->peer == &peer_spdlog_flush)
            lines->logger->flush_on(spdlog::level::info);
        return 0;
    } catch (...) {
        return -EIO;
    }
}

static int put(void *state, const struct append *append)
{
    const spdlog::string_view_t line(static_cast<const char *>(append->records->data), append->records->size);
    static_cast<struct lines *>(state)->logger->log(spdlog::level::info, line);
    return 0; /* errors are on stderr, and in what the file then holds */
}

static int close_lines(void *state)
{
    auto *lines = static_cast<struct lines *>(state);
    lines->logger.reset();
    delete lines;
    return 0;
}

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
static struct peer spdlog_peer()
{
    struct peer peer = {};
    peer.version = "spdlog " TEXT(SPDLOG_VER_MAJOR) "." TEXT(SPDLOG_VER_MINOR) "." TEXT(SPDLOG_VER_PATCH);
    peer.open = open_lines;
    peer.append = put;
    peer.close = close_lines;
    return peer;
}
const struct peer peer_spdlog = spdlog_peer(), peer_spdlog_flush = spdlog_peer(),
                  peer_spdlog_async = spdlog_peer();
