# SPDX-License-Identifier: Apache-2.0
"""twinlog for Python: a durable, group-committing log in a directory.

    with twinlog.Log("journal") as log:
        lsn = log.append(b"hello")            # on stable storage
        for record in log.reader():
            print(record.lsn, record.data)

A Sink is a plain file that threads and processes append to, with no log behind it; SinkHandler writes the records of
`logging` to one.

A call that waits does not hold the interpreter's lock, so threads that append at the same time share one write and one
sync. Every method of a Log or Sink may be called from any thread; a Reader or Consumer is for one thread at a time, and
makes others wait.

What fails raises OSError: FileNotFoundError, TimeoutError, and so on by errno (EBUSY: another process has the log), and
for what errno cannot say a subclass of Error. Its attribute `report` is a Report, or None: file, offset and LSNs
concerned, and what to do next. If the attribute `lsn` is not 0 there is a record although the call has failed: Log.wait()
says what becomes of it. What was closed raises ValueError. A wrong type raises TypeError, a number that has no place in
the field of C OverflowError; then nothing was stored.
"""
import asyncio
import atexit
import collections
import contextlib
import errno
import fcntl
import functools
import io
import itertools
import math
import os
import sys
import threading
import time
import weakref
from typing import Any, AsyncIterator, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Tuple, Type, Union

from . import _twinlog as _c

__version__ = "0.1.0"

MUST_EXIST, PAD, BUFFERED, READ_ONLY, NO_RECYCLE = (1 << i for i in range(5))
MODE_DURABLE, MODE_MAPPED, MODE_SHARED = range(3)
# What an append waits for. LEVEL_OF_MODE is LEVEL_DURABLE in MODE_DURABLE. In the other modes it is LEVEL_WRITTEN: the
# record survives this process, and no power cut.
LEVEL_OF_MODE, LEVEL_BUFFERED, LEVEL_WRITTEN, LEVEL_DURABLE = range(4)
_TRY, _READER_MMAP, _CONSUMER_FROM_END, _CONSUMER_MMAP = 1, 1, 1, 2

Path = Union[str, bytes, "os.PathLike[Any]"]
Bytes = Union[bytes, bytearray, memoryview]


class Entry(NamedTuple):
    """A record to be appended, with what readers return beside its bytes."""

    data: Bytes
    type: int = 0
    tag: int = 0
    time_ns: int = 0  # 0 = the log takes the time


class Record(NamedTuple):
    lsn: int
    time_ns: int
    data: bytes
    type: int
    tag: int


class Report(NamedTuple):
    """Where something was found, and what to do. 0 and "" stand for unknown and none."""

    finding: int  # enum twinlog_finding
    action: int  # enum twinlog_action
    error: int
    segment: int
    offset: int  # in the file
    bytes: int
    first_lsn: int  # concerned; behind a TruncatedError or TrimmedError: where to go on
    last_lsn: int
    file: str  # in the log's directory
    text: str


# ---- errors ----------------------------------------------------------------------------------------


class Error(OSError):
    """What errno cannot say."""

    lsn: int = 0
    report: Optional[Report] = None


class CorruptError(Error):
    """Acknowledged data is damaged."""


class PoisonedError(Error):
    """An earlier write or sync has failed; close the log and open it again."""


class VersionError(Error):
    """Of a newer format, or shared by another version of the library."""


class TrimmedError(Error):
    """The record was removed from the head of the log."""


class ForkedError(Error):
    """The log or sink was opened by the parent process."""


class ForeignError(Error):
    """A file in the directory is another log's."""


class TruncatedError(Error):
    """Records that this reader has passed were truncated from the end; seek to go on."""


_ERRORS: Dict[int, Type[OSError]] = {
    -5001: CorruptError,
    -5002: PoisonedError,
    -5003: VersionError,
    -5004: TrimmedError,
    -5005: ForkedError,
    -5006: ForeignError,
    -5007: TruncatedError,
}

def _error(
    number: int, lsn: int = 0, path: Optional[Path] = None, report: Optional[Tuple[Any, ...]] = None
) -> OSError:
    found = Report(*report) if report else None
    name = os.fsdecode(path) if path is not None else None
    text = found.text if found else _c.strerror(number)
    if found and found.file:
        lsns = f", LSN {found.first_lsn}" if found.first_lsn else ""
        lsns += f" to {found.last_lsn}" if found.last_lsn > found.first_lsn else ""
        text = f"{found.file}{f', offset {found.offset}' if found.segment else ''}{lsns}: {text}"
    error = _ERRORS.get(number, OSError)(-number, text, name)
    error.lsn, error.report = lsn, found  # type: ignore[attr-defined]
    return error


