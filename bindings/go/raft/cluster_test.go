// SPDX-License-Identifier: Apache-2.0

package twinlograft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// ---- servers of this process: what raft does to a store ----

type nothing struct{}

func (nothing) Apply(*raft.Log) interface{}         { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (nothing) Restore(from io.ReadCloser) error    { return from.Close() }
func (nothing) Persist(sink raft.SnapshotSink) error {
	return sink.Close()
}
func (nothing) Release() {}

type node struct {
	dir, address string
	store        *Store
	raft         *raft.Raft
}

func (n *node) start(t *testing.T, all []*node) {
	t.Helper()
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(n.address)
	config.HeartbeatTimeout, config.ElectionTimeout = 200*time.Millisecond, 200*time.Millisecond
	config.LeaderLeaseTimeout = 200 * time.Millisecond
	config.TrailingLogs, config.SnapshotInterval = 5, time.Hour
	config.LogOutput = io.Discard
	n.store = open(t, filepath.Join(n.dir, "log"), nil)
	snapshots, err := raft.NewFileSnapshotStore(n.dir, 2, io.Discard)
	must(t, err)
	transport, err := raft.NewTCPTransport(n.address, nil, 2, time.Second, io.Discard)
	must(t, err)
	var servers raft.Configuration
	for _, other := range all {
		server := raft.Server{ID: raft.ServerID(other.address), Address: raft.ServerAddress(other.address)}
		servers.Servers = append(servers.Servers, server)
	}
	isOld, err := raft.HasExistingState(n.store, n.store, snapshots)
	must(t, err)
	if !isOld {
		must(t, raft.BootstrapCluster(config, n.store, n.store, snapshots, transport, servers))
	}
	n.raft, err = raft.NewRaft(config, nothing{}, n.store, n.store, snapshots, transport)
	must(t, err)
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	must(t, n.raft.Shutdown().Error()) // closes the transport, too
	must(t, n.store.Close())
	n.raft = nil
}

func await(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !isSo(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited for ", what)
		}
	}
}

