// SPDX-License-Identifier: Apache-2.0

// Package twinlograft stores the log, the term and the vote of a server of hashicorp/raft in a twinlog.
//
//	store, err := twinlograft.Open("server1/log", nil)
//	node, err := raft.NewRaft(config, fsm, store, store, snapshots, transport)
//
// A Store is a raft.LogStore, a raft.StableStore and, from raft 1.5 on, a raft.MonotonicLogStore. Entries are durable
// when StoreLogs returns, terms and votes when Set and SetUint64 return. The index of an entry is the LSN of its
// record; see entry.go for the bytes. Every method may be called by any goroutine, Close too; later calls get
// os.ErrClosed, but Close once more does nothing.
//
// After a failed write the Store goes on. What was acknowledged stays, and can be read; terms and votes can be
// stored. The next StoreLogs or DeleteRange opens the log again, and removes what the failed call may have left;
// where that fails it returns the error, and the call after it tries again. No other Store gets the directory between
// Open and Close, not while the log is opened again either: two servers must not give the votes of one.
package twinlograft

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	twinlog "example.org/twinlog/bindings/go"
)

// MaxEntryBytes is what the data and the extensions of one entry may have together. Larger ones are refused with
// EMSGSIZE, and nothing of their batch is stored.
const MaxEntryBytes = maxRecordBytes - headBytes

const (
	maxBufferBytes = 256 << 20 // of a log
	overheadBytes  = 8192      // of a buffer, and of a segment
	maxRecordBytes = maxBufferBytes - overheadBytes

	usualLockTimeout  = 10 * time.Second
	lockLook          = 10 * time.Millisecond // how often a locked directory is tried again
	usualSegmentBytes = 64 << 20

	// The cursor holds all entries: no other program trims the log, unless it is told to trim past cursors.
	holder = "raft"
)

// Options of Open. The zero value is what a server needs.
type Options struct {
	// LockTimeout is how long Open waits for another process to leave the directory and to close the log, such as a
	// server that was killed and is not quite gone; 0: ten seconds; less: not at all.
	LockTimeout time.Duration
	// SegmentBytes is the size of the largest file of the log; 0: 64 MiB. It is raised for entries that need more.
	SegmentBytes uint64
}

// Store is the storage of one server.
//
// Locks are taken in the order in which they stand here. A call that changes the log holds `change`, and `gate` for
// reading while it is in the log. What only reads the log holds `gate` alone; what reads or stores a vote, `values`,
// too.
type Store struct {
	dir     string
	options Options
	lock    *os.File // [const] the directory, with flock(): from Open to Close there is no other Store of it

	change      sync.Mutex
	recordBytes int  // [change] the largest record that the log takes, or will when it is opened again; 0: never opened
	isSuspect   bool // [change] a change has failed: what the log has may differ from `ends`
	// [change] A deletion of the newest entries has failed, and may have happened: the log may end here, too.
	mayEndAt    uint64
	isEndUnsure bool

	// Values that were read or set, by their key. What asks for a value waits while one is being set.
	values sync.Mutex
	known  map[string][]byte // [values]

	gate     sync.RWMutex
	log      *twinlog.Log // [gate] nil: closed, or it could not be opened again
	fallback *twinlog.Log // [gate] the log, open for reading: for entries and votes as long as `log` is nil
	isClosed bool         // [gate]

	ends sync.Mutex
	// [ends; changed with `change` held] The entries that are acknowledged and not deleted; 0 and 0 if there are none.
	first, last uint64
	newest      newest // [ends] of these
}

var _ raft.LogStore = (*Store)(nil)
var _ raft.StableStore = (*Store)(nil)

