#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""raft_server.py SERVER: three servers of docs/examples/raft_server.c. Clients add lines while the leader, a follower
and all servers are killed by kill -9 and started again. Then every acknowledged line is there once, at the number that
its answer said, and each server that leads shows the same list. A server without its log is refused.
"""
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SERVERS = (1, 2, 3)
CLIENTS = 4
PATIENCE_S = 120  # for anything that has to happen
LINES = 250  # acknowledged between two kills; five of these are more than libraft keeps without a snapshot
HOST = f"127.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}.3"  # which no other program takes


class Failed(Exception):
    """The server has broken its promise, or does not answer."""


def wait_for(what, is_so):
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end:
            raise Failed(f"waited in vain: {what}")
        time.sleep(0.005)


class Cluster:
    def __init__(self, program, place):
        self.program, self.place, self.processes = program, place, {}
        for server in SERVERS:
            self.create(server, 0)
            self.create(server, 1)  # a second time it is refused

    def directory(self, server):
        return os.path.join(self.place, f"server-{server}")

    def create(self, server, status):
        made = subprocess.run([self.program, "create", self.directory(server), str(server)], stderr=subprocess.PIPE)
        if made.returncode != status:
            raise Failed(f"create: status {made.returncode}, not {status}: {made.stderr!r}")

    def start(self, server, errors=None):
        self.processes[server] = subprocess.Popen(
            [self.program, "run", self.directory(server), str(server), f"{HOST}:{9500 + server}"]
            + [f"{HOST}:{9000 + each}" for each in SERVERS], stderr=errors)

    def end(self, server, number):
        process = self.processes.pop(server)
        if process.poll() is not None:
            raise Failed(f"server {server} has ended by itself: status {process.returncode}")
        process.send_signal(number)
        return process.wait(PATIENCE_S)

    def kill_again(self, *servers):
        for server in servers:
            self.end(server, signal.SIGKILL)
        for server in servers:
            self.start(server)

    def leader(self):
        found = []

        def finds_one():
            for server in SERVERS:
                try:
                    if Connection(server).ask("list")[-1].startswith("ok"):
                        found.append(server)
                        return True
                except OSError:
                    pass
            return False

        wait_for("a leader", finds_one)
        return found[0]


class Connection:
    def __init__(self, server):
        self.socket = socket.create_connection((HOST, 9500 + server), PATIENCE_S)
        self.file = self.socket.makefile("rb")

    def __del__(self):
        if hasattr(self, "socket"):
            self.file.close()
            self.socket.close()

    def ask(self, request):
        """All lines of the answer. OSError: the server has gone, and what came of the request is not known."""
        self.socket.sendall(request.encode() + b"\n")
        lines = []
        while True:
            line = self.file.readline().decode()
            if not line.endswith("\n"):
                raise ConnectionError
            lines.append(line[:-1])
            if not line.startswith("+ "):
                return lines


class Client(threading.Thread):
    """Adds lines, none twice, and notes the number of each that was acknowledged."""

    def __init__(self, number, seed):
        super().__init__(daemon=True)
        self.number, self.random = number, random.Random(seed + number)
        self.is_ending = False
        self.acknowledged = {}
        self.sent = set()

    def run(self):
        server, connection, serial = 1, None, 0
        while not self.is_ending:
            serial += 1
            text = f"{self.number}-{serial}-" + "x" * self.random.randrange(40)
            self.sent.add(text)
            try:
                connection = connection or Connection(server)
                answer = connection.ask("add " + text)[0]
            except OSError:
                answer = "unknown"
            if answer.startswith("ok "):
                self.acknowledged[text] = int(answer[3:])
            else:
                server, connection = self.random.choice(SERVERS), None


def check_list(lines, clients):
    texts = [line[2:] for line in lines[:-1]]
    if len(set(texts)) != len(texts):
        raise Failed("a line is there twice")
    if set(texts) - set().union(*(client.sent for client in clients)):
        raise Failed("a line is there that nobody has sent")
    for client in clients:
        for text, number in client.acknowledged.items():
            if number > len(texts) or texts[number - 1] != text:
                raise Failed(f"line {number} was acknowledged and is not there: {text}")


def try_kills(cluster, clients):
    def count():
        return sum(len(client.acknowledged) for client in clients)

    def add_more():
        least = count() + LINES
        wait_for("lines are acknowledged", lambda: count() >= least)

    add_more()
    leader = cluster.leader()
    cluster.kill_again(leader)
    add_more()
    cluster.kill_again(leader % len(SERVERS) + 1)
    add_more()
    cluster.kill_again(*SERVERS)
    add_more()
    cluster.kill_again(cluster.leader())
    add_more()
    for client in clients:
        client.is_ending = True
    for client in clients:
        client.join(PATIENCE_S)
    return count()


def check_all(cluster, clients):
    """With nothing in flight: the list of one leader, and of others that lead after it."""
    leader = cluster.leader()
    lines = Connection(leader).ask("list")
    check_list(lines, clients)

    leaders = {leader}
    for _ in range(4):
        cluster.kill_again(leader)
        leader = cluster.leader()
        leaders.add(leader)
        if Connection(leader).ask("list") != lines:
            raise Failed(f"server {leader} has another list than the leader before")
    return len(lines) - 1, leaders


def check_lost_log(cluster):
    shutil.rmtree(os.path.join(cluster.directory(1), "log"))
    cluster.start(1, subprocess.PIPE)
    process = cluster.processes.pop(1)
    said = process.communicate(timeout=PATIENCE_S)[1]
    if process.returncode != 1:
        raise Failed(f"a server without its log was not refused: status {process.returncode}, {said!r}")


def main():
    place = tempfile.mkdtemp(prefix="raft-server.", dir=os.getcwd())
    seed = int(os.environ.get("TWINLOG_SEED", time.time_ns() % 10**9))
    print(f"TWINLOG_SEED={seed}")
    cluster = None
    try:
        cluster = Cluster(os.path.realpath(sys.argv[1]), place)
        for server in SERVERS:
            cluster.start(server)
        clients = [Client(number, seed) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        acknowledged = try_kills(cluster, clients)
        count, leaders = check_all(cluster, clients)
        for server in SERVERS:
            if cluster.end(server, signal.SIGTERM) != 0:
                raise Failed(f"server {server} does not end well")
        check_lost_log(cluster)
        print(f"{acknowledged} acknowledged, {count} there; servers that led without load: {sorted(leaders)}")
    except Failed as failure:
        print(f"FAILED: {failure}")
        return 1
    finally:
        for process in cluster.processes.values() if cluster else ():
            process.kill()
            process.wait()
        shutil.rmtree(place)
    return 0


sys.exit(main())
