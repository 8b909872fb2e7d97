#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Commands a second of a server with one loop: on a log, on write() and fdatasync(), and of Redis.

usage: server.py [--rounds N] [--scale X] [--reads] SERVER DIR

SERVER is the program of docs/examples/server.c. `log` is that program. `written` is the same with --written: with everysec
a reply says that the kernel has the change, as it does after write(). `plain` is the same with --plain, and `redis` is Debian's redis-server with appendonly yes. redis-benchmark sends SET (--reads: GET,
too) for 10,000 keys to each of them, with appendfsync always and everysec.

Each round has new servers, and for each row of the table asks all of them, in an order that is turned from row to row.
Prints a Markdown table: the median rate, the ratios within a round (median, lowest and highest), and the median of p99.
A line for each run goes to the file $ROUNDS, too.
"""
import argparse
import contextlib
import csv
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROWS = [  # what redis-benchmark is told, and requests: about a second of them
    ("1 client", ["-c", "1"], 6000),
    ("50 clients", ["-c", "50"], 50000),
    ("500 clients", ["-c", "500"], 50000),
    ("50, pipeline 16", ["-c", "50", "-P", "16"], 300000),
    ("50, 4 KiB", ["-c", "50", "-d", "4096"], 30000),
]
SETTINGS = ["always", "everysec"]
CONTENDERS = ["log", "written", "plain", "redis"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def command_of(contender, program, directory, port):
    if contender == "redis":
        return ["redis-server", "--port", port, "--dir", directory, "--appendonly", "yes", "--save", "",
                "--auto-aof-rewrite-percentage", "0"]
    return [program, os.path.join(directory, "store"), "--port", port,
            *({"written": ["--written"], "plain": ["--plain"]}.get(contender, []))]


def ask(port, *words):
    return subprocess.run(["redis-cli", "-p", port, *words], capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def started(contender, program, directory):
    place = os.path.join(directory, contender)
    os.mkdir(place)
    port = free_port()
    process = subprocess.Popen(command_of(contender, program, place, port), stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while ask(port, "ping") != "PONG\n":
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"server.py: {contender} does not start")
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(place)


def configure(port, setting):
    reply = ask(port, "config", "set", "appendfsync", setting)
    if reply != "OK\n":
        sys.exit(f"server.py: {setting} is refused: {reply}")


def measure(port, arguments, requests, command):
    """Commands a second, and p99 in microseconds."""
    done = subprocess.run(["redis-benchmark", "-p", port, "-t", command, "-r", "10000", "-n", str(requests), "--csv",
                           *arguments], capture_output=True, text=True, check=True)
    row = list(csv.DictReader(done.stdout.splitlines()))[-1]
    return float(row["rps"]), 1000 * float(row["p99_latency_ms"])


def run_round(options, scratch, number, results):
    commands = ["set", "get"] if options.reads else ["set"]
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(started(name, options.server, scratch)) for name in CONTENDERS}
        for setting in SETTINGS:
            for port in ports.values():
                configure(port, setting)
            for command in commands:
                for at, (row, arguments, requests) in enumerate(ROWS):
                    turn = (number + at) % len(CONTENDERS)
                    for name in CONTENDERS[turn:] + CONTENDERS[:turn]:
                        figures = measure(ports[name], arguments, int(requests * options.scale), command)
                        results.setdefault((setting, command, row), {}).setdefault(name, []).append(figures)


def ratio(figures, base):
    ratios = [one / other for (one, _), (other, _) in zip(figures, base)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def report(results):
    with open(os.environ.get("ROUNDS", os.devnull), "a", encoding="ascii") as rounds:
        for (setting, command, row), by_name in results.items():
            for name, figures in by_name.items():
                for rate, p99 in figures:
                    rounds.write(f"server,{name},{setting} {command.upper()} {row.replace(',', '')},{rate:.0f}\n")
                    rounds.write(f"server-p99,{name},{setting} {command.upper()} {row.replace(',', '')},{p99:.0f}\n")
    heads = ["appendfsync, commands", *CONTENDERS, "log of plain", "log of redis", "written of plain", "p99 µs"]
    print("| " + " | ".join(heads) + " |")
    print("|---|" + "--:|" * len(CONTENDERS) + "---|---|---|--:|")
    for (setting, command, row), by_name in results.items():
        rates = [f"{statistics.median(rate for rate, _ in by_name[name]):,.0f}" for name in CONTENDERS]
        ratios = [ratio(by_name[one], by_name[other])
                  for one, other in (("log", "plain"), ("log", "redis"), ("written", "plain"))]
        tails = [f"{statistics.median(p99 for _, p99 in by_name[name]):,.0f}" for name in CONTENDERS]
        print(f"| {setting}, {command.upper()}, {row} | " + " | ".join(rates + ratios + [", ".join(tails)]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("directory", help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--scale", type=float, default=1, help="of the numbers of requests")
    parser.add_argument("--reads", action="store_true", help="GET, too")
    options = parser.parse_args()
    options.server = os.path.abspath(options.server)
    for program in ("redis-server", "redis-benchmark", "redis-cli"):
        if not shutil.which(program):
            sys.exit(f"server.py: {program} is not installed")

    results = {}
    scratch = tempfile.mkdtemp(prefix="server.", dir=os.path.abspath(options.directory))
    try:
        for number in range(options.rounds):
            run_round(options, scratch, number, results)
    finally:
        shutil.rmtree(scratch)
    report(results)


if __name__ == "__main__":
    main()
