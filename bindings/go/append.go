// SPDX-License-Identifier: Apache-2.0

package twinlog

/*
#include <errno.h>
#include <stdlib.h>
#include <twinlog.h>

// Entries, with their bytes one behind the other in `bytes`. A single entry may have a head in front of them, elsewhere in
// memory. Both are Go's, and are read before the call returns. They are bytes by their type, too: of a pointer to anything
// Go would look at the whole variable around it, and end the program where that has a pointer of the caller's.
struct go_entry {
	size_t size;
	int64_t time_ns;
	uint16_t tag;
	uint8_t type;
};

static int go_append(struct twinlog *log, const unsigned char *head, size_t head_size, const unsigned char *bytes,
                     const struct go_entry *goes, uint32_t count, uint32_t level, uint32_t flags, uint64_t deadline_ns,
                     uint64_t *lsn)
{
	struct twinlog_terms terms = TWINLOG_TERMS_INIT;
	struct twinlog_entry one, *entries = &one;
	struct iovec pieces[2] = { { (void *)head, head_size }, { (void *)bytes, goes[0].size } };
	if (count > 1 && !(entries = malloc(count * sizeof(*entries))))
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		entries[i] = (struct twinlog_entry){ .data = bytes, .size = goes[i].size, .time_ns = goes[i].time_ns,
		                                     .tag = goes[i].tag, .type = goes[i].type };
		bytes += goes[i].size;
	}
	if (head_size > 0) {
		one.data = NULL;
		one.size = 0;
		one.pieces = pieces;
		one.piece_count = goes[0].size > 0 ? 2 : 1;
	}
	terms.level = level;
	terms.flags = flags;
	terms.deadline_ns = deadline_ns;
	int rc = twinlog_append_batch(log, entries, count, &terms, lsn);
	if (entries != &one)
		free(entries);
	return rc;
}
*/
import "C"

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Entry is a record to be appended. It is read before the call returns.
type Entry struct {
	Data []byte
	// Pieces, instead of Data, are the record in this order, such as a header and what it describes. They need not be
	// copied together by the caller; of an entry of two pieces that is appended by itself the binding copies none, either.
	Pieces [][]byte
	Type   uint8
	Tag    uint16
	Time   time.Time // zero: the log takes the time. EINVAL: what does not fit, and 1970 to the nanosecond, which is C's zero
}

// size is that of the record; EINVAL for both kinds of bytes.
func (entry *Entry) size() (int, error) {
	if entry.Pieces == nil {
		return len(entry.Data), nil
	}
	if entry.Data != nil {
		return 0, Error(-C.EINVAL)
	}
	size := 0
	for _, piece := range entry.Pieces {
		size += len(piece)
	}
	return size, nil
}

// appendTo copies the record behind `bytes`.
func (entry *Entry) appendTo(bytes []byte) []byte {
	bytes = append(bytes, entry.Data...)
	for _, piece := range entry.Pieces {
		bytes = append(bytes, piece...)
	}
	return bytes
}

// BatchBytes is the room that a record of `size` bytes takes in a batch: see MaxBatchBytes.
func BatchBytes(size int) int { return recordHeaderBytes + (size+7)&^7 }

// MaxRecordBytes is the size of the largest record that the log takes; 0 if it is open for reading only. A larger one is
// EMSGSIZE.
func (log *Log) MaxRecordBytes() int { return log.together.recordBytes }

// MaxBatchBytes is the room for the records of one batch, each with BatchBytes of its size; 0 if the log is open for
// reading only. A larger batch is EMSGSIZE. In the modes Mapped and Shared a batch has one record.
func (log *Log) MaxBatchBytes() int { return log.together.batchBytes }

// Terms of an append. The zero value is what Append has.
type Terms struct {
	Level Level
	Try   bool // EAGAIN instead of waiting for room in the buffers
}

// Append returns when the record is on stable storage (in the modes Mapped and Shared: written). If ctx ends while it
// waits for its turn, it returns that error, and nothing has happened; a commit that has begun is not interrupted. After
// any error a record exists if lsn is not 0: it will become durable like any other, and Wait says when. But after
// ErrPoisoned it is unknown what became of it, until the log is opened again.
func (log *Log) Append(ctx context.Context, data []byte) (lsn uint64, err error) {
	return log.AppendBatch(ctx, []Entry{{Data: data}}, Terms{})
}

