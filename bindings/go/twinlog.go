// SPDX-License-Identifier: Apache-2.0

// Package twinlog is a durable, group-committing log in a directory: Go over libtwinlog.
//
//	log, err := twinlog.Open("journal", nil)
//	lsn, err := log.Append(ctx, []byte("hello")) // on stable storage
//
// Goroutines that append at the same time share one write and one sync. Hundreds of them may wait in Append: they wait
// on channels, not in C, so they take no threads. Every method of a Log may be called by any goroutine; a Reader and a
// Consumer serve one goroutine at a time. Close what was opened: nothing is closed by the garbage collector. The
// manual is that of <twinlog.h>.
package twinlog

/*
#cgo pkg-config: twinlog
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog.h>

// A request with its token, in memory that C may keep.
struct go_request {
	struct twinlog_request request;
	struct twinlog_cancel cancel;
	uintptr_t pending; // a Go handle
};

// Entries whose bytes lie one behind the other in `bytes`; `bytes` is Go's, and is read before the call returns.
struct go_entry {
	size_t size;
	int64_t time_ns;
	uint16_t tag;
	uint8_t type;
};

// Without a request it waits for `level` itself.
static int go_append(struct twinlog *log, const void *bytes, const struct go_entry *goes, uint32_t count, uint32_t level,
                     uint32_t flags, uint64_t deadline_ns, struct twinlog_request *request, uint64_t *lsn)
{
	struct twinlog_terms terms = TWINLOG_TERMS_INIT;
	struct twinlog_entry one, *entries = &one;
	if (count > 1 && !(entries = malloc(count * sizeof(*entries))))
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		entries[i] = (struct twinlog_entry){ .data = bytes, .size = goes[i].size, .time_ns = goes[i].time_ns,
		                                     .tag = goes[i].tag, .type = goes[i].type };
		bytes = (const char *)bytes + goes[i].size;
	}
	terms.level = level;
	terms.flags = flags;
	terms.deadline_ns = deadline_ns;
	int rc = request ? twinlog_submit(log, entries, count, &terms, request)
	                 : twinlog_append_batch(log, entries, count, &terms, lsn);
	if (entries != &one)
		free(entries);
	return rc;
}

static int go_open(const char *dir, struct twinlog_options *options, struct twinlog_report *report, struct twinlog **log)
{
	memset(report, 0, sizeof(*report));
	options->ret_report = report;
	return twinlog_open(dir, options, log);
}

static struct twinlog_options go_options(void) { return (struct twinlog_options)TWINLOG_OPTIONS_INIT; }
static struct twinlog_reader_options go_reader_options(void) { return (struct twinlog_reader_options)TWINLOG_READER_OPTIONS_INIT; }
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
static uintptr_t go_pending(struct twinlog_request *request) { return ((struct go_request *)request)->pending; }
*/
import "C"

import (
	"context"
	"io"
	"runtime/cgo"
	"strings"
	"sync"
	"sync/atomic"
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

// Is says whether the error has this errno.
func (e Error) Is(target error) bool {
	errno, ok := target.(syscall.Errno)
	return ok && int(e) == -int(errno)
}

func check(rc C.int) error {
	if rc < 0 {
		return Error(rc)
	}
	return nil
}

// OpenError has what the library found, as text, with its place.
type OpenError struct {
	Err  Error
	Text string
}

func (e *OpenError) Error() string {
	if e.Text == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + ": " + e.Text
}
func (e *OpenError) Unwrap() error { return e.Err }

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
	LockWait       time.Duration // how long to wait for another writer to close
	KeepBytes      uint64        // retention, by whole segments
	KeepRecords    uint64
	KeepAge        time.Duration
	FlushInterval  time.Duration // what is not durable yet becomes so after this time
}

func milliseconds(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64((d + time.Millisecond - 1) / time.Millisecond)
}

func milliseconds32(d time.Duration) C.uint32_t {
	if ms := milliseconds(d); ms < 1<<32 {
		return C.uint32_t(ms)
	}
	return 1<<32 - 1
}

// Log is an open log.
type Log struct {
	c       *C.struct_twinlog
	queue   *C.struct_twinlog_queue // of appends in flight; nil in the mapped modes and with ReadOnly
	drained chan struct{}           // closed when the goroutine that fetches completions has ended

	lock     sync.Mutex
	changed  sync.Cond
	inFlight int // batches that were submitted and not fetched; for a moment negative, if one is fetched before it is counted
	isClosed bool
}

