#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""histories.py TWINLOG [--schedules N] [--seed S] [--way WAY] [--keep]

Two histories of one log, and everything that leaves the machine. Each schedule writes a log, and feeds a standby, an
archive, a stream (where nats-server is installed) and backups from it, while the log's history is changed in one way:

  truncate   records are removed from the end          reset      the log begins anew, also under used LSNs
  backup     an older backup goes on in its place      snapshot   the machine is set back: a copy of the whole directory
  cut        mapped, and its unsynced end is lost      restored   a log out of the archive goes on in its place
  repaired   it was damaged, and what repair has kept goes on in its place

In every other schedule the records are events: one of a LSN has the same bytes and the same time in each history, and
only a few differ, so a record that is equal shows nothing. In the others no two histories have an equal record. Standbys
begin as backups, at any time. The oracle is the list of all states that the history ever had, with what was
trimmed: whatever a log holds that verify calls sound is part of one of them. And where the histories are the same,
nothing is refused (of events, as long as there is one history).
"""
import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

WAYS = ["truncate", "reset", "backup", "snapshot", "cut", "restored", "repaired"]
BLOCK = 4096

# What docs/replicas.md says, and one that writes over whatever has the name.
CAREFUL = (
    "cmp -s %p kept/%f || {{ case %f in *.manifest) ;; *) test ! -e kept/%f;; esac &&"
    " cp %p kept/%f.new && mv kept/%f.new kept/%f; }}"
).replace("{{", "{").replace("}}", "}")
CARELESS = "cp %p kept/%f"
FETCH = "cp kept/%f %p 2>/dev/null"


class Violation(Exception):
    pass


class Server:
    """A nats-server of one's own, or none."""

    def __init__(self, place):
        self.process = None
        self.url = None
        program = shutil.which("nats-server", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if not program:
            return
        log = os.path.join(place, "server.log")
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [program, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", os.path.join(place, "jetstream")],
                stdout=out, stderr=out)
        for _ in range(1000):
            text = open(log, encoding="utf-8", errors="replace").read()
            port = re.search(r"client connections on 127\.0\.0\.1:(\d+)", text)
            if port and "Server is ready" in text:
                self.url = "nats://127.0.0.1:" + port.group(1)
                return
            time.sleep(0.02)
        raise SystemExit("nats-server does not start:\n" + text)

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()


class Schedule:
    def __init__(self, twinlog, way, number, seed, url):
        self.twinlog = twinlog
        self.way = way
        self.random = random.Random(f"{seed} {way} {number}")
        self.subject = f"{url}/{way}{number}" if url and self.random.random() < 0.5 else None
        self.keep = CARELESS if self.random.random() < 0.3 else CAREFUL
        self.steps = []
        self.written = 0
        self.now = {}  # LSN -> record: what the log has
        self.line = {}  # the same, with what was trimmed
        self.next_lsn = 1
        self.states = [{}]
        self.changes = 0  # of history
        self.standby_is_of = 0  # so many changes had been when it was made
        self.refusals = 0
        self.streams = 0
        self.ends = []  # where the log ended when something was fed
        self.has_events = number != "of the oracle" and number % 2 == 1
        os.mkdir("kept")

    # ---- commands ----

    def run(self, *arguments, text=None):
        command = [self.twinlog, *arguments]
        done = subprocess.run(command, input=text, capture_output=True, timeout=120, check=False)
        self.steps.append(f"{done.returncode}: {' '.join(arguments)}")
        if done.returncode not in (0, 1, 3):
            self.fail(f"status {done.returncode}: {done.stderr.decode(errors='replace')}")
        if done.returncode != 0:
            self.steps.append("     " + done.stderr.decode(errors="replace").strip().replace("\n", "\n     "))
            if not (done.stderr + done.stdout).strip():
                self.fail("an error without a word")
        return done

    def must(self, *arguments, text=None):
        done = self.run(*arguments, text=text)
        if done.returncode != 0:
            self.fail("this should have been done")
        return done.stdout

    def fail(self, why):
        raise Violation(why)

    def records(self, directory):
        out = self.must("cat", directory, "--json")
        read = [json.loads(line) for line in out.decode().splitlines()]
        return {record["lsn"]: record["data"] for record in read}

    # ---- the oracle ----

    def note(self):
        """The history has this state now."""
        self.line = {lsn: record for lsn, record in self.line.items() if lsn < self.next_lsn} | self.now
        self.states.append(dict(self.line))

    def check_one_history(self, directory):
        """What the log in this directory has, which must be part of one state. Returns it."""
        has = self.records(directory)
        self.must("verify", directory)
        for state in self.states:
            if has.items() <= state.items():
                return has
        best = max(self.states, key=lambda state: len(has.items() & state.items()))
        other = sorted((lsn, record[:40].strip()) for lsn, record in has.items() - best.items())[:3]
        self.fail(f"'{directory}' has records of two histories, and is sound: {other}")

    def pick(self, low, high):
        """A LSN, rather one where something ends."""
        ends = [end + by for end in self.ends for by in (-1, 0, 1) if low <= end + by <= high]
        return self.random.choice(ends) if ends and self.random.random() < 0.7 else self.random.randint(low, high)

    # ---- what happens to the log ----

    def append_events(self):
        """One of the records says which history it is, or none."""
        count = self.random.randint(1, 60)
        other = self.random.randint(self.next_lsn, self.next_lsn + 2 * count)
        out = ["twinlog export 1\n"]
        for lsn in range(self.next_lsn, self.next_lsn + count):
            text = f"event {lsn} ".ljust(10 + lsn * 7 % 900, "x")
            if lsn == other:
                self.written += 1
                text = f"event {lsn} of change {self.changes} record {self.written}"
            out.append(f"{lsn} {1000000 + lsn} 0 0 {len(text)}\n{text}\n")
            self.now[lsn] = text
        self.next_lsn += count
        out.append("end\n")
        self.must("append", "journal", "--segment", "64K", "-q", "--import", "--renumber", text="".join(out).encode())
        self.note()

    def append(self):
        if self.has_events:
            return self.append_events()
        count = self.random.randint(1, 60)
        lines = []
        for _ in range(count):
            self.written += 1
            size = self.random.choice([10, 200, 3000])
            line = f"{self.way} change {self.changes} record {self.written} ".ljust(size, "x")
            lines.append(line)
            self.now[self.next_lsn] = line
            self.next_lsn += 1
        self.must("append", "journal", "--segment", "64K", "-q", text="".join(s + "\n" for s in lines).encode())
        self.note()

    def trim(self):
        if not self.now:
            return
        lsn = self.pick(min(self.now), max(self.now))
        past = ["--past-cursors"] if self.random.random() < 0.5 else []
        self.must("trim", "journal", "--before", str(lsn), *past)
        head = int(json.loads(self.must("stat", "journal", "--json"))["first_lsn"])
        self.now = {lsn: record for lsn, record in self.now.items() if lsn >= head}
        self.note()

    def goes_on_as(self, directory, exact, line=None):
        """Another directory takes the log's place."""
        has = self.check_one_history(directory)
        if exact is not None and has != exact:
            self.fail(f"'{directory}' lacks records")
        shutil.rmtree("journal")
        os.rename(directory, "journal")
        self.now = has
        stat = json.loads(self.must("stat", "journal", "--json"))
        self.next_lsn = int(stat["last_lsn"]) + 1
        self.line = line if line is not None else self.line_of(has)
        self.changes += 1
        self.note()

    def line_of(self, has):
        """The newest state of a history that has these records."""
        return next(dict(state) for state in reversed(self.states) if has.items() <= state.items())

    def save(self):
        """For backup and snapshot: the older copy."""
        shutil.rmtree("saved", ignore_errors=True)
        if self.way == "backup":
            self.must("backup", "journal", "--output", "saved")
        else:
            shutil.copytree("journal", "saved")
        self.saved, self.saved_line = dict(self.now), dict(self.line)

    def change(self):
        getattr(self, "change_by_" + self.way)()

    def change_by_truncate(self):
        first = min(self.now, default=self.next_lsn)
        lsn = self.pick(first - 1, self.next_lsn - 1)
        self.must("trim", "journal", "--after", str(lsn))
        self.now = {at: record for at, record in self.now.items() if at <= lsn}
        self.next_lsn = lsn + 1
        self.changes += 1
        self.note()

    def change_by_reset(self):
        self.next_lsn = max(1, self.next_lsn + self.random.randint(-80, 20))
        self.must("reset", "journal", "--next", str(self.next_lsn), "--force")
        self.now = {}
        self.changes += 1
        self.note()

    def change_by_backup(self):
        if not os.path.isdir("saved"):
            return self.save()
        shutil.copytree("saved", "copy")
        return self.goes_on_as("copy", self.saved, dict(self.saved_line))

    change_by_snapshot = change_by_backup

    def change_by_restored(self):
        shutil.rmtree("restored", ignore_errors=True)
        self.run("archive", "journal", "--command", self.keep)
        if self.run("restore", "restored", "--command", FETCH).returncode == 0:
            self.goes_on_as("restored", None)

    def change_by_repaired(self):
        files = sorted(name for name in os.listdir("journal") if name.endswith(".twl"))
        if not self.now or not files:
            return
        shutil.copytree("journal", "damaged")
        for _ in range(self.random.randint(1, 2)):
            path = os.path.join("damaged", self.random.choice(files))
            with open(path, "r+b") as file:
                at = self.random.randrange(min(os.path.getsize(path), 64 << 10))
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << self.random.randrange(8)]))
        whole = dict(self.now)
        status = self.run("repair", "damaged", "--output", "repaired").returncode
        shutil.rmtree("damaged")
        if status == 1:
            self.fail("repair has failed")
        has = self.records("repaired")
        if not has.items() <= whole.items():
            self.fail("repair has brought back what was not in the log")
        if status == 0 and has != whole:
            self.fail("repair has lost records, and says that it has lost nothing")
        self.goes_on_as("repaired", None, self.line)  # what it lost in the middle, a standby may have

    def change_by_cut(self):
        """Appends through a mapping, and loses blocks that were not synced, as a power cut does."""
        writer = subprocess.Popen([self.twinlog, "append", "journal", "--mapped", "-q"], stdin=subprocess.PIPE)
        lines = []
        for _ in range(self.random.randint(1, 40)):
            self.written += 1
            lines.append(f"cut change {self.changes} record {self.written} ".ljust(700, "y"))
        writer.stdin.write("".join(line + "\n" for line in lines).encode())
        writer.stdin.flush()
        last = self.next_lsn - 1 + len(lines)
        for _ in range(2000):
            done = subprocess.run([self.twinlog, "stat", "journal", "--json"], capture_output=True, check=False)
            if done.returncode == 0 and int(json.loads(done.stdout)["last_lsn"]) >= last:
                break
            time.sleep(0.005)
        before = dict(self.now)
        for line in lines:
            self.now[self.next_lsn] = line
            self.next_lsn += 1
        self.note()
        self.feed_standby()  # exports what is durable, and nothing else
        self.feed_stream()
        writer.kill()
        writer.wait()
        self.lose_blocks(lines)
        self.now = self.records("journal")
        self.next_lsn = max(self.now, default=0) + 1
        if not before.items() <= self.now.items():
            self.fail("a cut has taken what was durable")
        self.must("append", "journal", "-q", text=b"")
        self.next_lsn = int(json.loads(self.must("stat", "journal", "--json"))["last_lsn"]) + 1
        self.changes += 1
        self.note()

    def lose_blocks(self, lines):
        first = lines[self.random.randrange(len(lines))].encode()
        for name in os.listdir("journal"):
            if not name.endswith(".twl"):
                continue
            path = os.path.join("journal", name)
            with open(path, "r+b") as file:
                at = file.read().find(first)
                if at >= 0:
                    begin = (at + BLOCK - 1) // BLOCK * BLOCK
                    file.seek(begin)
                    file.write(bytes(max(0, os.path.getsize(path) - begin)))

    # ---- what leaves the machine ----

    def is_of_this_history(self, has):
        """And reaches the log: an import behind its last record has something to compare."""
        if self.has_events and self.changes > 0:
            return False  # what is equal may be another history's
        if self.way in ("restored", "repaired") and self.standby_is_of != self.changes:
            return False  # what is restored has an identity of its own: nothing proves where its records are from
        return bool(has) and max(has) in self.now and has.items() <= self.line.items()

    def has_gap(self, first):
        lsns = [lsn for lsn in self.now if lsn >= first]
        return bool(lsns) and len(lsns) != max(lsns) - min(lsns) + 1

    def feed_standby(self):
        if not os.path.isdir("standby"):
            if self.now:
                self.must("backup", "journal", "--output", "standby")
                self.standby_is_of = self.changes
                self.ends.append(self.next_lsn - 1)
                self.check_one_history("standby")
            return
        self.ends.append(self.next_lsn - 1)
        if self.random.random() < 0.1:
            shutil.rmtree("standby")
            return self.feed_standby()
        has = self.check_one_history("standby")
        last = max(has, default=0)
        first = last if self.random.random() < 0.6 else self.random.randint(max(1, last - 70), last + 2)
        options = ["--rewind"] if self.random.random() < 0.4 else []
        begin = ["--from", str(first)] if self.random.random() < 0.8 else []
        export = self.run("cat", "journal", *begin, "--export")
        done = self.run("append", "standby", "--import", "-q", *options, text=export.stdout)
        after = self.check_one_history("standby")
        if done.returncode != 0:
            self.refusals += 1
            if self.is_of_this_history(has) and first == last and not self.has_gap(first) and export.returncode == 0:
                self.fail("a standby of the same history was refused")
            if not options and not has.items() <= after.items():
                self.fail("an import without --rewind has removed records")

    def feed_archive(self):
        archived = self.run("archive", "journal", "--command", self.keep)
        status = archived.returncode
        if status != 0:
            self.refusals += 1
            if self.changes == 0 and b"were removed before" not in archived.stderr:
                self.fail("an archive of one history was refused")
        self.restore(status)

    def restore(self, archived):
        shutil.rmtree("restored", ignore_errors=True)
        options = []
        listed = self.run("restore", "restored", "--command", FETCH, "--list", "--json")
        if listed.returncode == 0 and self.random.random() < 0.3:
            numbers = [int(n) for n in re.findall(rb'"history":(\d+)', listed.stdout)]
            options = ["--history", str(self.random.choice(numbers))] if numbers else []
        done = self.run("restore", "restored", "--command", FETCH, *options)
        if done.returncode == 0:
            self.check_one_history("restored")
        elif os.path.exists("restored"):
            self.fail("a restore that failed has left a log")
        elif self.changes == 0 and archived == 0 and listed.returncode == 0:
            self.fail("an archive of one history was not restored")

    def feed_stream(self):
        if not self.subject or not self.now:
            return
        self.ends.append(self.next_lsn - 1)
        if self.random.random() < 0.15:
            self.streams += 1
        subject, cursor = f"{self.subject}-{self.streams}", f"ship{self.streams}"
        shipped = self.run("ship", "journal", subject, "--once", "-q", "--cursor", cursor)
        if shipped.returncode != 0:
            self.refusals += 1
            if self.changes == 0 and not re.search(rb"trimmed|removed", shipped.stderr):
                self.fail("a stream of one history was refused")
        if self.random.random() < 0.3:
            shutil.rmtree("received", ignore_errors=True)
        self.run("receive", subject, "received", "--once", "-q")
        if os.path.isdir("received"):
            self.check_one_history("received")

    # ---- a schedule ----

    def go(self):
        for _ in range(self.random.randint(1, 4)):
            self.append()
        if self.random.random() < 0.3:
            self.trim()
        if self.way in ("backup", "snapshot"):
            self.save()
        for _ in range(self.random.randint(6, 12)):
            step = self.random.choice(
                [self.append] * 4 + [self.feed_standby] * 3 + [self.feed_archive] * 2 + [self.feed_stream] * 2 +
                [self.change] * 3 + [self.trim])
            step()
            if self.way in ("backup", "snapshot") and self.random.random() < 0.1:
                self.save()
        self.append()
        self.feed_standby()
        self.feed_archive()
        self.feed_stream()
        if self.check_one_history("journal") != self.now:
            self.fail("the log has lost records")


