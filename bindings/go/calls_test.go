// SPDX-License-Identifier: Apache-2.0
package twinlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limitOwnFiles limits the size of files that this process writes, and returns what lifts the limit.
func limitOwnFiles(t *testing.T, bytes uint64) (lift func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	limited := before
	limited.Cur = bytes
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited))
	isLimited := true
	lift = func() {
		if isLimited {
			isLimited = false
			must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before))
		}
	}
	t.Cleanup(lift)
	return lift
}

func mustHaveBounds(t *testing.T, log *Log, first, last, durable uint64) {
	t.Helper()
	f, l, d, err := log.Bounds()
	must(t, err)
	if f != first || l != last || d != durable {
		t.Fatalf("bounds are %d, %d, %d instead of %d, %d, %d", f, l, d, first, last, durable)
	}
}

func TestBounds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := open(t, dir, nil)
	mustHaveBounds(t, log, 0, 0, 0)
	_, err := log.AppendBatch(background, make([]Entry, 10), Terms{})
	must(t, err)
	_, err = log.Trim(4)
	must(t, err)
	mustHaveBounds(t, log, 4, 10, 10)
	_, err = log.AppendBatch(background, make([]Entry, 2), Terms{Level: LevelBuffered})
	must(t, err)
	mustHaveBounds(t, log, 4, 12, 10)

	only := open(t, dir, &Options{ReadOnly: true})
	mustHaveBounds(t, only, 4, 10, 10)
	must(t, log.SetFlushInterval(time.Minute))
	must(t, log.SetFlushInterval(0))
	if err := log.SetFlushInterval(-1); err == nil {
		t.Error("a negative interval is taken")
	}
	must(t, log.Sync())
	mustHaveBounds(t, only, 4, 12, 12)
	must(t, log.Reset(100))
	mustHaveBounds(t, log, 0, 99, 99)
	mustHaveBounds(t, only, 0, 0, 0)
	must(t, log.Close())
	_, _, _, err = log.Bounds()
	mustBe(t, err, os.ErrClosed)

	must(t, os.RemoveAll(dir))
	_, _, _, err = only.Bounds()
	mustBe(t, err, syscall.ESTALE)
	must(t, func() error {
		if err := only.Close(); !errors.Is(err, syscall.ESTALE) {
			return err
		}
		return nil
	}())
}

// Beside appends, truncations, resets and trims every look is one that the log has had.
func TestBoundsBesideChanges(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log"), nil)
	ctx, cancel := context.WithCancel(background)
	ends := make(chan error, 1)
	go func() {
		for base := uint64(1000); ctx.Err() == nil; base += 1000 {
			err := log.Reset(base)
			if err == nil {
				_, err = log.AppendBatch(background, make([]Entry, 9), Terms{})
			}
			if err == nil {
				err = log.Truncate(base + 5)
			}
			if err == nil {
				_, err = log.Trim(base + 3)
			}
			if err != nil {
				ends <- err
				return
			}
		}
		ends <- nil
	}()
	const looks = 20000
	for i := 0; i < looks; i++ {
		first, last, durable, err := log.Bounds()
		if err != nil || durable > last || last > 0 && first > last+1 || first >= 1000 && first/1000 != last/1000 {
			cancel()
			t.Fatal(first, last, durable, err, <-ends)
		}
	}
	cancel()
	must(t, <-ends)
	must(t, log.Close())
}

