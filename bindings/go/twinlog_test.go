// SPDX-License-Identifier: Apache-2.0
package twinlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var background = context.Background()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustBe(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%v instead of %v", err, target)
	}
}

func mustSay(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("%v instead of %s", err, text)
	}
}

func open(t *testing.T, dir string, options *Options) *Log {
	t.Helper()
	log, err := Open(dir, options)
	must(t, err)
	return log
}

func TestErrors(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "not", "here"), nil)
	mustBe(t, err, syscall.ENOENT)
	_, err = Open(filepath.Join(t.TempDir(), "log"), &Options{MustExist: true})
	mustBe(t, err, syscall.ENOENT)
	if _, err := Open(t.TempDir()+"/no/log", nil); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if ErrTrimmed.Error() == "" || errors.Is(ErrTrimmed, syscall.ENOENT) {
		t.Fatal("an error of the library is no errno")
	}
	dir := filepath.Join(t.TempDir(), "log")
	log := open(t, dir, nil)
	_, err = Open(dir, nil)
	mustBe(t, err, syscall.EBUSY)
	_, err = log.AppendBatch(background, nil, Terms{})
	mustBe(t, err, syscall.EINVAL)
	lsn, err := log.Append(background, make([]byte, 64<<20))
	mustBe(t, err, syscall.EMSGSIZE)
	if lsn != 0 {
		t.Fatal("a record that was refused has an LSN")
	}
	reader, err := log.Reader(0)
	must(t, err)
	mustBe(t, log.Close(), syscall.EBUSY)
	_, err = log.Append(background, []byte("still open"))
	must(t, err)
	reader.Close()
	must(t, log.Close())
	must(t, log.Close())
	_, err = log.Append(background, []byte("closed"))
	mustBe(t, err, os.ErrClosed)
	_, err = log.Read(1)
	mustBe(t, err, os.ErrClosed)
	_, err = log.Stat()
	mustBe(t, err, os.ErrClosed)
	_, err = log.Cursors()
	mustBe(t, err, os.ErrClosed)
	_, err = log.Reader(0)
	mustBe(t, err, os.ErrClosed)
	mustBe(t, log.Sync(), os.ErrClosed)
	mustBe(t, log.Wait(background, 1, LevelDurable), os.ErrClosed)
	if log.LastLSN() != 0 {
		t.Fatal("an LSN of a closed log")
	}
	reader.Close()
	mustBe(t, reader.Wait(background), os.ErrClosed)
	mustBe(t, reader.Seek(1), os.ErrClosed)
	_, err = reader.Next()
	mustBe(t, err, os.ErrClosed)
}

