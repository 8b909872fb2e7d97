/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How server.c keeps its pairs: changes go to a log, and a forked child writes snapshots.
 *
 * Changes are numbered. A change is one command, or all commands of a transaction, and is there as a whole or not at
 * all. It is one record, or parts: a record says with its type whether it begins a change, and whether it ends it. The
 * changes of one turn of the loop are one batch, and the loop waits for nothing.
 */
#include "server_pairs.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <twinlog.h>
#include <twinlog_admin.h>
#include <unistd.h>

#define RECORD_BYTES ((size_t)128 * 1024) /* a larger change is cut in parts */
#define BUFFER_BYTES (1024u * 1024)       /* of the log: a batch has 8 KiB less */
#define BATCH_PARTS 1024u
#define BATCHES 64u         /* in flight */
#define SNAPSHOT "snapshot" /* a value of the log, and the beginning of the name of a file, which it has */

enum setting {
    ALWAYS,
    EVERYSEC,
    NO
};
static const char *const setting_names[] = { "always", "everysec", "no" };

enum part_type {
    BEGINS = 1,
    ENDS = 2
};
struct part {
    uint32_t size, type;
    uint64_t change; /* 0 if it ends none */
};

/* What brings the memory back to where it was, when the log has refused a change. */
struct undo {
    uint64_t change;
    struct pair *before, *after;
};

static struct {
    const char *dir;
    bool is_plain, is_written;
    enum setting setting;

    uint64_t change;             /* the number of the change that is being made */
    uint64_t accepted, safe;     /* changes up to these */
    uint64_t promised;           /* those up to this one are safe as soon as no request is in flight */
    uint64_t last_removal;       /* the newest change that removed a key */
    struct bytes waiting, parts; /* the bytes of changes that the log has not accepted, and their parts */
    size_t change_bytes;         /* of the change that is being made: the last ones of `waiting` */
    struct bytes undo;
    char error[200]; /* the log has failed */

    struct twinlog *log;
    struct twinlog_committer
        *committer; /* it has no thread: the loop does its work when it polls the queue */
    struct twinlog_queue *queue;
    struct twinlog_request requests[BATCHES], *free_requests;
    uint32_t in_flight; /* requests */
    int plain;          /* the file of --plain */
    bool is_dirty;      /* it was written, and not synced */
    uint64_t synced_ns;

    bool is_saving;               /* until the file has its name in the log */
    pid_t saver;                  /* the child, 0: none */
    int saver_pipe;               /* it ends with the child */
    char snapshot[64], saved[64]; /* the names of the file that counts, and of the one that is being made */
    uint64_t saved_lsn;           /* the last one that it stands for */
    struct twinlog_request naming;
    const char *last_save;
} store = { .change = 1, .plain = -1, .saver_pipe = -1, .last_save = "none" };

/* Held replies that show a change behind this one become errors. It is the client's side, in server.c. */
static void give_up_replies(uint64_t change, const char *error);

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- changes ---------------------------------------------------------------------------------------- */

/* Sets a pair, or with NULL removes it, as a part of the change that is being made. */
static void change_pair(struct word key, const struct word *value)
{
    struct undo undo = { .change = store.change,
                         .after = value ? new_pair(key, *value, store.change) : NULL };
    const size_t size = left(&store.waiting);
    add_effect(&store.waiting, key, value);
    store.change_bytes += left(&store.waiting) - size;

    undo.before = replace(key, undo.after);
    add(&store.undo, &undo, sizeof(undo));
    if (!value)
        store.last_removal = store.change;
}

static void end_change(void)
{
    if (store.change_bytes == 0)
        return;
    for (struct part part = { .type = BEGINS }; store.change_bytes > 0; part.type = 0) {
        const bool is_last = store.change_bytes <= RECORD_BYTES;
        part.size = (uint32_t)(is_last ? store.change_bytes : RECORD_BYTES);
        part.type |= is_last ? ENDS : 0;
        part.change = is_last ? store.change : 0;
        add(&store.parts, &part, sizeof(part));
        store.change_bytes -= part.size;
    }
    store.change++;
}

