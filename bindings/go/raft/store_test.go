// SPDX-License-Identifier: Apache-2.0

package twinlograft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	twinlog "example.org/twinlog/bindings/go"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unlessFew returns the second number where little time is to be taken, as in ./dev test.
func unlessFew(usually, few int) int {
	if os.Getenv("TWINLOG_FEW") != "" {
		return few
	}
	return usually
}

func mustBe(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%v instead of %v", err, target)
	}
}

func open(t *testing.T, dir string, options *Options) *Store {
	t.Helper()
	s, err := Open(dir, options)
	must(t, err)
	return s
}

// reopen closes the store and opens what it has left.
func reopen(t *testing.T, s *Store) *Store {
	t.Helper()
	must(t, s.Close())
	return open(t, s.dir, &s.options)
}

// entry is one of which index and term tell the rest.
func entry(index, term uint64) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogType(index % 6), Data: dataOf(index, term)}
}

func dataOf(index, term uint64) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("entry %d of term %d;", index, term)), 1+int(index%7))
}

func entries(first, last, term uint64) (all []*raft.Log) {
	for index := first; index <= last; index++ {
		all = append(all, entry(index, term))
	}
	return all
}

func mustHaveEnds(t *testing.T, s *Store, first, last uint64) {
	t.Helper()
	f, err := s.FirstIndex()
	must(t, err)
	l, err := s.LastIndex()
	must(t, err)
	bothFirst, bothLast, err := s.Bounds()
	must(t, err)
	if f != first || l != last || bothFirst != first || bothLast != last {
		t.Fatalf("entries %d to %d (%d to %d) instead of %d to %d", f, l, bothFirst, bothLast, first, last)
	}
}

// mustHave looks at every entry from first to last, which are of this term, and at what must not be there beside
// them.
func mustHave(t *testing.T, s *Store, first, last uint64, term uint64) {
	t.Helper()
	for index := first; index <= last; index++ {
		var found raft.Log
		must(t, s.GetLog(index, &found))
		want := entry(index, term)
		if found.Index != index || found.Term != term || found.Type != want.Type || !bytes.Equal(found.Data, want.Data) {
			t.Fatalf("entry %d of term %d is %+v", index, term, found)
		}
	}
}

func mustNotHave(t *testing.T, s *Store, indexes ...uint64) {
	t.Helper()
	for _, index := range indexes {
		var found raft.Log
		mustBe(t, s.GetLog(index, &found), raft.ErrLogNotFound)
		if found.Index != 0 {
			t.Fatal("an entry that is not there was filled in")
		}
	}
}

// ---- the bytes of an entry ----

func record(entry *raft.Log) twinlog.Record {
	encoded := encodeEntry(entry)
	return twinlog.Record{LSN: entry.Index, Type: encoded.Type, Data: bytes.Join(encoded.Pieces, nil)}
}

func TestEntryIsItselfAgain(t *testing.T) {
	for _, want := range []raft.Log{
		{Index: 1},
		{Index: 2, Term: 1<<64 - 1, Type: 255, Data: []byte{0}},
		{Index: 3, Term: 7, Type: raft.LogConfiguration, Extensions: []byte("extensions")},
		{Index: 4, Term: 7, Data: []byte("data"), Extensions: []byte("x")},
	} {
		r := record(&want)
		if len(r.Data) != entryBytes(&want) {
			t.Fatal(len(r.Data), entryBytes(&want))
		}
		got := raft.Log{Data: []byte("old"), Extensions: []byte("old")}
		must(t, decodeEntry(&r, true, &got))
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Fatalf("%+v instead of %+v", got, want)
		}
	}
}

// Where raft has the field, the time comes back; elsewhere the bytes have none.
func TestTimeOfAnEntry(t *testing.T) {
	at := time.Unix(1700000000, 123456789)
	want := raft.Log{Index: 1}
	timed := timedEntry{Log: &want}
	timed.AppendedAt = at
	hasField := !timedEntry{Log: &want}.AppendedAt.IsZero()
	if hasField != strings.Contains(fmt.Sprintf("%+v", want), "AppendedAt") {
		t.Fatal("the field of the wrong structure")
	}
	r := record(&want)
	var got raft.Log
	must(t, decodeEntry(&r, true, &got))
	if after := (timedEntry{Log: &got}).AppendedAt; hasField && !after.Equal(at) {
		t.Fatal(after)
	}
	for at, ns := range map[time.Time]int64{{}: 0, time.Unix(0, 1): 1, time.Unix(1<<40, 0): 0, time.Unix(-1, 0): -1e9} {
		if nanoseconds(at) != ns {
			t.Fatal(at, nanoseconds(at))
		}
	}
}

