// SPDX-License-Identifier: Apache-2.0

//go:build twinlog_suite

// Package raft is hashicorp/raft as it is installed, with this file in the place of its inmem_store.go: so its own tests
// run on the store of this binding. test.sh copies both to a folder of their own.
package raft

import (
	"errors"
	"os"
	"runtime"
	"unsafe"

	original "github.com/hashicorp/raft"

	twinlog "example.org/twinlog/bindings/go/raft"
)

// InmemStore has the name that the tests know. It is in a directory that the tests leave behind.
type InmemStore struct {
	*twinlog.Store
}

// NewInmemStore makes an empty store. The tests close none: the garbage collector does.
func NewInmemStore() *InmemStore {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		panic(err)
	}
	opened, err := twinlog.Open(dir+"/log", &twinlog.Options{SegmentBytes: 1 << 20})
	if err != nil {
		panic(err)
	}
	store := &InmemStore{opened}
	runtime.SetFinalizer(store, func(*InmemStore) { opened.Close(); os.RemoveAll(dir) })
	return store
}

// The two packages are made of the same sources, so their entries look alike in memory.
func originals(logs []*Log) []*original.Log {
	all := make([]*original.Log, len(logs))
	for i, log := range logs {
		all[i] = (*original.Log)(unsafe.Pointer(log))
	}
	return all
}

// GetLog returns the error of this package if there is no such entry.
func (s *InmemStore) GetLog(index uint64, log *Log) error {
	err := s.Store.GetLog(index, (*original.Log)(unsafe.Pointer(log)))
	if errors.Is(err, original.ErrLogNotFound) {
		return ErrLogNotFound
	}
	return err
}

// StoreLog stores one entry.
func (s *InmemStore) StoreLog(log *Log) error { return s.StoreLogs([]*Log{log}) }

// StoreLogs stores entries.
func (s *InmemStore) StoreLogs(logs []*Log) error { return s.Store.StoreLogs(originals(logs)) }
