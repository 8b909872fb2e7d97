/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the processes that share a log make its records durable, on a kernel that writes pages when it likes and tells of
 * an error as Linux does: once to each open file that was there before anybody was told, and to none that comes later.
 * README.md says what is checked.
 *
 * A segment with a page for each record. Byte 2 is not here: its owner may be stopped, and then others go on without
 * it; so it is worth nothing but time, and here nobody needs it.
 */
#ifndef PARTICIPANTS
#define PARTICIPANTS 2
#endif
#ifndef RECORDS
#define RECORDS 2
#endif
#ifndef SYNCS
#define SYNCS 2
#endif
#ifndef CLOSES
#define CLOSES 0
#endif
#ifndef ERRORS
#define ERRORS 1
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef BIRTHS
#define BIRTHS 1
#endif

/* ---- what is shared ----------------------------------------------------------------------------- */

byte claimed;              /* the cursor's count */
bool is_complete[RECORDS]; /* the words in the places */
byte durable;              /* the watermark, as a count */
bool is_poisoned;
bool has_header;           /* the group has, which says that all of it is durable */
byte closer;               /* has byte 2, + 1 */
byte syncing;              /* participants that are in a sync, or died in one */

/* ---- the kernel --------------------------------------------------------------------------------- */

bool is_dirty[RECORDS];
byte flight[RECORDS]; /* on its way to the disk: 1 = as it was when it was not complete, 2 = when it was */
bool is_on_disk[RECORDS];
byte errors;   /* that were counted: the file's errseq_t */
bool was_told; /* the last of them, to anybody */
byte seen[PARTICIPANTS]; /* the file's errors, by the open file of each */
bool is_spoiled[RECORDS]; /* what is written there is not found on the disk */

/* A page that could not be written is clean nevertheless. On ext4 its block stays a reserved one, which reads as zeros,
 * however often it is written again; on xfs it does not. */
inline fail(page)
{
    if
    :: errors == 0 || was_told -> errors++; was_told = false
    :: else
    fi;
    if
    :: is_spoiled[page] = true
    :: true
    fi
}

inline open_file()
{
    d_step {
        if
        :: errors > 0 && !was_told -> seen[_pid] = errors - 1
        :: else -> seen[_pid] = errors
        fi
    }
}

#define START(page)                                                                                          \
    d_step                                                                                                   \
    {                                                                                                        \
        is_dirty[page] && flight[page] == 0 -> is_dirty[page] = false;                                       \
        flight[page] = 1 + is_complete[page]                                                                 \
    }

/* ---- what only we can see ----------------------------------------------------------------------- */

byte claimant[RECORDS]; /* + 1 */
bool is_dead[PARTICIPANTS], is_here[PARTICIPANTS];
byte syncs = SYNCS, closes = CLOSES, faults = ERRORS, deaths = DEATHS, births = BIRTHS;
byte gone;

#define NOBODY (PARTICIPANTS + 1)
#define IS_ORPHAN(record) (claimant[record] == NOBODY || is_dead[claimant[record] - 1])

