// SPDX-License-Identifier: Apache-2.0
package twinlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	_ io.WriteCloser  = (*Sink)(nil)
	_ io.StringWriter = (*Sink)(nil)
)

// Nothing is expected to take so long; a test that waits for a condition fails then.
const longest = 30 * time.Second

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(longest); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain until", what)
		}
	}
}

func openSink(t *testing.T, path string, options *SinkOptions) *Sink {
	t.Helper()
	sink, err := OpenSink(path, options)
	must(t, err)
	return sink
}

func write(t *testing.T, sink *Sink, text string) {
	t.Helper()
	n, err := sink.Write([]byte(text))
	must(t, err)
	if n != len(text) {
		t.Fatalf("%d of %d bytes", n, len(text))
	}
}

// has reads the file as any other program does.
func has(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if string(got) != want {
		t.Fatalf("%s has %d bytes, %.200q, and not %d, %.200q", path, len(got), got, len(want), want)
	}
}

// ---- one process ----

func TestSinkIsExact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, options := range []*SinkOptions{nil, {}, {Shared: true}, {Lines: true}, {Shared: true, Lines: true}} {
		must(t, os.RemoveAll(path))
		sink := openSink(t, path, options)
		has(t, path, "")
		write(t, sink, "one\n")
		has(t, path, "one\n")

		n, err := sink.WriteString("two\n")
		must(t, err)
		has(t, path, "one\ntwo\n")
		if n != 4 {
			t.Fatal(n)
		}

		n, err = sink.Writev(net.Buffers{[]byte("thr"), nil, []byte("ee"), []byte("\n")})
		must(t, err)
		has(t, path, "one\ntwo\nthree\n")
		if n != 6 {
			t.Fatal(n)
		}

		write(t, sink, "")
		n, err = sink.WriteString("")
		must(t, err)
		if n != 0 {
			t.Fatal(n)
		}
		_, err = sink.Writev(nil)
		must(t, err)
		has(t, path, "one\ntwo\nthree\n")

		// Another program appends, and makes the file shorter.
		stranger, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		_, err = stranger.WriteString("of a stranger\n")
		must(t, err)
		write(t, sink, "behind it\n")
		has(t, path, "one\ntwo\nthree\nof a stranger\nbehind it\n")
		must(t, stranger.Truncate(4))
		must(t, stranger.Close())
		write(t, sink, "after it\n")
		has(t, path, "one\nafter it\n")

		large := strings.Repeat("large\n", 1<<20)
		write(t, sink, large)
		has(t, path, "one\nafter it\n"+large)
		must(t, sink.Sync())
		must(t, sink.Close())
		has(t, path, "one\nafter it\n"+large)
	}
}

func TestSinkMapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	sink := openSink(t, path, &SinkOptions{Mapped: true, InitialBytes: 1 << 16, GrowthBytes: 1 << 16})
	write(t, sink, "one\n")
	_, err := sink.Writev([][]byte{[]byte("tw"), []byte("o\n")})
	must(t, err)
	must(t, sink.Sync())
	got, err := os.ReadFile(path)
	must(t, err)
	if !bytes.HasPrefix(got, []byte("one\ntwo\n\x00\x00")) {
		t.Fatalf("%.100q", got)
	}
	_, err = OpenSink(path, nil)
	mustBe(t, err, syscall.EMEDIUMTYPE)
	_, err = sink.Rotate(time.Now())
	mustBe(t, err, syscall.ENOTSUP)
	must(t, sink.RotationError())
	must(t, sink.Close())
	has(t, path, "one\ntwo\n")
}