// The list in bindings/README.md; what is not here does not compile, or Go has no call for it, as for fork.
func TestMisuse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	for _, options := range []Options{{SegmentBytes: 1}, {Mode: 99}, {KeepAge: -1}, {LockTimeout: -1}, {FlushInterval: -1}} {
		_, err := Open(dir, &options)
		mustBe(t, err, syscall.EINVAL)
	}
	for d, ms := range map[time.Duration]uint64{-1: 0, 0: 0, 1: 1, 1e6: 1, 1e6 + 1: 2, 1<<63 - 1: 9223372036855} {
		if milliseconds(d) != ms || uint64(milliseconds32(d)) > ms {
			t.Fatal(d, milliseconds(d), milliseconds32(d))
		}
	}
	_, err := Open(dir+"\x00x", nil)
	mustBe(t, err, syscall.EINVAL)
	if _, err = os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	log := open(t, dir, &Options{BufferBytes: 16384, MaxRecordBytes: 4096})
	_, err = OpenReader(dir+"\x00x", 0)
	mustBe(t, err, syscall.EINVAL)
	_, err = OpenConsumer(dir+"\x00x", "name")
	mustBe(t, err, syscall.EINVAL)
	for _, name := range []string{"", "a\x00b", strings.Repeat("x", 64)} {
		_, err = OpenConsumer(dir, name)
		mustBe(t, err, syscall.EINVAL)
		mustBe(t, log.SetCursor(name, 0), syscall.EINVAL)
		mustBe(t, log.SetMeta(name, []byte("value")), syscall.EINVAL)
	}
	large := Entry{Data: make([]byte, 4000)}
	for _, test := range []struct {
		entries []Entry
		terms   Terms
		errno   syscall.Errno
	}{
		{nil, Terms{}, syscall.EINVAL},
		{[]Entry{{}}, Terms{Level: 99}, syscall.EINVAL},
		{[]Entry{{Time: time.Unix(1<<40, 0)}}, Terms{}, syscall.EINVAL},
		{[]Entry{{Time: time.Unix(-1<<40, 0)}}, Terms{}, syscall.EINVAL},
		{[]Entry{{Time: time.Unix(0, 0)}}, Terms{}, syscall.EINVAL}, // would become the present time
		{[]Entry{{Data: make([]byte, 4097)}}, Terms{}, syscall.EMSGSIZE},
		{[]Entry{large, large, large}, Terms{}, syscall.EMSGSIZE},
	} {
		_, err = log.AppendBatch(background, test.entries, test.terms)
		mustBe(t, err, test.errno)
	}
	mustBe(t, log.SetMeta("name", make([]byte, MaxMetaBytes+1)), syscall.EMSGSIZE)
	_, err = log.Read(0)
	mustBe(t, err, syscall.EINVAL)
	_, err = log.Read(1<<64 - 1)
	mustBe(t, err, syscall.ERANGE)
	mustBe(t, log.Wait(background, 1, LevelDurable), syscall.EINVAL)
	mustBe(t, log.Truncate(1<<64-1), syscall.EINVAL)
	mustBe(t, log.Reset(0), syscall.EINVAL)
	mustBe(t, log.SetCursor("name", 1), syscall.ERANGE)
	reader, err := log.Reader(0)
	must(t, err)
	mustBe(t, reader.Seek(0), syscall.EINVAL)
	mustBe(t, reader.SeekTime(time.Time{}), syscall.EINVAL)
	reader.Close()
	cursors, err := log.Cursors()
	must(t, err)
	_, err = log.Meta("name")
	mustBe(t, err, syscall.ENOENT)
	if log.LastLSN() != 0 || len(cursors) != 0 {
		t.Fatal(log.LastLSN(), cursors)
	}

	_, err = log.Append(background, []byte("x"))
	must(t, err)
	consumer, err := OpenConsumer(dir, "name")
	must(t, err)
	_, err = OpenConsumer(dir, "name")
	mustBe(t, err, syscall.EBUSY)
	err = consumer.Commit(1)
	mustBe(t, err, syscall.EINVAL)
	mustSay(t, err, "commit "+dir+": ")
	consumer.Close()
	mustBe(t, consumer.Commit(0), os.ErrClosed)
	must(t, log.Close())
	_, err = log.Append(background, []byte("y"))
	mustBe(t, err, os.ErrClosed)
}

// As a range statement of Go 1.23 calls them.
func TestRange(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log"), nil)
	_, err := log.AppendBatch(background, make([]Entry, 3), Terms{})
	must(t, err)
	reader, err := log.Reader(0)
	must(t, err)
	var seen []uint64
	reader.Records()(func(record Record, err error) bool {
		must(t, err)
		seen = append(seen, record.LSN)
		return record.LSN != 2
	})
	reader.Records()(func(record Record, err error) bool {
		must(t, err)
		seen = append(seen, record.LSN)
		return true
	})
	must(t, reader.Seek(1))
	ctx, cancel := context.WithCancel(background)
	reader.Following(ctx)(func(record Record, err error) bool {
		if err == nil {
			seen = append(seen, record.LSN)
			if record.LSN == 3 {
				cancel()
			}
		} else {
			mustBe(t, err, context.Canceled)
			seen = append(seen, 0)
		}
		return true
	})
	must(t, reader.Seek(3))
	mustBe(t, reader.Follow(ctx, func(record Record) error {
		t.Fatal("a record behind the end of the context")
		return nil
	}), context.Canceled)
	reader.Following(background)(func(record Record, err error) bool {
		must(t, err)
		seen = append(seen, record.LSN)
		return false
	})
	if fmt.Sprint(seen) != "[1 2 3 1 2 3 0 3]" {
		t.Fatal(seen)
	}
	reader.Close()
	must(t, log.Close())
}