_c.use(Record, Entry, _error)


def library_version() -> str:
    return _c.version()


_TURN_SECONDS = 0.001  # of work, before an event loop runs other tasks
_WAIT_SECONDS = 0.2  # of a wait, before Ctrl-C is looked for

# ---- reading ---------------------------------------------------------------------------------------


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(call)


class _Following(_c.Reader):
    """What a Reader and a Consumer have in common. Iterating ends where the log ends for now; iterating once more goes on
    from there."""

    _at_close: List[Callable[[], None]]  # called, in whichever thread, when a close begins

    def close(self) -> None:
        if hasattr(self, "_at_close"):
            self._close(self._at_close)

    def __exit__(self, *_: object) -> None:
        self.close()

    __del__ = close

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits for a record; False if there was none in time."""
        if timeout is not None and not timeout >= 0:
            raise ValueError("a timeout must be a number that is not negative")
        end = None if timeout is None else time.monotonic() + timeout
        while True:  # in short turns, so that Ctrl-C and close() work
            left = _WAIT_SECONDS if end is None else min(_WAIT_SECONDS, max(end - time.monotonic(), 0.0))
            if self._wait(round(left * 1000)):
                return True
            if end is not None and time.monotonic() >= end:
                return False

    def follow(self, timeout: Optional[float] = None) -> Iterator[Record]:
        """The records as they come; ends when there was none for `timeout` seconds."""
        while True:
            yield from self
            if not self.wait(timeout):
                return

    def payloads(self) -> io.BufferedReader:
        """The bytes of the records from here on, one behind the other, as a file. It ends where the log ends for now; a read
        after more was appended goes on. What it has read in advance is lost with it."""
        return io.BufferedReader(_Payloads(self))

    def __aiter__(self) -> AsyncIterator[Record]:
        """Follows: `async for record in reader`. ValueError if it is closed meanwhile. While there are records, the event
        loop gets a turn after each millisecond. A timeout, or a cancellation, takes no record away."""
        return _Records(self)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        call = lambda: _tell(loop, ready.set)  # noqa: E731
        self._at_close.append(call)
        try:
            # The loop gets a descriptor of its own: a close may give that of the reader to another file. None of 0 to 2: where
            # these are closed, other code still writes to them.
            fd = fcntl.fcntl(self.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
            try:
                loop.add_reader(fd, ready.set)
                await ready.wait()
            finally:
                loop.remove_reader(fd)
                os.close(fd)
        finally:
            self._at_close.remove(call)


class _Payloads(io.RawIOBase):
    def __init__(self, source: _Following) -> None:
        self.source = source
        self.rest = memoryview(b"")  # of the record that was begun

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self.rest:
            record = self.source.next()
            if record is None:
                return 0
            self.rest = memoryview(record.data)
        count = min(len(into), len(self.rest))
        into[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count


class _Records:
    """What `async for` iterates over. It is no generator: that would be over after a timeout of anext()."""

    def __init__(self, source: _Following) -> None:
        self.source = source
        self.turn_ends = time.monotonic() + _TURN_SECONDS

    def __aiter__(self) -> "_Records":
        return self

    async def __anext__(self) -> Record:
        if time.monotonic() >= self.turn_ends:
            await asyncio.sleep(0)
            self.turn_ends = time.monotonic() + _TURN_SECONDS
        while True:
            record = self.source.next()
            if record is not None:
                return record
            await self.source._readable()
            self.turn_ends = time.monotonic() + _TURN_SECONDS


class Reader(_Following):
    """Reads the log in `path`, in any process, beside a writer or without one."""

    previous = _c.Reader._previous
    seek, seek_time = _c.Reader._seek, _c.Reader._seek_time
    seek_first, seek_end = _c.Reader._seek_first, _c.Reader._seek_end

    def __init__(
        self, path: Path, *, from_lsn: int = 0, to_lsn: int = 0, mmap: bool = False, _log: Optional["Log"] = None
    ) -> None:
        self._at_close = []
        _c.open_reader(self, _log, path, from_lsn, to_lsn, _READER_MMAP if mmap else 0)


class Consumer(_Following):
    """Goes on where the last consumer of this name ended, on the log in `path`, in any process. A new name begins with
    the oldest record, or with from_end behind the newest one. A close commits nothing: the next consumer of this name
    gets what was not committed."""

    commit = _c.Reader._commit

    async def commit_async(self, lsn: int = 0) -> None:
        """As commit(); the event loop runs meanwhile, and no other call of this consumer may."""
        await asyncio.get_running_loop().run_in_executor(None, self.commit, lsn)

    def __init__(self, path: Path, name: str, *, from_end: bool = False, mmap: bool = False) -> None:
        self._at_close = []
        flags = (_CONSUMER_FROM_END if from_end else 0) | (_CONSUMER_MMAP if mmap else 0)
        _c.open_consumer(self, path, name, flags)


# What says that a batch was not accepted. Anything else is of a signal's handler.
_REFUSALS = OSError, ValueError, TypeError, OverflowError, MemoryError

# ---- asyncio ---------------------------------------------------------------------------------------


class _Standing(NamedTuple):
    """A batch that found no room, or stands behind one that did not. That of a task that is cancelled keeps its place, so
    its record is appended in any case."""

    key: int
    batch: "_c.Batch"
    level: int


class _Waiting(_c.Queue):
    """Requests of one event loop, which hears of their completion by the descriptor of a queue. With a committer the
    loop does the commits, too: whenever it fetches from the queue.

    A signal's handler may raise between any two steps here. So each step is one that can be made again: what was fetched
    stays in `fetched` until its future is set, and a batch knows that it was submitted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, committer: Optional[_c.Committer] = None) -> None:
        _c.open_queue(self)
        self.loop = loop
        self.thread = threading.get_ident()
        self.will_tell = False
        self.next_turn: Optional[asyncio.Handle] = None
        self.keys = itertools.count(1)
        self.futures: Dict[int, "asyncio.Future[int]"] = {}
        self.fetched: List[Tuple[int, int, int]] = []
        self.lines: Dict["Log", Deque[_Standing]] = {}
        self.serving = threading.RLock()  # a signal's handler may close the log
        self.served_by: Optional[int] = None
        if committer is not None:
            _c.open_committer(committer, self)
        try:
            self.descriptor = self._fileno(_c)
            loop.add_reader(self.descriptor, self.tell)
        except BaseException:
            if committer is not None:
                committer._close()
            raise

    def __del__(self) -> None:
        """Where the loop was closed before it got to end()."""
        if hasattr(self, "fetched"):
            while self.fetch(self.fetched):
                pass
            self.close()

    def on_work(self) -> None:
        """The tasks that can run now do so first: one commit is for all that they submit. What another thread brings
        makes the descriptor readable."""
        if not self.will_tell and threading.get_ident() == self.thread and not self.loop.is_closed():
            self.tell_soon()
            self.will_tell = True

    def tell_soon(self) -> None:
        """Once in a turn of the loop, however often it is asked for; twice if a signal's handler raises here, but never not
        at all."""
        former, self.next_turn = self.next_turn, self.loop.call_soon(self.tell)
        if former is not None:
            former.cancel()

    def tell(self, seconds: float = _TURN_SECONDS) -> None:
        """For a turn; the loop goes on with the rest behind its other tasks. Without its end where the loop has ended."""
        try:
            if not self.tell_until(math.inf if self.loop.is_closed() else time.monotonic() + seconds):
                self.tell_soon()
        except asyncio.InvalidStateError:  # a signal's handler has closed the log, and told this future, too
            self.tell_soon()
        except BaseException:  # the descriptor may not become readable again for what is left
            if not self.loop.is_closed():
                self.tell_soon()
            raise

    def tell_until(self, turn_ends: float) -> bool:
        """False: there is more to do, of which the descriptor may not tell."""
        self.thread = threading.get_ident()
        self.will_tell = False
        is_more = self.fetch(self.fetched)
        while self.tell_fetched(turn_ends) and is_more and time.monotonic() < turn_ends:
            is_more = self.fetch(self.fetched)
        is_over = not self.fetched and not is_more
        for log in list(self.lines):
            is_over = self.serve(log, _TRY, turn_ends) and is_over
        return is_over

    def tell_fetched(self, turn_ends: float) -> bool:
        """At least one, if there is any. False: the turn is over, and there are more."""
        told, futures, is_closed = 0, self.futures, self.loop.is_closed()
        try:
            for key, result, lsn in self.fetched:
                future = futures.get(key)
                if future is not None and not future.done() and not is_closed:  # else nobody asks any more
                    if result < 0:
                        future.set_exception(_error(result, lsn))
                    else:
                        future.set_result(lsn)
                futures.pop(key, None)
                told += 1
                if time.monotonic() >= turn_ends:
                    break
        finally:
            del self.fetched[:told]
        return not self.fetched

    def refuse(self, key: int, error: Exception) -> None:
        future = self.futures.get(key)
        if future is not None and not future.done() and not self.loop.is_closed():
            future.set_exception(error)
        self.futures.pop(key, None)

    def submit(self, log: "Log", batch: "_c.Batch", level: int) -> "asyncio.Future[int]":
        future: "asyncio.Future[int]" = self.loop.create_future()
        key = next(self.keys)
        self.futures[key] = future
        try:
            if log in self.lines or not log._submit(self, key, batch, level, _TRY):
                line = self.lines.get(log) or collections.deque()
                line.append(_Standing(key, batch, level))
                self.lines[log] = line
                if len(line) == 1:  # a signal's handler may have closed the log meanwhile, and nothing would tell
                    self.tell_soon()
        except BaseException:
            del self.futures[key]
            raise
        return future

    def serve(self, log: "Log", flags: int, turn_ends: float = math.inf) -> bool:
        """Submits those in line. With _TRY: as many as there is room for; the descriptor tells when there is more. With 0, as
        a close does it, perhaps in another thread: all, and waits for room. False: the turn is over, and there may be
        room."""
        own = threading.get_ident()
        if flags == _TRY and self.served_by not in (None, own):
            return True  # a close does it
        with self.serving:
            try:
                self.served_by = own
                return self.serve_line(log, flags, turn_ends)
            finally:
                self.served_by = None

    def serve_line(self, log: "Log", flags: int, turn_ends: float) -> bool:
        line = self.lines.get(log)
        while line:
            first = line[0]
            try:
                if not log._submit(self, first.key, first.batch, first.level, flags):
                    return True
            except _REFUSALS as error:
                self.in_its_loop(functools.partial(self.refuse, first.key, error))
            if line and line[0] is first:  # else a signal's handler has closed the log
                line.popleft()
            if line and time.monotonic() >= turn_ends:
                return False
        if flags == _TRY or self.loop.is_closed():  # elsewhere a task may be about to join the line
            self.lines.pop(log, None)
        return True

    def in_its_loop(self, call: Callable[[], object]) -> None:
        """Also from a signal's handler, which may have come while the loop was about to sleep."""
        if self.loop.is_closed():
            call()
        else:
            _tell(self.loop, call)

    def end(self) -> bool:
        """False while there are requests that are not completed. After a close of the log there are none."""
        if not self.loop.is_closed():
            self.loop.remove_reader(self.descriptor)
        self.tell(math.inf)
        self.next_turn = None  # which refers to this
        return self.close()