func TestReadInto(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log"), nil)
	at := time.Unix(1, 2)
	large := bytes.Repeat([]byte("0123456789"), 100)
	_, err := log.AppendBatch(background, []Entry{{Data: large, Type: 3, Tag: 4, Time: at}, {}}, Terms{})
	must(t, err)

	memory := make([]byte, 2000)
	record, size, err := log.ReadInto(1, memory)
	must(t, err)
	if size != 1000 || !bytes.Equal(record.Data, large) || &record.Data[0] != &memory[0] || cap(record.Data) != 1000 {
		t.Fatal(size, len(record.Data), cap(record.Data))
	}
	if record.LSN != 1 || record.Type != 3 || record.Tag != 4 || !record.Time.Equal(at) {
		t.Fatal(record)
	}
	if _, size, err = log.ReadInto(1, memory[:1000]); err != nil || size != 1000 {
		t.Fatal(size, err)
	}

	untouched := bytes.Repeat([]byte{7}, 999)
	small := append([]byte(nil), untouched...)
	record, size, err = log.ReadInto(1, small)
	mustBe(t, err, syscall.ENOBUFS)
	if size != 1000 || record.Data != nil || !bytes.Equal(small, untouched) {
		t.Fatal(size, record)
	}
	_, size, err = log.ReadInto(1, nil)
	mustBe(t, err, syscall.ENOBUFS)
	if size != 1000 {
		t.Fatal(size)
	}
	for _, memory := range [][]byte{nil, {}, make([]byte, 1)} {
		if record, size, err = log.ReadInto(2, memory); err != nil || size != 0 || len(record.Data) != 0 || record.LSN != 2 {
			t.Fatal(record, size, err)
		}
	}

	_, size, err = log.ReadInto(3, memory)
	mustBe(t, err, syscall.ERANGE)
	if size != 0 {
		t.Fatal(size)
	}
	_, _, err = log.ReadInto(0, memory)
	mustBe(t, err, syscall.EINVAL)
	if count := testing.AllocsPerRun(100, func() { record, size, err = log.ReadInto(1, memory) }); count != 0 {
		t.Errorf("ReadInto allocates %v times", count)
	}
	must(t, log.Skip(5))
	_, _, err = log.ReadInto(3, memory)
	mustBe(t, err, syscall.ENOENT)
	must(t, log.Close())
	_, _, err = log.ReadInto(1, memory)
	mustBe(t, err, os.ErrClosed)
}

// Bytes may be a part of a structure, or of a variable of the package, that has pointers, too: Go ends a program that shows C
// a pointer into such a thing, unless the type of C says that only bytes are meant. Records over 32 KiB are not copied.
type message struct {
	next  *message
	head  [24]byte
	large [40000]byte
}

var globalMessage = message{next: &message{}}