def try_the_oracle(twinlog, url):
    """It must find a mixture: records of another history, appended as if they were new ones."""
    schedule = Schedule(twinlog, "truncate", "of the oracle", 0, url)
    schedule.append()
    schedule.must("backup", "journal", "--output", "standby")
    last = schedule.next_lsn - 1
    schedule.append()
    schedule.must("trim", "journal", "--after", str(last - 1))
    schedule.now = {lsn: record for lsn, record in schedule.now.items() if lsn < last}
    schedule.next_lsn = last
    schedule.note()
    schedule.append()
    schedule.append()
    export = schedule.must("cat", "journal", "--from", str(last + 1), "--export")
    schedule.must("append", "standby", "--import", "--renumber", "-q", text=export)
    try:
        schedule.check_one_history("standby")
    except Violation:
        return
    raise SystemExit("FAILED: the oracle does not see two histories in one log")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twinlog")
    parser.add_argument("--schedules", type=int, default=100, help="of each way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first schedule")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--keep", action="store_true", help="leave the files of a schedule that failed")
    given = parser.parse_args()
    twinlog = os.path.realpath(given.twinlog)
    place = tempfile.mkdtemp(prefix="histories.", dir=os.getcwd())
    server = Server(place)
    failed = 0
    try:
        os.chdir(place)
        try_the_oracle(twinlog, server.url)
        for way in [given.way] if given.way else WAYS:
            changes = refusals = 0
            for number in range(given.first, given.first + given.schedules):
                directory = os.path.join(place, f"{way}{number}")
                os.mkdir(directory)
                os.chdir(directory)
                schedule = Schedule(twinlog, way, number, given.seed, server.url)
                try:
                    schedule.go()
                except Violation as violation:
                    failed += 1
                    print(f"FAILED: {way}, schedule {number}, seed {given.seed}: {violation}")
                    print("\n".join("  " + step for step in schedule.steps[-30:]))
                    if given.keep:
                        continue
                finally:
                    os.chdir(place)
                changes += schedule.changes
                refusals += schedule.refusals
                shutil.rmtree(directory, ignore_errors=True)
            print(f"{way}: {given.schedules} schedules, {changes} changes of history, {refusals} refusals", flush=True)
            if given.schedules > 2 and changes == 0:
                failed += 1
                print(f"FAILED: {way}: nothing was tried")
    finally:
        server.end()
        if not (given.keep and failed):
            os.chdir("/")
            shutil.rmtree(place, ignore_errors=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
