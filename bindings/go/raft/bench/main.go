// SPDX-License-Identifier: Apache-2.0

// Measures this store beside raft-boltdb, and beside what raft-wal does (shape.go), in rounds that take turns; then three
// servers of hashicorp/raft on each of them. Prints tables in Markdown: the medians, and within the rounds how many times
// as fast this store is, with the lowest and the highest. A line for each round goes to the file $ROUNDS, if that is set.
// Needs github.com/hashicorp/raft-boltdb (Debian: golang-github-hashicorp-raft-boltdb-dev).
//
//	go mod tidy && go run . -dir DIR -large 1000000 # DIR: on the disk that is to be measured
//
// It is a module of its own, so that the store needs no raft-boltdb. With Debian's sources, by GOPATH:
//
//	mkdir -p G/src/example.org/twinlog/bindings && ln -s $PWD/../.. G/src/example.org/twinlog/bindings/go
//	GO111MODULE=off GOPATH=$PWD/G:/usr/share/gocode go run example.org/twinlog/bindings/go/raft/bench -dir DIR
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb"

	twinlograft "example.org/twinlog/bindings/go/raft"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type store interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

type contender struct {
	name  string
	isWal bool // the shape of raft-wal, which is no whole store
	open  func(path string) (store, error)
	path  string
	store
	next uint64
}

// reopen returns how long it takes to open a store that was closed.
func (c *contender) reopen() (took time.Duration) {
	if c.store != nil {
		check(c.Close())
	}
	began := time.Now()
	opened, err := c.open(c.path)
	check(err)
	c.store = opened
	return time.Since(began)
}

// forget takes the files of the store out of the page cache. It is opened again, because what is mapped would stay.
func (c *contender) forget() {
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	check(c.Close())
	check(filepath.Walk(c.path, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := file.Sync(); err != nil {
			return err
		}
		if _, _, failed := syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, dontNeed, 0, 0); failed != 0 {
			return failed
		}
		return nil
	}))
	opened, err := c.open(c.path)
	check(err)
	c.store = opened
}

func (c *contender) append(entries, bytes int) {
	batch := make([]*raft.Log, entries)
	for i := range batch {
		batch[i] = &raft.Log{Index: c.next, Term: 1, Data: make([]byte, bytes)}
		c.next++
	}
	check(c.StoreLogs(batch))
}

// A case is measured by the time of one call.
type benchCase struct {
	name    string
	calls   int // of a round
	call    func(c *contender, i int)
	before  func(c *contender) // not measured; nil: nothing
	isOfWal bool               // the shape of raft-wal does it, too
}

var key = []byte("CurrentTerm")

func getAny(c *contender, _ int) {
	var entry raft.Log
	check(c.GetLog(1+uint64(rand.Int63n(int64(c.next-1))), &entry))
}

// Of stores that begin with few entries.
var cases = []benchCase{
	{name: "StoreLogs, 1 entry of 128 B", calls: 300, call: func(c *contender, _ int) { c.append(1, 128) }, isOfWal: true},
	{name: "StoreLogs, 1 entry of 16 KiB", calls: 100, call: func(c *contender, _ int) { c.append(1, 16<<10) }, isOfWal: true},
	{name: "StoreLogs, 64 entries of 128 B", calls: 100, call: func(c *contender, _ int) { c.append(64, 128) }, isOfWal: true},
	{name: "StoreLogs, 64 entries of 16 KiB", calls: 10, call: func(c *contender, _ int) { c.append(64, 16<<10) }, isOfWal: true},
	{name: "SetUint64", calls: 100, call: func(c *contender, i int) { check(c.SetUint64(key, uint64(i)+c.next)) }},
	{name: "GetUint64", calls: 3000, call: func(c *contender, _ int) {
		_, err := c.GetUint64(key)
		check(err)
	}},
	{name: "GetLog, newest", calls: 3000, call: func(c *contender, _ int) {
		var entry raft.Log
		check(c.GetLog(c.next-1, &entry))
	}},
	{name: "GetLog, one by one", calls: 3000, call: func(c *contender, i int) {
		var entry raft.Log
		check(c.GetLog(uint64(1+i)%(c.next-1)+1, &entry))
	}},
	{name: "FirstIndex and LastIndex", calls: 3000, call: func(c *contender, _ int) {
		_, err := c.FirstIndex()
		check(err)
		_, err = c.LastIndex()
		check(err)
	}},
	{name: "DeleteRange, 64 newest of 128 B, stored before", calls: 20, call: func(c *contender, _ int) {
		c.append(64, 128)
		check(c.DeleteRange(c.next-64, c.next-1))
		c.next -= 64
	}},
}

// Of stores that begin with many.
var largeCases = []benchCase{
	{name: "GetLog, at random", calls: 3000, call: getAny},
	{name: "GetLog, at random, from the disk", calls: 300, call: getAny, before: (*contender).forget},
	{name: "opening", calls: 5},
}

