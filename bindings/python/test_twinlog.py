# SPDX-License-Identifier: Apache-2.0
"""What the Python binding promises. Its first argument is a directory that does not exist yet."""
import asyncio
import collections
import collections.abc
import contextlib
import errno
import fcntl
import gc
import inspect
import io
import json
import logging
import logging.handlers
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import unittest
import unittest.mock
import warnings

import twinlog

place = sys.argv.pop(1)
header = os.environ["TWINLOG_INCLUDE"]


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.dir = os.path.join(place, self.id().split(".", 1)[1])
        os.makedirs(place, exist_ok=True)

    def refused(self, expected: object, *calls: object) -> None:
        """`expected`: a type of exceptions, or an errno."""
        for number, call in enumerate(calls):
            with self.subTest(expected=expected, number=number):
                with self.assertRaises(OSError if isinstance(expected, int) else expected) as raised:
                    call()
                if isinstance(expected, int):
                    self.assertEqual(raised.exception.errno, expected)


class Test(Case):
    def test_constants_are_those_of_the_header(self) -> None:
        with open(os.path.join(header, "twinlog.h")) as file:
            text = file.read()
        for name, value in vars(twinlog).items():
            if name.startswith(("MODE_", "LEVEL_")):
                self.assertIn("TWINLOG_" + name, text)
        source = "#include <stdio.h>\n#include <twinlog_admin.h>\nint main(void) {"
        names = [n for n in vars(twinlog) if n.isupper() and not n.startswith("_") and isinstance(getattr(twinlog, n), int)]
        source += "".join(f'printf("%d\\n", (int)TWINLOG_{name});' for name in names) + "}\n"
        program = os.path.join(place, "constants")
        subprocess.run(["cc", "-x", "c", "-I", header, "-o", program, "-"], input=source.encode(), check=True)
        numbers = [int(x) for x in subprocess.check_output([program]).split()]
        self.assertEqual(numbers, [getattr(twinlog, n) for n in names])
        self.assertIn(f'"{twinlog.__version__}"', text)

    def test_options_and_statistics_are_all_of_the_header(self) -> None:
        def fields(name: str, file: str) -> set:
            with open(os.path.join(header, file)) as f:
                text = re.search(r"struct " + name + r" \{(.*?)\n\};", f.read(), re.S)[1]
            text = re.sub(r"/\*.*?\*/|\[\d+\]", "", text, flags=re.S)
            names = [n for line in re.findall(r"\bu?int\d+_t ([^;]*);|char (\w+);", text) for n in "".join(line).split(",")]
            return {n.strip() for n in names} - {"size"}

        with twinlog.Log(self.dir) as log:
            self.assertEqual(set(log.stat()), fields("twinlog_stat", "twinlog_admin.h"))
        options = set(inspect.signature(twinlog.Log).parameters) - {"path", "committer"}  # which is a pointer
        self.assertEqual(options, fields("twinlog_options", "twinlog.h"))

    def test_fields_on_processors_of_either_order(self) -> None:
        """What answer() returns on a processor that is not here, clang knows: all of it is known when it is compiled."""
        if not shutil.which("clang"):
            self.skipTest("there is no clang")
        with open(os.path.join(header, "../bindings/python/twinlog/_twinlog.c")) as file:
            access = re.search(r"\nstruct field \{.*?(?=\nstatic bool set_fields)", file.read(), re.S)[0]
        begin = "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n"
        fields = """
            struct numbers { uint32_t first, second; uint64_t third; uint32_t fourth, fifth; };
            static const struct field fields[] = { FIELD(numbers, first), FIELD(numbers, second), FIELD(numbers, third),
                                                   FIELD(numbers, fourth) };
            int answer(void)
            {
                struct numbers n = { 0, 0, 0, 0, 5 };
                bool is_right = true;
                for (uint64_t i = 0; i < 4; i++)
                    set_field(&fields[i], &n, i + 1);
                is_right = n.first == 1 && n.second == 2 && n.third == 3 && n.fourth == 4 && n.fifth == 5;
                for (uint64_t i = 0; i < 4; i++)
                    is_right = is_right && value_of_field(&fields[i], &n) == i + 1;
                return is_right ? 7 : 6;
            }"""
        order = """
            int answer(void)
            {
                const uint32_t number = 1;
                return *(const unsigned char *)&number ? 1 : 2;
            }"""

        def answer(processor: str, source: str) -> str:
            command = ["clang", "-target", processor + "-linux-gnu", "-ffreestanding", "-O2", "-emit-llvm", "-S", "-x", "c", "-o",
                       "-", "-"]
            code = subprocess.run(command, input=(begin + source).encode(), check=True, capture_output=True).stdout.decode()
            return re.search(r"@answer\(.*?\n  ret i32 (\S+)\n", code, re.S)[1]

        for processor, expected in (("x86_64", "1"), ("aarch64", "1"), ("s390x", "2"), ("powerpc64", "2")):
            with self.subTest(processor=processor):
                self.assertEqual(answer(processor, order), expected)
                self.assertEqual(answer(processor, access + fields), "7")

    def test_flush_interval(self) -> None:
        with twinlog.Log(self.dir, flush_interval_ms=3600 * 1000) as log:
            lsn = log.append(b"soon", level=twinlog.LEVEL_BUFFERED)
            log.set_flush_interval(5)
            end = time.monotonic() + 60
            while log.durable_lsn < lsn and time.monotonic() < end:
                time.sleep(0.005)
            self.assertEqual(log.durable_lsn, lsn)
            log.set_flush_interval(0)
            with self.assertRaises(OverflowError):
                log.set_flush_interval(1 << 32)

    def test_change(self) -> None:
        with twinlog.Log(self.dir) as log:
            for n in range(10):
                log.append(b"%d" % n, level=twinlog.LEVEL_BUFFERED)
            first = log.change(meta={"snapshot": b"dump-8", "empty": b""}, cursors={"c": 9}, trim_before_lsn=9,
                               durable_lsn=10, timeout=3600)
            self.assertEqual((first, log.first_lsn, log.durable_lsn), (9, 9, 10))
            self.assertEqual((log.meta("snapshot"), log.meta("empty"), log.cursor("c")), (b"dump-8", b"", 9))
            with self.assertRaises(OSError) as caught:
                log.change(meta={"snapshot": b"other"}, cursors={"c": 99})
            self.assertEqual(caught.exception.errno, errno.ERANGE)
            self.assertEqual(log.meta("snapshot"), b"dump-8")
            self.assertEqual(log.change(meta={"snapshot": None, "none": None}, cursors={"c": None}), 0)
            self.assertEqual((log.meta("snapshot"), log.cursor("c")), (None, None))
            wrong = [({}, OSError), ({"meta": {"a\0b": b""}}, ValueError), ({"meta": {1: b""}}, TypeError),
                     ({"meta": {"a": "text"}}, TypeError), ({"cursors": {"a": -1}}, OverflowError), ({"meta": 1}, AttributeError),
                     ({"meta": {str(n): b"" for n in range(1025)}}, ValueError)]
            for arguments, error in wrong:
                with self.assertRaises(error):
                    log.change(**arguments)  # type: ignore[arg-type]

    def test_a_change_keeps_names_that_only_it_has(self) -> None:
        class Made(collections.abc.Mapping):
            """Makes its names anew each time, so that nothing else refers to them."""

            def __init__(self, prefix: str, value: object) -> None:
                self.prefix, self.value = prefix, value

            def __iter__(self) -> "collections.abc.Iterator[str]":
                return (f"{self.prefix}-{n}" for n in range(20))

            def __getitem__(self, name: str) -> object:
                return self.value

            def __len__(self) -> int:
                return 20

        with twinlog.Log(self.dir) as log:
            log.append(b"")
            log.change(meta=Made("value", b"v"), cursors=Made("where", 1))
            self.assertEqual([log.meta(name) for name in Made("value", b"")], [b"v"] * 20)
            self.assertEqual([log.meta(name) for name in Made("where", b"")], [None] * 20)
            self.assertEqual(log.cursors(), dict(Made("where", 1)))

    def test_append_and_read(self) -> None:
        with twinlog.Log(self.dir, segment_bytes=1 << 20) as log:
            self.assertEqual(log.append(b"one"), 1)
            self.assertEqual(log.append(memoryview(b"\0two\0"), type=7, tag=300, time_ns=5, timeout=3600), 2)
            self.assertEqual(log.append_batch([b"three", twinlog.Entry(b"", 1)]), 3)
            lsn = log.append(b"five", level=twinlog.LEVEL_BUFFERED)
            log.wait(lsn)
            log.sync()
            self.assertEqual((log.first_lsn, log.last_lsn, log.written_lsn, log.durable_lsn), (1, 5, 5, 5))
            self.assertEqual(log.stat()["appends"], 5)
            reader = log.reader()
            self.assertEqual([r.data for r in reader], [b"one", b"\0two\0", b"three", b"", b"five"])
            self.assertFalse(reader.wait(0))
            log.append(b"six")
            self.assertEqual([r.lsn for r in reader.follow(0)], [6])
            reader.seek(2)
            self.assertEqual(reader.next(), twinlog.Record(2, 5, b"\0two\0", 7, 300))
            self.assertEqual(reader.previous().lsn, 2)
            reader.seek_end()
            self.assertIsNone(reader.next())
            reader.seek_first()
            reader.seek_time(6)
        with self.assertRaises(ValueError):
            reader.next()
        with self.assertRaises(ValueError):
            log.append(b"closed")
        log.close()
        with twinlog.Reader(self.dir, from_lsn=2, to_lsn=3, mmap=True) as reader:
            self.assertEqual([r.lsn for r in reader], [2, 3])

    def test_errors(self) -> None:
        with self.assertRaises(FileNotFoundError) as raised:
            twinlog.Log(self.dir + "/not/here")
        self.assertEqual(raised.exception.filename, self.dir + "/not/here")
        for options in ({"no_such": 1}, {"size": 1}, {"keep_bytes": "1"}, {"flags": None}):
            with self.assertRaises(TypeError):
                twinlog.Log(self.dir, **options)
        with twinlog.Log(self.dir) as log:
            with self.assertRaises(OSError) as raised:
                twinlog.Log(self.dir)
            self.assertEqual(raised.exception.errno, errno.EBUSY)
            self.assertIn(str(os.getpid()), raised.exception.report.text)
            self.assertIn(raised.exception.report.text, str(raised.exception))
            with self.assertRaises(OSError) as raised:
                log.append(b"x" * (64 << 20))
            self.assertEqual((raised.exception.errno, raised.exception.lsn), (errno.EMSGSIZE, 0))
            for name in "a\0b", "":
                with self.assertRaises((ValueError, OSError)):
                    log.set_cursor(name, 0)
            log.append_batch([b"x"] * 10)
            log.trim(before_lsn=5)
            reader = log.reader()
            reader.seek(1)
            with self.assertRaises(twinlog.TrimmedError) as trimmed:
                reader.next()
            self.assertEqual(trimmed.exception.report.first_lsn, 5)
            reader.seek(5)
            self.assertEqual([r.lsn for r in reader], [5, 6, 7, 8, 9, 10])
            log.truncate(7)
            with self.assertRaises(twinlog.TruncatedError) as truncated:
                reader.next()
            self.assertEqual(truncated.exception.report.first_lsn, 8)

    def test_an_error_names_the_place(self) -> None:
        with twinlog.Log(self.dir) as log:
            log.append(b"x")
        with open(self.dir + "/0000000000000001.twl", "r+b") as file:
            file.seek(4096)
            file.write(bytes(4096))
        with self.assertRaises(twinlog.CorruptError) as raised:
            twinlog.Log(self.dir)
        self.assertIn("0000000000000001.twl, offset 4096, LSN 1: record 1", str(raised.exception))
        self.assertEqual(raised.exception.filename, self.dir)

    def test_misuse(self) -> None:
        """The list in bindings/README.md."""
        new = self.dir + ".2"
        options = {"segment_bytes": 1}, {"flags": 1 << 31}, {"mode": 99}
        self.refused(errno.EINVAL, *(lambda x=x: twinlog.Log(new, **x) for x in options))
        options = {"keep_bytes": 1 << 64}, {"io": 1 << 32}, {"keep_age_ms": -1}
        options += {"lock_timeout_ms": -1}, {"lock_timeout_ms": 1 << 32}
        self.refused(OverflowError, *(lambda x=x: twinlog.Log(new, **x) for x in options))
        self.refused(TypeError, lambda: twinlog.Log(5), lambda: twinlog.Log(new, keep_bytes="1"))
        self.refused(ValueError, lambda: twinlog.Log(new + "\0x"), lambda: twinlog.Reader(new + "\0x"))
        self.refused(ValueError, lambda: twinlog.Consumer(new + "\0x", "name"))
        self.assertFalse(os.path.exists(new))

        log = twinlog.Log(self.dir, buffer_bytes=16384, max_record_bytes=4096)
        for error, names in (ValueError, ["a\0b", "\ud800"]), (errno.EINVAL, ["", "x" * 64]), (TypeError, [None, 5, b"name"]):
            for x in names:
                self.refused(error, lambda: twinlog.Consumer(self.dir, x), lambda: log.set_cursor(x, 0), lambda: log.set_meta(x, b"v"))
        self.refused(TypeError, *(lambda x=x: log.append(x) for x in (5, True, "text", None, [b"x"])))
        self.refused(TypeError, *(lambda x=x: log.append_batch(x) for x in (b"abc", "abc", [5], [b"x", "y"], 5)))
        self.refused(TypeError, lambda: log.append(b"x", type="1"), lambda: log.wait("1"), lambda: log.set_meta("name", 5))
        self.refused(TypeError, lambda: log.read(1.5), lambda: log.set_cursor("name", None), lambda: log.append(b"x", kind=1))
        numbers = {"type": 256}, {"tag": -1}, {"time_ns": 1 << 63}, {"level": -1}, {"timeout": -(10**400)}
        self.refused(OverflowError, *(lambda x=x: log.append(b"x", **x) for x in numbers))
        self.refused(OverflowError, lambda: log.append_batch([twinlog.Entry(b"x", 256)]), lambda: log.wait(-1), lambda: log.wait(1 << 64))
        self.refused(OverflowError, lambda: log.read(-1), lambda: log.truncate(-1), lambda: log.reset(1 << 64))
        self.refused(OverflowError, lambda: log.set_cursor("name", -1), lambda: log.trim(keep_bytes=-1), lambda: log.reader(from_lsn=-1))
        self.refused(ValueError, lambda: log.append(b"x", timeout=float("nan")))
        self.refused(ValueError, lambda: log.append(b"x", timeout=-0.001), lambda: log.reader().wait(-1), lambda: next(log.reader().follow(-1)))
        self.refused(errno.EINVAL, lambda: log.append_batch([]), lambda: log.append(b"x", level=99), lambda: log.set_meta("name", b"x" * 4097))
        self.refused(errno.EMSGSIZE, lambda: log.append(b"x" * 4097), lambda: log.append_batch([b"x" * 4000] * 3))
        self.refused(errno.EINVAL, lambda: log.read(0), lambda: log.wait(1), lambda: log.truncate((1 << 64) - 1), lambda: log.reset(0))
        self.refused(errno.EINVAL, lambda: log.reader().seek(0))
        self.refused(errno.ERANGE, lambda: log.read((1 << 64) - 1), lambda: log.set_cursor("name", 1))
        loop = asyncio.new_event_loop()
        for error, records in (TypeError, [5]), (OverflowError, [twinlog.Entry(b"x", -1)]), (errno.EINVAL, []), (errno.EMSGSIZE, [b"x" * 5000]):
            self.refused(error, lambda: loop.run_until_complete(log.submit(*records)))
        loop.close()
        submitted = log.submit(b"x")
        self.refused(RuntimeError, lambda: loop.run_until_complete(submitted), lambda: submitted.send(None))
        self.assertEqual((log.last_lsn, log.cursors(), log.meta("name")), (0, {}, None))

        log.append(b"x")
        consumer = twinlog.Consumer(self.dir, "name")
        self.refused(errno.EBUSY, lambda: twinlog.Consumer(self.dir, "name"))
        self.refused(errno.EINVAL, lambda: consumer.commit(1))
        consumer.close()
        reader = log.reader()
        log.close()
        self.refused(ValueError, *(x.__enter__ for x in (log, reader, consumer, twinlog.Log.__new__(twinlog.Log))))
        self.refused(ValueError, consumer.next, consumer.commit, reader.next, lambda: reader.seek(1), reader.fileno, reader.wait)
        self.refused(ValueError, lambda: log.append(b"y"), lambda: log.append_batch([b"y"]), log.sync, log.stat, log.cursors, log.reader)
        self.refused(ValueError, lambda: log.last_lsn, lambda: log.read(1), lambda: asyncio.run(log.submit(b"y")), lambda: log.__init__(self.dir))
        self.refused(ValueError, lambda: twinlog.Log.__new__(twinlog.Log).append(b"x"))
        log = twinlog.Log(self.dir)
        self.refused(ValueError, lambda: log.append_batch(log.close() or b"y" for _ in range(2)))

    def test_cursors_and_values(self) -> None:
        with twinlog.Log(self.dir) as log:
            log.append_batch([b"x"] * 10)
            log.set_cursor("billing", 3)
            self.assertEqual((log.cursor("billing"), log.cursor("none")), (3, None))
            self.assertEqual(log.cursors(), {"billing": 3})
            self.assertEqual(log.trim(before_lsn=8), 4)
            log.remove_cursor("billing")
            log.set_meta("vote", b"\0me")
            self.assertEqual((log.meta("vote"), log.meta("none")), (b"\0me", None))
            log.remove_meta("vote")
            log.truncate(9)
            self.assertEqual(log.last_lsn, 9)
            log.reset(100)
            self.assertEqual(log.append(b"x"), 100)
            log.skip(103)
            self.assertEqual(log.append(b"y"), 103)

    def test_read_one_record(self) -> None:
        with twinlog.Log(self.dir) as log:
            log.append(b"one", type=7, tag=300, time_ns=5)
            log.append(b"x" * 100000)
            log.append(b"")
            self.assertEqual(log.read(1), twinlog.Record(1, 5, b"one", 7, 300))
            self.assertEqual((log.read(2).data, log.read(3).data), (b"x" * 100000, b""))
            for lsn, number in (4, errno.ERANGE), (0, errno.EINVAL):
                with self.assertRaises(OSError) as raised:
                    log.read(lsn)
                self.assertEqual(raised.exception.errno, number)
            log.trim(before_lsn=2)
            with self.assertRaises(twinlog.TrimmedError):
                log.read(1)
        with self.assertRaises(ValueError):
            log.read(2)

    def test_consumer(self) -> None:
        with twinlog.Log(self.dir) as log:
            log.append_batch([b"a", b"b", b"c"])
            for data in b"a", b"b":
                with twinlog.Consumer(self.dir, "billing") as consumer:
                    with self.assertRaises(OSError) as raised:
                        twinlog.Consumer(self.dir, "billing")
                    self.assertEqual(raised.exception.errno, errno.EBUSY)
                    self.assertEqual(consumer.next().data, data)
                    consumer.commit()
            for call in consumer.next, consumer.commit, consumer.fileno, consumer.wait:
                with self.assertRaises(ValueError):
                    call()
            consumer.close()
            self.assertEqual(log.cursor("billing"), 2)
            with twinlog.Consumer(self.dir, "late", from_end=True, mmap=True) as consumer:
                self.assertIsNone(consumer.next())
                self.assertFalse(consumer.wait(0))
                self.assertGreaterEqual(consumer.fileno(), 0)
                log.append(b"d")
                self.assertEqual([r.data for r in consumer.follow(0)], [b"d"])
                with self.assertRaises(OSError):
                    consumer.commit(100)
            with self.assertRaises(ValueError):
                twinlog.Consumer(self.dir, "a\0b")
            with self.assertRaises(FileNotFoundError):
                twinlog.Consumer(self.dir + ".none", "billing")
            forgotten = twinlog.Consumer(self.dir, "late")
            del forgotten
            gc.collect()
            consumer = twinlog.Consumer(self.dir, "late")
            waits, ended = threading.Event(), []

            def follow() -> None:
                try:
                    for record in consumer.follow():
                        waits.set()
                except ValueError:
                    ended.append("closed")

            thread = threading.Thread(target=follow)
            thread.start()
            waits.wait()  # other threads run while it waits for the next one
            consumer.close()
            thread.join()
            self.assertEqual(ended, ["closed"])

    def test_a_record_without_memory_for_it_comes_again(self) -> None:
        size = 40 << 20
        with twinlog.Log(self.dir, max_record_bytes=size, segment_bytes=4 * size, buffer_bytes=2 * size) as log:
            log.append(b"one")
            log.append_batch([b"two", b"x" * size, b"four"])
        # In processes of their own, where nothing has left memory that is free. The library has what it needs for the third
        # record: in a mapping since the second one was read, or since it was read once.
        program = """if True:
            import resource, sys, twinlog

            def limit(left=None):
                with open("/proc/self/statm") as file:
                    used = int(file.read().split()[0]) * resource.getpagesize()
                most = resource.RLIM_INFINITY if left is None else used + left
                resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))

            def show(*calls):
                for call in calls:
                    try:
                        print(call().lsn)
                    except MemoryError:
                        print("none")
                    except twinlog.TruncatedError:
                        print("truncated")
        """
        forwards = """
            consumer, reader = twinlog.Consumer(sys.argv[1], "billing", mmap=True), twinlog.Reader(sys.argv[1], mmap=True)
            show(consumer.next, consumer.next, reader.next, reader.next)
            limit(10 << 20)
            show(consumer.next, reader.next, lambda: next(iter(consumer)))
            consumer.commit()
            limit()
            with twinlog.Log(sys.argv[1]) as log:
                print(log.cursors())
            show(consumer.next, reader.next, reader.next)
            consumer.commit()
            with twinlog.Log(sys.argv[1]) as log:
                print(log.cursors())
        """
        backwards = """
            reader = twinlog.Reader(sys.argv[1])
            show(reader.next, reader.next, reader.next, reader.next)
            limit(10 << 20)
            show(reader.previous, reader.previous)
            limit()
            show(reader.previous, reader.previous)
        """
        behind_a_truncation = """
            consumer = twinlog.Consumer(sys.argv[1], "another", mmap=True)
            show(consumer.next, consumer.next)
            limit(10 << 20)
            show(consumer.next)
            limit()
            with twinlog.Log(sys.argv[1]) as log:
                log.truncate(1)
                log.append_batch([b"TWO", b"THREE", b"FOUR"])
            show(consumer.next, consumer.next, consumer.next, consumer.next)
            consumer.commit()
            with twinlog.Log(sys.argv[1]) as log:
                print(log.cursors()["another"])
        """
        for more, expected in (
            (forwards, ["1", "2", "1", "2", "none", "none", "none", "{'billing': 2}", "3", "3", "4", "{'billing': 3}"]),
            (backwards, ["1", "2", "3", "4", "4", "none", "3", "2"]),
            (behind_a_truncation, ["1", "2", "none", "truncated", "2", "3", "4", "4"]),
        ):
            command = [sys.executable, "-c", program + more, os.path.abspath(self.dir)]
            shown = subprocess.run(command, cwd=place, stdout=subprocess.PIPE, text=True, timeout=60).stdout
            self.assertEqual(shown.splitlines(), expected)

    def test_a_waiting_call_lets_other_threads_run_and_close_ends_it(self) -> None:
        log = twinlog.Log(self.dir)
        reader = log.reader()
        waiting, seen = threading.Event(), []

        def follow() -> None:
            try:
                waiting.set()
                for record in reader.follow():
                    seen.append(record.lsn)
            except ValueError:
                seen.append("closed")

        thread = threading.Thread(target=follow)
        thread.start()
        waiting.wait()
        threads = [threading.Thread(target=lambda: [log.append(b"x") for _ in range(20)]) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(log.last_lsn, 160)
        log.close()
        thread.join()
        self.assertEqual(seen[-1], "closed")

    def test_a_close_beside_calls_waits_for_them(self) -> None:
        for round in range(10):
            log = twinlog.Log(self.dir)
            ended, begun = [], threading.Semaphore(0)

            def call(what: object) -> None:
                begun.release()
                try:
                    while True:
                        what()
                except ValueError:
                    ended.append(1)

            calls = [lambda: log.append(b"x"), lambda: log.append_batch([b"x"]), lambda: log.read(1), log.stat, log.sync]
            calls += [lambda: log.reader().close(), lambda: log.last_lsn, log.cursors]
            log.append(b"first")
            threads = [threading.Thread(target=call, args=(what,)) for what in calls]
            for thread in threads:
                thread.start()
            for _ in threads:
                begun.acquire()
            log.close()
            for thread in threads:
                thread.join()
            self.assertEqual(len(ended), len(calls))

    def test_the_handler_of_a_signal_may_close(self) -> None:
        def interrupt() -> None:
            signal.raise_signal(signal.SIGUSR1)

        class Interrupted(twinlog.TruncatedError):
            def __init__(self, *args: object) -> None:
                interrupt()
                super().__init__(*args)

        log = twinlog.Log(self.dir)
        log.append_batch([b"x", b"x"])
        reader = log.reader()
        self.assertEqual([record.lsn for record in reader], [1, 2])
        log.truncate(1)
        former = signal.signal(signal.SIGUSR1, lambda *_: reader.close())
        with unittest.mock.patch.dict(twinlog._ERRORS, {-5007: Interrupted}), self.assertRaises(Interrupted):
            reader.next()  # while it makes the exception
        log._close_readers = interrupt
        signal.signal(signal.SIGUSR1, lambda *_: log.close())
        log.close()  # while it closes
        signal.signal(signal.SIGUSR1, former)
        self.assertRaises(ValueError, log.sync)

    def test_a_sub_interpreter_has_its_own(self) -> None:
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            self.skipTest("no sub-interpreters in this Python")
        text = f"import twinlog\nlog = twinlog.Log({self.dir!r})\nlog.append(b'x')\nassert log.read(1).data == b'x'\nlog.close()"
        for _ in range(2):
            interpreter = interpreters.create()
            interpreters.run_string(interpreter, text)
            interpreters.destroy(interpreter)
        with twinlog.Log(self.dir) as log:
            self.assertEqual(log.last_lsn, 2)

    def test_a_log_that_is_forgotten_is_closed(self) -> None:
        log = twinlog.Log(self.dir)
        reader = log.reader()
        log.append(b"x")
        del log, reader
        gc.collect()
        log = twinlog.Log(self.dir)
        log.reader_of_it, log.reader_of_it.log_of_it = log.reader(), log  # type: ignore[attr-defined]
        del log
        gc.collect()
        twinlog.Log(self.dir).close()

    def test_the_interpreter_ends_beside_threads_that_wait(self) -> None:
        text = """if True:
            import builtins, sys, threading, twinlog

            class Service:
                def __init__(self):
                    self.log = twinlog.Log(sys.argv[1])
                    self.consumer = twinlog.Consumer(sys.argv[1], "c")

                def __del__(self):  # as the modules go, when daemon threads never come back
                    self.consumer.close()
                    try:
                        self.log.close()
                    except OSError:
                        pass

            def append(log):
                while True:
                    log.append(b"x" * 1000)

            def follow(consumer):
                for record in consumer.follow():
                    pass

            builtins.service = Service()
            for target, argument in (append, service.log), (append, service.log), (follow, service.consumer):
                threading.Thread(target=target, args=(argument,), daemon=True).start()
            del argument
            while service.log.last_lsn < 100:
                pass
        """
        command = [sys.executable, "-c", text, os.path.abspath(self.dir)]
        done = subprocess.run(command, cwd=place, timeout=60, stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_a_forked_child_is_told(self) -> None:
        with twinlog.Log(self.dir) as log:
            child = os.fork()
            if child == 0:
                try:
                    log.append(b"x")
                except twinlog.ForkedError:
                    os._exit(7)
                os._exit(1)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 7)
            log.append(b"x")

    def test_a_forked_child_waits_for_no_thread_of_its_parent(self) -> None:
        def close_for_long() -> None:
            with log._waiting_lock:
                is_locked.set()
                is_over.wait()

        async def main() -> None:
            await log.submit(b"x")

        is_locked, is_over = threading.Event(), threading.Event()
        with twinlog.Log(self.dir) as log:
            asyncio.run(main())
            thread = threading.Thread(target=close_for_long)
            thread.start()
            is_locked.wait()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python 3.12 warns of threads
                child = os.fork()
            if child == 0:
                signal.alarm(60)
                twinlog._sync_open_logs()  # as at the end of the interpreter
                log.close()
                os._exit(7)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            is_over.set()
            thread.join()
            self.assertEqual(status, 7)

    def test_a_child_of_a_killed_process_keeps_no_log_locked(self) -> None:
        told, tell = os.pipe()
        forked, has_forked = os.pipe()
        service = os.fork()
        if service == 0:
            log = twinlog.Log(self.dir)
            log.append(b"x")
            if os.fork() == 0:  # one of a pool, which outlives the service
                os.close(tell)
                os.write(has_forked, b"x")  # fork() has closed here what belongs to the log
                os.read(told, 1)
                os._exit(0)
            os.read(forked, 1)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(service, 0)
        with twinlog.Log(self.dir) as log:
            self.assertEqual(log.append(b"y"), 2)
        for descriptor in tell, told, forked, has_forked:
            os.close(descriptor)

    def test_a_loop_gets_no_standard_descriptor(self) -> None:
        """Where 0 and 1 are closed, other code still writes to 1."""
        code = """if True:
            import asyncio, os, sys, twinlog

            async def main() -> None:
                loop, given = asyncio.get_running_loop(), []
                add_reader = loop.add_reader

                def look(fd, *rest):
                    given.append(fd)
                    add_reader(fd, *rest)
                    log.append(b"x")  # by now it waits

                loop.add_reader = look
                with twinlog.Log(sys.argv[1]) as log:
                    os.close(0)
                    os.close(1)
                    async for record in twinlog.Reader(sys.argv[1]):
                        assert record.lsn == 1, record
                        break
                assert given and min(given) > 2, given

            asyncio.run(main())"""
        subprocess.run([sys.executable, "-c", code, os.path.abspath(self.dir)], check=True, timeout=300, cwd=place)

    def test_a_loop_commits_without_a_thread(self) -> None:
        async def main() -> None:
            committer = twinlog.Committer(in_loop=True)
            log = twinlog.Log(self.dir, buffer_bytes=16384, max_record_bytes=4096, committer=committer)
            with self.assertRaises(OSError) as busy:
                committer.close()
            self.assertEqual(busy.exception.errno, errno.EBUSY)

            # small buffers: some have to wait for room, and threads append beside them
            lsns = await asyncio.gather(
                *(log.submit(b"x" * 4000, b"y") for _ in range(100)),
                *(asyncio.to_thread(log.append, b"z" * 3000) for _ in range(20)),
            )
            self.assertEqual(log.durable_lsn, 220)
            self.assertEqual(len(set(lsns)), 120)

            # each of these leaves work to the loop, which does it without another call
            log.append(b"w", level=twinlog.LEVEL_BUFFERED)
            log.set_flush_interval(1)
            end = time.monotonic() + 10
            while log.durable_lsn < 221 and time.monotonic() < end:
                await asyncio.sleep(0.01)
            self.assertEqual(log.durable_lsn, 221)
            task = asyncio.ensure_future(log.submit(b"gone"))
            await asyncio.sleep(0)
            task.cancel()

            with twinlog.Log(self.dir + ".2", committer=committer) as second:
                reader = second.reader()
                follow = asyncio.ensure_future(reader.__aiter__().__anext__())
                self.assertEqual(await second.submit(b"a", b"b"), 1)
                self.assertEqual((await follow).data, b"a")
                with self.assertRaises(RuntimeError):
                    await asyncio.to_thread(asyncio.run, second.submit(b"in another loop"))

            last = asyncio.ensure_future(log.submit(b"last"))
            await asyncio.sleep(0)
            await log.close_async()
            self.assertEqual(await last, 223)
            with self.assertRaises(ValueError):
                await log.submit(b"behind the close")
            committer.close()
            committer.close()
            with self.assertRaises(ValueError):
                twinlog.Log(self.dir, committer=committer)

        asyncio.run(main())
        with self.assertRaises(RuntimeError):  # there is no loop
            twinlog.Committer(in_loop=True)

    def test_a_loop_that_ended_commits_no_more(self) -> None:
        async def main() -> twinlog.Log:
            log = twinlog.Log(self.dir, committer=twinlog.Committer(in_loop=True))
            await log.submit(b"a")
            return log

        with asyncio.run(main()) as log:
            self.assertEqual(log.append(b"b"), 2)  # whoever waits commits
            with self.assertRaises(RuntimeError):
                asyncio.run(log.submit(b"c"))

    def test_a_signal_in_a_turn_of_the_loop_loses_nothing(self) -> None:
        """A handler may raise at any step: each record is there once, and each task ends when the loop goes on."""

        class Signal(SystemExit):
            pass

        def come(number: int, frame: object) -> None:
            if armed and frame.f_code.co_filename == twinlog.__file__:  # type: ignore[attr-defined]
                armed.clear()
                raise Signal

        async def submit() -> list:
            return await asyncio.gather(*(log.submit(b"%d" % i + b" " * 500) for i in range(300)))

        armed: list = []
        before = signal.signal(signal.SIGALRM, come)
        loop = asyncio.new_event_loop()
        try:
            with twinlog.Log(self.dir, buffer_bytes=32768, segment_bytes=1 << 20) as log:
                task = loop.create_task(submit())
                for raised in range(1000):
                    armed.append(1)
                    signal.setitimer(signal.ITIMER_REAL, 0.0005)
                    try:
                        loop.run_until_complete(asyncio.wait([task], timeout=60))
                        break
                    except Signal:
                        pass
                signal.setitimer(signal.ITIMER_REAL, 0)
                armed.clear()
                loop.run_until_complete(asyncio.wait([task], timeout=60))
                self.assertTrue(task.done())
                log.sync()
                numbers = [int(record.data) for record in log.reader()]
                self.assertEqual(len(numbers), len(set(numbers)))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            loop.close()

    def test_what_stands_in_line_is_appended_all_the_same(self) -> None:
        async def main(log: twinlog.Log) -> None:
            tasks = [asyncio.ensure_future(log.submit(b" " * 4000)) for _ in range(100)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()

        log = twinlog.Log(self.dir, buffer_bytes=16384, max_record_bytes=4096)
        asyncio.run(main(log))
        log.close()
        with twinlog.Reader(self.dir) as reader:
            self.assertEqual(sum(1 for _ in reader), 100)

    def test_payloads(self) -> None:
        with twinlog.Log(self.dir) as log:
            for data in b"one ", b"", b"two\n", b"3" * 100_000:
                log.append(data)
            file = log.reader().payloads()
            self.assertEqual(file.readline(), b"one two\n")
            self.assertEqual(file.read(), b"3" * 100_000)
            self.assertEqual(file.read(), b"")
            log.append(b"more")
            self.assertEqual(file.read(2) + file.read(), b"more")

    def test_a_cycle_with_a_committer_leaves_nothing(self) -> None:
        class Service:
            pass

        before = len(os.listdir("/proc/self/fd"))
        for i in range(3):
            service = Service()
            service.committer = twinlog.Committer()  # type: ignore[attr-defined]
            service.log = twinlog.Log(f"{self.dir}.{i}", committer=service.committer)  # type: ignore[attr-defined]
            service.itself = service  # type: ignore[attr-defined]
            del service
        gc.collect()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_no_other_object_is_a_committer(self) -> None:
        for wrong in twinlog.Committer, 7, "x":
            with self.assertRaises((TypeError, AttributeError)):
                twinlog.Log(self.dir, committer=wrong)

    def test_one_thread_commits_for_many_logs(self) -> None:
        with twinlog.Committer() as committer:
            logs = [
                twinlog.Log(f"{self.dir}.{i}", buffer_bytes=32768, segment_bytes=1 << 20, committer=committer)
                for i in range(8)
            ]
            for log in logs:
                self.assertEqual(log.append(b"x"), 1)
                self.assertEqual(asyncio.run(log.submit(b"y")), 2)
                log.close()

    def test_asyncio(self) -> None:
        async def main() -> None:
            # small buffers: some have to wait for room
            with twinlog.Log(self.dir, buffer_bytes=16384, max_record_bytes=4096) as log:
                lsns = await asyncio.gather(*(log.submit(b"x" * 4000, b"y") for _ in range(100)))
                self.assertEqual(sorted(lsns), list(range(1, 201, 2)))
                self.assertEqual(log.durable_lsn, 200)
                with self.assertRaises(OSError):
                    await log.submit(b"x" * 5000)
                with twinlog.Reader(self.dir, from_lsn=200) as reader:
                    followed = []
                    task = asyncio.ensure_future(log.submit(b"last"))
                    async for record in reader:
                        followed.append(record.lsn)
                        if record.data == b"last":
                            break
                    self.assertEqual((followed, await task), ([200, 201], 201))
                cancelled = asyncio.ensure_future(log.submit(b"z"))
                await asyncio.sleep(0)
                cancelled.cancel()
                left = asyncio.ensure_future(log.submit(b"z"))
                await asyncio.sleep(0)
            self.assertIn(await left, (202, 203))

        asyncio.run(main())


    def test_submit_in_every_mode(self) -> None:
        async def main(mode: int) -> None:
            log = twinlog.Log(f"{self.dir}.{mode}", mode=mode)
            lsns = await asyncio.gather(*(log.submit(b"x", level=twinlog.LEVEL_DURABLE) for _ in range(20)))
            self.assertEqual(sorted(lsns), list(range(1, 21)))
            self.assertEqual(log.durable_lsn, 20)
            self.assertEqual(await log.submit(twinlog.Entry(b"y", type=7)), 21)
            self.assertEqual(log.read(21).type, 7)
            if mode != twinlog.MODE_DURABLE:
                with self.assertRaises(OSError) as several:
                    await log.submit(b"x", b"y")
                self.assertEqual(several.exception.errno, errno.ENOTSUP)
            await log.close_async()
            with self.assertRaises(ValueError):
                await log.submit(b"x")

        for mode in twinlog.MODE_DURABLE, twinlog.MODE_MAPPED, twinlog.MODE_SHARED:
            asyncio.run(main(mode))

    def test_requests_of_one_loop_keep_their_order(self) -> None:
        async def main() -> None:
            with twinlog.Log(self.dir, buffer_bytes=16384, max_record_bytes=4096) as log:
                tasks = [asyncio.ensure_future(log.submit(b"%d" % i + b" " * (1 if i % 3 else 4000))) for i in range(300)]
                await asyncio.sleep(0)
                for task in tasks[::7]:
                    task.cancel()
                lsns = await asyncio.gather(*tasks, return_exceptions=True)
                lsns = [x for x in lsns if isinstance(x, int)]
                self.assertEqual(lsns, sorted(lsns))
                self.assertGreater(len(lsns), 250)
                numbers = [int(r.data) for r in log.reader()]
                self.assertEqual(numbers, sorted(numbers))

        asyncio.run(main())

    def test_who_waits_in_line_hears_of_every_error(self) -> None:
        async def main() -> None:
            with twinlog.Log(self.dir, buffer_bytes=16384, max_record_bytes=4096) as log:
                tasks = [asyncio.ensure_future(log.submit(b" " * 4000)) for _ in range(30)]
                await asyncio.sleep(0)
                for level, error in ("durable", TypeError), (-1, OverflowError), (7, OSError):
                    with self.assertRaises(error):
                        await asyncio.wait_for(log.submit(b"x", level=level), 60)
                await asyncio.gather(*tasks)
                tasks = [asyncio.ensure_future(log.submit(b" " * 4000)) for _ in range(30)]
                await asyncio.sleep(0)
                last = log.last_lsn
                await log.close_async()
                results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
                appended = [lsn for lsn in results if isinstance(lsn, int)]
                self.assertEqual(appended, list(range(31, 31 + len(appended))))
                self.assertGreaterEqual(len(appended), last - 30)
                self.assertTrue(all(isinstance(error, ValueError) for error in results[len(appended) :]))

        asyncio.run(main())

    def test_a_backlog_leaves_turns_to_the_heartbeat(self) -> None:
        async def consume(source: object, stop: asyncio.Event) -> int:
            count = 0
            async for _ in source:  # type: ignore[attr-defined]
                count += 1
                if stop.is_set() or count == records:
                    break
            return count

        async def main() -> None:
            for source in twinlog.Reader(self.dir), twinlog.Consumer(self.dir, "c"):
                with source:
                    stop = asyncio.Event()
                    task = asyncio.ensure_future(consume(source, stop))
                    await asyncio.sleep(0.002)
                    stop.set()
                    self.assertLess(await task, records)

        records = 200_000
        with twinlog.Log(self.dir) as log:
            for _ in range(records // 10_000):
                log.append_batch([b"x"] * 10_000, level=twinlog.LEVEL_BUFFERED)
        asyncio.run(main())

    def test_many_requests_leave_turns_to_the_heartbeat(self) -> None:
        async def main(in_loop: bool) -> None:
            turns = 0

            async def beat() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            async def submit() -> int:
                await log.submit(b" " * 500)
                return turns

            class Log(twinlog.Log):
                def _submit(self, *arguments: object) -> bool:
                    is_submitted = super()._submit(*arguments)  # type: ignore[misc]
                    if is_submitted:
                        submitted_in.append(turns)
                    return is_submitted

            submitted_in: list = []
            committer = twinlog.Committer(in_loop=True) if in_loop else None
            with Log(self.dir, buffer_bytes=16384, max_record_bytes=4096, committer=committer) as log:
                heart = asyncio.ensure_future(beat())
                told_in = await asyncio.gather(*(submit() for _ in range(300)))  # more than there is room for
                heart.cancel()
            if committer:
                committer.close()
            self.assertGreaterEqual(len(set(told_in)), 150)

            # What found room at once was submitted in the first turn: with a fast disk a thread makes room for most of it.
            waited = collections.Counter(turn for turn in submitted_in if turn != submitted_in[0])
            self.assertLessEqual(max(waited.values(), default=0), 2)
            if in_loop:
                self.assertGreater(sum(waited.values()), 200)

        for in_loop in True, False:
            # A turn is over with one step, and the loop may have one for the descriptor and one for what is left.
            with unittest.mock.patch.object(twinlog._Waiting.tell, "__defaults__", (0.0,)):  # type: ignore[attr-defined]
                asyncio.run(main(in_loop))

    def test_a_timeout_does_not_end_the_iteration(self) -> None:
        async def main() -> None:
            with twinlog.Log(self.dir) as log, log.reader() as reader:
                records = reader.__aiter__()
                log.append(b"1")
                self.assertEqual((await records.__anext__()).data, b"1")
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(records.__anext__(), 0.01)
                log.append(b"2")
                self.assertEqual((await asyncio.wait_for(records.__anext__(), 60)).data, b"2")

        asyncio.run(main())

    def test_a_request_that_timed_out_still_gets_its_lsn(self) -> None:
        async def main() -> None:
            with twinlog.Log(self.dir) as log:
                task = asyncio.create_task(log.submit(b"late"))
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.shield(task), 0)
                self.assertEqual(await task, 1)
                self.assertEqual(log.read(1).data, b"late")

        asyncio.run(main())

    def test_commit_and_close_leave_the_loop_to_others(self) -> None:
        async def main() -> None:
            log = twinlog.Log(self.dir)
            log.append(b"1")
            with twinlog.Consumer(self.dir, "c") as consumer:
                next(consumer)
                await consumer.commit_async()
            self.assertEqual(log.cursor("c"), 1)
            await log.close_async()
            with self.assertRaises(ValueError):
                log.append(b"2")

        asyncio.run(main())

    def test_ctrl_c_ends_an_open_that_waits(self) -> None:
        with twinlog.Log(self.dir):
            code = "import sys, twinlog; print(1, flush=True); twinlog.Log(sys.argv[1], lock_timeout_ms=600_000)"
            with subprocess.Popen([sys.executable, "-c", code, self.dir], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/") as other:
                assert other.stdout is not None
                other.stdout.readline()
                other.send_signal(signal.SIGINT)
                _, said = other.communicate(timeout=60)
        self.assertIn(b"KeyboardInterrupt", said)

    def test_the_end_of_the_interpreter_syncs_what_is_open(self) -> None:
        code = """import sys, twinlog
sys.log_of_a_module = twinlog.Log(sys.argv[1])
sys.log_of_a_module.append(b"one", level=twinlog.LEVEL_BUFFERED)"""
        subprocess.run([sys.executable, "-c", code, self.dir], check=True, cwd="/")
        with twinlog.Log(self.dir) as log:
            self.assertEqual(log.last_lsn, 1)

    def test_a_close_ends_a_task_that_follows(self) -> None:
        async def main(log: twinlog.Log, reader: twinlog.Reader, close: object) -> None:
            async def follow() -> None:
                async for _ in reader:
                    pass

            tasks = [asyncio.ensure_future(follow()) for _ in range(5)]
            await asyncio.sleep(0.05)  # the tasks wait; if not, the close comes first, which is right, too
            await asyncio.get_running_loop().run_in_executor(None, close)
            for task in tasks:
                with self.assertRaises(ValueError):
                    await asyncio.wait_for(task, 60)
            # What gets the descriptor's number next is not deaf.
            ours, theirs = os.pipe()
            heard = asyncio.Event()
            asyncio.get_running_loop().add_reader(ours, heard.set)
            os.write(theirs, b"x")
            await asyncio.wait_for(heard.wait(), 60)
            asyncio.get_running_loop().remove_reader(ours)
            os.close(ours)
            os.close(theirs)

        for what in "reader", "log":
            log = twinlog.Log(self.dir)
            log.append(b"x")
            reader = log.reader()
            asyncio.run(main(log, reader, reader.close if what == "reader" else log.close))
            log.close()

    def test_a_loop_that_is_gone_leaves_no_descriptor(self) -> None:
        with twinlog.Log(self.dir) as log:
            asyncio.run(log.submit(b"x"))
            gc.collect()  # what earlier tests left would be freed below
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(5):
                asyncio.run(log.submit(b"x"))
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)


def content(path: str) -> bytes:
    """As every other program reads it."""
    with open(path, "rb") as file:
        return file.read()


class SinkCase(Case):
    def setUp(self) -> None:
        super().setUp()
        os.mkdir(self.dir)
        self.path = os.path.abspath(os.path.join(self.dir, "file.log"))

    def until(self, condition: object, what: str) -> None:
        """Waits, for at most 30 seconds."""
        end = time.monotonic() + 30
        while not condition():  # type: ignore[operator]
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.001)

    def run_in_child(self, what: object) -> int:
        """The exit status of a forked child, which is killed if it hangs."""
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                os._exit(what())  # type: ignore[operator]
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class SinkTest(SinkCase):
    def test_options_are_all_of_the_header(self) -> None:
        with open(os.path.join(header, "twinlog_sink.h")) as file:
            text = file.read()
        fields = set(re.findall(r"\buint\d+_t (\w+);", re.search(r"struct twinlog_sink_options \{(.*?)\n\};", text, re.S)[1]))
        flags = {name.lower() for name in re.findall(r"TWINLOG_SINK_(\w+) = 1u", text)}
        options = set(inspect.signature(twinlog.Sink).parameters) - {"path"}
        self.assertEqual(options, fields - {"size", "flags"} | flags)

    def test_the_file_is_exact_at_each_moment(self) -> None:
        with twinlog.Sink(self.path) as sink:
            self.assertEqual(content(self.path), b"")
            self.assertEqual(sink.write(b"one\n"), 0)
            self.assertEqual(content(self.path), b"one\n")
            self.assertEqual(sink.write(bytearray(b"two\n")), 4)
            self.assertEqual(sink.write(memoryview(b"\0\n")), 8)
            self.assertEqual(content(self.path), b"one\ntwo\n\0\n")
            self.assertEqual(sink.writelines([b"a", bytearray(b"b"), memoryview(b"\n")]), 10)
            self.assertEqual(sink.writelines(b"%d\n" % i for i in range(2000)), 13)  # more than a call of the kernel takes
            self.assertEqual((sink.write(b""), sink.writelines([])), (os.path.getsize(self.path),) * 2)
            sink.sync()
            self.assertFalse(sink.closed)
            self.assertIsNone(sink.rotation_error)
            self.assertIsNone(sink.sync_error)
        self.assertTrue(sink.closed)
        self.assertEqual(content(self.path), b"one\ntwo\n\0\nab\n" + b"".join(b"%d\n" % i for i in range(2000)))
        self.assertEqual(os.listdir(self.dir), ["file.log"])

        with open(self.path, "wb") as other, twinlog.Sink(self.path) as sink:  # made shorter, and appended to
            other.write(b"of another program\n")
            other.flush()
            self.assertEqual(sink.write(b"behind it\n"), 19)
        self.assertEqual(content(self.path), b"of another program\nbehind it\n")

    def test_the_mapped_kind_is_an_option(self) -> None:
        with twinlog.Sink(self.path, mapped=True, initial_bytes=1 << 20) as sink:
            sink.write(b"one\n")
            self.assertEqual(content(self.path), b"one\n" + bytes((1 << 20) - 4))
            self.refused(errno.EMEDIUMTYPE, lambda: twinlog.Sink(self.path, shared=True))
            self.refused(errno.ENOTSUP, lambda: sink.rotate(time.time_ns()))
        self.assertEqual(content(self.path), b"one\n")
        with open(self.path, "ab") as other:
            other.write(bytes(10))
        self.refused(errno.EUCLEAN, lambda: twinlog.Sink(self.path, mapped=True))
        with twinlog.Sink(self.path, mapped=True, drop_zeros=True) as sink:
            sink.write(b"two\n")
        self.assertEqual(content(self.path), b"one\ntwo\n")

    def test_options_of_the_other_kind_are_refused(self) -> None:
        self.refused(errno.EINVAL, lambda: twinlog.Sink(self.path, initial_bytes=1 << 20))
        self.refused(errno.EINVAL, lambda: twinlog.Sink(self.path, growth_bytes=1 << 20))
        self.refused(errno.EINVAL, lambda: twinlog.Sink(self.path, mapped=True, lines=True))
        self.refused(errno.EINVAL, lambda: twinlog.Sink(self.path, mapped=True, shared=True, max_bytes=1 << 20))
        self.assertEqual(os.listdir(self.dir), [])

    def test_a_close_that_fails_closes(self) -> None:
        sink = twinlog.Sink(self.path, mapped=True)
        sink.write(b"one\n")
        beside = next(name for name in os.listdir(self.dir) if name.endswith(".sink"))
        with open(os.path.join(self.dir, beside), "r+b") as other:  # another program has locks, for more than 5 seconds
            for byte in range(8):
                with contextlib.suppress(BlockingIOError):  # the sink has that one
                    fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            self.refused(errno.EBUSY, sink.close)
        self.assertTrue(sink.closed)
        self.refused(ValueError, lambda: sink.write(b"two\n"))
        sink.close()
        twinlog.Sink(self.path, mapped=True).close()
        self.assertEqual(content(self.path), b"one\n")

    def test_a_line_without_its_end_is_not_continued(self) -> None:
        with open(self.path, "wb") as other:
            other.write(b"half a li")
        with twinlog.Sink(self.path, lines=True) as sink:
            sink.write(b"whole\n")
        self.assertEqual(content(self.path), b"half a li\nwhole\n")

    def test_rotation(self) -> None:
        with twinlog.Sink(self.path, max_bytes=10, keep_files=2) as sink:
            offsets = [sink.write(b"line %d\n" % i) for i in range(4)]
            self.assertEqual(offsets, [0, 0, 0, 0])
            kept = {name: content(os.path.join(self.dir, name)) for name in os.listdir(self.dir)}
            self.assertEqual(kept, {"file.log": b"line 3\n", "file.log.1": b"line 2\n", "file.log.2": b"line 1\n"})

            lines = [b"line 4\n", b"line 5\n", b"line 6\n"]
            self.assertEqual(sink.writelines(lines), 0)  # in one piece
            self.assertEqual(content(self.path), b"".join(lines))
            self.assertEqual(content(self.path + ".1"), b"line 3\n")

            self.assertFalse(sink.rotate(0))  # the file is not so old
            self.assertTrue(sink.rotate(time.time_ns() + 10**9))
            self.assertFalse(sink.rotate(time.time_ns() + 10**9))  # it is empty
            self.assertEqual((content(self.path), content(self.path + ".1")), (b"", b"".join(lines)))

    def test_a_rotation_that_fails_loses_nothing(self) -> None:
        with twinlog.Sink(self.path, max_bytes=10, keep_files=1) as sink:
            os.mkdir(self.path + ".1")
            sink.write(b"line 0\n")
            self.assertEqual(sink.write(b"line 1\n"), 7)
            self.assertIsInstance(sink.rotation_error, OSError)
            self.assertEqual(sink.rotation_error.filename, self.path)
            self.refused(sink.rotation_error.errno, lambda: sink.rotate(time.time_ns() + 10**9))
            os.rmdir(self.path + ".1")
            self.until(lambda: sink.write(b"more\n") == 0, "it is tried again")
            self.assertIsNone(sink.rotation_error)
            self.assertTrue(content(self.path + ".1").startswith(b"line 0\nline 1\n"))

    def test_a_rename_is_followed(self) -> None:
        def is_in_the_next_file() -> bool:
            nonlocal count
            sink.write(b"%d\n" % count)
            count += 1
            return os.path.exists(self.path) and content(self.path) != b""

        with twinlog.Sink(self.path) as sink:
            sink.write(b"one\n")
            self.assertFalse(sink.reopen())
            os.rename(self.path, self.path + ".1")
            self.assertTrue(sink.reopen())
            self.assertEqual((content(self.path), content(self.path + ".1")), (b"", b"one\n"))

            os.rename(self.path, self.path + ".2")  # as logrotate does, and without a call
            count = 0
            self.until(is_in_the_next_file, "it is made, and written to")
        written = content(self.path + ".2") + content(self.path)
        self.assertEqual(written, b"".join(b"%d\n" % i for i in range(count)))

    def test_misuse(self) -> None:
        """The list in bindings/README.md."""
        new = self.path
        self.refused(ValueError, lambda: twinlog.Sink(new + "\0x"), lambda: twinlog.SinkHandler(new + "\0x"))
        self.refused(TypeError, lambda: twinlog.Sink(5), lambda: twinlog.Sink(None), lambda: twinlog.SinkHandler(5))
        self.refused(TypeError, lambda: twinlog.Sink(new, True), lambda: twinlog.Sink(new, flags=1), lambda: twinlog.Sink(new, max_bytes="1"))
        self.refused(TypeError, lambda: twinlog.Sink(new, keep_files=None), lambda: twinlog.SinkHandler(new, maxBytes="1"))
        numbers = {"max_bytes": 1 << 64}, {"keep_files": -1}, {"flush_interval_ms": 1 << 32}
        self.refused(OverflowError, *(lambda x=x: twinlog.Sink(new, **x) for x in numbers))
        self.refused(OverflowError, lambda: twinlog.SinkHandler(new, backupCount=-1))
        options = {"keep_files": 10000}, {"mapped": True, "lines": True}, {"mapped": True, "shared": True, "max_bytes": 1 << 20}
        self.refused(errno.EINVAL, *(lambda x=x: twinlog.Sink(new, **x) for x in options))
        self.refused(ValueError, lambda: twinlog.SinkHandler(new, mode="w"))
        self.refused(LookupError, lambda: twinlog.SinkHandler(new, encoding="none"), lambda: twinlog.SinkHandler(new, errors="none"))
        self.refused(errno.ENOENT, lambda: twinlog.Sink(new + "/not/here"), lambda: twinlog.SinkHandler(new + "/not/here"))
        self.refused(errno.ENOTSUP, lambda: twinlog.Sink(self.dir))
        self.assertEqual(os.listdir(self.dir), [])

        sink = twinlog.Sink(new)
        self.refused(errno.EBUSY, lambda: twinlog.Sink(new), lambda: twinlog.Sink(new, shared=True))
        self.refused(TypeError, *(lambda x=x: sink.write(x) for x in ("text", 5, None, True, [b"x"])), sink.write)
        self.refused(TypeError, *(lambda x=x: sink.writelines(x) for x in (b"x", "x", 5, ["x"], [b"x", None], [twinlog.Entry(b"x")])))
        self.refused(TypeError, lambda: sink.rotate("1"), lambda: sink.rotate(1.5), sink.rotate, lambda: sink.sync(1))
        self.refused(OverflowError, lambda: sink.rotate(1 << 63))
        self.refused(ZeroDivisionError, lambda: sink.writelines(b"x" * (1 // i) for i in (1, 0)))
        self.refused(OSError, sink.fileno)
        self.assertEqual((sink.readable(), sink.writable(), sink.seekable(), sink.isatty()), (False, True, False, False))
        self.assertEqual(content(new), b"")

        self.refused(ValueError, lambda: sink.__init__(new))
        self.refused(ValueError, lambda: sink.writelines(sink.close() or b"x" for _ in range(2)))
        sink.close()
        self.assertTrue(sink.closed)
        self.refused(ValueError, lambda: sink.write(b"x"), lambda: sink.writelines([b"x"]), sink.sync, sink.reopen, sink.flush)
        self.refused(ValueError, lambda: sink.rotate(0), lambda: sink.rotation_error, lambda: sink.sync_error)
        self.refused(ValueError, sink.__enter__, lambda: sink.__init__(new))
        never_opened = twinlog.Sink.__new__(twinlog.Sink)
        self.refused(ValueError, lambda: never_opened.write(b"x"), never_opened.sync)
        self.assertTrue(never_opened.closed)
        never_opened.close()
        self.assertEqual(content(new), b"")

    def test_a_forked_child_opens_its_own(self) -> None:
        def child() -> int:
            for call in sink.sync, sink.reopen, lambda: sink.write(b"x"), lambda: sink.rotate(0), lambda: sink.rotation_error:
                self.assertRaises(twinlog.ForkedError, call)
            self.assertTrue(sink.closed)
            self.assertRaises(ValueError, lambda: print("text", file=text))
            sink.close()
            with twinlog.Sink(self.path, shared=True) as own:
                own.write(b"child\n")
            return 7

        with twinlog.Sink(self.path, shared=True) as sink:
            text = io.TextIOWrapper(sink)
            text.write("waits ")
            self.assertEqual(self.run_in_child(child), 7)
            self.assertEqual(content(self.path), b"child\n")  # what waited in the parent came not twice
            text.close()
        self.assertEqual(content(self.path), b"child\nwaits ")

    def test_it_is_a_binary_file(self) -> None:
        written = []

        class Watched(twinlog.Sink):
            def write(self, data: bytes) -> int:
                written.append(data)
                return super().write(data)

        with io.TextIOWrapper(Watched(self.path, lines=True), encoding="utf-8", line_buffering=True) as text:
            print("naïve", 5, None, file=text)
            json.dump({"key": [1, 2]}, text)
            print(file=text)
            text.flush()
            self.assertEqual(content(self.path).decode(), 'naïve 5 None\n{"key": [1, 2]}\n')
        self.assertEqual(len(written), 2)  # a line is one piece
        with contextlib.redirect_stdout(io.TextIOWrapper(twinlog.Sink(self.path), write_through=True)):
            print("more")
            sys.stdout.close()
        with twinlog.Sink(self.path) as sink:
            pickle.dump("x", sink)
        self.assertEqual(content(self.path).splitlines()[2], b"more")

    def runs_beside(self, call: object) -> bool:
        """Whether this thread runs while another one is in the call: nothing else but the call gives the lock away."""
        begun, ended = threading.Event(), []

        def work() -> None:
            begun.set()
            call()  # type: ignore[operator]
            ended.append(1)

        former = sys.getswitchinterval()
        sys.setswitchinterval(600)
        try:
            thread = threading.Thread(target=work)
            thread.start()
            begun.wait()
            beside = not ended
        finally:
            sys.setswitchinterval(former)
        thread.join()
        return beside

    def test_other_threads_run_beside_a_call(self) -> None:
        data = bytes(32 << 20)
        with twinlog.Sink(self.path) as sink:
            lines = [data[:1 << 20]] * 32
            for call in lambda: sink.write(data), lambda: sink.writelines(lines), lambda: sink.write(data) or sink.sync():
                # On a busy machine this thread may get its turn too late.
                self.assertTrue(any(self.runs_beside(call) for _ in range(20)))
                os.truncate(self.path, 0)
            # This waits for a second.
            self.assertTrue(self.runs_beside(lambda: self.refused(errno.EBUSY, lambda: twinlog.Sink(self.path))))

    def test_a_close_beside_calls_waits_for_them(self) -> None:
        for _ in range(10):
            sink = twinlog.Sink(self.path, shared=True, max_bytes=1 << 20)
            ended, begun = [], threading.Semaphore(0)

            def call(what: object) -> None:
                begun.release()
                try:
                    while True:
                        what()  # type: ignore[operator]
                except ValueError:
                    ended.append(1)

            calls = [lambda: sink.write(b"x\n"), lambda: sink.writelines([b"x\n"] * 3), sink.sync, sink.reopen, sink.flush]
            calls += [lambda: sink.rotate(0), lambda: sink.rotation_error]
            threads = [threading.Thread(target=call, args=(what,)) for what in calls]
            for thread in threads:
                thread.start()
            for _ in threads:
                begun.acquire()
            sink.close()
            for thread in threads:
                thread.join()
            self.assertEqual(len(ended), len(calls))

    def test_one_that_is_forgotten_is_closed(self) -> None:
        sink = twinlog.Sink(self.path, mapped=True)
        sink.write(b"x\n")
        del sink
        gc.collect()
        self.assertEqual(content(self.path), b"x\n")
        twinlog.Sink(self.path).close()

    def test_a_sub_interpreter_has_its_own(self) -> None:
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            self.skipTest("no sub-interpreters in this Python")
        text = f"""if True:
            import logging, twinlog
            with twinlog.Sink({self.path!r}, shared=True) as sink:
                sink.write(b"sink\\n")
            handler = twinlog.SinkHandler({self.path!r})
            handler.emit(logging.makeLogRecord(dict(msg="handler")))
            handler.close()"""
        with twinlog.Sink(self.path, shared=True) as sink:
            for _ in range(2):
                interpreter = interpreters.create()
                interpreters.run_string(interpreter, text)
                interpreters.destroy(interpreter)
            sink.write(b"end\n")
        self.assertEqual(content(self.path), b"sink\nhandler\n" * 2 + b"end\n")

    def test_a_write_behind_a_limit_is_an_error_and_the_next_one_works(self) -> None:
        def child() -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            with twinlog.Sink(self.path, lines=True) as sink:
                sink.write(b"first\n")
                self.refused(errno.EFBIG, lambda: sink.write(b"x" * 1000 + b"\n"))
                self.assertEqual(content(self.path), b"first\n")
                sink.write(b"second\n")
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                self.until(lambda: writes(sink, b"x" * 1000 + b"\n"), "the limit is gone")
            return 7

        def writes(sink: twinlog.Sink, data: bytes) -> bool:
            try:
                sink.write(data)
                return True
            except OSError as error:
                self.assertEqual(error.errno, errno.EFBIG)
                return False

        self.assertEqual(signal.getsignal(signal.SIGXFSZ), signal.SIG_IGN)
        self.assertEqual(self.run_in_child(child), 7)
        self.assertEqual(content(self.path), b"first\nsecond\n" + b"x" * 1000 + b"\n")


# Processes of a server, which all log to one file: the arguments are that file and how the processes are started.
SERVER = """
import logging, logging.config, multiprocessing, sys

def configure(path):
    logging.config.dictConfig({
        "version": 1,
        "formatters": {"plain": {"format": "BEGIN %(message)s"}},
        "handlers": {
            "file": {
                "class": "twinlog.SinkHandler",
                "filename": path,
                "maxBytes": 50_000,
                "backupCount": 1000,
                "formatter": "plain",
            },
        },
        "root": {"handlers": ["file"], "level": "INFO"},
    })

def work(path, worker):
    if not logging.getLogger().handlers:  # it was not forked
        configure(path)
    for number in range(300):
        try:
            raise ValueError(f"of {worker} {number}")
        except ValueError:
            logging.exception("%d %d", worker, number)

if __name__ == "__main__":
    path, how = sys.argv[1:]
    configure(path)
    logging.info("server")
    context = multiprocessing.get_context(how)
    workers = [context.Process(target=work, args=(path, worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(any(worker.exitcode for worker in workers))
"""


class HandlerTest(SinkCase):
    def logger(self, **options: object) -> logging.Logger:
        logger = logging.Logger(self.id())
        handler = twinlog.SinkHandler(self.path, **options)  # type: ignore[arg-type]
        self.addCleanup(handler.close)
        logger.addHandler(handler)
        return logger

    def test_records_are_there_at_once_and_in_one_piece(self) -> None:
        logger = self.logger()
        self.assertEqual(content(self.path), b"")
        logger.info("one")
        self.assertEqual(content(self.path), b"one\n")
        logger.info("na\u00efve \ud800\nin two lines")
        self.assertEqual(content(self.path).decode(), "one\nna\u00efve \\ud800\nin two lines\n")
        logger.handlers[0].flush()
        logger.handlers[0].sink.sync()
        self.assertIn("file.log", repr(logger.handlers[0]))

        written = []
        with unittest.mock.patch.object(logger.handlers[0].sink, "write", written.append):
            try:
                raise ValueError("of this test")
            except ValueError:
                logger.exception("three")
        self.assertEqual(len(written), 1)
        self.assertRegex(written[0], rb"\Athree\nTraceback (?s:.*)ValueError: of this test\n\Z")

    def test_the_encoding_and_its_errors(self) -> None:
        self.logger(encoding="latin-1", errors="replace").info("na\u00efve \u20ac")
        self.assertEqual(content(self.path), b"na\xefve ?\n")
        logger = self.logger(encoding=None, errors=None)
        with unittest.mock.patch.object(logger.handlers[0], "handleError") as told:
            logger.info("\ud800")
        told.assert_called_once()
        self.assertEqual(content(self.path), b"na\xefve ?\n")

    def test_processes_share_a_file_and_rotate_it(self) -> None:
        program = os.path.join(self.dir, "server.py")
        with open(program, "w") as file:
            file.write(SERVER)
        for how in "fork", "spawn", "forkserver":
            with self.subTest(how=how):
                folder = os.path.join(self.dir, how)
                os.mkdir(folder)
                subprocess.run([sys.executable, program, os.path.join(folder, "log"), how], check=True, timeout=300)
                files = [content(os.path.join(folder, name)).decode() for name in os.listdir(folder)]
                self.assertGreater(len(files), 1)
                self.assertTrue(all(text.startswith("BEGIN ") for text in files if text))
                records = [record for text in files for record in text.split("BEGIN ")[1:]]
                records.remove("server\n")
                seen = []
                for record in records:
                    first, second, *_, last = record.splitlines()
                    self.assertEqual((second, last), ("Traceback (most recent call last):", f"ValueError: of {first}"))
                    seen.append(first)
                self.assertEqual(sorted(seen), sorted(f"{worker} {number}" for worker in range(4) for number in range(300)))

    def test_a_child_logs_although_threads_did_at_the_fork(self) -> None:
        def child() -> int:
            logger.info("child")
            return 0

        logger = self.logger()
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                logger.info("parent")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        statuses = [self.run_in_child(child) for _ in range(20)]
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, [0] * 20)
        lines = content(self.path).splitlines()
        self.assertEqual(lines.count(b"child"), 20)
        self.assertEqual(set(lines), {b"child", b"parent"})

    def test_a_killed_process_loses_nothing_that_it_has_logged(self) -> None:
        program = """if True:
            import logging, sys, twinlog
            logger = logging.Logger("")
            logger.addHandler(twinlog.SinkHandler(sys.argv[1]))
            number = 0
            while True:
                logger.info("%s %d", sys.argv[2], number)
                sys.stdout.write("%d\\n" % number)
                sys.stdout.flush()
                number += 1
        """
        workers = [
            subprocess.Popen([sys.executable, "-c", program, self.path, str(i)], stdout=subprocess.PIPE, cwd=place)
            for i in range(3)
        ]
        logged = []
        for worker in workers:
            assert worker.stdout is not None
            said = [worker.stdout.readline() for _ in range(100)]
            worker.kill()
            said += [line for line in worker.stdout if line.endswith(b"\n")]
            worker.wait()
            worker.stdout.close()
            logged.append(len(said))
        lines = content(self.path).decode().splitlines()
        for i, count in enumerate(logged):
            numbers = [int(line.split()[1]) for line in lines if line.startswith(f"{i} ")]
            self.assertGreaterEqual(len(numbers), count)
            self.assertEqual(numbers, list(range(len(numbers))))
        self.assertRegex("\n".join(lines), r"\A([0-2] \d+\n)*[0-2] \d+\Z")

    def test_a_full_disk_is_told_and_the_next_record_works(self) -> None:
        def child() -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            logger = self.logger()
            logger.info("first")
            with unittest.mock.patch.object(logger.handlers[0], "handleError") as told:
                logger.info("x" * 1000)
            told.assert_called_once()
            logger.info("second")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

            def is_written() -> bool:
                with unittest.mock.patch.object(logger.handlers[0], "handleError") as told:
                    logger.info("x" * 1000)
                return not told.called

            self.until(is_written, "the limit is gone")
            return 7

        self.assertEqual(self.run_in_child(child), 7)
        self.assertEqual(content(self.path), b"first\nsecond\n" + b"x" * 1000 + b"\n")

    def test_rotation_has_the_words_of_another_handler(self) -> None:
        theirs = inspect.signature(logging.handlers.RotatingFileHandler).parameters
        self.assertEqual(list(inspect.signature(twinlog.SinkHandler).parameters)[: len(theirs)], list(theirs))
        logger = self.logger(maxBytes=14, backupCount=1)
        for i in range(6):
            logger.info("line %d", i)
        kept = {name: content(os.path.join(self.dir, name)) for name in os.listdir(self.dir)}
        self.assertEqual(kept, {"file.log": b"line 4\nline 5\n", "file.log.1": b"line 2\nline 3\n"})

        logger = self.logger(maxBytes=14, backupCount=0)  # this, there as here, is for none
        for i in range(6):
            logger.info("more %d", i)
        self.assertEqual(len(content(self.path)), 8 * 7)

    def test_a_rename_by_logrotate_is_followed(self) -> None:
        def is_in_the_next_file() -> bool:
            nonlocal count
            logger.info("%d", count)
            count += 1
            return os.path.exists(self.path) and content(self.path) != b""

        logger = self.logger()
        count = 0
        os.rename(self.path, self.path + ".1")
        self.until(is_in_the_next_file, "it is made, and written to")
        written = content(self.path + ".1") + content(self.path)
        self.assertEqual(written, b"".join(b"%d\n" % i for i in range(count)))

    def test_when_it_is_opened_and_closed(self) -> None:
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.dir)
        self.path = "file.log"
        handler = self.logger(delay=True).handlers[0]
        os.chdir(here)
        record = logging.makeLogRecord({"msg": "text"})
        self.assertEqual(os.listdir(self.dir), [])
        handler.handle(record)
        self.assertEqual(os.listdir(self.dir), ["file.log"])
        sink = handler.sink
        handler.close()
        handler.close()
        self.assertTrue(sink.closed)
        handler.handle(record)  # as a FileHandler does
        self.assertEqual(content(handler.baseFilename), b"text\ntext\n")
        self.assertEqual(os.listdir(self.dir), ["file.log"])

    def test_one_process_may_have_it_alone(self) -> None:
        self.logger(shared=False)
        self.refused(errno.EBUSY, lambda: self.logger(), lambda: self.logger(shared=False))


unittest.main()