// The list in bindings/README.md, as far as it is about a sink.
func TestSinkMisuse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, options := range []SinkOptions{
		{Mapped: true, Lines: true},
		{Mapped: true, Shared: true, MaxBytes: 1000},
		{KeepFiles: 10000},
		{Mapped: true, InitialBytes: 1<<64 - 1},
		{InitialBytes: 1 << 16},
		{GrowthBytes: 1 << 16},
		{FlushInterval: -1},
	} {
		_, err := OpenSink(path, &options)
		mustBe(t, err, syscall.EINVAL)
	}
	_, err := OpenSink(path+"\x00x", nil)
	mustBe(t, err, syscall.EINVAL)
	_, err = OpenSink(dir+"/no/file", nil)
	mustBe(t, err, os.ErrNotExist)
	mustSay(t, err, "open "+dir+"/no/file: No such file")
	_, err = OpenSink(dir, nil)
	mustBe(t, err, syscall.ENOTSUP)
	names, err := os.ReadDir(dir)
	must(t, err)
	if len(names) != 0 {
		t.Fatal(names)
	}

	sink := openSink(t, path, nil)
	_, err = OpenSink(path, nil)
	mustBe(t, err, syscall.EBUSY)
	_, err = OpenSink(path, &SinkOptions{Shared: true})
	mustBe(t, err, syscall.EBUSY)
	_, err = OpenSink(path, &SinkOptions{Mapped: true})
	mustBe(t, err, syscall.EMEDIUMTYPE)
	for _, when := range []time.Time{{}, time.Unix(1<<40, 0)} {
		_, err = sink.Rotate(when)
		mustBe(t, err, syscall.EINVAL)
	}
	megabytes := make([]byte, 1<<20)
	tooMany := make([][]byte, 1025)
	for i := range tooMany {
		tooMany[i] = megabytes
	}
	n, err := sink.Writev(tooMany)
	mustBe(t, err, syscall.EMSGSIZE)
	mustSay(t, err, "write "+path+": ")
	if n != 0 {
		t.Fatal(n)
	}
	has(t, path, "")
	write(t, sink, "before\n")
	must(t, sink.Close())

	must(t, sink.Close())
	n, err = sink.Write([]byte("after"))
	mustBe(t, err, os.ErrClosed)
	if n != 0 {
		t.Fatal(n)
	}
	_, err = sink.Write(nil)
	mustBe(t, err, os.ErrClosed)
	_, err = sink.WriteString("after")
	mustBe(t, err, os.ErrClosed)
	_, err = sink.Writev([][]byte{[]byte("after")})
	mustBe(t, err, os.ErrClosed)
	mustBe(t, sink.Sync(), os.ErrClosed)
	_, err = sink.Reopen()
	mustBe(t, err, os.ErrClosed)
	_, err = sink.Rotate(time.Now())
	mustBe(t, err, os.ErrClosed)
	mustBe(t, sink.RotationError(), os.ErrClosed)
	mustBe(t, sink.SyncError(), os.ErrClosed)
	has(t, path, "before\n")
}

// ---- other files ----

func TestSinkReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	sink := openSink(t, path, &SinkOptions{Shared: true})
	defer sink.Close()
	isOther, err := sink.Reopen()
	must(t, err)
	if isOther {
		t.Fatal("it is the same file")
	}

	// The sink's own thread may see the new name first.
	for wasFirst := false; !wasFirst; {
		must(t, os.RemoveAll(path+".old"))
		write(t, sink, "old\n")
		must(t, os.Rename(path, path+".old"))
		wasFirst, err = sink.Reopen()
		must(t, err)
		has(t, path+".old", "old\n")
		has(t, path, "")
	}
	write(t, sink, "new\n")
	has(t, path, "new\n")
	has(t, path+".old", "old\n")

	must(t, os.Rename(path, path+".new"))
	must(t, os.WriteFile(path, []byte("of another program\n"), 0o600))
	_, err = sink.Reopen()
	must(t, err)
	write(t, sink, "behind it\n")
	has(t, path, "of another program\nbehind it\n")
	has(t, path+".new", "new\n")
	must(t, sink.Sync())
}

func TestSinkRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	sink := openSink(t, path, &SinkOptions{KeepFiles: 2})
	defer sink.Close()
	soon := time.Now().Add(time.Hour)
	rotate := func(madeBefore time.Time, want bool) {
		t.Helper()
		isOther, err := sink.Rotate(madeBefore)
		must(t, err)
		if isOther != want {
			t.Fatal(isOther)
		}
	}
	rotate(soon, false) // it is empty
	write(t, sink, "one\n")
	rotate(time.Now().Add(-time.Hour), false) // it is too new
	rotate(soon, true)
	has(t, path, "")
	has(t, path+".1", "one\n")
	for _, text := range []string{"two\n", "three\n"} {
		write(t, sink, text)
		rotate(soon, true)
	}
	has(t, path, "")
	has(t, path+".1", "three\n")
	has(t, path+".2", "two\n")
	if _, err := os.Stat(path + ".3"); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestSinkMaxBytes(t *testing.T) {
	for _, isMapped := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "file")
		sink := openSink(t, path, &SinkOptions{Mapped: isMapped, MaxBytes: 30, KeepFiles: 3})
		for i := 0; i < 10; i++ {
			write(t, sink, fmt.Sprintf("line %d of ten\n", i)) // two of them have 28 bytes
		}
		must(t, sink.RotationError())
		must(t, sink.Close())
		has(t, path+".3", "line 2 of ten\nline 3 of ten\n")
		has(t, path+".2", "line 4 of ten\nline 5 of ten\n")
		has(t, path+".1", "line 6 of ten\nline 7 of ten\n")
		has(t, path, "line 8 of ten\nline 9 of ten\n")
		if _, err := os.Stat(path + ".4"); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// Where the next file cannot have its name the present one grows, until it can.
func TestSinkRotationError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	sink := openSink(t, path, &SinkOptions{MaxBytes: 10, KeepFiles: 1})
	defer sink.Close()
	must(t, os.Mkdir(path+".1", 0o700))
	write(t, sink, "123456789\n")
	must(t, sink.RotationError())
	write(t, sink, "more\n")
	err := sink.RotationError()
	mustBe(t, err, syscall.EISDIR)
	mustSay(t, err, "rotate "+path+": ")
	has(t, path, "123456789\nmore\n")

	must(t, os.Remove(path+".1"))
	written := "123456789\nmore\n"
	await(t, "the sink tries again", func() bool {
		write(t, sink, "x\n")
		if sink.RotationError() != nil {
			written += "x\n"
			return false
		}
		return true
	})
	has(t, path+".1", written)
	has(t, path, "x\n")
}

// ---- goroutines ----

func TestSinkGoroutines(t *testing.T) {
	for _, options := range []SinkOptions{{}, {Shared: true, Lines: true}, {Mapped: true}} {
		path := filepath.Join(t.TempDir(), "file")
		sink := openSink(t, path, &options)
		const writers, lines = 50, 100
		var wait sync.WaitGroup
		for writer := 0; writer < writers; writer++ {
			wait.Add(1)
			go func(writer int) {
				defer wait.Done()
				for i := 0; i < lines; i++ {
					var err error
					switch i % 3 {
					case 0:
						_, err = sink.Write([]byte(lineOf(writer, i)))
					case 1:
						_, err = sink.WriteString(lineOf(writer, i))
					case 2:
						_, err = sink.Writev([][]byte{[]byte(lineOf(writer, i)[:5]), []byte(lineOf(writer, i)[5:])})
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			}(writer)
		}
		wait.Wait()
		must(t, sink.Close())
		counts, torn := countLines(t, path)
		for writer := 0; writer < writers; writer++ {
			if counts[writer] != lines {
				t.Fatalf("%d lines of writer %d", counts[writer], writer)
			}
		}
		if len(torn) > 0 {
			t.Fatal(torn)
		}
	}
}

// holdTurns locks all of the file but what the sink has locked, as another program might: a sink of lines then waits a
// second for its turn.
func holdTurns(t *testing.T, path string) {
	const setLock, getLock = 37, 36 // F_OFD_SETLK and F_OFD_GETLK
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { file.Close() })
	found := syscall.Flock_t{Type: syscall.F_WRLCK}
	must(t, syscall.FcntlFlock(file.Fd(), getLock, &found))
	if found.Type == syscall.F_UNLCK || found.Start == 0 || found.Len == 0 {
		t.Fatal(found)
	}
	must(t, syscall.FcntlFlock(file.Fd(), setLock, &syscall.Flock_t{Type: syscall.F_WRLCK, Len: found.Start}))
	behind := found.Start + found.Len
	must(t, syscall.FcntlFlock(file.Fd(), setLock, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: behind}))
}