// What errors say beside their number.
func TestReports(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := open(t, dir, nil)
	var report *ReportError
	if _, err := Open(dir, nil); !errors.As(err, &report) || !strings.Contains(report.Report.Text, fmt.Sprint(os.Getpid())) {
		t.Fatal(err)
	}
	_, err := OpenReader(dir+".not", 0)
	mustSay(t, err, "open "+dir+".not: cannot open the log's directory: No such file")
	mustBe(t, err, syscall.ENOENT)
	_, err = log.AppendBatch(background, make([]Entry, 10), Terms{})
	must(t, err)
	_, err = log.Trim(5)
	must(t, err)
	reader, err := log.Reader(0)
	must(t, err)
	must(t, reader.Seek(1))
	if _, err = reader.Next(); !errors.As(err, &report) || report.Report.FirstLSN != 5 {
		t.Fatal(err)
	}
	mustBe(t, err, ErrTrimmed)
	mustSay(t, err, "read "+dir+": that record was removed")
	reader.Close()
	must(t, log.Close())
	const file = "0000000000000001.twl"
	damaged, err := os.OpenFile(filepath.Join(dir, file), os.O_RDWR, 0)
	must(t, err)
	_, err = damaged.WriteAt(make([]byte, 4096), 4096)
	must(t, err)
	must(t, damaged.Close())
	_, err = Open(dir, nil)
	mustBe(t, err, ErrCorrupt)
	mustSay(t, err, "open "+dir+": "+file+", offset 4096, LSN 5 to 10: acknowledged data is damaged: ")
	if !errors.As(err, &report) || report.Report.File != file {
		t.Fatal(err)
	}
}

// Everything that waits in a log or reader ends when it is closed, and what was acknowledged is there.
func TestCloseBesideCalls(t *testing.T) {
	for round := 0; round < 20; round++ {
		dir := filepath.Join(t.TempDir(), "log")
		log := open(t, dir, nil)
		var wait sync.WaitGroup
		var acknowledged int64
		for worker := 0; worker < 8; worker++ {
			wait.Add(1)
			go func(worker int) {
				defer wait.Done()
				for {
					var err error
					switch worker % 4 {
					case 0, 1:
						_, err = log.Append(background, []byte("x"))
						if err == nil {
							atomic.AddInt64(&acknowledged, 1)
						}
					case 2:
						_, err = log.Stat()
					case 3:
						err = log.Sync()
					}
					if err != nil {
						if !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.ECANCELED) && !errors.Is(err, syscall.ESHUTDOWN) {
							t.Error(err)
						}
						return
					}
				}
			}(worker)
		}
		time.Sleep(time.Duration(round) * time.Millisecond)
		must(t, log.Close())
		wait.Wait()
		log = open(t, dir, &Options{ReadOnly: true})
		if int64(log.LastLSN()) < acknowledged {
			t.Fatalf("%d of %d", log.LastLSN(), acknowledged)
		}
		must(t, log.Close())
	}
}

// Goroutines that wait for records take one thread for each log, not one each.
func TestFollowers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := open(t, dir, nil)
	_, err := log.Append(background, []byte("1"))
	must(t, err)
	threads := func() int {
		tasks, err := os.ReadDir("/proc/self/task")
		must(t, err)
		return len(tasks)
	}
	before := threads()
	const readers, records = 100, 20
	var all []*Reader
	ends := make(chan error, readers)
	var seen int64
	ctx, cancel := context.WithCancel(background)
	// One after the other: where many read at once, the runtime starts threads for calls that are held up.
	for i := 0; i < readers; i++ {
		reader, err := log.Reader(0)
		must(t, err)
		all = append(all, reader)
		go func(i int) {
			own := ctx
			if i%2 == 0 {
				own = background // ends by Close
			}
			ends <- reader.Follow(own, func(Record) error { atomic.AddInt64(&seen, 1); return nil })
		}(i)
		for atomic.LoadInt64(&seen) <= int64(i) {
			time.Sleep(100 * time.Microsecond)
		}
	}
	if more := threads() - before; more > readers/2 {
		t.Errorf("%d threads for %d readers that wait", more, readers)
	}
	for i := 1; i < records; i++ {
		_, err := log.Append(background, []byte("x"))
		must(t, err)
	}
	for atomic.LoadInt64(&seen) < readers*records {
		time.Sleep(time.Millisecond)
	}
	cancel()
	for _, reader := range all {
		reader.Close()
		reader.Close() // once more does nothing
	}
	for i := 0; i < readers; i++ {
		if err := <-ends; !errors.Is(err, os.ErrClosed) && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	must(t, log.Close())
	if len(allNews.of) != 0 {
		t.Error("news of closed readers are left")
	}
}

