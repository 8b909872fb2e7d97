/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator wants to see of a server, in the text format of Prometheus. The file appears whole. */
#include <inttypes.h>
#include <limits.h>
#include <raft.h>
#include <stdio.h>

#include "node.h"
#include "twinlog_raft.h"

static void print(FILE *file, const char *type, const char *name, double value)
{
    fprintf(file, "# TYPE %s %s\n%s %.17g\n", name, type, name, value);
}

static uint64_t match_of(struct raft *raft, unsigned i)
{
#ifdef RAFT_VERSION_NUMBER /* libraft 0.22 */
    raft_index match = 0;
    raft_match_index(raft, raft->configuration.servers[i].id, &match);
    return match;
#else
    return raft->leader_state.progress[i].match_index;
#endif
}

/* Of entries that the leader has, and knows a server to lack. Only a leader knows. */
static void print_lag(FILE *file, struct raft *raft)
{
    if (raft_state(raft) != RAFT_LEADER)
        return;

    uint64_t last = raft_last_index(raft);
    fprintf(file, "# TYPE raft_lag_entries gauge\n");
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        raft_id id = raft->configuration.servers[i].id;
        uint64_t match = match_of(raft, i);
        if (id != raft->id)
            fprintf(file, "raft_lag_entries{server=\"%llu\"} %" PRIu64 "\n", id,
                    last > match ? last - match : 0);
    }
}

static void print_storage(FILE *file, const struct twinlog_raft_stat *stat)
{
    static const double quantiles[] = { 0.5, 0.99, 1 };
    const struct twinlog_histogram *append = &stat->append_ns;

    fprintf(file, "# TYPE raft_append_seconds summary\n");
    for (unsigned i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
        fprintf(file, "raft_append_seconds{quantile=\"%g\"} %.9f\n", quantiles[i],
                (double)twinlog_quantile(append, quantiles[i]) / 1e9);
    fprintf(file, "raft_append_seconds_sum %.9f\nraft_append_seconds_count %" PRIu64 "\n",
            (double)append->sum / 1e9, append->count);
    print(file, "gauge", "raft_queued_entries", (double)stat->queued_entries);
    print(file, "gauge", "raft_queued_bytes", (double)stat->queued_bytes);
    print(file, "counter", "raft_snapshots_total", (double)stat->snapshots);
    print(file, "gauge", "raft_snapshot_bytes", (double)stat->snapshot_bytes);
    print(file, "counter", "raft_installs_total", (double)stat->installs);
}

void write_metrics(const char *path, struct raft *raft, uint64_t bytes_in_flight, uint64_t refused)
{
    struct twinlog_raft_stat stat = TWINLOG_RAFT_STAT_INIT;
    char new_path[PATH_MAX];

    snprintf(new_path, sizeof(new_path), "%s.new", path);
    FILE *file = fopen(new_path, "w");
    if (file == NULL || twinlog_raft_stat(raft->io, &stat) != 0) {
        perror(new_path);
        return;
    }

    print(file, "gauge", "raft_is_leader", raft_state(raft) == RAFT_LEADER);
    print(file, "gauge", "raft_term", (double)raft->current_term);
    print(file, "gauge", "raft_last_index", (double)raft_last_index(raft));
    print(file, "gauge", "raft_commit_index", (double)raft->commit_index);
    print(file, "gauge", "raft_applied_index", (double)raft_last_applied(raft));
    print(file, "gauge", "raft_bytes_in_flight", (double)bytes_in_flight);
    print(file, "counter", "raft_refused_commands_total", (double)refused);
    print_lag(file, raft);
    print_storage(file, &stat);
    if (fclose(file) != 0 || rename(new_path, path) < 0)
        perror(path);
}
