#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""model.py TWINLOG [--schedules N] [--seed S] [--first N] [--keep]

Random commands on one log, against a model in memory: records, head, next LSN, cursors and values. Appends come in each
mode, on each path to the disk, and are killed; trims, truncations, resets, backups, repairs, archives and exports come
between them, and what each command prints is compared with what the model says.
"""
import argparse
import datetime
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

MODES = [[], [], [], ["--mapped"], ["--shared"], ["--buffered"], ["--pad"], ["--io", "dsync"], ["--io", "fdatasync"],
         ["--io", "uring"], ["--io", "uring-linked"]]


class Violation(Exception):
    pass


def framed(payloads):
    return b"".join(struct.pack("<I", len(payload)) + payload for payload in payloads)


def unframed(data):
    payloads = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        payloads.append(data[4:4 + size])
        data = data[4 + size:]
    return payloads


class Model:
    def __init__(self, twinlog, number, seed):
        self.twinlog = twinlog
        self.random = random.Random(f"{seed} {number}")
        self.steps = []
        self.log = "log"
        self.records = {}
        self.head, self.next = 1, 1
        self.everything = {}  # with those that this step has removed
        self.cursors, self.values = {}, {}
        self.is_mapped = False  # now, by a writer beside
        self.never_truncated = 1 << 62  # behind it, an archive may have what the log has no more

    # ---- commands ----

    def run(self, *arguments, data=b"", wanted=(0,)):
        done = subprocess.run([self.twinlog, *arguments], input=data, capture_output=True, timeout=120, check=False)
        self.steps.append(f"{done.returncode}: {' '.join(arguments)}")
        if done.returncode not in wanted:
            self.steps.append("     " + done.stderr.decode(errors="replace").strip())
            raise Violation(f"status {done.returncode} instead of {wanted[0]}")
        return done.stdout

    def same(self, what, got, wanted):
        if got == wanted:
            return
        if isinstance(got, list) and len(str(got)) > 300:
            at = next((i for i, (one, other) in enumerate(zip(got, wanted)) if one != other), None)
            at = min(len(got), len(wanted)) if at is None else at
            raise Violation(f"{what}: {len(got)} instead of {len(wanted)}, and number {at} differs")
        raise Violation(f"{what}: {str(got)[:200]} instead of {str(wanted)[:200]}")

    def lsns(self):
        return sorted(self.records)

    def any_lsn(self):
        return self.random.randint(max(1, self.head - 2), self.next + 1)

    def payloads(self, most):
        sizes = [0, 1, 100, 100, 1000, 5000, 12000]
        return [self.random.randbytes(self.random.choice(sizes)) for _ in range(self.random.randint(1, most))]

    # ---- what changes the log ----

    def append(self):
        mode = self.random.choice(MODES)
        payloads = self.payloads(40)
        command = ["append", self.log, "--framed", "--segment", "64K", "--print-lsn", "-q", *mode]
        out = self.run(*command, data=framed(payloads))
        self.same("LSNs", [int(line) for line in out.split()], list(range(self.next, self.next + len(payloads))))
        for payload in payloads:
            self.records[self.next] = payload
            self.next += 1

    def append_lines(self):
        """Records without lengths, and a log that removes its oldest by itself."""
        is_null = self.random.random() < 0.5
        payloads = [payload.replace(b"\0", b"0").replace(b"\n", b"1") for payload in self.payloads(40)]
        keep, option = self.random.choice([(self.random.randint(1, 100), "--keep-records"), (1, "--keep-bytes")])
        options = ["--null"] * is_null + [option, "100K" if option == "--keep-bytes" else str(keep)]
        data = b"".join(payload + (b"\0" if is_null else b"\n") for payload in payloads)
        out = self.run("append", self.log, "--segment", "64K", "--print-lsn", "-q", *options, data=data)
        self.same("LSNs", [int(line) for line in out.split()], list(range(self.next, self.next + len(payloads))))
        for payload in payloads:
            self.records[self.next] = payload
            self.next += 1
        self.cut_head_within(self.held(max(self.head, self.next - keep)))

    def cut_head_within(self, most):
        """A trim that is not for records has ended somewhere."""
        head = int(self.stat()["first_lsn"]) or self.next
        if head < self.head or head > max(self.head, most):
            raise Violation(f"the head is LSN {head}, it was {self.head}, the most is {most}, cursors {self.cursors}")
        self.cut_head(head)

    def append_and_kill(self):
        """What was acknowledged is there, and of the rest a part, in order."""
        mode = self.random.choice(MODES)
        payloads = self.payloads(200)
        command = [self.twinlog, "append", self.log, "--framed", "--segment", "64K", "--print-lsn", "-q", *mode]
        self.steps.append("killed: " + " ".join(command[1:]))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            pid = os.fork()
            if pid == 0:
                try:
                    writer.stdin.write(framed(payloads))
                    writer.stdin.flush()
                    os.read(os.open("/dev/zero", os.O_RDONLY), 1)
                except BrokenPipeError:
                    pass
                os._exit(0)
            acknowledged = []
            wanted = self.random.randint(0, len(payloads))
            while len(acknowledged) < wanted:
                line = writer.stdout.readline()
                if not line:
                    raise Violation("an append ended by itself")
                acknowledged.append(int(line))
            writer.kill()
            os.waitpid(pid, 0)
            acknowledged += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
            try:
                writer.stdin.close()
            except BrokenPipeError:
                pass
        self.same("LSNs", acknowledged, list(range(self.next, self.next + len(acknowledged))))
        # A new writer fixes the end, as no look of another process does in the shared mode.
        self.run("append", self.log, "-q", *[word for word in mode if word in ("--mapped", "--shared")])
        got = unframed(self.run("cat", self.log, "--framed", "--from", str(self.next)))
        if len(got) < len(acknowledged):
            raise Violation("acknowledged records are missing")
        self.same("what is there", got, payloads[:len(got)])
        for payload in got:
            self.records[self.next] = payload
            self.next += 1
        # What was claimed and not written has LSNs, too.
        self.next = int(self.stat()["last_lsn"]) + 1

    def beside(self):
        """Commands beside a writer that is not at its end."""
        mode = self.random.choice(MODES)
        self.is_mapped = mode in (["--mapped"], ["--shared"])
        command = [self.twinlog, "append", self.log, "--framed", "--segment", "64K", "--print-lsn", "-q", *mode]
        self.steps.append("begun: " + " ".join(command[1:]))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            for _ in range(self.random.randint(1, 4)):
                for payload in self.payloads(10):
                    writer.stdin.write(framed([payload]))
                    writer.stdin.flush()
                    self.same("LSN", writer.stdout.readline(), b"%d\n" % self.next)
                    self.records[self.next] = payload
                    self.next += 1
                self.random.choice([self.trim, self.keep_records, self.keep_bytes, self.set_cursor, self.set_value,
                                    self.backup_beside, self.look, self.look, self.look_by_time, self.consume])()
                self.check(self.log)
            writer.stdin.close()
            self.is_mapped = False
            if writer.wait() != 0:
                raise Violation(f"the writer ended with status {writer.returncode}")

    def append_shared(self):
        """Several processes at once, some of which are killed."""
        writers = []
        for _ in range(self.random.randint(2, 4)):
            payloads = self.payloads(60)
            command = [self.twinlog, "append", self.log, "--framed", "--segment", "64K", "--print-lsn", "-q",
                       "--shared", "--wait", "30s"]
            name = f"input{len(writers)}"
            with open(name, "wb") as file:
                file.write(framed(payloads))
            self.steps.append(f"{len(payloads)} records: " + " ".join(command[1:]))
            with open(name, "rb") as file:
                writer = subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            writers.append((writer, payloads, self.random.random() < 0.3))
            if self.random.random() < 0.5:
                time.sleep(self.random.random() * 0.01)
        for writer, _, is_killed in writers:
            if is_killed:
                time.sleep(self.random.random() * 0.01)
                writer.kill()
                self.steps.append("one was killed")
        acknowledged = {}
        for writer, payloads, is_killed in writers:
            out, err = writer.communicate(timeout=60)
            lsns = [int(line) for line in out.split(b"\n")[:-1]]
            if not is_killed and (writer.returncode != 0 or len(lsns) != len(payloads)):
                raise Violation(f"a shared writer ended with {writer.returncode}: {err.decode()}")
            if lsns != sorted(set(lsns)) or set(lsns) & set(acknowledged) or (lsns and lsns[0] < self.next):
                raise Violation(f"LSNs {lsns}")
            acknowledged.update(zip(lsns, payloads))
        self.run("append", self.log, "-q", "--shared")
        got = [(record["lsn"], record["data"]) for record in self.listed(self.next)]
        lists = [payloads for _, payloads, _ in writers]
        for lsn, payload in got:
            if acknowledged.get(lsn, payload) != payload:
                raise Violation(f"record {lsn} is not what was acknowledged")
            self.records[lsn] = payload
        if not set(acknowledged) <= set(lsn for lsn, _ in got):
            raise Violation("acknowledged records are missing")
        for payload in [payload for _, payload in got]:
            if not any(payload in one for one in lists):
                raise Violation("a record that nobody has appended")
        for _, payloads, is_killed in writers:
            wanted = sorted(payloads) if not is_killed else []
            have = sorted(payload for _, payload in got)
            for payload in set(wanted):
                if have.count(payload) < wanted.count(payload):
                    raise Violation("a record is missing")
        self.next = int(self.stat()["last_lsn"]) + 1

    def listed(self, first=1):
        command = ["cat", self.log, "--from", str(max(first, self.head))]
        lsns = [json.loads(line) for line in self.run(*command, "--json").splitlines()]
        payloads = unframed(self.run(*command, "--framed"))
        self.same("number of records", len(payloads), len(lsns))
        return [{"lsn": one["lsn"], "time": one["time"], "data": payload} for one, payload in zip(lsns, payloads)]

    def kill(self, *command):
        """Runs a command, and kills it at some time."""
        self.steps.append("killed: " + " ".join(command))
        with subprocess.Popen([self.twinlog, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
            time.sleep(self.random.random() * 0.02)
            one.kill()

    def trim_and_kill(self):
        lsn = self.any_lsn()
        self.kill("trim", self.log, "--before", str(lsn))
        self.cut_head_within(self.held(min(lsn, self.next)))

    def truncate_and_kill(self):
        lsn = self.random.randint(self.head - 1, self.next - 1)
        self.kill("trim", self.log, "--after", str(lsn))
        if self.next - 1 == lsn or int(self.stat()["last_lsn"]) == lsn:
            self.records = {at: payload for at, payload in self.records.items() if at <= lsn}
            self.next = lsn + 1
            self.cursors = {name: min(at, lsn) for name, at in self.cursors.items()}
        self.never_truncated = min(self.never_truncated, lsn)

    def backup_and_kill(self):
        """A backup is whole or refused; a repair may lack its end."""
        command = self.random.choice([["backup"], ["backup", "--copy"], ["repair"]])
        self.kill(command[0], self.log, "--output", "copy", *command[1:])
        if os.path.isdir("copy") and [name for name in os.listdir("copy") if name.endswith(".twl")]:
            done = subprocess.run([self.twinlog, "verify", "copy"], capture_output=True, check=False)
            self.steps.append(f"{done.returncode}: verify copy")
            if done.returncode == 0 and command[0] == "backup":
                self.check("copy")
            elif done.returncode == 0:
                got = unframed(self.run("cat", "copy", "--framed"))
                self.same("part of a repair", got, [self.records[lsn] for lsn in self.lsns()][:len(got)])
        for name in os.listdir("."):
            if name.startswith("copy"):
                shutil.rmtree(name)

    def restore_damaged(self):
        """A dry run and a run agree, and no file may be missing, or another one."""
        shutil.rmtree("kept", ignore_errors=True)
        shutil.rmtree(os.path.join(self.log, "archive"), ignore_errors=True)
        os.mkdir("kept")
        self.run("archive", self.log, "--command", "cp %p kept/%f")
        self.run("cursors", self.log, "--remove", "archive")
        self.cursors = {cursor["name"]: cursor["lsn"] for cursor in self.stat()["cursors"]}
        files = sorted(name for name in os.listdir("kept") if name.endswith(".twl"))
        if not files:
            return
        jobs = str(self.random.choice([1, 2, 4, 64]))
        command = ["restore", "copy", "--command", "cp kept/%f %p 2>/dev/null", "--jobs", jobs]
        whole = self.run(*command, "--dry-run", "--json", wanted=(0, 3))
        if not whole and self.steps[-1].startswith("3:"):  # refused: its segments have no records that count
            return
        if os.path.exists("copy") or os.path.exists("copy.restoring"):
            raise Violation("a dry run has left something")
        one, other = self.random.choice(files), self.random.choice(files)
        what = self.random.choice(["remove", "swap", "flip", "short"])
        path = os.path.join("kept", one)
        size = os.path.getsize(path)
        if what == "remove":
            os.remove(path)
        elif what == "swap" and one != other:
            shutil.copy(os.path.join("kept", other), path)
        elif what == "flip":
            with open(path, "r+b") as file:
                at = self.random.randrange(size)
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << self.random.randrange(8)]))
        elif what == "short":
            os.truncate(path, self.random.randrange(size))
        self.steps.append(f"archive: {what} {one} {other}")
        wanted = (0,) if what == "swap" and one == other else (0, 1, 3) if what in ("flip", "short") else (3,)
        dry = self.run(*command, "--dry-run", "--json", wanted=wanted)
        if os.path.exists("copy") or os.path.exists("copy.restoring"):
            raise Violation("a dry run has left something")
        now = self.run(*command, "--json", wanted=wanted)
        self.same("dry run and run", dry, now)
        if os.path.exists("copy"):
            self.same("what is restored", now, whole)
            self.run("verify", "copy")
            got = unframed(self.run("cat", "copy", "--framed", "--from", str(self.head)))
            last = min(int(self.stat("copy")["last_lsn"]), self.never_truncated)
            self.same("restored", got[:len([lsn for lsn in self.lsns() if lsn <= last])],
                      [self.records[lsn] for lsn in self.lsns() if lsn <= last])
            shutil.rmtree("copy")

    def metrics(self):
        if self.is_mapped:
            return
        listed = self.listed(self.head)
        before = time.time()
        text = self.run("stat", self.log, "--prometheus").decode()
        after = time.time()
        got = dict(re.findall(r'^(\w+)\{dir="log"(?:,le="[^"]*")?\} (\S+)$', text, re.M))
        if self.records:
            self.same("metric of the head", int(got["twinlog_first_lsn"]), self.lsns()[0])
            at = datetime.datetime.fromisoformat(listed[-1]["time"][:26] + "+00:00").timestamp()
            if abs(float(got["twinlog_newest_record_timestamp_seconds"]) - at) > 0.002:
                raise Violation("time of the newest record")
        self.same("metric of the end", int(got["twinlog_last_lsn"]), self.next - 1)
        found = re.findall(r'^twinlog_cursor_(\w+)\{dir="log",cursor="(\w+)"\} (\S+)$', text, re.M)
        values = {(what, name): float(value) for what, name, value in found}
        for name, at in self.cursors.items():
            self.same("metric of a cursor", int(values["lsn", name]), at)
            self.same("lag", int(values["lag_records", name]), self.next - 1 - max(at, self.head - 1))
            behind = next((record for record in listed if record["lsn"] > at), None)
            if behind is None:
                continue
            age = datetime.datetime.fromisoformat(behind["time"][:26] + "+00:00").timestamp()
            if not before - age - 0.01 <= values["lag_seconds", name] <= after - age + 0.01:
                raise Violation(f"lag of {name}: {values['lag_seconds', name]} instead of {after - age}")

    def follow(self):
        """Followers that started before a writer, and during it, print the records in order, and all of them."""
        mode = self.random.choice(MODES)
        self.is_mapped = mode in (["--mapped"], ["--shared"])
        keeps = ["--keep-records", str(self.random.randint(1, 300))] if self.random.random() < 0.3 else []
        followers = []

        def start():
            first = self.random.choice([self.head, self.next, max(self.head, self.next - 5)])
            options = self.random.choice([[], ["--mmap"]])
            command = [self.twinlog, "cat", self.log, "-f", "--framed", "--from", str(first), *options]
            self.steps.append("begun: " + " ".join(command[1:]))
            name = f"followed{len(followers)}"
            with open(name, "wb") as file:
                followers.append((subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE), first, name))

        for _ in range(self.random.randint(1, 2)):
            start()
        command = [self.twinlog, "append", self.log, "--framed", "--segment", "64K", "--print-lsn", "-q", *mode, *keeps]
        self.steps.append("begun: " + " ".join(command[1:]))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            for _ in range(self.random.randint(1, 12)):
                for payload in self.payloads(10):
                    writer.stdin.write(framed([payload]))
                    writer.stdin.flush()
                    self.same("LSN", writer.stdout.readline(), b"%d\n" % self.next)
                    self.records[self.next] = payload
                    self.next += 1
                if self.random.random() < 0.3 and len(followers) < 5:
                    start()
                if self.random.random() < 0.2:
                    self.random.choice([self.look, self.trim])()
                if keeps:
                    self.cut_head_within(self.held(self.next))
            if self.random.random() < 0.3 and not self.is_mapped:
                writer.kill()
            else:
                writer.stdin.close()
                if writer.wait() != 0:
                    raise Violation(f"the writer ended with status {writer.returncode}")
        self.is_mapped = False
        if keeps:
            self.cut_head_within(self.held(self.next))
        everything = self.everything | self.records
        for follower, first, name in followers:
            wanted = [everything[lsn] for lsn in range(first, self.next) if lsn in everything]
            data = framed(wanted)
            for _ in range(500):
                if os.path.getsize(name) >= len(data) or follower.poll() is not None:
                    break
                time.sleep(0.01)
            follower.terminate()
            err = follower.communicate()[1].decode()
            with open(name, "rb") as file:
                got = file.read()
            is_behind = b"removed" in err.encode()
            if got != data and not (is_behind and data.startswith(got)):
                self.steps.append(err)
                raise Violation(f"a follower from {first} has {len(got)} bytes of {len(data)}, the same is "
                                f"{len(os.path.commonprefix([got, data]))}, status {follower.returncode}")
            if follower.returncode != 0 and not is_behind and follower.returncode != -15:
                raise Violation(f"a follower ended with {follower.returncode}: {err}")

    def backup_beside(self):
        """What is durable: in the mapped and the shared mode that is a part."""
        self.run("backup", self.log, "--output", "copy")
        self.run("verify", "copy")
        got = unframed(self.run("cat", "copy", "--framed"))
        wanted = [self.records[lsn] for lsn in self.lsns()]
        self.same("a backup beside the writer", got, wanted[:len(got)])
        if len(got) < len(wanted) and not self.is_mapped:
            raise Violation("a backup lacks durable records")
        shutil.rmtree("copy")

    def held(self, head):
        return min([head] + [lsn + 1 for lsn in self.cursors.values()])

    def cut_head(self, head):
        """In the mapped and the shared mode a trim ends at what is durable."""
        if self.is_mapped:
            now = int(self.stat()["first_lsn"]) or self.next
            if now > max(self.head, head):
                raise Violation(f"the head is LSN {now}, and should be {head} at most")
            head = now
        self.head = max(self.head, head)
        self.everything.update(self.records)
        self.records = {lsn: payload for lsn, payload in self.records.items() if lsn >= self.head}

    def trim(self):
        lsn = self.any_lsn()
        head = min(lsn, self.next)
        options = ["--past-cursors"] if self.random.random() < 0.2 else []
        self.run("trim", self.log, "--before", str(lsn), *options)
        if options:
            self.cut_head(head)
            self.cursors = {name: max(at, self.head - 1) for name, at in self.cursors.items()}
        else:
            self.cut_head(self.held(head))

    def keep_records(self):
        keep = self.random.randint(1, 60)
        self.run("trim", self.log, "--keep-records", str(keep))
        self.cut_head(self.held(max(1, self.next - keep)))

    def keep_bytes(self):
        self.run("trim", self.log, "--keep-bytes", "100K")
        self.cut_head_within(self.held(self.next))

    def truncate(self):
        lsn = self.random.randint(self.head - 1, self.next - 1)
        self.run("trim", self.log, "--after", str(lsn))
        self.records = {at: payload for at, payload in self.records.items() if at <= lsn}
        self.next = lsn + 1
        self.never_truncated = min(self.never_truncated, lsn)
        self.cursors = {name: min(at, lsn) for name, at in self.cursors.items()}

    def reset(self):
        lsn = max(1, self.next + self.random.randint(-30, 30))
        self.run("reset", self.log, "--next", str(lsn), "--force")
        self.records = {}
        self.head = self.next = lsn
        self.never_truncated = 0
        self.cursors = {name: lsn - 1 for name in self.cursors}

    def set_cursor(self):
        name = self.random.choice(["one", "two"])
        if name in self.cursors and self.random.random() < 0.4:
            self.run("cursors", self.log, "--remove", name)
            del self.cursors[name]
            return
        lsn = self.random.randint(self.head - 1, self.next - 1)
        self.run("cursors", self.log, "--set", f"{name}={lsn}")
        self.cursors[name] = lsn

    def set_value(self):
        name = self.random.choice(["a", "b", "c"])
        if name in self.values and self.random.random() < 0.3:
            self.run("meta", self.log, "--remove", name)
            del self.values[name]
            return
        value = self.random.randbytes(self.random.choice([0, 10, 4096]))
        self.run("meta", self.log, "--set", name, data=value)
        self.values[name] = value

    # ---- copies ----

    def goes_on_as(self, other):
        """The copy takes the log's place, or is removed."""
        self.check(other)
        if self.random.random() < 0.5:
            shutil.rmtree(self.log)
            os.rename(other, self.log)
        else:
            shutil.rmtree(other)

    def backup(self):
        options = ["--copy"] if self.random.random() < 0.3 else []
        self.run("backup", self.log, "--output", "copy", *options)
        self.goes_on_as("copy")

    def repair(self):
        self.run("repair", self.log, "--output", "copy")
        self.goes_on_as("copy")

    def archive(self):
        """From its beginning: what is sealed, from the oldest segment that is left."""
        shutil.rmtree("kept", ignore_errors=True)
        shutil.rmtree(os.path.join(self.log, "archive"), ignore_errors=True)
        os.mkdir("kept")
        self.run("archive", self.log, "--command", "cp %p kept/%f")
        self.cursors = {cursor["name"]: cursor["lsn"] for cursor in self.stat()["cursors"]}
        if not [name for name in os.listdir("kept") if name.endswith(".twl")]:
            return
        self.run("restore", "copy", "--command", "cp kept/%f %p 2>/dev/null")
        self.run("verify", "copy")
        got = unframed(self.run("cat", "copy", "--framed", "--from", str(self.head)))
        last = min(int(self.stat("copy")["last_lsn"]), self.never_truncated)
        wanted = [self.records[lsn] for lsn in self.lsns() if lsn <= last]
        self.same("what was archived", got[:len(wanted)], wanted)
        shutil.rmtree("copy")
        self.run("cursors", self.log, "--remove", "archive")
        self.cursors.pop("archive", None)

    def export(self):
        if not self.records or len(self.records) != self.next - self.head:
            return
        data = self.run("cat", self.log, "--export")
        self.run("append", "copy", "--import", "-q", data=data)
        self.run("meta", "copy", "--remove", "import")  # where its records came from
        cursors, values, self.cursors, self.values = self.cursors, self.values, {}, {}
        self.check("copy")
        self.cursors, self.values = cursors, values
        shutil.rmtree("copy")

    # ---- looks ----

    def stat(self, directory=None):
        return json.loads(self.run("stat", directory or self.log, "--json"))

    def look(self):
        first, last = sorted([self.any_lsn(), self.any_lsn()])
        within = [self.records[lsn] for lsn in self.lsns() if first <= lsn <= last]
        options = [["--mmap"], []][self.random.randrange(2)]
        command = ["cat", self.log, "--framed", "--from", str(first), "--to", str(last), *options]
        if first < self.head:  # told, and nothing is printed
            self.same("records behind a head", self.run(*command, wanted=(1,)), b"")
        else:
            self.same(f"cat {first} to {last}", unframed(self.run(*command)), within)
            if self.random.random() < 0.5:
                self.same(f"cat {first} to {last} backwards", unframed(self.run(*command, "-r")), within[::-1])
        count = self.random.randint(1, 20)
        got = unframed(self.run("cat", self.log, "--framed", "-n", str(count), *options))
        self.same(f"the last {count}", got, [self.records[lsn] for lsn in self.lsns()[-count:]])

    def look_by_time(self):
        listed = [json.loads(line) for line in self.run("cat", self.log, "--json").splitlines()]
        if not listed:
            return
        time = self.random.choice(listed)["time"]
        first = next(record["lsn"] for record in listed if record["time"] >= time)
        got = unframed(self.run("cat", self.log, "--framed", "--since", time))
        self.same(f"since {time}", got, [self.records[lsn] for lsn in self.lsns() if lsn >= first])
        got = unframed(self.run("cat", self.log, "--framed", "--until", time))
        self.same(f"until {time}", got, [self.records[lsn] for lsn in self.lsns() if lsn < first])

    def consume(self):
        name = self.random.choice(["one", "two"])
        at = self.cursors.get(name, self.head - 1)
        count = self.random.choice([1, 10, None])
        options = [] if count is None else ["--to", str(at + count)]
        wanted = [lsn for lsn in self.lsns() if lsn > at and (count is None or lsn <= at + count)]
        got = unframed(self.run("cat", self.log, "--framed", "--cursor", name, *options))
        self.same(f"from cursor {name}", got, [self.records[lsn] for lsn in wanted])
        now = {cursor["name"]: cursor["lsn"] for cursor in self.stat()["cursors"]}
        moved = now.get(name)
        if moved is None or moved < max([at] + wanted):
            if wanted:
                raise Violation(f"cursor {name} is at {moved} behind {wanted[-1]}")
        if moved is not None:
            self.cursors[name] = moved

    def check(self, directory):
        self.run("verify", directory)
        stat = self.stat(directory)
        got = unframed(self.run("cat", directory, "--framed"))
        self.same("all records", got, [self.records[lsn] for lsn in self.lsns()])
        if self.records:
            self.same("head", stat["first_lsn"], self.lsns()[0])
        self.same("end", stat["last_lsn"], self.next - 1)
        self.same("cursors", {cursor["name"]: cursor["lsn"] for cursor in stat["cursors"]}, self.cursors)
        self.same("values", sorted(value["name"] for value in stat["values"]), sorted(self.values))
        for name, value in self.values.items():
            self.same(f"value {name}", self.run("meta", directory, "--get", name), value)

    def go(self):
        self.append()
        steps = [self.append] * 5 + [
            self.append_and_kill, self.append_and_kill, self.append_lines, self.append_shared, self.append_shared,
            self.beside, self.beside, self.follow, self.follow, self.trim, self.trim, self.trim_and_kill,
            self.keep_records, self.keep_bytes, self.truncate, self.truncate_and_kill, self.reset, self.set_cursor,
            self.set_cursor, self.set_value, self.backup, self.backup_and_kill, self.repair, self.archive,
            self.restore_damaged, self.export, self.look, self.look, self.look_by_time, self.consume, self.consume,
            self.metrics, self.metrics]
        for _ in range(self.random.randint(10, 25)):
            self.everything = {}
            self.random.choice(steps)()
            self.check(self.log)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twinlog")
    parser.add_argument("--schedules", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first schedule")
    parser.add_argument("--keep", action="store_true", help="leave the files of a schedule that failed")
    given = parser.parse_args()
    twinlog = os.path.realpath(given.twinlog)
    place = tempfile.mkdtemp(prefix="model.", dir=os.getcwd())
    failed = steps = 0
    for number in range(given.first, given.first + given.schedules):
        directory = os.path.join(place, str(number))
        os.mkdir(directory)
        os.chdir(directory)
        model = Model(twinlog, number, given.seed)
        try:
            model.go()
        except Violation as violation:
            failed += 1
            print(f"FAILED: schedule {number}, seed {given.seed}: {violation}")
            print("\n".join("  " + step for step in model.steps[-25:]), flush=True)
            if given.keep:
                continue
        finally:
            os.chdir(place)
        steps += len(model.steps)
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{given.schedules} schedules, {steps} commands, {failed} failed")
    if not (given.keep and failed):
        shutil.rmtree(place, ignore_errors=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
