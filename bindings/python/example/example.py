# SPDX-License-Identifier: Apache-2.0
"""Threads append durably; then the program reads everything back.

    python3 example.py journal
"""
import sys
import threading

import twinlog


def take_orders(log: twinlog.Log, worker: int) -> None:
    for i in range(25):
        log.append(f"order {i} of worker {worker}".encode())
        # from here on the order survives a power cut: confirm it to the customer


if len(sys.argv) != 2:
    sys.exit(f"usage: {sys.argv[0]} DIR")

with twinlog.Log(sys.argv[1]) as log:
    workers = [threading.Thread(target=take_orders, args=(log, worker)) for worker in range(8)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()

with twinlog.Reader(sys.argv[1]) as reader:
    count = sum(record.data.startswith(b"order ") for record in reader)
print(count, "orders")
sys.exit(count != 200)