inline note_dead(one)
{
    k = 0;
    do
    :: k < claimed ->
        if
        :: claimant[k] == one + 1 -> claimant[k] = NOBODY
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

inline check_on_disk(end)
{
    k = 0;
    do
    :: k < end ->
        assert(is_complete[k] && is_on_disk[k]);
        k++
    :: else -> break
    od;
    k = 0
}

/* ---- an append ---------------------------------------------------------------------------------- */

inline write()
{
    d_step { /* the claim; log.pml has all of it */
        if
        :: claimed < RECORDS ->
            k = claimed;
            claimant[k] = _pid + 1;
            is_dirty[k] = true;
            claimed++;
            is_given = true
        :: else
        fi
    }
    if
    :: is_given ->
        d_step { /* the store of the word, through a mapping, makes its page dirty in the same step */
            is_complete[k] = true;
            is_dirty[k] = true;
            k = 0;
            is_given = false
        }
    :: else
    fi
}

/* ---- a sync ------------------------------------------------------------------------------------- */

/* Of the first `end` records: is_synced says whether the kernel calls it a success. */
inline sync_pages()
{
    from = durable;
#ifndef IMPATIENT
    i = from;
    do
    :: i < end ->
        if
        :: is_complete[i]
        :: d_step { !is_complete[i] && IS_ORPHAN(i) -> is_complete[i] = true; is_dirty[i] = true } /* a void */
        fi;
        i++
    :: else -> break
    od;
#endif
    /* What was written before we opened the file may have failed, and somebody else been told. */
    atomic {
        if
        :: syncing == 0 -> is_doubtful = false
        :: else
        fi;
#ifdef ONLY_FIRST
        is_doubtful = false;
#endif
        has_failed = false;
        i = from
    }
#ifdef REDO
    do
    :: i < end && (is_found || is_doubtful) -> is_dirty[i] = true; i++
    :: else -> break
    od;
#else
    do
    :: i < end && (is_found || is_doubtful) -> /* a read past the page cache writes the page first */
        do
        :: START(i)
        :: !is_dirty[i] && flight[i] == 0 -> break
        od;
        has_failed = has_failed || !is_on_disk[i];
        i++
    :: else -> break
    od;
#endif
    if
    :: has_failed -> is_poisoned = true
    :: else -> flush_pages()
    fi
}

inline flush_pages()
{
#ifndef NO_COUNT
    syncing++;
#endif
    /* fdatasync(2) */
    i = 0;
    do
    :: i < claimed ->
        if
        :: START(i)
        :: !is_dirty[i]
        fi;
        i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < claimed -> flight[i] == 0; i++
    :: else -> break
    od;
    atomic {
        i = 0;
        from = 0;
        is_synced = seen[_pid] == errors;
        seen[_pid] = errors;
        was_told = was_told || !is_synced
    }
    if
    :: !is_synced -> is_poisoned = true
    :: else -> is_found = false
    fi;
#ifndef NO_COUNT
    syncing--
#endif
}

inline sync()
{
    end = claimed;
    if
    :: !is_poisoned -> sync_pages()
    :: else
    fi;
#ifdef LATE_COUNT
    end = claimed;
#endif
    if
    :: is_synced && !is_poisoned ->
#ifdef STORE
        i = durable;
        if
        :: i < end -> d_step { assert(durable <= end); check_on_disk(end); durable = end }
        :: else
        fi
#else
        d_step { /* a loop of compare and swap */
            check_on_disk(end);
            if
            :: durable < end -> durable = end
            :: else
            fi
        }
#endif
    :: else
    fi;
    atomic { is_synced = false; end = 0; i = 0 }
}

/* By the owner of byte 2, when the group has ended. */
inline close()
{
    atomic {
        if
        :: closer == 0 && claimed == RECORDS -> closer = _pid + 1
        :: else
        fi
    }
    if
    :: closer == _pid + 1 ->
        end = RECORDS;
#ifndef CLOSE_UNSYNCED
        if
        :: !is_poisoned && !has_header -> sync_pages()
        :: else
        fi;
#else
        is_synced = true;
#endif
        if
        :: is_synced && !is_poisoned -> d_step { check_on_disk(end); has_header = true }
        :: else
        fi;
        closer = 0
    :: else
    fi;
    atomic { is_synced = false; end = 0; i = 0 }
}

/* ---- those that do it --------------------------------------------------------------------------- */

#define FORGET atomic { k = 0; i = 0; from = 0; end = 0; is_given = false; is_synced = false; has_failed = false;            \
                is_found = false; is_doubtful = false }

active [PARTICIPANTS] proctype participant()
{
    byte k, i, from, end;
    bool is_given, is_synced, has_failed;
    bool is_found;    /* others may have written to the file before we opened it, */
    bool is_doubtful; /* and may have been told of an error before */

born:
    {
        is_here[_pid] = true;
        do
        :: claimed < RECORDS -> write()
        :: atomic { syncs > 0 -> syncs-- } sync()
        :: atomic { closes > 0 && claimed == RECORDS -> closes-- } close()
        :: claimed == RECORDS && syncs + closes == 0 -> break
        od;
        goto left
    } unless {
        is_dead[_pid]
    };
    FORGET;
    if
    :: atomic {
            births > 0 ->
            births--;
            note_dead(_pid);
            is_dead[_pid] = false;
            open_file();
#ifndef TRUST
            is_found = true;
            is_doubtful = syncing > 0;
#endif
            goto born
        }
    :: true
    fi;
left:
    atomic { is_here[_pid] = false; gone++ }
}

#define KILL(one)                                                                                            \
    atomic                                                                                                   \
    {                                                                                                        \
        deaths > 0 && is_here[one] && !is_dead[one] -> deaths--;                                             \
        is_dead[one] = true;                                                                                 \
        is_here[one] = false;                                                                                \
        if                                                                                                   \
        :: closer == one + 1 -> closer = 0                                                                   \
        :: else                                                                                              \
        fi                                                                                                   \
    }

active proctype killer()
{
end:
    do
    :: KILL(0)
    :: KILL(1)
#if PARTICIPANTS > 2
    :: KILL(2)
#endif
    :: gone == PARTICIPANTS -> break
    od
}

/* Writes pages whenever it likes, and ends what was begun, well or not. */
#define FINISH(page)                                                                                         \
    atomic                                                                                                   \
    {                                                                                                        \
        flight[page] != 0 ->                                                                                 \
        if                                                                                                   \
        :: is_on_disk[page] = is_on_disk[page] || (flight[page] == 2 && !is_spoiled[page])                   \
        :: faults > 0 -> faults--; fail(page)                                                                    \
        fi;                                                                                                  \
        flight[page] = 0                                                                                     \
    }

active proctype kernel()
{
#ifdef AHEAD /* pages are made present, and dirty, before they are claimed */
    d_step {
        is_dirty[0] = true;
#if RECORDS > 1
        is_dirty[1] = true;
#endif
    }
#endif
end:
    do
    :: START(0)
    :: FINISH(0)
#if RECORDS > 1
    :: START(1)
    :: FINISH(1)
#endif
#if RECORDS > 2
    :: START(2)
    :: FINISH(2)
#endif
    od
}
