// SPDX-License-Identifier: Apache-2.0

package twinlog

/*
#include <errno.h>
#include <stdlib.h>
#include <twinlog_sink.h>

static struct twinlog_sink_options go_sink_options(void) { return (struct twinlog_sink_options)TWINLOG_SINK_OPTIONS_INIT; }

// Parameters of types for which Go allocates nothing: it would, to check a pointer to a structure that it does not know.
static int go_sink_write(void *sink, const unsigned char *data, size_t size)
{
	return twinlog_sink_write(sink, data, size, NULL);
}

static int go_sink_write_string(void *sink, _GoString_ text)
{
	return twinlog_sink_write(sink, _GoStringPtr(text), _GoStringLen(text), NULL);
}
*/
import "C"

import (
	"os"
	"sync"
	"time"
	"unsafe"
)

// SinkOptions of OpenSink. The zero value is an exact sink that one process has.
type SinkOptions struct {
	Shared bool // several processes may have the file open, all with this option
	Lines  bool // each write has whole lines: none continues what a killed process has left; an exact sink only
	// Mapped makes it the other kind: as fast as memory, but the file ends in zeros while it is open, which most programs
	// that read logs do not bear. All sinks of one file have the same kind.
	Mapped    bool
	DropZeros bool // a file that a crash of the system left with zeros at its end: they are no data

	MaxBytes  uint64 // a write beyond that goes to a new file; 0: no limit
	KeepFiles uint32 // of those before, as NAME.1, NAME.2; 0: 5

	FlushInterval time.Duration // sync at least so often; 0: only in Sync

	InitialBytes, GrowthBytes uint64 // of a mapped file; EINVAL without Mapped
}

// Sink is a plain file, of the written bytes and nothing else, that goroutines and processes append to. It is an
// io.Writer and an io.StringWriter, for log.New, slog.NewJSONHandler and others that make one Write of each line. Every
// method may be called beside every other one, Close too: it waits for calls that are in C, and later ones get
// os.ErrClosed.
type Sink struct {
	path    string
	gate    sync.RWMutex           // a call holds it for reading while it is in C; only Close takes it for writing
	c       *C.struct_twinlog_sink // [gate] nil: closed
	turn    sync.Mutex             // [isExact] goroutines wait here, where in C each of them would take a thread
	isExact bool
}

// OpenSink opens the file for appending, and makes it where there is none. options may be nil.
func OpenSink(path string, options *SinkOptions) (*Sink, error) {
	if options == nil {
		options = &SinkOptions{}
	}
	c := C.go_sink_options()
	c.flags = options.flags()
	c.initial_bytes = C.uint64_t(options.InitialBytes)
	c.growth_bytes = C.uint64_t(options.GrowthBytes)
	c.max_bytes = C.uint64_t(options.MaxBytes)
	c.keep_files = C.uint32_t(options.KeepFiles)
	c.flush_interval_ms = milliseconds32(options.FlushInterval)

	sink := &Sink{path: path, isExact: !options.Mapped}
	if options.FlushInterval < 0 {
		return nil, sink.check("open", -C.EINVAL)
	}
	name, err := cPath(path)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(name))
	if err := sink.check("open", C.twinlog_sink_open(name, &c, &sink.c)); err != nil {
		return nil, err
	}
	return sink, nil
}

func (options *SinkOptions) flags() (flags C.uint32_t) {
	if options.Shared {
		flags |= C.TWINLOG_SINK_SHARED
	}
	if options.Lines {
		flags |= C.TWINLOG_SINK_LINES
	}
	if options.Mapped {
		flags |= C.TWINLOG_SINK_MAPPED
	}
	if options.DropZeros {
		flags |= C.TWINLOG_SINK_DROP_ZEROS
	}
	return flags
}

// check says what was done with which file.
func (sink *Sink) check(op string, rc C.int) error {
	if rc >= 0 {
		return nil
	}
	return &os.PathError{Op: op, Path: sink.path, Err: Error(rc)}
}

// enter keeps the sink open until leave. It does not wait for a Close, which may wait for a disk: nothing else takes the
// gate for writing.
func (sink *Sink) enter() error {
	if !sink.gate.TryRLock() {
		return os.ErrClosed
	}
	if sink.c == nil {
		sink.gate.RUnlock()
		return os.ErrClosed
	}
	return nil
}

func (sink *Sink) leave() { sink.gate.RUnlock() }

// call returns what C has returned, if that is no error.
func (sink *Sink) call(op string, in func(c *C.struct_twinlog_sink) C.int) (C.int, error) {
	if err := sink.enter(); err != nil {
		return 0, err
	}
	defer sink.leave()
	rc := in(sink.c)
	return rc, sink.check(op, rc)
}

// ---- writing ----

