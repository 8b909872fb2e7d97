/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the processes that share a log take places in its segments, go on to the next one, settle what the dead left, and
 * close what was left: an atomic operation a step. README.md says what is checked.
 *
 * A participant has one thread here, and its number for ever: a newborn one has got the number of a dead one.
 */
#ifndef PARTICIPANTS
#define PARTICIPANTS 2
#endif
#ifndef PLACES
#define PLACES 2 /* in a segment, in units of the smallest record */
#endif

/* What they do altogether. */
#ifndef WRITES
#define WRITES 3
#endif
#ifndef WAITS
#define WAITS 0 /* for all that was claimed */
#endif
#ifndef CLOSES
#define CLOSES 0
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef BIRTHS
#define BIRTHS 1 /* of a participant that gets the number of a dead one */
#endif

/* ---- what is shared ----------------------------------------------------------------------------- */

/* The word of a place: 0, or one of these. */
#define CLAIM 1
#define END 2
#define RECORD 3
#define VOID 4
#define WORD(kind, owner, size) ((kind) * 32 + (owner) * 4 + (size))
#define KIND(word) ((word) / 32)
#define OWNER(word) ((word) / 4 % 8)
#define SIZE(word) ((word) % 4)
#define IS_COMPLETE(word) ((word) >= WORD(RECORD, 0, 0))

#define CURSOR(offset, count) ((offset) * 4 + (count))
#define OFFSET(cursor) ((cursor) / 4)
#define COUNT(cursor) ((cursor) % 4)

/* Every segment that was left has a record, so there are no more than records. A name that was given back may be given
 * to another file by a participant that is late. */
#define SEGMENTS (WRITES + 1)
#if CLOSES > 0
#define FILES (SEGMENTS + PARTICIPANTS + 1)
#else
#define FILES (SEGMENTS + 1)
#endif
#define AT(file, place) ((file) * PLACES + (place))

byte name[SEGMENTS];        /* of which file; 0 = of none */
byte word[FILES * PLACES];
byte payload[FILES * PLACES]; /* the participant that has copied it there, + 1; 0 = zeros */
byte cursor[FILES];
byte mark[FILES];           /* the first LSN, + 1; the file's own identity is its number */
byte header[FILES];         /* of the group: its count, + 1 */
byte oldest, newest;        /* in the page: not closed yet; that somebody has gone on to */
bool is_locked[PARTICIPANTS]; /* the byte of each; the kernel takes it from the dead */
byte closer;                /* has byte 2, + 1 */

/* ---- what only we can see ----------------------------------------------------------------------- */

byte files = 1;
byte given;              /* LSNs */
byte claimant[WRITES];   /* + 1: has it, as long as it is not settled */
byte settled[WRITES];    /* RECORD or VOID */
bool is_dead[PARTICIPANTS];
byte writes = WRITES, waits = WAITS, closes = CLOSES, deaths = DEATHS, births = BIRTHS;
byte gone;

/* Before somebody is born with a dead one's number, what that one had is nobody's. */
#define NOBODY (PARTICIPANTS + 1)
#define IS_ORPHAN(lsn) (claimant[lsn] == NOBODY || (claimant[lsn] != 0 && is_dead[claimant[lsn] - 1]))

/* LSNs are dense: this one comes behind the last that was given. */
inline note_given(lsn)
{
    assert(lsn == given);
    claimant[lsn] = _pid + 1;
    given++
}

inline note_done(lsn)
{
    assert(claimant[lsn] == _pid + 1 && settled[lsn] == 0);
    claimant[lsn] = 0;
    settled[lsn] = RECORD
}

inline note_void(lsn)
{
    assert(IS_ORPHAN(lsn) && settled[lsn] == 0);
    claimant[lsn] = 0;
    settled[lsn] = VOID
}

