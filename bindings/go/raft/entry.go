// SPDX-License-Identifier: Apache-2.0

package twinlograft

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	twinlog "example.org/twinlog/bindings/go"
)

// A record of the log is an entry of raft. The LSN of the record is the index of the entry, and the type of the
// record is the type of the entry. The bytes of the record, numbers in little-endian order:
//
//	offset  bytes
//	0       1      version of this layout: 1
//	1       3      0
//	4       4      size of the extensions
//	8       8      term
//	16      8      AppendedAt, in nanoseconds since 1970; 0: none, or from a raft that has no such field
//	24             the extensions, and behind them the data up to the end of the record
const (
	entryVersion = 1
	headBytes    = 24
)

// In newer versions of hashicorp/raft an entry has the field AppendedAt. A selector finds the field of raft.Log where
// there is one, since that is less deep, and this one where there is none. So the package compiles with either.
type timedEntry struct {
	*raft.Log
	older
}
type older struct{ noTime }
type noTime struct{ AppendedAt time.Time }

// encodeEntry returns the record of an entry. It has the data of the entry, and does not copy them.
func encodeEntry(entry *raft.Log) twinlog.Entry {
	head := appendHead(make([]byte, 0, headBytes+len(entry.Extensions)), entry)
	return twinlog.Entry{Pieces: [][]byte{head, entry.Data}, Type: uint8(entry.Type)}
}

// appendHead appends what stands in front of the data of an entry.
func appendHead(to []byte, entry *raft.Log) []byte {
	var head [headBytes]byte
	head[0] = entryVersion
	binary.LittleEndian.PutUint32(head[4:], uint32(len(entry.Extensions)))
	binary.LittleEndian.PutUint64(head[8:], entry.Term)
	binary.LittleEndian.PutUint64(head[16:], uint64(nanoseconds(timedEntry{Log: entry}.AppendedAt)))
	return append(append(to, head[:]...), entry.Extensions...)
}

// entryBytes is the size of the record of an entry.
func entryBytes(entry *raft.Log) int { return headBytes + len(entry.Extensions) + len(entry.Data) }

// nanoseconds returns 0 for no time, and for one that does not fit.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() || !time.Unix(0, t.UnixNano()).Equal(t) {
		return 0
	}
	return t.UnixNano()
}

// decodeEntry fills in the entry. Its bytes are those of the record, or copies if the record has memory that is used
// again. Nothing of the entry is changed where the bytes of the record are none.
func decodeEntry(record *twinlog.Record, isCopied bool, entry *raft.Log) error {
	bytes := record.Data
	if len(bytes) < headBytes || bytes[0] != entryVersion || bytes[1]|bytes[2]|bytes[3] != 0 {
		return fmt.Errorf("twinlog: record %d is no entry of raft, or one of a newer version of this package", record.LSN)
	}
	extensionBytes := uint64(binary.LittleEndian.Uint32(bytes[4:]))
	rest := bytes[headBytes:]
	if extensionBytes > uint64(len(rest)) {
		return fmt.Errorf("twinlog: record %d is no entry of raft: it is shorter than its extensions", record.LSN)
	}
	own := raft.Log{
		Index:      record.LSN,
		Term:       binary.LittleEndian.Uint64(bytes[8:]),
		Type:       raft.LogType(record.Type),
		Extensions: take(rest[:extensionBytes:extensionBytes], isCopied),
		Data:       take(rest[extensionBytes:], isCopied),
	}
	if ns := int64(binary.LittleEndian.Uint64(bytes[16:])); ns != 0 {
		timed := timedEntry{Log: &own}
		timed.AppendedAt = time.Unix(0, ns)
	}
	*entry = own
	return nil
}

// take returns nil for no bytes.
func take(bytes []byte, isCopied bool) []byte {
	switch {
	case len(bytes) == 0:
		return nil
	case isCopied:
		return append(make([]byte, 0, len(bytes)), bytes...)
	}
	return bytes
}