// Bytes that are no entry are an error, however they come about, and change nothing.
func TestBytesThatAreNoEntry(t *testing.T) {
	whole := record(&raft.Log{Index: 9, Term: 3, Data: []byte("data"), Extensions: []byte("extensions")})
	mustRefuse := func(what string, data []byte) {
		t.Helper()
		got := raft.Log{Term: 77}
		if err := decodeEntry(&twinlog.Record{LSN: 9, Data: data}, true, &got); err == nil || got.Term != 77 {
			t.Fatal(what, err, got)
		}
	}
	for size := 0; size < headBytes+len("extensions"); size++ {
		mustRefuse(fmt.Sprint("cut to ", size), whole.Data[:size])
	}
	for i, value := range map[int]byte{0: 2, 1: 1, 2: 1, 3: 1, 5: 1, 6: 1, 7: 0xff} {
		changed := append([]byte(nil), whole.Data...)
		changed[i] = value
		mustRefuse(fmt.Sprint("byte ", i), changed)
	}
	seed := time.Now().UnixNano()
	if text := os.Getenv("TWINLOG_SEED"); text != "" {
		seed, _ = strconv.ParseInt(text, 10, 64)
	}
	t.Logf("seed: TWINLOG_SEED=%d", seed)
	random := rand.New(rand.NewSource(seed))
	for i := 0; i < 100000; i++ {
		data := make([]byte, random.Intn(60))
		random.Read(data)
		if len(data) > 3 && i%2 == 0 {
			copy(data, []byte{entryVersion, 0, 0, 0})
		}
		var got raft.Log
		if decodeEntry(&twinlog.Record{LSN: 1, Data: data}, i%3 == 0, &got) == nil &&
			headBytes+len(got.Extensions)+len(got.Data) != len(data) {
			t.Fatal(data, got)
		}
	}
}

// ---- a LogStore ----

func TestEmptyStore(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	for i := 0; i < 2; i++ {
		mustHaveEnds(t, s, 0, 0)
		mustNotHave(t, s, 0, 1, 1<<63, 1<<64-1)
		must(t, s.DeleteRange(1, 100))
		must(t, s.DeleteRange(0, 0))
		must(t, s.StoreLogs(nil))
		s = reopen(t, s)
	}
	if !s.IsMonotonic() {
		t.Fatal("the store has no gaps")
	}
	must(t, s.Close())
}

func TestEntriesAreStored(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLog(entry(1, 1)))
	must(t, s.StoreLogs(entries(2, 100, 1)))
	for i := 0; i < 2; i++ {
		mustHaveEnds(t, s, 1, 100)
		mustHave(t, s, 1, 100, 1)
		mustNotHave(t, s, 0, 101)
		s = reopen(t, s)
	}

	// An entry has memory of its own.
	var first, again raft.Log
	must(t, s.GetLog(50, &first))
	for i := range first.Data {
		first.Data[i] = 0
	}
	must(t, s.GetLog(50, &again))
	if !bytes.Equal(again.Data, dataOf(50, 1)) {
		t.Fatal(again)
	}
	must(t, s.Close())
}

func TestEntriesThatAreRefused(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1, 10, 1)))
	for what, refused := range map[string][]*raft.Log{
		"there already":        {entry(10, 2)},
		"index 0":              {entry(0, 1)},
		"a hole":               {entry(11, 1), entry(13, 1)},
		"backwards":            {entry(11, 1), entry(10, 1)},
		"twice":                {entry(11, 1), entry(11, 1)},
		"out of range":         {entry(1<<63-1, 1)},
		"the end of the range": {entry(1<<64-1, 1), entry(0, 1)},
	} {
		if err := s.StoreLogs(refused); !errors.Is(err, syscall.EINVAL) {
			t.Fatal(what, err)
		}
	}
	mustBe(t, s.StoreLogs([]*raft.Log{entry(11, 1), {Index: 12, Data: make([]byte, MaxEntryBytes+1)}}), syscall.EMSGSIZE)
	mustHaveEnds(t, s, 1, 10)
	must(t, s.StoreLog(entry(11, 1)))
	s = reopen(t, s)
	mustHaveEnds(t, s, 1, 11)
	mustHave(t, s, 1, 11, 1)
	must(t, s.Close())
}

