// SPDX-License-Identifier: Apache-2.0

// A replicated key-value store: one of three servers, each with its log in a twinlog.
//
//	kv -id 1 -dir server1 -cluster 1=127.0.0.1:9001=127.0.0.1:8001,2=127.0.0.1:9002=127.0.0.1:8002,3=...
//
//	curl -L -X PUT -d blue http://127.0.0.1:8001/color    # 204: most servers have it on stable storage
//	curl -L http://127.0.0.1:8002/color                   # blue: every read sees every write that was answered before
//	curl -L http://127.0.0.1:8003/                        # everything, as JSON
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/raft"

	twinlograft "example.org/twinlog/bindings/go/raft"
)

const patience = 10 * time.Second

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// ---- the state machine: what raft applies, in the same order on every server ----

type pairs struct {
	lock sync.Mutex
	of   map[string]string
}

type command struct{ Key, Value string }

func (p *pairs) Apply(entry *raft.Log) interface{} {
	var c command
	check(json.Unmarshal(entry.Data, &c)) // an entry that was committed must be applied, or this server must end
	p.lock.Lock()
	defer p.lock.Unlock()
	p.of[c.Key] = c.Value
	return nil
}

func (p *pairs) Snapshot() (raft.FSMSnapshot, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	bytes, err := json.Marshal(p.of)
	return snapshot(bytes), err
}

func (p *pairs) Restore(from io.ReadCloser) error {
	defer from.Close()
	all := map[string]string{}
	if err := json.NewDecoder(from).Decode(&all); err != nil {
		return err
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	p.of = all
	return nil
}

type snapshot []byte

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		sink.Cancel()
		return err
	}
	return sink.Close()
}

func (s snapshot) Release() {}

// ---- the clients ----

type server struct {
	node  *raft.Raft
	pairs *pairs
	http  map[raft.ServerAddress]string // where clients reach a server
}

func (s *server) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	key := strings.TrimPrefix(request.URL.Path, "/")
	var err error
	if request.Method == http.MethodPut {
		var value, bytes []byte
		value, err = io.ReadAll(request.Body)
		if !utf8.ValidString(key) || !utf8.Valid(value) { // JSON would change it
			http.Error(answer, "keys and values are text in UTF-8", http.StatusBadRequest)
			return
		}
		if err == nil {
			bytes, err = json.Marshal(command{key, string(value)})
		}
		if err == nil {
			err = s.node.Apply(bytes, patience).Error()
		}
	} else {
		err = s.node.Barrier(patience).Error() // everything that was committed before is applied behind it
	}
	if err == raft.ErrNotLeader {
		if leader, ok := s.http[s.node.Leader()]; ok {
			http.Redirect(answer, request, "http://"+leader+request.URL.Path, http.StatusTemporaryRedirect)
			return
		}
	}
	if err != nil { // a write may have happened all the same: ask, or write again
		http.Error(answer, err.Error(), http.StatusServiceUnavailable)
		return
	}

	s.pairs.lock.Lock()
	defer s.pairs.lock.Unlock()
	value, isThere := s.pairs.of[key]
	switch {
	case request.Method == http.MethodPut:
		answer.WriteHeader(http.StatusNoContent)
	case key == "":
		json.NewEncoder(answer).Encode(s.pairs.of)
	case isThere:
		io.WriteString(answer, value)
	default:
		http.NotFound(answer, request)
	}
}

func main() {
	id := flag.String("id", "", "this server, one of those in -cluster")
	dir := flag.String("dir", "", "directory of this server")
	cluster := flag.String("cluster", "", "ID=RAFT_ADDRESS=HTTP_ADDRESS,... of all servers, the same for each")
	config := raft.DefaultConfig()
	flag.Uint64Var(&config.SnapshotThreshold, "snapshot", config.SnapshotThreshold, "entries between two snapshots")
	flag.Uint64Var(&config.TrailingLogs, "trailing", config.TrailingLogs, "entries to keep behind a snapshot")
	flag.DurationVar(&config.SnapshotInterval, "interval", config.SnapshotInterval, "how often to look for a snapshot")
	flag.Parse()
	config.LocalID = raft.ServerID(*id)

	var servers raft.Configuration
	s := &server{pairs: &pairs{of: map[string]string{}}, http: map[raft.ServerAddress]string{}}
	own := raft.ServerAddress("")
	for _, text := range strings.Split(*cluster, ",") {
		parts := strings.Split(text, "=")
		if len(parts) != 3 {
			log.Fatal("usage: kv -id ID -dir DIR -cluster ID=RAFT_ADDRESS=HTTP_ADDRESS,...")
		}
		address := raft.ServerAddress(parts[1])
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(parts[0]), Address: address})
		s.http[address] = parts[2]
		if parts[0] == *id {
			own = address
		}
	}

	if own == "" {
		log.Fatalf("-id %q is none of those in -cluster", *id)
	}
	check(os.MkdirAll(*dir, 0o700))
	store, err := twinlograft.Open(filepath.Join(*dir, "log"), nil)
	check(err)
	snapshots, err := raft.NewFileSnapshotStore(*dir, 2, os.Stderr)
	check(err)
	transport, err := raft.NewTCPTransport(string(own), nil, 3, patience, os.Stderr)
	check(err)
	isOld, err := raft.HasExistingState(store, store, snapshots)
	check(err)
	if !isOld {
		check(raft.BootstrapCluster(config, store, store, snapshots, transport, servers))
	}
	s.node, err = raft.NewRaft(config, s.pairs, store, store, snapshots, transport)
	check(err)
	go func() { log.Fatal(http.ListenAndServe(s.http[own], s)) }()

	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	<-ends
	check(s.node.Shutdown().Error())
	check(store.Close())
}