def _weakly(waiting: _Waiting) -> Callable[[], None]:
    """Its on_work(), for C. A weak one: the collector cannot see what C refers to."""
    known = weakref.ref(waiting)

    def on_work() -> None:
        found = known()
        if found is not None:
            found.on_work()

    return on_work


# ---- committers --------------------------------------------------------------------------------------


class Committer(_c.Committer):
    """Commits for every log that is opened with it, by one thread: for hundreds of logs in one process.

    With `in_loop`, made in a running event loop, it has no thread: that loop does the commits between its tasks, and
    never waits for the disk. With a few tasks that takes about half of the processor; with hundreds at once a thread is
    faster, which writes while they run. Other threads may use the logs, too; submit() is for tasks of this loop only.
    Close the logs, and then the committer, before the loop ends."""

    _waiting: Optional[_Waiting] = None
    _left: "List[Committer]" = []  # collected before a log that uses them, and closed behind that

    def __init__(self, *, in_loop: bool = False) -> None:
        if in_loop:
            self._waiting = _Waiting(asyncio.get_running_loop(), self)
        else:
            _c.open_committer(self, None)

    def close(self) -> None:
        """OSError with EBUSY while a log is open with it; then nothing happened."""
        if not self._close():
            raise OSError(errno.EBUSY, "logs are open with this committer; close them first")
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.in_its_loop(waiting.end)

    def __enter__(self) -> "Committer":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.close()
        except OSError:
            if kind is None:  # else it would hide why a log is still open
                raise

    def __del__(self) -> None:
        try:
            self.close()
        except OSError:
            self._left.append(self)
        except RuntimeError:
            pass

    @classmethod
    def _close_left(cls) -> None:
        for committer in list(cls._left):
            with contextlib.suppress(OSError, ValueError):
                committer.close()
                cls._left.remove(committer)