// Open opens the log in dir, and creates it where there is none. options may be nil.
func Open(dir string, options *Options) (*Log, error) {
	if options == nil {
		options = &Options{}
	}
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
	c.lock_wait_ms = milliseconds32(options.LockWait)
	c.keep_bytes = C.uint64_t(options.KeepBytes)
	c.keep_records = C.uint64_t(options.KeepRecords)
	c.keep_age_ms = C.uint64_t(milliseconds(options.KeepAge))
	c.flush_interval_ms = milliseconds32(options.FlushInterval)

	path := cName(dir)
	defer C.free(unsafe.Pointer(path))
	report := (*C.struct_twinlog_report)(C.calloc(1, C.sizeof_struct_twinlog_report))
	defer C.free(unsafe.Pointer(report))
	log := &Log{}
	log.changed.L = &log.lock
	if rc := C.go_open(path, &c, report, &log.c); rc < 0 {
		return nil, &OpenError{Error(rc), C.GoString(&report.text[0])}
	}
	if options.Mode == Durable && !options.ReadOnly {
		if err := check(C.twinlog_queue_open(&log.queue)); err != nil {
			C.twinlog_close(log.c)
			return nil, err
		}
		log.drained = make(chan struct{})
		go log.complete()
	}
	return log, nil
}

// Close makes everything durable that was accepted, and closes the log. No other method may run meanwhile; readers
// of this log must be closed before. After an error the log is still open if it is EBUSY or EDEADLK, else it is closed.
func (log *Log) Close() error {
	if log.c == nil {
		return nil
	}
	err := check(C.twinlog_close(log.c))
	if e, ok := err.(Error); ok && (e.Is(syscall.EBUSY) || e.Is(syscall.EDEADLK)) {
		return err
	}
	log.c = nil
	if log.queue != nil {
		log.lock.Lock()
		log.isClosed = true
		log.lock.Unlock()
		log.changed.Signal()
		<-log.drained
		C.twinlog_queue_close(log.queue)
		log.queue = nil
	}
	return err
}

// ---- appending ----

// Entry is a record to be appended.
type Entry struct {
	Data []byte
	Type uint8
	Tag  uint16
	Time time.Time // zero: the log takes the time
}

// Terms of an append. The zero value is what Append has.
type Terms struct {
	Level Level
	Try   bool // EAGAIN instead of waiting for room in the buffers
}

// A batch in flight. Its memory is free when both the appender and complete() have done with it.
type pending struct {
	c     *C.struct_go_request
	done  chan error
	users int32
}

func (p *pending) release() {
	if atomic.AddInt32(&p.users, -1) == 0 {
		C.free(unsafe.Pointer(p.c))
	}
}

