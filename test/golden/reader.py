#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares docs/examples/read_log.py, which was written from docs/format.md alone, with "twinlog cat": on the golden
logs and on logs that the command writes here. Usage: reader.py TWINLOG SOURCE"""
import base64
import json
import os
import subprocess
import sys
import tempfile
import time

twinlog, source = sys.argv[1:3]
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(source, "docs/examples"))
import read_log  # noqa: E402

failures = 0


def run(*words, data=None):
    return subprocess.run([twinlog, *map(str, words)], input=data, capture_output=True, check=False)


def by_command(directory):
    """The records, and whether the command found damage."""
    done, records = run("cat", directory, "--json"), []
    for line in done.stdout.decode().splitlines():
        one = json.loads(line)
        data = one["data"].encode() if "data" in one else base64.b64decode(one["data_base64"])
        records.append((one["lsn"], one["time"], data))
    return records, done.returncode == 3


def by_reader(directory):
    records = []
    try:
        log = read_log.Log(directory)
    except read_log.Damaged:
        return records, True
    for record in log.records:
        seconds, rest = divmod(record.time, 10**9)
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09}Z"
        records.append((record.lsn, when, record.payload))
    return records, False


def compare(name, directory, count):
    global failures
    (expected, is_damaged), (found, is_damaged_too) = by_command(directory), by_reader(directory)
    is_same = is_damaged == is_damaged_too and (is_damaged or expected == found and len(found) == count)
    if not is_same:
        failures += 1
        print(f"FAILED {name}: {len(expected)} and {len(found)} records, expected {count};"
              f" damaged: {is_damaged} and {is_damaged_too}")


def lay_out(path, directory):
    """A golden log; see test/unit/test_golden.c."""
    os.mkdir(directory)
    with open(path, encoding="ascii") as lines:
        for line in lines:
            words = line.split()
            if line.startswith("file"):
                name = os.path.join(directory, words[1])
                with open(name, "wb") as file:
                    file.truncate(int(words[2]))
            elif not line.startswith("#"):
                with open(name, "r+b") as file:
                    file.seek(int(words[0], 16))
                    file.write(bytes.fromhex("".join(words[1:])))


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def lines(first, last):
    return b"".join(b"line %d %s\n" % (n, b"x" * (n * 37 % 700)) for n in range(first, last + 1))


def append(directory, first, last, *options):
    done = run("append", directory, "--segment", "64K", "--max-record", "4K", *options, data=lines(first, last))
    if done.returncode != 0:
        sys.exit(f"append failed: {done.stderr.decode()}")


def append_and_kill(directory, first, last, *options):
    """The writer is killed when it has said that the last record is stored."""
    words = [twinlog, "append", directory, "--segment", "64K", "--max-record", "4K", "--print-lsn", *options]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdin.write(lines(first, last))
        writer.stdin.flush()
        for line in writer.stdout:
            if int(line) == last:
                break
        writer.kill()


def main(parent):
    golden = os.path.join(source, "test/golden")
    counts = {"two-records": 2, "history": 8, "sealed": 7, "recycled": 3, "truncated": 3, "fillers": 2, "mapped": 7,
              "future-ignored": 1}
    for name, count in counts.items():
        lay_out(os.path.join(golden, name + ".hex"), os.path.join(parent, name))
        compare(name, os.path.join(parent, name), count)
    flip(os.path.join(parent, "sealed", "0000000000000001.twl"), 8192 + 70)
    compare("a flipped bit", os.path.join(parent, "sealed"), 0)

    for name, options in {"packed": (), "padded": ("--pad",), "mapped": ("--mapped",), "shared": ("--shared",)}.items():
        directory = os.path.join(parent, "new-" + name)
        append(directory, 1, 300, *options)
        compare(f"{name}, closed", directory, 300)
        append_and_kill(directory, 301, 600, *options)
        compare(f"{name}, killed", directory, 600)
        append(directory, 601, 610, *options)
        run("trim", directory, "--before", 205)
        run("trim", directory, "--after", 501)
        append(directory, 502, 520)
        compare(f"{name}, trimmed and truncated", directory, 316)
    run("reset", os.path.join(parent, "new-packed"), "--next", 10000, "--force")
    append(os.path.join(parent, "new-packed"), 1, 3)
    compare("reset", os.path.join(parent, "new-packed"), 3)


with tempfile.TemporaryDirectory(prefix="twinlog-reader-") as scratch:
    main(scratch)
print("golden-reader:", "passed" if failures == 0 else f"{failures} failures")
sys.exit(failures > 0)