func TestBytesBesidePointers(t *testing.T) {
	dir := t.TempDir()
	durable := open(t, filepath.Join(dir, "durable"), nil)
	mapped := open(t, filepath.Join(dir, "mapped"), &Options{Mode: Mapped})
	shared := open(t, filepath.Join(dir, "shared"), &Options{Mode: Shared})
	committer, err := OpenCommitter()
	must(t, err)
	served := open(t, filepath.Join(dir, "served"), &Options{Committer: committer})
	sink, err := OpenSink(filepath.Join(dir, "sink"), nil)
	must(t, err)
	mappedSink, err := OpenSink(filepath.Join(dir, "mapped sink"), &SinkOptions{Mapped: true})
	must(t, err)

	// appended reads back what a log has stored.
	appended := func(log *Log, terms Terms, entries ...Entry) error {
		lsn, err := log.AppendBatch(background, entries, terms)
		if err != nil {
			return err
		}
		if err = log.Sync(); err != nil {
			return err
		}
		record, err := log.Read(lsn)
		if err == nil && !bytes.Equal(record.Data, entries[0].appendTo(nil)) {
			err = fmt.Errorf("record %d has %d other bytes", lsn, len(record.Data))
		}
		return err
	}
	written := func(n int, err error) error { return err }
	for _, test := range []struct {
		name string
		call func(m *message) error
	}{
		{"small", func(m *message) error { return appended(durable, Terms{}, Entry{Data: m.head[:]}) }},
		{"large", func(m *message) error { return appended(durable, Terms{}, Entry{Data: m.large[:]}) }},
		{"large, two pieces", func(m *message) error {
			return appended(durable, Terms{}, Entry{Pieces: [][]byte{m.head[:], m.large[:]}})
		}},
		{"large, three pieces", func(m *message) error {
			return appended(durable, Terms{}, Entry{Pieces: [][]byte{m.head[:], m.large[:], m.head[:]}})
		}},
		{"large, a batch", func(m *message) error {
			return appended(durable, Terms{}, Entry{Data: m.large[:]}, Entry{Data: m.head[:]})
		}},
		{"an empty piece first", func(m *message) error {
			return appended(durable, Terms{Try: true}, Entry{Pieces: [][]byte{m.head[:0], m.head[:]}})
		}},
		{"an empty piece last", func(m *message) error {
			return appended(durable, Terms{Try: true}, Entry{Pieces: [][]byte{m.head[:], m.head[:0]}})
		}},
		{"buffered", func(m *message) error {
			return appended(durable, Terms{Level: LevelBuffered}, Entry{Data: m.head[:]})
		}},
		{"written", func(m *message) error { return appended(durable, Terms{Level: LevelWritten}, Entry{Data: m.head[:]}) }},
		{"tried", func(m *message) error { return appended(durable, Terms{Try: true}, Entry{Data: m.head[:]}) }},
		{"mapped", func(m *message) error { return appended(mapped, Terms{}, Entry{Data: m.head[:]}) }},
		{"mapped, in pieces", func(m *message) error {
			return appended(mapped, Terms{}, Entry{Pieces: [][]byte{m.head[:], m.large[:]}})
		}},
		{"shared", func(m *message) error { return appended(shared, Terms{}, Entry{Data: m.head[:]}) }},
		{"with a committer", func(m *message) error { return appended(served, Terms{}, Entry{Data: m.large[:]}) }},
		{"SetMeta", func(m *message) error { return durable.SetMeta("value", m.head[:]) }},
		{"SetMeta, empty", func(m *message) error { return durable.SetMeta("value", m.head[:0]) }},
		{"Change", func(m *message) error {
			_, err := durable.Change(background, Change{Edits: []Edit{SetMetaEdit("value", m.head[:])}})
			return err
		}},
		{"ReadInto", func(m *message) error {
			_, _, err := durable.ReadInto(1, m.head[:])
			return err
		}},
		{"Write", func(m *message) error { return written(sink.Write(m.head[:])) }},
		{"Write, mapped", func(m *message) error { return written(mappedSink.Write(m.head[:])) }},
		{"Writev", func(m *message) error { return written(sink.Writev([][]byte{m.head[:], m.large[:]})) }},
	} {
		for place, m := range map[string]*message{"a structure": {next: &message{}}, "a global": &globalMessage} {
			err := func() (err error) {
				defer func() {
					if panicked := recover(); panicked != nil {
						err = fmt.Errorf("panic: %v", panicked)
					}
				}()
				return test.call(m)
			}()
			if err != nil {
				t.Errorf("%s, bytes of %s: %v", test.name, place, err)
			}
		}
	}
	for _, log := range []*Log{durable, mapped, shared, served} {
		must(t, log.Close())
	}
	must(t, committer.Close())
	must(t, sink.Close())
	must(t, mappedSink.Close())
}

