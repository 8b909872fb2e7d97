#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lines through a pipe: how fast a command takes what `cat` gives it, and writes it to a file or a log.

Each round runs `cat FILE FILE... | COMMAND` for every command, in an order that is turned from round to round. Timed is a
shell from its start to its end, and with it both programs; before that the output of the last run is removed, and all
file systems are synced. Each time all bytes, or records, must be there. What `append` and `sink --flush` write is synced
within the clock, as what `cat >>FILE && sync FILE` writes; what the others write is not. Prints a Markdown table: the
median rate, and the rate as a part of that of `cat >>`, and of `cat >>` with `sync`, in the same round: its median, and
the lowest and the highest. A line for each run goes to the file $ROUNDS, too.
"""
import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

LINE = b"%012d 192.0.2.7 GET /a/path/that/is/as/long/as/many/are HTTP/1.1 200 5120 0.0031 agent-x\n"
BASELINE = "cat"
SYNCED = "cat-sync"


def contenders(twinlog):
    """Name, the shell's command with {out} for what it writes, and whether that is a file or a log."""
    twinlog = shlex.quote(twinlog)
    rows = [
        (BASELINE, "cat >>{out}", "file"),
        (SYNCED, "cat >>{out} && sync {out}", "file"),
        ("sink", twinlog + " sink {out}", "file"),
        ("sink-shared", twinlog + " sink {out} --shared", "file"),
        ("sink-flush", twinlog + " sink {out} --flush 1000", "file"),
        ("append", twinlog + " append {out} -q", "log"),
        ("tee", "tee -a {out} >/dev/null", "file"),
    ]
    rotatelogs = shutil.which("rotatelogs", path=os.environ["PATH"] + ":/usr/bin:/usr/sbin")
    if rotatelogs:
        rows.append(("rotatelogs", shlex.quote(rotatelogs) + " {out} 1900M", "file"))
    return rows


def make_input(path, lines):
    with open(path, "wb") as file:
        for begin in range(0, lines, 10000):
            file.write(b"".join(LINE % number for number in range(begin, min(begin + 10000, lines))))


def outputs(out):
    """What was written: rotatelogs puts a time behind the name."""
    directory, name = os.path.split(out)
    return [os.path.join(directory, entry) for entry in os.listdir(directory) if entry.startswith(name)]


def holds_all(twinlog, out, kind, lines):
    if kind == "log":
        text = subprocess.run([twinlog, "stat", out, "--json"], check=True, capture_output=True).stdout
        return json.loads(text)["last_lsn"] == lines
    return sum(map(os.path.getsize, outputs(out))) == lines * len(LINE % 0)


def remove(out):
    for path in outputs(out):
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    os.sync()


def measure(command, inputs, out):
    """Seconds of one pipeline."""
    line = f"cat {shlex.join(inputs)} | {command.format(out=shlex.quote(out))}"
    began = time.monotonic()
    subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], check=True)
    return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twinlog", help="the command")
    parser.add_argument("directory", help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--lines", type=int, default=1000000, help="of the file")
    parser.add_argument("--times", type=int, default=8, help="how often cat gives it")
    options = parser.parse_args()
    options.twinlog = os.path.abspath(options.twinlog)
    scratch = tempfile.mkdtemp(prefix="pipes.", dir=os.path.abspath(options.directory))
    try:
        source = os.path.join(scratch, "source")
        make_input(source, options.lines)
        lines = options.lines * options.times
        rates = run_rounds(options, [source] * options.times, os.path.join(scratch, "out"), lines)
    finally:
        shutil.rmtree(scratch)
    report(rates)


def run_rounds(options, inputs, out, lines):
    rows = contenders(options.twinlog)
    rates = {name: [] for name, _, _ in rows}
    for number in range(options.rounds):
        turn = number % len(rows)
        order = rows[turn:] + rows[:turn]
        if number % 2 == 1:
            order.reverse()
        for name, command, kind in order:
            remove(out)
            rates[name].append(lines / measure(command, inputs, out))
            if not holds_all(options.twinlog, out, kind, lines):
                sys.exit(f"pipes.py: {name} has not written what it got")
        remove(out)
    return rates


def report(rates):
    with open(os.environ.get("ROUNDS", os.devnull), "a", encoding="ascii") as rounds:
        for name, figures in rates.items():
            for rate in figures:
                rounds.write(f"pipes,{name},lines,{rate:.0f}\n")
    print("| command | lines/s | against cat | against cat and sync |")
    print("|---|--:|--:|--:|")
    for name, figures in rates.items():
        parts = [describe_ratio(figures, rates[base]) for base in (BASELINE, SYNCED)]
        print(f"| {name} | {statistics.median(figures):,.0f} | {parts[0]} | {parts[1]} |")


def describe_ratio(figures, base_figures):
    ratios = [rate / base for rate, base in zip(figures, base_figures)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