// A log whose disk does not answer holds up nobody who waits for records of another log, or closes a reader of it.
func TestNewsOfOneLogHoldUpNoOther(t *testing.T) {
	place := t.TempDir()
	begin := func(name string) *Reader {
		dir := filepath.Join(place, name)
		log := open(t, dir, nil)
		_, err := log.Append(background, nil)
		must(t, err)
		must(t, log.Close())
		reader, err := OpenReader(dir, 0)
		must(t, err)
		return reader
	}
	answers := make(chan struct{})

	stuck := begin("opens") // as if its directory was being opened
	isOpening := make(chan struct{})
	ends := make(chan error)
	opened := newsOf(stuck.log)
	go opened.opening.Do(func() {
		close(isOpening)
		<-answers
		opened.err = syscall.EIO
	})
	<-isOpening
	go func() { ends <- stuck.Wait(background) }()

	hasLeft := make(chan struct{})
	left := newsOf(identity{1, 1}) // as if its reader was looking for records
	left.opening.Do(func() { left.file, _ = os.Open(place) })
	go func() {
		left.leave()
		close(hasLeft)
	}()
	<-left.ending

	for i := 0; i < 3; i++ { // meanwhile
		healthy := begin("healthy")
		must(t, healthy.Wait(background))
		healthy.Close()
	}
	close(answers)
	mustBe(t, <-ends, syscall.EIO)
	opened.leave()
	stuck.Close()
	close(left.ended)
	<-hasLeft
	if len(allNews.of) != 0 {
		t.Errorf("%d logs are watched", len(allNews.of))
	}
}

// What waits is told of a truncation, of a writer that comes later, and of the log that is at its place now.
func TestNews(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	fill := func() {
		log := open(t, dir, nil)
		_, err := log.Append(background, []byte("1"))
		must(t, err)
		must(t, log.Close())
	}
	fill()
	ends := make(chan error)
	wait := func() *Reader {
		reader, err := OpenReader(dir, 0)
		must(t, err)
		_, err = reader.Next()
		must(t, err)
		go func() {
			err := reader.Wait(background)
			if err == nil {
				_, err = reader.Next()
			}
			ends <- err
		}()
		for reader.lock.Lock(); reader.news == nil; reader.lock.Lock() { // it waits, or soon will
			reader.lock.Unlock()
			time.Sleep(time.Millisecond)
		}
		reader.lock.Unlock()
		return reader
	}
	reader := wait()
	late, err := OpenReader(dir, 2)
	must(t, err)
	must(t, os.Rename(dir, dir+".old"))
	fill()
	other := wait()
	soon, enough := context.WithTimeout(background, 10*time.Second)
	mustBe(t, late.Wait(soon), syscall.ESTALE) // it reads the one, and could only watch the other
	enough()
	late.Close()
	if len(allNews.of) != 2 {
		t.Errorf("%d logs are watched", len(allNews.of))
	}
	log := open(t, dir, nil)
	must(t, log.Truncate(0))
	mustBe(t, <-ends, ErrTruncated)
	must(t, log.Close())
	log = open(t, dir+".old", nil)
	_, err = log.Append(background, []byte("2"))
	must(t, err)
	must(t, <-ends)
	must(t, log.Close())

	ctx, cancel := context.WithCancel(background)
	go func() { ends <- reader.Wait(ctx) }()
	cancel()
	mustBe(t, <-ends, context.Canceled)
	go func() { ends <- reader.Wait(background) }()
	reader.Close()
	mustBe(t, <-ends, os.ErrClosed)
	other.Close()
}

func TestAppendAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := open(t, dir, &Options{SegmentBytes: 1 << 20})
	when := time.Unix(1700000000, 5)
	lsn, err := log.AppendBatch(background, []Entry{{Data: []byte("one"), Type: 7, Tag: 300, Time: when}, {}}, Terms{})
	must(t, err)
	if lsn != 1 || log.DurableLSN() != 2 || log.FirstLSN() != 1 || log.LastLSN() != 2 {
		t.Fatal("LSNs")
	}
	lsn, err = log.AppendBatch(background, []Entry{{Data: []byte("three")}}, Terms{Level: LevelBuffered})
	must(t, err)
	must(t, log.Wait(background, lsn, LevelDurable))
	must(t, log.Sync())

	record, err := log.Read(1)
	must(t, err)
	if record.LSN != 1 || !record.Time.Equal(when) || record.Type != 7 || record.Tag != 300 || string(record.Data) != "one" {
		t.Fatal(record)
	}
	large := bytes.Repeat([]byte("large"), 10000)
	lsn, err = log.Append(background, large)
	must(t, err)
	record, err = log.Read(lsn)
	must(t, err)
	if !bytes.Equal(record.Data, large) {
		t.Fatal("a large record")
	}
	_, err = log.Read(lsn + 1)
	mustBe(t, err, syscall.ERANGE)

	reader, err := OpenReader(dir, 2)
	must(t, err)
	for _, text := range []string{"", "three", string(large)} {
		record, err := reader.Next()
		must(t, err)
		if string(record.Data) != text {
			t.Fatal(record)
		}
	}
	_, err = reader.Next()
	mustBe(t, err, io.EOF)
	record, err = reader.Previous()
	must(t, err)
	if record.LSN != 4 {
		t.Fatal(record.LSN)
	}
	must(t, reader.SeekEnd())
	waited := make(chan error)
	go func() { waited <- reader.Wait(background) }()
	_, err = log.Append(background, []byte("five"))
	must(t, err)
	must(t, <-waited)
	must(t, reader.SeekTime(when))
	must(t, reader.Seek(5))
	record, err = reader.Next()
	must(t, err)
	if string(record.Data) != "five" {
		t.Fatal(record)
	}
	canceled, cancel := context.WithCancel(background)
	cancel()
	mustBe(t, reader.Wait(canceled), context.Canceled)

	first, err := log.Trim(3)
	must(t, err)
	if first != 3 {
		t.Fatal(first)
	}
	must(t, reader.Seek(1))
	_, err = reader.Next()
	mustBe(t, err, ErrTrimmed)
	must(t, reader.SeekFirst())
	must(t, log.Truncate(4))
	must(t, log.Reset(100))
	lsn, err = log.Append(background, []byte("hundred"))
	must(t, err)
	if lsn != 100 {
		t.Fatal(lsn)
	}
	reader.Close()
	must(t, log.Close())
}

// Many goroutines wait, and everything that was acknowledged is there; the same with contexts that end meanwhile.
func TestGoroutines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := open(t, dir, nil)
	var wait sync.WaitGroup
	var lock sync.Mutex
	acknowledged := map[uint64]string{}
	for worker := 0; worker < 200; worker++ {
		wait.Add(1)
		go func(worker int) {
			defer wait.Done()
			for i := 0; i < 10; i++ {
				text := fmt.Sprintf("%d of %d", i, worker)
				ctx, cancel := background, func() {}
				if worker%4 == 0 {
					ctx, cancel = context.WithTimeout(background, time.Duration(worker)*time.Microsecond)
				}
				lsn, err := log.Append(ctx, []byte(text))
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if err == nil && lsn == 0 {
					t.Error("no LSN")
				}
				if lsn != 0 {
					lock.Lock()
					acknowledged[lsn] = text
					lock.Unlock()
				}
			}
		}(worker)
	}
	wait.Wait()
	must(t, log.Close())

	reader, err := OpenReader(dir, 0)
	must(t, err)
	defer reader.Close()
	for {
		record, err := reader.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if acknowledged[record.LSN] != string(record.Data) {
			t.Fatalf("LSN %d is %q, not %q", record.LSN, record.Data, acknowledged[record.LSN])
		}
		delete(acknowledged, record.LSN)
	}
	if len(acknowledged) > 0 {
		t.Fatal(len(acknowledged), "records are missing")
	}
}

