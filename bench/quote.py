#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""quote.py [--write]: the figures in the documents are those of bench/figures.

A figure has a mark in front of it, which a reader of the page does not see: <!--FILE;SERIES;CELLS;COLUMN--> stands for the
cell under COLUMN of the row that has CELLS, joined by +, in the table of SERIES in bench/figures/FILE.md, with _ for each
space; a ? behind it stands for a figure that is to come, and is complained about by --write only. The SERIES "targets" is
the table of targets; without SERIES and CELLS the COLUMN is commit, date or rounds of the whole file.

Says which figures are others than in the file, or with --write puts the right ones in their place. A figure without a mark is
complained about, unless its paragraph or table begins with <!--counted: HOW-->: then it is a count that needs no clock.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Where figures need a mark: the whole page, or these of its sections.
PAGES = {"README.md": ["How fast", "The modes"], "docs/planning.md": ["Instead of what"], "docs/performance.md": None,
         "docs/raft.md": ["Figures"], "docs/sink-writers.md": ["How fast"], "docs/experiments.md": []}
# A figure with its interval, two with the name of the second, a commit, a date.
NUMBER = r"[0-9](?:[0-9,.]*[0-9])?"
VALUE = rf"{NUMBER} : {NUMBER} \([^)]*\)|{NUMBER} \({NUMBER} to {NUMBER}\)|[0-9-]{{10}}\b|[0-9a-f]{{7,}}(?:-dirty)?\b|{NUMBER}|\?"
MARK = re.compile(r"<!--(\w+);([^;>]*);([^;>]*);([^;>]*)-->(" + VALUE + ")")
FIGURE = re.compile(r"(?<![\w.,])(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+\.[0-9]+)(?![\w.]*\.?[0-9])|"
                    r"\b[0-9]+ (?:times|ms|µs|%|[MG]B/s|million (?!messages|lines))")
WORKLOADS = {"1,000", "10,000", "100,000", "300,000"}
tables = {}


def read(name):
    """The rows of each table as {column: cell}, and what the head of the file says of all."""
    if name in tables:
        return tables[name]
    path = ROOT / "bench" / "figures" / f"{name}.md"
    text = path.read_text() if path.exists() else ""
    series, columns, rows = "", None, {}
    for line in text.splitlines():
        heading = re.match(r"\*\*([\w-]+): ", line)
        if heading:
            series = heading[1]
        if not line.startswith("| "):
            columns = None if not line.startswith("|") else columns
            continue
        cells = [cell.strip() for cell in line[1:].rstrip().rstrip("|").split("|")]
        if columns is None:
            columns = cells
            series = "targets" if columns[0] == "promise" else series
        else:
            rows.setdefault(series, []).append(dict(zip(columns, cells)))
    head = {word: (re.search(pattern, text) or [None, None])[1] for word, pattern in
            {"commit": r"commit ([\w.-]+)", "date": r", (\d{4}-\d\d-\d\d),", "rounds": r"median of (\d+) round"}.items()}
    tables[name] = head, rows
    return tables[name]


def look_up(name, series, cells, column):
    head, rows = read(name)
    if not series:
        return head.get(column)
    wanted = cells.replace("_", " ").split("+")
    # What a row is about stands in the first three columns; a figure may be the same by chance.
    found = [row for row in rows.get(series, []) if all(cell in list(row.values())[:3] for cell in wanted)]
    return found[0].get(column.replace("_", " ")) if len(found) == 1 else None


def paragraphs(text, sections):
    """With the number of their first lines; what is between fences is none."""
    section, start, lines, is_fenced = "", 1, [], False
    for number, line in enumerate(text.splitlines() + [""], 1):
        if line.startswith("```"):
            is_fenced = not is_fenced
        if line.startswith("## "):
            section = line[3:]
        if line.strip() and not is_fenced and not line.startswith("```"):
            start = start if lines else number
            lines.append(line)
        elif lines:
            if sections is None or section in sections:
                yield start, "\n".join(lines)
            lines = []


def unmarked(page, text, sections):
    for number, paragraph in paragraphs(text, sections):
        if paragraph.startswith("<!--counted: "):
            continue
        plain = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", "", MARK.sub("", paragraph))
        plain = re.sub(r"(Linux|gcc|glibc|version|least|most) [0-9.]+", "", plain)
        for figure in FIGURE.findall(plain):
            if figure not in WORKLOADS:
                yield f"{page}: {figure} in the paragraph of line {number} has no mark, see bench/quote.py"


def main():
    is_writing = sys.argv[1:] == ["--write"]
    complaints = []
    for page, sections in PAGES.items():
        text = (ROOT / page).read_text()

        def quote(mark):
            value = look_up(*mark.groups()[:4])
            if mark[5] == "?" and not is_writing:
                return mark[0]
            if value is None:
                complaints.append(f"{page}: {mark[0]}: there is no such figure, or not one")
            elif value != mark[5] and not is_writing:
                complaints.append(f"{page}: {mark[0]}: it is {value}")
            return mark[0] if value is None else mark[0][:-len(mark[5])] + value

        complaints += [f"{page}: {mark} has no figure behind it" for mark in
                       re.findall(r"<!--\w+;[^>]*-->", MARK.sub("", text))]
        complaints += [f"{page}: a line begins with {mark}: for Markdown that is HTML up to its end"
                       for mark in re.findall(r"(?m)^\s*(<!--\w+;[^>]*-->)", text)]
        new = MARK.sub(quote, text)
        if is_writing:
            (ROOT / page).write_text(new)
        complaints += unmarked(page, text, sections)
    print("\n".join(complaints), end="\n" if complaints else "")
    return 1 if complaints else 0


sys.exit(main())
