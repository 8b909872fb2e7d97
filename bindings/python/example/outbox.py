# SPDX-License-Identifier: Apache-2.0
"""A database and a log that agree: what a transaction has changed is in the log once, also when the process is killed.

    python3 outbox.py DIR [ORDERS]

A log is no part of a database's transaction. So the transaction writes what is to be said into a table of the database,
the outbox, and a relay moves it into the log when it is committed.
"""
import os
import sqlite3
import sys
from typing import List

import twinlog

BATCH = 100


def open_database(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")  # a commit survives the power, as a removal from the outbox must
    database.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, item TEXT)")
    database.execute("CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT)")
    return database


def take_order(database: sqlite3.Connection, item: str) -> None:
    """The order and its event: both are there, or none."""
    database.execute("BEGIN IMMEDIATE")
    order = database.execute("INSERT INTO orders (item) VALUES (?)", (item,)).lastrowid
    database.execute("INSERT INTO outbox (event) VALUES (?)", (f"order {order}: {item}",))
    database.execute("COMMIT")


def remove_events(database: sqlite3.Connection, events: List[int]) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.executemany("DELETE FROM outbox WHERE id = ?", [(event,) for event in events])
    database.execute("COMMIT")


def remove_what_the_log_has(database: sqlite3.Connection, log: twinlog.Log) -> None:
    """A process that was killed between the append and the removal has left a batch in both: the newest one."""
    first = max(1, log.last_lsn - BATCH + 1)  # no record is trimmed here
    remove_events(database, [log.read(lsn).tag for lsn in range(first, log.last_lsn + 1)])


def relay(database: sqlite3.Connection, log: twinlog.Log) -> None:
    """Moves what is committed into the log, in its order. Only one process does it at a time: that which has the log open."""
    while events := database.execute("SELECT id, event FROM outbox ORDER BY id LIMIT ?", (BATCH,)).fetchall():
        log.append_batch([twinlog.Entry(text.encode(), tag=event) for event, text in events])  # durable; all, or none
        remove_events(database, [event for event, text in events])


def main() -> None:
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(f"usage: {sys.argv[0]} DIR [ORDERS]")
    directory = sys.argv[1]
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 1000

    os.makedirs(directory, exist_ok=True)
    database = open_database(os.path.join(directory, "shop.sqlite"))
    with twinlog.Log(os.path.join(directory, "events")) as log:
        remove_what_the_log_has(database, log)
        relay(database, log)
        for order in range(wanted):
            take_order(database, f"item {order}")
            if order % 3 == 0:
                relay(database, log)
        relay(database, log)

    orders = [f"order {order}: {item}" for order, item in database.execute("SELECT id, item FROM orders ORDER BY id")]
    with twinlog.Reader(os.path.join(directory, "events")) as reader:
        events = [record.data.decode() for record in reader]
    print(len(orders), "orders,", len(events), "events")
    sys.exit(sorted(events) != sorted(orders))


main()