// A record in pieces is the same record, by itself, in a batch, in a group with others, small and large.
func TestPieces(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log"), nil)
	payload := bytes.Repeat([]byte("payload "), 10000)
	for _, pieces := range [][][]byte{
		{},
		{nil, nil},
		{[]byte("head"), nil},
		{nil, []byte("tail")},
		{[]byte("a"), []byte("bc"), []byte("def")},
		{[]byte("head"), payload},
		{payload, []byte("tail")},
		{payload, nil},
		{nil, payload},
		{[]byte("a"), payload, []byte("z"), payload},
	} {
		whole := bytes.Join(pieces, nil)
		for _, terms := range []Terms{{}, {Try: true}, {Level: LevelBuffered}} {
			one := Entry{Pieces: pieces, Type: 9}
			lsn, err := log.AppendBatch(background, []Entry{one}, terms)
			must(t, err)
			first, err := log.AppendBatch(background, []Entry{{Data: []byte("before")}, one, {Data: []byte("behind")}}, terms)
			must(t, err)
			must(t, log.Sync())
			for _, at := range []uint64{lsn, first + 1} {
				record, err := log.Read(at)
				must(t, err)
				if !bytes.Equal(record.Data, whole) || record.Type != 9 {
					t.Fatalf("%d pieces: %d bytes, type %d", len(pieces), len(record.Data), record.Type)
				}
			}
			for at, text := range map[uint64]string{first: "before", first + 2: "behind"} {
				record, err := log.Read(at)
				must(t, err)
				if string(record.Data) != text {
					t.Fatal(record)
				}
			}
		}
	}
	before := log.LastLSN()
	_, err := log.AppendBatch(background, []Entry{{Data: []byte("x"), Pieces: [][]byte{{'y'}}}}, Terms{})
	mustBe(t, err, syscall.EINVAL)
	half := make([]byte, log.MaxRecordBytes()/2)
	_, err = log.AppendBatch(background, []Entry{{Pieces: [][]byte{half, half, {1}}}}, Terms{})
	mustBe(t, err, syscall.EMSGSIZE)
	if log.LastLSN() != before {
		t.Fatal("a record that was refused is there")
	}

	var wait sync.WaitGroup
	for i := 0; i < 50; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			text := fmt.Sprint("value ", i)
			lsn, err := log.AppendBatch(background, []Entry{{Pieces: [][]byte{[]byte(text[:6]), []byte(text[6:])}}}, Terms{})
			record, readErr := log.Read(lsn)
			if err != nil || readErr != nil || string(record.Data) != text {
				t.Error(err, readErr, string(record.Data))
			}
		}(i)
	}
	wait.Wait()
	must(t, log.Close())
}

// The numbers are what C takes: that much works, and 8 bytes more do not.
func TestLargestBatch(t *testing.T) {
	for _, options := range []Options{
		{},
		{SegmentBytes: 64 << 10},
		{SegmentBytes: 1 << 20},
		{SegmentBytes: 3<<20 + 4096},
		{MaxRecordBytes: 9<<20 + 1},
		{MaxRecordBytes: 1},
		{BufferBytes: 16 << 10},
		{BufferBytes: 32 << 10, MaxRecordBytes: 5000},
		{BufferBytes: 12 << 20, MaxRecordBytes: 12<<20 - 8192 - 24},
	} {
		log := open(t, filepath.Join(t.TempDir(), "log"), &options)
		_, err := log.Append(background, make([]byte, log.MaxRecordBytes()))
		must(t, err)
		_, err = log.Append(background, make([]byte, log.MaxRecordBytes()+1))
		mustBe(t, err, syscall.EMSGSIZE)

		size := log.MaxRecordBytes()
		if size > 1000 {
			size = 1000
		}
		size &^= 7
		most := log.MaxBatchBytes() / BatchBytes(size)
		if most > 20000 {
			must(t, log.Close())
			continue // a million of the smallest records would say nothing more
		}
		entries := make([]Entry, most, most+1)
		for i := range entries {
			entries[i].Data = make([]byte, size)
		}
		rest := (log.MaxBatchBytes() - most*BatchBytes(size)) &^ 7
		if rest >= BatchBytes(0) && BatchBytes(rest-BatchBytes(0)) == rest {
			entries = append(entries, Entry{Data: make([]byte, rest-BatchBytes(0))})
		}
		_, err = log.AppendBatch(background, entries, Terms{})
		if err != nil {
			t.Fatalf("%+v: a batch of %d records: %v", options, len(entries), err)
		}
		entries = append(entries, Entry{})
		_, err = log.AppendBatch(background, entries, Terms{})
		mustBe(t, err, syscall.EMSGSIZE)
		must(t, log.Close())
	}
	dir := filepath.Join(t.TempDir(), "log")
	must(t, open(t, dir, nil).Close())
	only := open(t, dir, &Options{ReadOnly: true})
	if only.MaxBatchBytes() != 0 || only.MaxRecordBytes() != 0 {
		t.Fatal("a log that only reads takes records")
	}
	must(t, only.Close())
}

func TestChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := open(t, dir, nil)
	_, err := log.AppendBatch(background, make([]Entry, 10), Terms{Level: LevelBuffered})
	must(t, err)
	must(t, log.SetMeta("old", []byte("x")))

	first, err := log.Change(background, Change{
		Edits: []Edit{
			SetMetaEdit("snapshot", []byte("at 5")),
			SetMetaEdit("empty", nil),
			RemoveMetaEdit("old"),
			RemoveMetaEdit("never there"),
			SetCursorEdit("reader", 7),
			SetCursorEdit("gone", 6),
			RemoveCursorEdit("gone"),
		},
		TrimBefore: 6,
	})
	must(t, err)
	if first != 6 || log.DurableLSN() < 5 {
		t.Fatal(first, log.DurableLSN())
	}
	value, err := log.Meta("snapshot")
	must(t, err)
	none, err := log.Meta("empty")
	must(t, err)
	if string(value) != "at 5" || len(none) != 0 {
		t.Fatal(string(value), none)
	}
	_, err = log.Meta("old")
	mustBe(t, err, syscall.ENOENT)
	cursors, err := log.Cursors()
	must(t, err)
	if fmt.Sprint(cursors) != "map[reader:7]" {
		t.Fatal(cursors)
	}

	// The cursor holds the trim, unless it is told not to.
	first, err = log.Change(background, Change{TrimBefore: 10})
	must(t, err)
	if first != 8 {
		t.Fatal(first)
	}
	first, err = log.Change(background, Change{TrimBefore: 10, TrimPastCursors: true})
	must(t, err)
	if lsn, err := log.Cursor("reader"); first != 10 || lsn != 9 || err != nil {
		t.Fatal(first, lsn, err)
	}

	// Nothing of a change that is refused.
	set := SetMetaEdit("refused", []byte("x"))
	for _, test := range []struct {
		change Change
		err    error
	}{
		{Change{}, syscall.EINVAL},
		{Change{Edits: []Edit{set, {}}}, syscall.EINVAL},
		{Change{Edits: []Edit{set, SetMetaEdit("", nil)}}, syscall.EINVAL},
		{Change{Edits: []Edit{set, SetMetaEdit("a\x00b", nil)}}, syscall.EINVAL},
		{Change{Edits: []Edit{set, SetMetaEdit("twinlog.keep_records", []byte("none"))}}, syscall.EINVAL},
		{Change{Edits: []Edit{set, SetMetaEdit("large", make([]byte, MaxMetaBytes+1))}}, syscall.EMSGSIZE},
		{Change{Edits: []Edit{set, SetCursorEdit("reader", 11)}}, syscall.ERANGE},
		{Change{Edits: []Edit{set, SetCursorEdit("reader", 3)}}, ErrTrimmed},
		{Change{Edits: []Edit{set}, Durable: 11}, syscall.ERANGE},
		{Change{Edits: []Edit{set}, TrimBefore: 12}, syscall.ERANGE},
		{Change{Edits: make([]Edit, 1025)}, syscall.EINVAL},
	} {
		_, err := log.Change(background, test.change)
		mustBe(t, err, test.err)
	}
	done, cancel := context.WithCancel(background)
	cancel()
	_, err = log.Change(done, Change{Edits: []Edit{set}})
	mustBe(t, err, context.Canceled)
	_, err = log.Meta("refused")
	mustBe(t, err, syscall.ENOENT)

	// Values that point to values: every process sees both, or none.
	only := open(t, dir, &Options{ReadOnly: true})
	_, err = only.Change(background, Change{Edits: []Edit{SetMetaEdit("of a reader", []byte("1"))}})
	must(t, err)
	_, err = only.Change(background, Change{TrimBefore: 1})
	mustBe(t, err, syscall.EROFS)
	must(t, only.Close())
	must(t, log.Close())
	_, err = log.Change(background, Change{Edits: []Edit{set}})
	mustBe(t, err, os.ErrClosed)
}

