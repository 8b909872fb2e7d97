#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coverage.py REPORT: what the tests have reached, from gcovr's JSON. coverage.py --canary: tries itself.

A line with the words in place, /* no test: REASON */, has a branch that no test can reach (test/coverage.md). What was
not reached there counts as nothing that is to be reached, nor does what stands deeper behind the line and was not run.
A line with these words of which all was reached is named: then the reason is wrong, or needs luck.
"""

import json
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
NO_TEST = re.compile(r"/\* no test: ")


class File:
    """What was reached of one file."""

    def __init__(self, name, measured, source):
        self.name = name
        self.of_lines = self.lines = self.of_branches = self.branches = 0
        self.without_test = sum(bool(NO_TEST.search(text)) for text in source)
        self.unreached = []  # numbers of lines
        self.unreached_branches = []
        self.reached_after_all = []
        self._count(sorted(measured, key=lambda line: line["line_number"]), source)

    def _count(self, measured, source):
        excused_indent = None  # of the line with the words, as long as lines that stand deeper follow it
        for line in measured:
            number = line["line_number"]
            text = source[number - 1] if number <= len(source) else ""
            indent = len(text) - len(text.lstrip())
            is_run = line["count"] > 0
            missed = sum(branch["count"] == 0 for branch in line["branches"])

            has_words = bool(NO_TEST.search(text))
            if excused_indent is not None and (is_run or indent <= excused_indent):
                excused_indent = None
            if has_words:
                excused_indent = indent
            is_excused = excused_indent is not None

            if has_words and is_run and missed == 0:
                self.reached_after_all.append(number)
            if is_run or not is_excused:
                self.of_lines += 1
                self.lines += is_run
            self.of_branches += len(line["branches"]) - (missed if is_excused else 0)
            self.branches += len(line["branches"]) - missed
            if not is_run and not is_excused:
                self.unreached.append(number)
            if missed > 0 and not is_excused:
                self.unreached_branches.append(number)


def read_report(report, root):
    files = []
    for entry in report["files"]:
        source = (root / entry["file"]).read_text(errors="replace").splitlines()
        lines = [line for line in entry["lines"] if not line.get("gcovr/noncode")]
        files.append(File(entry["file"], lines, source))
    return files


def part(reached, total):
    return f"{100 * reached / total:5.1f} %" if total > 0 else "      -"


def table(files):
    rows = [f"{'':28} {'lines':>24}  {'branches':>24}  no test"]

    def show(name, lines, of_lines, branches, of_branches, without_test):
        rows.append(
            f"{name:28} {lines:5d} of {of_lines:5d}  {part(lines, of_lines)}"
            f"  {branches:5d} of {of_branches:5d}  {part(branches, of_branches)}  {without_test:7d}"
        )

    for file in files:
        show(file.name, file.lines, file.of_lines, file.branches, file.of_branches, file.without_test)
    totals = ["lines", "of_lines", "branches", "of_branches", "without_test"]
    show("all", *(sum(getattr(file, total) for file in files) for total in totals))
    return rows


def numbers(files, attribute):
    """The files in which there are such lines, that with most of them last."""
    rows = []
    for file in sorted(files, key=lambda file: len(getattr(file, attribute))):
        listed = ranges(getattr(file, attribute))
        if listed:
            rows.append(f"{file.name:28} {len(getattr(file, attribute)):4d}  {', '.join(listed)}")
    return rows


def ranges(lines):
    """1, 2, 3, 7 are 1-3 and 7."""
    listed = []
    for line in lines:
        if listed and listed[-1][1] == line - 1:
            listed[-1][1] = line
        else:
            listed.append([line, line])
    return [str(first) if first == last else f"{first}-{last}" for first, last in listed]


def say(files):
    print("== lines and branches, by file")
    print(*table(files), sep="\n")
    print("== lines that were not reached, the worst file last")
    print(*numbers(files, "unreached"), sep="\n")
    print("== lines with branches that were not reached")
    print(*numbers(files, "unreached_branches"), sep="\n")
    if after_all := numbers(files, "reached_after_all"):
        print("== lines that say that no test reaches them, but all of them was reached")
        print(*after_all, sep="\n")


# ---- a canary ------------------------------------------------------------------------------------------------

CANARY = """\
int reached(void);
    if (a)
        b();
    if (c) /* no test: the disk would have to burn */
        burn();
        burn_more();
    if (d) /* no test: comes only with luck */
        e();
    return f ? g : h;
"""


def canary_line(number, count, *branches):
    return {"line_number": number, "count": count, "branches": [{"count": taken} for taken in branches]}


CANARY_LINES = [
    canary_line(2, 1, 1, 0),
    canary_line(3, 0),
    canary_line(4, 1, 0, 1),
    canary_line(5, 0),
    canary_line(6, 0),
    canary_line(7, 1, 1, 1),
    canary_line(8, 1),
    canary_line(9, 0, 0, 0),
]


def try_canary():
    with tempfile.TemporaryDirectory() as root:
        (pathlib.Path(root) / "canary.c").write_text(CANARY)
        report = {"files": [{"file": "canary.c", "lines": CANARY_LINES}]}
        (file,) = read_report(report, pathlib.Path(root))
    expected = {
        "of_lines": 6,
        "lines": 4,
        "of_branches": 7,
        "branches": 4,
        "without_test": 2,
        "unreached": [3, 9],
        "unreached_branches": [2, 9],
        "reached_after_all": [7],
    }
    found = {name: getattr(file, name) for name in expected}
    wrong = [f"{name} is {found[name]}, not {expected[name]}" for name in expected if found[name] != expected[name]]
    if ranges([1, 2, 3, 7]) != ["1-3", "7"]:
        wrong.append("1, 2, 3, 7 are not 1-3 and 7")
    return wrong


def main():
    if sys.argv[1:] == ["--canary"]:
        sys.exit("\n".join(try_canary()) or 0)
    say(read_report(json.loads(pathlib.Path(sys.argv[1]).read_text()), ROOT))


main()
