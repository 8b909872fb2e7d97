// SPDX-License-Identifier: Apache-2.0

//go:build etcd

// etcd's wal as etcd's raft loop uses it: one Save, with a sync, for all entries that came meanwhile. From Debian's
// golang-etcd-server-dev, which is found by GOPATH:
//
//	mkdir -p G/src/example.org/twinlog/bindings && ln -s $PWD G/src/example.org/twinlog/bindings/go
//	GO111MODULE=off GOPATH=$PWD/G:/usr/share/gocode go run -tags etcd ./bench -dir DIR
package main

import (
	"path/filepath"

	"go.etcd.io/etcd/raft/raftpb"
	"go.etcd.io/etcd/wal"
	"go.uber.org/zap"
)

func openEtcd(dir string) (appender, error) {
	w, err := wal.Create(zap.NewNop(), filepath.Join(dir, "etcd"), nil)
	if err != nil {
		return nil, err
	}
	var state = raftpb.HardState{Term: 1}
	var index uint64
	write := func(records []byte) error {
		entries := make([]raftpb.Entry, 0, len(records)/recordBytes)
		for ; len(records) > 0; records = records[recordBytes:] {
			index++
			entries = append(entries, raftpb.Entry{Term: 1, Index: index, Data: records[:recordBytes]})
		}
		return w.Save(state, entries)
	}
	return newGroup(write, w.Close), nil
}

func init() { contenders = append(contenders, &contender{name: "etcd", open: openEtcd}) }