func (b *benchCase) run(c *contender) time.Duration {
	var took time.Duration
	if b.before != nil {
		b.before(c)
	}
	began := time.Now()
	for i := 0; i < b.calls; i++ {
		if b.call == nil {
			took += c.reopen()
		} else {
			b.call(c, i)
		}
	}
	if b.call != nil {
		took = time.Since(began)
	}
	return took / time.Duration(b.calls)
}

func median(values []float64) float64 {
	sorted := append([]float64(nil), values...)
	sort.Float64s(sorted)
	return sorted[len(sorted)/2]
}

// measure returns the times of each call in microseconds: [case][contender][round]; none where a contender does not do it.
func measure(all []*contender, cases []benchCase, rounds int) [][][]float64 {
	times := make([][][]float64, len(cases))
	for i := range cases {
		times[i] = make([][]float64, len(all))
	}
	for round := 0; round < rounds; round++ {
		for i := range cases {
			for turn := range all {
				chosen := (turn + round) % len(all) // each is the first one in turn
				if all[chosen].isWal && !cases[i].isOfWal {
					continue
				}
				us := float64(cases[i].run(all[chosen]).Nanoseconds()) / 1e3
				times[i][chosen] = append(times[i][chosen], us)
				note("store", all[chosen].name, cases[i].name, us)
			}
		}
	}
	return times
}

// fill returns the contenders with so many entries of 256 bytes.
func fill(kinds []contender, place string, entries int) (all []*contender) {
	check(os.MkdirAll(place, 0o700))
	for i := range kinds {
		c := kinds[i]
		c.path, c.next = filepath.Join(place, strings.ReplaceAll(c.name, " ", "-")), 1
		c.reopen()
		for stored := 0; stored < entries; stored += 1000 {
			c.append(1000, 256)
		}
		check(c.SetUint64(key, 1))
		all = append(all, &c)
	}
	return all
}

// measureStores prints a row for each case. Those that it is not asked to measure have columns, too.
func measureStores(kinds []contender, others int, place string, cases []benchCase, entries, rounds int) {
	all := fill(kinds, place, entries)
	times := measure(all, cases, rounds)
	for _, c := range all {
		check(c.Close())
	}
	for i := range cases {
		row := fmt.Sprintf("| %s | %.1f |", cases[i].name, median(times[i][0]))
		for other := 1; other <= others; other++ {
			if other >= len(all) || len(times[i][other]) == 0 {
				row += " - | - |"
				continue
			}
			row += fmt.Sprintf(" %.1f | %s |", median(times[i][other]), compared(times[i][other], times[i][0]))
		}
		fmt.Println(row)
	}
}

// head begins a table, with two columns for each of the other contenders.
func head(title, first string, kinds []contender, rounds int) {
	columns, line := "| "+first+" | "+kinds[0].name+" |", "|---|--:|"
	for _, other := range kinds[1:] {
		columns += fmt.Sprintf(" %s | against %s |", other.name, other.name)
		line += "--:|--:|"
	}
	fmt.Printf("\n**%s**, median of %d rounds\n\n%s\n%s\n", title, rounds, columns, line)
}

var notes *os.File

// note writes down what a round has given.
func note(table, contender, point string, figure float64) {
	if notes != nil {
		_, err := fmt.Fprintf(notes, "%s,%s,%q,%.1f\n", table, contender, point, figure)
		check(err)
	}
}

func main() {
	dir := flag.String("dir", "", "directory on the disk that is to be measured")
	rounds := flag.Int("rounds", 7, "rounds")
	entries := flag.Int("entries", 1000, "entries of 256 bytes that the stores begin with")
	large := flag.Int("large", 1000, "the same, for openings and reads at random")
	flag.Parse()
	if *dir == "" {
		log.Fatal("usage: bench -dir DIR [-rounds N]")
	}
	check(os.MkdirAll(*dir, 0o700))
	place, err := os.MkdirTemp(*dir, "bench.*")
	check(err)
	defer os.RemoveAll(place)
	if path := os.Getenv("ROUNDS"); path != "" {
		notes, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
		check(err)
	}
	kinds := []contender{
		{name: "twinlog", open: func(path string) (store, error) { return twinlograft.Open(path, nil) }},
		{name: "raft-boltdb", open: func(path string) (store, error) { return raftboltdb.NewBoltStore(path) }},
		{name: "as raft-wal", isWal: true, open: func(path string) (store, error) { return openShape(path) }},
	}

	head("store: µs of a call, hashicorp/raft's stores", "call", kinds, *rounds)
	others := len(kinds) - 1
	measureStores(kinds, others, filepath.Join(place, "small"), cases, *entries, *rounds)
	measureStores(kinds[:2], others, filepath.Join(place, "large"), largeCases, *large, *rounds)
	measureApply(kinds, place, *rounds)
}
