// SPDX-License-Identifier: Apache-2.0
package main

import (
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// nothing is a state machine that keeps nothing.
type nothing struct{}

func (nothing) Apply(*raft.Log) interface{}         { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (nothing) Restore(from io.ReadCloser) error    { return from.Close() }
func (nothing) Persist(to raft.SnapshotSink) error  { return to.Close() }
func (nothing) Release()                            {}

// cluster is three servers of hashicorp/raft in this process, which talk by memory: what is left is raft and the stores.
type cluster struct {
	servers []*raft.Raft
	stores  []store
	leader  *raft.Raft
}

func startCluster(kind contender, place string) *cluster {
	c := &cluster{}
	var peers []raft.Server
	var transports []*raft.InmemTransport
	for i := 0; i < 3; i++ {
		address, transport := raft.NewInmemTransport("")
		transports = append(transports, transport)
		peers = append(peers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: address})
	}
	for i, transport := range transports {
		for j, other := range transports {
			if i != j {
				transport.Connect(peers[j].Address, other)
			}
		}
		opened, err := kind.open(fmt.Sprintf("%s.%d", place, i))
		check(err)
		config := raft.DefaultConfig()
		config.LocalID, config.LogOutput = peers[i].ID, io.Discard
		snapshots := raft.NewInmemSnapshotStore()
		check(raft.BootstrapCluster(config, opened, opened, snapshots, transport, raft.Configuration{Servers: peers}))
		server, err := raft.NewRaft(config, nothing{}, opened, opened, snapshots, transport)
		check(err)
		c.servers, c.stores = append(c.servers, server), append(c.stores, opened)
	}
	for c.leader == nil {
		time.Sleep(20 * time.Millisecond)
		for _, server := range c.servers {
			if server.State() == raft.Leader {
				c.leader = server
			}
		}
	}
	return c
}

func (c *cluster) stop() {
	for _, server := range c.servers {
		check(server.Shutdown().Error())
	}
	for _, opened := range c.stores {
		check(opened.Close())
	}
}

// apply returns commands of 128 bytes a second, and the median of their times in microseconds.
func (c *cluster) apply(clients int, lasts time.Duration) (rate, p50 float64) {
	var all []float64
	var lock sync.Mutex
	var working sync.WaitGroup
	began := time.Now()
	for i := 0; i < clients; i++ {
		working.Add(1)
		go func() {
			defer working.Done()
			var own []float64
			for time.Since(began) < lasts {
				called := time.Now()
				check(c.leader.Apply(make([]byte, 128), 10*time.Second).Error())
				own = append(own, float64(time.Since(called).Nanoseconds())/1e3)
			}
			lock.Lock()
			all = append(all, own...)
			lock.Unlock()
		}()
	}
	working.Wait()
	took := time.Since(began)
	sort.Float64s(all)
	return float64(len(all)) / took.Seconds(), all[len(all)/2]
}

// measureApply prints a table: the first contender, and how it compares with the others within each round.
func measureApply(kinds []contender, place string, rounds int) {
	clients := []int{1, 16, 64, 256}
	rates := make([][][]float64, len(clients)) // [clients][kind][round]
	times := make([][][]float64, len(clients))
	for i := range clients {
		rates[i], times[i] = make([][]float64, len(kinds)), make([][]float64, len(kinds))
	}
	for round := 0; round < rounds; round++ {
		for turn := range kinds {
			k := (turn + round) % len(kinds)
			c := startCluster(kinds[k], fmt.Sprintf("%s/apply.%d.%d", place, round, k))
			c.apply(16, 200*time.Millisecond)
			for i, number := range clients {
				rate, p50 := c.apply(number, 700*time.Millisecond)
				rates[i][k], times[i][k] = append(rates[i][k], rate), append(times[i][k], p50)
			}
			c.stop()
		}
	}
	for other := 1; other < len(kinds); other++ {
		fmt.Printf("\n%-32s %14s %14s %20s %22s\n", "Apply, clients", kinds[0].name+"/s", kinds[other].name+"/s", "times as many", "p50, of its")
		for i, number := range clients {
			fmt.Printf("%-32d %14.0f %14.0f %22s %24s\n", number, median(rates[i][0]), median(rates[i][other]),
				compared(rates[i][0], rates[i][other]), compared(times[i][0], times[i][other]))
		}
	}
}

// compared is the median of the ratios within a round, with the lowest and the highest.
func compared(one, other []float64) string {
	var ratios []float64
	for round := range one {
		ratios = append(ratios, one[round]/other[round])
	}
	sort.Float64s(ratios)
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(ratios), ratios[0], ratios[len(ratios)-1])
}
