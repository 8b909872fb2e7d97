// SPDX-License-Identifier: Apache-2.0

// Package twinlog is a durable, group-committing log in a directory: Go over libtwinlog.
//
//	log, err := twinlog.Open("journal", nil)
//	lsn, err := log.Append(ctx, []byte("hello")) // on stable storage
//
// Goroutines that append at the same time share one write and one sync. Hundreds of them may wait in Append: they wait
// on channels, not in C, so they take no threads; nor do those that wait for records, but for one of each log. Every
// method may be called by any goroutine, Close too: it waits for calls that are in C, and later ones get os.ErrClosed.
// A Reader and a Consumer serve one call at a time. Close what was opened: nothing is closed by the garbage collector.
// A Sink is a plain file without a log. The manual is that of <twinlog.h> and <twinlog_sink.h>.
package twinlog

/*
#cgo pkg-config: twinlog
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog_admin.h>

static int go_open(const char *dir, struct twinlog_options *options, struct twinlog_report *report, struct twinlog **log)
{
	options->ret_report = report;
	return twinlog_open(dir, options, log);
}

// One look at the ends of a log. A truncation and a reset begin an epoch: where the epoch and the oldest record are the
// same before and behind a look, nothing was removed during it, and records that came meanwhile only move the end.
struct go_bounds {
	uint64_t first_lsn, last_lsn, durable_lsn;
	int rc;
};

static struct go_bounds go_bounds(struct twinlog *log)
{
	struct go_bounds all = { 0 };
	struct twinlog_stat before = TWINLOG_STAT_INIT, after = TWINLOG_STAT_INIT;
	all.rc = twinlog_stat(log, &after);
	do {
		before = after;
		if (all.rc == 0)
			all.rc = twinlog_stat(log, &after);
	} while (all.rc == 0 && (before.epoch != after.epoch || before.first_lsn != after.first_lsn));
	all.first_lsn = before.first_lsn;
	all.last_lsn = before.last_lsn;
	all.durable_lsn = before.durable_lsn < before.last_lsn ? before.durable_lsn : before.last_lsn;
	return all;
}

// The statistics of a log that is open for reading tell no error of reading it; a reader does.
static struct go_bounds go_bounds_read(struct twinlog *log)
{
	struct go_bounds all = { 0 };
	struct twinlog_reader *reader;
	const uint64_t durable_lsn = twinlog_durable_lsn(log);
	all.rc = twinlog_reader_attach(log, NULL, &reader);
	if (all.rc < 0)
		return all;
	all.rc = twinlog_reader_range(reader, &all.first_lsn, &all.last_lsn);
	twinlog_reader_close(reader);
	all.durable_lsn = durable_lsn < all.last_lsn ? durable_lsn : all.last_lsn;
	return all;
}

// A record without the pointer to its bytes, which are Go's.
struct go_record {
	uint64_t lsn;
	int64_t time_ns;
	size_t size;
	uint16_t tag;
	uint8_t type;
	int rc;
};

// Parameters of types for which Go allocates nothing.
static struct go_record go_read(void *log, uint64_t lsn, unsigned char *memory, size_t room)
{
	struct twinlog_record record = { 0 };
	const int rc = twinlog_read(log, lsn, memory, room, &record);
	return (struct go_record){ record.lsn, record.time_ns, record.size, record.tag, record.type, rc };
}

static int go_meta_set(struct twinlog *log, const char *name, const unsigned char *data, size_t size)
{
	return twinlog_meta_set(log, name, data, size);
}

// An edit. Its name, with its NUL, and its value lie one behind the other in the bytes of all edits.
struct go_edit {
	uint64_t lsn;
	size_t name_size, size;
	uint32_t kind;
};

static int go_change(struct twinlog *log, const char *bytes, const struct go_edit *goes, uint32_t count, uint32_t flags,
                     uint64_t trim_before_lsn, uint64_t durable_lsn, uint32_t timeout_ms, uint64_t *first_lsn)
{
	struct twinlog_change change = TWINLOG_CHANGE_INIT;
	struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
	struct twinlog_edit *edits = calloc(count + 1, sizeof(*edits));
	if (!edits)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		edits[i].kind = goes[i].kind;
		edits[i].name = bytes;
		edits[i].lsn = goes[i].lsn;
		edits[i].size = goes[i].size;
		if (goes[i].size > 0)
			edits[i].data = bytes + goes[i].name_size;
		bytes += goes[i].name_size + goes[i].size;
	}
	change.flags = flags;
	change.edits = edits;
	change.edit_count = count;
	change.trim_before_lsn = trim_before_lsn;
	change.durable_lsn = durable_lsn;
	change.deadline_ns = twinlog_deadline(timeout_ms);
	const int rc = twinlog_change(log, &change, &result);
	free(edits);
	*first_lsn = rc == 0 && trim_before_lsn > 0 ? result.first_lsn : 0;
	return rc;
}

// `log` NULL: the reader opens the directory.
static int go_reader_open(struct twinlog *log, const char *dir, uint64_t from_lsn, struct twinlog_report *report,
                          struct twinlog_reader **reader)
{
	struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
	options.from_lsn = from_lsn;
	options.ret_report = report;
	return log ? twinlog_reader_attach(log, &options, reader) : twinlog_reader_open(dir, &options, reader);
}

static int go_consumer_open(const char *dir, const char *name, struct twinlog_report *report, struct twinlog_consumer **consumer)
{
	struct twinlog_consumer_options options = TWINLOG_CONSUMER_OPTIONS_INIT;
	options.ret_report = report;
	return twinlog_consumer_open(dir, name, &options, consumer);
}

// Returns a descriptor that Go closes, and a reader that makes it readable.
static int go_watch(const char *dir, struct twinlog_reader **reader)
{
	int rc = twinlog_reader_open(dir, NULL, reader);
	if (rc < 0)
		return rc;
	rc = twinlog_reader_fd(*reader);
	if (rc >= 0 && (rc = fcntl(rc, F_DUPFD_CLOEXEC, 3)) < 0)
		rc = -errno;
	if (rc < 0)
		twinlog_reader_close(*reader);
	return rc;
}

// Returns 0, and from then on the descriptor is readable when there is something new; 1 if there is already; or an error.
static int go_arm(struct twinlog_reader *reader)
{
	struct twinlog_record record;
	int rc = twinlog_reader_seek_end(reader);
	return rc < 0 ? rc : twinlog_reader_next(reader, &record);
}

static struct twinlog_options go_options(void) { return (struct twinlog_options)TWINLOG_OPTIONS_INIT; }
static struct twinlog_trim_options go_trim_options(void) { return (struct twinlog_trim_options)TWINLOG_TRIM_OPTIONS_INIT; }
static struct twinlog_trim_result go_trim_result(void) { return (struct twinlog_trim_result)TWINLOG_TRIM_RESULT_INIT; }
static struct twinlog_stat go_stat(void) { return (struct twinlog_stat)TWINLOG_STAT_INIT; }

// The cursors, collected: C calls no Go here.
struct go_cursors {
	size_t count, room;
	struct go_cursor { uint64_t lsn; char name[TWINLOG_NAME_BYTES]; } *cursor;
};

static int go_add_cursor(void *context, const char *name, uint64_t lsn)
{
	struct go_cursors *all = context;
	if (all->count == all->room) {
		size_t room = all->room ? 2 * all->room : 16;
		void *larger = realloc(all->cursor, room * sizeof(*all->cursor));
		if (!larger)
			return -ENOMEM;
		all->cursor = larger;
		all->room = room;
	}
	all->cursor[all->count].lsn = lsn;
	strncpy(all->cursor[all->count].name, name, TWINLOG_NAME_BYTES - 1);
	all->cursor[all->count++].name[TWINLOG_NAME_BYTES - 1] = 0;
	return 0;
}

static int go_cursor_each(struct twinlog *log, struct go_cursors *all) { return twinlog_cursor_each(log, go_add_cursor, all); }
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Error is a number of the library: an errno, negative, or one of the constants below. errors.Is(err, syscall.ENOSPC)
// works, too.
type Error int

// The library's own numbers.
const (
	ErrCorrupt   = Error(C.TWINLOG_ECORRUPT)   // acknowledged data is damaged
	ErrPoisoned  = Error(C.TWINLOG_EPOISONED)  // a write or sync has failed; close the log and open it again
	ErrVersion   = Error(C.TWINLOG_EVERSION)   // of a newer format
	ErrTrimmed   = Error(C.TWINLOG_ETRIMMED)   // removed from the head of the log
	ErrForked    = Error(C.TWINLOG_EFORKED)    // opened by the parent process
	ErrForeign   = Error(C.TWINLOG_EFOREIGN)   // a segment is another log's
	ErrTruncated = Error(C.TWINLOG_ETRUNCATED) // records that were read are removed from the end
)

func (e Error) Error() string { return C.GoString(C.twinlog_strerror(C.int(e))) }

// Is says whether the error has this errno, or is one of those of package os that stand for some, as os.ErrNotExist.
func (e Error) Is(target error) bool {
	errno, ok := target.(syscall.Errno)
	return ok && int(e) == -int(errno) || !ok && syscall.Errno(-e).Is(target)
}

func check(rc C.int) error {
	if rc < 0 {
		return Error(rc)
	}
	return nil
}

// Report is where the library found something, and what to do. 0 and "" stand for unknown and none.
type Report struct {
	File                   string // in the log's directory
	Text                   string // the same in words, with what to do next
	Segment, Offset, Bytes uint64 // sequence of the segment; offset and bytes in its file
	FirstLSN, LastLSN      uint64 // concerned; with ErrTrimmed and ErrTruncated FirstLSN is where to go on
}

// ReportError is an error of Open, of a Reader or a Consumer that has a report: errors.As finds it, and the *os.PathError
// around it, errors.Is its Err.
type ReportError struct {
	Err    Error
	Report Report
}

func (e *ReportError) Error() string {
	text, r := e.Report.Text, &e.Report
	if number := e.Err.Error(); !strings.Contains(text, number) {
		text = number + ": " + text
	}
	if e.Err == ErrTrimmed || e.Err == ErrTruncated {
		return text // it says where to go on
	}
	place := r.File
	if r.Segment > 0 {
		place += fmt.Sprintf(", offset %d", r.Offset)
	}
	if place != "" && r.FirstLSN > 0 {
		place += fmt.Sprintf(", LSN %d", r.FirstLSN)
	}
	if place != "" && r.LastLSN > r.FirstLSN {
		place += fmt.Sprintf(" to %d", r.LastLSN)
	}
	if place != "" {
		text = place + ": " + text
	}
	return text
}
func (e *ReportError) Unwrap() error { return e.Err }

// report is memory for a report of C, which must not be Go's.
type report struct{ c *C.struct_twinlog_report }

func newReport() report {
	return report{(*C.struct_twinlog_report)(C.calloc(1, C.sizeof_struct_twinlog_report))}
}
func (r report) free() { C.free(unsafe.Pointer(r.c)) }

// check says what was done with which log.
func (r report) check(op, dir string, rc C.int) error {
	if rc >= 0 {
		return nil
	}
	if r.c.error != C.int32_t(rc) || r.c.text[0] == 0 {
		return &os.PathError{Op: op, Path: dir, Err: Error(rc)}
	}
	report := Report{C.GoString(&r.c.file[0]), C.GoString(&r.c.text[0]), uint64(r.c.segment),
		uint64(r.c.offset), uint64(r.c.bytes), uint64(r.c.first_lsn), uint64(r.c.last_lsn)}
	return &os.PathError{Op: op, Path: dir, Err: &ReportError{Error(rc), report}}
}

// Mode is how records reach the disk.
type Mode uint32

const (
	Durable = Mode(C.TWINLOG_MODE_DURABLE) // an append returns when its record is on stable storage
	Mapped  = Mode(C.TWINLOG_MODE_MAPPED)  // an append is a copy to a mapped file; Sync makes it durable
	Shared  = Mode(C.TWINLOG_MODE_SHARED)  // the same for up to 255 processes
)

// Level is how safe a record is when an append returns. The zero value is that of the mode.
type Level uint32

const (
	LevelBuffered = Level(C.TWINLOG_LEVEL_BUFFERED) // in this process's memory
	LevelWritten  = Level(C.TWINLOG_LEVEL_WRITTEN)  // survives this process
	LevelDurable  = Level(C.TWINLOG_LEVEL_DURABLE)  // survives a power cut
)

// Options of Open. Zero is each one's default.
type Options struct {
	Mode           Mode
	ReadOnly       bool
	MustExist      bool
	SegmentBytes   uint64
	BufferBytes    uint32
	MaxRecordBytes uint32
	LockTimeout    time.Duration // how long to wait for another writer to close; OpenContext waits until its context ends
	KeepBytes      uint64        // retention, by whole segments; 0 is the limit that is kept in the log, if there is one
	KeepRecords    uint64
	KeepAge        time.Duration
	NoRetention    bool          // no limit removes records, not even one that is kept in the log; EINVAL beside a limit
	FlushInterval  time.Duration // what is not durable yet becomes so after this time
	Committer      *Committer    // that commits for this log; nil: the goroutines that append do
}

func milliseconds(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64((d-1)/time.Millisecond) + 1
}

func milliseconds32(d time.Duration) C.uint32_t {
	if ms := milliseconds(d); ms < 1<<32 {
		return C.uint32_t(ms)
	}
	return 1<<32 - 1
}

var errCommitter = fmt.Errorf("its committer: %w", os.ErrClosed)

// Committer is one thread that commits for many logs: for a service with hundreds of groups, with small buffers and
// segments.
type Committer struct {
	gate sync.RWMutex                // an Open holds it for reading, Close for writing
	c    *C.struct_twinlog_committer // [gate] nil: closed
}

// OpenCommitter starts a committer, for Options.Committer.
func OpenCommitter() (*Committer, error) {
	committer := &Committer{}
	if err := check(C.twinlog_committer_open(nil, &committer.c)); err != nil {
		return nil, err
	}
	return committer, nil
}

// Close ends the thread. While logs are open with the committer it is EBUSY, and nothing has happened.
func (committer *Committer) Close() error {
	committer.gate.Lock()
	defer committer.gate.Unlock()
	err := check(C.twinlog_committer_close(committer.c))
	if e, ok := err.(Error); ok && e.Is(syscall.EBUSY) {
		return err
	}
	committer.c = nil
	return err
}

// Log is an open log.
type Log struct {
	gate      sync.RWMutex      // a call holds it for reading while it is in C, Close for writing
	c         *C.struct_twinlog // [gate] nil: closed
	isEnded   bool              // [gate] by Close, and not only by a Reopen that failed
	dir       string
	options   Options
	isDurable bool // the mode, and it may append
	together  together
}

// Open opens the log in dir, and creates it where there is none. options may be nil.
func Open(dir string, options *Options) (*Log, error) {
	if options == nil {
		options = &Options{}
	}
	log := &Log{dir: dir, options: *options, isDurable: options.Mode == Durable && !options.ReadOnly}
	log.together.limit(options)
	if err := log.open(options.LockTimeout); err != nil {
		return nil, err
	}
	log.options.MustExist = true // an empty log in its place would not be this one
	return log, nil
}

// OpenContext is Open, but waits for another writer until ctx is done, in place of LockTimeout. The error is that of ctx
// then, in an *os.PathError. Only this wait ends with ctx: a recovery that has begun is finished. In the mode Shared the
// error may come up to 30 s late, while another process opens or closes the log.
func OpenContext(ctx context.Context, dir string, options *Options) (*Log, error) {
	own := Options{}
	if options != nil {
		own = *options
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		own.LockTimeout = roomWait
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < roomWait {
			own.LockTimeout = max(time.Until(deadline), time.Millisecond)
		}
		log, err := Open(dir, &own)
		if !errors.Is(err, syscall.EBUSY) {
			return log, err
		}
	}
}

// Reopen closes the log and opens it again with its options, as a log needs that is poisoned: opening decides which of the
// records and changes with an unknown result have happened. It waits for calls that are in C; others wait for it, and go
// on with the log that was opened, an Append that waited for its turn, too. If it cannot be opened the log stays closed:
// calls get os.ErrClosed, and Reopen may be called again. It makes no log: where the directory is gone it is ENOENT. Readers
// of this log must be closed before, or it is EBUSY, and nothing has happened. After Close it is os.ErrClosed. The error that
// had poisoned the log is not returned: see Stat.
func (log *Log) Reopen() error {
	log.gate.Lock()
	defer log.gate.Unlock()
	if log.isEnded {
		return os.ErrClosed
	}
	if log.c != nil {
		err := check(C.twinlog_close(log.c))
		if e, ok := err.(Error); ok && e.Is(syscall.EBUSY) {
			return err
		}
		log.c = nil
	}
	return log.open(log.options.LockTimeout)
}

// open sets the log of C. Nobody else has this log, or the gate is locked for writing.
func (log *Log) open(lockTimeout time.Duration) error {
	options := &log.options
	c := C.go_options()
	c.mode = C.uint32_t(options.Mode)
	if options.ReadOnly {
		c.flags |= C.TWINLOG_READ_ONLY
	}
	if options.MustExist {
		c.flags |= C.TWINLOG_MUST_EXIST
	}
	c.segment_bytes = C.uint64_t(options.SegmentBytes)
	c.buffer_bytes = C.uint32_t(options.BufferBytes)
	c.max_record_bytes = C.uint32_t(options.MaxRecordBytes)
	c.lock_timeout_ms = milliseconds32(lockTimeout)
	c.keep_bytes = C.uint64_t(options.KeepBytes)
	c.keep_records = C.uint64_t(options.KeepRecords)
	c.keep_age_ms = C.uint64_t(milliseconds(options.KeepAge))
	c.flush_interval_ms = milliseconds32(options.FlushInterval)

	hasLimit := options.KeepBytes > 0 || options.KeepRecords > 0 || options.KeepAge > 0
	if options.NoRetention && hasLimit {
		return &os.PathError{Op: "open", Path: log.dir, Err: Error(-C.EINVAL)}
	}
	if options.NoRetention {
		c.keep_bytes, c.keep_records, c.keep_age_ms = 1<<64-1, 1<<64-1, 1<<64-1
	}
	for _, d := range []time.Duration{lockTimeout, options.KeepAge, options.FlushInterval} {
		if d < 0 {
			return &os.PathError{Op: "open", Path: log.dir, Err: Error(-C.EINVAL)}
		}
	}
	path, err := cPath(log.dir)
	if err != nil {
		return err
	}
	defer C.free(unsafe.Pointer(path))
	if committer := options.Committer; committer != nil {
		committer.gate.RLock()
		defer committer.gate.RUnlock()
		if committer.c == nil {
			return &os.PathError{Op: "open", Path: log.dir, Err: errCommitter}
		}
		c.committer = committer.c
	}
	report := newReport()
	defer report.free()
	return report.check("open", log.dir, C.go_open(path, &c, report.c, &log.c))
}

// call calls C, which does not return before the log may be closed; os.ErrClosed if it is.
func (log *Log) call(in func(c *C.struct_twinlog) error) error {
	log.gate.RLock()
	defer log.gate.RUnlock()
	if log.c == nil {
		return os.ErrClosed
	}
	return in(log.c)
}

// Close waits for calls that are in C, makes everything durable that was accepted, and closes the log. Readers of this
// log must be closed before. After an error the log is still open if it is EBUSY, else it is closed.
func (log *Log) Close() error {
	log.gate.Lock()
	defer log.gate.Unlock()
	if log.c == nil {
		log.isEnded = true
		return nil
	}
	err := check(C.twinlog_close(log.c))
	if e, ok := err.(Error); ok && e.Is(syscall.EBUSY) {
		return err
	}
	log.c = nil
	log.isEnded = true
	return err
}

// Wait returns when every record up to lsn is at the level (the zero Level: that of the mode), or ctx is done.
func (log *Log) Wait(ctx context.Context, lsn uint64, level Level) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := log.call(func(c *C.struct_twinlog) error {
			return check(C.twinlog_wait(c, C.uint64_t(lsn), uint32(level), C.twinlog_deadline(milliseconds32(roomWait))))
		})
		if err != Error(-C.ETIMEDOUT) {
			return err
		}
	}
}

// Sync returns when everything accepted before is durable.
func (log *Log) Sync() error {
	return log.call(func(c *C.struct_twinlog) error { return check(C.twinlog_sync(c)) })
}

// SetFlushInterval replaces Options.FlushInterval of this handle: what was accepted and is not durable yet becomes durable
// within this time. 0 ends the flushes. The log does not keep it.
func (log *Log) SetFlushInterval(interval time.Duration) error {
	if interval < 0 {
		return Error(-C.EINVAL)
	}
	return log.call(func(c *C.struct_twinlog) error {
		return check(C.twinlog_set_flush_interval(c, milliseconds32(interval)))
	})
}

func (log *Log) lsn(of func(c *C.struct_twinlog) C.uint64_t) (lsn uint64) {
	log.call(func(c *C.struct_twinlog) error { lsn = uint64(of(c)); return nil })
	return lsn
}

// FirstLSN is the oldest LSN that is kept, LastLSN the newest accepted, WrittenLSN the newest that survives this process,
// DurableLSN the newest on stable storage; 0 = none, or the log is closed.
func (log *Log) FirstLSN() uint64 {
	return log.lsn(func(c *C.struct_twinlog) C.uint64_t { return C.twinlog_first_lsn(c) })
}
func (log *Log) LastLSN() uint64 {
	return log.lsn(func(c *C.struct_twinlog) C.uint64_t { return C.twinlog_last_lsn(c) })
}
func (log *Log) WrittenLSN() uint64 {
	return log.lsn(func(c *C.struct_twinlog) C.uint64_t { return C.twinlog_written_lsn(c) })
}
func (log *Log) DurableLSN() uint64 {
	return log.lsn(func(c *C.struct_twinlog) C.uint64_t { return C.twinlog_durable_lsn(c) })
}

// Bounds returns from one look the LSNs of the oldest record, of the newest that was accepted and of the newest durable one,
// where FirstLSN and the others look one by one, and return 0 for an error. first is 0 if there is no record that readers
// see. Where all were removed, durable is the next LSN less one. A poisoned log has bounds, too. In a log that is open for
// reading, last is the newest that readers see, and all are 0 if there is none.
func (log *Log) Bounds() (first, last, durable uint64, err error) {
	var all C.struct_go_bounds
	err = log.call(func(c *C.struct_twinlog) error {
		if log.options.ReadOnly {
			all = C.go_bounds_read(c)
		} else {
			all = C.go_bounds(c)
		}
		return check(all.rc)
	})
	if err != nil {
		return 0, 0, 0, err
	}
	return uint64(all.first_lsn), uint64(all.last_lsn), uint64(all.durable_lsn), nil
}

// Stat is how the log is doing; counters start when it is opened.
type Stat struct {
	Mode                    Mode
	Poison                  error // what has poisoned the log
	Segments, SpareSegments uint32
	FirstLSN, LastLSN       uint64
	WrittenLSN, DurableLSN  uint64
	FileBytes               uint64 // all segment files
	Appends, AppendBytes    uint64
	Groups, GroupBytes      uint64
	WrittenBytes, Syncs     uint64 // to the device
	Rolls, RollWaits        uint64
	// Appends that failed: the disk was full, it was read-only, a limit was reached, the log was poisoned, or another error.
	FullFailures, ReadOnlyFailures, LimitFailures, PoisonFailures, OtherFailures uint64
	TrimFailures                                                                 uint64 // times that retention could not look at, or move, the head
	TrimmedSegments, RecycledSegments                                            uint64
	InFlight                                                                     uint64
	IOReason                                                                     string // why this way to write and no earlier one
}

// Stat returns statistics.
func (log *Log) Stat() (Stat, error) {
	c := C.go_stat()
	err := log.call(func(log *C.struct_twinlog) error { return check(C.twinlog_stat(log, &c)) })
	if err != nil {
		return Stat{}, err
	}
	return Stat{
		Mode: Mode(c.mode), Poison: check(C.int(c.poison)), Segments: uint32(c.segments),
		SpareSegments: uint32(c.spare_segments), FirstLSN: uint64(c.first_lsn), LastLSN: uint64(c.last_lsn),
		WrittenLSN: uint64(c.written_lsn), DurableLSN: uint64(c.durable_lsn), FileBytes: uint64(c.file_bytes),
		Appends: uint64(c.appends), AppendBytes: uint64(c.append_bytes), Groups: uint64(c.groups),
		GroupBytes: uint64(c.group_bytes), WrittenBytes: uint64(c.written_bytes), Syncs: uint64(c.syncs),
		Rolls: uint64(c.rolls), RollWaits: uint64(c.roll_waits),
		FullFailures: uint64(c.full_failures), ReadOnlyFailures: uint64(c.read_only_failures),
		LimitFailures: uint64(c.limit_failures), PoisonFailures: uint64(c.poison_failures),
		OtherFailures: uint64(c.other_failures), TrimFailures: uint64(c.trim_failures),
		TrimmedSegments: uint64(c.trimmed_segments), RecycledSegments: uint64(c.recycled_segments),
		InFlight: uint64(c.requests), IOReason: C.GoString(&c.io_reason[0]),
	}, nil
}

// ---- removing ----

// Trim removes every record with a smaller LSN, but not what a named cursor has not passed. It returns the oldest LSN
// that is kept.
func (log *Log) Trim(beforeLSN uint64) (firstLSN uint64, err error) {
	options := C.go_trim_options()
	result := C.go_trim_result()
	options.before_lsn = C.uint64_t(beforeLSN)
	err = log.call(func(log *C.struct_twinlog) error { return check(C.twinlog_trim(log, &options, &result)) })
	return uint64(result.first_lsn), err
}

// Truncate removes every record with a larger LSN.
func (log *Log) Truncate(lastLSN uint64) error {
	return log.call(func(log *C.struct_twinlog) error { return check(C.twinlog_truncate(log, C.uint64_t(lastLSN))) })
}

// Skip makes nextLSN the LSN of the next record: fillers use up the LSNs before.
func (log *Log) Skip(nextLSN uint64) error {
	return log.call(func(log *C.struct_twinlog) error { return check(C.twinlog_skip(log, C.uint64_t(nextLSN))) })
}

// Reset removes every record; the next one gets nextLSN.
func (log *Log) Reset(nextLSN uint64) error {
	return log.call(func(log *C.struct_twinlog) error { return check(C.twinlog_reset(log, C.uint64_t(nextLSN))) })
}

// ---- cursors and values ----

// cName gives C a name; the empty one, which C refuses, in the place of one that C would cut at a NUL.
func cName(name string) *C.char {
	if strings.IndexByte(name, 0) >= 0 {
		name = ""
	}
	return C.CString(name)
}

func cPath(dir string) (*C.char, error) {
	if strings.IndexByte(dir, 0) >= 0 {
		return nil, &os.PathError{Op: "open", Path: dir, Err: Error(-C.EINVAL)}
	}
	return C.CString(dir), nil
}

// nanoseconds returns EINVAL for a time that does not fit.
func nanoseconds(t time.Time) (C.int64_t, error) {
	ns := t.UnixNano()
	if !time.Unix(0, ns).Equal(t) {
		return 0, Error(-C.EINVAL)
	}
	return C.int64_t(ns), nil
}

// SetCursor says that the consumer of this name has finished with every record up to lsn.
func (log *Log) SetCursor(name string, lsn uint64) error {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	return log.call(func(log *C.struct_twinlog) error { return check(C.twinlog_cursor_set(log, c, C.uint64_t(lsn))) })
}

// Cursor returns ENOENT if there is none.
func (log *Log) Cursor(name string) (uint64, error) {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	var lsn C.uint64_t
	err := log.call(func(log *C.struct_twinlog) error { return check(C.twinlog_cursor_get(log, c, &lsn)) })
	return uint64(lsn), err
}

// Cursors returns every cursor by its name.
func (log *Log) Cursors() (map[string]uint64, error) {
	var c C.struct_go_cursors
	defer func() { C.free(unsafe.Pointer(c.cursor)) }()
	if err := log.call(func(log *C.struct_twinlog) error { return check(C.go_cursor_each(log, &c)) }); err != nil {
		return nil, err
	}
	all := map[string]uint64{}
	cursors := unsafe.Slice(c.cursor, c.count)
	for i := range cursors {
		all[C.GoString(&cursors[i].name[0])] = uint64(cursors[i].lsn)
	}
	return all, nil
}

func (log *Log) RemoveCursor(name string) error {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	return log.call(func(log *C.struct_twinlog) error { return check(C.twinlog_cursor_remove(log, c)) })
}

// MaxMetaBytes is the size of the largest value that a log keeps.
const MaxMetaBytes = C.TWINLOG_META_BYTES

// SetMeta keeps a value of up to MaxMetaBytes with the log. It is durable on return. EMSGSIZE: the value is larger.
func (log *Log) SetMeta(name string, value []byte) error {
	if len(value) > MaxMetaBytes {
		return Error(-C.EMSGSIZE)
	}
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	return log.call(func(log *C.struct_twinlog) error {
		return check(C.go_meta_set(log, c, beginOf(value), C.size_t(len(value))))
	})
}

// Meta returns ENOENT if there is no such value.
func (log *Log) Meta(name string) ([]byte, error) {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	value := make([]byte, C.TWINLOG_META_BYTES)
	var size C.size_t
	err := log.call(func(log *C.struct_twinlog) error {
		return check(C.twinlog_meta_get(log, c, unsafe.Pointer(&value[0]), C.size_t(len(value)), &size))
	})
	if err != nil {
		return nil, err
	}
	return value[:size], nil
}

func (log *Log) RemoveMeta(name string) error {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	return log.call(func(log *C.struct_twinlog) error { return check(C.twinlog_meta_remove(log, c)) })
}

// ---- one change of several things ----

// Edit is one edit of a Change: from SetMetaEdit, RemoveMetaEdit, SetCursorEdit or RemoveCursorEdit.
type Edit struct {
	kind  C.uint32_t
	name  string
	value []byte
	lsn   uint64
}

// SetMetaEdit sets a value, as SetMeta. The value is read when the change is made.
func SetMetaEdit(name string, value []byte) Edit {
	return Edit{kind: C.TWINLOG_EDIT_SET_VALUE, name: name, value: value}
}

// RemoveMetaEdit removes a value; it is no error if there is none.
func RemoveMetaEdit(name string) Edit { return Edit{kind: C.TWINLOG_EDIT_REMOVE_VALUE, name: name} }

// SetCursorEdit sets a cursor, as SetCursor.
func SetCursorEdit(name string, lsn uint64) Edit {
	return Edit{kind: C.TWINLOG_EDIT_SET_CURSOR, name: name, lsn: lsn}
}

// RemoveCursorEdit removes a cursor; it is no error if there is none.
func RemoveCursorEdit(name string) Edit { return Edit{kind: C.TWINLOG_EDIT_REMOVE_CURSOR, name: name} }

// Change is what one call of Log.Change does.
type Change struct {
	Edits           []Edit // up to 1,024, in their order
	TrimBefore      uint64 // remove the records with a smaller LSN; 0: none
	TrimPastCursors bool   // cursors hold no record; those behind move to the head
	Durable         uint64 // make the log durable up to this LSN first; 0: only up to what is trimmed
}

// Change changes values, cursors and the head of the log in one step, which is durable on return: after a crash, and for
// every other process, all of it has happened or nothing. So a value with the name of a snapshot, and the trim of the
// records that the snapshot stands for, cannot come apart. firstLSN is the oldest LSN that is kept, 0 without a trim.
//
// EINVAL: nothing is asked for, or an edit that its own call refuses. EMSGSIZE: a value is too large. ERANGE: the log ends
// in front of Durable or TrimBefore-1. EROFS: a trim, or a wait, on a log that is open for reading. After these and the
// error of ctx nothing has happened; ctx ends the wait for durable records only. Otherwise errors are those of SetMeta,
// SetCursor, Trim and Wait.
func (log *Log) Change(ctx context.Context, change Change) (firstLSN uint64, err error) {
	var bytes []byte
	goes := make([]C.struct_go_edit, 0, len(change.Edits)+1)
	for i := range change.Edits {
		edit := &change.Edits[i]
		if len(edit.value) > MaxMetaBytes {
			return 0, Error(-C.EMSGSIZE)
		}
		if strings.IndexByte(edit.name, 0) >= 0 {
			return 0, Error(-C.EINVAL)
		}
		bytes = append(append(append(bytes, edit.name...), 0), edit.value...)
		goes = append(goes, C.struct_go_edit{lsn: C.uint64_t(edit.lsn), name_size: C.size_t(len(edit.name) + 1),
			size: C.size_t(len(edit.value)), kind: edit.kind})
	}
	bytes = append(bytes, 0)
	goes = append(goes, C.struct_go_edit{})
	var flags C.uint32_t
	if change.TrimPastCursors {
		flags = C.TWINLOG_TRIM_PAST_CURSORS
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		var first C.uint64_t
		err := log.call(func(c *C.struct_twinlog) error {
			return check(C.go_change(c, (*C.char)(unsafe.Pointer(&bytes[0])), &goes[0], C.uint32_t(len(change.Edits)), flags,
				C.uint64_t(change.TrimBefore), C.uint64_t(change.Durable), milliseconds32(roomWait), &first))
		})
		if err != Error(-C.ETIMEDOUT) {
			return uint64(first), err
		}
	}
}

// ---- reading ----

// Record is a record with bytes of its own.
type Record struct {
	LSN  uint64
	Time time.Time
	Type uint8
	Tag  uint16
	Data []byte
}

func recordOf(c *C.struct_twinlog_record) Record {
	return Record{uint64(c.lsn), time.Unix(0, int64(c.time_ns)), uint8(c._type), uint16(c.tag),
		C.GoBytes(c.data, C.int(c.size))}
}

// Read returns one record. ERANGE: there is none yet; ENOENT: the LSN is a filler's; ErrTrimmed: it was removed.
func (log *Log) Read(lsn uint64) (record Record, err error) {
	var c C.struct_twinlog_record
	for room := 512; ; room = int(c.size) {
		data := C.malloc(C.size_t(room))
		err = log.call(func(log *C.struct_twinlog) error {
			return check(C.twinlog_read(log, C.uint64_t(lsn), data, C.size_t(room), &c))
		})
		if err == nil {
			record = recordOf(&c)
		}
		C.free(data)
		if err != Error(-C.ENOBUFS) {
			return record, err
		}
	}
}

// ReadInto is Read into memory of the caller, and allocates nothing where the record fits: Data is the beginning of memory
// then, and valid as long as the caller leaves that alone. size is the size of the record. If memory is smaller, the error
// is ENOBUFS, Data is nil and memory is unchanged, so that a second call with `size` bytes gets the record.
func (log *Log) ReadInto(lsn uint64, memory []byte) (record Record, size int, err error) {
	room := len(memory)
	if room == 0 {
		memory = empty[:]
	}
	var c C.struct_go_record
	err = log.call(func(log *C.struct_twinlog) error {
		c = C.go_read(unsafe.Pointer(log), C.uint64_t(lsn), (*C.uchar)(&memory[0]), C.size_t(room))
		return check(c.rc)
	})
	if err == nil || err == Error(-C.ENOBUFS) {
		size = int(c.size)
	}
	if err != nil {
		return Record{}, size, err
	}
	return Record{uint64(c.lsn), time.Unix(0, int64(c.time_ns)), uint8(c._type), uint16(c.tag), memory[:size:size]}, size, nil
}

var empty [1]byte // has an address, where memory has none

// news wakes the goroutines that wait for records of one log: a reader of its own watches the log, with one thread of C,
// and Go's poller watches the descriptor of that reader. The disk of a log may not answer, so its reader is opened and
// closed without the lock of all news.
type news struct {
	log     identity
	users   int // [allNews.lock]
	opening sync.Once
	err     error                    // [opening] why it could not be opened
	c       *C.struct_twinlog_reader // [opening]
	file    *os.File                 // [opening] the descriptor
	lock    sync.Mutex
	changed chan struct{} // [lock] closed at the next news; nil: nobody has asked since the last
	asked   chan struct{} // gets one value for each `changed`
	ending  chan struct{}
	ended   chan struct{}
}

type identity struct{ device, inode uint64 } // of a directory

var allNews = struct {
	lock sync.Mutex
	of   map[identity]*news
}{of: map[identity]*news{}}

func identify(dir string) (identity, error) {
	var stat syscall.Stat_t
	if err := syscall.Stat(dir, &stat); err != nil {
		return identity{}, &os.PathError{Op: "watch", Path: dir, Err: err}
	}
	return identity{uint64(stat.Dev), uint64(stat.Ino)}, nil
}

// enterNews returns ESTALE if there is another log in `dir` by now.
func enterNews(dir string, log identity) (*news, error) {
	if now, err := identify(dir); err != nil {
		return nil, err
	} else if now != log {
		return nil, &os.PathError{Op: "watch", Path: dir, Err: syscall.ESTALE}
	}
	n := newsOf(log)
	n.opening.Do(func() {
		if n.err = n.open(dir); n.err != nil {
			n.forget() // so that the next one tries again
		}
	})
	if n.err != nil {
		n.leave()
		return nil, n.err
	}
	return n, nil
}

// newsOf counts the caller as a user.
func newsOf(log identity) *news {
	allNews.lock.Lock()
	defer allNews.lock.Unlock()
	n := allNews.of[log]
	if n == nil {
		n = &news{log: log, asked: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{})}
		allNews.of[log] = n
	}
	n.users++
	return n
}

// open [opening] begins to watch the log in dir.
func (n *news) open(dir string) error {
	path, err := cPath(dir)
	if err != nil {
		return err
	}
	defer C.free(unsafe.Pointer(path))
	fd := C.go_watch(path, &n.c)
	if err := check(fd); err != nil {
		return &os.PathError{Op: "watch", Path: dir, Err: err}
	}
	n.file = os.NewFile(uintptr(fd), dir)
	go n.run()
	return nil
}

// forget lets others begin to watch this log anew.
func (n *news) forget() {
	allNews.lock.Lock()
	defer allNews.lock.Unlock()
	if allNews.of[n.log] == n {
		delete(allNews.of, n.log)
	}
}

// leave ends the watching with the last user.
func (n *news) leave() {
	allNews.lock.Lock()
	n.users--
	isLast := n.users == 0
	if isLast && allNews.of[n.log] == n {
		delete(allNews.of, n.log)
	}
	allNews.lock.Unlock()
	if isLast && n.err == nil {
		close(n.ending)
		n.file.Close()
		<-n.ended
		C.twinlog_reader_close(n.c)
	}
}

// ask returns what is closed when something has changed since.
func (n *news) ask() <-chan struct{} {
	n.lock.Lock()
	defer n.lock.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
		n.asked <- struct{}{}
	}
	return n.changed
}

func (n *news) tell() {
	n.lock.Lock()
	defer n.lock.Unlock()
	close(n.changed)
	n.changed = nil
}

func (n *news) run() {
	defer close(n.ended)
	poller, err := n.file.SyscallConn()
	for err == nil {
		select {
		case <-n.asked:
		case <-n.ending:
			return
		}
		// The reader goes to the end inside of Read, because what becomes readable before Read is not noticed.
		isArmed, rc := false, C.int(0)
		err = poller.Read(func(uintptr) bool {
			if isArmed {
				return true
			}
			rc = C.go_arm(n.c)
			isArmed = rc == 0
			n.tell()
			return !isArmed
		})
		if err == nil && rc < 0 { // the log cannot be read: the others look for themselves, now and then
			time.Sleep(roomWait)
		}
	}
}

// follower is what a Reader and a Consumer have in common.
type follower struct {
	lock     sync.Mutex
	c        *C.struct_twinlog_reader // [lock] nil: closed
	next     func(c *C.struct_twinlog_reader, record *C.struct_twinlog_record) C.int
	report   report
	dir      string
	log      identity
	news     *news // [lock] from the first Wait on
	isClosed chan struct{}
}

func (f *follower) begin(dir string, c *C.struct_twinlog_reader, report report) {
	f.c, f.report, f.isClosed, f.dir = c, report, make(chan struct{}), dir
	if path, err := filepath.Abs(dir); err == nil {
		f.dir = path
	}
	f.log, _ = identify(f.dir)
}

func (f *follower) call(op string, in func(c *C.struct_twinlog_reader) C.int) (C.int, error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.c == nil {
		return 0, os.ErrClosed
	}
	rc := in(f.c)
	return rc, f.report.check(op, f.dir, rc)
}

func (f *follower) take(next func(c *C.struct_twinlog_reader, record *C.struct_twinlog_record) C.int) (record Record, err error) {
	var c C.struct_twinlog_record
	rc, err := f.call("read", func(reader *C.struct_twinlog_reader) C.int {
		rc := next(reader, &c)
		if rc > 0 {
			record = recordOf(&c) // its bytes are the reader's until the next call
		}
		return rc
	})
	if err == nil && rc == 0 {
		err = io.EOF
	}
	return record, err
}

// isReady returns, if there is nothing, also what is closed when there may be.
func (f *follower) isReady() (isReady bool, changed <-chan struct{}, err error) {
	var newsErr error
	rc, err := f.call("wait", func(c *C.struct_twinlog_reader) C.int {
		if f.news == nil {
			f.news, newsErr = enterNews(f.dir, f.log)
		}
		if newsErr != nil {
			return 0
		}
		changed = f.news.ask()
		return C.twinlog_reader_wait(c, 0)
	})
	if err == nil {
		err = newsErr
	}
	return rc > 0, changed, err
}

// Wait returns when there is a record, ctx is done, or it is closed; ESTALE where its directory was replaced before the
// first Wait. However many goroutines wait, one thread does.
func (f *follower) Wait(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		ready, changed, err := f.isReady()
		if ready || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-f.isClosed:
		case <-ctx.Done():
		}
	}
}

// end returns false if it was closed before.
func (f *follower) end(close_ func(c *C.struct_twinlog_reader)) {
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.c == nil {
		return
	}
	close_(f.c)
	f.c = nil
	f.report.free()
	close(f.isClosed)
	if f.news != nil {
		f.news.leave()
	}
}

// Next returns the next record, or io.EOF where there is none for now: after Wait, or later, there may be. A Consumer
// returns ErrTrimmed and ErrTruncated once, and goes on.
func (f *follower) Next() (Record, error) { return f.take(f.next) }

// Follow calls each for every record as it comes, until it returns an error, ctx is done, or the follower is closed.
func (f *follower) Follow(ctx context.Context, each func(Record) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		record, err := f.Next()
		if err == nil {
			err = each(record)
		} else if err == io.EOF {
			err = f.Wait(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// Following is Follow for a range statement of Go 1.23 or later. An error, that of ctx too, comes last.
func (f *follower) Following(ctx context.Context) func(yield func(Record, error) bool) {
	return func(yield func(Record, error) bool) {
		err := f.Follow(ctx, func(record Record) error {
			if yield(record, nil) {
				return nil
			}
			return io.EOF
		})
		if err != io.EOF {
			yield(Record{}, err)
		}
	}
}

// Records are the records that there are now, for a range statement. An error comes last.
func (f *follower) Records() func(yield func(Record, error) bool) {
	return func(yield func(Record, error) bool) {
		for {
			record, err := f.Next()
			if err == io.EOF || !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// Reader goes through a log in the order of the LSNs.
type Reader struct{ follower }

func openReader(log *C.struct_twinlog, dir string, fromLSN uint64) (*Reader, error) {
	path, err := cPath(dir)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(path))
	report := newReport()
	var c *C.struct_twinlog_reader
	if err := report.check("open", dir, C.go_reader_open(log, path, C.uint64_t(fromLSN), report.c, &c)); err != nil {
		report.free()
		return nil, err
	}
	reader := &Reader{}
	reader.next = func(c *C.struct_twinlog_reader, record *C.struct_twinlog_record) C.int {
		return C.twinlog_reader_next(c, record)
	}
	reader.begin(dir, c, report)
	return reader, nil
}

// OpenReader opens a reader on the log in dir, beside its writer or without one. fromLSN 0 is the oldest kept.
func OpenReader(dir string, fromLSN uint64) (*Reader, error) { return openReader(nil, dir, fromLSN) }

// Reader opens a reader on an open log. Close it before the log.
func (log *Log) Reader(fromLSN uint64) (reader *Reader, err error) {
	err = log.call(func(c *C.struct_twinlog) error {
		reader, err = openReader(c, log.dir, fromLSN)
		return err
	})
	return reader, err
}

// Payloads returns the bytes of the records from where the reader stands, one behind the other, as `twinlog cat --raw`
// does. It ends with io.EOF where the log ends for now; a Read after more was appended goes on.
func (r *Reader) Payloads() io.Reader { return &payloads{reader: r} }

type payloads struct {
	reader *Reader
	rest   []byte // of the record that was begun
}

func (p *payloads) Read(into []byte) (int, error) {
	for len(p.rest) == 0 && len(into) > 0 {
		record, err := p.reader.Next()
		if err != nil {
			return 0, err
		}
		p.rest = record.Data
	}
	n := copy(into, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Previous returns the record in front, or io.EOF.
func (r *Reader) Previous() (Record, error) {
	return r.take(func(reader *C.struct_twinlog_reader, c *C.struct_twinlog_record) C.int {
		return C.twinlog_reader_previous(reader, c)
	})
}

func (r *Reader) seek(to func(c *C.struct_twinlog_reader) C.int) error {
	_, err := r.call("seek", to)
	return err
}

func (r *Reader) Seek(lsn uint64) error {
	return r.seek(func(c *C.struct_twinlog_reader) C.int { return C.twinlog_reader_seek(c, C.uint64_t(lsn)) })
}
func (r *Reader) SeekTime(t time.Time) error {
	ns, err := nanoseconds(t)
	if err != nil {
		return err
	}
	return r.seek(func(c *C.struct_twinlog_reader) C.int { return C.twinlog_reader_seek_time(c, ns) })
}
func (r *Reader) SeekFirst() error {
	return r.seek(func(c *C.struct_twinlog_reader) C.int { return C.twinlog_reader_seek_first(c) })
}
func (r *Reader) SeekEnd() error {
	return r.seek(func(c *C.struct_twinlog_reader) C.int { return C.twinlog_reader_seek_end(c) })
}

// Close ends what waits in the reader, with os.ErrClosed.
func (r *Reader) Close() {
	r.end(func(c *C.struct_twinlog_reader) { C.twinlog_reader_close(c) })
}

// Consumer goes on where the last one of its name ended. It has no Seek: what it passed would never come again.
type Consumer struct {
	follower
	c *C.struct_twinlog_consumer
}

// OpenConsumer opens the consumer on the log in dir, in any process. EBUSY: it is open already.
func OpenConsumer(dir, name string) (*Consumer, error) {
	path, err := cPath(dir)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(path))
	text := cName(name)
	defer C.free(unsafe.Pointer(text))
	report := newReport()
	consumer := &Consumer{}
	if err := report.check("open", dir, C.go_consumer_open(path, text, report.c, &consumer.c)); err != nil {
		report.free()
		return nil, err
	}
	consumer.next = func(_ *C.struct_twinlog_reader, record *C.struct_twinlog_record) C.int {
		return C.twinlog_consumer_next(consumer.c, record)
	}
	consumer.begin(dir, C.twinlog_consumer_reader(consumer.c), report)
	return consumer, nil
}

// Commit says that the consumer has finished with every record up to lsn; 0: with all that Next returned.
func (consumer *Consumer) Commit(lsn uint64) error {
	_, err := consumer.call("commit", func(*C.struct_twinlog_reader) C.int {
		return C.twinlog_consumer_commit(consumer.c, C.uint64_t(lsn))
	})
	return err
}

// Close commits nothing: the next consumer of this name gets what was not committed.
func (consumer *Consumer) Close() {
	consumer.end(func(*C.struct_twinlog_reader) { C.twinlog_consumer_close(consumer.c) })
}
