// SPDX-License-Identifier: Apache-2.0
package main

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"

	twinlograft "example.org/twinlog/bindings/go/raft"
)

const shapeFileBytes = 64 << 20

// shape stores entries as raft-wal does, which Debian does not have: one writer at a time, frames with a checksum in
// files that were made at their full size, one write and one sync for each call, and the places of the entries in
// memory. It keeps votes in memory, and is opened empty.
type shape struct {
	lock   sync.RWMutex
	path   string
	files  []*os.File
	end    int64
	first  uint64
	places []place
	frames []byte
	values map[string][]byte
}

type place struct {
	file  *os.File
	at    int64
	bytes int
}

const frameHead = 8 + 8 + 1 + 4 // index, term, type, size

func openShape(path string) (*shape, error) {
	s := &shape{path: path, values: map[string][]byte{}}
	return s, s.addFile()
}

func (s *shape) addFile() error {
	file, err := os.Create(s.path + string(rune('a'+len(s.files)%26)) + string(rune('a'+len(s.files)/26)))
	if err != nil {
		return err
	}
	s.files, s.end = append(s.files, file), 0
	return syscall.Fallocate(int(file.Fd()), 0, 0, shapeFileBytes)
}

func (s *shape) StoreLogs(entries []*raft.Log) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.end > shapeFileBytes-(8<<20) {
		if err := s.addFile(); err != nil {
			return err
		}
	}
	file := s.files[len(s.files)-1]
	s.frames = s.frames[:0]
	for _, entry := range entries {
		var head [frameHead]byte
		binary.LittleEndian.PutUint64(head[0:], entry.Index)
		binary.LittleEndian.PutUint64(head[8:], entry.Term)
		head[16] = byte(entry.Type)
		binary.LittleEndian.PutUint32(head[17:], uint32(len(entry.Data)))
		s.places = append(s.places, place{file, s.end + int64(len(s.frames)), frameHead + len(entry.Data)})
		s.frames = append(append(s.frames, head[:]...), entry.Data...)
	}
	s.frames = binary.LittleEndian.AppendUint32(s.frames, crc32.Checksum(s.frames, crc32.MakeTable(crc32.Castagnoli)))
	if s.first == 0 {
		s.first = entries[0].Index
	}
	if _, err := file.WriteAt(s.frames, s.end); err != nil {
		return err
	}
	s.end += int64(len(s.frames))
	return file.Sync()
}

func (s *shape) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

func (s *shape) GetLog(index uint64, entry *raft.Log) error {
	s.lock.RLock()
	defer s.lock.RUnlock()
	if s.first == 0 || index < s.first || index >= s.first+uint64(len(s.places)) {
		return raft.ErrLogNotFound
	}
	at := s.places[index-s.first]
	frame := make([]byte, at.bytes)
	if _, err := at.file.ReadAt(frame, at.at); err != nil {
		return err
	}
	entry.Index, entry.Term = binary.LittleEndian.Uint64(frame), binary.LittleEndian.Uint64(frame[8:])
	entry.Type, entry.Data = raft.LogType(frame[16]), frame[frameHead:]
	return nil
}

func (s *shape) FirstIndex() (uint64, error) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	return s.first, nil
}

func (s *shape) LastIndex() (uint64, error) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	if s.first == 0 {
		return 0, nil
	}
	return s.first + uint64(len(s.places)) - 1, nil
}

// DeleteRange takes the newest entries only.
func (s *shape) DeleteRange(min, _ uint64) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.places = s.places[:min-s.first]
	return nil
}

func (s *shape) Set(key, value []byte) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.values[string(key)] = append([]byte(nil), value...)
	return nil
}

func (s *shape) Get(key []byte) ([]byte, error) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	value, ok := s.values[string(key)]
	if !ok {
		return nil, twinlograft.ErrKeyNotFound
	}
	return value, nil
}

func (s *shape) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.LittleEndian.AppendUint64(nil, value))
}

func (s *shape) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(value), nil
}

func (s *shape) Close() error {
	for _, file := range s.files {
		file.Close()
	}
	return nil
}
