// SPDX-License-Identifier: Apache-2.0

// Does the store of a server survive a power cut? twinlog-powercut runs this program on a disk that loses its power,
// and then once more as the check:
//
//	go build -o store_powercut ./powercut
//	sudo twinlog-powercut -- ./store_powercut
//
// The program does at random what raft does to its storage: entries in batches, conflicts, compactions, a snapshot of
// a leader, terms. It prints what it is about to do, and that it is done. The check makes the same changes to a
// model, and compares: everything that was done is there, and of the one change that had begun and not ended all or
// nothing. Entries behind a gap are two changes: the store becomes empty, and then it gets the entries.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"log"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/raft"

	twinlograft "example.org/twinlog/bindings/go/raft"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// An operation is one line, `a` and `b` its indexes:
//
//	store A B TERM   stores the entries from A to B, where the log ends before A or is empty
//	delete A B 0     deletes them
//	term TERM 0 0    stores a term
//	done 0 0 0       the operation of the line before is durable
//	found A B TERM   a run begins with these entries and this term, as it has found them
type operation struct {
	what       string
	a, b, term uint64
}

func (o operation) print() {
	_, err := fmt.Printf("%s %d %d %d\n", o.what, o.a, o.b, o.term) // os.Stdout keeps nothing back
	check(err)
}

func dataOf(index, term uint64) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("entry %d of term %d;", index, term)), int(index%50))
}

var currentTerm = []byte("CurrentTerm")

// state is what a store has: for the run its ends only, for the check the terms of its entries, too.
type state struct {
	first, last, term uint64
	terms             map[uint64]uint64
}

func (s *state) make(o operation) {
	switch o.what {
	case "store":
		if s.last == 0 || o.a > s.last+1 {
			s.first = o.a
		}
		for index := o.a; index <= o.b && s.terms != nil; index++ {
			s.terms[index] = o.term
		}
		s.last = o.b
	case "delete":
		switch {
		case o.a <= s.first && o.b >= s.last:
			s.first, s.last = 0, 0
		case o.a <= s.first:
			s.first = o.b + 1
		default:
			s.last = o.a - 1
		}
	case "term":
		s.term = o.a
	}
}

// look returns the ends and the term of a store.
func look(store *twinlograft.Store) (s state) {
	var err error
	s.first, s.last, err = store.Bounds()
	check(err)
	s.term, err = store.GetUint64(currentTerm)
	if err != twinlograft.ErrKeyNotFound {
		check(err)
	}
	return s
}

// ---- the run ----

func choose(s *state, random *rand.Rand) operation {
	count := uint64(1 + random.Intn(30))
	switch choice := random.Intn(20); {
	case choice == 0:
		return operation{"term", s.term + 1, 0, 0}
	case choice == 1 && s.last > 0: // a snapshot of a leader
		if random.Intn(2) == 0 {
			return operation{"delete", s.first, s.last, 0}
		}
		next := s.last + 100
		return operation{"store", next, next + count, s.term}
	case choice < 5 && s.last > s.first: // a conflict
		return operation{"delete", s.last - uint64(random.Int63n(int64(s.last-s.first))), s.last, 0}
	case choice < 7 && s.last > s.first || s.last-s.first > 1000: // compaction
		return operation{"delete", s.first, s.first + uint64(random.Int63n(int64(s.last-s.first))), 0}
	}
	return operation{"store", s.last + 1, s.last + count, s.term}
}

func run(store *twinlograft.Store, seed int64, operations int) {
	random := rand.New(rand.NewSource(seed))
	s := look(store)
	operation{"found", s.first, s.last, s.term}.print()
	for i := 0; i < operations; i++ {
		o := choose(&s, random)
		o.print()
		switch o.what {
		case "store":
			var entries []*raft.Log
			for index := o.a; index <= o.b; index++ {
				entries = append(entries, &raft.Log{Index: index, Term: o.term, Data: dataOf(index, o.term)})
			}
			check(store.StoreLogs(entries))
		case "delete":
			check(store.DeleteRange(o.a, o.b))
		case "term":
			check(store.SetUint64(currentTerm, o.a))
		}
		operation{what: "done"}.print()
		s.make(o)
	}
}

// ---- the check ----

// takes says whether the store has the ends and the term of the model.
func (s *state) takes(first, last, term uint64) bool {
	return s.first == first && s.last == last && s.term == term
}

// decide makes the operation that had begun, if what was found says that it has happened.
func (s *state) decide(begun *operation, found state) {
	if s.takes(found.first, found.last, found.term) {
		return
	}
	expected := fmt.Sprintf("%d to %d, term %d", s.first, s.last, s.term)
	hasGap := begun != nil && begun.what == "store" && s.last > 0 && begun.a > s.last+1
	if hasGap && found.last == 0 {
		s.make(operation{"delete", s.first, s.last, 0})
	} else if begun != nil {
		s.make(*begun)
	}
	if !s.takes(found.first, found.last, found.term) {
		log.Fatalf("found %d to %d, term %d; promised %s, or that after %v", found.first, found.last, found.term,
			expected, begun)
	}
}

func compare(store *twinlograft.Store) {
	model := state{terms: map[uint64]uint64{}}
	var begun *operation
	promises := 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var o operation
		_, err := fmt.Sscanf(lines.Text(), "%s %d %d %d", &o.what, &o.a, &o.b, &o.term)
		check(err)
		switch o.what {
		case "found":
			model.decide(begun, state{first: o.a, last: o.b, term: o.term})
			begun = nil
		case "done":
			model.make(*begun)
			begun = nil
			promises++
		default:
			begun = &o
		}
	}
	model.decide(begun, look(store))
	for index := model.first; index <= model.last && model.last > 0; index++ {
		var entry raft.Log
		check(store.GetLog(index, &entry))
		if entry.Term != model.terms[index] || !bytes.Equal(entry.Data, dataOf(index, entry.Term)) {
			log.Fatalf("entry %d is of term %d, and was stored in term %d", index, entry.Term, model.terms[index])
		}
	}
	var entry raft.Log
	if err := store.GetLog(model.last+1, &entry); err != raft.ErrLogNotFound {
		log.Fatal("an entry behind the newest one: ", err)
	}
	fmt.Fprintf(os.Stderr, "%d promises, entries %d to %d\n", promises, model.first, model.last)
}

func main() {
	dir := os.Getenv("POWERCUT_DIR")
	if dir == "" && len(os.Args) == 2 {
		dir = os.Args[1]
	}
	store, err := twinlograft.Open(filepath.Join(dir, "store"), nil)
	check(err)
	seed, _ := strconv.ParseInt(os.Getenv("POWERCUT_CUT"), 10, 64)
	switch os.Getenv("POWERCUT") {
	case "check":
		compare(store)
	case "run":
		run(store, seed, 1<<30)
	default:
		run(store, seed, 200)
	}
	check(store.Close())
}
