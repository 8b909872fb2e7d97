// SPDX-License-Identifier: Apache-2.0

package twinlograft

import (
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	twinlog "example.org/twinlog/bindings/go"
)

// limitFiles lets writes behind so many bytes of a file fail, as on a failed disk, and returns what mends the disk.
func limitFiles(t *testing.T, bytes uint64) (mend func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	limited := before
	limited.Cur = bytes
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited))
	isMended := false
	mend = func() {
		if !isMended {
			isMended = true
			must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before))
		}
	}
	t.Cleanup(mend)
	return mend
}

// failingStore returns a store of entries from 1 to `last`, of term 1, in which a StoreLogs has just failed.
func failingStore(t *testing.T) (s *Store, last uint64, mend func()) {
	t.Helper()
	s = open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.SetUint64([]byte("CurrentTerm"), 1))
	must(t, s.StoreLogs(entries(1, 10, 1)))
	mend = limitFiles(t, 64<<10)
	var err error
	for last = 10; err == nil; last += 20 {
		err = s.StoreLogs(entries(last+1, last+20, 1))
	}
	last -= 20
	mustBe(t, err, twinlog.ErrPoisoned)
	return s, last, mend
}

func mustVote(t *testing.T, s *Store, term uint64) {
	t.Helper()
	must(t, s.SetUint64([]byte("CurrentTerm"), term))
	got, err := s.GetUint64([]byte("CurrentTerm"))
	must(t, err)
	if got != term {
		t.Fatal(got, term)
	}
}

// A server with a disk that fails for a while keeps its entries and votes, and goes on when the disk does.
func TestStoreGoesOnAfterAFailedWrite(t *testing.T) {
	s, last, mend := failingStore(t)
	checkWhatStays := func(term uint64) {
		t.Helper()
		mustHaveEnds(t, s, 1, last)
		mustHave(t, s, 1, last, 1)
		mustNotHave(t, s, last+1, last+20)
		mustVote(t, s, term)
	}
	checkWhatStays(2) // in the log that is poisoned

	// Opening it again fails, too, each time.
	for i := uint64(0); i < 3; i++ {
		mustBe(t, s.StoreLogs(entries(last+1, last+20, 2)), syscall.EFBIG)
		checkWhatStays(3 + i) // in the log that is open for reading
		mustBe(t, s.DeleteRange(last, last), syscall.EFBIG)
		mustBe(t, s.DeleteRange(1, 5), syscall.EFBIG)
		checkWhatStays(6 + i)
	}

	mend()
	must(t, s.StoreLogs(entries(last+1, last+3, 9))) // fewer than the batch that failed
	for i := 0; i < 2; i++ {
		mustHaveEnds(t, s, 1, last+3)
		mustHave(t, s, 1, last, 1)
		mustHave(t, s, last+1, last+3, 9)
		mustNotHave(t, s, last+4, last+20)
		mustVote(t, s, 10+uint64(i))
		s = reopen(t, s)
	}
	must(t, s.DeleteRange(1, 5))
	must(t, s.Close())
}

// A batch that failed, and is on the disk all the same, is not there: neither before the log is opened again nor
// later.
func TestFailedBatchThatIsOnDisk(t *testing.T) {
	for _, poisoned := range []bool{false, true} {
		for _, stored := range []uint64{0, 10} {
			s := open(t, filepath.Join(t.TempDir(), "log"), nil)
			must(t, s.StoreLogs(entries(1, stored, 1)))
			must(t, s.StoreLogs(entries(stored+1, stored+8, 1)))
			first := s.first
			if stored == 0 {
				first = 0
			}
			s.setEnds(first, stored) // as if the last call had failed
			s.isSuspect = true
			if poisoned {
				s.log.Close()
				s.log = nil
			}
			mustHaveEnds(t, s, first, stored)
			must(t, s.StoreLogs(entries(stored+1, stored+2, 2)))
			for i := 0; i < 2; i++ {
				mustHaveEnds(t, s, 1, stored+2)
				mustHave(t, s, stored+1, stored+2, 2)
				mustNotHave(t, s, stored+3, stored+8)
				s = reopen(t, s)
			}
			must(t, s.Close())
		}
	}
}

