#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the module of Python reaches: records of 128 bytes a second, as a Markdown table of medians.

buffered: appended by one thread, one by one, with a sync at the end; read: all of them, one by one; durable: appended by
1,000 tasks of one asyncio loop. A line for each round goes to the file $ROUNDS, too.
"""
import argparse
import asyncio
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


def durable(log, count):
    async def one(number):
        for _ in range(number):
            await log.submit(RECORD)

    async def all_of_them():
        await asyncio.gather(*(one(count // 1000) for _ in range(1000)))

    asyncio.run(all_of_them())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    settings = parser.parse_args()
    rates = {"buffered": (buffered, 1000000), "read": (replay, 1000000),
             "durable": (durable, 100000)}
    found = {name: [] for name in rates}
    for _ in range(settings.rounds):
        with tempfile.TemporaryDirectory(dir=settings.dir) as place, \
                twinlog.Log(os.path.join(place, "log")) as log:
            for name, (work, count) in rates.items():
                began = time.monotonic()
                work(log, count)
                found[name].append(count / (time.monotonic() - began))
    with open(os.environ.get("ROUNDS", os.devnull), "a", encoding="ascii") as file:
        file.writelines(f"python,{name},1,{value:.0f}\n" for name, values in found.items() for value in values)
    print("| call | records a second | lowest, highest |\n|---|--:|--:|")
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f}, {max(values):,.0f} |")


main()