/* The log has refused what waits for it, and works. A later change begins, so a half change in the log does no harm. */
static void refuse_changes(int error)
{
    char text[200];
    while (left(&store.undo) > 0) {
        store.undo.end -= sizeof(struct undo);
        const struct undo *undo = (const struct undo *)(store.undo.data + store.undo.end);
        replace(undo->after ? undo->after->key : undo->before->key, undo->before);
        free(undo->after);
    }
    drop(&store.waiting, left(&store.waiting));
    drop(&store.parts, left(&store.parts));
    store.change = store.accepted + 1;
    store.last_removal = store.last_removal < store.change ? store.last_removal : store.accepted;
    snprintf(text, sizeof(text), "nothing was changed: %s", twinlog_strerror(error));
    give_up_replies(store.accepted, text);
}

/* Nothing more becomes safe. */
static void fail_log(int error)
{
    if (store.error[0])
        return;
    snprintf(store.error, sizeof(store.error), "the log has failed, and it is unknown what was kept: %s",
             twinlog_strerror(error));
    give_up_replies(store.safe, store.error);
    if (store.saver > 0)
        kill(store.saver, SIGKILL);
}

/* What has been accepted cannot be undone. */
static void accept_changes(uint64_t change)
{
    store.accepted = change;
    for (const struct undo *undo; left(&store.undo) > 0; drop(&store.undo, sizeof(*undo))) {
        undo = front(&store.undo);
        if (undo->change > change)
            return;
        free(undo->before);
    }
}

/* ---- a batch ---------------------------------------------------------------------------------------- */

static int sync_plain(void)
{
    store.is_dirty = false;
    store.synced_ns = now_ns();
    return fdatasync(store.plain) < 0 ? -errno : 0;
}

static int write_plain(const struct part *parts, uint32_t count)
{
    static struct bytes frames;
    const char *data = front(&store.waiting);
    for (uint32_t i = 0; i < count; data += parts[i].size, i++) {
        add(&frames, &parts[i], offsetof(struct part, change));
        add(&frames, data, parts[i].size);
    }
    while (left(&frames) > 0) {
        const ssize_t written = write(store.plain, front(&frames), left(&frames));
        if (written < 0)
            return -errno;
        drop(&frames, (size_t)written);
    }
    store.is_dirty = true;
    return store.setting == ALWAYS ? sync_plain() : 0;
}

/* With `everysec` a change is safe when the log has it, but none passes an earlier one, which waits for the disk since
 * the setting was `always`. */
static void promise(uint64_t change)
{
    store.promised = change;
    if (store.in_flight == 0)
        store.safe = change;
}

/* Of a request that made the changes up to `change` durable. */
static void note_durable(uint64_t change)
{
    store.safe = store.in_flight == 0 && store.promised > change ? store.promised : change;
}

/* `change` is the last one that the batch ends. */
static int submit_batch(const struct part *parts, uint32_t count, uint64_t change)
{
    static struct twinlog_entry entries[BATCH_PARTS];
    const char *data = front(&store.waiting);
    for (uint32_t i = 0; i < count; data += parts[i].size, i++)
        entries[i] =
            (struct twinlog_entry){ .data = data, .size = parts[i].size, .type = (uint8_t)parts[i].type };

    struct twinlog_terms terms = { .size = sizeof(terms),
                                   .flags = TWINLOG_TRY,
                                   .level = TWINLOG_LEVEL_BUFFERED };
    if (store.setting != ALWAYS && !store.is_written) {
        const int rc = twinlog_append_batch(store.log, entries, count, &terms, NULL);
        if (rc == 0)
            promise(change);
        return rc;
    }

    struct twinlog_request *request = store.free_requests;
    if (!request)
        return -EAGAIN;
    struct twinlog_request *next = request->next;
    *request =
        (struct twinlog_request){ .queue = store.queue, .context = (void *)(uintptr_t)change, .next = next };
    terms.level = store.setting == ALWAYS ? TWINLOG_LEVEL_DURABLE : TWINLOG_LEVEL_WRITTEN;
    const int rc = twinlog_submit(store.log, entries, count, &terms, request);
    store.free_requests = rc == 0 ? next : request;
    store.in_flight += rc == 0;
    return rc;
}