func (sink *Sink) enterWrite() error {
	if sink.isExact {
		sink.turn.Lock()
	}
	err := sink.enter()
	if err != nil && sink.isExact {
		sink.turn.Unlock()
	}
	return err
}

func (sink *Sink) leaveWrite() {
	sink.leave()
	if sink.isExact {
		sink.turn.Unlock()
	}
}

// Write appends data in one piece: it is in the file, for every process to see, or n is 0 and err says why. After
// ENOSPC, EDQUOT and EFBIG the same write works again when there is room.
func (sink *Sink) Write(data []byte) (n int, err error) {
	if err := sink.enterWrite(); err != nil {
		return 0, err
	}
	defer sink.leaveWrite()
	if len(data) == 0 {
		return 0, nil
	}
	rc := C.go_sink_write(unsafe.Pointer(sink.c), (*C.uchar)(unsafe.Pointer(&data[0])), C.size_t(len(data)))
	if rc < 0 {
		return 0, sink.check("write", rc)
	}
	return len(data), nil
}

// WriteString is Write, without a copy of the text.
func (sink *Sink) WriteString(text string) (n int, err error) {
	if err := sink.enterWrite(); err != nil {
		return 0, err
	}
	defer sink.leaveWrite()
	rc := C.go_sink_write_string(unsafe.Pointer(sink.c), text)
	if rc < 0 {
		return 0, sink.check("write", rc)
	}
	return len(text), nil
}

const (
	largestWrite = 1 << 30  // C refuses more
	largestSpare = 64 << 10 // memory that is kept for the next Writev
)

var spares = sync.Pool{New: func() interface{} { return new([]byte) }}

// Writev appends all pieces, of net.Buffers too, in one piece. They are copied, because C gets no pointers to pointers
// of Go.
func (sink *Sink) Writev(pieces [][]byte) (n int, err error) {
	size := 0
	for _, piece := range pieces {
		if len(piece) > largestWrite-size {
			return 0, sink.check("write", -C.EMSGSIZE)
		}
		size += len(piece)
	}
	spare := spares.Get().(*[]byte)
	joined := (*spare)[:0]
	for _, piece := range pieces {
		joined = append(joined, piece...)
	}
	n, err = sink.Write(joined)
	if cap(joined) <= largestSpare {
		*spare = joined
	}
	spares.Put(spare)
	return n, err
}

// ---- syncs and other files ----

// Sync returns when everything that any process has written before is on stable storage. After one has failed none
// succeeds.
func (sink *Sink) Sync() error {
	_, err := sink.call("sync", func(c *C.struct_twinlog_sink) C.int { return C.twinlog_sink_sync(c) })
	return err
}

// Reopen, after the file was renamed, goes on in the one that has the name now, or makes it. False: it was the same.
func (sink *Sink) Reopen() (isOther bool, err error) {
	rc, err := sink.call("reopen", func(c *C.struct_twinlog_sink) C.int { return C.twinlog_sink_reopen(c) })
	return rc > 0, err
}

// Rotate begins a new file, as MaxBytes does, if the present one has bytes and was made before that time: so of several
// processes that call it one does it. True: the sink is in another file now. ENOTSUP: a mapped sink.
func (sink *Sink) Rotate(madeBefore time.Time) (isOther bool, err error) {
	ns, err := nanoseconds(madeBefore)
	if err != nil {
		return false, sink.check("rotate", -C.EINVAL)
	}
	rc, err := sink.call("rotate", func(c *C.struct_twinlog_sink) C.int { return C.twinlog_sink_rotate(c, ns) })
	return rc > 0, err
}

// RotationError is why the sink is not in the file that its path names, or could not begin the next one for MaxBytes; nil
// if neither is so. Write succeeds meanwhile, in the file that the sink has. A mapped sink returns the error of a rotation
// for MaxBytes from Write.
func (sink *Sink) RotationError() error {
	_, err := sink.call("rotate", func(c *C.struct_twinlog_sink) C.int { return C.twinlog_sink_rotation_error(c) })
	return err
}

// SyncError is the error of the last sync that FlushInterval has made; nil if it has made none, or that succeeded. Write
// succeeds meanwhile. If Sync returns it as well, no sync of this sink succeeds any more.
func (sink *Sink) SyncError() error {
	_, err := sink.call("sync", func(c *C.struct_twinlog_sink) C.int { return C.twinlog_sink_sync_error(c) })
	return err
}

// Close waits for calls that are in C, and leaves the file. It does not sync. After an error it is closed, too; once more
// does nothing.
func (sink *Sink) Close() error {
	sink.gate.Lock()
	defer sink.gate.Unlock()
	if sink.c == nil {
		return nil
	}
	c := sink.c
	sink.c = nil
	return sink.check("close", C.twinlog_sink_close(c))
}
