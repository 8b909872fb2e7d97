#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the module of Python reaches: records of 128 bytes a second, as a Markdown table of medians.

buffered: appended by one thread, one by one, with a sync at the end; read: all of them, one by one; durable: appended by
1, 10, 100 and 1,000 tasks of one asyncio loop; in the loop: the same with a committer without a thread, and what that is
of the row above it in the same round, records and processor for each. A line for each round goes to the file $ROUNDS, too.
"""
import argparse
import asyncio
import contextlib
import os
import statistics
import tempfile
import time

import twinlog

RECORD = bytes(128)


def buffered(log, count):
    for _ in range(count):
        log.append(RECORD, level=twinlog.LEVEL_BUFFERED)
    log.sync()


def replay(log, count):
    with log.reader() as reader:
        assert sum(1 for _ in reader) >= count


def durable(path, tasks, count, in_loop):
    """Records a second, and microseconds of processor for each."""

    async def one(log):
        for _ in range(count // tasks):
            await log.submit(RECORD)

    async def all_of_them():
        with contextlib.ExitStack() as stack:
            committer = stack.enter_context(twinlog.Committer(in_loop=True)) if in_loop else None
            log = stack.enter_context(twinlog.Log(path, committer=committer))
            began, used = time.monotonic(), time.process_time()
            await asyncio.gather(*(one(log) for _ in range(tasks)))
            return count / (time.monotonic() - began), (time.process_time() - used) / count * 1e6

    return asyncio.run(all_of_them())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    settings = parser.parse_args()
    tasks = {1: 5000, 10: 30000, 100: 100000, 1000: 200000}
    found = {}

    def note(name, value):
        found.setdefault(name, []).append(value)

    for _ in range(settings.rounds):
        with tempfile.TemporaryDirectory(dir=settings.dir) as place:
            with twinlog.Log(os.path.join(place, "log")) as log:
                for name, work in (("buffered", buffered), ("read", replay)):
                    began = time.monotonic()
                    work(log, 1000000)
                    note(name, 1000000 / (time.monotonic() - began))
            for number, count in tasks.items():
                rate, used = durable(os.path.join(place, f"{number}"), number, count, False)
                note(f"durable {number}", rate)
                in_loop, used_in_loop = durable(os.path.join(place, f"{number}l"), number, count, True)
                note(f"in the loop {number}", in_loop)
                note(f"rate {number}", in_loop / rate)
                note(f"processor {number}", used_in_loop / used)

    def middle(name, form):
        values = found[name]
        return f"{statistics.median(values):{form}} | {min(values):{form}}, {max(values):{form}}"

    with open(os.environ.get("ROUNDS", os.devnull), "a", encoding="ascii") as file:
        for name in ("buffered", "read", "durable 1000"):
            file.writelines(f"python,{name.split()[0]},1,{value:.0f}\n" for value in found[name])
    print("| call | records a second | lowest, highest |\n|---|--:|--:|")
    for name in ("buffered", "read"):
        print(f"| {name} | {middle(name, ',.0f')} |")
    print(f"\n**asyncio: durable appends by tasks of one loop**, median of {settings.rounds} rounds\n")
    print("| tasks | records a second | lowest, highest | in the loop, of it | lowest, highest "
          "| processor for a record, of its | lowest, highest |\n|--:|--:|--:|--:|--:|--:|--:|")
    for number in tasks:
        print(f"| {number} | {middle(f'durable {number}', ',.0f')} | {middle(f'rate {number}', '.2f')} "
              f"| {middle(f'processor {number}', '.2f')} |")


main()