// What one goroutine appends is refused, and those that were appended with it are not. One that leaves has appended nothing.
func TestTogether(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log"), &Options{BufferBytes: 16 << 10, MaxRecordBytes: 1000})
	log.together.recordBytes = aloneBytes // as if only C could know
	log.gate.Lock()                       // the first one leads and is held up in front of C, the others become a group
	const count = 6
	ends := make(chan error, count)
	join := func(ctx context.Context, data []byte) {
		_, err := log.Append(ctx, data)
		ends <- err
	}
	has := func(members int) bool {
		log.together.lock.Lock()
		defer log.together.lock.Unlock()
		return log.together.isLed && (members == 0 && len(log.together.groups) == 0 ||
			len(log.together.groups) == 1 && int(log.together.groups[0].live) == members)
	}
	await := func(members int) {
		for !has(members) {
			time.Sleep(time.Millisecond)
		}
	}
	go join(background, []byte("first"))
	await(0)
	ctx, cancel := context.WithCancel(background)
	go join(ctx, []byte("gone"))
	await(1)
	cancel()
	mustBe(t, <-ends, context.Canceled)
	await(0)
	ctx, cancel = context.WithCancel(background)
	go join(ctx, []byte("gone"))
	await(1)
	for i := 2; i < count; i++ {
		go join(background, make([]byte, 300*i))
	}
	await(count - 1)
	cancel()
	mustBe(t, <-ends, context.Canceled)
	log.gate.Unlock()
	refused := 0
	for i := 1; i < count; i++ {
		if err := <-ends; err != nil {
			mustBe(t, err, syscall.EMSGSIZE)
			refused++
		}
	}
	if refused != 2 || log.LastLSN() != 3 || log.DurableLSN() != 3 {
		t.Fatal(refused, log.LastLSN(), log.DurableLSN())
	}
	must(t, log.Close())
	mustBe(t, func() error { _, err := log.Append(background, []byte("x")); return err }(), os.ErrClosed)
}

// A leader expects nobody twice: not those that came back before it ran. Here it would wait for half an hour. And each
// member gets the LSN of its own record, though one in front of it has left.
func TestGather(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log"), nil)
	all := &log.together
	all.lock.Lock()
	all.isLed, all.duration = true, time.Hour
	g, _, _ := all.join([]Entry{{Data: []byte("of the leader")}}, 13, 40)
	all.lock.Unlock()
	ends := make(chan error, 4)
	joinTwo := func() {
		live := atomic.LoadInt32(&g.live) + 2
		for i := int32(0); i < 2; i++ {
			go func(data string) {
				lsn, err := log.Append(background, []byte(data))
				if err == nil {
					var record Record
					if record, err = log.Read(lsn); err == nil && string(record.Data) != data {
						err = errors.New(data + " became " + string(record.Data))
					}
				}
				ends <- err
			}(fmt.Sprint("of member ", live-i))
		}
		for atomic.LoadInt32(&g.live) < live {
			time.Sleep(time.Millisecond)
		}
	}
	ctx, cancel := context.WithCancel(background)
	go func() {
		_, err := log.Append(ctx, []byte("of one that leaves"))
		ends <- err
	}()
	for atomic.LoadInt32(&g.live) < 2 {
		time.Sleep(time.Millisecond)
	}
	joinTwo()
	cancel()
	mustBe(t, <-ends, context.Canceled)
	all.lock.Lock()
	all.handOn(log, 2)
	all.lock.Unlock()
	joinTwo()
	<-g.turn
	all.lead(log, g)
	for i := 0; i < 4; i++ {
		must(t, <-ends)
	}
	if log.DurableLSN() != 5 {
		t.Fatal(log.DurableLSN())
	}
	must(t, log.Close())
}

