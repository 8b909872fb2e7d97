/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the processes that share a sink give away its file, and settle what the dead left: src/sink/claim.c and
 * src/sink/sweep.c, one atomic operation to one step. README.md says what is checked, and how.
 */
#ifndef PARTICIPANTS
#define PARTICIPANTS 2
#endif
/* What they do altogether, each as much of it as comes out. */
#ifndef WRITES
#define WRITES 3
#endif
#ifndef SWEEPS
#define SWEEPS 1
#endif
#ifndef SEALS
#define SEALS 1
#endif
#ifndef SYNCS
#define SYNCS 1
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef BIRTHS
#define BIRTHS 1 /* of somebody who gets the number of a dead one */
#endif
#define SLOTS PARTICIPANTS
#define BYTES (2 * WRITES + 1)

/* ---- what is shared ----------------------------------------------------------------------------- */

/* A slot's word: how often it was taken, by whom it was the last time, and how far he is. */
#define FREE 0
#define TAKEN 1   /* start and size are not valid */
#define INTENT 2  /* he has it, if the cursor says that he moved it to start + size */
#define CLAIMED 3 /* he has it */
#define WORD(taken, who, state) ((taken) * 16 + (who) * 4 + (state))
#define STATE(word) ((word) % 4)
#define WHO(word) ((word) / 4 % 4)
#ifdef NO_SEQUENCE
#define NEXT(word, who) WORD(0, who, TAKEN)
#else
#define NEXT(word, who) WORD((word) / 16 + 1, who, TAKEN)
#endif
#define TO(word, state) ((word) - STATE(word) + (state))

/* The cursor: everything below its offset is given away; its owner, slot + 1, moved it there. */
#define CURSOR(offset, owner) (((offset) * 8 + (owner)) * 2)
#define OFFSET(cursor) ((cursor) / 16)
#define OWNER(cursor) ((cursor) / 2 % 8)
#define IS_SEALED(cursor) ((cursor) % 2)
#define SEALED(cursor) ((cursor) + 1)

short cursor;
short word[SLOTS];
byte start[SLOTS], size[SLOTS];
bool is_locked[PARTICIPANTS]; /* his byte, by him: the kernel drops it when he dies */

/* ---- what only we can see ----------------------------------------------------------------------- */

#define OPEN 1
#define DONE 2
#define VOID 3
#define LIFE(me) ((me) + PARTICIPANTS * life[me])

byte life[PARTICIPANTS];
byte settled[BYTES];  /* 0: not given away */
byte claimant[BYTES]; /* LIFE() of who it was given to */
byte writes = WRITES, sweeps = SWEEPS, seals = SEALS, syncs = SYNCS, births = BIRTHS;
byte gone;

#define IS_ALIVE(claimant)                                                                                   \
    (is_locked[(claimant) % PARTICIPANTS] && life[(claimant) % PARTICIPANTS] == (claimant) / PARTICIPANTS)

inline note_given(from, bytes)
{
    k = from;
    do
    :: k < from + bytes ->
        assert(settled[k] == 0 && (k == 0 || settled[k - 1] != 0));
        settled[k] = OPEN;
        claimant[k] = LIFE(_pid);
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
        assert(settled[k] == OPEN && claimant[k] == LIFE(_pid));
        settled[k] = DONE;
        claimant[k] = 0;
        k++
    :: else -> break
    od;
    k = 0
}

/* Zeros become spaces, the last byte a newline: done twice it is the same as once. */
inline check_fill(from, bytes)
{
    k = from;
    do
    :: k < from + bytes ->
        assert(settled[k] == VOID || (settled[k] == OPEN && !IS_ALIVE(claimant[k])));
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
        assert(settled[k] == OPEN && !IS_ALIVE(claimant[k]));
        settled[k] = VOID;
        claimant[k] = 0;
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
            assert(settled[k] == DONE || settled[k] == VOID);
            k++
        :: else -> break
        od;
        k = 0
    }
}

/* ---- the protocol ------------------------------------------------------------------------------- */

/* Whoever moved the cursor to where it was seen has what is before it. */
inline confirm_owner(seen)
{
    if
    :: OWNER(seen) != 0 ->
        j = OWNER(seen) - 1;
        v = word[j];
        if
        :: STATE(v) == INTENT ->
            a = start[j];
            if
            :: a + size[j] == OFFSET(seen) ->
                d_step {
                    if
                    :: word[j] == v -> word[j] = TO(v, CLAIMED)
                    :: else
                    fi
                }
            :: else
            fi
        :: else
        fi
    :: else
    fi;
    d_step { j = 0; v = 0; a = 0 }
}

