// SPDX-License-Identifier: Apache-2.0
package main

import (
	"fmt"
	"io"
	"log"
	"os"
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

// answering is the transport in memory, in which an answer that nobody waits for any more holds up no server: in raft 1.1
// a server waits for ever for the one that has asked, which may have been shut down, or has given up after 50 ms.
type answering struct {
	*raft.InmemTransport
	asked chan raft.RPC
	isOff chan struct{}
}

func newAnswering() (raft.ServerAddress, *answering) {
	address, inner := raft.NewInmemTransport("")
	t := &answering{InmemTransport: inner, asked: make(chan raft.RPC), isOff: make(chan struct{})}
	go t.pass()
	return address, t
}

func (t *answering) Consumer() <-chan raft.RPC { return t.asked }

func (t *answering) pass() {
	for {
		select {
		case rpc := <-t.InmemTransport.Consumer():
			if cap(rpc.RespChan) == 0 { // those of a pipeline have room for the answer
				rpc.RespChan = t.relay(rpc.RespChan)
			}
			select {
			case t.asked <- rpc:
			case <-t.isOff:
				return
			}
		case <-t.isOff:
			return
		}
	}
}

func (t *answering) relay(to chan<- raft.RPCResponse) chan<- raft.RPCResponse {
	answer := make(chan raft.RPCResponse, 1)
	go func() {
		select {
		case response := <-answer:
			select {
			case to <- response:
			case <-t.isOff:
			}
		case <-t.isOff:
		}
	}()
	return answer
}

// cluster is three servers of hashicorp/raft in this process, which talk by memory: what is left is raft and the stores.
type cluster struct {
	servers    []*raft.Raft
	stores     []store
	transports []*answering
}

func startCluster(kind contender, place string) *cluster {
	c := &cluster{}
	var peers []raft.Server
	for i := 0; i < 3; i++ {
		address, transport := newAnswering()
		c.transports = append(c.transports, transport)
		peers = append(peers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: address})
	}
	for i, transport := range c.transports {
		for j, other := range c.transports {
			if i != j {
				transport.Connect(peers[j].Address, other.InmemTransport)
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
	c.leader()
	return c
}

// leader waits for one, if need be: leadership may change at any time.
func (c *cluster) leader() *raft.Raft {
	for tries := 0; tries < 1500; tries++ {
		for _, server := range c.servers {
			if server.State() == raft.Leader {
				return server
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	log.Fatal("there is no leader for half a minute")
	return nil
}

// stop ends the leader last: the others may be about to answer it.
func (c *cluster) stop() {
	last := c.leader()
	for _, server := range c.servers {
		if server != last {
			check(server.Shutdown().Error())
		}
	}
	check(last.Shutdown().Error())
	for _, transport := range c.transports {
		close(transport.isOff)
	}
	for _, opened := range c.stores {
		check(opened.Close())
	}
}

// applyOne applies a command, by the leader that there is then.
func (c *cluster) applyOne(command []byte) {
	for {
		err := c.leader().Apply(command, 10*time.Second).Error()
		switch err {
		case nil:
			return
		case raft.ErrNotLeader, raft.ErrLeadershipLost:
			continue
		}
		check(err)
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
				c.applyOne(make([]byte, 128))
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

var clients = []int{1, 16, 64, 256}

// measureApply prints a table of commands a second, and one of how long each takes.
func measureApply(kinds []contender, place string, rounds int) {
	rates := make([][][]float64, len(clients)) // [clients][kind][round]
	times := make([][][]float64, len(clients))
	for i := range clients {
		rates[i], times[i] = make([][]float64, len(kinds)), make([][]float64, len(kinds))
	}
	for round := 0; round < rounds; round++ {
		for turn := range kinds {
			k := (turn + round) % len(kinds)
			at := fmt.Sprintf("%s/apply.%d.%d", place, round, k)
			check(os.MkdirAll(at, 0o700))
			c := startCluster(kinds[k], at+"/server")
			c.apply(16, 200*time.Millisecond)
			for i, number := range clients {
				rate, p50 := c.apply(number, 700*time.Millisecond)
				rates[i][k], times[i][k] = append(rates[i][k], rate), append(times[i][k], p50)
				note("apply", kinds[k].name, fmt.Sprint(number), rate)
				note("apply-p50", kinds[k].name, fmt.Sprint(number), p50)
			}
			c.stop()
			check(os.RemoveAll(at))
		}
	}
	head("apply: commands of 128 bytes a second, three servers", "clients", kinds, rounds)
	for i, number := range clients {
		row := fmt.Sprintf("| %d | %.0f |", number, median(rates[i][0]))
		for other := 1; other < len(kinds); other++ {
			row += fmt.Sprintf(" %.0f | %s |", median(rates[i][other]), compared(rates[i][0], rates[i][other]))
		}
		fmt.Println(row)
	}
	head("apply-p50: half of these commands take less, µs", "clients", kinds, rounds)
	for i, number := range clients {
		row := fmt.Sprintf("| %d | %.0f |", number, median(times[i][0]))
		for other := 1; other < len(kinds); other++ {
			row += fmt.Sprintf(" %.0f | %s |", median(times[i][other]), compared(times[i][other], times[i][0]))
		}
		fmt.Println(row)
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
