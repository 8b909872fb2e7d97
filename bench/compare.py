#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare.py OLD.json NEW.json: what became quicker or slower between two runs of twinlog-bench --json.

Round by round, by the order of the figures alone: each new one is divided by each old one, and the change is the median of
these ratios (Hodges and Lehmann 1963). Around it is the interval that belongs to the test of Mann and Whitney: outside of it
the change is with a chance of 1 %. If 1 is inside, or there are fewer than 5 rounds on each side, nothing is decided.

The machine may have changed between the runs. So a contender is also compared by its ratio to the contender that was the
baseline of both runs, taken within each round.
"""
import json
import math
import statistics
import sys

CERTAINTY = 0.99


def first_inside(n, m):
    """How many of the n * m sorted ratios are left out at each end, plus one; 0: there is no such interval. If nothing has
    changed, all orders of the n + m figures are equally likely, and the number of those in which u ratios are below 1 is
    the coefficient of q^u in the product of (1 - q^(m + i)) / (1 - q^i), i = 1 to n."""
    orders = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for u in range(n * m, m + i - 1, -1):
            orders[u] -= orders[u - m - i]
        for u in range(i, n * m + 1):
            orders[u] += orders[u - i]
    inside, outside = 0, 0
    while inside < n * m // 2 and 2 * (outside + orders[inside]) / math.comb(n + m, n) <= 1 - CERTAINTY:
        outside += orders[inside]
        inside += 1
    return inside


def number(value):
    size = abs(value)
    decimals = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 0.01 else 5
    return f"{value:,.{decimals}f}"


def values(cell, baseline, figure):
    """The figure in each round, or its ratio to that of the baseline in the same round."""
    found = [each.get(figure) for each in cell["rounds"]]
    below = [each.get(figure) for each in baseline["rounds"]] if baseline else [1] * len(found)
    return [a / b for a, b in zip(found, below) if a and b and a / b > 0]


def find_cell(series, point, contender):
    for cell in series["cells"] if series else []:
        if all(cell[key] == point[key] for key in ("point_threads", "size")) and cell["contender"] == contender:
            return cell
    return None


class Comparison:
    def __init__(self, old, new):
        self.old, self.new = old, new
        self.rows = [["series", "contender", "figure", "bytes", "threads", "old", "new", "change", "99 %", "verdict"]]
        self.tally = {"quicker": 0, "slower": 0, "undecided": 0}
        self.unmatched = 0
        for series in new["series"]:
            # Several series may have one name.
            like = [s for s in old["series"] if (s["name"], s["title"]) == (series["name"], series["title"])]
            for cell in series["cells"]:
                self.compare(like[0] if like else None, series, cell)

    def compare(self, old_series, series, cell):
        old_cell = find_cell(old_series, cell, cell["contender"])
        if not old_cell:
            self.unmatched += 1
            return
        self.add(series, cell, "rate", values(old_cell, None, "rate"), values(cell, None, "rate"))
        self.add(series, cell, "p99 µs", values(old_cell, None, "p99_us"), values(cell, None, "p99_us"), True)
        label = series.get("baseline")
        old_base, base = find_cell(old_series, cell, label), find_cell(series, cell, label)
        if label and old_series.get("baseline") == label and old_base and base and base is not cell:
            self.add(series, cell, f"rate / {label}", values(old_cell, old_base, "rate"), values(cell, base, "rate"))

    def add(self, series, cell, what, old, new, less_is_better=False):
        if not old or not new:
            return
        ratios = sorted(b / a for a in old for b in new)
        inside = first_inside(len(old), len(new))
        verdict, interval = "undecided", "too few rounds"
        if inside > 0:
            lowest, highest = ratios[inside - 1], ratios[len(ratios) - inside]
            interval = f"{lowest:.3f} to {highest:.3f}"
            if lowest > 1 or highest < 1:
                verdict = "quicker" if (lowest > 1) != less_is_better else "slower"
        self.tally[verdict] += 1
        self.rows.append([series["name"], cell["contender"], what, cell["size"], str(cell["point_threads"]),
                          number(statistics.median(old)), number(statistics.median(new)),
                          f"{statistics.median(ratios):.3f}", interval, verdict])

    def show(self):
        for label, run in (("old", self.old), ("new", self.new)):
            print(f"{label}: twinlog {run['version']}, {run['note']}, `{run['command']}`")
        for part in ("cpu", "kernel", "filesystem", "mount_options", "device", "write_cache"):
            old, new = self.old["machine"][part], self.new["machine"][part]
            if old != new:
                print(f"not the same machine: {part}: {old}, {new}")
        print()
        widths = [max(map(len, column)) for column in zip(*self.rows)]
        for row in self.rows:
            print("  ".join(text.ljust(width) if i < 3 else text.rjust(width)
                            for i, (text, width) in enumerate(zip(row, widths))))
        print("\n" + ", ".join(f"{count} {what}" for what, count in self.tally.items()), end="")
        print(f"; {self.unmatched} contenders at some point are not in the old run")


def main():
    if len(sys.argv) != 3:
        sys.exit("Usage: compare.py OLD.json NEW.json, of two runs of twinlog-bench --json")
    runs = []
    for path in sys.argv[1:]:
        try:
            with open(path, encoding="utf-8") as file:
                runs.append(json.load(file))
        except (OSError, ValueError) as error:
            sys.exit(f"compare.py: {path}: {error}")
    try:
        Comparison(*runs).show()
    except (KeyError, TypeError) as error:
        sys.exit(f"compare.py: {' or '.join(sys.argv[1:])} is no run: {error}")


if __name__ == "__main__":
    main()
