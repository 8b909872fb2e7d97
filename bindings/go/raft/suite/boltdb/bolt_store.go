// SPDX-License-Identifier: Apache-2.0

//go:build twinlog_suite

// Package raftboltdb is hashicorp/raft-boltdb as it is installed, with this file in the place of its bolt_store.go: so its
// own tests run on the store of this binding, but for those of bolt's options. test.sh copies both to a folder of their own.
package raftboltdb

import (
	"github.com/boltdb/bolt"

	twinlog "example.org/twinlog/bindings/go/raft"
)

// ErrKeyNotFound is that of this binding.
var ErrKeyNotFound = twinlog.ErrKeyNotFound

// Of bolt, for tests that are not run.
const dbFileMode = 0600

var dbLogs, dbConf = "logs", "conf"

// Options are bolt's, of tests that are not run.
type Options struct {
	Path        string
	BoltOptions *bolt.Options
	NoSync      bool
}

// BoltStore has the name that the tests know.
type BoltStore struct {
	*twinlog.Store
	path string
}

// New makes or opens a store in a directory of this name.
func New(options Options) (*BoltStore, error) {
	store, err := twinlog.Open(options.Path, nil)
	if err != nil {
		return nil, err
	}
	return &BoltStore{store, options.Path}, nil
}

// NewBoltStore is New without options.
func NewBoltStore(path string) (*BoltStore, error) { return New(Options{Path: path}) }
