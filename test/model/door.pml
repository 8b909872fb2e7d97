/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How processes come to a shared log and leave it, beside writers of other modes: the locks on byte 0 of
 * writer.lock and on the bytes of the participants' numbers, and the state in the page behind them, an atomic
 * operation a step. README.md says what is checked.
 */
#ifndef PARTICIPANTS
#define PARTICIPANTS 2
#endif
#ifndef VISITS
#define VISITS 3 /* of participants, altogether */
#endif
#ifndef OTHERS
#define OTHERS 0 /* visits of a writer in another mode */
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef READERS
#define READERS 1
#endif

/* ---- what is shared ----------------------------------------------------------------------------- */

mtype = { NONE, OPENING, OPEN, CLOSED };
mtype state = NONE;
byte owner;               /* has byte 0 exclusively; its number + 1, as in all these */
byte leaver;              /* has the byte of those that leave */
bool shares[PARTICIPANTS]; /* has it together with others */
bool has_number[PARTICIPANTS]; /* has locked its byte: it is alive, and has opened or joined the log */

/* ---- what only we can see ----------------------------------------------------------------------- */

bool is_whole; /* the log can be gone on with: somebody has opened it, and nobody begun to close it */
bool is_inside[PARTICIPANTS], is_dead[PARTICIPANTS + 1], has_seen_life[PARTICIPANTS];
byte busy;     /* opens or closes it, + 1 */
byte visits = VISITS, others = OTHERS, deaths = DEATHS, died;
byte gone;

#if PARTICIPANTS > 2
#define IS_SHARED (shares[0] || shares[1] || shares[2])
#define IS_SHARED_BY_OTHERS ((shares[0] && _pid != 0) || (shares[1] && _pid != 1) || (shares[2] && _pid != 2))
#define IS_ANYBODY_INSIDE (is_inside[0] || is_inside[1] || is_inside[2])
#else
#define IS_SHARED (shares[0] || shares[1])
#define IS_SHARED_BY_OTHERS ((shares[0] && _pid != 0) || (shares[1] && _pid != 1))
#define IS_ANYBODY_INSIDE (is_inside[0] || is_inside[1])
#endif

inline note_alone()
{
    d_step {
        assert(busy == 0 && !IS_ANYBODY_INSIDE);
        busy = _pid + 1;
        is_whole = false
    }
}

/* ---- coming ------------------------------------------------------------------------------------- */

inline open()
{
#ifndef LATE_OPENING
    state = OPENING;
#endif
    note_alone();
#ifdef LATE_OPENING
    state = OPENING;
#endif
    has_number[_pid] = true;
    /* recovers, begins an epoch, makes a segment */
#ifdef EARLY_OPEN
    state = OPEN;
#endif
    d_step { busy = 0; is_whole = true }
#ifndef EARLY_OPEN
    state = OPEN;
#endif
#ifdef UNLOCK_AND_SHARE
    owner = 0;
    atomic { owner == 0 -> shares[_pid] = true }
#else
    d_step { owner = 0; shares[_pid] = true } /* one call turns the lock into the other kind */
#endif
}

/* Each number is asked for by itself. A participant may die as soon as it was seen. */
inline look_for_life()
{
#ifndef DEAD_JOIN
    has_seen_life[_pid] = has_number[0];
    has_seen_life[_pid] = has_seen_life[_pid] || has_number[1];
#if PARTICIPANTS > 2
    has_seen_life[_pid] = has_seen_life[_pid] || has_number[2];
#endif
#else
    has_seen_life[_pid] = true;
#endif
}

inline come()
{
    do
    :: true ->
        atomic {
            if
            :: owner == 0 && !IS_SHARED -> owner = _pid + 1
            :: else
            fi
        }
        if
        :: owner == _pid + 1 -> open(); break
        :: else
        fi;
        atomic {
            if
            :: owner == 0 -> shares[_pid] = true
            :: else
            fi
        }
        if
        :: shares[_pid] ->
#ifndef BLIND_JOIN
            if
            :: state == OPEN -> look_for_life()
            :: else -> has_seen_life[_pid] = false
            fi;
            if
            :: has_seen_life[_pid] -> d_step { has_seen_life[_pid] = false; has_number[_pid] = true }; break
            :: else -> shares[_pid] = false
            fi
#else
            has_number[_pid] = true;
            break
#endif
        :: else
        fi
    od;
    atomic {
        assert(is_whole);
        is_inside[_pid] = true
    }
}

