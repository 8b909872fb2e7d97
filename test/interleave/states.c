/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search: every state once. What can happen from a state on does not depend on the way to it, so a state that was
 * seen is gone back from.
 *
 * A state is everything that a step can read: of each fiber its registers, its stack from the stack pointer up, what is
 * local to it, and what the scheduler knows of it; which fiber holds which lock, and which sleeps on what; and the
 * memory that the program names in `memory`. It is told from others by a hash of 64 bits over those bytes. Two states
 * that differ in a byte count as two, also if nobody will ever look at that byte. So nothing is lost but by two states
 * with the same hash, of which among n states n * n / 2^65 are to be expected. What only grows is left out where only
 * its order matters: how often an object was changed (kept is whether that was since the fiber looked), since when
 * somebody sleeps (kept is the first one).
 *
 * To go back, the bytes are put back; now and then it is checked that they are. That is done, and a state looked up,
 * only where more than one fiber can go on: what lies between is a function of that.
 *
 * In one case not all of the fibers that can go on are tried. A step that is independent of every step that any other
 * fiber will ever make can be made at once: whatever the others do, it can also be done behind it. That is so for local
 * steps, and for objects that only one fiber touches, or nobody changes. Which ones these are is found out by the
 * search itself: as soon as a step shows that an object is not of that kind, it begins anew with that knowledge. In the
 * last search nothing came up against it; and if there were an execution in which something did, then take the first
 * such step of it: all that comes before it is independent of what was made at once, so the search has made it, too.
 * The argument wants that no state comes again on the way from itself, which is looked for, and told.
 *
 * With a bound on preemptions, a state is also which fiber was chosen last and how many there were. A step that is made
 * at once is none, and no choice.
 *
 * Of a program in which several fibers do the same, abandon() leaves out what differs only in their names.
 */
#define _GNU_SOURCE
#include "inside.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_WATCHED 1
#endif
#endif

#if defined(__x86_64__) && !defined(IS_WATCHED)

enum {
    MAX_MEMORY = 64, /* parts of it */
    FIRST_TABLE_BITS = 20,
    CHECK_INTERVAL = 1024
};

struct node {
    size_t shelf; /* where it is kept */
    uint64_t key;
    fiber_set open; /* are still to go on from there */
    int depth, last;
    unsigned preemptions;
};

static struct {
    uint64_t *keys; /* open addressing; 0 = none */
    uint64_t count, mask;
} seen;

static struct {
    struct node nodes[MAX_STEPS];
    int count;
    unsigned char *shelf; /* the bytes of all of them */
    size_t shelf_bytes, shelf_used;
} path;

static bool has_learned; /* that a step was taken for independent, and was not */

/* ---- the hash ---------------------------------------------------------------------------------------- */

__extension__ typedef unsigned __int128 wide;

struct digest {
    uint64_t a, b;
};