/* At the end of each turn. What finds no room waits until the descriptor of the queue is readable. */
static void submit_changes(void)
{
    while (left(&store.parts) > 0 && !store.error[0]) {
        const struct part *parts = front(&store.parts);
        const size_t all = left(&store.parts) / sizeof(*parts);
        size_t bytes = 0, taken = 0;
        uint64_t change = store.accepted;
        uint32_t count = 0;
        for (; count < all && count < BATCH_PARTS; count++) {
            taken += 24 + (parts[count].size + 7) / 8 * 8;
            if (taken > BUFFER_BYTES - 8192)
                break;
            bytes += parts[count].size;
            change = parts[count].change ? parts[count].change : change;
        }

        const int rc = store.is_plain ? write_plain(parts, count) : submit_batch(parts, count, change);
        if (rc == -EAGAIN)
            return;
        if (rc < 0) {
            const bool is_over = store.is_plain || rc == TWINLOG_EPOISONED;
            (is_over ? fail_log : refuse_changes)(rc);
            return;
        }

        accept_changes(change);
        store.safe = store.is_plain ? change : store.safe;
        drop(&store.waiting, bytes);
        drop(&store.parts, count * sizeof(*parts));
    }
}

/* ---- a snapshot, by a child --------------------------------------------------------------------------- */

static void path_of(char path[PATH_MAX], const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", store.dir, name);
}

static int write_all(int fd, struct bytes *bytes)
{
    while (left(bytes) > 0) {
        const ssize_t written = write(fd, front(bytes), left(bytes));
        if (written < 0)
            return -errno;
        drop(bytes, (size_t)written);
    }
    return 0;
}

