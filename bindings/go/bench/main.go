// SPDX-License-Identifier: Apache-2.0

// Durable appends of 128 bytes by goroutines: twinlog, and beside it what one writes by hand in Go, a group commit with
// a mutex, a condition variable, two buffers, WriteAt and Sync; with -tags etcd also etcd's wal (etcd.go). Rounds take
// turns; the table has medians, and of twinlog to each other one the median, lowest and highest ratio of a round. A line
// for each round goes to the file $ROUNDS, too.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	twinlog "example.org/twinlog/bindings/go"
)

const recordBytes = 128

type appender interface {
	append(record []byte) error
	close() error
}

// ---- twinlog ----

type library struct{ log *twinlog.Log }

func openLibrary(dir string) (appender, error) {
	log, err := twinlog.Open(filepath.Join(dir, "log"), nil)
	return &library{log}, err
}
func (l *library) append(record []byte) error {
	_, err := l.log.Append(context.Background(), record)
	return err
}
func (l *library) close() error { return l.log.Close() }

// ---- a group commit: whoever finds nobody writing writes for all ----

type group struct {
	lock      sync.Mutex
	changed   sync.Cond
	filling   []byte
	spare     []byte
	appended  int64 // records that are in a buffer
	synced    int64 // records that are durable
	isSyncing bool
	err       error
	write     func(records []byte) error // durable on return
	end       func() error
}

func newGroup(write func(records []byte) error, end func() error) *group {
	g := &group{write: write, end: end}
	g.changed.L = &g.lock
	return g
}

func (g *group) append(record []byte) error {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.filling = append(g.filling, record...)
	g.appended++
	for mine := g.appended; g.synced < mine && g.err == nil; {
		if g.isSyncing {
			g.changed.Wait()
			continue
		}
		g.isSyncing = true
		full, upTo := g.filling, g.appended
		g.filling = g.spare[:0]
		g.lock.Unlock()
		err := g.write(full)
		g.lock.Lock()
		g.spare, g.synced, g.err, g.isSyncing = full, upTo, err, false
		g.changed.Broadcast()
	}
	return g.err
}

func (g *group) close() error { return g.end() }

func openByHand(dir string) (appender, error) {
	file, err := os.Create(filepath.Join(dir, "by-hand"))
	var offset int64
	write := func(records []byte) error {
		_, err := file.WriteAt(records, offset)
		offset += int64(len(records))
		if err == nil {
			err = file.Sync()
		}
		return err
	}
	return newGroup(write, file.Close), err
}

// ---- rounds ----

func measure(open func(string) (appender, error), dir string, goroutines int, seconds float64) (float64, error) {
	place, err := os.MkdirTemp(dir, "go-bench-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(place)
	a, err := open(place)
	if err != nil {
		return 0, err
	}
	var count, failed int64
	var wait sync.WaitGroup
	var stop int32
	began := time.Now()
	for i := 0; i < goroutines; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			record := make([]byte, recordBytes)
			for atomic.LoadInt32(&stop) == 0 {
				if err := a.append(record); err != nil {
					atomic.AddInt64(&failed, 1)
					return
				}
				atomic.AddInt64(&count, 1)
			}
		}()
	}
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	rate := float64(atomic.LoadInt64(&count)) / time.Since(began).Seconds()
	atomic.StoreInt32(&stop, 1)
	wait.Wait()
	if failed > 0 {
		return 0, fmt.Errorf("%d appends have failed", failed)
	}
	return rate, a.close()
}

func median(values []float64) float64 {
	sort.Float64s(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

type contender struct {
	name  string
	open  func(dir string) (appender, error)
	rates []float64
}

var contenders = []*contender{{name: "twinlog", open: openLibrary}, {name: "by hand", open: openByHand}}

func main() {
	dir := flag.String("dir", ".", "where the files are made, and removed again")
	rounds := flag.Int("rounds", 5, "rounds of each")
	seconds := flag.Float64("seconds", 0.6, "length of a round")
	flag.Parse()
	all, err := os.OpenFile(os.Getenv("ROUNDS"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil && os.Getenv("ROUNDS") != "" {
		log.Fatal(err)
	}
	head, line := "| goroutines ", "|--:"
	for i, c := range contenders {
		head, line = head+"| "+c.name+" ", line+"|--:"
		if i > 0 {
			head, line = head+"| against "+c.name+" ", line+"|--:"
		}
	}
	fmt.Println(head + "|\n" + line + "|")
	for _, goroutines := range []int{1, 16, 64, 256, 1000} {
		for _, c := range contenders {
			c.rates = nil
		}
		for round := 0; round < *rounds; round++ {
			for turn := range contenders {
				if round%2 == 1 { // back, so that none always follows the same one
					turn = len(contenders) - 1 - turn
				}
				c := contenders[(round/2+turn)%len(contenders)]
				rate, err := measure(c.open, *dir, goroutines, *seconds)
				if err != nil {
					log.Fatal(c.name, ": ", err)
				}
				c.rates = append(c.rates, rate)
				if all != nil {
					fmt.Fprintf(all, "go,%s,%d,%.0f\n", c.name, goroutines, rate)
				}
			}
		}
		fmt.Print("| ", goroutines, " ")
		for i, c := range contenders {
			fmt.Printf("| %.0f ", median(append([]float64(nil), c.rates...)))
			if i > 0 {
				var ratios []float64
				for round, rate := range c.rates {
					ratios = append(ratios, contenders[0].rates[round]/rate)
				}
				middle := median(ratios)
				fmt.Printf("| %.2f (%.2f to %.2f) ", middle, ratios[0], ratios[len(ratios)-1])
			}
		}
		fmt.Println("|")
	}
}
