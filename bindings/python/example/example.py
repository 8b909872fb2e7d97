# SPDX-License-Identifier: Apache-2.0
"""Threads append durably, and log to a plain file; then the program reads everything back.

    python3 example.py journal
"""
import logging
import sys
import threading

import twinlog


def take_orders(log: twinlog.Log, worker: int) -> None:
    for i in range(25):
        log.append(f"order {i} of worker {worker}".encode())
        # from here on the order survives a power cut: confirm it to the customer
        logging.info("worker %d took order %d", worker, i)
        # the line survives a kill -9, and is there for tail and grep


if len(sys.argv) != 2:
    sys.exit(f"usage: {sys.argv[0]} DIR")

text = sys.argv[1] + ".txt"
logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[twinlog.SinkHandler(text)])
with twinlog.Log(sys.argv[1]) as log:
    workers = [threading.Thread(target=take_orders, args=(log, worker)) for worker in range(8)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()

with twinlog.Reader(sys.argv[1]) as reader:
    count = sum(record.data.startswith(b"order ") for record in reader)
with open(text) as file:
    lines = sum(line.startswith("worker ") for line in file)
print(count, "orders,", lines, "lines")
sys.exit(count != 200 or lines != 200)