// complete fetches completions while there are batches in flight, and wakes the goroutines that wait for them.
func (log *Log) complete() {
	defer close(log.drained)
	requests := (*[64]*C.struct_twinlog_request)(C.calloc(64, C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer C.free(unsafe.Pointer(requests))
	for log.awaitFlight() {
		count := int(C.twinlog_queue_poll(log.queue, &requests[0], 64, -1))
		log.addFlight(-count)
		for i := 0; i < count; i++ {
			handle := cgo.Handle(C.go_pending(requests[i]))
			p := handle.Value().(*pending)
			handle.Delete()
			p.done <- check(C.int(requests[i].result))
			p.release()
		}
	}
}

// awaitFlight returns when something is in flight, or false when the log is closed and nothing is.
func (log *Log) awaitFlight() bool {
	log.lock.Lock()
	defer log.lock.Unlock()
	for log.inFlight <= 0 && !log.isClosed {
		log.changed.Wait()
	}
	return log.inFlight > 0
}

func (log *Log) addFlight(count int) {
	log.lock.Lock()
	log.inFlight += count
	log.lock.Unlock()
	if count > 0 {
		log.changed.Signal()
	}
}

// How long a call waits in C for room at a time, before it looks whether the context is done.
const roomWait = 50 * time.Millisecond

// Append returns when the record is on stable storage (in the modes Mapped and Shared: written), or ctx is done. Then,
// and after other errors, a record exists if lsn is not 0: it will become durable like any other, and Wait says when.
func (log *Log) Append(ctx context.Context, data []byte) (lsn uint64, err error) {
	return log.AppendBatch(ctx, []Entry{{Data: data}}, Terms{})
}

// AppendBatch appends all entries or, after a crash, none. They get consecutive LSNs, firstLSN is the first.
func (log *Log) AppendBatch(ctx context.Context, entries []Entry, terms Terms) (firstLSN uint64, err error) {
	if len(entries) == 0 {
		return 0, Error(-C.EINVAL)
	}
	bytes, goes := join(entries)
	if log.queue == nil || terms.Level == LevelBuffered {
		return log.appendInC(ctx, bytes, goes, terms, nil)
	}
	p := &pending{done: make(chan error, 1), users: 2}
	p.c = (*C.struct_go_request)(C.calloc(1, C.sizeof_struct_go_request))
	p.c.request.queue = log.queue
	handle := cgo.NewHandle(p)
	p.c.pending = C.uintptr_t(handle)
	_, err = log.appendInC(ctx, bytes, goes, terms, &p.c.request)
	if err != nil { // nothing happened
		handle.Delete()
		C.free(unsafe.Pointer(p.c))
		return 0, err
	}
	log.addFlight(1)
	firstLSN = uint64(p.c.request.first_lsn)
	p.release()
	select {
	case err = <-p.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return firstLSN, err
}

// join puts the entries' bytes one behind the other, because C gets no pointers to pointers of Go.
func join(entries []Entry) ([]byte, []C.struct_go_entry) {
	bytes := entries[0].Data
	if len(entries) > 1 {
		bytes = nil
	}
	goes := make([]C.struct_go_entry, len(entries))
	for i, entry := range entries {
		goes[i].size = C.size_t(len(entry.Data))
		goes[i]._type = C.uint8_t(entry.Type)
		goes[i].tag = C.uint16_t(entry.Tag)
		if !entry.Time.IsZero() {
			goes[i].time_ns = C.int64_t(entry.Time.UnixNano())
		}
		if len(entries) > 1 {
			bytes = append(bytes, entry.Data...)
		}
	}
	return bytes, goes
}

func (log *Log) appendInC(ctx context.Context, bytes []byte, goes []C.struct_go_entry, terms Terms,
	request *C.struct_twinlog_request) (uint64, error) {
	var data unsafe.Pointer
	var flags C.uint32_t
	var lsn C.uint64_t
	if len(bytes) > 0 {
		data = unsafe.Pointer(&bytes[0])
	}
	if terms.Try {
		flags = C.TWINLOG_TRY
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		wait := roomWait
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
			wait = time.Until(deadline)
		}
		rc := C.go_append(log.c, data, &goes[0], C.uint32_t(len(goes)), C.uint32_t(terms.Level), flags,
			C.twinlog_deadline(milliseconds32(wait)), request, &lsn)
		if rc != -C.ETIMEDOUT {
			return uint64(lsn), check(rc)
		}
		if lsn != 0 { // accepted, and not at its level yet
			return uint64(lsn), log.Wait(ctx, uint64(lsn)+uint64(len(goes))-1, terms.Level)
		}
	}
}

// Wait returns when every record up to lsn is at the level (the zero Level: that of the mode), or ctx is done.
func (log *Log) Wait(ctx context.Context, lsn uint64, level Level) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rc := C.twinlog_wait(log.c, C.uint64_t(lsn), uint32(level), C.twinlog_deadline(milliseconds32(roomWait)))
		if rc != -C.ETIMEDOUT {
			return check(rc)
		}
	}
}

// Sync returns when everything accepted before is durable.
func (log *Log) Sync() error { return check(C.twinlog_sync(log.c)) }

// FirstLSN is the oldest LSN that is kept, LastLSN the newest accepted, WrittenLSN the newest that survives this process,
// DurableLSN the newest on stable storage; 0 = none.
func (log *Log) FirstLSN() uint64   { return uint64(C.twinlog_first_lsn(log.c)) }
func (log *Log) LastLSN() uint64    { return uint64(C.twinlog_last_lsn(log.c)) }
func (log *Log) WrittenLSN() uint64 { return uint64(C.twinlog_written_lsn(log.c)) }
func (log *Log) DurableLSN() uint64 { return uint64(C.twinlog_durable_lsn(log.c)) }

// Stat is how the log is doing; counters start when it is opened.
type Stat struct {
	Mode                              Mode
	Poison                            error // what has poisoned the log
	Segments, SpareSegments           uint32
	FirstLSN, LastLSN                 uint64
	WrittenLSN, DurableLSN            uint64
	FileBytes                         uint64 // all segment files
	Appends, AppendBytes              uint64
	Groups, GroupBytes                uint64
	WrittenBytes, Syncs               uint64 // to the device
	Rolls, RollWaits, FullRefusals    uint64
	TrimmedSegments, RecycledSegments uint64
	InFlight, Fillers                 uint64
	IOReason                          string // why this way to write and no earlier one
}

