// SPDX-License-Identifier: Apache-2.0

package twinlograft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	twinlog "example.org/twinlog/bindings/go"
)

// ErrKeyNotFound is the error of Get and GetUint64 for a key that was never set. Raft knows it by its text.
var ErrKeyNotFound = errors.New("not found")

// Values of raft have names of their own among the values of the log.
const (
	keyPrefix   = "raft."
	maxKeyBytes = 63 - len(keyPrefix)
)

// Set keeps a value of up to twinlog.MaxMetaBytes, durable on return. It works after a failed write of the log, too.
// A key has 1 to 58 bytes, and no NUL: EINVAL. EMSGSIZE: the value is larger. After another error the old value or
// the new one is kept.
func (s *Store) Set(key []byte, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	s.values.Lock()
	defer s.values.Unlock()
	delete(s.known, string(key))
	err := s.withValues(func(log *twinlog.Log) error { return log.SetMeta(keyPrefix+string(key), value) })
	if err == nil {
		s.known[string(key)] = append([]byte{}, value...)
	}
	return err
}

// Get returns the value of a key, or ErrKeyNotFound.
func (s *Store) Get(key []byte) (value []byte, err error) {
	if err = checkKey(key); err != nil {
		return nil, err
	}
	s.values.Lock()
	defer s.values.Unlock()
	var known []byte
	err = s.withValues(func(log *twinlog.Log) error {
		isKnown := false
		if known, isKnown = s.known[string(key)]; !isKnown {
			known, err = log.Meta(keyPrefix + string(key))
		}
		return err
	})
	if errors.Is(err, syscall.ENOENT) {
		return nil, ErrKeyNotFound
	}
	if err != nil {
		return nil, err
	}
	s.known[string(key)] = known
	return append([]byte{}, known...), nil
}

func checkKey(key []byte) error {
	if len(key) == 0 || len(key) > maxKeyBytes || bytes.IndexByte(key, 0) >= 0 {
		return fmt.Errorf("twinlog: a key has 1 to %d bytes, and no NUL: %w", maxKeyBytes, syscall.EINVAL)
	}
	return nil
}

// SetUint64 keeps a number, as Set.
func (s *Store) SetUint64(key []byte, value uint64) error {
	var number [8]byte
	binary.LittleEndian.PutUint64(number[:], value)
	return s.Set(key, number[:])
}

// GetUint64 returns the number of a key, or 0 and ErrKeyNotFound.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("twinlog: the value of %q has %d bytes, which is no number", key, len(value))
	}
	return binary.LittleEndian.Uint64(value), nil
}

// withValues [values] calls `use` with the log, or with the one that is open for reading, in which values can be set,
// too.
func (s *Store) withValues(use func(log *twinlog.Log) error) error {
	s.gate.RLock()
	log, err := s.readable()
	if err == nil {
		defer s.gate.RUnlock()
		return use(log)
	}
	s.gate.RUnlock()
	if !errors.Is(err, errNotOpen) {
		return err
	}

	// Neither could be opened when a write had failed. Perhaps it works by now.
	s.gate.Lock()
	defer s.gate.Unlock()
	if !s.isClosed && s.log == nil {
		s.openForReading()
	}
	if log, err = s.readable(); err != nil {
		return err
	}
	return use(log)
}