inline note_dead(one)
{
    k = 0;
    do
    :: k < given ->
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

/* ---- the next segment --------------------------------------------------------------------------- */

/* Opens the oldest segment that is not closed. What had its name when it was opened may have been another file; not
 * if it is still the oldest one afterwards. */
inline open_oldest()
{
    do
    :: t = oldest;
        f = name[t];
        if
        :: t == oldest -> break
        :: else
        fi
    od;
    assert(f != 0 && mark[f] != 0);
    atomic { segment = t; file = f; first = mark[f] - 1; t = 0; f = 0 }
}

inline raise_newest(to)
{
    if
    :: newest < to -> newest = to
    :: else
    fi
}

/* The group has ended, c says behind how many records. */
inline go_on()
{
    t = segment + 1;
    f = name[t];
    if
    :: f == 0 ->
        /* link(2): the file is complete but for the mark, and its cursor stands at its first place */
        d_step {
            if
#ifdef RENAME
            :: true ->
#else
            :: name[t] == 0 ->
#endif
                files++;
                assert(files < FILES);
                name[t] = files
            :: else
            fi
        }
        f = name[t]
    :: else
    fi;
    if
#ifdef NO_LOOK_BACK
    :: false
#else
    :: t < oldest -> /* it is closed, and may be gone; then the name was free again */
        open_oldest()
#endif
    :: else ->
        d_step {
            assert(f != 0);
            assert(mark[f] == 0 || mark[f] == first + COUNT(c) + 1);
            first = first + COUNT(c);
            mark[f] = first + 1
        }
#ifdef BEGIN_AGAIN
        cursor[f] = 0;
#endif
        d_step { /* of the page; before anything is claimed here */
#ifndef LATE_HINT
            raise_newest(t);
#endif
            segment = t;
            file = f;
            t = 0;
            f = 0
        }
    fi
}

/* ---- claims ------------------------------------------------------------------------------------- */

/* A compare and swap of the cursor: behind the record at the place where it stands. */
inline move_on(in, from, bytes)
{
    d_step {
        if
        :: cursor[in] == from -> cursor[in] = CURSOR(OFFSET(from) + bytes, COUNT(from) + 1)
        :: else
        fi
    }
}

inline write(bytes)
{
    do
    :: c = cursor[file];
        if
        :: OFFSET(c) < PLACES ->
            w = word[AT(file, OFFSET(c))];
            if
            :: w == 0 ->
#ifdef NO_SWAP
                skip;
#endif
                d_step { /* a compare and swap of the place */
                    if
#ifdef NO_SWAP
                    :: true ->
#else
                    :: word[AT(file, OFFSET(c))] == 0 ->
#endif
                        if
                        :: OFFSET(c) + bytes <= PLACES ->
                            word[AT(file, OFFSET(c))] = WORD(CLAIM, _pid + 1, bytes);
                            note_given(first + COUNT(c));
                            is_given = true
                        :: else ->
                            w = WORD(END, 0, 0);
                            word[AT(file, OFFSET(c))] = w
                        fi
#ifndef NO_SWAP
                    :: else -> w = word[AT(file, OFFSET(c))]
#endif
                    fi
                }
            :: else
            fi
        :: else -> w = WORD(END, 0, 0) /* not even the word would fit */
        fi;
        if
        :: is_given -> break
        :: else
        fi;
        if
        :: KIND(w) == END -> go_on()
        :: KIND(w) == CLAIM -> move_on(file, c, SIZE(w))
        :: else /* it is complete: the cursor has been moved */
        fi
    od;
#ifdef LATE_HINT
    atomic { raise_newest(segment) }
#endif
    move_on(file, c, bytes);
    payload[AT(file, OFFSET(c))] = _pid + 1;
    if
    :: bytes > 1 -> payload[AT(file, OFFSET(c) + 1)] = _pid + 1
    :: else
    fi;
    d_step { /* a store */
        note_done(first + COUNT(c));
        word[AT(file, OFFSET(c))] = WORD(RECORD, _pid + 1, bytes)
    }
    atomic { c = 0; w = 0; is_given = false }
}

/* ---- the dead ----------------------------------------------------------------------------------- */

/* The claim w, number k in file f at place p, is of a dead one. All write the same bytes, which the word that is
 * swapped in makes a void; so it does not matter how many do it, nor when. The header is not in the model: nothing but
 * the same bytes are ever written there. */
inline make_void()
{
#ifndef LAZY_VOID
    /* first: a complete place where the cursor stands means to others that the cursor has moved */
    move_on(f, CURSOR(p, k), SIZE(w));
#endif
    payload[AT(f, p)] = 0;
    if
    :: SIZE(w) > 1 -> payload[AT(f, p + 1)] = 0
    :: else
    fi;
    d_step { /* a compare and swap */
        if
        :: word[AT(f, p)] == w ->
            note_void(mark[f] - 1 + k);
            word[AT(f, p)] = WORD(VOID, 0, SIZE(w))
        :: else
        fi
    }
}

/* Somebody else's claim: waits until it is complete, or its claimant is dead. */
inline await()
{
    if
    :: word[AT(f, p)] != w
#ifndef PATIENT
    :: !is_locked[OWNER(w) - 1] ->
#ifndef NO_SECOND_LOOK
        /* the claimant may have completed it, and left, before we asked */
        if
        :: word[AT(f, p)] == w -> make_void()
        :: else
        fi
#else
        make_void()
#endif
#endif
    fi
}

/* Along the places of all groups that are not closed. A waiter settles all that was claimed before; a participant that
 * has got a number, only what an earlier owner of that has left. The words tell the way, not the cursors. */
inline walk(is_heir)
{
    t = oldest;
    do
    :: t < SEGMENTS ->
        if
        :: is_heir && t > newest -> break /* nothing is claimed behind it */
        :: else
        fi;
        f = name[t];
        if
        :: t < oldest -> t = oldest
        :: else ->
            if
            :: f == 0 || mark[f] == 0 -> break
            :: else
            fi;
            do
            :: p < PLACES ->
                w = word[AT(f, p)];
                if
                :: w == 0 || KIND(w) == END -> break
                :: IS_COMPLETE(w) || (is_heir && KIND(w) == CLAIM && OWNER(w) != _pid + 1) ->
                    d_step { p = p + SIZE(w); k++ }
                :: KIND(w) == CLAIM && is_heir && OWNER(w) == _pid + 1 -> make_void()
                :: KIND(w) == CLAIM && !is_heir -> await()
                fi
            :: else -> break
            od;
            atomic { p = 0; k = 0; w = 0; t++ }
        fi
    :: else -> break
    od;
    atomic { p = 0; k = 0; w = 0; t = 0; f = 0 }
}

inline wait()
{
    e = given;
    walk(false);
    check_settled(e);
    e = 0
}

/* ---- closing ------------------------------------------------------------------------------------ */

/* By the owner of byte 2. It has gone on itself from what it closes: so the one behind it has its mark. */
inline close_oldest()
{
    t = oldest;
    f = name[t];
#ifdef CLOSE_UNLEFT
    if
    :: f != 0 && mark[f] != 0 ->
#else
    if
    :: t < segment ->
#endif
        do
        :: p < PLACES ->
            w = word[AT(f, p)];
            if
            :: IS_COMPLETE(w) -> d_step { p = p + SIZE(w); k++ }
            :: else -> break
            fi
        :: else -> w = WORD(END, 0, 0); break
        od;
        if
        :: KIND(w) == END ->
            d_step {
                assert(header[f] == 0 || header[f] == k + 1);
                header[f] = k + 1
            }
#ifdef INDEX_OVER_END
            if
            :: p < PLACES -> word[AT(f, p)] = 0
            :: else
            fi;
#endif
#ifdef REMOVE_FIRST
            name[t] = 0;
            oldest = t + 1
#else
            oldest = t + 1;
            name[t] = 0 /* once it is closed anybody may remove it */
#endif
        :: else
        fi
    :: else
    fi;
    atomic { p = 0; k = 0; w = 0; t = 0; f = 0 }
}

inline close()
{
    atomic {
        if
        :: closer == 0 -> closer = _pid + 1; is_mine = true
        :: else
        fi
    }
    if
    :: is_mine ->
        close_oldest();
        atomic { closer = 0; is_mine = false }
    :: else
    fi
}

/* ---- those that do it --------------------------------------------------------------------------- */

#define FORGET                                                                                               \
    atomic                                                                                                   \
    {                                                                                                        \
        segment = 0; file = 0; first = 0; c = 0; w = 0; t = 0; f = 0; p = 0; k = 0; e = 0;                   \
        is_newcomer = false; is_given = false; is_mine = false                                               \
    }

active [PARTICIPANTS] proctype participant()
{
    byte segment, file, first; /* where it is */
    byte c, w, t, f, p, k, e;
    bool is_newcomer, is_given, is_mine;

    d_step {
        mark[1] = 1;
        name[0] = 1;
        is_locked[_pid] = true;
        file = 1
    }
born:
    {
        if
        :: is_newcomer ->
            is_newcomer = false;
#ifndef NO_HERITAGE
            walk(true);
#endif
            open_oldest()
        :: else
        fi;
        do
        :: atomic { writes > 0 -> writes-- }
            if
            :: write(1)
            :: PLACES > 1 -> write(2)
            fi
        :: atomic { waits > 0 -> waits-- } wait()
        :: atomic { closes > 0 -> closes-- } close()
        :: writes + waits + closes == 0 -> break
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
            is_locked[_pid] = true;
            is_newcomer = true;
            goto born
        }
    :: gone++; goto over
    fi;
left:
    atomic { is_locked[_pid] = false; gone++ }
over:
    skip
}

/* Whatever a dead one had locked is free at once. */
#define KILL(one)                                                                                            \
    atomic                                                                                                   \
    {                                                                                                        \
        deaths > 0 && is_locked[one] -> deaths--;                                                            \
        is_dead[one] = true;                                                                                 \
        is_locked[one] = false;                                                                              \
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

/* Everybody has left, or is dead. A latecomer finds each LSN once, as what it was settled as, and whole. */
active proctype reader()
{
    byte segment, file, first;
    byte w, t, f, p, k, e;

    gone == PARTICIPANTS;
    wait();
    skip;
    d_step {
        f = 1;
        do
        :: f <= files && f < FILES ->
            k = 0;
            p = 0;
            do
            :: mark[f] != 0 && p < PLACES && IS_COMPLETE(word[AT(f, p)]) ->
                w = word[AT(f, p)];
                assert(settled[mark[f] - 1 + k] == KIND(w));
                assert(payload[AT(f, p)] == OWNER(w));
                assert(SIZE(w) == 1 || payload[AT(f, p + 1)] == OWNER(w));
                p = p + SIZE(w);
                k++;
                e++
            :: else -> break
            od;
            assert(header[f] == 0 || header[f] == k + 1);
            f++
        :: else -> break
        od;
        assert(e == given)
    }
}