static uint64_t fold(uint64_t x, uint64_t y)
{
    const wide product = (wide)x * y;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static void digest_words(struct digest *digest, uint64_t x, uint64_t y)
{
    const uint64_t a = digest->a;
    digest->a = fold(x ^ UINT64_C(0xa0761d6478bd642f), y ^ digest->b);
    digest->b = a + fold(y ^ UINT64_C(0xe7037ed1a0b428db), x ^ a);
}

/* Two chains, so that the processor has two multiplications at a time. */
static void digest_bytes(struct digest *digest, const void *memory, size_t size)
{
    const unsigned char *bytes = memory;
    uint64_t words[4] = { 0 }, a = digest->a, b = digest->b ^ size;
    for (; size >= sizeof(words); bytes += sizeof(words), size -= sizeof(words)) {
        memcpy(words, bytes, sizeof(words));
        a = fold(words[0] ^ UINT64_C(0xa0761d6478bd642f), words[1] ^ a);
        b = fold(words[2] ^ UINT64_C(0xe7037ed1a0b428db), words[3] ^ b);
    }
    memset(words, 0, sizeof(words));
    memcpy(words, bytes, size);
    digest->a = a;
    digest->b = b;
    digest_words(digest, words[0], words[1]);
    digest_words(digest, words[2], words[3]);
}

/* ---- what a state is --------------------------------------------------------------------------------- */

static unsigned char *stack_pointer(const struct fiber *fiber)
{
    return fiber->place.words[STACK_WORD];
}

static size_t stack_bytes(const struct fiber *fiber)
{
    return fiber->has_ended ? 0 : (size_t)(fiber->stack + STACK_BYTES - stack_pointer(fiber));
}

/* The others are on the stack. */
static void digest_registers(struct digest *digest, const struct fiber *fiber)
{
    void *const *words = fiber->place.words;
    digest_words(digest, (uintptr_t)words[STACK_WORD], (uintptr_t)words[FRAME_WORD]);
    digest_words(digest, (uintptr_t)words[CODE_WORD], 0);
}

/* Among all sleepers. */
static uint64_t rank_in_sleep(const struct fiber *fiber)
{
    uint64_t rank = 0;
    for (int i = 0; i < run.fiber_count; i++)
        rank += run.fibers[i].next.kind == STEP_WAKE && run.fibers[i].asleep_since < fiber->asleep_since;
    return rank;
}

static void digest_fiber(struct digest *digest, const struct fiber *fiber)
{
    digest_words(digest, fiber->has_ended, fiber->now_ns);
    if (fiber->has_ended)
        return;
    const struct operation *next = &fiber->next;
    digest_words(digest, next->kind, (uintptr_t)next->object->address);
    digest_words(digest, fiber->is_woken | (unsigned)fiber->has_yielded << 1, fiber->deadline_ns);
    if (next->kind == STEP_WAKE)
        digest_words(digest, rank_in_sleep(fiber), 1);
    if (fiber->read)
        digest_words(digest, (uintptr_t)fiber->read->address, fiber->read_change != fiber->read->changes);
    digest_registers(digest, fiber);
    digest_bytes(digest, stack_pointer(fiber), stack_bytes(fiber));
    digest_bytes(digest, fiber->locals, (size_t)(__stop_of_fiber - __start_of_fiber));
}

static unsigned memory_of_program(struct memory *ret_parts)
{
    const unsigned count = run.plan->memory ? run.plan->memory(ret_parts) : 0;
    if (count > MAX_MEMORY)
        abort();
    return count;
}

static uint64_t key_of_state(void)
{
    struct digest digest = { 1, 2 };
    struct memory parts[MAX_MEMORY];
    const unsigned part_count = memory_of_program(parts);
    for (int i = 0; i < run.fiber_count; i++)
        digest_fiber(&digest, &run.fibers[i]);
    for (int i = 0; i < run.known_count; i++) {
        const struct object *object = run.known[i];
        if (object->holder != NOBODY || object->sleepers)
            digest_words(&digest, (uintptr_t)object->address,
                         (uint64_t)(object->holder + 1) << 32 | object->sleepers);
    }
    for (unsigned i = 0; i < part_count; i++)
        digest_bytes(&digest, parts[i].address, parts[i].told_bytes);
    if (run.plan->preemptions < NO_BOUND)
        digest_words(&digest, (uint64_t)run.last, run.preemptions);
    const uint64_t key =
        fold(digest.a ^ UINT64_C(0x8ebc6af09c88c6e3), digest.b ^ UINT64_C(0x589965cc75374cc3));
    return key ? key : 1;
}

/* ---- states that were seen --------------------------------------------------------------------------- */

static uint64_t *slot_of(uint64_t key)
{
    uint64_t i = key * UINT64_C(0x9E3779B97F4A7C15) >> 20;
    while (seen.keys[i & seen.mask] != 0 && seen.keys[i & seen.mask] != key)
        i++;
    return &seen.keys[i & seen.mask];
}

static void make_table(uint64_t slots)
{
    seen.keys = calloc(slots, sizeof(*seen.keys));
    if (!seen.keys) {
        printf("no memory for %llu states\n", (unsigned long long)slots);
        exit(2);
    }
    seen.mask = slots - 1;
}

static void enlarge_table(void)
{
    uint64_t *before = seen.keys;
    const uint64_t slots = before ? seen.mask + 1 : 0;
    make_table(before ? 2 * slots : UINT64_C(1) << FIRST_TABLE_BITS);
    for (uint64_t i = 0; i < slots; i++)
        if (before[i] != 0)
            *slot_of(before[i]) = before[i];
    free(before);
}

/* True if it is new. */
static bool add_state(uint64_t key)
{
    if (!seen.keys || seen.count > seen.mask / 4 * 3)
        enlarge_table();
    uint64_t *slot = slot_of(key);
    if (*slot == key)
        return false;
    *slot = key;
    seen.count++;
    return true;
}

static void forget_states(void)
{
    free(seen.keys);
    seen.keys = NULL;
    seen.count = 0;
}

/* ---- there and back ------------------------------------------------------------------------------------ */

static void store(size_t *at, const void *memory, size_t size)
{
    while (*at + size > path.shelf_bytes) {
        path.shelf_bytes = path.shelf_bytes ? 2 * path.shelf_bytes : 1 << 20;
        path.shelf = realloc(path.shelf, path.shelf_bytes);
        if (!path.shelf)
            abort();
    }
    memcpy(path.shelf + *at, memory, size);
    *at += size;
}

static void load(size_t *at, void *memory, size_t size)
{
    memcpy(memory, path.shelf + *at, size);
    *at += size;
}

/* Of an object. */
struct standing {
    int holder;
    uint32_t changes;
    fiber_set sleepers;
};

static void save_objects(size_t *at)
{
    store(at, &run.known_count, sizeof(run.known_count));
    for (int i = 0; i < run.known_count; i++) {
        const struct object *object = run.known[i];
        const struct standing standing = { object->holder, object->changes, object->sleepers };
        store(at, &standing, sizeof(standing));
    }
}

static void put_standing(struct object *object, const struct standing *standing)
{
    object->holder = standing->holder;
    object->changes = standing->changes;
    object->sleepers = standing->sleepers;
}

/* Those that were not known then had not been touched. */
static void restore_objects(size_t *at)
{
    int count;
    load(at, &count, sizeof(count));
    for (int i = 0; i < run.known_count; i++) {
        struct standing standing = { .holder = NOBODY };
        if (i < count)
            load(at, &standing, sizeof(standing));
        put_standing(run.known[i], &standing);
    }
}

static void save_fibers(size_t *at)
{
    store(at, &run.sleeps, sizeof(run.sleeps));
    store(at, &run.fiber_count, sizeof(run.fiber_count));
    for (int i = 0; i < run.fiber_count; i++) {
        const struct fiber *fiber = &run.fibers[i];
        store(at, fiber, sizeof(*fiber));
        store(at, fiber->locals, (size_t)(__stop_of_fiber - __start_of_fiber));
        store(at, stack_pointer(fiber), stack_bytes(fiber));
    }
}

static void restore_fibers(size_t *at)
{
    load(at, &run.sleeps, sizeof(run.sleeps));
    load(at, &run.fiber_count, sizeof(run.fiber_count));
    for (int i = 0; i < run.fiber_count; i++) {
        struct fiber *fiber = &run.fibers[i];
        load(at, fiber, sizeof(*fiber));
        load(at, fiber->locals, (size_t)(__stop_of_fiber - __start_of_fiber));
        load(at, stack_pointer(fiber), stack_bytes(fiber));
    }
}

static void save_memory(size_t *at)
{
    struct memory parts[MAX_MEMORY];
    const unsigned count = memory_of_program(parts);
    for (unsigned i = 0; i < count; i++) {
        store(at, &parts[i].bytes, sizeof(parts[i].bytes));
        store(at, parts[i].address, parts[i].bytes);
    }
}

/* A part that has grown since had zeros there. */
static void restore_memory(size_t *at)
{
    struct memory parts[MAX_MEMORY];
    const unsigned count = memory_of_program(parts);
    for (unsigned i = 0; i < count; i++) {
        size_t bytes;
        load(at, &bytes, sizeof(bytes));
        load(at, parts[i].address, bytes);
        if (parts[i].bytes > bytes)
            memset((unsigned char *)parts[i].address + bytes, 0, parts[i].bytes - bytes);
    }
}

/* With those that are still to go on. */
static void save_state(uint64_t key, fiber_set open)
{
    struct node *node = &path.nodes[path.count++];
    size_t at = path.shelf_used;
    *node = (struct node){ at, key, open, run.depth, run.last, run.preemptions };
    save_objects(&at);
    save_fibers(&at);
    save_memory(&at);
    path.shelf_used = at;
}

static void restore_state(const struct node *node)
{
    size_t at = node->shelf;
    restore_objects(&at);
    restore_fibers(&at);
    restore_memory(&at);
    run.depth = node->depth;
    run.last = node->last;
    run.preemptions = node->preemptions;
}

static bool is_on_path(uint64_t key)
{
    for (int i = 0; i < path.count; i++)
        if (path.nodes[i].key == key)
            return true;
    return false;
}

/* ---- the search ---------------------------------------------------------------------------------------- */

static void learn(struct object *object, int fiber, enum step_kind kind)
{
    object->users |= ONLY(fiber);
    object->is_changed |= kind == STEP_WRITE;
    if (object->is_contended || !object->is_changed || !(object->users & (object->users - 1)))
        return;
    object->is_contended = has_learned = true;
}

static void go(int number)
{
    struct fiber *fiber = &run.fibers[number];
    struct object *object = fiber->next.object;
    const enum step_kind kind = effect(fiber);
    if (run.depth >= MAX_STEPS - 1)
        violation("no end after %d steps", MAX_STEPS);
    run.steps[run.depth++] = number;
    run.count.steps++;
    if (kind != STEP_LOCAL) {
        learn(object, number, kind);
        object->changes += kind == STEP_WRITE;
        fiber->has_yielded &= fiber->next.kind != STEP_WRITE;
        fiber->read = object;
        fiber->read_change = object->changes;
    }
    pass_to(number);
}

/* One of them, if it can make its step at once. */
static fiber_set independent(fiber_set enabled)
{
    for (int i = 0; i < run.fiber_count; i++) {
        const struct fiber *fiber = &run.fibers[i];
        if ((enabled & ONLY(i)) && fiber->next.kind != STEP_CHANGED &&
            (effect(fiber) == STEP_LOCAL || !fiber->next.object->is_contended))
            return ONLY(i);
    }
    return 0;
}

static bool can_last(fiber_set enabled)
{
    return run.last != NOBODY && (enabled & ONLY(run.last));
}

static void choose(int number, fiber_set enabled)
{
    run.preemptions += can_last(enabled) && number != run.last;
    run.last = number;
    go(number);
}

/* From here to where there is a choice; true: and nobody has come there before. */
static bool go_to_choice(uint64_t *ret_key, fiber_set *ret_open)
{
    while (!run.is_abandoned && !has_learned) {
        const fiber_set enabled = enabled_fibers(), at_once = independent(enabled);
        const bool is_bound = run.preemptions >= run.plan->preemptions && can_last(enabled);
        const fiber_set open = is_bound ? ONLY(run.last) : enabled;
        if (!enabled) {
            check_end();
            run.count.ends++;
            return false;
        }
        if (at_once) {
            go(first_of(at_once));
        } else if (open & (open - 1)) {
            *ret_key = key_of_state();
            *ret_open = open;
            if (add_state(*ret_key))
                return true;
            if (is_on_path(*ret_key))
                violation("a state comes again on the way from it");
            return false;
        } else {
            choose(first_of(open), enabled);
        }
    }
    run.count.renamed += run.is_abandoned;
    run.is_abandoned = false;
    return false;
}

/* To the newest state with a fiber left to go on, which does. */
static bool go_back(void)
{
    while (path.count > 0 && !path.nodes[path.count - 1].open)
        path.shelf_used = path.nodes[--path.count].shelf;
    if (path.count == 0)
        return false;
    struct node *node = &path.nodes[path.count - 1];
    const int next = first_of(node->open);
    restore_state(node);
    if (run.count.steps % CHECK_INTERVAL == 0 && key_of_state() != node->key)
        violation("a state is not what it was before");
    node->open &= ~ONLY(next);
    choose(next, enabled_fibers());
    return true;
}

static void begin(void)
{
    for (int i = 0; i < run.known_count; i++)
        put_standing(run.known[i], &(struct standing){ .holder = NOBODY });
    run.depth = run.fiber_count = 0;
    run.last = run.current = NOBODY;
    run.preemptions = 0;
    run.sleeps = 0;
    run.is_abandoned = false;
    run.plan->begin();
}

static void search(void)
{
    uint64_t key;
    fiber_set open;
    begin();
    path.count = 0;
    path.shelf_used = 0;
    do {
        if (go_to_choice(&key, &open))
            save_state(key, open);
    } while (!has_learned && go_back());
}

static void search_until_known(void)
{
    do {
        has_learned = false;
        run.count.ends = run.count.steps = run.count.renamed = 0;
        forget_states();
        search();
        run.count.searches++;
    } while (has_learned);
    run.count.states = seen.count;
    forget_states();
}

/* ---- one execution again --------------------------------------------------------------------------------- */

/* The next fiber of the schedule; behind its end the last one goes on. */
static int replayed(const char **schedule, fiber_set enabled)
{
    static unsigned long left;
    static char letter;
    if (left == 0 && **schedule) {
        char *end;
        left = strtoul(*schedule, &end, 10);
        letter = *end;
        *schedule = *end ? end + 1 : end;
    }
    if (left == 0)
        return can_last(enabled) ? run.last : first_of(enabled);
    left--;
    if (letter < 'a' || letter >= 'a' + MAX_FIBERS || !(enabled & ONLY(letter - 'a'))) {
        printf("this is no schedule of this program: fiber %c can't go on at step %d\n", letter, run.depth);
        exit(2);
    }
    return letter - 'a';
}

static void replay(const char *schedule)
{
    static const char *const words[] = { "go on", "read", "write", "lock", "wake", "changed", "join" };
    begin();
    for (fiber_set enabled; (enabled = enabled_fibers());) {
        const int number = replayed(&schedule, enabled);
        const struct operation *next = &run.fibers[number].next;
        printf("%5d  %c  %-8s %s  in %s\n", run.depth, 'a' + number, words[next->kind], next->text,
               next->function);
        choose(number, enabled);
    }
    check_end();
}

struct exploration_count explore(const struct exploration *plan)
{
    memset(run.objects, 0, sizeof(run.objects));
    run.known_count = 0;
    run.plan = plan;
    run.count = (struct exploration_count){ 0 };
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    if (plan->replay)
        replay(plan->replay);
    else
        search_until_known();
    return run.count;
}

bool can_explore(void)
{
    return true;
}

#else

bool can_explore(void)
{
    return false;
}

struct exploration_count explore(const struct exploration *plan)
{
    (void)plan;
    abort();
}

#endif