// Gathering is skipped for a while where it was in vain, not where most have come.
func TestGatherInVain(t *testing.T) {
	all := together{expected: 4}
	for live, skips := range map[int32]int{3: 0, 2: 1} {
		all.skips, all.vain = 0, 0
		all.gather(&group{live: live})
		if all.skips != skips {
			t.Fatal(live, all.skips)
		}
	}
}

// Nor those for which its group has no room.
func TestGatherInAFullGroup(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log"), nil)
	all := &log.together
	all.lock.Lock()
	all.isLed, all.duration, all.expected = true, time.Hour, 20
	g, _, _ := all.join([]Entry{{Data: make([]byte, 200<<10)}}, 200<<10, 200<<10+24)
	all.join([]Entry{{Data: make([]byte, 100<<10)}}, 100<<10, 100<<10+24)
	all.lock.Unlock()
	all.gather(g)
	all.lead(log, g)
	all.duration = 0
	all.lead(log, all.groups[0])
	if log.DurableLSN() != 2 {
		t.Fatal(log.DurableLSN())
	}
	must(t, log.Close())
}

// One record that is too large is refused before it joins others, and a group fits a buffer: else each of its members
// would be written by itself.
func TestGroupFits(t *testing.T) {
	for _, test := range []struct {
		options        Options
		size           int
		refused, bound uint64
	}{
		{Options{BufferBytes: 16 << 10, MaxRecordBytes: 4096}, 300, 4097, 12},
		{Options{SegmentBytes: 64 << 10}, 100, 32 << 10, 6},
		{Options{BufferBytes: 64 << 10, MaxRecordBytes: 200}, 200, 201, 3},
		{Options{}, 2000, 5 << 20, 4},
	} {
		log := open(t, filepath.Join(t.TempDir(), "log"), &test.options)
		all := &log.together
		all.isLed = true
		ends := make(chan error)
		append := func(size int) {
			_, err := log.Append(background, make([]byte, size))
			ends <- err
		}
		const count = 200
		for i := 0; i < count; i++ {
			go append(test.size)
		}
		for members := 0; members < count; time.Sleep(time.Millisecond) {
			members = 0
			all.lock.Lock()
			for _, g := range all.groups {
				members += len(g.members)
			}
			all.lock.Unlock()
		}
		go append(int(test.refused))
		mustBe(t, <-ends, syscall.EMSGSIZE) // it waits for nobody
		all.lock.Lock()
		all.handOn(log, 0)
		all.lock.Unlock()
		for i := 0; i < count; i++ {
			must(t, <-ends)
		}
		stat, err := log.Stat()
		must(t, err)
		if stat.Appends != count || stat.Groups > test.bound {
			t.Errorf("%+v: %d records in %d groups", test.options, stat.Appends, stat.Groups)
		}
		must(t, log.Close())
	}
}

func TestModes(t *testing.T) {
	for _, mode := range []Mode{Mapped, Shared} {
		log := open(t, filepath.Join(t.TempDir(), "log"), &Options{Mode: mode})
		lsn, err := log.Append(background, []byte("event"))
		must(t, err)
		must(t, log.Wait(background, lsn, LevelDurable))
		record, err := log.Read(lsn)
		must(t, err)
		if string(record.Data) != "event" {
			t.Fatal(record)
		}
		must(t, log.Close())
	}
}

