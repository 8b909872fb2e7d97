// SPDX-License-Identifier: Apache-2.0

//go:build nats

// A stream of NATS JetStream that syncs each message before it acknowledges it (sync_interval: always), in a server of
// its own. Needs golang-github-nats-io-go-nats-dev, found by GOPATH as in etcd.go, and nats-server 2.10 or later: from
// PATH, or $NATS_SERVER. Without it the table has no JetStream.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const address = "127.0.0.1:42227"

type stream struct {
	server     *exec.Cmd
	connection *nats.Conn
	context    nats.JetStreamContext
}

// command starts the server, or with "-t" has it check the configuration only.
func command(dir string, arguments ...string) (*exec.Cmd, error) {
	program := os.Getenv("NATS_SERVER")
	if program == "" {
		program = "nats-server"
	}
	settings := filepath.Join(dir, "jetstream.conf")
	text := fmt.Sprintf("listen: %s\njetstream { store_dir: %q, sync_interval: always }\n", address, dir)
	return exec.Command(program, append(arguments, "-c", settings)...), os.WriteFile(settings, []byte(text), 0o644)
}

func openStream(dir string) (appender, error) {
	server, err := command(dir)
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		return nil, err
	}
	s := &stream{server: server}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if s.connection, err = nats.Connect("nats://" + address); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err == nil {
		s.context, err = s.connection.JetStream(nats.MaxWait(10 * time.Second))
	}
	if err == nil {
		_, err = s.context.AddStream(&nats.StreamConfig{Name: "bench", Subjects: []string{"bench"}})
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stream) append(record []byte) error {
	_, err := s.context.Publish("bench", record)
	return err
}

func (s *stream) close() error {
	if s.connection != nil {
		s.connection.Close()
	}
	s.server.Process.Signal(syscall.SIGTERM)
	s.server.Wait() // 1 after a signal
	return nil
}

func init() {
	dir, err := os.MkdirTemp("", "jetstream-*")
	if err != nil {
		return
	}
	defer os.RemoveAll(dir)
	if check, err := command(dir, "-t"); err == nil && check.Run() == nil {
		contenders = append(contenders, &contender{name: "JetStream", open: openStream})
	}
}
