#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The server of docs/examples/server.c: what it has replied, and what its replies have shown, stays.

usage: server.py SERVER talk | full | read-only | frozen | child [--plain]
       server.py SERVER kills [--written] [--kills N] [--seed S] [--clients N]
       server.py SERVER cuts --powercut TWINLOG-POWERCUT [--lie]
       server.py SERVER powercut          run by twinlog-powercut

talk: redis-cli and redis-benchmark. kills: clients change and read pairs, the server is killed, half of the times while
it writes a snapshot, and the next one must have all that was replied, and all that anyone has read. --written: with
everysec, where a reply says that the kernel has the change. cuts: the same with power cuts; with --lie the disk
forgets, and a check must find that. full, read-only, frozen: file systems that are so. child: a client leaves while a
snapshot is written. What is missing here is said, and the status is 77.
"""
import argparse
import contextlib
import errno
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

LIMIT_S = 60  # for anything that is waited for
LARGE = 5 << 18  # more than a batch of the server


class Violation(Exception):
    """The server has broken its promise."""


class Skip(Exception):
    """What is tried is not on this machine."""


class Refused(Exception):
    """A reply that is an error."""


def need(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            raise Skip(f"{program} is not installed")


def check(is_so, what):
    if not is_so:
        raise Violation(what)


class Client:
    """One connection. Words are str or bytes; replies are bytes, int, None or a list."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server is gone")
        kind, text = line[:1], line[1:-2]
        if kind == b"-":
            raise Refused(text.decode())
        if kind == b"+":
            return text
        if kind == b":":
            return int(text)
        if kind == b"*":
            return [self.reply() for _ in range(int(text))]
        if int(text) < 0:
            return None
        data = self.file.read(int(text) + 2)
        if len(data) != int(text) + 2:
            raise ConnectionError("the server is gone")
        return data[:-2]

    def ask(self, *words):
        self.send(*words)
        return self.reply()

    def transaction(self, *commands):
        """All commands in one packet; the list of their replies."""
        self.send("MULTI")
        for command in commands:
            self.send(*command)
        self.send("EXEC")
        for _ in range(len(commands) + 1):
            self.reply()
        return self.reply()

    def is_silent_for(self, seconds):
        self.socket.settimeout(seconds)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(LIMIT_S)

    def info(self):
        return dict(line.split(":", 1) for line in self.ask("INFO").decode().splitlines() if ":" in line)

    def close(self):
        self.file.close()
        self.socket.close()