// A server that has got a snapshot goes on behind it.
func TestStoreBeginsAnywhere(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.StoreLogs(entries(1000, 1010, 2)))
	mustHaveEnds(t, s, 1000, 1010)
	must(t, s.DeleteRange(1000, 1010)) // as raft 1.5 does
	mustHaveEnds(t, s, 0, 0)
	mustNotHave(t, s, 1000, 1010)
	s = reopen(t, s)
	mustHaveEnds(t, s, 0, 0)
	must(t, s.StoreLogs(entries(5, 7, 3))) // also at a smaller index
	mustHaveEnds(t, s, 5, 7)
	must(t, s.StoreLogs(entries(2000, 2005, 3))) // as older versions do: a gap
	for i := 0; i < 2; i++ {
		mustHaveEnds(t, s, 2000, 2005)
		mustHave(t, s, 2000, 2005, 3)
		mustNotHave(t, s, 5, 7, 8, 1999)
		s = reopen(t, s)
	}
	must(t, s.Close())
}

func TestDeleteRange(t *testing.T) {
	for _, test := range []struct {
		min, max    uint64
		first, last uint64 // what is left of 11 to 20
		err         error
	}{
		{11, 13, 14, 20, nil},
		{0, 13, 14, 20, nil},
		{1, 11, 12, 20, nil},
		{18, 20, 11, 17, nil},
		{18, 1 << 63, 11, 17, nil},
		{20, 20, 11, 19, nil},
		{12, 1<<64 - 1, 11, 11, nil},
		{11, 20, 0, 0, nil},
		{0, 1<<64 - 1, 0, 0, nil},
		{0, 20, 0, 0, nil},
		{11, 99, 0, 0, nil},
		{1, 10, 11, 20, nil},
		{0, 0, 11, 20, nil},
		{21, 30, 11, 20, nil},
		{12, 19, 11, 20, syscall.EINVAL},
		{15, 15, 11, 20, syscall.EINVAL},
		{13, 12, 11, 20, syscall.EINVAL},
	} {
		s := open(t, filepath.Join(t.TempDir(), "log"), nil)
		must(t, s.StoreLogs(entries(11, 20, 1)))
		err := s.DeleteRange(test.min, test.max)
		if !errors.Is(err, test.err) {
			t.Fatal(test, err)
		}
		for i := 0; i < 2; i++ {
			mustHaveEnds(t, s, test.first, test.last)
			for index := uint64(10); index <= 21; index++ {
				if test.last == 0 || index < test.first || index > test.last {
					mustNotHave(t, s, index)
				} else {
					mustHave(t, s, index, index, 1)
				}
			}
			s = reopen(t, s)
		}
		next := test.last + 1
		if test.last == 0 {
			next = 21
		}
		must(t, s.StoreLogs(entries(next, next+2, 2))) // what was removed does not come back
		s = reopen(t, s)
		mustHave(t, s, next, next+2, 2)
		mustNotHave(t, s, next+3)
		must(t, s.Close())
	}
}

// What raft may send is stored: no bytes, 64 MiB, and a batch that is larger than the buffers of the log.
func TestLargeEntries(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	index := uint64(0)
	sizes := []int{}
	store := func(some ...int) {
		t.Helper()
		var all []*raft.Log
		for _, size := range some {
			index++
			sizes = append(sizes, size)
			data := bytes.Repeat([]byte{byte(index)}, size)
			all = append(all, &raft.Log{Index: index, Term: 1, Data: data[:size/2], Extensions: data[size/2:]})
		}
		must(t, s.StoreLogs(all))
	}
	check := func() {
		t.Helper()
		mustHaveEnds(t, s, 1, index)
		for i, size := range sizes {
			var found raft.Log
			must(t, s.GetLog(uint64(i)+1, &found))
			whole := append(found.Data, found.Extensions...)
			if len(found.Data) != size/2 || len(whole) != size || bytes.Count(whole, []byte{byte(i + 1)}) != size {
				t.Fatal(i, size, len(found.Data), len(found.Extensions))
			}
		}
	}
	store(0)
	most := s.log.MaxRecordBytes() - headBytes
	store(most)
	if s.log.MaxRecordBytes()-headBytes != most {
		t.Fatal("the log was opened again for a record that it takes")
	}
	store(most + 1)
	var many []int
	for i := 0; i < 30; i++ {
		many = append(many, 1<<20)
	}
	store(many...)
	store(10, 64<<20, 20, 9<<20, 0)
	check()
	s = reopen(t, s)
	check()
	store(3<<20, 5)
	must(t, s.DeleteRange(20, index))
	index, sizes = 19, sizes[:19]
	check()
	must(t, s.Close())
}

