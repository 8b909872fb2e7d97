#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""table.py TWINLOG TREE: does each damage of the table in docs/recovery.md to a log, and compares what opening, reader,
verify and repair say with the cells: the exit status, words in backquotes, and an LSN where the cell speaks of one. A
row without a damage here fails, and so does a damage without a row.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

SEGMENT = 256 << 10
RECORDS = 32000  # five segments, and a third of the last one, however they come in groups
MORE = 14000  # seven segments
GROUP_MAGIC = b"1TWG"
damages = {}


def damage(row):
    def register(function):
        damages.setdefault(row, []).append(function)
        return function

    return register


class Place:
    """A directory for logs. The damages get a copy of one that is sound."""

    def __init__(self, twinlog, tree, path):
        self.twinlog, self.tree, self.path = twinlog, tree, path
        self.append("closed", numbers(1, RECORDS))
        self.append("other", b"another log\n")
        self.append("mapped", numbers(1, 100), "--mapped")
        self.append("mapped", numbers(1, 5000), "--mapped")  # a segment of its own
        self.make_killed("killed")
        self.make_killed("killed-mapped", "--mapped")
        for name, first in (("longer", 1), ("clone", 900001)):  # both go on from the same records
            self.copy("closed", name)
            self.append(name, numbers(first, first + MORE - 1))

    def at(self, log, file=""):
        return os.path.join(self.path, log, file)

    def run(self, *words, data=b""):
        return subprocess.run([self.twinlog, *words], input=data, cwd=self.path, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)

    def append(self, log, data, *options):
        done = self.run("append", log, "--segment", str(SEGMENT), *options, data=data)
        if done.returncode != 0:
            raise SystemExit(f"cannot make the log {log}: {done.stdout.decode()}")

    def make_killed(self, log, *options):
        """The last group of its newest segment is of one record, or, of a mapped log, open; nothing comes behind it."""
        writer = subprocess.Popen([self.twinlog, "append", log, "--segment", str(SEGMENT), "--print-lsn", *options],
                                  cwd=self.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        for count in (RECORDS, 50, 1):
            writer.stdin.write(numbers(1, count))
            writer.stdin.flush()
            for _ in range(count):
                writer.stdout.readline()
        os.killpg(writer.pid, signal.SIGKILL)  # the command and the process that appends
        writer.communicate()

    def copy(self, log, name):
        shutil.rmtree(self.at(name), ignore_errors=True)
        shutil.copytree(self.at(log), self.at(name))

    def segments(self, log):
        return sorted(name for name in os.listdir(self.at(log)) if name.endswith(".twl"))

    def segment(self, log, index):
        return self.at(log, self.segments(log)[index])


def numbers(first, last):
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


def change(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path, offset):
    with open(path, "rb") as file:
        file.seek(offset)
        byte = file.read(1)[0]
    change(path, offset, bytes([byte ^ 1]))


def is_started(path):
    with open(path, "rb") as file:
        file.seek(4096)
        return any(file.read(64))


def last_group(path):
    with open(path, "rb") as file:
        return file.read().rindex(GROUP_MAGIC) - 4


@damage("the last group of a log that was not closed")
def _(place):
    place.copy("killed", "log")
    newest = place.segment("log", -1)
    flip(newest, last_group(newest) + 90)


@damage("zeros over the last group of a log that was not closed")
def _(place):
    place.copy("killed", "log")
    newest = place.segment("log", -1)
    change(newest, last_group(newest), bytes(2000))


@damage("a bit in the newest segment of a closed log, without `writer.lock`")
def _(place):
    place.copy("closed", "log")
    flip(place.segment("log", -1), 20000)
    os.remove(place.at("log", "writer.lock"))


@damage("the same with the `writer.lock` of the last writer: its note lets the opening pass the bit by")
def _(place):
    place.copy("closed", "log")
    flip(place.segment("log", -1), 20000)


@damage("a bit, or zeros, in an older segment")
def _(place):
    place.copy("closed", "log")
    flip(place.segment("log", 1), 100000)


@damage("a bit, or zeros, in an older segment")
def _(place):
    place.copy("closed", "log")
    change(place.segment("log", 1), 100000, bytes(4096))


@damage("the header of a segment")
def _(place):
    place.copy("closed", "log")
    flip(place.segment("log", 1), 60)


@damage("a segment that is all zeros, or empty")
def _(place):
    place.copy("closed", "log")
    change(place.segment("log", -1), 0, bytes(SEGMENT))


@damage("a segment that is all zeros, or empty")
def _(place):
    place.copy("closed", "log")
    os.truncate(place.segment("log", -1), 0)


@damage("a footer, or an index")
def _(place):
    place.copy("closed", "log")
    flip(place.segment("log", 1), SEGMENT - 4096)


@damage("a footer, or an index")
def _(place):
    place.copy("closed", "log")
    flip(place.segment("log", 1), SEGMENT - 4096 - 16)


@damage("a segment is missing, and there is a later one")
def _(place):
    place.copy("closed", "log")
    os.remove(place.segment("log", 0))


@damage("a segment is missing, and there is a later one")
def _(place):
    place.copy("closed", "log")
    os.remove(place.segment("log", 2))


@damage("the newest segment is missing, and the one in front of it is sealed")
def _(place):
    place.copy("closed", "log")
    os.remove(place.segment("log", -1))


@damage("the file `state` is missing, or neither slot of it checks")
def _(place):
    place.copy("closed", "log")
    os.remove(place.at("log", "state"))


@damage("the file `state` is missing, or neither slot of it checks")
def _(place):
    place.copy("closed", "log")
    for slot in (0, 16384):
        flip(place.at("log", "state"), slot + 50)


@damage("one slot of `state` does not check")
def _(place):
    place.copy("closed", "log")
    flip(place.at("log", "state"), 50)


@damage("a `state` that is older than a trim")
def _(place):
    place.copy("closed", "log")
    place.run("trim", "log", "--before", "15000")
    shutil.copy(place.at("closed", "state"), place.at("log", "state"))


@damage("the `state` of another log")
def _(place):
    place.copy("closed", "log")
    shutil.copy(place.at("other", "state"), place.at("log", "state"))


@damage("a segment of another log beside those of this one")
def _(place):
    place.copy("closed", "log")
    shutil.copy(place.segment("other", 0), place.at("log", "00000000000000ff.twl"))


@damage("a segment of another log in the place of one of this log")
def _(place):
    place.copy("closed", "log")
    shutil.copy(place.segment("other", 0), place.segment("log", 2))


@damage("a newer format")
def _(place):
    shutil.rmtree(place.at("log"), ignore_errors=True)
    os.mkdir(place.at("log"))
    path = None
    with open(os.path.join(place.tree, "test/golden/future-version.hex")) as lines:
        for line in lines:
            made = re.match(r"file (\S+) (\d+)", line)
            filled = re.match(r"([0-9a-f]+) +(.*)", line)
            if made:
                path = place.at("log", made[1])
                with open(path, "wb") as file:
                    file.truncate(int(made[2]))
            elif filled:
                change(path, int(filled[1], 16), bytes.fromhex(filled[2]))


@damage("a file that was cut short")
def _(place):
    place.copy("closed", "log")
    os.truncate(place.segment("log", 1), 100000)


@damage("a file that was cut short")
def _(place):
    place.copy("closed", "log")
    os.truncate(place.segment("log", -1), 20000)


@damage("the newest file of a log in the mapped mode that was cut short")
def _(place):
    place.copy("mapped", "log")
    os.truncate(place.segment("log", -1), 60000)


@damage("the same, while its last group is open")
def _(place):
    place.copy("killed-mapped", "log")
    newest = -1 if is_started(place.segment("log", -1)) else -2  # in front of one that was made ahead
    os.truncate(place.segment("log", newest), 6000)


@damage("the segment in front of the newest one is of a copy that was appended to on its own")
def _(place):
    place.copy("longer", "log")
    shutil.copy(place.segment("clone", 5), place.segment("log", 5))


@damage("an older segment is of such a copy")
def _(place):
    place.copy("longer", "log")
    shutil.copy(place.segment("clone", 4), place.segment("log", 4))


@damage("the newest segment is of such a copy, or all files are of an older one")
def _(place):
    place.copy("longer", "log")
    shutil.rmtree(place.at("log"))
    place.copy("clone", "log")


@damage("a copy made of hard links")
def _(place):
    shutil.rmtree(place.at("log"), ignore_errors=True)
    shutil.copytree(place.at("closed"), place.at("log"))
    return os.link  # how the copies are made that the commands get


def ask(place, copy):
    """What the four say, each of a copy of its own: an opening changes a log."""
    said = {}
    for name, words in (("opening", ("append", "log")), ("reader", ("cat", "log")), ("verify", ("verify", "log")),
                        ("repair", ("repair", "log", "--output", "new"))):
        shutil.copytree(place.at("log"), place.at("damaged"), copy_function=copy)
        done = place.run(words[0], "damaged", *words[2:])
        text = done.stdout.decode(errors="replace")
        if name == "reader":
            text = "\n".join(line for line in text.splitlines() if not line.isdigit())
            text += "\nno record" if re.search(r"^\d+$", done.stdout.decode(), re.M) is None else ""
        said[name] = done.returncode, text
        shutil.rmtree(place.at("damaged"))
        shutil.rmtree(place.at("new"), ignore_errors=True)
    return said


def compare(row, column, cell, status, text):
    wanted = re.match(r"\d+", cell)
    wrong = []
    if not wanted or int(wanted[0]) != status:
        wrong.append(f"exit status {status}")
    for word in re.findall(r"`([a-z][^`]*)`", cell):
        if word not in text:
            wrong.append(f"{word} is not said")
    if "LSN" in cell and "how many" not in cell and not re.search(r"LSN \d|record \d|records \d", text):
        wrong.append("no LSN is said")
    if "with the file" in cell and ".twl" not in text:
        wrong.append("no file is said")
    if ("no record" in cell) != ("no record" in text) and column == "reader":
        wrong.append("records are returned, or none")
    if "nothing is said" in cell and text:
        wrong.append("something is said")
    return [f"{row} | {column}: {what}, and the page says: {cell}\n{text[:1000]}" for what in wrong]


def rows(tree):
    with open(os.path.join(tree, "docs/recovery.md")) as page:
        text = page.read()
    table = text[text.index("| damage | opening | reader | verify | repair |"):].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        yield cells[0], dict(zip(("opening", "reader", "verify", "repair"), cells[1:5]))


def main():
    twinlog, tree = (os.path.realpath(word) for word in sys.argv[1:3])
    wrong = []
    described = dict(rows(tree))
    wrong += [f"{row}: the page has it, and nothing here makes it" for row in described.keys() - damages.keys()]
    wrong += [f"{row}: the page has no such row" for row in damages.keys() - described.keys()]
    path = tempfile.mkdtemp(prefix="damage-table.", dir=os.getcwd())
    try:
        place = Place(twinlog, tree, path)
        for row in described.keys() & damages.keys():
            for make in damages[row]:
                copy = make(place) or shutil.copy2
                for column, (status, text) in ask(place, copy).items():
                    wrong += compare(row, column, described[row][column], status, text)
    finally:
        shutil.rmtree(path)
    for what in wrong:
        print(what)
    print(f"{len(described)} kinds of damage, {len(wrong)} differences")
    return 1 if wrong or not described else 0


sys.exit(main())
