/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a raft server: an entry is a record, its index is the LSN. Each change is durable when its call returns.
 *
 *     cc raft.c $(pkg-config --cflags --libs twinlog) && ./a.out journal
 */
#include <errno.h>
#include <stdio.h>
#include <twinlog.h>

struct entry {
    uint64_t term;
    char command[24];
};

static struct twinlog *journal;

/* 1 = the entry at the index has that term, or is in a snapshot; 0 = it has another term, or there is none. */
static int has_entry(uint64_t index, uint64_t term)
{
    struct twinlog_record record;
    struct entry entry;
    int rc = twinlog_read(journal, index, &entry, sizeof(entry), &record);
    if (rc == TWINLOG_ETRIMMED)
        return 1;
    if (rc < 0)
        return rc == -ERANGE ? 0 : rc;
    return record.size == sizeof(entry) && entry.term == term;
}

/* Takes entries from a leader, which follow an existing entry. The first one that differs replaces all
 * entries from its index on. */
static int accept_entries(uint64_t first, const struct entry *entries, size_t count)
{
    size_t i = 0;
    int rc = 1;
    while (i < count && (rc = has_entry(first + i, entries[i].term)) > 0)
        i++;
    if (rc == 0)
        rc = twinlog_truncate(journal, first + i - 1);
    for (; rc == 0 && i < count; i++)
        rc = twinlog_enqueue(journal, &entries[i], sizeof(entries[i]), NULL);
    return rc < 0 ? rc : twinlog_sync(journal);
}

/* A snapshot holds everything up to that entry. */
static int drop_entries(uint64_t index)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    options.before_lsn = index + 1;
    return twinlog_trim(journal, &options, NULL);
}

static int serve(void)
{
    const struct entry sent[] = { { 1, "x = 1" }, { 1, "y = 2" }, { 1, "x = 3" } };
    const struct entry sent_later[] = { { 1, "y = 2" }, { 2, "y = 4" } };
    const uint64_t vote[] = { 2, 7 }; /* in term 2, for server 7 */
    int rc = accept_entries(1, sent, 3);
    if (rc == 0)
        rc = twinlog_meta_set(journal, "vote", vote, sizeof(vote));
    if (rc == 0)
        rc = accept_entries(2, sent_later, 2);
    if (rc == 0)
        rc = drop_entries(2);
    return rc < 0 ? rc : has_entry(3, 2);
}

int main(int argc, char **argv)
{
    int rc = twinlog_open(argc > 1 ? argv[1] : "journal", NULL, &journal);
    if (rc == 0)
        rc = serve();
    twinlog_close(journal);
    puts(rc > 0 ? "entry 3 is of term 2" : rc < 0 ? twinlog_strerror(rc) : "entry 3 is of another term");
    return rc <= 0;
}