/* The file is durable on return: its bytes, and its name. */
static int write_snapshot(const char *path)
{
    struct bytes bytes = { 0 };
    const int dir = open(store.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (dir < 0 || fd < 0)
        return -errno;

    int rc = 0;
    for (size_t slot = 0; slot < SLOTS && rc == 0; slot++) {
        for (const struct pair *pair = pairs.slots[slot]; pair; pair = pair->next)
            add_effect(&bytes, pair->key, &pair->value);
        if (left(&bytes) >= BUFFER_BYTES)
            rc = write_all(fd, &bytes);
    }
    if (rc == 0)
        rc = write_all(fd, &bytes);
    if (rc == 0 && (fsync(fd) < 0 || fsync(dir) < 0))
        rc = -errno;
    return rc;
}

/* Memory and log have the same changes now: none waits. The child writes them to a file of its own, and uses nothing of
 * the log. Returns 0, or an error. */
static int start_save(int listener)
{
    const pid_t parent = getpid();
    char path[PATH_MAX];
    int ends[2];
    store.saved_lsn = twinlog_last_lsn(store.log); /* before the fork: the child has no log */
    snprintf(store.saved, sizeof(store.saved), SNAPSHOT "-%" PRIu64 "-%" PRIu64, store.saved_lsn, now_ns());
    path_of(path, store.saved);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;

    store.saver = fork();
    if (store.saver == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would name its file */
        close(listener);
        const int rc = getppid() == parent ? write_snapshot(path) : -ECHILD;
        if (rc < 0)
            fprintf(stderr, "server: the snapshot failed: %s\n", twinlog_strerror(rc));
        _exit(rc < 0);
    }
    const int rc = store.saver < 0 ? -errno : 0;
    close(ends[1]);
    store.saver_pipe = ends[0];
    store.is_saving = rc == 0;
    if (rc < 0) {
        store.saver = 0;
        close(ends[0]);
    }
    return rc;
}

static void remove_file(const char *name)
{
    char path[PATH_MAX];
    path_of(path, name);
    unlink(path);
}

/* One change, which is there as a whole after a crash, or not at all: the value names the snapshot, and the records
 * that it stands for are removed. They must be durable before: else a crash could give their LSNs to other records,
 * behind a snapshot that does not have those. A thread of the log waits for all of this, and the queue gets the
 * answer. */
static int submit_name(void)
{
    const struct twinlog_edit name = {
        .kind = TWINLOG_EDIT_SET_VALUE, .name = SNAPSHOT, .data = store.saved, .size = strlen(store.saved)
    };
    struct twinlog_change change = TWINLOG_CHANGE_INIT;
    change.edits = &name;
    change.edit_count = 1;
    change.durable_lsn = store.saved_lsn;
    change.trim_before_lsn = store.saved_lsn + 1;
    store.naming = (struct twinlog_request){ .queue = store.queue };
    return twinlog_submit_change(store.log, &change, &store.naming);
}

static void end_saving(int rc)
{
    store.is_saving = false;
    store.last_save = rc == 0 ? "ok" : "failed";
    if (rc < 0)
        fprintf(stderr, "server: the snapshot failed: %s\n", twinlog_strerror(rc));
}

static void end_child(void)
{
    int status;
    waitpid(store.saver, &status, 0);
    store.saver = 0;
    close(store.saver_pipe);

    int rc = -EIO; /* the child has said more */
    if (status == 0)
        rc = store.error[0] ? TWINLOG_EPOISONED : submit_name();
    if (rc < 0) {
        remove_file(store.saved);
        end_saving(rc);
    }
}

/* After an error it may be unknown which of the two files counts. So both stay, and the next start removes what the
 * value does not name. */
static void end_naming(int rc)
{
    if (rc == 0) {
        if (store.snapshot[0])
            remove_file(store.snapshot);
        memcpy(store.snapshot, store.saved, sizeof(store.saved));
    }
    end_saving(rc);
}

/* ---- what the queue has ------------------------------------------------------------------------------- */

/* Begins to write what was submitted, and takes what has become safe. Returns whether there was any. */
static bool fetch_requests(void)
{
    struct twinlog_request *done[BATCHES];
    const int count = twinlog_queue_poll(store.queue, done, BATCHES, 0);
    for (int i = 0; i < count; i++) {
        if (done[i] == &store.naming) {
            end_naming(done[i]->result);
            continue;
        }
        store.in_flight--;
        if (done[i]->result < 0)
            fail_log(done[i]->result);
        else if (!store.error[0])
            note_durable((uint64_t)(uintptr_t)done[i]->context);
        done[i]->next = store.free_requests;
        store.free_requests = done[i];
    }
    return count > 0;
}

/* The descriptor of the queue was readable: there may be room, which the end of the turn uses; or the log has failed,
 * which no request need tell. */
static void look_at_log(void)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    if (twinlog_stat(store.log, &stat) == 0 && stat.poison < 0)
        fail_log(stat.poison);
}

/* ---- opening ------------------------------------------------------------------------------------------ */

/* Does what a change did, when its last part is there. A change that another one follows before its end was not
 * whole: the server had died, or the log had refused the rest. */
static int load_part(struct bytes *change, uint32_t type, const void *data, size_t size)
{
    if (type & BEGINS)
        drop(change, left(change));
    add(change, data, size);
    if (!(type & ENDS))
        return 0;
    const int rc = apply_effects(front(change), left(change));
    drop(change, left(change));
    return rc;
}

/* The snapshot that counts, and the LSN that it stands for; the files of others are removed. */
static int load_snapshot(uint64_t *ret_lsn)
{
    char *const name = store.snapshot;
    char path[PATH_MAX];
    struct bytes bytes = { 0 };
    int rc = twinlog_meta_get(store.log, SNAPSHOT, name, sizeof(store.snapshot) - 1, NULL);
    *ret_lsn = 0;
    if (rc == 0) {
        path_of(path, name);
        FILE *file = fopen(path, "r");
        if (!file || sscanf(name, SNAPSHOT "-%" SCNu64, ret_lsn) != 1)
            return -ENOENT;
        for (size_t size = 1; size > 0; bytes.end += size)
            size = fread(make_room(&bytes, BUFFER_BYTES), 1, BUFFER_BYTES, file);
        rc = ferror(file) ? -EIO : apply_effects(front(&bytes), left(&bytes));
        fclose(file);
        free(bytes.data);
    } else if (rc == -ENOENT) {
        rc = 0;
    }

    DIR *dir = opendir(store.dir);
    for (struct dirent *entry; rc == 0 && dir && (entry = readdir(dir));)
        if (strncmp(entry->d_name, SNAPSHOT, strlen(SNAPSHOT)) == 0 && strcmp(entry->d_name, name) != 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
    return rc;
}

static int replay(uint64_t from_lsn)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    struct bytes change = { 0 };
    options.from_lsn = from_lsn;
    int rc = twinlog_reader_attach(store.log, &options, &reader);
    if (rc < 0)
        return rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0)
        if ((rc = load_part(&change, record.type, record.data, record.size)) < 0)
            break;
    twinlog_reader_close(reader);
    free(change.data);
    return rc;
}

