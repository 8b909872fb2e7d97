/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file DIR/server: which server of which cluster this is, and what it has promised, apart from its log. Two
 * blocks of numbers with 8 bytes each, so that no write of the one tears the other, whatever a sector is:
 *
 *   at 0     version, cluster, server, 1 = may bootstrap, term, vote, checksum. Synced before a call returns. Where it
 *            is missing or does not check, the server does not start: it could vote twice
 *   at 4096  index and term of the newest entry that was acknowledged, checksum. Written before the callback, and
 *            synced only when it becomes smaller. So it survives the process, and after a power cut it is an older
 *            one, or none that checks: then it proves less, and never too much
 *
 * The thread of the loop alone syncs it. The kernel tells of a failed write once, to the first sync: another thread's
 * would take the error of a vote, which would count then, and be on no disk.
 *
 * A log that does not have the acknowledged entry is an older copy, another server's, or damaged where its newest group
 * was taken for torn. Term 0 stands for any, after a truncation.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

#define VERSION (UINT64_C(0x746661725f6c7774)) /* "twl_raft"; another layout has another number */
#define FIELDS 6u
#define PROMISE_FIELDS 2u
#define PROMISE_OFFSET 4096
#define FILE_BYTES 8192u

static uint64_t checksum(const uint8_t *data, size_t bytes)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ data[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* `data` has room for the checksum behind the fields. */
static size_t encode(uint8_t *data, const uint64_t *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_u64(data + 8 * i, fields[i]);
    put_u64(data + 8 * count, checksum(data, 8 * count));
    return 8 * count + 8;
}

static int write_fields(int fd, off_t offset, const uint64_t *fields, size_t count)
{
    uint8_t data[8 * FIELDS + 8];
    size_t bytes = encode(data, fields, count);

    ssize_t written = pwrite(fd, data, bytes, offset);
    if (written == (ssize_t)bytes)
        return 0;
    if (written < 0)
        return -errno;
    return -EIO;
}

/* 1 = they check, 0 = they do not. */
static int read_fields(int fd, off_t offset, uint64_t *fields, size_t count)
{
    uint8_t data[8 * FIELDS + 8];

    ssize_t got = pread(fd, data, 8 * count + 8, offset);
    if (got < 0)
        return -errno;

    for (size_t i = 0; i < count; i++)
        fields[i] = get_u64(data + 8 * i);
    return got == (ssize_t)(8 * count + 8) && get_u64(data + 8 * count) == checksum(data, 8 * count);
}

/* ---- term and vote ------------------------------------------------------------------------------ */

static int store_state(struct storage *s, uint64_t term, uint64_t vote)
{
    const uint64_t fields[FIELDS] = { VERSION, s->cluster, s->id, s->may_bootstrap, term, vote };

    int rc = write_fields(s->server_fd, 0, fields, FIELDS);
    if (rc == 0 && fdatasync(s->server_fd) < 0)
        rc = -errno;
    if (rc == 0) {
        s->term = term;
        s->vote = vote;
    }

    return rc;
}

int write_state(struct storage *s, uint64_t term, uint64_t vote)
{
    return report(s, "term and vote", store_state(s, term, vote));
}

/* libraft: 0.15 takes them when they are stored. 0.22 has them by now, and would not give them again: a server that
 * went on could vote twice in a term. */
static int change_state(struct storage *s, uint64_t term, uint64_t vote)
{
    if (s->is_failed)
        return report_text(s, RAFT_IOERR, "the log takes no changes now");
    int rc = store_state(s, term, vote);
    if (rc < 0 && !MAY_REFUSE)
        stop_storing(s, "term and vote", rc);
    return report(s, "term and vote", rc);
}

int set_term(struct raft_io *io, raft_term term)
{
    return change_state(storage_of(io), term, 0);
}

int set_vote(struct raft_io *io, raft_id server_id)
{
    return change_state(storage_of(io), storage_of(io)->term, server_id);
}

/* ---- the newest acknowledged entry ---------------------------------------------------------------- */

static int write_promise(struct storage *s, uint64_t index, uint64_t term)
{
    const uint64_t fields[PROMISE_FIELDS] = { index, term };
    int rc = write_fields(s->server_fd, PROMISE_OFFSET, fields, PROMISE_FIELDS);
    if (rc == 0)
        s->promised_index = index;
    return rc;
}

void promise(struct storage *s, uint64_t index, uint64_t term)
{
    int rc = write_promise(s, index, term);
    if (rc < 0)
        stop_storing(s, "the newest acknowledged entry", rc);
}

/* Before entries behind `index` go. A sync that fails ends all storing, also for want of space: the kernel may take for
 * written what it could not write, and a sync that succeeds later would prove nothing. */
int lower_promise(struct storage *s, uint64_t index)
{
    if (s->promised_index <= index)
        return 0;

    const int rc = write_promise(s, index, 0);
    if (rc == 0 && fdatasync(s->server_fd) < 0)
        return TWINLOG_EPOISONED;
    return rc;
}

/* ---- opening ----------------------------------------------------------------------------------- */

static int read_server_file(struct storage *s, uint64_t id)
{
    uint64_t fields[FIELDS];

    int rc = read_fields(s->server_fd, 0, fields, FIELDS);
    if (rc < 0)
        return report(s, "term and vote", rc);
    if (rc == 0 || fields[0] != VERSION)
        return report_text(s, RAFT_CORRUPT, "the file of term and vote is damaged, or of another version");
    if (fields[2] != id || (s->options.cluster > 0 && fields[1] != s->options.cluster)) {
        snprintf(s->io.errmsg, sizeof(s->io.errmsg), "the directory is that of server %llu of cluster %llu",
                 (unsigned long long)fields[2], (unsigned long long)fields[1]);
        return RAFT_BADID;
    }

    s->cluster = fields[1];
    s->id = id;
    s->may_bootstrap = fields[3] != 0;
    s->term = fields[4];
    s->vote = fields[5];

    rc = read_fields(s->server_fd, PROMISE_OFFSET, fields, PROMISE_FIELDS);
    s->promised_index = 0;
    s->promised_term = 0;
    if (rc > 0) {
        s->promised_index = fields[0];
        s->promised_term = fields[1];
        /* What was read may be on no disk: after a sync that failed the page cache still has it. */
        rc = write_promise(s, s->promised_index, s->promised_term);
    }
    if (rc < 0)
        return report(s, "the newest acknowledged entry", rc);
    return write_state(s, s->term, s->vote);
}

/* Its lock is taken before the files are looked at, those of the logs when they are opened for writing. */
int open_server_file(struct storage *s, uint64_t id)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/server", s->dir);
    s->server_fd = open_above_standard(path, O_RDWR, 0);
    if (s->server_fd < 0 && errno == ENOENT)
        return report_text(
            s, RAFT_NOTFOUND,
            "no server was made in this directory, or its files are lost: a lost server is removed "
            "from its cluster, and a new one made under a new id");
    if (s->server_fd < 0)
        return report(s, path, -errno);
    if (flock(s->server_fd, LOCK_EX | LOCK_NB) < 0)
        return report(s, path, errno == EWOULDBLOCK ? -EBUSY : -errno);
    return read_server_file(s, id);
}