# ---- the end of the interpreter ----------------------------------------------------------------------

_open_logs: "weakref.WeakSet[Log]" = weakref.WeakSet()


@atexit.register
def _sync_open_logs() -> None:
    """A log that a module still refers to is not collected at the end, and what is in its buffer would be lost. It is not
    closed, because threads that the interpreter does not wait for may use it."""
    for log in list(_open_logs):
        try:
            log._serve_lines()
            log.sync()
        except (ValueError, ForkedError):  # it is closed, or the parent's
            pass
        except OSError as error:
            print(f"twinlog: {os.fsdecode(log.path)} is not durable: {error}", file=sys.stderr)


# ---- the log ---------------------------------------------------------------------------------------


class Log(_c.Log):
    """Opens the log in `path` for appending, and makes it where there is none. The other options are those of struct
    twinlog_options; 0 is the default of each. `opened` is a Report of what opening found."""

    opened: Report

    def __init__(
        self,
        path: Path,
        *,
        mode: int = MODE_DURABLE,
        flags: int = 0,
        segment_bytes: int = 0,
        segment_records: int = 0,
        segment_age_ms: int = 0,
        buffer_bytes: int = 0,
        max_record_bytes: int = 0,
        mapped_bytes: int = 0,
        keep_bytes: int = 0,
        keep_records: int = 0,
        keep_age_ms: int = 0,
        spare_segments: int = 0,
        prepare: int = 0,
        io: int = 0,
        lock_timeout_ms: int = 0,
        flush_interval_ms: int = 0,
        committer: Optional[Committer] = None,
    ) -> None:
        options = {name: value for name, value in locals().items() if name not in ("self", "path", "committer")}
        self.path = path
        self._mode = mode
        self._committer = committer
        self._waiting_lock = threading.RLock()  # a signal's handler may close the log
        self._waiting: Dict[asyncio.AbstractEventLoop, _Waiting] = {}
        loop_of_commits = committer._waiting if committer else None
        if loop_of_commits is not None:
            self._waiting[loop_of_commits.loop] = loop_of_commits
        on_work = _weakly(loop_of_commits) if loop_of_commits else None
        if not 0 <= lock_timeout_ms < 1 << 32:  # C gets a part of it at a time
            raise OverflowError(f"lock_timeout_ms has no place in 32 bits: {lock_timeout_ms}")
        end = time.monotonic() + lock_timeout_ms / 1000
        while True:  # in short turns, so that Ctrl-C works
            left_ms = max(round((end - time.monotonic()) * 1000), 0)
            options["lock_timeout_ms"] = min(left_ms, round(_WAIT_SECONDS * 1000))
            try:
                self.opened = Report(*_c.open_log(self, path, options, committer, on_work))
                break
            except OSError as error:
                if error.errno != errno.EBUSY or left_ms == 0:
                    raise
        if on_work is not None:
            on_work()
        _open_logs.add(self)

    async def close_async(self) -> None:
        """As close(); the event loop runs meanwhile."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        """Makes every record durable, also what stands in line for room, closes the readers of this log, and closes the
        log. Raises what kept a record from being durable."""
        self._serve_lines()
        result = self._close([self._close_readers])
        if result is None:
            return
        if result != -errno.EBUSY:  # then nothing happened, and it is open again
            self._end_waiting()
            Committer._close_left()
        if result < 0:
            raise _error(result, path=self.path)

    def _serve_lines(self) -> None:
        if self._closed:  # or the parent process has it, in which other threads may have had the locks at the fork
            return
        with self._waiting_lock:
            all_waiting = list(self._waiting.values())
        for waiting in all_waiting:
            waiting.serve(self, 0)

    def _end_waiting(self) -> None:
        of_committer = self._committer._waiting if self._committer else None
        with self._waiting_lock:
            ended, self._waiting = self._waiting, {}
        for waiting in ended.values():
            if waiting is of_committer:
                waiting.in_its_loop(waiting.tell)
            else:
                waiting.in_its_loop(waiting.end)

    def _close_readers(self) -> None:
        for reader in self._readers():
            reader.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_waiting"):
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                self.close()

    async def submit(self, *records: Union[Entry, Bytes], level: int = LEVEL_OF_MODE) -> int:
        """Appends the records as a batch and lets the event loop run until they are durable; the LSN of the first.
        A task that is cancelled stops waiting; its records are appended all the same. In the modes MAPPED and SHARED a
        call takes one record, and a thread of the loop's executor appends it: in no certain order, and not at all if
        the task is cancelled before that thread begins."""
        loop = asyncio.get_running_loop()
        if self._mode != MODE_DURABLE:
            return await loop.run_in_executor(None, lambda: self.append_batch(records, level=level))
        waiting = self._waiting.get(loop) or self._wait_in(loop)
        return await waiting.submit(self, _c.batch(records), level)

    def _wait_in(self, loop: asyncio.AbstractEventLoop) -> _Waiting:
        self.last_lsn  # ValueError: it is closed
        if self._committer and self._committer._waiting:
            raise RuntimeError("the commits of this log are done in another event loop, and only its tasks may submit")
        with self._waiting_lock:
            over = [waiting for other, waiting in self._waiting.items() if other.is_closed()]
        for old in over:
            old.serve(self, 0)
            if old.end():
                with self._waiting_lock:
                    self._waiting.pop(old.loop, None)

        waiting = _Waiting(loop)
        with self._waiting_lock:
            self._waiting[loop] = waiting
        try:
            self.last_lsn
        except ValueError:  # it was closed meanwhile; the others in `_waiting` are ended by that close
            with self._waiting_lock:
                unused = self._waiting.pop(loop, None)
            if unused:
                unused.end()
            raise
        return waiting

    def reader(self, *, from_lsn: int = 0, to_lsn: int = 0, mmap: bool = False) -> Reader:
        """A reader on this log, which is closed with the log."""
        return Reader(self.path, from_lsn=from_lsn, to_lsn=to_lsn, mmap=mmap, _log=self)


# ---- plain files -----------------------------------------------------------------------------------


class Sink(_c.Sink):
    """Opens the plain file `path` for appending, and makes it where there is none. The file has the bytes that were
    written and no others at every moment, for every program to read.

    `shared`: other processes may have it open, too. `lines`: each write has whole lines, and a line that a killed
    process has left without its end gets a newline first. `max_bytes`: a write that would make the file larger goes to
    a new one; PATH becomes PATH.1 and so on, and `keep_files` of these are kept. `flush_interval_ms`: syncs so often;
    0 = only sync() does.

    `mapped` is the other kind of sink, as fast as memory: the file then ends in zeros while it is open, which most
    programs that read logs do not bear. `initial_bytes` and `growth_bytes` are for that kind only, and EINVAL for
    the other; their 0 is the default. `drop_zeros`: zeros that a file of that kind ends in after a crash of the system
    are not data.

    A sink is a binary file, as far as one that only grows can be: io.TextIOWrapper(sink, line_buffering=True) is one
    for text. But write() returns the offset of the bytes. Nothing is buffered, so flush() does nothing; it is no
    sync()."""

    def __init__(
        self,
        path: Path,
        *,
        shared: bool = False,
        lines: bool = False,
        mapped: bool = False,
        drop_zeros: bool = False,
        initial_bytes: int = 0,
        growth_bytes: int = 0,
        max_bytes: int = 0,
        keep_files: int = 5,
        flush_interval_ms: int = 0,
    ) -> None:
        self.path = self.name = path
        options = {
            "initial_bytes": initial_bytes,
            "growth_bytes": growth_bytes,
            "max_bytes": max_bytes,
            "keep_files": keep_files,
            "flush_interval_ms": flush_interval_ms,
        }
        _c.open_sink(self, path, shared, lines, mapped, drop_zeros, options)

    @property
    def rotation_error(self) -> Optional[OSError]:
        """Why the file is not the one that path names, or the next one for max_bytes could not be begun; None if neither
        is so. Writes succeed meanwhile."""
        number = self._rotation_error()
        return _error(number, path=self.path) if number < 0 else None

    @property
    def sync_error(self) -> Optional[OSError]:
        """The error of the last sync that flush_interval_ms has made; None if it has made none, or that succeeded. Writes
        succeed meanwhile. If sync() raises it as well, no sync of this sink succeeds any more."""
        number = self._sync_error()
        return _error(number, path=self.path) if number < 0 else None

    def close(self) -> None:
        """Waits for calls that other threads have begun, and closes the file. Does not sync."""
        result = self._close([])
        if result is not None and result < 0:
            raise _error(result, path=self.path)

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.close()

    def flush(self) -> None:
        if self.closed:
            raise ValueError("it is closed")

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise io.UnsupportedOperation("a sink may go on in another file at any time")


# It needs what is above. asyncio has imported `logging` already, so this costs nothing.
from ._handler import SinkHandler as SinkHandler  # noqa: E402
