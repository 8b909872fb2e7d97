/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the example's leader does about its members while a change of them has not ended. libraft 0.22.1 gets into that
 * state by chance, and does not leave it: so it is made here, and raft_transfer() only counts.
 */
#include "../example/node.c"

static unsigned transfers;

int __wrap_raft_transfer(struct raft *raft, struct raft_transfer *transfer, raft_id id,
                         raft_transfer_cb done);
int __wrap_raft_transfer(struct raft *raft, struct raft_transfer *transfer, raft_id id, raft_transfer_cb done)
{
    (void)raft;
    (void)id;
    transfers++;
    done(transfer);
    return 0;
}

/* Of no server of a cluster, for the example's tick(). */
void write_metrics(const char *path, struct raft *raft, uint64_t bytes_in_flight, uint64_t refused)
{
    (void)path;
    (void)raft;
    (void)bytes_in_flight;
    (void)refused;
}

static struct board board = { .order = 1, .roles = { NO_MEMBER, NO_MEMBER, NO_MEMBER, NO_MEMBER } };
static int failures;

/* `is_followed`: the leader looks at its members, and finds nothing to change. */
static void check_leader(const char *what, uint64_t changed_at, uint64_t applied, unsigned wanted_transfers,
                         bool is_followed)
{
    struct node *node = calloc(1, sizeof(*node));
    if (node == NULL)
        exit(1);

    node->board = &board;
    node->seat = &board.seats[0];
    node->seat->order = 0;
    node->raft.state = RAFT_LEADER;
    node->raft.configuration_uncommitted_index = changed_at;
    node->raft.last_applied = applied;
    transfers = 0;
    change_members(node);
    if (transfers != wanted_transfers || (node->seat->order == board.order) != is_followed) {
        printf("%s: leadership was handed over %u times, and the order %s followed\n", what, transfers,
               node->seat->order == board.order ? "is" : "is not");
        failures++;
    }

    free(node);
}

int main(void)
{
    check_leader("no change is under way", 0, 7, 0, true);
    check_leader("a change is not applied yet", 7, 6, 0, false);
    check_leader("a change is applied and does not end", 7, 7, 1, false);
    return failures > 0;
}