inline write(bytes)
{
    /* A word that is no longer what it was when it was looked at is not taken, and nothing has happened. */
    atomic {
        if
        :: STATE(word[0]) == FREE -> s = 0
        :: STATE(word[1]) == FREE -> s = 1
#if SLOTS > 2
        :: STATE(word[2]) == FREE -> s = 2
#endif
        fi;
        word[s] = NEXT(word[s], _pid);
        w = word[s]
    }
    do
    :: true ->
        c = cursor;
        if
        :: IS_SEALED(c) -> break
        :: else
        fi;
#ifndef NO_CONFIRMATION
        confirm_owner(c);
#endif
#ifdef INTENT_FIRST
        word[s] = TO(w, INTENT);
#endif
        start[s] = OFFSET(c);
        size[s] = bytes;
        word[s] = TO(w, INTENT);
        d_step {
            if
            :: cursor == c ->
                cursor = CURSOR(OFFSET(c) + bytes, s + 1);
                note_given(OFFSET(c), bytes);
                is_given = true
            :: else
            fi
        }
        if
        :: is_given -> break
        :: else
        fi
    od;
    if
    :: is_given ->
        d_step { /* or a helper did */
            if
            :: word[s] == TO(w, INTENT) -> word[s] = TO(w, CLAIMED)
            :: else
            fi
        }
        /* here the bytes are copied */
        d_step {
            assert(word[s] == TO(w, CLAIMED));
            note_done(OFFSET(c), bytes);
            word[s] = TO(w, FREE)
        }
    :: else ->
        word[s] = TO(w, FREE)
    fi;
    d_step { s = 0; w = 0; c = 0; is_given = false }
}

/* What the dead one with the word w left in slot s. */
inline settle()
{
    c = cursor;
#ifndef BLIND_SWEEP
    if
    :: OWNER(c) == s + 1 -> confirm_owner(c)
    :: else
    fi;
#endif
    v = word[s];
    if
    :: v == TO(w, CLAIMED) ->
        a = start[s];
        n = size[s];
        if
#ifdef NO_SECOND_LOOK
        :: true ->
#else
        :: word[s] == v ->
#endif
            d_step { check_fill(a, n) }
            d_step {
                if
                :: word[s] == v ->
                    word[s] = TO(v, FREE);
                    note_void(a, n)
                :: else
                fi
            }
        :: else
        fi
    :: v == w && v != TO(w, CLAIMED) ->
        d_step {
            if
            :: word[s] == v -> word[s] = TO(v, FREE)
            :: else
            fi
        }
    :: else
    fi;
    d_step { c = 0; v = 0; a = 0; n = 0 }
}

/* The word first, then whether its owner lives: so that nobody else who has his number by now is taken for him. */
inline sweep()
{
    s = 0;
    do
    :: s < SLOTS ->
#ifdef NUMBER_FIRST
        w = word[s]; /* whose slots are looked for */
        if
        :: STATE(w) != FREE && !is_locked[WHO(w)] ->
            p = WHO(w);
            w = word[s];
            if
            :: STATE(w) != FREE && WHO(w) == p -> settle()
            :: else
            fi
#else
        w = word[s];
        if
        :: STATE(w) != FREE && !is_locked[WHO(w)] -> settle()
#endif
        :: else
        fi;
        s++
    :: else -> break
    od;
    atomic { s = 0; w = 0; p = 0 }
}

/* His number's last owner may have left something that looks like his own. */
inline join()
{
    s = 0;
    do
    :: s < SLOTS ->
        w = word[s];
        if
        :: STATE(w) != FREE && WHO(w) == _pid -> settle()
        :: else
        fi;
        s++
    :: else -> break
    od;
    atomic { s = 0; w = 0 }
}

inline seal()
{
    do
    :: true ->
        c = cursor;
        if
        :: IS_SEALED(c) -> break
        :: else
        fi;
        d_step {
            if
            :: cursor == c -> cursor = SEALED(c); c = cursor
            :: else
            fi
        }
    od;
    c = 0
}

/* Waits for whoever lives, and for nobody else. */
inline sync()
{
    e = cursor;
    confirm_owner(e);
    s = 0;
    do
    :: s < SLOTS ->
        w = word[s];
        if
        :: STATE(w) == CLAIMED && start[s] < OFFSET(e) ->
            if
            :: word[s] != w
            :: word[s] == w && !is_locked[WHO(w)] -> settle()
            fi
        :: else
        fi;
        s++
    :: else -> break
    od;
    skip;
    check_settled(OFFSET(e));
    atomic { s = 0; w = 0; e = 0 }
}

/* ---- those who do it ---------------------------------------------------------------------------- */

#define FORGET                                                                                               \
    s = 0; j = 0; k = 0; p = 0; a = 0; n = 0; w = 0; v = 0; c = 0; e = 0; is_given = false

active [PARTICIPANTS] proctype participant()
{
    byte s, j, k, p, a, n;
    short w, v, c, e;
    bool is_given;

born:
    atomic { life[_pid]++; is_locked[_pid] = true }
    {
#ifndef NO_HERITAGE
        if
        :: life[_pid] > 1 -> join()
        :: else
        fi;
#endif
        do
        :: atomic { writes > 0 -> writes-- } -> write(1 + _pid % 2)
        :: atomic { sweeps > 0 -> sweeps-- } -> sweep()
        :: atomic { seals > 0 -> seals-- } -> seal()
        :: atomic { syncs > 0 -> syncs-- } -> sync()
        :: writes + sweeps + seals + syncs == 0 -> goto left
        od
    } unless {
        !is_locked[_pid]
    };
    atomic {
        FORGET;
        if
        :: births > 0 -> births--; goto born
        :: true -> goto over
        fi
    }
left:
    is_locked[_pid] = false;
over:
    atomic { FORGET; gone++ }
}

#define KILL(who) atomic { deaths < DEATHS && is_locked[who] -> is_locked[who] = false; deaths++ }

active proctype killer()
{
    byte deaths;

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
    byte s, j, k, p, a, n;
    short w, v, c;

    gone == PARTICIPANTS;
    seal();
    sweep();
    skip;
    check_settled(OFFSET(cursor))
}