static int open_log(void)
{
    struct twinlog_committer_options without_thread = TWINLOG_COMMITTER_OPTIONS_INIT;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    char path[PATH_MAX];
    uint64_t lsn;
    int rc = twinlog_queue_open(&store.queue);
    if (rc < 0)
        return rc;
    without_thread.queue = store.queue;
    rc = twinlog_committer_open(&without_thread, &store.committer);
    if (rc < 0)
        return rc;
    options.committer = store.committer;
    options.segment_bytes = 16u << 20; /* space comes back by whole segments */
    options.buffer_bytes = BUFFER_BYTES;
    options.max_record_bytes = RECORD_BYTES;
    options.flush_interval_ms = 1000; /* what `everysec` says */
    path_of(path, "log");
    rc = twinlog_open(path, &options, &store.log);
    if (rc == 0)
        rc = twinlog_queue_listen(store.queue, store.log);
    if (rc == 0)
        rc = load_snapshot(&lsn);
    if (rc == 0)
        rc = replay(lsn + 1);
    for (uint32_t i = 0; i < BATCHES; i++)
        store.requests[i].next = i + 1 < BATCHES ? &store.requests[i + 1] : NULL;
    store.free_requests = store.requests;
    return rc;
}

/* What the file of --plain has behind its last whole change is cut off. */
static int open_plain(void)
{
    struct bytes file = { 0 }, change = { 0 };
    char path[PATH_MAX];
    path_of(path, "plain");
    store.plain = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (store.plain < 0)
        return -errno;
    for (ssize_t size = 1; size > 0; file.end += (size_t)size)
        if ((size = read(store.plain, make_room(&file, BUFFER_BYTES), BUFFER_BYTES)) < 0)
            return -errno;

    off_t at = 0, whole = 0;
    int rc = 0;
    for (struct part part; rc == 0 && left(&file) >= offsetof(struct part, change);) {
        memcpy(&part, front(&file), offsetof(struct part, change));
        drop(&file, offsetof(struct part, change));
        if (part.type > (BEGINS | ENDS) || part.size > left(&file))
            break;
        rc = load_part(&change, part.type, front(&file), part.size);
        drop(&file, part.size);
        at += (off_t)(offsetof(struct part, change) + part.size);
        whole = part.type & ENDS ? at : whole;
    }
    free(file.data);
    free(change.data);
    return rc == 0 && ftruncate(store.plain, whole) < 0 ? -errno : rc;
}

static int store_open(const char *dir)
{
    store.dir = dir;
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return -errno;
    return store.is_plain ? open_plain() : open_log();
}

/* Makes durable what was accepted. */
static int store_close(void)
{
    if (store.saver > 0) {
        kill(store.saver, SIGKILL);
        end_child();
    }
    int rc = 0;
    if (store.plain >= 0)
        rc = sync_plain() < 0 || close(store.plain) < 0 ? -EIO : 0;
    if (store.log)
        rc = twinlog_close(store.log);
    struct twinlog_request *done[BATCHES];
    while (store.queue && twinlog_queue_poll(store.queue, done, BATCHES, 0) > 0)
        ;
    twinlog_committer_close(store.committer);
    twinlog_queue_close(store.queue);
    forget_pairs();
    return rc;
}
