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
print("| in flight | twinlog-raft | p50 µs | p99 µs | raft_uv | its p50 µs | its p99 µs | against raft_uv |")
print("|--:|--:|--:|--:|--:|--:|--:|--:|")
for point in dict.fromkeys(point for _, point in found):
    ours, theirs = found["twinlog-raft", point], found["raft_uv", point]
    ratios = [our[0] / their[0] for our, their in zip(ours, theirs)]
    cells = [f"{statistics.median(column):,.0f}" for of in (ours, theirs) for column in list(zip(*of))[:3]]
    print(f"| {point} | {' | '.join(cells)} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