// AppendBatch appends all entries or, after a crash, none. They get consecutive LSNs, firstLSN is the first.
func (log *Log) AppendBatch(ctx context.Context, entries []Entry, terms Terms) (firstLSN uint64, err error) {
	if len(entries) == 0 {
		return 0, Error(-C.EINVAL)
	}
	size, room, fits := 0, 0, true
	for i := range entries {
		bytes, err := entries[i].size()
		if err != nil {
			return 0, err
		}
		size += bytes
		room += BatchBytes(bytes)
		fits = fits && bytes <= log.together.recordBytes
		if !entries[i].Time.IsZero() {
			if ns, err := nanoseconds(entries[i].Time); err != nil || ns == 0 {
				return 0, Error(-C.EINVAL)
			}
		}
	}
	isDurable := log.isDurable && (terms.Level == 0 || terms.Level == LevelDurable)
	if isDurable && !terms.Try && fits && size <= aloneBytes && room <= log.together.groupBytes {
		return log.together.append(ctx, log, entries, size, room)
	}
	one := &entries[0]
	switch {
	case len(entries) == 1 && len(one.Pieces) == 0:
		return log.appendInC(ctx, nil, one.Data, []C.struct_go_entry{one.inC(size)}, terms)
	case len(entries) == 1 && len(one.Pieces) == 2:
		return log.appendInC(ctx, one.Pieces[0], one.Pieces[1], []C.struct_go_entry{one.inC(len(one.Pieces[1]))}, terms)
	}
	copied := copies.Get().(*copiedEntries)
	defer copies.Put(copied)
	copied.bytes, copied.goes = copied.bytes[:0], copied.goes[:0]
	if cap(copied.bytes) < size {
		copied.bytes = make([]byte, 0, size)
	}
	for i := range entries {
		before := len(copied.bytes)
		copied.bytes = entries[i].appendTo(copied.bytes)
		copied.goes = append(copied.goes, entries[i].inC(len(copied.bytes)-before))
	}
	return log.appendInC(ctx, nil, copied.bytes, copied.goes, terms)
}

// Memory for the entries of a batch, one behind the other. It is used again: the pages of a new megabyte may take as long
// to come as the disk.
type copiedEntries struct {
	bytes []byte
	goes  []C.struct_go_entry
}

var copies = sync.Pool{New: func() interface{} { return new(copiedEntries) }}

func (entry *Entry) inC(size int) C.struct_go_entry {
	c := C.struct_go_entry{size: C.size_t(size), tag: C.uint16_t(entry.Tag), _type: C.uint8_t(entry.Type)}
	if !entry.Time.IsZero() {
		c.time_ns = C.int64_t(entry.Time.UnixNano())
	}
	return c
}

// beginOf is where bytes of the caller's begin, for a parameter of C whose type is that of bytes.
func beginOf(bytes []byte) *C.uchar {
	if len(bytes) == 0 {
		return nil
	}
	return (*C.uchar)(&bytes[0])
}

// callAppend appends entries. Their bytes lie one behind the other, because C gets no pointers to pointers of Go. One entry
// may have a head.
func (log *Log) callAppend(head, bytes []byte, goes []C.struct_go_entry, level Level, flags C.uint32_t, wait time.Duration) (uint64, error) {
	var lsn C.uint64_t
	err := log.call(func(c *C.struct_twinlog) error {
		deadline := C.uint64_t(0)
		if wait > 0 {
			deadline = C.twinlog_deadline(milliseconds32(wait))
		}
		return check(C.go_append(c, beginOf(head), C.size_t(len(head)), beginOf(bytes), &goes[0], C.uint32_t(len(goes)),
			C.uint32_t(level), flags, deadline, &lsn))
	})
	return uint64(lsn), err
}

// How long a call waits in C at a time, before it looks whether the context is done.
const roomWait = 50 * time.Millisecond