// Goroutines that wait for a write that is held up take no thread each.
func TestSinkThreads(t *testing.T) {
	threads := func() int {
		tasks, err := os.ReadDir("/proc/self/task")
		must(t, err)
		return len(tasks)
	}
	path := filepath.Join(t.TempDir(), "file")
	sink := openSink(t, path, &SinkOptions{Lines: true})
	defer sink.Close()
	holdTurns(t, path)
	before := threads()
	const writers = 200
	var wait sync.WaitGroup
	for writer := 0; writer < writers; writer++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if _, err := sink.WriteString("line\n"); err != nil {
				t.Error(err)
			}
		}()
	}
	wait.Wait()
	has(t, path, strings.Repeat("line\n", writers))
	if more := threads() - before; more > writers/4 {
		t.Errorf("%d threads for %d goroutines that write", more, writers)
	}
}

// What a write returned for is there, and nothing else, when the sink is closed beside it.
func TestSinkCloseBesideWrites(t *testing.T) {
	for round := 0; round < 20; round++ {
		path := filepath.Join(t.TempDir(), "file")
		sink := openSink(t, path, &SinkOptions{Mapped: round%2 == 1})
		var wait sync.WaitGroup
		var acknowledged, ended int64
		for worker := 0; worker < 8; worker++ {
			wait.Add(1)
			go func(worker int) {
				defer wait.Done()
				defer atomic.AddInt64(&ended, 1)
				for {
					var err error
					switch worker % 4 {
					case 0, 1:
						_, err = sink.Write([]byte("line\n"))
						if err == nil {
							atomic.AddInt64(&acknowledged, 1)
						}
					case 2:
						err = sink.Sync()
					case 3:
						_, err = sink.Reopen()
					}
					if err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			}(worker)
		}
		await(t, "there are writes", func() bool {
			return atomic.LoadInt64(&acknowledged) > int64(10*round) || atomic.LoadInt64(&ended) > 0
		})
		must(t, sink.Close())
		wait.Wait()
		has(t, path, strings.Repeat("line\n", int(acknowledged)))
	}
}

// A close that waits for a call that is held up, as by a disk, holds up no other call.
func TestSinkCloseWaits(t *testing.T) {
	sink := openSink(t, filepath.Join(t.TempDir(), "file"), nil)
	must(t, sink.enter()) // as if a call were in C
	closed := make(chan error)
	go func() { closed <- sink.Close() }()
	await(t, "the close waits", func() bool {
		if !sink.gate.TryRLock() {
			return true
		}
		sink.gate.RUnlock()
		return false
	})
	late := make(chan error)
	for _, call := range []func() error{
		func() error { _, err := sink.Write([]byte("late\n")); return err },
		sink.Sync,
		func() error { _, err := sink.Reopen(); return err },
	} {
		go func() { late <- call() }()
		select {
		case err := <-late:
			mustBe(t, err, os.ErrClosed)
		case err := <-closed:
			t.Fatal("it was closed below a call:", err)
		case <-time.After(longest):
			t.Fatal("a call waits for the close")
		}
	}
	sink.leave()
	must(t, <-closed)
}

func TestSinkAllocatesNothing(t *testing.T) {
	sink := openSink(t, filepath.Join(t.TempDir(), "file"), nil)
	defer sink.Close()
	data, text := []byte("a line of the log\n"), "a line of the log\n"
	var writer io.Writer = sink
	for what, write := range map[string]func() (int, error){
		"Write":       func() (int, error) { return writer.Write(data) },
		"WriteString": func() (int, error) { return sink.WriteString(text) },
	} {
		allocations := testing.AllocsPerRun(1000, func() {
			if _, err := write(); err != nil {
				t.Error(err)
			}
		})
		if allocations != 0 {
			t.Errorf("%v allocations in %s", allocations, what)
		}
	}
}

// ---- loggers ----

// deaf accepts nothing, which a server logs.
type deaf struct{ tries int }

func (d *deaf) Accept() (net.Conn, error) {
	if d.tries++; d.tries > 1 {
		return nil, http.ErrServerClosed
	}
	return nil, syscall.EMFILE // which is temporary
}
func (d *deaf) Close() error   { return nil }
func (d *deaf) Addr() net.Addr { return &net.UnixAddr{Name: "deaf", Net: "unix"} }

func TestSinkOfLoggers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	sink := openSink(t, path, nil)
	logger := log.New(sink, "server: ", 0)
	logger.Print("begins")
	has(t, path, "server: begins\n")

	server := &http.Server{ErrorLog: logger}
	mustBe(t, server.Serve(&deaf{}), http.ErrServerClosed)
	got, err := os.ReadFile(path)
	must(t, err)
	if !strings.HasPrefix(string(got), "server: begins\nserver: http: Accept error: ") || !bytes.HasSuffix(got, []byte("\n")) {
		t.Fatalf("%q", got)
	}
	must(t, sink.Close())
}