// Small files are no limit for entries: the log is opened again with larger ones.
func TestLargeEntriesInSmallSegments(t *testing.T) {
	for _, segmentBytes := range []uint64{64 << 10, 1 << 20, 8 << 20} {
		s := open(t, filepath.Join(t.TempDir(), "log"), &Options{SegmentBytes: segmentBytes})
		most := s.log.MaxRecordBytes() - headBytes
		sizes := []int{10, most, most + 1, 3 << 20, 5 << 20}
		for i, size := range sizes {
			must(t, s.StoreLog(&raft.Log{Index: uint64(i) + 1, Term: 1, Data: make([]byte, size)}))
		}
		for k := 0; k < 2; k++ {
			for i, size := range sizes {
				var found raft.Log
				must(t, s.GetLog(uint64(i)+1, &found))
				if len(found.Data) != size {
					t.Fatal(segmentBytes, i, len(found.Data), size)
				}
			}
			s = reopen(t, s)
		}
		must(t, s.Close())
	}
}

// ---- a StableStore ----

func TestValues(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	for i := 0; i < 2; i++ {
		_, err := s.Get([]byte("never set"))
		mustBe(t, err, ErrKeyNotFound)
		number, err := s.GetUint64([]byte("never set"))
		mustBe(t, err, ErrKeyNotFound)
		if err.Error() != "not found" || number != 0 {
			t.Fatal(number, err) // raft compares the text
		}
		s = reopen(t, s)
	}
	longest := strings.Repeat("k", 58)
	must(t, s.Set([]byte("LastVoteCand"), []byte("server 1")))
	must(t, s.Set([]byte("none"), nil))
	must(t, s.Set([]byte(longest), make([]byte, twinlog.MaxMetaBytes)))
	must(t, s.Set([]byte("twinlog.keep_records"), []byte("x"))) // means nothing to the log
	must(t, s.SetUint64([]byte("CurrentTerm"), 1<<64-1))
	must(t, s.SetUint64([]byte("LastVoteTerm"), 0))
	must(t, s.SetUint64([]byte("CurrentTerm"), 1<<63))
	must(t, s.StoreLogs(entries(1, 10, 1)))
	must(t, s.DeleteRange(5, 10)) // and none of it changes a value
	must(t, s.DeleteRange(1, 2))
	must(t, s.DeleteRange(3, 4))
	for i := 0; i < 2; i++ {
		for key, size := range map[string]int{"LastVoteCand": 8, "none": 0, longest: twinlog.MaxMetaBytes} {
			value, err := s.Get([]byte(key))
			if err != nil || len(value) != size {
				t.Fatal(key, len(value), err)
			}
		}
		for key, want := range map[string]uint64{"CurrentTerm": 1 << 63, "LastVoteTerm": 0} {
			number, err := s.GetUint64([]byte(key))
			if err != nil || number != want {
				t.Fatal(key, number, err)
			}
		}
		s = reopen(t, s)
	}
	if _, err := s.GetUint64([]byte("LastVoteCand")); err != nil {
		t.Fatal(err) // it has eight bytes
	}
	if _, err := s.GetUint64([]byte("none")); err == nil || err == ErrKeyNotFound {
		t.Fatal(err)
	}
	for _, key := range []string{"", "a\x00b", longest + "k"} {
		mustBe(t, s.Set([]byte(key), nil), syscall.EINVAL)
		_, err := s.Get([]byte(key))
		mustBe(t, err, syscall.EINVAL)
	}
	mustBe(t, s.Set([]byte("large"), make([]byte, twinlog.MaxMetaBytes+1)), syscall.EMSGSIZE)
	must(t, s.Close())
}

// ---- a log that others have, or have had ----

func TestOneServerHasALog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	s := open(t, dir, nil)
	_, err := Open(dir, &Options{LockTimeout: -1})
	mustBe(t, err, syscall.EBUSY)
	_, err = Open(dir, &Options{LockTimeout: time.Millisecond})
	mustBe(t, err, syscall.EBUSY)
	time.AfterFunc(50*time.Millisecond, func() { s.Close() })
	other := open(t, dir, nil) // by itself it waits for a server that ends
	must(t, other.Close())
	_, err = Open(filepath.Join(dir, "no", "log"), nil)
	mustBe(t, err, syscall.ENOENT)
}