static bool has_file(const char *dir, const char *name)
{
    char path[4096];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return lstat(path, &st) == 0;
}

static int make_server_file(const char *dir, uint64_t cluster, uint64_t id, bool may_bootstrap)
{
    const uint64_t fields[FIELDS] = { VERSION, cluster, id, may_bootstrap, 0, 0 };
    char path[4096], new_path[4096];

    snprintf(path, sizeof(path), "%s/server", dir);
    snprintf(new_path, sizeof(new_path), "%s/server.new", dir);
    /* What a creation that was interrupted has left goes, and a link that somebody has put there is not followed. */
    if (unlink(new_path) < 0 && errno != ENOENT)
        return -errno;

    int fd = open_above_standard(new_path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
    if (fd < 0)
        return -errno;

    int rc = 0;
    if (ftruncate(fd, FILE_BYTES) < 0)
        rc = -errno;
    if (rc == 0)
        rc = write_fields(fd, 0, fields, FIELDS);
    if (rc == 0)
        rc = write_fields(fd, PROMISE_OFFSET, (const uint64_t[PROMISE_FIELDS]){ 0, 0 }, PROMISE_FIELDS);
    if (rc == 0 && (fsync(fd) < 0 || rename(new_path, path) < 0))
        rc = -errno;
    close(fd);
    if (rc == 0)
        return sync_directory(dir);
    return rc;
}

int twinlog_raft_create(const char *dir, uint64_t cluster, unsigned long long id, bool may_bootstrap)
{
    if (dir == NULL || *dir == 0 || cluster == 0 || id == 0)
        return RAFT_INVALID;
    if (strlen(dir) > 4000)
        return RAFT_NAMETOOLONG;

    int rc = make_directory(dir);
    if (rc < 0)
        return code_of(rc);

    int fd = open_above_standard(dir, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return code_of(-errno);

    int rv = RAFT_CANTBOOTSTRAP;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) /* two of them would write one file, and both succeed */
        rv = code_of(errno == EWOULDBLOCK ? -EBUSY : -errno);
    else if (!has_file(dir, "server") && !has_file(dir, "log") && !has_file(dir, "snapshots") &&
             !has_file(dir, "metadata1"))
        rv = code_of(make_server_file(dir, cluster, id, may_bootstrap));
    close(fd);
    return rv;
}