// The lines of README.md.
func ExampleOpenSink() {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "access.log")
	midnight := time.Now().Truncate(24 * time.Hour)

	sink, err := OpenSink(path, &SinkOptions{Shared: true, Lines: true, MaxBytes: 100 << 20})
	check(err)
	logger := log.New(sink, "", 0) // one Write for each line
	server := &http.Server{ErrorLog: logger}
	server.ErrorLog.Print("GET /index.html")
	n, err := sink.Writev(net.Buffers{[]byte("GET /"), []byte("favicon.ico\n")}) // in one piece
	check(err)
	fmt.Println(n, "bytes")

	text, err := os.ReadFile(path) // exact at every moment: also tail and grep read it
	check(err)
	fmt.Print(string(text))

	isOther, err := sink.Reopen() // after another program has renamed the file
	check(err)
	fmt.Println("reopened:", isOther)
	isOther, err = sink.Rotate(midnight) // of several processes one does it
	check(err)
	fmt.Println("rotated:", isOther)
	check(sink.Sync()) // on stable storage
	check(sink.Close())
	// Output:
	// 17 bytes
	// GET /index.html
	// GET /favicon.ico
	// reopened: false
	// rotated: false
}

// ---- other processes ----

const childVariable = "TWINLOG_TEST_CHILD"

// TestMain makes this program one of the processes that a test starts.
func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		os.Exit(m.Run())
	case "write":
		childWrites()
	case "limit":
		childMeetsLimit()
	default:
		childCheck(false, "there is no such child")
	}
}

func childCheck(isRight bool, what ...interface{}) {
	if !isRight {
		_, file, line, _ := runtime.Caller(1)
		fmt.Fprintln(os.Stderr, append([]interface{}{fmt.Sprintf("%s:%d:", filepath.Base(file), line)}, what...)...)
		os.Exit(1)
	}
}

func child(t *testing.T, role string, arguments ...string) *exec.Cmd {
	self, err := os.Executable()
	must(t, err)
	command := exec.Command(self, arguments...)
	command.Env = append(os.Environ(), childVariable+"="+role)
	command.Stderr = os.Stderr
	return command
}

// Lines have different lengths, and some are larger than a page.
func lineOf(writer, i int) string {
	return fmt.Sprintf("writer %d line %d %s.\n", writer, i, strings.Repeat("x", (i*i*37)%1000+i%50/49*8000))
}

// countLines returns how many lines each writer has there, as 0, 1, 2 and so on, and what is no whole line.
func countLines(t *testing.T, path string) (counts map[int]int, torn []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	counts = map[int]int{}
	for _, line := range strings.SplitAfter(string(text), "\n") {
		var writer, i int
		fmt.Sscanf(line, "writer %d line %d", &writer, &i)
		switch {
		case line == "":
		case line != lineOf(writer, i):
			torn = append(torn, line)
		case i != counts[writer]:
			t.Fatalf("line %d of writer %d, and not %d", i, writer, counts[writer])
		default:
			counts[writer]++
		}
	}
	return counts, torn
}

// childWrites FILE NUMBER: says of each line that it is written, until its input ends.
func childWrites() {
	number := 0
	fmt.Sscan(os.Args[2], &number)
	sink, err := OpenSink(os.Args[1], &SinkOptions{Shared: true, Lines: true})
	childCheck(err == nil, err)
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for i := 0; ; i++ {
		select {
		case <-ended:
			childCheck(sink.Close() == nil)
			os.Exit(0)
		default:
		}
		_, err := sink.WriteString(lineOf(number, i))
		childCheck(err == nil, err)
		fmt.Println(i + 1)
	}
}

type writer struct {
	command *exec.Cmd
	input   io.Closer
	written int64         // lines that it has told of
	ended   chan struct{} // its output
}

