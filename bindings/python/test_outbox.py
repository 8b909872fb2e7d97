# SPDX-License-Identifier: Apache-2.0
"""test_outbox.py PROGRAM DIR: example/outbox.py is killed at random moments; each order is in the log once.

The program itself compares the orders with the events at its end, and exits with 1 if they differ.
"""
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

ROUNDS = 5 if os.environ.get("TWINLOG_FEW") else 15
ENOUGH = 20  # orders: fewer tell nothing


def files_are_there(directory):
    return os.path.exists(os.path.join(directory, "events", "state"))


def run_until_killed(command, directory, after_s):
    """Kills it so long after it has begun with its work."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    while process.poll() is None and not files_are_there(directory):
        time.sleep(0.01)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode


def count_orders(directory):
    database = sqlite3.connect(os.path.join(directory, "shop.sqlite"))
    with contextlib.closing(database):
        return database.execute("SELECT count(*) FROM orders").fetchone()[0]


def main():
    program, directory = sys.argv[1:]
    seed = int(os.environ.get("TWINLOG_SEED", "1"))
    print("seed", seed)
    chance = random.Random(seed)
    rounds = 0
    while rounds < ROUNDS or count_orders(directory) < ENOUGH:  # a busy machine takes few orders in a round
        status = run_until_killed([sys.executable, program, directory, "100000"], directory, chance.uniform(0.1, 1.5))
        if status != -signal.SIGKILL:
            sys.exit(f"outbox.py has ended with {status}, and was not killed")
        rounds += 1
    last = subprocess.run([sys.executable, program, directory, "10"], stdout=subprocess.PIPE, text=True, check=True)
    print(last.stdout, end="")


main()