func TestConsumer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := open(t, dir, nil)
	defer log.Close()
	_, err := log.AppendBatch(background, []Entry{{Data: []byte("a")}, {Data: []byte("b")}, {Data: []byte("c")}}, Terms{})
	must(t, err)
	for _, text := range []string{"a", "b"} {
		consumer, err := OpenConsumer(dir, "billing")
		must(t, err)
		_, err = OpenConsumer(dir, "billing")
		mustBe(t, err, syscall.EBUSY)
		must(t, consumer.Wait(background))
		record, err := consumer.Next()
		must(t, err)
		if string(record.Data) != text {
			t.Fatal(record)
		}
		must(t, consumer.Commit(0))
		consumer.Close()
	}
	lsn, err := log.Cursor("billing")
	must(t, err)
	if lsn != 2 {
		t.Fatal(lsn)
	}
	must(t, log.SetCursor("billing", 3))
	for i := 0; i < 40; i++ {
		must(t, log.SetCursor(fmt.Sprintf("number %d", i), 1))
	}
	cursors, err := log.Cursors()
	must(t, err)
	if len(cursors) != 41 || cursors["billing"] != 3 || cursors["number 39"] != 1 {
		t.Fatal(cursors)
	}
	for i := 0; i < 40; i++ {
		must(t, log.RemoveCursor(fmt.Sprintf("number %d", i)))
	}
	stat, err := log.Stat()
	must(t, err)
	if stat.Appends != 3 || stat.DurableLSN != 3 || stat.Mode != Durable || stat.Poison != nil || log.WrittenLSN() != 3 {
		t.Fatal(stat)
	}
	must(t, log.RemoveCursor("billing"))
	mustBe(t, log.SetCursor("billing\x00b", 1), syscall.EINVAL)
	_, err = OpenConsumer(dir, "a\x00b")
	mustBe(t, err, syscall.EINVAL)
	_, err = log.Cursor("billing")
	mustBe(t, err, syscall.ENOENT)
	must(t, log.SetMeta("vote", []byte("me")))
	value, err := log.Meta("vote")
	must(t, err)
	if string(value) != "me" {
		t.Fatal(value)
	}
	must(t, log.RemoveMeta("vote"))
	_, err = log.Meta("vote")
	mustBe(t, err, syscall.ENOENT)

	only := open(t, dir, &Options{ReadOnly: true})
	_, err = only.Append(background, []byte("no"))
	mustBe(t, err, syscall.EROFS)
	must(t, only.Close())
}

func TestCommitter(t *testing.T) {
	committer, err := OpenCommitter()
	must(t, err)
	options := Options{Committer: committer, BufferBytes: 32 << 10, SegmentBytes: 1 << 20}
	var logs []*Log
	for i := 0; i < 8; i++ {
		logs = append(logs, open(t, filepath.Join(t.TempDir(), "log"), &options))
	}
	mustBe(t, committer.Close(), syscall.EBUSY)

	var all sync.WaitGroup
	for _, log := range logs {
		for i := 0; i < 8; i++ {
			all.Add(1)
			go func(log *Log) {
				defer all.Done()
				if _, err := log.Append(background, []byte("x")); err != nil {
					t.Error(err)
				}
			}(log)
		}
	}
	all.Wait()
	for _, log := range logs {
		if log.DurableLSN() != 8 {
			t.Fatal(log.DurableLSN())
		}
		must(t, log.Reopen())
		must(t, log.Close())
	}

	options.Mode = Mapped
	_, err = Open(t.TempDir(), &options)
	mustBe(t, err, syscall.EINVAL)
	must(t, committer.Close())
	must(t, committer.Close())
	_, err = Open(t.TempDir(), &options)
	mustBe(t, err, os.ErrClosed)
}

func TestPayloads(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log"), nil)
	defer log.Close()
	for _, data := range []string{"one ", "", "two ", strings.Repeat("three", 1000)} {
		_, err := log.Append(background, []byte(data))
		must(t, err)
	}
	reader, err := log.Reader(0)
	must(t, err)
	defer reader.Close()
	payloads := reader.Payloads()
	all, err := io.ReadAll(payloads)
	must(t, err)
	if string(all) != "one two "+strings.Repeat("three", 1000) {
		t.Fatalf("%d bytes", len(all))
	}
	if n, err := payloads.Read(nil); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	_, err = log.Append(background, []byte(" more"))
	must(t, err)
	all, err = io.ReadAll(payloads)
	must(t, err)
	if string(all) != " more" {
		t.Fatal(string(all))
	}
}