func startWriter(t *testing.T, path string, number int) *writer {
	w := &writer{command: child(t, "write", path, fmt.Sprint(number)), ended: make(chan struct{})}
	input, err := w.command.StdinPipe()
	must(t, err)
	w.input = input
	output, err := w.command.StdoutPipe()
	must(t, err)
	must(t, w.command.Start())
	go func() {
		defer close(w.ended)
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			var written int64
			fmt.Sscan(lines.Text(), &written)
			atomic.StoreInt64(&w.written, written)
		}
	}()
	return w
}

func (w *writer) has(written int64) func() bool {
	return func() bool { return atomic.LoadInt64(&w.written) >= written }
}

// wait returns how the process has ended.
func (w *writer) wait() error {
	<-w.ended
	return w.command.Wait()
}

// One of four processes is killed while it writes. What it had written is there, and the others go on.
func TestSinkProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var writers []*writer
	for number := 0; number < 4; number++ {
		w := startWriter(t, path, number)
		defer w.command.Process.Kill()
		writers = append(writers, w)
	}
	for _, w := range writers {
		await(t, "each process has written", w.has(100))
	}
	victim := writers[0]
	must(t, victim.command.Process.Kill())
	if victim.wait() == nil {
		t.Fatal("it was not killed")
	}
	for _, w := range writers[1:] {
		await(t, "the others go on", w.has(atomic.LoadInt64(&w.written)+100))
		must(t, w.input.Close())
	}
	for _, w := range writers[1:] {
		must(t, w.wait())
	}

	counts, torn := countLines(t, path)
	for number, w := range writers {
		written := int(w.written)
		// of the one that was killed, a line may be there of which it could not tell
		isRight := counts[number] == written || w == victim && counts[number] == written+1
		if !isRight {
			t.Errorf("%d lines of writer %d, which has written %d", counts[number], number, written)
		}
	}
	for _, line := range torn {
		next := lineOf(0, counts[0])
		if len(torn) > 1 || !strings.HasPrefix(next, strings.TrimSuffix(line, "\n")) {
			t.Errorf("%.100q", line)
		}
	}
}

func limitFiles(bytes uint64) {
	var limit syscall.Rlimit
	childCheck(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit) == nil)
	limit.Cur = bytes
	if bytes == 0 {
		limit.Cur = limit.Max
	}
	childCheck(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit) == nil)
}

// childMeetsLimit FILE: a write meets the limit of the process on the size of files, and works when there is none.
func childMeetsLimit() {
	path := os.Args[1]
	line := []byte(strings.Repeat("x", 99) + "\n")
	signal.Ignore(syscall.SIGXFSZ)
	lines := 0
	isExact := func() bool {
		text, err := os.ReadFile(path)
		return err == nil && bytes.Equal(text, bytes.Repeat(line, lines))
	}
	var sink *Sink
	isRefused := func() bool {
		n, err := sink.Write(line)
		return n == 0 && errors.Is(err, syscall.EFBIG)
	}
	isTaken := func() bool {
		for end := time.Now().Add(longest); time.Now().Before(end); time.Sleep(time.Millisecond) {
			n, err := sink.Write(line)
			if n == len(line) && err == nil {
				lines++
				return true
			}
			childCheck(n == 0 && errors.Is(err, syscall.EFBIG), n, err)
		}
		return false
	}

	checkLimitIsMetAndLifted := func() {
		for i := 0; i < 3; i++ {
			childCheck(isRefused())
			childCheck(isExact())
		}
		limitFiles(0)
		childCheck(isTaken())
		childCheck(isExact())
	}

	limitFiles(4050) // before it is opened
	sink, err := OpenSink(path, nil)
	childCheck(err == nil, err)
	for lines < 40 {
		n, err := sink.Write(line)
		childCheck(n == len(line) && err == nil, n, err)
		lines++
	}
	checkLimitIsMetAndLifted()

	limitFiles(4150) // below a sink that is open, in the middle of a line
	checkLimitIsMetAndLifted()
	childCheck(sink.Close() == nil)
	childCheck(isExact())
	os.Exit(0)
}

func TestSinkLimit(t *testing.T) {
	must(t, child(t, "limit", filepath.Join(t.TempDir(), "file")).Run())
}
