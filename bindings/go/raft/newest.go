// SPDX-License-Identifier: Apache-2.0

package twinlograft

import (
	"github.com/hashicorp/raft"

	twinlog "example.org/twinlog/bindings/go"
)

const (
	newestEntries  = 512
	mostToRemember = 4 << 10 // of the record of an entry: a larger one is read from the log
)

// newest has the records of small entries that were stored last: raft reads each entry soon after it has stored it, once
// for itself and once for each follower. An index has one place. A place is filled only with what was acknowledged, and
// the Store asks only for an index that is between its ends; so what it must do is to forget when its last entry becomes
// an older one, as the same index may then be stored again, and when a change has failed.
type newest struct {
	places [newestEntries]twinlog.Record // LSN 0: nothing is remembered here; the memory is used again
}

func (n *newest) placeOf(index uint64) *twinlog.Record { return &n.places[index%newestEntries] }

// put remembers an entry that was stored. A large one is not remembered, and neither is what its place had.
func (n *newest) put(entry *raft.Log) {
	place := n.placeOf(entry.Index)
	place.LSN = 0
	if entryBytes(entry) > mostToRemember {
		return
	}
	memory := append(appendHead(place.Data[:0], entry), entry.Data...)
	*place = twinlog.Record{LSN: entry.Index, Type: uint8(entry.Type), Data: memory}
}

// get fills in the entry, with memory of its own. False: it is not remembered.
func (n *newest) get(index uint64, entry *raft.Log) bool {
	place := n.placeOf(index)
	return index > 0 && place.LSN == index && decodeEntry(place, true, entry) == nil
}

func (n *newest) forget() {
	for i := range n.places {
		n.places[i].LSN = 0
	}
}