// Deletions on a failed disk: what is left is what the error says, or what a second look finds.
func TestDeletionsOnAFailedDisk(t *testing.T) {
	for _, test := range []struct {
		name     string
		min, max uint64
	}{
		{"newest", 100, 1 << 62},
		{"all", 1, 1 << 62},
		{"oldest", 1, 99},
	} {
		s := open(t, filepath.Join(t.TempDir(), "log"), nil)
		must(t, s.StoreLogs(entries(1, 200, 1)))
		mend := limitFiles(t, 0)
		err := s.DeleteRange(test.min, test.max)
		if err == nil {
			t.Fatal(test.name, "a deletion that writes nothing")
		}
		first, last, boundsErr := s.Bounds()
		must(t, boundsErr)
		if last != 200 || first != 1 {
			t.Fatal(test.name, first, last)
		}
		if err = s.Set([]byte("vote"), nil); !errors.Is(err, syscall.EFBIG) {
			t.Fatal(test.name, err)
		}
		mend()
		must(t, s.Set([]byte("vote"), nil))
		must(t, s.DeleteRange(test.min, test.max))
		want := map[string][2]uint64{"newest": {1, 99}, "all": {0, 0}, "oldest": {100, 200}}[test.name]
		for i := 0; i < 2; i++ {
			mustHaveEnds(t, s, want[0], want[1])
			s = reopen(t, s)
		}
		must(t, s.Close())
	}
}

// A deletion of the newest entries that failed may have happened: both are accepted when the log is opened again, and
// nothing else is.
func TestDeletionThatMayHaveHappened(t *testing.T) {
	for end, isAccepted := range map[uint64]bool{20: true, 12: true, 11: false, 5: false} {
		s := open(t, filepath.Join(t.TempDir(), "log"), nil)
		must(t, s.StoreLogs(entries(1, 20, 1)))
		must(t, s.log.Truncate(end)) // what was left
		s.log.Close()
		s.log = nil
		s.mayEndAt, s.isEndUnsure, s.isSuspect = 12, true, true
		next := end + 1
		err := s.StoreLogs(entries(next, next+2, 2))
		if (err == nil) != isAccepted || err != nil && !errors.Is(err, twinlog.ErrCorrupt) {
			t.Fatal(end, err)
		}
		if isAccepted {
			mustHaveEnds(t, s, 1, end+3)
			mustHave(t, s, next, next+2, 2)
		}
		must(t, s.Close())
	}
}

// A log that comes back without what was acknowledged is refused, each time.
func TestAcknowledgedEntriesThatAreGone(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1, 20, 1)))
	must(t, s.log.Truncate(15))
	s.isSuspect = true
	for i := 0; i < 3; i++ {
		mustBe(t, s.StoreLogs(entries(21, 21, 1)), twinlog.ErrCorrupt)
		mustBe(t, s.DeleteRange(1, 2), twinlog.ErrCorrupt)
	}
	must(t, s.Close())
}

// A directory that is gone is an error, and no end of the process; one that is there again is opened.
func TestDirectoryThatIsGone(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1, 20, 1)))
	must(t, s.log.Close()) // so that its directory may be moved
	s.log, s.isSuspect = nil, true
	must(t, os.Rename(s.dir, s.dir+".away"))
	mustBe(t, s.StoreLogs(entries(21, 21, 1)), syscall.ENOENT) // as of a disk that is mounted no more
	mustBe(t, s.DeleteRange(1, 2), syscall.ENOENT)
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("an empty log in the place of the one that is gone:", err)
	}
	must(t, os.WriteFile(s.dir, nil, 0o600))
	for i := 0; i < 2; i++ {
		mustBe(t, s.StoreLogs(entries(21, 21, 1)), syscall.ESTALE)
		var got raft.Log
		mustBe(t, s.GetLog(1, &got), errNotOpen)
		mustBe(t, s.Set([]byte("vote"), nil), errNotOpen)
		_, err := s.Get([]byte("vote"))
		mustBe(t, err, errNotOpen)
	}
	must(t, os.Remove(s.dir))
	must(t, os.Rename(s.dir+".away", s.dir))
	mustVote(t, s, 7) // before the log is open for writing
	mustHave(t, s, 1, 20, 1)
	must(t, s.StoreLogs(entries(21, 21, 1)))
	mustHave(t, s, 1, 21, 1)
	mustVote(t, s, 8)
	must(t, s.Close())
}