// Stat returns statistics.
func (log *Log) Stat() (Stat, error) {
	c := C.go_stat()
	err := check(C.twinlog_stat(log.c, &c))
	if err != nil {
		return Stat{}, err
	}
	return Stat{
		Mode: Mode(c.mode), Poison: check(C.int(c.poison)), Segments: uint32(c.segments),
		SpareSegments: uint32(c.spare_segments), FirstLSN: uint64(c.first_lsn), LastLSN: uint64(c.last_lsn),
		WrittenLSN: uint64(c.written_lsn), DurableLSN: uint64(c.durable_lsn), FileBytes: uint64(c.file_bytes),
		Appends: uint64(c.appends), AppendBytes: uint64(c.append_bytes), Groups: uint64(c.groups),
		GroupBytes: uint64(c.group_bytes), WrittenBytes: uint64(c.written_bytes), Syncs: uint64(c.syncs),
		Rolls: uint64(c.rolls), RollWaits: uint64(c.roll_waits), FullRefusals: uint64(c.full_refusals),
		TrimmedSegments: uint64(c.trimmed_segments), RecycledSegments: uint64(c.recycled_segments),
		InFlight: uint64(c.requests), Fillers: uint64(c.fillers), IOReason: C.GoString(&c.io_reason[0]),
	}, nil
}

// ---- removing ----

// Trim removes every record with a smaller LSN, but not what a named cursor has not passed. It returns the oldest LSN
// that is kept.
func (log *Log) Trim(beforeLSN uint64) (firstLSN uint64, err error) {
	options := C.go_trim_options()
	result := C.go_trim_result()
	options.before_lsn = C.uint64_t(beforeLSN)
	err = check(C.twinlog_trim(log.c, &options, &result))
	return uint64(result.first_lsn), err
}

// Truncate removes every record with a larger LSN.
func (log *Log) Truncate(lastLSN uint64) error {
	return check(C.twinlog_truncate(log.c, C.uint64_t(lastLSN)))
}

// Reset removes every record; the next one gets nextLSN.
func (log *Log) Reset(nextLSN uint64) error {
	return check(C.twinlog_reset(log.c, C.uint64_t(nextLSN)))
}

// ---- cursors and values ----

// cName gives C a name; the empty one, which C refuses, in the place of one that C would cut at a NUL.
func cName(name string) *C.char {
	if strings.IndexByte(name, 0) >= 0 {
		name = ""
	}
	return C.CString(name)
}

// SetCursor says that the consumer of this name has finished with every record up to lsn.
func (log *Log) SetCursor(name string, lsn uint64) error {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	return check(C.twinlog_cursor_set(log.c, c, C.uint64_t(lsn)))
}

// Cursor returns ENOENT if there is none.
func (log *Log) Cursor(name string) (uint64, error) {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	var lsn C.uint64_t
	err := check(C.twinlog_cursor_get(log.c, c, &lsn))
	return uint64(lsn), err
}