def has_loopback():
    """A packager's sandbox has none: there an address can be bound and not be reached."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("127.0.0.1", 9))
        except OSError as error:
            if error.errno == errno.ENETUNREACH:
                return False
            raise
    return True


class Server:
    every = []  # what is left of them is killed in the end

    def __init__(self, program, directory, *options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen([program, directory, "--port", str(self.port), *options])
        self.every.append(self)
        end = time.monotonic() + LIMIT_S
        while True:
            if self.process.poll() is not None:
                raise Violation(f"the server does not start: {self.process.returncode}")
            try:
                self.client().close()
                return
            except ConnectionRefusedError:
                check(time.monotonic() < end, "the server does not listen")
                time.sleep(0.005)

    def client(self):
        return Client(self.port)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def shut_down(self):
        self.client().send("SHUTDOWN")
        check(self.process.wait(LIMIT_S) == 0, "the server ends with an error")


def wait_for_save(client):
    end = time.monotonic() + LIMIT_S
    while (info := client.info())["saving"] == "1":
        check(time.monotonic() < end, "the snapshot takes for ever")
        time.sleep(0.005)
    return info["last_save"]


# ---- redis-cli ----

CONVERSATION = [
    ("PING", "PONG"), ("SET a 7", "OK"), ("INCR a", "8"), ("GET a", "8"), ("GET b", ""), ("DBSIZE", "1"),
    ("SET text words", "OK"), ("INCR text", "ERR this value is no number that can be increased"),
    ("SET most 9223372036854775807", "OK"), ("INCR most", "ERR this value is no number that can be increased"),
    ("MULTI", "OK"), ("SET b 1", "QUEUED"), ("INCR b", "QUEUED"), ("GET a", "QUEUED"), ("EXEC", "OK\n2\n8"),
    ("MULTI", "OK"), ("SET b 100", "QUEUED"), ("DISCARD", "OK"), ("GET b", "2"),
    ("MULTI", "OK"), ("SET b 100", "QUEUED"), ("NOTHING", "ERR no command of this name has so many words"),
    ("EXEC", "EXECABORT a command was wrong"), ("GET b", "2"), ("EXEC", "ERR EXEC without MULTI"),
    ("DEL a text nothing", "2"), ("GET a", ""), ("CONFIG GET appendfsync", "appendfsync\nalways"),
    ("CONFIG SET appendfsync everysec", "OK"), ("SET c 3", "OK"), ("CONFIG SET appendfsync no", "OK"),
    ("SET d 4", "OK"), ("CONFIG SET appendfsync sometimes",
                        "ERR CONFIG knows: GET NAME, and SET appendfsync always, everysec or no"),
    ("CONFIG SET appendfsync always", "OK"), ("COMMAND", ""), ("GET d", "4"), ("DBSIZE", "4"),
]
AFTERWARDS = [("GET a", ""), ("GET b", "2"), ("GET c", "3"), ("GET d", "4"), ("GET most", "9223372036854775807"),
              ("DBSIZE", "5")]


def converse(server, conversation):
    text = "".join(command + "\n" for command, _ in conversation)
    done = subprocess.run(["redis-cli", "-p", str(server.port)], input=text, capture_output=True, text=True,
                          timeout=LIMIT_S, check=True)
    got = done.stdout.replace("\n\n", "\n").split("\n")
    wanted = "".join(reply + "\n" for _, reply in conversation).replace("\n\n", "\n").split("\n")
    for at, (one, other) in enumerate(zip(got, wanted)):
        check(one == other, f"redis-cli shows {one!r} in line {at}, and not {other!r}")
    check(len(got) == len(wanted), f"redis-cli shows {len(got)} lines, and not {len(wanted)}")


def talk(arguments, directory):
    need("redis-cli", "redis-benchmark")
    large = os.urandom(4 * LARGE)
    options = ["--plain"] if arguments.plain else []
    server = Server(arguments.server, directory, *options)
    converse(server, CONVERSATION)
    client = server.client()
    check(client.ask("SET", "large", large) == b"OK", "a large value is refused")
    if not arguments.plain:
        check(client.ask("BGSAVE") == b"Background saving started", "BGSAVE is refused")
        check(wait_for_save(client) == "ok", "the snapshot failed")
    client.ask("SET", "large", large[::-1])
    server.kill()

    server = Server(arguments.server, directory, *options)
    converse(server, AFTERWARDS)
    check(server.client().ask("GET", "large") == large[::-1], "the large value has changed")
    command = ["redis-benchmark", "-p", str(server.port), "-t", "set,get,incr", "-n", "20000", "-P", "4", "-r", "1000",
               "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    check(all(f'"{name}"' in done.stdout for name in ("SET", "GET", "INCR")), "redis-benchmark has no results")
    server.shut_down()


# ---- what clients were told, and what they have seen ----

def large_value(number):
    head = b"%d " % number
    return head + b"x" * (LARGE - 2 * len(head)) + head


class Ledger:
    """The pairs of one client: what is sent, what is acknowledged, and what any client has read.

    nI counts. aI and bI are set to the same number by transactions, some of which also set lI, which is large. dI is
    set to a number and removed.
    """

    def __init__(self):
        self.sent = {"n": 0, "a": 0, "d": 0}
        self.known = {"n": 0, "a": 0}  # acknowledged, or read: it cannot be less
        self.large = [0]  # numbers that were sent
        self.states_of_d = {None}  # what it may be now

    def sees(self, name, number):
        self.known[name] = max(self.known[name], number)


class Crew:
    """Clients, each with a thread. A thread notes what it was told, and the main thread judges."""

    def __init__(self, clients, seed):
        self.ledgers = [Ledger() for _ in range(clients)]
        self.random = random.Random(seed)
        self.replies = 0
        self.wrong = []

    def change(self, client, number, chance):
        ledger, sent = self.ledgers[number], self.ledgers[number].sent
        what = chance.randrange(20)
        if what < 9:
            sent["n"] = ledger.known["n"] + 1
            ledger.sees("n", client.ask("INCR", f"n{number}"))
        elif what < 14:
            sent["a"] = value = sent["a"] + 1
            commands = [("SET", f"a{number}", value), ("SET", f"b{number}", value)]
            if chance.randrange(60) == 0:
                ledger.large.append(value)
                commands.insert(1, ("SET", f"l{number}", large_value(value)))
            client.transaction(*commands)
            ledger.sees("a", value)
        else:
            sent["d"] += what < 17
            state = sent["d"] if what < 17 else None
            ledger.states_of_d.add(state)
            client.ask(*(("SET", f"d{number}", state) if state else ("DEL", f"d{number}")))
            ledger.states_of_d = {state}

    def look(self, client, chance):
        """At a pair of any client: what it has shown, a crash must not take."""
        number = chance.randrange(len(self.ledgers))
        self.ledgers[number].sees("n", int(client.ask("GET", f"n{number}") or 0))
        one, other = client.transaction(("GET", f"a{number}"), ("GET", f"b{number}"))
        if one != other:
            self.wrong.append(f"a client has read half a transaction: {one}, {other}")
        self.ledgers[number].sees("a", int(one or 0))

    def work(self, server, number, seed):
        chance = random.Random(seed)
        try:
            client = server.client()
            while True:
                if chance.randrange(2):
                    self.change(client, number, chance)
                else:
                    self.look(client, chance)
                self.replies += 1
        except (ConnectionError, OSError):
            pass  # the server was killed
        except Exception as error:  # pylint: disable=broad-exception-caught
            self.wrong.append(f"{type(error).__name__}: {error}")

    def start(self, server):
        threads = [threading.Thread(target=self.work, args=(server, number, self.random.random()), daemon=True)
                   for number in range(len(self.ledgers))]
        for thread in threads:
            thread.start()
        return threads

    def judge(self, server):
        """A new server has what the ledgers say. What may have happened or not is known then."""
        client = server.client()
        for number, ledger in enumerate(self.ledgers):
            counted = int(client.ask("GET", f"n{number}") or 0)
            check(ledger.known["n"] <= counted <= ledger.sent["n"],
                  f"n{number} is {counted}; it was seen as {ledger.known['n']}, and set to {ledger.sent['n']}")
            one, other = (int(client.ask("GET", f"{name}{number}") or 0) for name in "ab")
            check(one == other, f"half a transaction: a{number} is {one}, b{number} is {other}")
            check(ledger.known["a"] <= one <= ledger.sent["a"],
                  f"a{number} is {one}; it was seen as {ledger.known['a']}, and set to {ledger.sent['a']}")
            large = max(value for value in ledger.large if value <= one)
            check(client.ask("GET", f"l{number}") == (large_value(large) if large else None),
                  f"l{number} is not the large value of transaction {large}")
            state = client.ask("GET", f"d{number}")
            state = int(state) if state else None
            check(state in ledger.states_of_d, f"d{number} is {state}, and not one of {ledger.states_of_d}")

            ledger.known = {"n": counted, "a": one}
            ledger.sent = {"n": counted, "a": one, "d": ledger.sent["d"]}
            ledger.large = [large]
            ledger.states_of_d = {state}
        client.close()


def snapshots(directory):
    return sum(name.startswith("snapshot") for name in os.listdir(directory))


def kills(arguments, directory):
    seed = arguments.seed
    if seed is None:
        seed = int(os.environ.get("TWINLOG_SEED", random.randrange(1 << 30)))
    print(f"seed: TWINLOG_SEED={seed}", flush=True)
    crew = Crew(arguments.clients, seed)

    def start():
        server = Server(arguments.server, directory, *(["--written"] if arguments.written else []))
        client = server.client()
        if arguments.written:
            client.ask("CONFIG", "SET", "appendfsync", "everysec")
        return server, client

    server, client = start()
    for first in range(0, 4000, 100):  # so that a snapshot takes a while
        client.transaction(*(("SET", f"filling{number}", "x" * 2000) for number in range(first, first + 100)))
    in_snapshot, lasts_s = 0, 0.05
    for number in range(arguments.kills):
        threads = crew.start(server)
        until = crew.replies + crew.random.randrange(50, 400)
        end = time.monotonic() + LIMIT_S
        while crew.replies < until and not crew.wrong:
            check(time.monotonic() < end, "the server does not reply")
            time.sleep(0.005)
        if number % 2:
            began = time.monotonic()
            client.ask("BGSAVE")
            if number % 10 == 9:
                check(wait_for_save(client) == "ok", "the snapshot failed")
                lasts_s = time.monotonic() - began
            else:
                while snapshots(directory) < 2 and time.monotonic() - began < 2 * lasts_s:
                    time.sleep(0.001)
                time.sleep(crew.random.random() * 0.8 * lasts_s)  # a moment by chance
        server.kill()
        in_snapshot += snapshots(directory) > 1
        for thread in threads:
            thread.join(LIMIT_S)
        check(not crew.wrong, f"kill {number}: {crew.wrong[:3]}")
        try:
            server, client = start()
            crew.judge(server)
        except Violation as violation:
            raise Violation(f"kill {number}: {violation}") from None
    server.shut_down()
    print(f"{arguments.kills} kills, {in_snapshot} of them seen inside a snapshot; {crew.replies} replies kept")


# ---- power cuts ----

def powercut_check(directory, program):
    """A promise is a name, and a number that it cannot fall below."""
    promised = {}
    for line in sys.stdin:
        name, number = line.split()
        promised[name] = max(promised.get(name, 0), int(number))
    server = Server(program, directory)
    client = server.client()
    for name, number in promised.items():
        got = int(client.ask("GET", name) or 0)
        check(got >= number, f"{name} is {got}, and was {number}")
        if name[0] == "a":
            check(client.ask("GET", "b" + name[1:]) == b"%d" % got, f"half a transaction of {name}")
            large = client.ask("GET", "l" + name[1:])
            check(large is None or large == large_value(int(large.split()[0])), f"a part of l{name[1:]}")
    server.shut_down()
    print(f"{len(promised)} promises kept", file=sys.stderr)


def powercut_client(server, number):
    client = server.client()

    def promise(name, value):
        os.write(1, f"{name}{number} {value}\n".encode())

    for turn in range(1 << 30):
        promise("n", client.ask("INCR", f"n{number}"))
        value = int(client.ask("GET", f"a{number}") or 0) + 1
        commands = [("SET", f"a{number}", value), ("SET", f"b{number}", value)]
        if turn % 50 == 20:
            commands.insert(1, ("SET", f"l{number}", large_value(value)))
        client.transaction(*commands)
        promise("a", value)
        if number == 0 and turn % 40 == 10:
            with contextlib.suppress(Refused):  # the last one goes on
                client.ask("BGSAVE")


def powercut(arguments, _):
    directory = os.path.join(os.environ["POWERCUT_DIR"], "store")
    if os.environ["POWERCUT"] == "check":
        powercut_check(directory, arguments.server)
        return
    server = Server(arguments.server, directory)
    for number in range(4):
        threading.Thread(target=powercut_client, args=(server, number), daemon=True).start()
    signal.pause()


def cuts(arguments, directory):
    command = [arguments.powercut, "--within", "1500", "--cuts", "30" if arguments.lie else "10",
               *(["--lie"] if arguments.lie else []), "--", sys.executable, os.path.abspath(__file__), arguments.server,
               "powercut"]
    environment = {**os.environ, "TMPDIR": directory}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    print(done.stdout)
    if done.returncode == 77:
        raise Skip("twinlog-powercut cannot run here")
    if arguments.lie:
        check("FOUND: the check ended with status 1" in done.stdout, "a disk that forgets is not noticed")
        return
    check(done.returncode == 0, "a promise is broken")
    lines = re.search(r"(\d+) lines in the end", done.stdout)
    check(lines and int(lines[1]) >= 100, "hardly a promise was made")


# ---- file systems that are full, read-only or frozen ----

def mount(*command):
    if os.geteuid() != 0:
        raise Skip("only root can mount")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skip(f"{' '.join(command[:3])}: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(directory, *how):
    place = os.path.join(directory, "mounted")
    os.mkdir(place)
    mount("mount", *how, place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def ext4_image(directory):
    need("mkfs.ext4")
    image = os.path.join(directory, "image")
    with open(image, "wb") as file:
        file.truncate(160 << 20)
    mount("mkfs.ext4", "-q", "-F", image)
    return image


def refusal(client, *commands):
    """What a change is refused with: one command, or a transaction."""
    try:
        if len(commands) == 1:
            client.ask(*commands[0])
        else:
            client.transaction(*commands)
    except Refused as error:
        return str(error)
    return "it was accepted"


def full(arguments, directory):
    told = "ERR nothing was changed: No space left on device"
    with mounted(directory, "-t", "tmpfs", "-o", "size=40m", "tmpfs") as place:
        ballast, store = os.path.join(place, "ballast"), os.path.join(place, "store")
        with open(ballast, "wb") as file:
            file.write(bytes(12 << 20))
        server = Server(arguments.server, store)
        writer, reader = server.client(), server.client()
        writer.ask("SET", "key", "1")
        large = ("SET", "large", bytes(40 << 20))
        text = refusal(writer, ("SET", "one", "1"), large, ("SET", "two", "1"), ("DEL", "key"))
        check(text == told, f"a full disk is told as: {text}")
        check(reader.ask("DBSIZE") == 1 and reader.ask("GET", "one") is None, "a half transaction is shown")
        os.unlink(ballast)
        check(writer.ask("SET", "again", "room") == b"OK", "it does not go on when there is room")
        server.kill()

        server = Server(arguments.server, store)
        writer, reader = server.client(), server.client()
        check(reader.ask("GET", "again") == b"room", "what came behind the half transaction is lost")
        check(reader.ask("DBSIZE") == 2 and reader.ask("GET", "key") == b"1", "half a transaction is replayed")
        check(writer.ask("BGSAVE") == b"Background saving started", "BGSAVE is refused")
        check(wait_for_save(reader) == "ok", "the snapshot failed")
        number = 1
        while (text := refusal(writer, ("SET", "key", b"%d " % (number + 1) + bytes(100000)))) == "it was accepted":
            number += 1
        check(text == told, f"a full disk is told as: {text}")
        check(reader.ask("GET", "key").split()[0] == b"%d" % number, "a refused change is shown")
        check(reader.ask("GET", "nothing") is None and reader.ask("DBSIZE") == 2, "reads do not go on")
        server.kill()

        client = Server(arguments.server, store).client()
        check(client.ask("GET", "key").split()[0] == b"%d" % number, "the last value that was accepted is lost")
        check(client.ask("DBSIZE") == 2, "other pairs than before")
        client.send("SHUTDOWN")
        print(f"{number} changes of 100 kB until the disk was full")


def read_only(arguments, directory):
    for setting in ("always", "everysec"):
        place = os.path.join(directory, setting)
        os.mkdir(place)
        read_only_with(setting, arguments, place)


def read_only_with(setting, arguments, directory):
    """With everysec no change waits for the disk: the descriptor of the queue tells that a flush has failed."""
    image = ext4_image(directory)
    with mounted(directory, "-o", "loop,errors=remount-ro", image) as place:
        server = Server(arguments.server, os.path.join(place, "store"))
        client = server.client()
        check(client.ask("SET", "key", "before") == b"OK", "a change is refused")
        client.ask("CONFIG", "SET", "appendfsync", setting)
        device = os.path.basename(os.path.realpath(subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", place], capture_output=True, text=True, check=True).stdout.strip()))
        try:
            with open(f"/sys/fs/ext4/{device}/trigger_fs_error", "w", encoding="ascii") as file:
                file.write("1")
        except OSError as error:
            raise Skip(f"the kernel cannot make a file system read-only: {error}") from None
        refusal(client, ("SET", "key", "after"))
        end = time.monotonic() + LIMIT_S
        while client.info()["log"] == "ok":
            check(time.monotonic() < end, f"{setting}: nothing tells that the log has failed")
            time.sleep(0.01)
        told = [refusal(client, words) for words in (("SET", "key", "after"), ("GET", "key"), ("INCR", "number"))]
        check(all("the log has failed" in text for text in told), f"a log that has failed is told as: {told}")
        check(client.ask("PING") == b"PONG", "the server does not go on")
        server.kill()
    os.rmdir(os.path.join(directory, "mounted"))
    with mounted(directory, "-o", "loop", image) as place:
        server = Server(arguments.server, os.path.join(place, "store"))
        check(server.client().ask("GET", "key") in (b"before", b"after"), "what was acknowledged is lost")
        server.shut_down()


def frozen(arguments, directory):
    need("fsfreeze")
    with mounted(directory, "-o", "loop", ext4_image(directory)) as place:
        server = Server(arguments.server, os.path.join(place, "store"))
        writer, held, later, reader = (server.client() for _ in range(4))
        writer.ask("SET", "old", "value")
        writer.ask("SET", "key", "before")
        reader.info()
        subprocess.run(["fsfreeze", "-f", place], check=True)
        try:
            writer.send("SET", "key", "after")
            slowest = 0
            for turn in range(400):
                if turn == 100:
                    held.send("GET", "key")
                if turn == 150:  # a change that waits for nothing does not pass one that waits for the disk
                    reader.ask("CONFIG", "SET", "appendfsync", "everysec")
                    later.send("SET", "later", "value")
                if turn == 200:
                    check(reader.ask("BGSAVE") == b"Background saving started", "BGSAVE is refused")
                began = time.monotonic()
                check(reader.ask("GET", "old") == b"value", "a read shows a wrong value")
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.001)
            check(writer.is_silent_for(0.2), "a change is acknowledged that no disk has")
            check(held.is_silent_for(0.2), "a read shows a change that no disk has")
            check(later.is_silent_for(0.2), "a change is acknowledged before an earlier one")
            longest = int(reader.info()["longest_turn_us"])
            for number in range(200):  # more than the buffers hold
                writer.send("SET", f"more{number}", bytes(50000))
            check(reader.ask("GET", "old") == b"value", "a read does not go on when the buffers are full")
        finally:
            subprocess.run(["fsfreeze", "-u", place], check=True)
        check(writer.reply() == b"OK" and held.reply() == b"after", "wrong replies after the thaw")
        check(later.reply() == b"OK" and reader.ask("GET", "later") == b"value", "a change of everysec is not shown")
        check([writer.reply() for _ in range(200)] == [b"OK"] * 200, "changes are lost in the thaw")
        check(wait_for_save(reader) == "ok", "the snapshot failed")
        server.shut_down()
        print(f"frozen: the slowest read took {slowest * 1000:.1f} ms, the longest turn of the loop {longest} us")
        check(slowest < 1, f"a read took {slowest} s, on a frozen disk")


# ---- a child that lives on ----

def ticks(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
        return sum(int(number) for number in file.read().rsplit(")", 1)[1].split()[11:13])


def stop_a_child(server, client):
    """Has the server save until one of its children is stopped in time; its process id."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        client.ask("BGSAVE")
        found = []
        while not found and client.info()["saving"] == "1":
            with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children", encoding="ascii") as file:
                found = file.read().split()
        if found and is_stopped(int(found[0])):
            return int(found[0])
        check(wait_for_save(client) == "ok", "the snapshot failed")
    raise Skip("the child is not seen before it ends")