func TestOpenContext(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log, err := OpenContext(background, dir, nil)
	must(t, err)
	ctx, cancel := context.WithCancel(background)
	ends := make(chan error)
	go func() {
		_, err := OpenContext(ctx, dir, nil)
		ends <- err
	}()
	select {
	case err := <-ends:
		t.Fatal(err)
	case <-time.After(3 * roomWait): // it waits although nothing says how long
	}
	cancel()
	err = <-ends
	mustBe(t, err, context.Canceled)
	mustSay(t, err, "open "+dir+": ")

	soon, cancel := context.WithTimeout(background, 10*time.Millisecond)
	defer cancel()
	_, err = OpenContext(soon, dir, &Options{LockTimeout: time.Hour})
	mustBe(t, err, context.DeadlineExceeded)
	_, err = OpenContext(background, dir+"/no/log", nil)
	mustBe(t, err, syscall.ENOENT)
	go func() {
		other, err := OpenContext(background, dir, nil)
		if err == nil {
			err = other.Close()
		}
		ends <- err
	}()
	must(t, log.Close())
	must(t, <-ends)
}

// A log that a failed write has poisoned refuses what it is asked until it is opened again; then nothing that was
// acknowledged is missing.
func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := open(t, dir, nil)
	acknowledged := uint64(0)
	fill := func() error {
		for {
			lsn, err := log.Append(background, make([]byte, 10000))
			if err != nil {
				return err
			}
			acknowledged = lsn
			if lsn > 1000 {
				return nil
			}
		}
	}
	lift := limitOwnFiles(t, 100<<10)
	mustBe(t, fill(), ErrPoisoned)
	_, err := log.Append(background, nil)
	mustBe(t, err, ErrPoisoned)
	stat, err := log.Stat()
	must(t, err)
	mustBe(t, stat.Poison, syscall.EFBIG)
	_, last, durable, err := log.Bounds()
	must(t, err)
	if last < acknowledged || durable < acknowledged {
		t.Fatal(last, durable, acknowledged)
	}

	reader, err := log.Reader(0)
	must(t, err)
	mustBe(t, log.Reopen(), syscall.EBUSY)
	_, err = log.Append(background, nil)
	mustBe(t, err, ErrPoisoned)
	reader.Close()

	mustBe(t, log.Reopen(), syscall.EFBIG)
	_, err = log.Append(background, nil)
	mustBe(t, err, os.ErrClosed)
	mustBe(t, log.Reopen(), syscall.EFBIG)
	lift()
	must(t, log.Reopen())
	if last := log.LastLSN(); last < acknowledged {
		t.Fatal(last, acknowledged)
	}
	must(t, fill())
	must(t, log.Reopen()) // also where nothing has failed
	if _, last, _, err := log.Bounds(); err != nil || last != acknowledged {
		t.Fatal(last, acknowledged, err)
	}
	must(t, os.Rename(dir, dir+".away"))
	mustBe(t, log.Reopen(), syscall.ENOENT)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("an empty log in the place of the one that is gone:", err)
	}
	must(t, os.Rename(dir+".away", dir))
	must(t, log.Reopen())
	if last := log.LastLSN(); last != acknowledged {
		t.Fatal(last, acknowledged)
	}
	must(t, log.Close())
	mustBe(t, log.Reopen(), os.ErrClosed)
}

// A limit that is kept in the log removes nothing where NoRetention is set.
func TestNoRetention(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	_, err := Open(dir, &Options{NoRetention: true, KeepRecords: 1})
	mustBe(t, err, syscall.EINVAL)
	for _, none := range []bool{true, false} {
		log := open(t, dir, &Options{NoRetention: none, SegmentBytes: 64 << 10})
		must(t, log.SetMeta("twinlog.keep_records", []byte("1")))
		for i := 0; i < 40; i++ {
			_, err := log.Append(background, make([]byte, 10000))
			must(t, err)
		}
		if first := log.FirstLSN(); (first == 1) != none {
			t.Fatal(none, first)
		}
		must(t, log.Close())
	}
}