/* Its locks, all at once: it has closed the file, or is dead. */
#define DROP(one)                                                                                            \
    owner = (owner == one + 1 -> 0 : owner);                                                                 \
    leaver = (leaver == one + 1 -> 0 : leaver);                                                              \
    shares[one] = false;                                                                                     \
    has_number[one] = false

/* ---- leaving ------------------------------------------------------------------------------------ */

inline leave()
{
    is_inside[_pid] = false; /* what it has claimed is complete, and synced */
#ifndef NO_TURN
    atomic { leaver == 0 -> leaver = _pid + 1 }
#endif
    atomic {
        if
        :: owner == 0 && !IS_SHARED_BY_OTHERS -> shares[_pid] = false; owner = _pid + 1
        :: else
        fi
    }
    if
    :: owner == _pid + 1 ->
#ifndef LATE_CLOSED
        state = CLOSED;
#endif
        note_alone();
        /* closes the groups, writes the mark of a close, cuts the file */
        busy = 0;
#ifdef LATE_CLOSED
        state = CLOSED
#endif
    :: else
    fi;
#ifdef NUMBER_LAST
    d_step { shares[_pid] = false; owner = (owner == _pid + 1 -> 0 : owner) };
#endif
    d_step { DROP(_pid) }
}

/* ---- those that do it --------------------------------------------------------------------------- */

active [PARTICIPANTS] proctype participant()
{
born:
    {
        do
        :: atomic { visits > 0 -> visits-- }
            come();
            d_step { assert(is_whole) } /* appends */
            leave()
        :: visits == 0 -> break
        od;
        goto left
    } unless {
        is_dead[_pid]
    };
    if
    :: atomic { visits > 0 -> is_dead[_pid] = false; goto born }
    :: true
    fi;
left:
    gone++
}

/* Opens the log exclusively, in another mode, and closes it. */
active proctype stranger()
{
    {
        do
        :: atomic { others > 0 -> others-- }
            atomic {
                if
                :: owner == 0 && !IS_SHARED -> owner = _pid + 1
                :: else
                fi
            }
            if
            :: owner == _pid + 1 ->
#ifndef STALE_PAGE
                state = NONE;
#endif
                note_alone();
                busy = 0;
                owner = 0
            :: else
            fi
        :: others == 0 -> break
        od
    } unless {
        is_dead[_pid]
    };
    gone++
}

/* Whatever a dead one had locked is free at once. */
#define IS_IN(one) (owner == one + 1 || shares[one] || has_number[one])
#define RELEASE(one)                                                                                         \
    deaths--;                                                                                                \
    died++;                                                                                                  \
    is_dead[one] = true;                                                                                     \
    busy = (busy == one + 1 -> 0 : busy)
#define KILL(one)                                                                                            \
    atomic                                                                                                   \
    {                                                                                                        \
        deaths > 0 && !is_dead[one] && IS_IN(one) -> RELEASE(one);                                           \
        DROP(one);                                                                                           \
        has_seen_life[one] = false;                                                                          \
        is_inside[one] = false                                                                               \
    }
#define KILL_STRANGER                                                                                        \
    atomic                                                                                                   \
    {                                                                                                        \
        deaths > 0 && !is_dead[PARTICIPANTS] && owner == PARTICIPANTS + 1 -> RELEASE(PARTICIPANTS);          \
        owner = 0                                                                                            \
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
    :: KILL_STRANGER
    :: gone == PARTICIPANTS + 1 -> break
    od
}

/* Reads the log from outside. It finds that nobody has byte 0, so it goes by what it finds in the segments, and may
 * pass a record that a participant has not completed. So the log is whole only after the next opening. */
active [READERS] proctype reader()
{
end:
    atomic { owner == 0 && !IS_SHARED -> is_whole = false }
}

/* Everybody has left, or is dead: a latecomer opens the log at once. It was closed, unless somebody died. */
active proctype latecomer()
{
    gone == PARTICIPANTS + 1;
    assert(owner == 0 && !IS_SHARED && busy == 0);
    assert(died > 0 || OTHERS > 0 || state == CLOSED)
}