// waitInC is 0, for ever, for a context that never ends: a call with a deadline leaves its commit to another thread.
func waitInC(ctx context.Context) time.Duration {
	if ctx.Done() == nil {
		return 0
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < roomWait {
		return max(time.Until(deadline), time.Millisecond)
	}
	return roomWait
}

// appendInC waits in C, and so takes a thread.
func (log *Log) appendInC(ctx context.Context, head, bytes []byte, goes []C.struct_go_entry, terms Terms) (uint64, error) {
	var flags C.uint32_t
	if terms.Try {
		flags = C.TWINLOG_TRY
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		lsn, err := log.callAppend(head, bytes, goes, terms.Level, flags, waitInC(ctx))
		if err != Error(-C.ETIMEDOUT) {
			return lsn, err
		}
		if lsn != 0 { // accepted, and not at its level yet
			return lsn, log.Wait(ctx, lsn+uint64(len(goes))-1, terms.Level)
		}
	}
}

func max(a, b time.Duration) time.Duration {
	if a > b {
		return a
	}
	return b
}

// ---- appends of many goroutines, in one call of C ----

// One goroutine leads: it takes the oldest group, appends all of it as one batch, and wakes its members. Meanwhile the
// others join the next group. Then the first member of that one leads, so nobody leads longer than its own append takes,
// and a goroutine that is alone is never switched. Only where the first one has left, a goroutine of its own leads.
type together struct {
	lock   sync.Mutex
	groups []*group // [lock] that wait, oldest first; all but the last are full
	isLed  bool     // [lock] as long as a group waits, somebody leads
	spare  content  // [lock] the memory of a group that has been appended

	// What the log takes: a member that C would refuse must not join others, nor must a group be too large for a buffer.
	recordBytes, groupBytes int
	batchBytes              int // the largest batch of a caller

	// Of the leader.
	expected int           // members of the group before, and those that had joined the next one when it ended
	duration time.Duration // of a commit, smoothed
	skips    int           // groups not to gather for, because it was in vain
	vain     int
}

const (
	groupBytes        = 300 << 10 // a group takes no more members with so many bytes of records
	groupEntries      = 4096
	aloneBytes        = 32 << 10 // what is larger goes to C alone, and is copied once
	recordHeaderBytes = 24
	overheadBytes     = 8192 // of a segment, and of a batch in a buffer
)

// limit knows what C makes of options that are 0.
func (all *together) limit(options *Options) {
	if options.ReadOnly {
		return
	}
	segment, record, buffer := options.SegmentBytes, uint64(options.MaxRecordBytes), uint64(options.BufferBytes)
	if segment == 0 {
		segment = 64 << 20
	}
	if buffer == 0 {
		buffer = 8 << 20
		if half := (segment - overheadBytes) / 2 &^ 4095; half < buffer {
			buffer = half
		}
		if buffer < 16<<10 {
			buffer = 16 << 10
		}
		if least := (record + overheadBytes + 4095) &^ 4095; buffer < least {
			buffer = least
		}
	}
	all.batchBytes = int(buffer) - overheadBytes
	all.groupBytes, all.recordBytes = groupBytes, int(record)
	if all.batchBytes < groupBytes {
		all.groupBytes = all.batchBytes
	}
	if record == 0 {
		all.recordBytes = all.batchBytes
		if all.recordBytes > 4<<20 {
			all.recordBytes = 4 << 20
		}
	}
}

type group struct {
	content               // [lock] until it is taken, then the leader's
	room    int           // [lock] of all members, those that have left, too
	live    int32         // [lock to change] members that have not left
	isTaken bool          // [lock] nobody may leave any more
	isLeft  bool          // [lock] by its first member
	isFull  int32         // others have begun the next group
	turn    chan struct{} // gets one value: the first member leads
	done    chan struct{} // closed when there are results
	result                // of all entries
	results []result      // of each member, if one has left or the group was refused
}

// content is copied when a member joins: by the goroutine that has it at hand, and while the disk is busy.
type content struct {
	members []member
	bytes   []byte // of all entries, one behind the other
	goes    []C.struct_go_entry
}

type member struct {
	bytes   int
	entries int // 0: it has left
}

type result struct {
	lsn uint64
	err error
}

func (all *together) append(ctx context.Context, log *Log, entries []Entry, size, room int) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	all.lock.Lock()
	g, i, before := all.join(entries, size, room)
	isLeader := !all.isLed
	all.isLed = true
	all.lock.Unlock()
	switch {
	case isLeader:
		all.lead(log, g)
	case i == 0:
		select {
		case <-g.turn:
			all.lead(log, g)
		case <-ctx.Done():
			if all.leave(log, g, i) {
				return 0, ctx.Err()
			}
			<-g.done
		}
	case ctx.Done() == nil:
		<-g.done
	default:
		select {
		case <-g.done:
		case <-ctx.Done():
			if all.leave(log, g, i) {
				return 0, ctx.Err()
			}
			<-g.done
		}
	}
	if g.results != nil {
		return g.results[i].lsn, g.results[i].err
	}
	if g.lsn == 0 {
		return 0, g.err
	}
	return g.lsn + uint64(before), g.err
}

