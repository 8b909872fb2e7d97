#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the records of a twinlog that no process is writing, one on a line, as "twinlog cat" does.

Written from docs/format.md alone, to show that the page is enough. It reads whole files into memory and looks for
less evidence of damage than the library does. Usage: read_log.py DIR
"""
import os
import re
import struct
import sys
from collections import namedtuple

BLOCK = 4096
OPEN_GROUP = BLOCK + 64
MAPPED = 1
START, FIRST, WAS_OPEN, FILLER = 1, 1, 2, 1
GROUP_MAGIC, FOOTER_MAGIC = b"1TWG", b"1TWF"

TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    TABLE.append(number)


class Damaged(Exception):
    pass


class OtherVersion(Exception):
    pass


def crc(seed, data):
    seed ^= 0xFFFFFFFF
    for byte in data:
        seed = TABLE[(seed ^ byte) & 255] ^ seed >> 8
    return seed ^ 0xFFFFFFFF


def pad(size, unit):
    return -size % unit


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def check_prefix(data, magic):
    """Bytes 0 to 23 of a segment header and of a slot of the state file."""
    if data[:8] != magic or u32(data, 20) != crc(0, data[:20]):
        raise Damaged("the magic or its checksum is wrong")
    if u32(data, 8) != 1 or u32(data, 12) & ~MAPPED:
        raise OtherVersion("unknown version or feature")


Group = namedtuple("Group", "checksum lsn count size durable chain epoch salt kind flags offset")
Record = namedtuple("Record", "lsn time kind type tag payload")
Slot = namedtuple("Slot", "generation first_sequence first_lsn log_id")


class Segment:
    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        if len(data) < BLOCK:
            raise Damaged(f"{path}: no header")
        check_prefix(data, b"\x89TWL\r\n\x1a\n")
        if u32(data, 508) != crc(0, data[:508]):
            raise Damaged(f"{path}: the header does not check")
        self.log_id, self.sequence, self.id, self.size = struct.unpack_from("<16sQQQ", data, 24)
        (self.start,) = struct.unpack_from("<Q", data, 72)
        self.promise, self.epoch, self.start_chain, self.previous = struct.unpack_from("<QIIQ", data, 88)
        self.is_mapped = u32(data, 12) & MAPPED
        if len(data) < self.size and not self.is_mapped:
            raise Damaged(f"{path}: too short")
        self.path, self.data, self.end = path, data[: self.size].ljust(self.size, b"\0"), self.size - BLOCK
        self.seed = crc(0, data[24:40] + data[48:56])
        footer_at = self.end
        if self.is_mapped and 3 * BLOCK <= len(data) < self.size and len(data) % BLOCK == 0:
            footer_at = len(data) - BLOCK
        footer = self.data[footer_at : footer_at + BLOCK]
        place = crc(self.seed, struct.pack("<Q", footer_at))
        self.is_sealed = footer[4:8] == FOOTER_MAGIC and u32(footer, 0) == crc(place, footer[4:512])
        self.is_started = self.start > 0 or self.is_sealed or any(g.flags & FIRST for g in self.first_groups())
        if not self.start:
            self.previous = self.sequence - 1

    def group(self, at):
        """The header at this offset, or None."""
        data = self.data[at : at + 64]
        if at + 64 > self.end or data[4:8] != GROUP_MAGIC:
            return None
        if u32(data, 0) != crc(crc(self.seed, struct.pack("<Q", at)), data[4:]):
            return None
        lsn, count, size, durable, chain, epoch, salt, kind, flags = struct.unpack_from("<QIIQIIIHH", data, 8)
        if kind > 2 or flags & 0xFC or any(data[60:64]) or kind != START and any(data[56:60]):
            raise OtherVersion(f"{self.path}: unknown group at {at}")
        is_possible = size == 64 and count == 0 if kind else count > 0 and size >= 64 + 24 * count
        if not is_possible or size % 8 or at + size > self.end or durable >= lsn or epoch == 0:
            return None
        return Group(u32(data, 0), lsn, count, size, durable, chain, epoch, salt, kind, flags, at)

    def first_groups(self):
        places = (self.group(at) for at in range(BLOCK, 2 * BLOCK, 8))
        return [group for group in places if group and group.flags & FIRST]

    def later_groups(self, at):
        at = self.data.find(GROUP_MAGIC, at + 4)
        while at >= 0:
            if at % 8 == 4 and (group := self.group(at - 4)):
                yield group
            at = self.data.find(GROUP_MAGIC, at + 1)


class Log:
    def __init__(self, directory):
        names = os.listdir(directory)
        paths = [os.path.join(directory, n) for n in sorted(names) if re.fullmatch(r"[0-9a-f]{16}\.twl", n)]
        segments = [Segment(path) for path in paths]
        self.path, self.records = [], []
        if not segments and "state" not in names:
            return
        state = self.read_state(os.path.join(directory, "state"))
        if any(segment.log_id != state.log_id for segment in segments):
            raise Damaged("a file of another log")
        started = {s.sequence: s for s in segments if s.is_started}
        spares = {s.sequence: s for s in reversed(segments) if s.sequence > max(started, default=0)}
        if not started:
            if state.generation > 1:
                raise Damaged("all segments are missing")
            return
        segment = started[max(started)]
        self.path.append(segment)
        while segment.previous and segment.sequence > state.first_sequence:
            segment = started.get(segment.previous)
            if not segment:
                raise Damaged("a segment is missing")
            self.path.insert(0, segment)
        if segment.sequence < state.first_sequence or sorted(spares) != list(
            range(max(started) + 1, max(started) + 1 + len(spares))
        ):
            raise Damaged("a segment is missing")
        self.behind = [spares[sequence] for sequence in sorted(spares)]
        self.head = state.first_lsn if segment.sequence == state.first_sequence else 1
        self.walk()

    @staticmethod
    def read_state(path):
        with open(path, "rb") as file:
            data = file.read()
        size = 16384
        while size < len(data) // 2 or 2 * size < len(data):
            size *= 2
        data, slots = data.ljust(2 * size, b"\0"), []
        for slot in (data[:size], data[size:]):
            try:
                check_prefix(slot, b"\x89TWS\r\n\x1a\n")
            except Damaged:
                continue
            log_id, generation, first_sequence, first_lsn, body = struct.unpack_from("<16sQQQI", slot, 24)
            is_whole = u32(slot, 124) == crc(0, slot[:124]) and body <= size - 128
            if is_whole and u32(slot, 68) == crc(0, slot[128 : 128 + body]):
                slots.append(Slot(generation, first_sequence, first_lsn, log_id))
        if not slots:
            raise Damaged("no slot of the state file checks")
        return max(slots)

    def walk(self):
        self.next_lsn = self.chain = self.epoch = None
        for index, segment in enumerate(self.path):
            if segment.start:
                self.records = [r for r in self.records if r.lsn < segment.start] if segment.previous else []
                self.next_lsn, self.chain = segment.start, segment.start_chain
                self.epoch = (segment.epoch, 0) if segment.previous else (0, 0)
            successor = self.path[index + 1] if index + 1 < len(self.path) else None
            stop = successor.start if successor else 0
            at = self.walk_segment(segment, stop)
            if stop:
                if self.next_lsn < stop or self.chain != successor.start_chain:
                    raise Damaged(f"{segment.path} at {at}: record {self.next_lsn} is missing")
            elif not (successor and any(self.continues(g) for g in successor.first_groups())):
                later = self.path[index + 1 :] + self.behind
                self.look_for_proof([(segment, at)] + [(s, BLOCK) for s in later])
                break
        self.records = [r for r in self.records if r.lsn >= self.head and r.kind == 0]

    def look_for_proof(self, places):
        """What is missing was durable, if something later says so."""
        segment, at = places[0]
        for later, begin in places:
            is_proof = later is not segment and self.next_lsn and later.promise >= self.next_lsn
            for group in () if is_proof or not self.epoch else later.later_groups(begin):
                is_torn_itself = later is segment and self.next_lsn and self.continues(group)
                is_later = group.epoch >= self.epoch[0] and group.lsn >= (self.next_lsn or 1) and not is_torn_itself
                says = group.durable >= (self.next_lsn or 1) or group.durable == group.lsn - 1
                is_proof = is_proof or is_later and says
            if is_proof or not self.next_lsn:
                raise Damaged(f"{segment.path} at {at}: record {self.next_lsn} is missing")

    def continues(self, group):
        if self.next_lsn is None:
            self.next_lsn, self.chain, self.epoch = group.lsn, group.chain, (group.epoch, group.salt)
        is_of_epoch = (group.epoch, group.salt) == self.epoch or group.kind == START and group.epoch > self.epoch[0]
        return group.lsn == self.next_lsn and group.chain == self.chain and is_of_epoch

    def walk_segment(self, segment, stop):
        """Takes the records of its groups; returns where they end."""
        group = next((g for g in segment.first_groups() if self.continues(g)), None)
        at = group.offset if group else BLOCK
        while group and not (stop and self.next_lsn >= stop):
            epoch_seed = crc(0, segment.log_id + struct.pack("<II", group.epoch, group.salt))
            records = self.group_records(segment, group, epoch_seed)
            if records is None:
                break
            self.records += records
            self.next_lsn += group.count
            self.epoch = (group.epoch, group.salt)
            self.chain = self.chain if group.flags & WAS_OPEN else group.checksum
            at = group.offset + group.size
            group = self.next_group(segment, at)
            if not group and segment.is_mapped and at == OPEN_GROUP:
                at = self.open_group(segment, epoch_seed)
            group = group or self.next_group(segment, at) or self.next_group(segment, at + pad(at, BLOCK))
        return at

    def next_group(self, segment, at):
        group = segment.group(at)
        return group if group and not group.flags & FIRST and self.continues(group) else None

    def record(self, segment, at, end, lsn, epoch_seed):
        data = segment.data[at : min(at + 24, end)]
        seed = epoch_seed ^ lsn & 0xFFFFFFFF ^ (lsn >> 32) * 0x9E3779B1 & 0xFFFFFFFF
        if len(data) < 24 or u32(data, 0) != crc(seed, data[4:]):
            return None, seed
        check, size, kind, type_, tag, time = struct.unpack_from("<IIBBHq", data, 4)
        kind &= 63
        if 2 <= kind < 32:
            raise OtherVersion(f"{segment.path}: unknown record at {at}")
        payload = segment.data[at + 24 : at + 24 + size]
        padding = segment.data[at + 24 + size : at + 24 + size + pad(size, 8)]
        if at + 24 + size + len(padding) > end or crc(0, payload) != check or any(padding):
            return None, seed
        return Record(lsn, time, kind, type_, tag, payload), seed

    def group_records(self, segment, group, epoch_seed):
        records, at, end = [], group.offset + 64, group.offset + group.size
        for lsn in range(group.lsn, group.lsn + group.count):
            record, _ = self.record(segment, at, end, lsn, epoch_seed)
            if not record:
                return None
            records.append(record)
            at += 24 + len(record.payload) + pad(len(record.payload), 8)
        return records if at == end else None

    def open_group(self, segment, epoch_seed):
        at, end = OPEN_GROUP + 64, OPEN_GROUP
        while at + 8 <= segment.end:
            record, seed = self.record(segment, at, segment.end, self.next_lsn, epoch_seed)
            claim, size = struct.unpack_from("<II", segment.data, at)
            is_claim = claim & 255 and claim >> 8 == crc(seed, struct.pack("<IB", size, claim & 255)) >> 8
            if not record and (not is_claim or size == 0xFFFFFFFF):
                break
            size = len(record.payload) if record else size
            if at + 24 + size + pad(size, 8) > segment.end:
                break
            self.records.append(record or Record(self.next_lsn, 0, FILLER, 0, 0, b""))
            self.next_lsn, at = self.next_lsn + 1, at + 24 + size + pad(size, 8)
            end = at
        return end


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIR")
    try:
        for record in Log(sys.argv[1]).records:
            sys.stdout.buffer.write(record.payload + b"\n")
    except (Damaged, OtherVersion, OSError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")


if __name__ == "__main__":
    main()
