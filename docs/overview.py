#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/overview.svg: python3 docs/overview.py >docs/overview.svg"""
from xml.sax.saxutils import escape

BLUE, GREEN, GREY, SAND, WHITE = "#d6e6f5", "#d9efdc", "#e9e9e9", "#f7ecd2", "#ffffff"
out = []


def text(x, y, words, size=13, anchor="middle", weight="normal", colour="#222"):
    out.append(f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
               f'fill="{colour}">{escape(words)}</text>')


def box(x, y, width, height, fill, *lines, size=13):
    out.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" stroke="#555"/>')
    for i, line in enumerate(lines):
        text(x + width / 2, y + height / 2 + size * 0.35 + (i - (len(lines) - 1) / 2) * (size + 4), line, size)


def arrow(*points, dashed=False):
    path = " ".join(f"{x},{y}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    out.append(f'<polyline points="{path}" fill="none" stroke="#333" stroke-width="1.5"{dash} marker-end="url(#head)"/>')


def title(y, words, note):
    text(20, y, words, 17, "start", "bold")
    text(20, y + 20, note, 13, "start", colour="#555")


def commit_path():
    title(30, "The commit path", "All threads of one log share one write and one sync.")
    for i in range(4):
        box(20, 70 + i * 38, 110, 28, WHITE, f"thread {i + 1}: append", size=12)
        arrow((130, 84 + i * 38), (200, 105 if i < 2 else 120))
    box(205, 70, 185, 66, BLUE, "twin being filled", "LSNs 41 to 44 so far")
    box(205, 152, 185, 66, SAND, "twin being written", "one group: LSNs 33 to 40")
    text(290, 240, "they change places after each group", 12, colour="#555")
    box(455, 152, 150, 66, WHITE, "leader: one of", "the waiting threads")
    arrow((390, 185), (450, 185))
    box(685, 152, 195, 66, GREEN, "active segment", "direct write with its sync")
    arrow((605, 185), (680, 185))
    box(455, 70, 150, 50, WHITE, "durable LSN: 40")
    arrow((530, 152), (530, 124))
    text(545, 142, "then", 12, "start", colour="#555")
    box(685, 70, 195, 50, WHITE, "wakes threads up to 40,", "readers, queues")
    arrow((605, 95), (680, 95))


def files():
    title(295, "The files", "A log is a directory. A segment has its full size before it is used, and is used again after a trim.")
    names = [("sealed", GREY, ["header", "groups", "index, footer"]), ("sealed", GREY, ["header", "groups", "index, footer"]),
             ("active", GREEN, ["header", "groups", "zeros"]), ("spare", WHITE, ["header", "zeros", "zeros"])]
    for i, (state, fill, parts) in enumerate(names):
        x = 20 + i * 165
        text(x + 70, 345, f"segment {i + 7}: {state}", 13, weight="bold")
        for k, part in enumerate(parts):
            box(x, 355 + k * 30, 140, 30, fill, part, size=12)
    box(690, 355, 190, 40, BLUE, "state file: head, cursors,", "named values", size=12)
    box(690, 405, 190, 40, SAND, "writer.lock: lock, shared", "page with the durable LSN", size=12)
    arrow((90, 475), (90, 450))
    text(100, 478, "trim moves the head", 12, "start", colour="#555")
    arrow((420, 475), (420, 450))
    text(430, 478, "end of the log", 12, "start", colour="#555")
    arrow((55, 450), (55, 505), (585, 505), (585, 450), dashed=True)
    text(300, 522, "a trimmed segment becomes a spare one (recycled)", 12, colour="#555")


def modes():
    title(565, "The modes", "How far a record has come when its append returns.")
    for x, width, words in ((215, 190, "memory of the process"), (420, 210, "page cache (kernel)"), (645, 235, "disk")):
        text(x + width / 2, 615, words, 13, weight="bold")
    rows = [("durable (default)", 215, 665, BLUE, "end of the process: nothing is lost; power cut: nothing is lost"),
            ("mapped", 215, 420, GREEN, "end of the process: nothing; power cut: what was not synced"),
            ("shared", 215, 420, GREEN, "the same; up to 255 processes append to one log"),
            ("sink (a plain file)", 215, 420, SAND, "the same; what is left may have gaps of zeros")]
    out.append('<line x1="412" y1="598" x2="412" y2="822" stroke="#aaa" stroke-dasharray="3 3"/>')
    out.append('<line x1="637" y1="598" x2="637" y2="822" stroke="#aaa" stroke-dasharray="3 3"/>')
    for i, (name, start, length, fill, loses) in enumerate(rows):
        y = 628 + i * 50
        text(20, y + 19, name, 13, "start", "bold")
        box(start, y, length, 28, fill)
        text(start + 10, y + 19, loses, 12, "start")
        if length <= 420:
            arrow((start + length, y + 14), (725, y + 14), dashed=True)
            text(733, y + 19, "later, or twinlog_sync()" if i < 3 else "later, or the sync", 12, "start")


commit_path()
files()
modes()
print('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 840" width="900" height="840" '
      'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">')
print('<!-- made by overview.py -->')
print('<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
      '<path d="M0,0 L8,4 L0,8 z" fill="#333"/></marker></defs>')
print('<rect width="900" height="840" fill="#fff"/>')
print("\n".join(out))
print("</svg>")
