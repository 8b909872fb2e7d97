#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Durable appends of 128 bytes by PostgreSQL and by twinlog, in turns: a Markdown table.

PostgreSQL commits transactions that do nothing but write a message to its log (pg_logical_emit_message), with a client
of pgbench for each thread and prepared statements. Its server is made below DIR and removed again. The table has
medians, and the median, lowest and highest ratio of a round. A line for each round goes to the file $ROUNDS, too.
"""
import argparse
import contextlib
import csv
import functools
import glob
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

MESSAGE = "SELECT pg_logical_emit_message(true, 't', repeat('x', 128));\n"
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '%s'
max_connections = 300
shared_buffers = 256MB
wal_sync_method = open_datasync
autovacuum = off
"""


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"postgres.py: {' '.join(command)}: {done.stdout}")
    return done.stdout


@contextlib.contextmanager
def server(programs, place):
    # It does not run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        os.chmod(place, 0o755)
        shutil.chown(place, "postgres")
    data = f"{place}/data"
    run(*user, f"{programs}/initdb", "-D", data, "--no-sync")
    with open(f"{data}/postgresql.conf", "a", encoding="ascii") as file:
        file.write(SETTINGS % place)
    with open(f"{place}/message.sql", "w", encoding="ascii") as file:
        file.write(MESSAGE)
    # Its output must not be a pipe that the server would keep open.
    control = [*user, f"{programs}/pg_ctl", "-D", data, "-l", f"{place}/server.txt", "-w"]
    subprocess.run([*control, "start"], stdout=subprocess.DEVNULL, check=True)
    try:
        yield
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], stdout=subprocess.DEVNULL, check=False)


def of_postgres(programs, place, clients, seconds):
    command = [f"{programs}/pgbench", "-h", place, "-U", "postgres" if os.geteuid() == 0 else os.environ["USER"], "-n",
               "-M", "prepared", "-f", f"{place}/message.sql", "-c", str(clients), "-j", "2", "-T", str(seconds), "postgres"]
    # On a busy machine a second may be over before all clients are connected: then it says no rate.
    for _ in range(5):
        found = re.search(r"^tps = ([0-9.]+)", run(*command), re.MULTILINE)
        if found:
            return float(found.group(1))
    sys.exit("postgres.py: pgbench says no rate")


def of_twinlog(bench, place, threads, seconds):
    os.mkdir(f"{place}/log")
    run(bench, "--peers", "twinlog", "--threads", str(threads), "--rounds", "1", "--seconds", str(seconds),
        "--csv", f"{place}/log.csv", f"{place}/log")
    shutil.rmtree(f"{place}/log")
    with open(f"{place}/log.csv", encoding="utf-8") as file:
        return float(next(csv.DictReader(file))["rate"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", metavar="DIR")
    parser.add_argument("--bench", default="build/release/bench/twinlog-bench", help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--seconds", type=int, default=1, help="of a round; default %(default)s")
    settings = parser.parse_args()
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda name: int(name.split("/")[-2]))
    if not found:
        sys.exit("postgres.py: there is no PostgreSQL; on Debian: apt install postgresql")
    programs = found[-1]
    bench = os.path.abspath(settings.bench)
    os.makedirs(settings.dir, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="postgres.", dir=os.path.abspath(settings.dir)) as place, \
            server(programs, place):
        print("| clients, threads | twinlog | PostgreSQL | against PostgreSQL |\n|--:|--:|--:|--:|")
        for count in (1, 16, 64, 256):
            rounds = []
            for number in range(settings.rounds):
                turns = [functools.partial(of_twinlog, bench), functools.partial(of_postgres, programs)]
                step = -1 if number % 2 else 1  # twinlog first, PostgreSQL first
                rounds.append([turn(place, count, settings.seconds) for turn in turns[::step]][::step])
            with open(os.environ.get("ROUNDS", os.devnull), "a", encoding="ascii") as file:
                for our, their in rounds:
                    file.write(f"postgres,twinlog,{count},{our:.0f}\npostgres,PostgreSQL,{count},{their:.0f}\n")
            ours, theirs = (statistics.median(rates) for rates in zip(*rounds))
            ratios = [our / their for our, their in rounds]
            print(f"| {count} | {ours:,.0f} | {theirs:,.0f} "
                  f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |", flush=True)


main()
