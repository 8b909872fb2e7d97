#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is what one thread tells another seen as C11 has it, and not only as x86 has it?

The orders of the stores are read from src/sink/claim.c. A writer with one slot writes a byte, then two. A reader in
another process does what twl_claim_copied() does, and then reads the bytes below the end. A load may read every store
that what the thread has seen does not rule out; an acquire load of a release store also sees what that one had seen. All
executions are tried. Then each store is made relaxed in its turn, and those in CANARIES have to be found.

MESSAGES are simpler: a thread stores something, and then a word that tells of it; another one loads the word, and then
what it tells of. The record of an open group, the watermark, and the sequence of the shared page are such words. Each
store and load of such a word is made relaxed in its turn, too, and has to be found. What a reader that goes to sleep
and a writer that looks for sleepers owe to one order of all seq_cst operations is not modelled here.
"""
import pathlib
import re
import sys

SRC = pathlib.Path(__file__).resolve().parents[2] / "src"
SOURCE = SRC / "sink" / "claim.c"
STORES = {
    "size": r"atomic_store_explicit\(&slot->size, size, memory_order_(\w+)\)",
    "start": r"atomic_store_explicit\(&slot->start, cursor_offset\(cursor\), memory_order_(\w+)\)",
    "intent": r"CLAIM_INTENT\), memory_order_(\w+)\)",
    "cursor": r"cursor_of\(cursor_offset\(cursor\) \+ size, owner\),\s*memory_order_(\w+), memory_order_acquire\)",
    "free": r"atomic_store_explicit\(&slot->state, state_of\(sequence, kind\), memory_order_(\w+)\)",
}
CANARIES = {"size", "start", "cursor", "free"}
RELEASES = {"release", "acq_rel", "seq_cst"}
ACQUIRES = {"acquire", "acq_rel", "seq_cst"}

# Places in the order of the stores, and in that of the loads, each with the file and the pattern that say its order
# (without a group: seq_cst), or None: relaxed. The places that must be new where the first one that is loaded is.
OPEN_GROUP, PAGE, WATERMARK = "mapped/open_group.c", "control/shared_page.c", "base/watermark.h"
STORE_LSN = (WATERMARK, r"atomic_store_explicit\(&watermark->lsn, lsn, memory_order_(\w+)\)")
LOAD_LSN = (WATERMARK, r"return atomic_load_explicit\(&watermark->lsn, memory_order_(\w+)\)")
MESSAGES = {
    "open group": (
        {"record": None, "word": (OPEN_GROUP, r"place->at, htole64\(word\), memory_order_(\w+)\)")},
        {"word": (OPEN_GROUP, r"atomic_load_explicit\(word_at\(group, offset\), memory_order_(\w+)\)"), "record": None},
    ),
    "watermark": ({"record": None, "lsn": STORE_LSN}, {"lsn": LOAD_LSN, "record": None}),
    "page sequence": (
        {"lsn": None, "sequence": (PAGE, r"before = atomic_fetch_add(?:_explicit)?\(&page->page_sequence, 1"
                                         r"(?:, memory_order_(\w+))?\)")},
        {"sequence": (PAGE, r"return atomic_load(?:_explicit)?\(&shared->page->page_sequence"
                            r"(?:, memory_order_(\w+))?\);"), "lsn": None},
    ),
}


def joined(one, other):
    result = dict(one)
    for place, store in other.items():
        result[place] = max(result.get(place, 0), store)
    return result


def written(orders):
    """The stores to each place, in their order, each with what an acquire load of it sees."""
    places = ("cursor", "state", "start", "size", "b0", "b1", "b2")
    initial = {"cursor": (0, False), "state": "FREE"}
    memory = {place: [(initial.get(place, 0), {})] for place in places}
    view = {}

    def store(place, value, order):
        view[place] = len(memory[place])
        memory[place].append((value, dict(view) if order in RELEASES else {place: view[place]}))

    for size in (1, 2):
        offset = memory["cursor"][-1][0][0]
        store("size", size, orders["size"])
        store("start", offset, orders["start"])
        store("state", "INTENT", orders["intent"])
        store("cursor", (offset + size, True), orders["cursor"])
        for byte in range(offset, offset + size):
            store(f"b{byte}", "x", "relaxed")
        store("state", "FREE", orders["free"])
    return memory


def readings(memory, places, view, values):
    if not places:
        yield values, view
        return
    place = places[0]
    for index in range(view.get(place, 0), len(memory[place])):
        value, seen = memory[place][index]
        yield from readings(memory, places[1:], joined(joined(view, seen), {place: index}), values + [value])


def count_bad(orders):
    """Executions in which a byte below the end may be read as zero."""
    memory = written(orders)
    bad = total = 0
    for (cursor, state, start, size), view in readings(memory, ["cursor", "state", "start", "size"], {}, []):
        end, is_owned = cursor
        if state == "INTENT" and is_owned and start + size == end:
            end = min(end, start)
        bad += any(view.get(f"b{byte}", 0) == 0 for byte in range(end))
        total += 1
    return bad, total


def order_of(name, pattern):
    if pattern is None:
        return "relaxed"
    found = re.findall(pattern[1], (SRC / pattern[0]).read_text())
    if len(found) != 1:
        sys.exit(f"order.py: the order of '{name}' is not in {pattern[0]} once")
    return found[0] or "seq_cst"


def count_bad_messages(stores, loads):
    """Executions in which the word is new, and what it tells of may be old."""
    memory, view = {}, {}
    for place, order in stores.items():
        view[place] = 1
        memory[place] = [{}, dict(view) if order in RELEASES else {place: 1}]
    told, *others = loads
    bad = total = 0
    for index in (0, 1):
        seen = memory[told][index] if loads[told] in ACQUIRES else {}
        for place in others:
            least = seen.get(place, 0)
            total += 2 - least
            bad += index == 1 and least == 0
    return bad, total


def check_message(name, stores, loads):
    stores = {place: order_of(place, pattern) for place, pattern in stores.items()}
    loads = {place: order_of(place, pattern) for place, pattern in loads.items()}
    bad, total = count_bad_messages(stores, loads)
    print(f"{name}: {total} executions, {bad} wrong")
    failures = int(bad > 0)
    word = next(iter(loads))
    for what, broken in (
        ("store", count_bad_messages({**stores, word: "relaxed"}, loads)[0]),
        ("load", count_bad_messages(stores, {**loads, word: "relaxed"})[0]),
    ):
        print(f"  {what} of '{word}' relaxed: {broken} wrong")
        failures += broken == 0
    return failures


def main():
    text = SOURCE.read_text()
    orders = {}
    for name, pattern in STORES.items():
        found = re.findall(pattern, text)
        if len(found) != 1:
            sys.exit(f"order.py: the store '{name}' is not in {SOURCE.name} once")
        orders[name] = found[0]

    bad, total = count_bad(orders)
    print(f"claims: {total} executions, {bad} wrong")
    failures = int(bad > 0)
    for name in STORES:
        broken, _ = count_bad({**orders, name: "relaxed"})
        print(f"  '{name}' relaxed: {broken} wrong")
        if name in CANARIES and broken == 0:
            print("  NOT FOUND")
            failures += 1
    for name, (stores, loads) in MESSAGES.items():
        failures += check_message(name, stores, loads)
    sys.exit(failures > 0)


main()