func TestLogThatIsNoneOfRaft(t *testing.T) {
	background := context.Background()
	for _, data := range [][]byte{nil, []byte("a line of some other program"), make([]byte, headBytes)} {
		dir := filepath.Join(t.TempDir(), "log")
		log, err := twinlog.Open(dir, nil)
		must(t, err)
		_, err = log.Append(background, data)
		must(t, err)
		must(t, log.Close())
		if _, err = Open(dir, nil); err == nil || !strings.Contains(err.Error(), "no log of raft") {
			t.Fatal(err)
		}
	}
	// Fillers at the end are no entries, either: raft asks for the newest one.
	dir := filepath.Join(t.TempDir(), "log")
	s := open(t, dir, nil)
	must(t, s.StoreLogs(entries(1, 5, 1)))
	must(t, s.log.Skip(10))
	must(t, s.Close())
	if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), "no log of raft") {
		t.Fatal(err)
	}
}

// Limits that are kept in the log, and trims of other programs, leave what raft needs.
func TestNothingElseTrims(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log, err := twinlog.Open(dir, nil)
	must(t, err)
	for _, name := range []string{"twinlog.keep_records", "twinlog.keep_bytes", "twinlog.keep_age_ms"} {
		must(t, log.SetMeta(name, []byte("1")))
	}
	must(t, log.Close())

	s := open(t, dir, &Options{SegmentBytes: 16 << 20})
	large := &raft.Log{Term: 1, Data: make([]byte, 1<<20)}
	const count = 60 // several segments
	for large.Index = 1; large.Index <= count; large.Index++ {
		must(t, s.StoreLog(large))
	}
	mustBeWhole := func(from uint64) {
		t.Helper()
		mustHaveEnds(t, s, from, count)
		first, last, _, err := s.log.Bounds()
		must(t, err)
		if first != from || last != count {
			t.Fatal(first, last)
		}
	}
	mustBeWhole(1)
	first, err := s.log.Trim(count) // as `twinlog trim` beside the server asks for it
	must(t, err)
	if first != 1 {
		t.Fatal("a trim removed entries of raft, up to", first)
	}
	must(t, s.log.SetCursor("a reader that is behind", 3)) // raft decides, not a reader
	must(t, s.DeleteRange(1, 20))
	mustBeWhole(21)
	_, err = s.log.Trim(count)
	must(t, err)
	s = reopen(t, s)
	mustBeWhole(21)

	// The next opening makes the cursor again, where it was removed by hand.
	must(t, s.log.RemoveCursor("a reader that is behind"))
	must(t, s.log.RemoveCursor(holder))
	s = reopen(t, s)
	_, err = s.log.Trim(count)
	must(t, err)
	mustBeWhole(21)

	// The limits remove nothing without it, either.
	must(t, s.log.RemoveCursor(holder))
	for end := large.Index + 40; large.Index < end; large.Index++ {
		must(t, s.StoreLog(large))
	}
	if first := s.log.FirstLSN(); first != 21 {
		t.Fatal("a limit of the log removed entries of raft, up to ", first)
	}
	must(t, s.Close())
}

// ---- many calls at once ----

// Readers beside appends, conflicts, trims and resets get the entry that they ask for, or none. Votes go on
// meanwhile.
func TestReadersBesideChanges(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	var wait sync.WaitGroup
	var isOver int32
	var found, missing int64
	for reader := 0; reader < 4; reader++ {
		wait.Add(1)
		go func(reader int) {
			defer wait.Done()
			random := rand.New(rand.NewSource(int64(reader)))
			for atomic.LoadInt32(&isOver) == 0 {
				first, last, err := s.Bounds()
				if err != nil || first > last {
					t.Error(first, last, err)
					return
				}
				index := first + uint64(random.Int63n(int64(last-first+3)))
				var got raft.Log
				switch err = s.GetLog(index, &got); {
				case err == raft.ErrLogNotFound:
					atomic.AddInt64(&missing, 1)
				case err != nil || got.Index != index || !bytes.Equal(got.Data, dataOf(index, got.Term)):
					t.Error(index, got, err)
					return
				default:
					atomic.AddInt64(&found, 1)
				}
			}
		}(reader)
	}
	wait.Add(1)
	go func() {
		defer wait.Done()
		for term := uint64(1); atomic.LoadInt32(&isOver) == 0; term++ {
			err := s.SetUint64([]byte("CurrentTerm"), term)
			if got, getErr := s.GetUint64([]byte("CurrentTerm")); err != nil || getErr != nil || got != term {
				t.Error(got, term, err, getErr)
				return
			}
		}
	}()

	random := rand.New(rand.NewSource(99))
	next, term := uint64(1), uint64(1)
	rounds := unlessFew(120, 40)
	for i := 0; i < rounds && !t.Failed(); i++ {
		count := 1 + uint64(random.Intn(20))
		must(t, s.StoreLogs(entries(next, next+count-1, term)))
		next += count
		first, last, err := s.Bounds()
		must(t, err)
		switch middle := first + uint64(random.Int63n(int64(last-first+1))); {
		case i%10 == 9:
			must(t, s.DeleteRange(first, last))
			next += uint64(random.Intn(1000))
			term++
		case i%3 == 1:
			must(t, s.DeleteRange(middle, last))
			next, term = middle, term+1
		case i%3 == 2:
			must(t, s.DeleteRange(first, middle))
		}
	}
	atomic.StoreInt32(&isOver, 1)
	wait.Wait()
	if found == 0 || missing == 0 {
		t.Fatal(found, missing)
	}
	must(t, s.Close())
}

