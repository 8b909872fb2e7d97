/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the processes that share a sink give away its file, and settle what the dead left: src/sink/claim.h and
 * src/sink/flush.c, an atomic operation a step. README.md says what is checked.
 *
 * A participant has one slot here, and the same number.
 */
#ifndef PARTICIPANTS
#define PARTICIPANTS 2
#endif

/* What they do altogether. */
#ifndef WRITES
#define WRITES 3
#endif
#ifndef SWEEPS
#define SWEEPS 1
#endif
#ifndef SYNCS
#define SYNCS 0
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef BIRTHS
#define BIRTHS 1 /* of a participant that gets the number of a dead one */
#endif

/* ---- what is shared ----------------------------------------------------------------------------- */

/* A slot's state: a sequence, and one of these. */
#define FREE 0
#define INTENT 1  /* made, if the cursor names the slot and the intent's end */
#define CLAIMED 2 /* made, and confirmed by another participant */
#define STATE(sequence, kind) ((sequence) * 4 + (kind))
#define KIND(state) ((state) % 4)
#define TO(state, kind) ((state) - KIND(state) + (kind))
#ifdef NO_SEQUENCE
#define NEXT(state, kind) STATE(0, kind)
#else
#define NEXT(state, kind) STATE((state) / 4 + 1, kind)
#endif

/* Everything below the offset is given away; the owner, slot + 1, moved it there. */
#define CURSOR(offset, owner) ((offset) * 8 + (owner))
#define OFFSET(cursor) ((cursor) / 8)
#define OWNER(cursor) ((cursor) % 8)

short cursor;
short state[PARTICIPANTS];
byte start[PARTICIPANTS], size[PARTICIPANTS];
bool is_used[PARTICIPANTS];
byte holder[PARTICIPANTS]; /* has locked that participant's byte, + 1; the kernel takes it from the dead */

/* ---- what only we can see ----------------------------------------------------------------------- */

#define BYTES (2 * WRITES + 1)

mtype = { DONE, VOID };
mtype settled[BYTES];
byte claimant[BYTES]; /* + 1: it is given away to this one, as long as it is not settled */
bool is_dead[PARTICIPANTS];
byte writes = WRITES, sweeps = SWEEPS, syncs = SYNCS, deaths = DEATHS, births = BIRTHS;
byte gone;

/* Before somebody is born with a dead one's number, what that one had is nobody's. */
#define NOBODY (PARTICIPANTS + 1)

inline note_given(from, bytes)
{
    k = from;
    do
    :: k < from + bytes ->
        assert(claimant[k] == 0 && settled[k] == 0);
        assert(k == 0 || claimant[k - 1] != 0 || settled[k - 1] != 0);
        claimant[k] = _pid + 1;
        k++
    :: else -> break
    od;
    k = 0
}

inline note_done(from, bytes)
{
    k = from;
    do
    :: k < from + bytes ->
        assert(claimant[k] == _pid + 1);
        claimant[k] = 0;
        settled[k] = DONE;
        k++
    :: else -> break
    od;
    k = 0
}

#define IS_ORPHAN(byte)                                                                                      \
    (claimant[byte] == NOBODY || (claimant[byte] != 0 && is_dead[claimant[byte] - 1]))

/* Zeros become spaces, the last byte a newline: to do it twice, or half and then again, is the same as once. */
inline check_fill(from, bytes)
{
    k = from;
    do
    :: k < from + bytes ->
        assert(settled[k] == VOID || IS_ORPHAN(k));
        k++
    :: else -> break
    od;
    k = 0
}

inline note_void(from, bytes)
{
    k = from;
    do
    :: k < from + bytes ->
        assert(IS_ORPHAN(k));
        claimant[k] = 0;
        settled[k] = VOID;
        k++
    :: else -> break
    od;
    k = 0
}

