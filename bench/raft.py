#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""raft.py FILE: a Markdown table of what raft-cluster --compare said in FILE: medians of its rounds, and the median, lowest
and highest ratio of a round. A line for each round goes to the file $ROUNDS, too.
"""
import os
import statistics
import sys

found = {}
with open(sys.argv[1], encoding="ascii") as file, open(os.environ.get("ROUNDS", os.devnull), "a", encoding="ascii") as rounds:
    for name, point, *figures in (line.split() for line in file if line.startswith(("raft_uv ", "twinlog-raft "))):
        found.setdefault((name, point), []).append([float(figure) for figure in figures])
        rounds.write(f"raft,{name},{point},{figures[0]}\n")
print("| in flight | twinlog-raft | raft-uv | against raft-uv | p50 µs | p99 µs | its p50 µs | its p99 µs |")
print("|--:|--:|--:|--:|--:|--:|--:|--:|")
for point in dict.fromkeys(point for _, point in found):
    ours, theirs = found["twinlog-raft", point], found["raft_uv", point]
    ratios = [our[0] / their[0] for our, their in zip(ours, theirs)]
    (our, p50, p99, _), (their, its_p50, its_p99, _) = (map(statistics.median, zip(*of)) for of in (ours, theirs))
    print(f"| {point} | {our:,.0f} | {their:,.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
          f"| {p50:,.0f} | {p99:,.0f} | {its_p50:,.0f} | {its_p99:,.0f} |")