// A larger entry may take the place of one that is deleted while it is read.
func TestEntryThatGrowsWhileItIsRead(t *testing.T) {
	sizes := []int{10, 20, 30, 15}
	readInto := func(index uint64, memory []byte) (twinlog.Record, int, error) {
		size := sizes[0]
		sizes = sizes[1:]
		if size > len(memory) {
			return twinlog.Record{}, size, twinlog.Error(-int(syscall.ENOBUFS))
		}
		return twinlog.Record{LSN: index, Data: memory[:size]}, size, nil
	}
	for _, want := range []struct {
		size       int
		isInMemory bool
	}{{10, true}, {15, false}} {
		memory := make([]byte, 10)
		record, isInMemory, err := read(readInto, 7, memory)
		must(t, err)
		if record.LSN != 7 || len(record.Data) != want.size || isInMemory != want.isInMemory {
			t.Fatal(record, isInMemory)
		}
	}
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	_, _, err := read(s.log.ReadInto, 1, nil)
	mustBe(t, err, syscall.ERANGE)
	must(t, s.Close())
}

// As a deferred Close does behind one whose error was looked at. By then the directory may be another Store's.
func TestASecondCloseDoesNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"), nil)
	must(t, s.Close())
	other := open(t, s.dir, &Options{LockTimeout: time.Millisecond})
	must(t, s.Close())
	_, err := Open(s.dir, &Options{LockTimeout: time.Millisecond})
	mustBe(t, err, syscall.EBUSY)
	must(t, other.StoreLog(entry(1, 1)))
	must(t, other.Close())
}

// Close ends everything, and what was acknowledged before is there.
func TestCloseBesideCalls(t *testing.T) {
	for round := 0; round < 15; round += unlessFew(1, 3) {
		s := open(t, filepath.Join(t.TempDir(), "log"), nil)
		var wait sync.WaitGroup
		var acknowledged, vote uint64
		call := func(each func() error) {
			wait.Add(1)
			go func() {
				defer wait.Done()
				for {
					if err := each(); err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			}()
		}
		call(func() error {
			err := s.StoreLog(entry(acknowledged+1, 1))
			if err == nil {
				acknowledged++
			}
			return err
		})
		call(func() error {
			err := s.SetUint64([]byte("vote"), vote+1)
			if err == nil {
				vote++
			}
			return err
		})
		call(func() error {
			var got raft.Log
			if err := s.GetLog(1, &got); err != raft.ErrLogNotFound {
				return err
			}
			return nil
		})
		call(func() error { _, err := s.LastIndex(); return err })
		call(func() error { return s.DeleteRange(1<<62, 1<<62) })
		time.Sleep(time.Duration(round) * time.Millisecond)
		must(t, s.Close())
		wait.Wait()
		must(t, s.Close())
		mustBe(t, s.StoreLog(entry(1<<40, 1)), os.ErrClosed)
		s = open(t, s.dir, nil)
		last, err := s.LastIndex()
		must(t, err)
		if last < acknowledged {
			t.Fatal(last, acknowledged)
		}
		mustHave(t, s, 1, acknowledged, 1)
		if got, err := s.GetUint64([]byte("vote")); vote > 0 && (err != nil || got < vote) {
			t.Fatal(got, vote, err)
		}
		must(t, s.Close())
	}
}
