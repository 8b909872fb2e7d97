// SPDX-License-Identifier: Apache-2.0

package twinlograft

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// mustRemember looks for entries in memory: the log cannot be read.
func mustRemember(t *testing.T, s *Store, first, last, term uint64) {
	t.Helper()
	must(t, s.log.Close())
	mustHave(t, s, first, last, term)
}

func TestNewestEntriesAreRemembered(t *testing.T) {
	const count = newestEntries + 100
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1, 50, 1)))
	must(t, s.StoreLogs(entries(51, count, 1)))
	mustHave(t, s, 1, count, 1)

	mustRemember(t, s, 101, count, 1)
	var older raft.Log
	mustBe(t, s.GetLog(100, &older), os.ErrClosed)
	mustNotHave(t, s, count+1, count+newestEntries)
}

func TestRememberedEntryIsTheOneOnTheDisk(t *testing.T) {
	all := []*raft.Log{
		{Index: 1, Term: 1},
		{Index: 2, Term: 1<<64 - 1, Type: 255, Data: []byte{0}},
		{Index: 3, Term: 7, Type: raft.LogConfiguration, Extensions: []byte("extensions")},
		{Index: 4, Term: 7, Data: []byte("data"), Extensions: []byte("x")},
		{Index: 5, Term: 7, Data: make([]byte, mostToRemember-headBytes)},
		{Index: 6, Term: 7, Data: make([]byte, mostToRemember-headBytes+1)},
	}
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(all))
	remembered := make([]raft.Log, len(all))
	for i, want := range all {
		isRemembered := s.newest.get(want.Index, &remembered[i])
		if isRemembered != (want.Index < 6) {
			t.Fatal(want.Index, isRemembered)
		}
	}

	s.newest.forget()
	for i := range all[:5] {
		var read raft.Log
		must(t, s.GetLog(all[i].Index, &read))
		if fmt.Sprintf("%#v", remembered[i]) != fmt.Sprintf("%#v", read) {
			t.Fatalf("%#v instead of %#v", remembered[i], read)
		}
	}
	must(t, s.Close())
}

func TestRememberedEntryHasMemoryOfItsOwn(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	stored := entry(1, 1)
	must(t, s.StoreLog(stored))
	stored.Data[0]++ // the caller's
	var first, again raft.Log
	must(t, s.GetLog(1, &first))
	first.Data[0]++ // and the reader's
	must(t, s.GetLog(1, &again))
	if !bytes.Equal(again.Data, dataOf(1, 1)) {
		t.Fatal(again)
	}
	must(t, s.Close())
}

// An index that is stored again is another entry.
func TestDeletedEntriesAreForgotten(t *testing.T) {
	for what, remove := range map[string]func(s *Store){
		"the newest": func(s *Store) { must(t, s.DeleteRange(11, 20)) },
		"all":        func(s *Store) { must(t, s.DeleteRange(1, 20)); must(t, s.StoreLogs(entries(10, 10, 2))) },
		"before a gap": func(s *Store) {
			must(t, s.StoreLogs(entries(1000, 1000, 2)))
			must(t, s.DeleteRange(1000, 1000))
			must(t, s.StoreLogs(entries(10, 10, 2)))
		},
	} {
		s := open(t, filepath.Join(t.TempDir(), "log"), nil)
		must(t, s.StoreLogs(entries(1, 20, 1)))
		remove(s)
		mustNotHave(t, s, 11, 12, 20)
		large := &raft.Log{Index: 12, Term: 2, Data: make([]byte, 2*mostToRemember)}
		must(t, s.StoreLogs([]*raft.Log{entry(11, 2), large}))
		mustHave(t, s, 11, 11, 2)
		var found raft.Log
		must(t, s.GetLog(12, &found))
		if found.Term != 2 || len(found.Data) != len(large.Data) {
			t.Fatal(what, found.Term, len(found.Data))
		}
		mustNotHave(t, s, 13, 20)
		must(t, s.Close())
	}
}

func TestDeletedOldestEntriesLeaveTheNewest(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1, 20, 1)))
	must(t, s.DeleteRange(1, 10))
	mustNotHave(t, s, 1, 10)
	mustRemember(t, s, 11, 20, 1)
	mustNotHave(t, s, 10)
}

// What is remembered is of the log that was open: after a failure the log tells what there is.
func TestFailedCallLetsTheLogBeAsked(t *testing.T) {
	s, last, mend := failingStore(t)
	mustHave(t, s, 1, last, 1)
	mustNotHave(t, s, last+1)
	mend()
	must(t, s.StoreLogs(entries(last+1, last+1, 2)))
	mustHave(t, s, 1, last, 1)
	mustHave(t, s, last+1, last+1, 2)

	mustRemember(t, s, last+1, last+1, 2)
	var before raft.Log
	mustBe(t, s.GetLog(last, &before), os.ErrClosed)
}

// A deletion that failed may have happened: its entries are not remembered while nobody knows.
func TestDeletionThatFailedIsRead(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1, 20, 1)))
	mend := limitFiles(t, 0)
	if s.DeleteRange(11, 20) == nil {
		t.Fatal("a deletion that writes nothing")
	}
	mend()
	var found raft.Log
	if s.newest.get(20, &found) {
		t.Fatal("an entry that may be deleted is remembered")
	}
	mustHave(t, s, 1, 20, 1)
	must(t, s.Close())
}