// Open opens the storage of a server in dir, and creates it where there is none; the directory that contains dir must
// exist. A limit of size, number or age that is stored in the log removes no entries. options may be nil.
//
// EBUSY: another server has the directory, or another program has the log open for writing, for longer than
// Options.LockTimeout. Otherwise errors are those of twinlog.Open, or say that the log does not hold entries of raft, or
// that the file system cannot lock a directory.
func Open(dir string, options *Options) (*Store, error) {
	s := &Store{dir: dir, known: map[string][]byte{}}
	if options != nil {
		s.options = *options
	}
	wait := s.options.LockTimeout
	switch {
	case wait == 0:
		wait = usualLockTimeout
	case wait < 0:
		wait = 0
	}
	deadline := time.Now().Add(wait)

	err := s.lockDirectory(deadline)
	if err == nil {
		s.log, err = s.openLog(timeUntil(deadline))
	}
	if err == nil {
		s.recordBytes = s.log.MaxRecordBytes()
		err = s.begin()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func timeUntil(deadline time.Time) time.Duration {
	if left := time.Until(deadline); left > 0 {
		return left
	}
	return 0
}

// lockDirectory makes the directory where there is none, and locks it. The lock that twinlog has on the log is not
// enough: it is free for a moment while reopen closes and opens the log, and for longer where that fails. The name of
// the directory is synced by twinlog.Open.
func (s *Store) lockDirectory(deadline time.Time) error {
	if err := os.Mkdir(s.dir, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	directory, err := os.OpenFile(s.dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer directory.Close()

	// A program that was started without standard input or output may put other files at 0 to 2 later, and the lock would
	// be gone. So it is kept at 3 or higher; it belongs to the open file, and stays when `directory` is closed.
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, directory.Fd(), syscall.F_DUPFD_CLOEXEC, 3)
	if errno != 0 {
		return &os.PathError{Op: "lock", Path: s.dir, Err: errno}
	}
	s.lock = os.NewFile(fd, s.dir)
	for {
		err := syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		isTaken := err == syscall.EWOULDBLOCK
		if isTaken && timeUntil(deadline) == 0 {
			err = fmt.Errorf("another server has it: %w", syscall.EBUSY)
			return &os.PathError{Op: "lock", Path: s.dir, Err: err}
		}
		if !isTaken && err != syscall.EINTR {
			err := fmt.Errorf("the file system may be one that cannot lock a directory, as NFS: %w", err)
			return &os.PathError{Op: "lock", Path: s.dir, Err: err}
		}
		time.Sleep(lockLook)
	}
}

// checkDirectory returns ESTALE if the name leads to another directory than the one that is locked, such as a backup
// that was put in its place, and has an old vote.
func (s *Store) checkDirectory() error {
	named, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	locked, err := s.lock.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(named, locked) {
		err = fmt.Errorf("another directory has this name by now: %w", syscall.ESTALE)
		return &os.PathError{Op: "open", Path: s.dir, Err: err}
	}
	return nil
}

// openLog makes the log where there is none, but not in the place of one that was open: that would be a server that has
// forgotten its vote.
func (s *Store) openLog(lockTimeout time.Duration) (*twinlog.Log, error) {
	if err := s.checkDirectory(); err != nil {
		return nil, err
	}
	options := twinlog.Options{LockTimeout: lockTimeout, NoRetention: true, SegmentBytes: s.options.SegmentBytes}
	options.MustExist = s.recordBytes > 0
	if options.SegmentBytes == 0 {
		options.SegmentBytes = usualSegmentBytes
	}
	if s.recordBytes > 0 {
		options.MaxRecordBytes = uint32(s.recordBytes)
		least := (uint64(s.recordBytes) + 2*overheadBytes + 4095) &^ 4095
		if options.SegmentBytes < least {
			options.SegmentBytes = least
		}
	}
	return twinlog.Open(s.dir, &options)
}

// begin takes the ends of a log that has just been opened for the first time.
func (s *Store) begin() error {
	first, last, _, err := s.log.Bounds()
	if err != nil {
		return err
	}
	if first == 0 {
		return s.log.SetCursor(holder, last)
	}
	s.first, s.last = first, last
	var entry raft.Log
	for _, index := range []uint64{first, last} {
		if err := s.GetLog(index, &entry); err != nil {
			return fmt.Errorf("twinlog: %s is no log of raft: entry %d of %d to %d: %w", s.dir, index, first, last, err)
		}
	}
	return s.log.SetCursor(holder, first-1)
}

// Close closes the log. Every entry and vote that was acknowledged is durable in any case. It waits for calls that
// are in the log. After an error it is closed, too; once more does nothing, and returns nil.
func (s *Store) Close() error {
	s.change.Lock()
	defer s.change.Unlock()
	s.gate.Lock()
	defer s.gate.Unlock()
	s.isClosed = true
	var err error
	if s.log != nil {
		err = s.log.Close()
	}
	if s.fallback != nil {
		s.fallback.Close()
	}
	s.log, s.fallback = nil, nil
	s.lock.Close() // last, so that nobody gets in before the log is closed; nil where Open has failed, which is no harm
	return err
}

// ---- the ends ----

// Bounds returns the indexes of the oldest and the newest entry, from one look; 0 and 0 if there are none.
func (s *Store) Bounds() (first, last uint64, err error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.isClosed {
		return 0, 0, os.ErrClosed
	}
	s.ends.Lock()
	defer s.ends.Unlock()
	return s.first, s.last, nil
}

// setEnds [change] tells readers which entries there are.
func (s *Store) setEnds(first, last uint64) {
	s.ends.Lock()
	defer s.ends.Unlock()
	if last < s.last {
		s.newest.forget() // another entry may get the same index
	}
	s.first, s.last = first, last
}

// addEntries [change] tells readers of entries that were stored.
func (s *Store) addEntries(entries []*raft.Log) {
	s.ends.Lock()
	defer s.ends.Unlock()
	for _, entry := range entries {
		s.newest.put(entry)
	}
	if s.first == 0 {
		s.first = entries[0].Index
	}
	s.last = entries[len(entries)-1].Index
}

// FirstIndex returns the index of the oldest entry, 0 if there is none.
func (s *Store) FirstIndex() (uint64, error) {
	first, _, err := s.Bounds()
	return first, err
}

// LastIndex returns the index of the newest entry, 0 if there is none.
func (s *Store) LastIndex() (uint64, error) {
	_, last, err := s.Bounds()
	return last, err
}

// IsMonotonic tells raft 1.5 and later that this store has no gaps between indexes. Raft then deletes all entries
// when it has installed a snapshot of a leader.
func (s *Store) IsMonotonic() bool { return true }

// ---- reading ----

// Memory for records, which are copied to entries of their own size: a second look for a record costs more than a
// copy of so many bytes. Larger ones are read into the entry's memory.
const scratchBytes = 32 << 10

var scratches = sync.Pool{New: func() interface{} { return new([scratchBytes]byte) }}

// GetLog fills in the entry of this index, with memory of its own. raft.ErrLogNotFound: there is none.
func (s *Store) GetLog(index uint64, entry *raft.Log) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	log, err := s.readable()
	if err != nil {
		return err
	}
	isThere, isFilled := s.recall(index, entry)
	if !isThere {
		return raft.ErrLogNotFound
	}
	if isFilled {
		return nil
	}

	memory := scratches.Get().(*[scratchBytes]byte)
	defer scratches.Put(memory)
	record, isInMemory, err := read(log.ReadInto, index, memory[:])
	if errors.Is(err, syscall.ERANGE) || errors.Is(err, twinlog.ErrTrimmed) {
		return raft.ErrLogNotFound // deleted meanwhile
	}
	if err != nil {
		return err
	}
	return decodeEntry(&record, isInMemory, entry)
}

// read returns a record that is in `memory`, or in memory of its own where it is larger than that. A larger record may
// take the place of one that is deleted, again and again.
func read(readInto func(uint64, []byte) (twinlog.Record, int, error), index uint64, memory []byte) (
	record twinlog.Record, isInMemory bool, err error) {
	record, size, err := readInto(index, memory)
	isInMemory = true
	for errors.Is(err, syscall.ENOBUFS) {
		record, size, err = readInto(index, make([]byte, size))
		isInMemory = false
	}
	return record, isInMemory, err
}

// recall fills in the entry if it is remembered.
func (s *Store) recall(index uint64, entry *raft.Log) (isThere, isFilled bool) {
	s.ends.Lock()
	defer s.ends.Unlock()
	if index == 0 || index < s.first || index > s.last {
		return false, false
	}
	return true, s.newest.get(index, entry)
}

// readable [gate] returns the log, or the one that is open for reading.
func (s *Store) readable() (*twinlog.Log, error) {
	switch {
	case s.isClosed:
		return nil, os.ErrClosed
	case s.log != nil:
		return s.log, nil
	case s.fallback != nil:
		return s.fallback, nil
	}
	return nil, fmt.Errorf("twinlog: %s could not be opened again: %w", s.dir, errNotOpen)
}

var errNotOpen = errors.New("the log is not open")

// ---- storing ----

// StoreLog stores one entry, as StoreLogs.
func (s *Store) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs stores entries with consecutive indexes, all of them durable on return. The first one follows the newest
// entry; or any index may be the first one in an empty store. An index that leaves a gap behind the newest entry
// begins the store anew there, without the entries before: raft leaves one only where it has installed a snapshot,
// which stands for them.
//
// After an error none of the entries is stored as far as this Store says. After a crash a beginning of them may be
// there, whether there was an error or not; behind a gap the store may be empty then. EMSGSIZE: an entry is larger than
// MaxEntryBytes. EINVAL: the indexes are not consecutive, or are there already.
func (s *Store) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	largest, err := checkEntries(entries)
	if err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()
	if err = s.heal(largest); err != nil {
		return err
	}
	index := entries[0].Index
	if index <= s.last {
		return fmt.Errorf("twinlog: entry %d is stored already, the newest is %d: %w", index, s.last, syscall.EINVAL)
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	if err = s.makeNext(index); err == nil {
		err = s.append(entries)
	}
	if err != nil {
		s.suspect()
		return err
	}
	s.addEntries(entries)
	return nil
}

// checkEntries returns the size of the largest record.
func checkEntries(entries []*raft.Log) (largest int, err error) {
	for i, entry := range entries {
		if entry.Index == 0 || entry.Index >= math.MaxInt64 || entry.Index != entries[0].Index+uint64(i) {
			return 0, fmt.Errorf("twinlog: entry %d does not follow the one before it, or is out of range: %w", entry.Index,
				syscall.EINVAL)
		}
		size := entryBytes(entry)
		if size > maxRecordBytes {
			return 0, fmt.Errorf("twinlog: entry %d has %d bytes, and may have %d: %w", entry.Index, size-headBytes,
				MaxEntryBytes, syscall.EMSGSIZE)
		}
		if size > largest {
			largest = size
		}
	}
	return largest, nil
}

// makeNext [change, gate] lets the next record of the log be that of `index`, where the store is empty or there is a
// gap.
func (s *Store) makeNext(index uint64) error {
	if s.last > 0 && index == s.last+1 {
		return nil
	}
	first, last, _, err := s.log.Bounds()
	if err != nil {
		return err
	}
	if s.last == 0 && first == 0 && last+1 == index {
		return nil
	}
	if err = s.log.Reset(index); err != nil {
		s.mayEndAt, s.isEndUnsure = 0, true
		return err
	}
	s.setEnds(0, 0)
	return nil
}

// append [change, gate] appends the entries in as many batches as they need. The last one is durable on return, and
// so are those before it.
func (s *Store) append(entries []*raft.Log) error {
	room := s.log.MaxBatchBytes()
	batch := make([]twinlog.Entry, 0, len(entries))
	index, bytes := entries[0].Index, 0
	flush := func(level twinlog.Level) error {
		lsn, err := s.log.AppendBatch(context.Background(), batch, twinlog.Terms{Level: level})
		if err == nil && lsn != index {
			err = fmt.Errorf("twinlog: entry %d became record %d: another program writes %s", index, lsn, s.dir)
		}
		index, bytes = index+uint64(len(batch)), 0
		batch = batch[:0]
		return err
	}
	for _, entry := range entries {
		need := twinlog.BatchBytes(entryBytes(entry))
		if len(batch) > 0 && bytes+need > room {
			if err := flush(twinlog.LevelBuffered); err != nil {
				return err
			}
		}
		batch = append(batch, encodeEntry(entry))
		bytes += need
	}
	return flush(twinlog.LevelDurable)
}

// ---- deleting ----

// DeleteRange deletes the entries with the indexes from min to max, both included, which must be all, the oldest or
// the newest ones. It is durable on return. Indexes for which there is no entry are passed over. EINVAL: the entries
// are in the middle, where a hole would be left.
//
// After an error the oldest entries are there or not, one by one. The newest ones are there, all of them or none: the
// next call finds out.
func (s *Store) DeleteRange(min, max uint64) error {
	s.change.Lock()
	defer s.change.Unlock()
	if err := s.heal(0); err != nil {
		return err
	}
	first, last := s.first, s.last
	switch {
	case min > max:
		return fmt.Errorf("twinlog: %d to %d is no range of entries: %w", min, max, syscall.EINVAL)
	case last == 0 || max < first || min > last:
		return nil
	case min > first && max < last:
		return fmt.Errorf("twinlog: without the entries %d to %d there would be a hole in %d to %d: %w", min, max,
			first, last, syscall.EINVAL)
	case min <= first && max < last:
		return s.deleteOldest(max)
	}
	return s.deleteNewest(min)
}

// deleteOldest [change] keeps what is newer than max.
func (s *Store) deleteOldest(max uint64) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.setEnds(max+1, s.last)
	_, err := s.log.Change(context.Background(), twinlog.Change{TrimBefore: max + 1, TrimPastCursors: true})
	if err != nil {
		s.suspect()
		if first := s.log.FirstLSN(); first > 0 {
			s.setEnds(first, s.last)
		}
	}
	return err
}

// deleteNewest [change] keeps what is older than min. Where a failure leaves it unknown whether it has happened, the
// log is opened again at once, and it is made to happen.
func (s *Store) deleteNewest(min uint64) error {
	first, last := s.first, s.last
	end := min - 1
	if min <= first {
		end = 0
	}
	err := s.tryDeleteNewest(end, last)
	if err == nil {
		return nil
	}
	s.suspect()
	if s.heal(0) == nil {
		return nil
	}
	s.setEnds(first, last)
	s.mayEndAt, s.isEndUnsure = end, true
	return err
}

// tryDeleteNewest [change] does it once.
func (s *Store) tryDeleteNewest(end, last uint64) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if end == 0 {
		s.setEnds(0, 0)
		return s.log.Reset(last + 1)
	}
	s.setEnds(s.first, end)
	return s.log.Truncate(end)
}