inline note_dead(one)
{
    k = 0;
    do
    :: k < BYTES ->
        if
        :: claimant[k] == one + 1 -> claimant[k] = NOBODY
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

inline check_settled(end)
{
    d_step {
        k = 0;
        do
        :: k < end ->
            assert(settled[k] != 0);
            k++
        :: else -> break
        od;
        k = 0
    }
}

/* ---- claim.c ------------------------------------------------------------------------------------ */

inline confirm(seen)
{
    if
    :: OWNER(seen) != 0 ->
        j = OWNER(seen) - 1;
        v = state[j];
        if
        :: KIND(v) == INTENT ->
            a = start[j];
            if
            :: a + size[j] == OFFSET(seen) ->
                d_step {
                    if
                    :: state[j] == v -> state[j] = TO(v, CLAIMED)
                    :: else
                    fi
                }
            :: else
            fi
        :: else
        fi
    :: else
    fi;
    atomic { j = 0; v = 0; a = 0 }
}

inline write(bytes)
{
    w = state[_pid];
    c = cursor;
    size[_pid] = bytes;
    do
    :: is_given -> break
    :: else ->
#ifndef NO_CONFIRMATION
        if
        :: OWNER(c) != _pid + 1 -> confirm(c)
        :: else
        fi;
#endif
        start[_pid] = OFFSET(c);
        w = NEXT(w, INTENT);
        state[_pid] = w;
        d_step {
            if
            :: cursor == c ->
                cursor = CURSOR(OFFSET(c) + bytes, _pid + 1);
                note_given(OFFSET(c), bytes);
                is_given = true
            :: else -> c = cursor
            fi
        }
    od;
    skip; /* here the bytes are copied */
    d_step {
        assert(state[_pid] == w || state[_pid] == TO(w, CLAIMED));
        note_done(OFFSET(c), bytes);
        state[_pid] = TO(w, FREE)
    }
    atomic { w = 0; c = 0; is_given = false }
}

/* ---- flush.c ------------------------------------------------------------------------------------ */

/* By the participant that has that byte locked. */
inline sweep_participant(dead)
{
    if
    :: is_used[dead] ->
#ifndef BLIND_SWEEP
        c = cursor;
        confirm(c);
        c = 0;
#endif
        w = state[dead];
        if
        :: KIND(w) == CLAIMED ->
            d_step { check_fill(start[dead], size[dead]) }
            /* dying here, it leaves the rest to the next one */
            d_step {
                note_void(start[dead], size[dead]);
                state[dead] = TO(state[dead], FREE)
            }
        :: KIND(w) == INTENT ->
            w = state[dead];
            state[dead] = TO(w, FREE)
        :: else
        fi;
        w = 0;
        is_used[dead] = false
    :: else
    fi
}

inline sweep()
{
    s = 0;
    do
    :: s < PARTICIPANTS ->
        if
        :: s != _pid && is_used[s] ->
#ifdef NO_LOCK
            if
            :: holder[s] == 0 -> sweep_participant(s)
            :: else
            fi
#else
            atomic {
                if
                :: holder[s] == 0 -> holder[s] = _pid + 1; is_mine = true
                :: else
                fi
            }
            if
            :: is_mine ->
                sweep_participant(s);
                atomic { holder[s] = 0; is_mine = false }
            :: else
            fi
#endif
        :: else
        fi;
        s++
    :: else -> break
    od;
    s = 0
}

/* ---- flush.c: what is waited for ----------------------------------------------------------------- */

inline sync()
{
    e = cursor;
    confirm(e);
    do
    :: s < PARTICIPANTS ->
        w = state[s];
        if
        :: KIND(w) == CLAIMED && start[s] < OFFSET(e) ->
            if
            :: state[s] != w -> w = 0
#ifdef PATIENT_SYNC
            :: state[s] == w -> w = 0
#else
            :: atomic { holder[s] == 0 -> holder[s] = _pid + 1; w = 0 }
                sweep_participant(s);
                holder[s] = 0
#endif
            fi
        :: else -> s++
        fi
    :: else -> break
    od;
    skip;
    check_settled(OFFSET(e));
    atomic { s = 0; w = 0; e = 0 }
}

/* ---- those that do it --------------------------------------------------------------------------- */

#define FORGET atomic { s = 0; j = 0; k = 0; a = 0; w = 0; v = 0; c = 0; e = 0; is_given = false; is_mine = false }

inline enter()
{
    atomic { holder[_pid] == 0 -> holder[_pid] = _pid + 1 }
#ifndef NO_HERITAGE
    sweep_participant(_pid);
#endif
    is_used[_pid] = true
}

active [PARTICIPANTS] proctype participant()
{
    byte s, j, k, a;
    short w, v, c, e;
    bool is_given, is_mine;

born:
    {
        enter();
        do
        :: atomic { writes > 0 -> writes-- } write(1 + _pid % 2)
        :: atomic { sweeps > 0 -> sweeps-- } sweep()
        :: atomic { syncs > 0 -> syncs-- } sync()
        :: writes + sweeps + syncs == 0 -> break
        od;
        is_used[_pid] = false;
        goto left
    } unless {
        is_dead[_pid]
    };
    FORGET;
    if
    :: atomic { births > 0 -> births--; note_dead(_pid); is_dead[_pid] = false; goto born }
    :: gone++; goto over
    fi;
left:
    atomic { holder[_pid] = 0; gone++ }
over:
    skip
}

/* Whatever a dead one had locked is free at once. */
inline release(one)
{
    k = 0;
    do
    :: k < PARTICIPANTS ->
        if
        :: holder[k] == one + 1 -> holder[k] = 0
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

#define KILL(one)                                                                                            \
    atomic                                                                                                   \
    {                                                                                                        \
        deaths > 0 && !is_dead[one] && holder[one] == one + 1 -> deaths--;                                   \
        is_dead[one] = true;                                                                                 \
        release(one)                                                                                         \
    }

active proctype killer()
{
    byte k;

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

/* The last one: everybody else has left, or is dead. */
active proctype closer()
{
    byte s, j, k, a;
    short w, v, c;
    bool is_mine;

    gone == PARTICIPANTS;
    sweep();
    skip;
    check_settled(OFFSET(cursor))
}