// A vote is not forgotten where the disk is mounted no more, where another directory has the name, or where the log is
// gone; its log had no entries.
func TestVoteOfALogThatIsGone(t *testing.T) {
	for _, test := range []struct {
		name  string
		leave func(dir, away string) error // `away` is another directory
		err   syscall.Errno
	}{
		{"nothing", func(dir, away string) error { return os.Rename(dir, filepath.Join(away, "log")) }, syscall.ENOENT},
		{"an empty directory, as where something was mounted", func(dir, away string) error {
			if err := os.Rename(dir, filepath.Join(away, "log")); err != nil {
				return err
			}
			return os.Mkdir(dir, 0o700)
		}, syscall.ESTALE},
		{"a log with an old vote", func(dir, away string) error {
			if err := os.Rename(dir, filepath.Join(away, "log")); err != nil {
				return err
			}
			old, err := Open(dir, nil)
			if err != nil {
				return err
			}
			if err = old.SetUint64([]byte("CurrentTerm"), 6); err != nil {
				return err
			}
			return old.Close()
		}, syscall.ESTALE},
		{"the directory without its files", func(dir, away string) error {
			if err := os.Mkdir(filepath.Join(away, "log"), 0o700); err != nil {
				return err
			}
			return moveFiles(dir, filepath.Join(away, "log"))
		}, syscall.ENOENT},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "log"), nil)
			mustVote(t, s, 7)
			must(t, s.log.Close())
			s.log, s.isSuspect = nil, true
			away := t.TempDir()
			must(t, test.leave(s.dir, away))
			mustBe(t, s.StoreLogs(entries(1, 1, 8)), test.err)
			mustBe(t, s.SetUint64([]byte("CurrentTerm"), 8), errNotOpen)

			if named, err := os.Stat(s.dir); err == nil && os.SameFile(named, statOf(t, s.lock)) {
				must(t, moveFiles(filepath.Join(away, "log"), s.dir))
			} else {
				must(t, os.RemoveAll(s.dir))
				must(t, os.Rename(filepath.Join(away, "log"), s.dir))
			}
			must(t, s.StoreLogs(entries(1, 1, 8)))
			s = reopen(t, s)
			term, err := s.GetUint64([]byte("CurrentTerm"))
			if err != nil || term != 7 {
				t.Fatal(term, err)
			}
			must(t, s.Close())
		})
	}
}

func moveFiles(from, to string) error {
	names, err := os.ReadDir(from)
	for _, name := range names {
		if err == nil {
			err = os.Rename(filepath.Join(from, name.Name()), filepath.Join(to, name.Name()))
		}
	}
	return err
}

func statOf(t *testing.T, file *os.File) os.FileInfo {
	t.Helper()
	info, err := file.Stat()
	must(t, err)
	return info
}

// ---- two servers, and other programs ----

// A server that is started twice does not get the log while the first one opens it again, as for a large entry.
func TestSecondServerWhileTheLogIsOpenedAgain(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1, 20, 1)))
	var refusals, isOver int32
	gotIt := make(chan error, 1)
	go func() {
		for atomic.LoadInt32(&isOver) == 0 {
			other, err := Open(s.dir, &Options{LockTimeout: 20 * time.Millisecond})
			if err == nil {
				other.Close()
			}
			if !errors.Is(err, syscall.EBUSY) {
				gotIt <- err
				return
			}
			atomic.AddInt32(&refusals, 1)
		}
		gotIt <- syscall.EBUSY
	}()
	for round := uint64(1); round <= 20 || atomic.LoadInt32(&refusals) < 5; round++ {
		s.gate.Lock()
		err := s.reopen(true)
		s.gate.Unlock()
		must(t, err)
		mustVote(t, s, round)
		if len(gotIt) > 0 {
			break
		}
	}
	atomic.StoreInt32(&isOver, 1)
	mustBe(t, <-gotIt, syscall.EBUSY)
	must(t, s.StoreLog(&raft.Log{Index: 21, Term: 1, Data: make([]byte, 5<<20)}))
	must(t, s.Close())
}

// While a log cannot be opened again, no other server gets it: both would give their vote in one term.
func TestSecondServerWhileTheLogCannotBeOpened(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, s *Store) // lets opening the log again fail
	}{
		{"a limit", func(t *testing.T, s *Store) {
			mend := limitFiles(t, 64<<10)
			mustBe(t, s.StoreLog(&raft.Log{Index: 21, Term: 1, Data: make([]byte, 5<<20)}), syscall.EFBIG)
			mend()
		}},
		{"a directory that is gone for a while", func(t *testing.T, s *Store) {
			must(t, s.log.Close())
			s.log, s.isSuspect = nil, true
			must(t, os.Rename(s.dir, s.dir+".away"))
			mustBe(t, s.StoreLogs(entries(21, 21, 1)), syscall.ENOENT)
			must(t, os.Rename(s.dir+".away", s.dir))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "log"), nil)
			must(t, s.StoreLogs(entries(1, 20, 1)))
			mustVote(t, s, 7)
			test.damage(t, s)
			other, err := Open(s.dir, &Options{LockTimeout: -1})
			if err == nil {
				must(t, other.SetUint64([]byte("CurrentTerm"), 8))
				must(t, other.Close())
			}
			mustBe(t, err, syscall.EBUSY)
			mustVote(t, s, 8)
			mustHave(t, s, 1, 20, 1)
			must(t, s.StoreLogs(entries(21, 22, 1)))
			must(t, s.Close())
			other = open(t, s.dir, &Options{LockTimeout: -1})
			mustHave(t, other, 1, 22, 1)
			must(t, other.Close())
		})
	}
}

