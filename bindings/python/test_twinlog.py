# SPDX-License-Identifier: Apache-2.0
"""What the Python binding promises. Its first argument is a directory that does not exist yet."""
import asyncio
import errno
import gc
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import unittest
import unittest.mock

import twinlog

place = sys.argv.pop(1)
header = os.environ["TWINLOG_INCLUDE"]


class Test(unittest.TestCase):
    def setUp(self) -> None:
        self.dir = os.path.join(place, self.id().rsplit(".", 1)[1])
        os.makedirs(place, exist_ok=True)

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
        options = set(inspect.signature(twinlog.Log).parameters) - {"path"}
        self.assertEqual(options, fields("twinlog_options", "twinlog.h"))

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

    def refused(self, expected: object, *calls: object) -> None:
        """`expected`: a type of exceptions, or an errno."""
        for number, call in enumerate(calls):
            with self.subTest(expected=expected, number=number):
                with self.assertRaises(OSError if isinstance(expected, int) else expected) as raised:
                    call()
                if isinstance(expected, int):
                    self.assertEqual(raised.exception.errno, expected)

    def test_misuse(self) -> None:
        """The list in bindings/README.md."""
        new = self.dir + ".2"
        options = {"segment_bytes": 1}, {"flags": 1 << 31}, {"mode": 99}
        self.refused(errno.EINVAL, *(lambda x=x: twinlog.Log(new, **x) for x in options))
        options = {"keep_bytes": 1 << 64}, {"io": 1 << 32}, {"keep_age_ms": -1}
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

    def test_a_child_of_a_killed_process_keeps_no_log_locked(self) -> None:
        told, tell = os.pipe()
        service = os.fork()
        if service == 0:
            log = twinlog.Log(self.dir)
            log.append(b"x")
            if os.fork() == 0:  # one of a pool, which outlives the service
                os.close(tell)
                os.read(told, 1)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(service, 0)
        with twinlog.Log(self.dir) as log:
            self.assertEqual(log.append(b"y"), 2)
        os.close(tell)
        os.close(told)

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
                await asyncio.get_running_loop().shutdown_default_executor()
                with self.assertRaises(RuntimeError):
                    await asyncio.wait_for(asyncio.gather(*tasks), 60)

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


unittest.main()
