// SPDX-License-Identifier: Apache-2.0

// Durable appends of 128 bytes by goroutines: twinlog, and beside it what one writes by hand in Go, a group commit with
// a mutex, a condition variable, two buffers, WriteAt and Sync. Rounds take turns; the table has medians, and the median,
// lowest and highest ratio of a round.
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

// ---- by hand ----

type byHand struct {
	lock      sync.Mutex
	changed   sync.Cond
	file      *os.File
	filling   []byte
	spare     []byte
	offset    int64
	appended  int64 // records that are in a buffer
	synced    int64 // records that are durable
	isSyncing bool
	err       error
}

func openByHand(dir string) (appender, error) {
	file, err := os.Create(filepath.Join(dir, "by-hand"))
	h := &byHand{file: file}
	h.changed.L = &h.lock
	return h, err
}

func (h *byHand) append(record []byte) error {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.filling = append(h.filling, record...)
	h.appended++
	for mine := h.appended; h.synced < mine && h.err == nil; {
		if h.isSyncing {
			h.changed.Wait()
			continue
		}
		h.isSyncing = true
		full, upTo := h.filling, h.appended
		h.filling = h.spare[:0]
		h.lock.Unlock()
		_, err := h.file.WriteAt(full, h.offset)
		if err == nil {
			err = h.file.Sync()
		}
		h.lock.Lock()
		h.offset += int64(len(full))
		h.spare, h.synced, h.err, h.isSyncing = full, upTo, err, false
		h.changed.Broadcast()
	}
	return h.err
}

func (h *byHand) close() error { return h.file.Close() }

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
	return values[len(values)/2]
}

func main() {
	dir := flag.String("dir", ".", "where the files are made, and removed again")
	rounds := flag.Int("rounds", 5, "rounds of each")
	seconds := flag.Float64("seconds", 0.6, "length of a round")
	flag.Parse()
	fmt.Println("| goroutines | twinlog | by hand | ratio (lowest, highest) |\n|--:|--:|--:|--:|")
	for _, goroutines := range []int{1, 16, 64, 256, 1000} {
		var ours, theirs, ratios []float64
		for round := 0; round < *rounds; round++ {
			our, err := measure(openLibrary, *dir, goroutines, *seconds)
			if err != nil {
				log.Fatal(err)
			}
			their, err := measure(openByHand, *dir, goroutines, *seconds)
			if err != nil {
				log.Fatal(err)
			}
			ours, theirs, ratios = append(ours, our), append(theirs, their), append(ratios, our/their)
		}
		middle := median(ratios)
		fmt.Printf("| %d | %.0f | %.0f | %.2f (%.2f, %.2f) |\n", goroutines, median(ours), median(theirs), middle, ratios[0],
			ratios[len(ratios)-1])
	}
}