// ---- after a failure ----

// heal [change] lets the log have what `ends` says and no more, where a change has failed; and lets it take a record
// of `largest` bytes. On return the log is open, or there is an error.
func (s *Store) heal(largest int) error {
	isTooSmall := largest > s.recordBytes
	if !isTooSmall && !s.isSuspect {
		_, _, err := s.Bounds() // whether it is closed; it waits for no vote that is being stored
		return err
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.isClosed {
		return os.ErrClosed
	}
	before := s.recordBytes
	if isTooSmall {
		s.recordBytes = roomFor(largest, s.recordBytes)
	}
	if err := s.reopen(isTooSmall); err != nil {
		s.recordBytes = before // there may be no memory for larger entries
		return err
	}
	if err := s.cut(); err != nil {
		return err
	}
	s.isSuspect, s.isEndUnsure = false, false
	return nil
}

// suspect [change] is called when a change has failed. From here on readers see what the log has.
func (s *Store) suspect() {
	s.isSuspect = true
	s.ends.Lock()
	defer s.ends.Unlock()
	s.newest.forget()
}

// roomFor doubles the room, so that entries which grow step by step open the log again a few times only.
func roomFor(largest, room int) int {
	for room < largest {
		room *= 2
	}
	if room > maxRecordBytes {
		room = maxRecordBytes
	}
	return room
}

// reopen [gate] opens the log again if it must be, or else if it is poisoned. If that fails, the log is opened for
// reading.
func (s *Store) reopen(mustBe bool) error {
	if s.log != nil {
		stat, err := s.log.Stat()
		if !mustBe && err == nil && stat.Poison == nil {
			return nil
		}
		s.suspect()
		s.log.Close() // its error is what has poisoned it
		s.log = nil
	}
	log, err := s.openLog(0)
	if err != nil {
		s.openForReading()
		return fmt.Errorf("twinlog: the log cannot be opened again: %w", err)
	}
	s.log = log
	if s.fallback != nil {
		s.fallback.Close()
		s.fallback = nil
	}
	return nil
}

// openForReading [gate] leaves `fallback` nil where that fails, too.
func (s *Store) openForReading() {
	if s.fallback == nil && s.checkDirectory() == nil {
		s.fallback, _ = twinlog.Open(s.dir, &twinlog.Options{ReadOnly: true})
	}
}

// cut [change, gate] compares the log with `ends`, and removes what a failed StoreLogs has left.
func (s *Store) cut() error {
	first, last, _, err := s.log.Bounds()
	if err != nil {
		return err
	}
	if first == 0 {
		last = 0
	}
	if s.isEndUnsure && last < s.last && last >= s.mayEndAt {
		s.setEnds(first, last) // the deletion has happened
	}
	if last < s.last {
		return fmt.Errorf("twinlog: %s ends with entry %d, and entry %d was acknowledged: %w", s.dir, last, s.last,
			twinlog.ErrCorrupt)
	}
	if s.last == 0 {
		if last == 0 {
			return nil
		}
		return s.log.Reset(last + 1)
	}
	s.setEnds(first, s.last)
	return s.log.Truncate(s.last)
}
