/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults and limits of the options for opening, in one place. */
#include "base/base.h"
#include "base/report.h"
#include "base/versioned.h"
#include "format/format.h"
#include "log/log.h"

#include <errno.h>
#include <string.h>

#define DEFAULT_SEGMENT_BYTES (UINT64_C(64) << 20)
#define DEFAULT_BUFFER_BYTES (UINT64_C(8) << 20)
#define DEFAULT_RECORD_BYTES (UINT64_C(4) << 20)
#define MIN_BUFFER_BYTES (UINT64_C(16) << 10)
#define MAX_BUFFER_BYTES (UINT64_C(256) << 20)
#define DEFAULT_MAPPED_BYTES (UINT64_C(10) << 20)
#define MAX_MAPPED_BYTES (UINT64_C(1) << 30)
#define MAX_SPARES 64u
#define ALL_FLAGS                                                                                            \
    ((uint32_t)(TWINLOG_MUST_EXIST | TWINLOG_PAD | TWINLOG_BUFFERED | TWINLOG_READ_ONLY | TWINLOG_NO_RECYCLE))

/* What a buffer holds besides the largest record: the block before it, the group's header, padding. */
#define BUFFER_OVERHEAD (2 * (uint64_t)BLOCK_BYTES)
#define SEGMENT_OVERHEAD (SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES)
#define MAPPED_OVERHEAD (SEGMENT_OVERHEAD + BLOCK_BYTES + SEGMENT_MARKER_BYTES)

/* ---- limits ------------------------------------------------------------------------------------- */

/* Is it so many blocks? */
static bool are_blocks(uint64_t bytes, uint64_t least, uint64_t most)
{
    return bytes % BLOCK_BYTES == 0 && bytes >= least && bytes <= most;
}

static const char *find_mapped_fault(const struct twinlog_options *o)
{
    if (o->segment_bytes > MAX_MAPPED_BYTES)
        return "segment_bytes of a mapped log must be at most 1 GiB";
    if (!are_blocks(o->mapped_bytes, o->max_record_bytes + MAPPED_OVERHEAD, o->segment_bytes))
        return "mapped_bytes must be a multiple of 4096, at least max_record_bytes + 28672 and at most segment_bytes";

    if (o->flags & (TWINLOG_PAD | TWINLOG_READ_ONLY))
        return "a mapped log can be neither padded nor read-only";
    if (o->committer)
        return "a mapped log needs no committer";
    return NULL;
}

/* A buffer that is not given is as large as the record needs, so the record is judged before the buffer. */
static const char *find_size_fault(const struct twinlog_options *o)
{
    if (!are_blocks(o->segment_bytes, SEGMENT_MIN_BYTES, SEGMENT_MAX_BYTES))
        return "segment_bytes must be a multiple of 4096 from 64 KiB to 1 TiB";

    const uint64_t most_buffer_bytes = o->segment_bytes - SEGMENT_OVERHEAD;
    if (o->max_record_bytes > min_u64(MAX_BUFFER_BYTES, most_buffer_bytes) - BUFFER_OVERHEAD)
        return "max_record_bytes must be at most 256 MiB - 8192, and at most segment_bytes - 16384";
    if (!are_blocks(o->buffer_bytes, MIN_BUFFER_BYTES, MAX_BUFFER_BYTES))
        return "buffer_bytes must be a multiple of 4096 from 16 KiB to 256 MiB";
    if (o->buffer_bytes > most_buffer_bytes)
        return "buffer_bytes must be at most segment_bytes - 8192";
    if (o->max_record_bytes > o->buffer_bytes - BUFFER_OVERHEAD)
        return "max_record_bytes must be at most buffer_bytes - 8192";
    return NULL;
}

static const char *find_fault(const struct twinlog_options *o)
{
    if (o->flags & ~ALL_FLAGS)
        return "an unknown flag";
    if (o->io > TWINLOG_IO_FDATASYNC)
        return "io is no enum twinlog_io";
    if (o->prepare > TWINLOG_PREPARE_ALLOCATED)
        return "prepare is no enum twinlog_prepare";

    const char *fault = find_size_fault(o);
    if (fault)
        return fault;

    if (o->spare_segments > MAX_SPARES)
        return "spare_segments must be at most 64";
    if (o->mode > TWINLOG_MODE_SHARED)
        return "mode is no enum twinlog_mode";
    if (o->mode == TWINLOG_MODE_DURABLE)
        return NULL;
    return find_mapped_fault(o);
}

/* ---- defaults ----------------------------------------------------------------------------------- */

/* Two groups in a small segment, and room for the largest record. */
static uint32_t default_buffer_bytes(const struct twinlog_options *o)
{
    uint64_t half = 0;
    if (o->segment_bytes >= SEGMENT_MIN_BYTES)
        half = align_down((o->segment_bytes - SEGMENT_OVERHEAD) / 2, BLOCK_BYTES);

    const uint64_t for_record = align_up((uint64_t)o->max_record_bytes + BUFFER_OVERHEAD, BLOCK_BYTES);
    const uint64_t least = max_u64(for_record, MIN_BUFFER_BYTES);
    const uint64_t want = max_u64(min_u64(DEFAULT_BUFFER_BYTES, half), least);
    return (uint32_t)min_u64(want, MAX_BUFFER_BYTES);
}

/* As large as the buffer takes. If the buffer is larger than the segment, the buffer is refused, not this record. */
static uint32_t default_record_bytes(const struct twinlog_options *o)
{
    const uint64_t in_segment = max_u64(o->segment_bytes, SEGMENT_MIN_BYTES) - SEGMENT_OVERHEAD;
    const uint64_t room = min_u64(o->buffer_bytes, in_segment);

    return (uint32_t)min_u64(DEFAULT_RECORD_BYTES, room - BUFFER_OVERHEAD);
}

static uint64_t default_mapped_bytes(const struct twinlog_options *o)
{
    const uint64_t least = align_up(o->max_record_bytes + MAPPED_OVERHEAD, BLOCK_BYTES);

    return min_u64(max_u64(DEFAULT_MAPPED_BYTES, least), o->segment_bytes);
}

static void fill_in_defaults(struct twinlog_options *o)
{
    if (o->flags & TWINLOG_READ_ONLY)
        o->flags |= TWINLOG_MUST_EXIST;
    if (o->segment_bytes == 0)
        o->segment_bytes = DEFAULT_SEGMENT_BYTES;
    if (o->buffer_bytes == 0)
        o->buffer_bytes = default_buffer_bytes(o);
    if (o->max_record_bytes == 0 && o->buffer_bytes >= MIN_BUFFER_BYTES)
        o->max_record_bytes = default_record_bytes(o);
    if (o->mapped_bytes == 0)
        o->mapped_bytes = default_mapped_bytes(o);
}

/* The options may be those of an older version, without a report. */
static int refuse_option(const struct twinlog_options *options, const char *why)
{
    const size_t needed = offsetof(struct twinlog_options, ret_report) + sizeof(options->ret_report);

    if (options && options->size >= needed && options->ret_report)
        twl_report(options->ret_report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_REFUSE, -EINVAL, "%s", why);
    return -EINVAL;
}

int twl_options_normalise(const struct twinlog_options *options, struct twinlog_options *ret_options)
{
    struct twinlog_options o;
    const int rc = twl_versioned_take(&o, sizeof(o), options);
    if (rc == -E2BIG)
        return refuse_option(options, "an option this version does not know");
    if (rc < 0)
        return rc;

    fill_in_defaults(&o);
    const char *fault = find_fault(&o);
    if (fault)
        return refuse_option(options, fault);
    *ret_options = o;
    return 0;
}