func leaderOf(t *testing.T, all []*node) (leader *node) {
	t.Helper()
	await(t, "a leader", func() bool {
		for _, n := range all {
			if n.raft != nil && n.raft.State() == raft.Leader && n.raft.Barrier(time.Second).Error() == nil {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

// A server that was away gets a snapshot, goes on behind a gap, and comes back from that. So does one with an empty
// disk.
func TestServerThatGetsASnapshot(t *testing.T) {
	var all []*node
	for len(all) < 3 {
		all = append(all, &node{dir: t.TempDir(), address: freeAddress(t)})
	}
	for _, n := range all {
		n.start(t, all)
	}
	// A busy machine is late with heartbeats. Then another server leads, and what was not committed is applied again.
	apply := func(count int) {
		t.Helper()
		for i := 0; i < count; i++ {
			await(t, "a command", func() bool {
				return leaderOf(t, all).raft.Apply([]byte("command"), time.Minute).Error() == nil
			})
		}
	}
	apply(20)
	var late *node
	for _, n := range all {
		if n != leaderOf(t, all) {
			late = n
		}
	}
	// others waits until the servers that were never away have applied the same, and returns them.
	others := func() (rest []*node) {
		t.Helper()
		for _, n := range all {
			if n != late {
				rest = append(rest, n)
			}
		}
		await(t, "the other servers", func() bool { return rest[0].raft.AppliedIndex() == rest[1].raft.AppliedIndex() })
		return rest
	}
	catchUp := func() {
		t.Helper()
		apply(5)
		other := others()[0]
		await(t, "the late server", func() bool {
			_, last, err := late.store.Bounds()
			must(t, err)
			_, otherLast, err := other.store.Bounds()
			must(t, err)
			return last == otherLast && late.raft.AppliedIndex() == other.raft.AppliedIndex()
		})
		first, last, err := late.store.Bounds()
		must(t, err)
		otherFirst, _, err := other.store.Bounds()
		must(t, err)
		if first <= 20 {
			t.Fatalf("%d to %d: it did not get a snapshot", first, last)
		}
		var own, its raft.Log
		for index := first; index <= last; index++ {
			must(t, late.store.GetLog(index, &own))
			if index >= otherFirst {
				must(t, other.store.GetLog(index, &its))
				if own.Term != its.Term || !bytes.Equal(own.Data, its.Data) {
					t.Fatal(own, its)
				}
			}
		}
	}
	for _, isEmpty := range []bool{false, true} {
		late.stop(t)
		if isEmpty {
			late.dir = t.TempDir()
		}
		apply(50)
		for _, n := range others() {
			must(t, n.raft.Snapshot().Error())
			first, err := n.store.FirstIndex()
			must(t, err)
			if first <= 22 {
				t.Fatal("a server has not trimmed its log: ", first)
			}
		}
		late.start(t, all)
		catchUp()
		late.stop(t)
		late.start(t, all) // from the snapshot, and what follows it
		catchUp()
	}
	for _, n := range all {
		n.stop(t)
	}
}

// A leader with a disk that fails for a while steps down, and leads again: nothing of it has to be started again.
func TestServerOnADiskThatFails(t *testing.T) {
	all := []*node{{dir: t.TempDir(), address: freeAddress(t)}}
	n := all[0]
	n.start(t, all)
	leaderOf(t, all)
	acknowledged := n.raft.AppliedIndex()
	mend := limitFiles(t, 128<<10)
	for err := error(nil); err == nil; {
		future := n.raft.Apply(make([]byte, 20000), time.Minute)
		if err = future.Error(); err == nil {
			acknowledged = future.Index()
		}
	}
	await(t, "the end of the lead", func() bool { return n.raft.State() != raft.Leader })
	mend()
	leaderOf(t, all)
	must(t, n.raft.Apply([]byte("command"), time.Minute).Error())
	// A new leader applies what it has when its first entry is committed, which is later than its election.
	appliesAll := func() bool { return n.raft.AppliedIndex() > acknowledged }
	await(t, "what was acknowledged", appliesAll)
	n.stop(t)
	n.start(t, all)
	await(t, "what was acknowledged, from the disk", appliesAll)
	n.stop(t)
}

// ---- three processes of the example under kill -9 ----

type process struct {
	id, dir string
	http    string
	command *exec.Cmd
}

type cluster struct {
	program, text string
	processes     []*process
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func (c *cluster) start(t *testing.T, p *process) {
	t.Helper()
	p.command = exec.Command(c.program, "-id", p.id, "-dir", p.dir, "-cluster", c.text,
		"-snapshot", "300", "-trailing", "50", "-interval", "300ms")
	output, err := os.OpenFile(p.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer output.Close()
	p.command.Stdout, p.command.Stderr = output, output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, p.command.Start())
}

func (p *process) kill() {
	p.command.Process.Kill()
	p.command.Wait()
}

var client = &http.Client{Timeout: 15 * time.Second}

// leader asks the servers, one of which leads its client to the leader.
func (c *cluster) leader() *process {
	for _, p := range c.processes {
		answer, err := client.Get("http://" + p.http + "/")
		if err != nil {
			continue
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		for _, other := range c.processes {
			if answer.StatusCode == http.StatusOK && answer.Request.URL.Host == other.http {
				return other
			}
		}
	}
	return nil
}

func (c *cluster) read() map[string]string {
	for _, p := range c.processes {
		answer, err := client.Get("http://" + p.http + "/")
		if err != nil {
			continue
		}
		all := map[string]string{}
		err = json.NewDecoder(answer.Body).Decode(&all)
		answer.Body.Close()
		if err == nil && answer.StatusCode == http.StatusOK {
			return all
		}
	}
	return nil
}

// writer sets keys of its own, each to the next number, and notes what was acknowledged.
type writer struct {
	lock         sync.Mutex
	acknowledged map[string]int
	count        int
}

func (w *writer) run(c *cluster, name string, isOver <-chan struct{}) {
	target := 0
	for number := 1; ; number++ {
		select {
		case <-isOver:
			return
		default:
		}
		key := fmt.Sprintf("%s.%d", name, number%20)
		request, err := http.NewRequest(http.MethodPut, "http://"+c.processes[target].http+"/"+key,
			strings.NewReader(fmt.Sprint(number)))
		if err != nil {
			panic(err)
		}
		answer, err := client.Do(request)
		if err == nil {
			answer.Body.Close()
		}
		if err != nil || answer.StatusCode != http.StatusNoContent {
			target = (target + 1) % len(c.processes)
			time.Sleep(20 * time.Millisecond)
			continue
		}
		w.lock.Lock()
		w.acknowledged[key] = number
		w.count++
		w.lock.Unlock()
	}
}

// Three servers are killed, one by one and all at once, while clients write. Each command that was acknowledged is
// there.
func TestServersThatAreKilled(t *testing.T) {
	c := &cluster{program: os.Getenv("TWINLOG_RAFT_EXAMPLE")}
	if c.program == "" {
		t.Skip("SKIP bindings-go-raft cluster: TWINLOG_RAFT_EXAMPLE, the program of ./example, is not set")
	}
	var texts []string
	for _, id := range []string{"1", "2", "3"} {
		p := &process{id: id, dir: filepath.Join(t.TempDir(), "server"+id), http: freeAddress(t)}
		c.processes = append(c.processes, p)
		texts = append(texts, id+"="+freeAddress(t)+"="+p.http)
	}
	c.text = strings.Join(texts, ",")
	for _, p := range c.processes {
		c.start(t, p)
	}
	defer func() {
		for _, p := range c.processes {
			p.kill()
			if text, err := os.ReadFile(p.dir + ".log"); err == nil && t.Failed() {
				t.Logf("server %s:\n%s", p.id, text)
			}
		}
	}()

	w := &writer{acknowledged: map[string]int{}}
	isOver := make(chan struct{})
	var wait sync.WaitGroup
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			w.run(c, fmt.Sprint("writer", i), isOver)
		}(i)
	}
	defer wait.Wait()
	defer close(isOver)

	acknowledged := func() (all map[string]int, count int) {
		w.lock.Lock()
		defer w.lock.Unlock()
		all = map[string]int{}
		for key, number := range w.acknowledged {
			all[key] = number
		}
		return all, w.count
	}
	goOn := func() {
		t.Helper()
		_, before := acknowledged()
		await(t, "more writes", func() bool { _, now := acknowledged(); return now > before+450 })
	}
	compare := func(what string) {
		t.Helper()
		promised, _ := acknowledged()
		var found map[string]string
		await(t, "an answer", func() bool { found = c.read(); return found != nil })
		for key, number := range promised {
			var has int
			fmt.Sscan(found[key], &has)
			if has < number {
				t.Fatalf("%s: %s is %d, and was acknowledged as %d", what, key, has, number)
			}
		}
	}
	pick := func(isLeader bool) (chosen *process) {
		t.Helper()
		var leader *process
		await(t, "a leader", func() bool { leader = c.leader(); return leader != nil })
		for _, p := range c.processes {
			if (p == leader) == isLeader {
				chosen = p
			}
		}
		return chosen
	}
	for round := 0; round < unlessFew(2, 1); round++ {
		for _, what := range []string{"the leader", "a follower", "all"} {
			goOn()
			killed := c.processes
			if what != "all" {
				killed = []*process{pick(what == "the leader")}
			}
			for _, p := range killed {
				p.kill()
			}
			if what != "all" {
				goOn() // without that server: it gets a snapshot later
			}
			for _, p := range killed {
				c.start(t, p)
			}
			compare(what)
		}
	}
	for key, value := range map[string]string{"key": "\xff", "%ff": "value"} {
		await(t, "a refusal of what is no text", func() bool {
			request, err := http.NewRequest(http.MethodPut, "http://"+c.processes[0].http+"/"+key, strings.NewReader(value))
			must(t, err)
			answer, err := client.Do(request)
			if err != nil {
				return false
			}
			answer.Body.Close()
			if answer.StatusCode == http.StatusNoContent {
				t.Fatal("another value was stored for", key)
			}
			return answer.StatusCode == http.StatusBadRequest
		})
	}
	_, count := acknowledged()
	t.Logf("%d commands were acknowledged", count)
}