// Another program, which is no server, may have the log before it is opened again. It gives no vote, so this server may.
func TestLogThatAnotherProgramHas(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1, 20, 1)))
	mustVote(t, s, 7)
	must(t, s.log.Close())
	s.log, s.isSuspect = nil, true
	other, err := twinlog.Open(s.dir, nil)
	must(t, err)
	for i := uint64(0); i < 2; i++ {
		mustBe(t, s.StoreLogs(entries(21, 21, 1)), syscall.EBUSY)
		mustBe(t, s.DeleteRange(1, 2), syscall.EBUSY)
		mustVote(t, s, 8+i)
		mustHave(t, s, 1, 20, 1)
	}
	must(t, other.Close())
	must(t, s.StoreLogs(entries(21, 21, 1)))
	mustHave(t, s, 1, 21, 1)
	mustVote(t, s, 10)
	must(t, s.Close())

	other, err = twinlog.Open(s.dir, nil)
	must(t, err)
	_, err = Open(s.dir, &Options{LockTimeout: 20 * time.Millisecond})
	mustBe(t, err, syscall.EBUSY)
	must(t, other.Close())
	s = open(t, s.dir, &Options{LockTimeout: -1}) // the one that was refused has left nothing
	must(t, s.Close())
}

// A program may close its descriptors 0 to 2, and later put others in their place. The lock is none of them.
func TestDescriptorOfTheLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	var kept [2]int // 2 stays for messages of the test
	for fd := range kept {
		copied, err := syscall.Dup(fd)
		must(t, err)
		kept[fd] = copied
	}
	for fd := range kept {
		must(t, syscall.Close(fd))
	}
	s, err := Open(dir, nil)
	for fd, copied := range kept {
		must(t, syscall.Dup3(copied, fd, 0))
		must(t, syscall.Close(copied))
	}
	must(t, err)
	must(t, s.log.Close()) // which has a lock of its own
	s.log = nil
	_, err = Open(dir, &Options{LockTimeout: -1})
	mustBe(t, err, syscall.EBUSY)
	must(t, s.Close())
}

// A full disk refuses a batch, also one of several parts, and takes it when there is room. Votes need no room.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("none", disk, "tmpfs", 0, "size=24m"); err != nil {
		t.Skip("SKIP bindings-go-raft full disk: only root can mount a small one:", err)
	}
	defer syscall.Unmount(disk, syscall.MNT_DETACH)
	s := open(t, filepath.Join(disk, "log"), nil)
	must(t, s.StoreLogs(entries(1, 10, 1)))
	ballast := filepath.Join(disk, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 4<<20), 0o600))
	var large []*raft.Log
	for index := uint64(11); index <= 40; index++ { // 30 MB: a part of them fits, and the whole does not
		large = append(large, &raft.Log{Index: index, Term: 1, Data: make([]byte, 1<<20)})
	}
	for i := uint64(1); i < 4; i++ {
		if err := s.StoreLogs(large); err == nil {
			t.Fatal("30 MB on a disk of 24")
		}
		mustHaveEnds(t, s, 1, 10)
		mustHave(t, s, 1, 10, 1)
		mustNotHave(t, s, 11, 40)
		mustVote(t, s, i)
	}
	must(t, os.Remove(ballast))
	must(t, s.StoreLogs(entries(11, 60, 2)))
	s = reopen(t, s)
	mustHaveEnds(t, s, 1, 60)
	mustHave(t, s, 11, 60, 2)
	must(t, s.Close())
}

// ---- crashes between two steps ----

// crash returns a store on a copy of the files as they are now: what a process that is killed here leaves.
func crash(t *testing.T, s *Store) *Store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	must(t, filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(dir, name), 0o700)
		}
		bytes, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a file on its way
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), bytes, 0o600)
	}))
	return open(t, dir, &s.options)
}

func TestCrashBetweenTwoSteps(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1, 20, 1)))

	check := func(first, last, term uint64) {
		t.Helper()
		c := crash(t, s)
		mustHaveEnds(t, c, first, last)
		if last > 0 {
			mustHave(t, c, first, last, term)
		}
		mustNotHave(t, c, last+1)
		must(t, c.Close())
	}
	check(1, 20, 1)
	must(t, s.DeleteRange(15, 20))
	check(1, 14, 1) // between a truncation and the entries that replace what it has removed
	must(t, s.StoreLogs(entries(15, 16, 2)))
	must(t, s.DeleteRange(1, 14))
	check(15, 16, 2)
	must(t, s.makeNext(100))
	check(0, 0, 0) // between a reset and the first entry behind the snapshot
	must(t, s.StoreLogs(entries(100, 101, 3)))
	check(100, 101, 3)
	must(t, s.Close())
}