def is_stopped(child_id):
    """Stops it; False if it has ended before that."""
    try:
        os.kill(child_id, signal.SIGSTOP)
        while True:
            with open(f"/proc/{child_id}/stat", encoding="ascii") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
            if state in "TZX":
                return state == "T"
            time.sleep(0.001)
    except (ProcessLookupError, FileNotFoundError):
        return False


def child(arguments, directory):
    """It has every connection of the server, and the set of descriptors that the loop waits for."""
    server = Server(arguments.server, os.path.join(directory, "store"))
    client, leaver = server.client(), server.client()
    client.ask("SET", "key", bytes(1 << 20))
    leaver.ask("PING")
    stopped = stop_a_child(server, client)
    leaver.close()
    client.ask("PING")
    before = ticks(server.process)
    time.sleep(0.5)
    used = ticks(server.process) - before
    os.kill(stopped, signal.SIGCONT)
    check(used < 20, f"the loop does not wait while a client is gone that a child has open: {used} ticks")
    check(wait_for_save(client) == "ok", "the snapshot failed")
    server.shut_down()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("case", choices=["talk", "kills", "cuts", "powercut", "full", "read-only", "frozen", "child"])
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--powercut")
    parser.add_argument("--lie", action="store_true")
    parser.add_argument("--written", action="store_true")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    arguments.server = os.path.abspath(arguments.server)
    run = {"talk": talk, "kills": kills, "cuts": cuts, "powercut": powercut, "full": full, "read-only": read_only,
           "frozen": frozen, "child": child}
    # Not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(prefix="server.", dir=os.environ.get("POWERCUT_DIR", os.getcwd())) as directory:
        try:
            if not has_loopback():
                raise Skip("there is no loopback to reach the server by")
            store = os.path.join(directory, "store")
            run[arguments.case](arguments, store if arguments.case in ("talk", "kills") else directory)
        except Skip as reason:
            print(f"SKIP server-{arguments.case}: {reason}")
            return 77
        except (Violation, Refused, ConnectionError, TimeoutError) as violation:
            print(f"server.py: {violation or type(violation).__name__}", file=sys.stderr)
            return 1
        finally:
            for server in Server.every:
                server.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