// Cursors returns every cursor by its name.
func (log *Log) Cursors() (map[string]uint64, error) {
	var c C.struct_go_cursors
	defer func() { C.free(unsafe.Pointer(c.cursor)) }()
	if err := check(C.go_cursor_each(log.c, &c)); err != nil {
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
	return check(C.twinlog_cursor_remove(log.c, c))
}

// SetMeta keeps a value of up to 4096 bytes with the log.
func (log *Log) SetMeta(name string, value []byte) error {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	var data unsafe.Pointer
	if len(value) > 0 {
		data = unsafe.Pointer(&value[0])
	}
	return check(C.twinlog_meta_set(log.c, c, data, C.size_t(len(value))))
}

// Meta returns ENOENT if there is no such value.
func (log *Log) Meta(name string) ([]byte, error) {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	value := make([]byte, C.TWINLOG_META_BYTES)
	var size C.size_t
	if err := check(C.twinlog_meta_get(log.c, c, unsafe.Pointer(&value[0]), C.size_t(len(value)), &size)); err != nil {
		return nil, err
	}
	return value[:size], nil
}

func (log *Log) RemoveMeta(name string) error {
	c := cName(name)
	defer C.free(unsafe.Pointer(c))
	return check(C.twinlog_meta_remove(log.c, c))
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

// Read returns one record. ERANGE: there is none yet; ErrTrimmed: it was removed.
func (log *Log) Read(lsn uint64) (Record, error) {
	var c C.struct_twinlog_record
	room := 512
	for {
		data := C.malloc(C.size_t(room))
		rc := C.twinlog_read(log.c, C.uint64_t(lsn), data, C.size_t(room), &c)
		record := Record{}
		if rc == 0 {
			record = recordOf(&c)
		}
		C.free(data)
		if rc != -C.ENOBUFS {
			return record, check(rc)
		}
		room = int(c.size)
	}
}

// Reader goes through a log in the order of the LSNs.
type Reader struct {
	c       *C.struct_twinlog_reader
	isOwned bool // by a consumer
}

func openReader(fromLSN uint64, open func(*C.struct_twinlog_reader_options, **C.struct_twinlog_reader) C.int) (*Reader, error) {
	options := C.go_reader_options()
	options.from_lsn = C.uint64_t(fromLSN)
	reader := &Reader{}
	if err := check(open(&options, &reader.c)); err != nil {
		return nil, err
	}
	return reader, nil
}

// OpenReader opens a reader on the log in dir, beside its writer or without one. fromLSN 0 is the oldest kept.
func OpenReader(dir string, fromLSN uint64) (*Reader, error) {
	path := cName(dir)
	defer C.free(unsafe.Pointer(path))
	return openReader(fromLSN, func(options *C.struct_twinlog_reader_options, c **C.struct_twinlog_reader) C.int {
		return C.twinlog_reader_open(path, options, c)
	})
}

// Reader opens a reader on an open log. Close it before the log.
func (log *Log) Reader(fromLSN uint64) (*Reader, error) {
	return openReader(fromLSN, func(options *C.struct_twinlog_reader_options, c **C.struct_twinlog_reader) C.int {
		return C.twinlog_reader_attach(log.c, options, c)
	})
}

func took(rc C.int, c *C.struct_twinlog_record) (Record, error) {
	if rc > 0 {
		return recordOf(c), nil
	}
	if rc == 0 {
		return Record{}, io.EOF
	}
	return Record{}, Error(rc)
}

// Next returns the next record, or io.EOF where there is none for now: after Wait, or later, there may be.
func (r *Reader) Next() (Record, error) {
	var c C.struct_twinlog_record
	return took(C.twinlog_reader_next(r.c, &c), &c)
}

// Previous returns the record in front, or io.EOF.
func (r *Reader) Previous() (Record, error) {
	var c C.struct_twinlog_record
	return took(C.twinlog_reader_previous(r.c, &c), &c)
}

func (r *Reader) Seek(lsn uint64) error { return check(C.twinlog_reader_seek(r.c, C.uint64_t(lsn))) }
func (r *Reader) SeekTime(t time.Time) error {
	return check(C.twinlog_reader_seek_time(r.c, C.int64_t(t.UnixNano())))
}
func (r *Reader) SeekFirst() error { return check(C.twinlog_reader_seek_first(r.c)) }
func (r *Reader) SeekEnd() error   { return check(C.twinlog_reader_seek_end(r.c)) }

// Wait returns when there is a record, or ctx is done.
func (r *Reader) Wait(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if rc := C.twinlog_reader_wait(r.c, C.int(roomWait/time.Millisecond)); rc != 0 {
			return check(rc)
		}
	}
}

func (r *Reader) Close() {
	if !r.isOwned {
		C.twinlog_reader_close(r.c)
	}
	r.c = nil
}

// Consumer goes on where the last one of its name ended.
type Consumer struct {
	c *C.struct_twinlog_consumer
	Reader
}

// OpenConsumer opens the consumer on the log in dir, in any process. EBUSY: it is open already.
func OpenConsumer(dir, name string) (*Consumer, error) {
	path := cName(dir)
	defer C.free(unsafe.Pointer(path))
	text := cName(name)
	defer C.free(unsafe.Pointer(text))
	consumer := &Consumer{}
	if err := check(C.twinlog_consumer_open(path, text, nil, &consumer.c)); err != nil {
		return nil, err
	}
	consumer.Reader = Reader{C.twinlog_consumer_reader(consumer.c), true}
	return consumer, nil
}

// Next is that of Reader; ErrTrimmed and ErrTruncated are returned once, and the next call goes on.
func (consumer *Consumer) Next() (Record, error) {
	var c C.struct_twinlog_record
	return took(C.twinlog_consumer_next(consumer.c, &c), &c)
}

// Commit says that the consumer has finished with every record up to lsn; 0: with all that Next returned.
func (consumer *Consumer) Commit(lsn uint64) error {
	return check(C.twinlog_consumer_commit(consumer.c, C.uint64_t(lsn)))
}

func (consumer *Consumer) Close() {
	C.twinlog_consumer_close(consumer.c)
	consumer.c, consumer.Reader.c = nil, nil
}