// join [lock] returns the group, the member's place in it, and how many entries it has before.
func (all *together) join(entries []Entry, size, room int) (g *group, place, before int) {
	if count := len(all.groups); count > 0 {
		g = all.groups[count-1]
	}
	if g == nil || g.room+room > all.groupBytes || len(g.goes)+len(entries) > groupEntries {
		if g != nil {
			atomic.StoreInt32(&g.isFull, 1)
		}
		g = &group{content: all.spare, turn: make(chan struct{}, 1), done: make(chan struct{})}
		all.groups = append(all.groups, g)
		all.spare = content{}
	}
	place, before = len(g.members), len(g.goes)
	g.room += room
	g.members = append(g.members, member{size, len(entries)})
	for i := range entries {
		start := len(g.bytes)
		g.bytes = entries[i].appendTo(g.bytes)
		g.goes = append(g.goes, entries[i].inC(len(g.bytes)-start))
	}
	atomic.AddInt32(&g.live, 1)
	return g, place, before
}

// leave returns false if the member is being appended.
func (all *together) leave(log *Log, g *group, i int) bool {
	all.lock.Lock()
	defer all.lock.Unlock()
	if g.isTaken {
		return false
	}
	g.remove(i)
	atomic.AddInt32(&g.live, -1)
	if i == 0 {
		select {
		case <-g.turn:
			go all.lead(log, g)
		default:
			g.isLeft = true
		}
	}
	return true
}

// remove [lock] takes a member's entries out.
func (g *group) remove(i int) {
	bytes, goes := 0, 0
	for _, m := range g.members[:i] {
		bytes += m.bytes
		goes += m.entries
	}
	m := &g.members[i]
	g.bytes = append(g.bytes[:bytes], g.bytes[bytes+m.bytes:]...)
	g.goes = append(g.goes[:goes], g.goes[goes+m.entries:]...)
	*m = member{}
}

// handOn [lock] lets the first member of the next group lead, when so many members of this one are about to return.
func (all *together) handOn(log *Log, returning int) {
	all.isLed = len(all.groups) > 0
	all.expected = returning
	if all.isLed {
		all.expected += int(all.groups[0].live)
	}
	if all.isLed && all.groups[0].isLeft {
		go all.lead(log, all.groups[0])
	} else if all.isLed {
		all.groups[0].turn <- struct{}{}
	}
}

// lead appends the oldest group. All of its members may have left.
func (all *together) lead(log *Log, g *group) {
	all.gather(g)
	all.lock.Lock()
	g.isTaken = true
	all.groups = all.groups[1:]
	all.lock.Unlock()

	if g.live > 0 {
		began := time.Now()
		all.appendGroup(log, g)
		all.duration += (time.Since(began) - all.duration) / 8
	}
	all.lock.Lock()
	all.spare = content{g.members[:0], g.bytes[:0], g.goes[:0]}
	g.content = content{}
	all.handOn(log, int(g.live))
	all.lock.Unlock()
	close(g.done)
}

// gather yields to the goroutines that the leader before has woken, until as many have joined as then were appending;
// at the longest half of a commit. Without it they would miss each second group. Those that came back before this leader
// ran must not be expected again, nor those for which the group has no room: then every gathering would be in vain.
func (all *together) gather(g *group) {
	if all.skips > 0 {
		all.skips--
		return
	}
	if all.expected <= 1 {
		return
	}
	for began := time.Now(); int(atomic.LoadInt32(&g.live)) < all.expected && atomic.LoadInt32(&g.isFull) == 0; {
		for i := 0; i < 4; i++ {
			runtime.Gosched()
		}
		if time.Since(began) > all.duration/2 {
			if 4*int(atomic.LoadInt32(&g.live)) >= 3*all.expected {
				return // not in vain
			}
			all.vain = 2*all.vain + 1
			if all.vain > 64 {
				all.vain = 64
			}
			all.skips = all.vain
			return
		}
	}
	all.vain = 0
}

// appendGroup sets the results. A batch that is refused tells nothing of its parts: then each member goes alone.
func (all *together) appendGroup(log *Log, g *group) {
	g.lsn, g.err = log.callAppend(nil, g.bytes, g.goes, LevelDurable, 0, 0)
	isRefused := g.err != nil && g.lsn == 0 && g.live > 1
	if !isRefused && int(g.live) == len(g.members) {
		return
	}
	g.results = make([]result, len(g.members))
	bytes, goes, next := g.bytes, g.goes, g.result
	for i, m := range g.members {
		if isRefused && m.entries > 0 {
			next.lsn, next.err = log.callAppend(nil, bytes[:m.bytes], goes[:m.entries], LevelDurable, 0, 0)
			bytes, goes = bytes[m.bytes:], goes[m.entries:]
		}
		g.results[i] = next
		if next.lsn > 0 {
			next.lsn += uint64(m.entries)
		}
	}
}
