#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is a claim of a sink seen as C11 has it, and not only as x86 has it?

The orders of the stores are read from src/sink/claim.c. A writer with one slot writes a byte, then two. A reader in
another process does what twl_claim_copied() does, and then reads the bytes below the end. A load may read every store
that what the thread has seen does not rule out; an acquire load of a release store also sees what that one had seen. All
executions are tried. Then each store is made relaxed in its turn, and those in CANARIES have to be found.
"""
import pathlib
import re
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src" / "sink" / "claim.c"
STORES = {
    "size": r"atomic_store_explicit\(&slot->size, size, memory_order_(\w+)\)",
    "start": r"atomic_store_explicit\(&slot->start, cursor_offset\(cursor\), memory_order_(\w+)\)",
    "intent": r"CLAIM_INTENT\), memory_order_(\w+)\)",
    "cursor": r"cursor_of\(cursor_offset\(cursor\) \+ size, owner\),\s*memory_order_(\w+), memory_order_acquire\)",
    "free": r"atomic_store_explicit\(&slot->state, state_of\(sequence, kind\), memory_order_(\w+)\)",
}
CANARIES = {"size", "start", "cursor", "free"}
RELEASES = {"release", "acq_rel", "seq_cst"}


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
    sys.exit(failures > 0)


main()
