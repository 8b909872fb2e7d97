# SPDX-License-Identifier: Apache-2.0
"""twinlog for Python: a durable, group-committing log in a directory.

    with twinlog.Log("journal") as log:
        lsn = log.append(b"hello")            # on stable storage
        for record in log.reader():
            print(record.lsn, record.data)

A call that waits does not hold the interpreter's lock, so threads that append at the same time share one write and one
sync. Every method of a Log may be called from any thread; a Reader or Consumer is for one thread at a time, and makes
others wait.

What fails raises OSError: FileNotFoundError, TimeoutError, BlockingIOError (another process has the log, or it is full)
and so on by errno, and for what errno cannot say a subclass of Error. Its attribute `report` is a Report, or None: file,
offset and LSNs concerned, and what to do next. If the attribute `lsn` is not 0 there is a record although the call has
failed: Log.wait() says what becomes of it. What was closed raises ValueError. A wrong type raises TypeError, a number that
has no place in the field of C OverflowError; then nothing was stored.
"""
import asyncio
import contextlib
import ctypes
import operator
import os
import threading
import time
import weakref
from ctypes import c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Type, Union

__version__ = "0.1.0"

MUST_EXIST, PAD, BUFFERED, READ_ONLY, NO_RECYCLE, NO_THREAD = (1 << i for i in range(6))
MODE_DURABLE, MODE_MAPPED, MODE_SHARED = range(3)
LEVEL_OF_MODE, LEVEL_BUFFERED, LEVEL_WRITTEN, LEVEL_DURABLE = range(4)
_TRY, _READER_MMAP, _META_BYTES = 1, 1, 4096
_CONSUMER_FROM_END, _CONSUMER_MMAP = 1, 2

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
    """The log was opened by the parent process."""


class ForeignError(Error):
    """A segment in the directory is another log's."""


class TruncatedError(Error):
    """Records that this reader has passed were truncated from the end; seek to go on."""


_ERRORS: Dict[int, Type[Error]] = {
    -5001: CorruptError,
    -5002: PoisonedError,
    -5003: VersionError,
    -5004: TrimmedError,
    -5005: ForkedError,
    -5006: ForeignError,
    -5007: TruncatedError,
}
_EAGAIN, _EFORKED, _ENOBUFS = -11, -5005, -105


def _error(
    number: int, lsn: int = 0, path: Optional[Path] = None, report: Optional["_Report"] = None
) -> OSError:
    found = report.in_python() if report is not None and report.error == number else None
    text = (found and found.text) or _c.twinlog_strerror(number).decode()
    name = os.fsdecode(path) if path is not None else None
    error = _ERRORS[number](-number, text, name) if number in _ERRORS else OSError(-number, text, name)
    error.lsn, error.report = lsn, found  # type: ignore[attr-defined]
    return error


def _check(
    result: int, lsn: int = 0, path: Optional[Path] = None, report: Optional["_Report"] = None
) -> int:
    if result < 0:
        raise _error(result, lsn, path, report)
    return result


# ---- arguments: ctypes cuts numbers and texts to what fits, so each is checked before it gets there --------


def _number(value: int, bits: int, name: str) -> int:
    number = operator.index(value)
    if not 0 <= number < 1 << bits:
        raise OverflowError(f"{name} must be between 0 and {(1 << bits) - 1}, not {number}")
    return number


def _lsn(value: int) -> int:
    return _number(value, 64, "an LSN")


def _time(value: int) -> int:
    number = operator.index(value)
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(f"a time must fit in 64 bits, not {number}")
    return number


def _bytes(data: Bytes) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"bytes, bytearray or memoryview expected, not {type(data).__name__}")
    return bytes(data)


def _path(path: Path) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("a path has no NUL")
    return encoded


# ---- the structures of twinlog.h; the test compares them with those of the C compiler ---------------


class _Options(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32), ("flags", c_uint32), ("segment_bytes", c_uint64), ("buffer_bytes", c_uint32),
        ("max_record_bytes", c_uint32), ("io", c_uint32), ("lock_timeout_ms", c_uint32), ("spare_segments", c_uint32),
        ("prepare", c_uint32), ("ret_report", c_void_p), ("segment_records", c_uint64), ("segment_age_ms", c_uint64),
        ("keep_bytes", c_uint64), ("keep_records", c_uint64), ("keep_age_ms", c_uint64), ("committer", c_void_p),
        ("flush_interval_ms", c_uint32), ("mode", c_uint32), ("observe", c_void_p),
        ("observe_context", c_void_p), ("observe_mask", c_uint32), ("slow_ms", c_uint32),
        ("mapped_bytes", c_uint64),
    ]  # fmt: skip


class _Report(ctypes.Structure):
    _fields_ = [
        ("finding", c_uint32), ("action", c_uint32), ("error", c_int32), ("reserved", c_uint32), ("segment", c_uint64),
        ("offset", c_uint64), ("bytes", c_uint64), ("first_lsn", c_uint64), ("last_lsn", c_uint64),
        ("file", c_char * 64), ("text", c_char * 192),
    ]  # fmt: skip

    def in_python(self) -> Report:
        return Report(
            self.finding, self.action, self.error, self.segment, self.offset, self.bytes, self.first_lsn,
            self.last_lsn, os.fsdecode(self.file), self.text.decode(errors="replace"),
        )  # fmt: skip


class _Entry(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p), ("size", c_size_t), ("pieces", c_void_p), ("piece_count", c_uint32), ("tag", c_uint16),
        ("type", c_uint8), ("reserved", c_uint8), ("time_ns", c_int64),
    ]  # fmt: skip


class _Terms(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32), ("flags", c_uint32), ("level", c_uint32), ("reserved", c_uint32),
        ("deadline_ns", c_uint64), ("cancel", c_void_p),
    ]  # fmt: skip


class _Request(ctypes.Structure):
    _fields_ = [
        ("queue", c_void_p), ("context", c_void_p), ("result", c_int32), ("count", c_uint32),
        ("first_lsn", c_uint64), ("next", c_void_p), ("private_word", c_uint64),
    ]  # fmt: skip


class _Record(ctypes.Structure):
    _fields_ = [
        ("lsn", c_uint64), ("time_ns", c_int64), ("data", c_void_p), ("size", c_size_t), ("tag", c_uint16),
        ("type", c_uint8),
    ]  # fmt: skip

    def in_python(self) -> Record:
        data = ctypes.string_at(self.data, self.size) if self.size else b""
        return Record(self.lsn, self.time_ns, data, self.type, self.tag)


class _ReaderOptions(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32), ("flags", c_uint32), ("from_lsn", c_uint64), ("to_lsn", c_uint64),
        ("ret_report", c_void_p),
    ]  # fmt: skip


class _ConsumerOptions(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("flags", c_uint32), ("ret_report", c_void_p)]


class _TrimOptions(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32), ("flags", c_uint32), ("before_lsn", c_uint64), ("keep_bytes", c_uint64),
        ("keep_records", c_uint64), ("before_time_ns", c_int64),
    ]  # fmt: skip


class _TrimResult(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32), ("holder", c_uint32), ("first_lsn", c_uint64), ("removed_records", c_uint64),
        ("removed_segments", c_uint64), ("removed_bytes", c_uint64), ("held_bytes", c_uint64),
        ("holder_name", c_char * 72),
    ]  # fmt: skip


class _Stat(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32), ("io", c_uint32), ("is_direct", c_uint32), ("mode", c_uint32), ("epoch", c_uint32),
        ("poison", c_int32), ("segments", c_uint32), ("spare_segments", c_uint32), ("first_lsn", c_uint64),
        ("last_lsn", c_uint64), ("written_lsn", c_uint64), ("durable_lsn", c_uint64), ("file_bytes", c_uint64),
        ("appends", c_uint64), ("append_bytes", c_uint64), ("groups", c_uint64), ("group_bytes", c_uint64),
        ("written_bytes", c_uint64), ("rolls", c_uint64), ("roll_waits", c_uint64), ("full_refusals", c_uint64),
        ("trimmed_segments", c_uint64), ("recycled_segments", c_uint64), ("syncs", c_uint64), ("requests", c_uint64),
        ("slow", c_uint64), ("io_reason", c_char * 160),
    ]  # fmt: skip


_OPTION_BITS = {
    name: 8 * ctypes.sizeof(kind) for name, kind in _Options._fields_ if name != "size" and kind in (c_uint32, c_uint64)
}
_EachCursor = ctypes.CFUNCTYPE(c_int, c_void_p, c_char_p, c_uint64)
_LSN = ctypes.POINTER(c_uint64)


def _load() -> ctypes.CDLL:
    # CDLL lets other Python threads run during a call, PyDLL would not.
    library = ctypes.CDLL(os.environ.get("TWINLOG_LIBRARY", "libtwinlog.so.0"))
    p, size, u32, u64 = c_void_p, c_size_t, c_uint32, c_uint64
    functions: Dict[str, Tuple[Any, List[Any]]] = {
        "strerror": (c_char_p, [c_int]),
        "version": (c_char_p, []),
        "open": (c_int, [c_char_p, p, p]),
        "close": (c_int, [p]),
        "append": (c_int, [p, c_char_p, size, _LSN]),
        "append_batch": (c_int, [p, p, u32, p, _LSN]),
        "wait": (c_int, [p, u64, c_int, u64]),
        "sync": (c_int, [p]),
        "deadline": (u64, [u32]),
        "submit": (c_int, [p, p, u32, p, p]),
        "queue_open": (c_int, [p]),
        "queue_poll": (c_int, [p, p, u32, c_int]),
        "queue_fd": (c_int, [p]),
        "queue_close": (c_int, [p]),
        "first_lsn": (u64, [p]),
        "last_lsn": (u64, [p]),
        "written_lsn": (u64, [p]),
        "durable_lsn": (u64, [p]),
        "trim": (c_int, [p, p, p]),
        "truncate": (c_int, [p, u64]),
        "skip": (c_int, [p, u64]),
        "reset": (c_int, [p, u64]),
        "cursor_set": (c_int, [p, c_char_p, u64]),
        "cursor_get": (c_int, [p, c_char_p, _LSN]),
        "cursor_remove": (c_int, [p, c_char_p]),
        "cursor_each": (c_int, [p, _EachCursor, p]),
        "meta_set": (c_int, [p, c_char_p, c_char_p, size]),
        "meta_get": (c_int, [p, c_char_p, p, size, p]),
        "meta_remove": (c_int, [p, c_char_p]),
        "reader_open": (c_int, [c_char_p, p, p]),
        "reader_attach": (c_int, [p, p, p]),
        "reader_seek": (c_int, [p, u64]),
        "reader_seek_time": (c_int, [p, c_int64]),
        "reader_seek_first": (c_int, [p]),
        "reader_seek_end": (c_int, [p]),
        "reader_next": (c_int, [p, p]),
        "reader_previous": (c_int, [p, p]),
        "reader_wait": (c_int, [p, c_int]),
        "reader_fd": (c_int, [p]),
        "reader_close": (None, [p]),
        "consumer_open": (c_int, [c_char_p, c_char_p, p, p]),
        "consumer_next": (c_int, [p, p]),
        "consumer_commit": (c_int, [p, u64]),
        "consumer_reader": (p, [p]),
        "consumer_close": (None, [p]),
        "read": (c_int, [p, u64, p, size, p]),
        "stat": (c_int, [p, p]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(library, "twinlog_" + name)
        function.restype, function.argtypes = result, arguments
    return library


_c = _load()


def library_version() -> str:
    return str(_c.twinlog_version().decode())


def _sized(structure: Any) -> Any:
    structure.size = ctypes.sizeof(structure)
    return structure


def _terms(level: int, timeout: Optional[float], flags: int = 0) -> _Terms:
    terms = _sized(_Terms(flags=flags, level=_number(level, 32, "level"), deadline_ns=_deadline(timeout)))
    assert isinstance(terms, _Terms)
    return terms


def _deadline(timeout: Optional[float]) -> int:
    return 0 if timeout is None else int(_c.twinlog_deadline(min(max(int(timeout * 1000), 0), 2**32 - 1)))


def _entries(records: Sequence[Union[Entry, Bytes]]) -> Tuple[Any, List[bytes]]:
    """The records in C, and what has to live as long."""
    if isinstance(records, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"a sequence of records expected, not {type(records).__name__}")
    array = (_Entry * len(records))()
    kept = []
    for c, record in zip(array, records):
        entry = record if isinstance(record, Entry) else Entry(record)
        data = _bytes(entry.data)
        kept.append(data)
        c.data = ctypes.cast(c_char_p(data), c_void_p)
        c.size, c.type, c.tag = len(data), _number(entry.type, 8, "type"), _number(entry.tag, 16, "tag")
        c.time_ns = _time(entry.time_ns)
    return array, kept


def _name(name: str) -> bytes:
    encoded = name.encode()
    if b"\0" in encoded:
        raise ValueError("a name has no NUL")
    return encoded


class _Handle:
    """A pointer of C that is closed once, when the calls on it have returned. `alone`: for one call at a time."""

    def __init__(self, pointer: int, alone: bool) -> None:
        self._pointer, self._alone, self._pid = pointer, alone, os.getpid()
        self._calls, self._is_closing = 0, False
        self._changed = threading.Condition()
        self._at_close: List[Callable[[], None]] = []

    @contextlib.contextmanager
    def use(self) -> Iterator[int]:
        if os.getpid() != self._pid:
            raise _error(_EFORKED)
        with self._changed:
            while self._alone and self._calls and not self._is_closing:
                self._changed.wait()
            if self._is_closing:
                raise ValueError("it is closed")
            self._calls += 1
        try:
            yield self._pointer
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def begin_close(self) -> int:
        """The pointer, or 0 if it was closed before."""
        if os.getpid() != self._pid:
            return 0  # the parent's
        with self._changed:
            if self._is_closing:
                return 0
            self._is_closing = True
            self._changed.notify_all()
            for call in self._at_close:
                call()
            while self._calls:
                self._changed.wait()
            return self._pointer

    def stay_open(self) -> None:
        with self._changed:
            self._is_closing = False

    @contextlib.contextmanager
    def at_close(self, call: Callable[[], None]) -> Iterator[None]:
        """Calls it, in whichever thread, if a close begins meanwhile."""
        with self._changed:
            if self._is_closing:
                raise ValueError("it is closed")
            self._at_close.append(call)
        try:
            yield
        finally:
            with self._changed:
                self._at_close.remove(call)


# ---- reading ---------------------------------------------------------------------------------------


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(call)


class _Following:
    """What a Reader and a Consumer have in common. `_reader` is that of C, and as open as the handle."""

    _handle: _Handle
    _reader: Any
    _report: _Report

    def close(self) -> None:
        raise NotImplementedError

    def next(self) -> Optional[Record]:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()

    def _step(self, move: Any) -> Optional[Record]:
        c = _Record()
        with self._handle.use() as pointer:
            return c.in_python() if _check(move(pointer, ctypes.byref(c)), report=self._report) else None

    def __iter__(self) -> Iterator[Record]:
        while (record := self.next()) is not None:
            yield record

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits for a record; False if there was none in time."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:  # in short turns, so that Ctrl-C and close() work
            left = 0.2 if end is None else min(0.2, max(end - time.monotonic(), 0.0))
            with self._handle.use():
                if _check(_c.twinlog_reader_wait(self._reader, round(left * 1000)), report=self._report):
                    return True
            if end is not None and time.monotonic() >= end:
                return False

    def follow(self, timeout: Optional[float] = None) -> Iterator[Record]:
        """The records as they come; ends when there was none for `timeout` seconds."""
        while True:
            yield from self
            if not self.wait(timeout):
                return

    def fileno(self) -> int:
        """Readable when there is a record, for poll()."""
        with self._handle.use():
            return _check(_c.twinlog_reader_fd(self._reader))

    async def __aiter__(self) -> AsyncIterator[Record]:
        """Follows: `async for record in reader`. ValueError if it is closed meanwhile."""
        loop = asyncio.get_running_loop()
        while True:
            while (record := self.next()) is not None:
                yield record
            ready = asyncio.Event()
            with self._handle.at_close(lambda: _tell(loop, ready.set)):
                # The loop gets a descriptor of its own: a close may give that of the reader to another file.
                fd = os.dup(self.fileno())
                try:
                    loop.add_reader(fd, ready.set)
                    await ready.wait()
                finally:
                    loop.remove_reader(fd)
                    os.close(fd)


class Reader(_Following):
    """Reads the log in `path`, in any process, beside a writer or without one. Iterating ends where the log ends for
    now; iterating once more goes on from there."""

    def __init__(
        self, path: Path, *, from_lsn: int = 0, to_lsn: int = 0, mmap: bool = False, _log: Optional[int] = None
    ) -> None:
        options = _sized(
            _ReaderOptions(flags=_READER_MMAP if mmap else 0, from_lsn=_lsn(from_lsn), to_lsn=_lsn(to_lsn))
        )
        self._report = _Report()
        options.ret_report = ctypes.addressof(self._report)
        pointer = c_void_p()
        if _log is None:
            result = _c.twinlog_reader_open(_path(path), ctypes.byref(options), ctypes.byref(pointer))
        else:
            result = _c.twinlog_reader_attach(_log, ctypes.byref(options), ctypes.byref(pointer))
        _check(result, path=path, report=self._report)
        self._handle = _Handle(pointer.value or 0, alone=True)
        self._reader = pointer

    def __enter__(self) -> "Reader":
        return self

    def close(self) -> None:
        pointer = self._handle.begin_close()
        if pointer:
            _c.twinlog_reader_close(pointer)

    def next(self) -> Optional[Record]:
        """The next record; None if there is none for now."""
        return self._step(_c.twinlog_reader_next)

    def previous(self) -> Optional[Record]:
        return self._step(_c.twinlog_reader_previous)

    def seek(self, lsn: int) -> None:
        with self._handle.use() as reader:
            _check(_c.twinlog_reader_seek(reader, _lsn(lsn)), report=self._report)

    def seek_time(self, time_ns: int) -> None:
        with self._handle.use() as reader:
            _check(_c.twinlog_reader_seek_time(reader, _time(time_ns)), report=self._report)

    def seek_first(self) -> None:
        with self._handle.use() as reader:
            _check(_c.twinlog_reader_seek_first(reader), report=self._report)

    def seek_end(self) -> None:
        with self._handle.use() as reader:
            _check(_c.twinlog_reader_seek_end(reader), report=self._report)


class Consumer(_Following):
    """Goes on where the last consumer of this name ended, on the log in `path`, in any process. A new name begins with
    the oldest record, or with from_end behind the newest one."""

    def __init__(self, path: Path, name: str, *, from_end: bool = False, mmap: bool = False) -> None:
        flags = (_CONSUMER_FROM_END if from_end else 0) | (_CONSUMER_MMAP if mmap else 0)
        options = _sized(_ConsumerOptions(flags=flags))
        self._report = _Report()
        options.ret_report = ctypes.addressof(self._report)
        pointer = c_void_p()
        result = _c.twinlog_consumer_open(_path(path), _name(name), ctypes.byref(options), ctypes.byref(pointer))
        _check(result, path=path, report=self._report)
        self._handle = _Handle(pointer.value or 0, alone=True)
        self._reader = _c.twinlog_consumer_reader(pointer)

    def __enter__(self) -> "Consumer":
        return self

    def close(self) -> None:
        """Commits nothing: the next consumer of this name gets what was not committed."""
        pointer = self._handle.begin_close()
        if pointer:
            _c.twinlog_consumer_close(pointer)

    def next(self) -> Optional[Record]:
        """The next record; None if there is none for now. TrimmedError and TruncatedError are raised once, and the next
        call goes on."""
        return self._step(_c.twinlog_consumer_next)

    def commit(self, lsn: int = 0) -> None:
        """It has finished with every record up to `lsn`; 0: with all that next() has returned. Durable on return."""
        with self._handle.use() as consumer:
            _check(_c.twinlog_consumer_commit(consumer, _lsn(lsn)), report=self._report)


# ---- asyncio ---------------------------------------------------------------------------------------


class _Waiting:
    """Requests of one event loop, which hears of their completion by the descriptor of a queue."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        queue = c_void_p()
        _check(_c.twinlog_queue_open(ctypes.byref(queue)))
        self.loop, self.queue = loop, queue.value
        self.requests: Dict[int, Tuple[_Request, "asyncio.Future[int]"]] = {}
        self.tasks: Set["asyncio.Task[None]"] = set()
        self.line, self.in_line = asyncio.Lock(), 0  # those that wait for room, first come, first served
        loop.add_reader(_c.twinlog_queue_fd(self.queue), self.fetch)

    def add(self, future: "asyncio.Future[int]") -> _Request:
        request = _Request(queue=self.queue)
        self.requests[ctypes.addressof(request)] = (request, future)
        return request

    def drop(self, request: _Request) -> None:
        del self.requests[ctypes.addressof(request)]

    def fetch(self) -> None:
        done = (c_void_p * 64)()
        while (count := _c.twinlog_queue_poll(self.queue, done, 64, 0)) > 0:
            for address in (int(a or 0) for a in done[:count]):
                request, future = self.requests.pop(address)
                if future.done():  # cancelled: nobody asks any more
                    continue
                if request.result < 0:
                    future.set_exception(_error(request.result, request.first_lsn))
                else:
                    future.set_result(request.first_lsn)

    def end(self) -> None:
        """When the log is closed, and so each request is completed."""
        if self.loop.is_closed():
            for _, future in self.requests.values():
                future.cancel()  # says nothing to a loop that is gone
        else:
            self.loop.remove_reader(_c.twinlog_queue_fd(self.queue))
        self.fetch()
        _c.twinlog_queue_close(self.queue)


# ---- the log ---------------------------------------------------------------------------------------


class Log:
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
    ) -> None:
        options = {name: value for name, value in locals().items() if name in _OPTION_BITS}
        c = _sized(_Options(**{name: _number(value, _OPTION_BITS[name], name) for name, value in options.items()}))
        report = _Report()
        c.ret_report = ctypes.addressof(report)
        pointer = c_void_p()
        _check(_c.twinlog_open(_path(path), ctypes.byref(c), ctypes.byref(pointer)), path=path, report=report)
        self.opened = report.in_python()
        self.path = path
        self._handle = _Handle(pointer.value or 0, alone=False)
        self._readers: "weakref.WeakSet[Reader]" = weakref.WeakSet()
        self._waiting: Dict[asyncio.AbstractEventLoop, _Waiting] = {}

    def close(self) -> None:
        """Makes every record durable, closes the readers of this log, completes what was submitted, and closes the log.
        Raises what kept a record from being durable."""
        pointer = self._handle.begin_close()
        if not pointer:
            return
        for reader in list(self._readers):
            reader.close()
        result = _c.twinlog_close(pointer)
        if result in (-16, -35):  # EBUSY, EDEADLK: nothing happened
            self._handle.stay_open()
            raise _error(result, path=self.path)
        for waiting in self._waiting.values():
            try:
                is_here = asyncio.get_running_loop() is waiting.loop
            except RuntimeError:
                is_here = waiting.loop.is_closed()
            if is_here:
                waiting.end()
            else:
                waiting.loop.call_soon_threadsafe(waiting.end)
        self._waiting.clear()
        _check(result, path=self.path)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_waiting"):
            with contextlib.suppress(OSError, RuntimeError):
                self.close()

    # -- appending

    def append(
        self,
        data: Bytes,
        *,
        type: int = 0,
        tag: int = 0,
        time_ns: int = 0,
        level: int = LEVEL_OF_MODE,
        timeout: Optional[float] = None,
    ) -> int:
        """Appends a record, and returns its LSN when it is on stable storage, or at that level."""
        if type or tag or time_ns or level or timeout is not None:
            return self.append_batch([Entry(data, type, tag, time_ns)], level=level, timeout=timeout)
        data = _bytes(data)
        lsn = c_uint64()
        with self._handle.use() as log:
            _check(_c.twinlog_append(log, data, len(data), ctypes.byref(lsn)), lsn.value)
        return lsn.value

    def append_batch(
        self, records: Sequence[Union[Entry, Bytes]], *, level: int = LEVEL_OF_MODE, timeout: Optional[float] = None
    ) -> int:
        """Appends all of them or none, also if the power fails. Returns the LSN of the first."""
        entries, kept = _entries(records)
        lsn = c_uint64()
        with self._handle.use() as log:
            terms = _terms(level, timeout)
            result = _c.twinlog_append_batch(log, entries, len(entries), ctypes.byref(terms), ctypes.byref(lsn))
        del kept
        _check(result, lsn.value)
        return lsn.value

    async def submit(self, *records: Union[Entry, Bytes], level: int = LEVEL_OF_MODE) -> int:
        """Appends the records as a batch and lets the event loop run until they are durable; the LSN of the first.
        A task that is cancelled stops waiting; its records are appended all the same."""
        loop = asyncio.get_running_loop()
        entries, kept = _entries(records)
        future: "asyncio.Future[int]" = loop.create_future()
        with self._handle.use() as log:
            waiting = self._waiting.get(loop) or self._wait_in(loop)
            request = waiting.add(future)

            def call(flags: int) -> int:
                terms = _terms(level, None, flags)
                return int(
                    _c.twinlog_submit(log, entries, len(entries), ctypes.byref(terms), ctypes.byref(request))
                )

            def wait_for_room() -> int:
                with self._handle.use():
                    return call(0)

            async def stand_in_line() -> None:  # a task of its own, so that a cancelled caller does not let others pass
                try:
                    async with waiting.line:
                        result = await loop.run_in_executor(None, wait_for_room)
                    error = _error(result) if result < 0 else None
                except ValueError as closed:
                    error = closed
                waiting.in_line -= 1
                del kept[:]
                if error:
                    waiting.drop(request)
                    if not future.done():
                        future.set_exception(error)

            result = _EAGAIN if waiting.in_line else call(_TRY)
        if result == _EAGAIN:  # the buffers are full, or others wait for room before this one
            waiting.in_line += 1
            task = loop.create_task(stand_in_line())
            waiting.tasks.add(task)
            task.add_done_callback(waiting.tasks.discard)
        elif result < 0:
            waiting.drop(request)
            raise _error(result)
        return await future

    def _wait_in(self, loop: asyncio.AbstractEventLoop) -> _Waiting:
        for other, waiting in list(self._waiting.items()):
            if other.is_closed() and not waiting.requests:
                waiting.end()
                del self._waiting[other]
        self._waiting[loop] = _Waiting(loop)
        return self._waiting[loop]

    def wait(self, lsn: int, *, level: int = LEVEL_OF_MODE, timeout: Optional[float] = None) -> None:
        """Returns when every record up to `lsn` is at that level."""
        with self._handle.use() as log:
            _check(_c.twinlog_wait(log, _lsn(lsn), _number(level, 31, "level"), _deadline(timeout)))

    def sync(self) -> None:
        """Returns when everything accepted before is durable."""
        with self._handle.use() as log:
            _check(_c.twinlog_sync(log))

    # -- how far

    @property
    def first_lsn(self) -> int:
        with self._handle.use() as log:
            return int(_c.twinlog_first_lsn(log))

    @property
    def last_lsn(self) -> int:
        with self._handle.use() as log:
            return int(_c.twinlog_last_lsn(log))

    @property
    def written_lsn(self) -> int:
        with self._handle.use() as log:
            return int(_c.twinlog_written_lsn(log))

    @property
    def durable_lsn(self) -> int:
        with self._handle.use() as log:
            return int(_c.twinlog_durable_lsn(log))

    def stat(self) -> Dict[str, Any]:
        """The fields of struct twinlog_stat."""
        c = _sized(_Stat())
        with self._handle.use() as log:
            _check(_c.twinlog_stat(log, ctypes.byref(c)))
        values = {name: getattr(c, name) for name, _ in _Stat._fields_[1:]}
        values["io_reason"] = values["io_reason"].decode()
        return values

    # -- reading

    def read(self, lsn: int) -> Record:
        """One record. OSError with ERANGE: there is none yet; with ENOENT: it was given up; TrimmedError: removed."""
        c = _Record()
        room = 512
        with self._handle.use() as log:
            while True:
                data = ctypes.create_string_buffer(room)
                result = _c.twinlog_read(log, _lsn(lsn), data, room, ctypes.byref(c))
                if result != _ENOBUFS:
                    _check(result)
                    return c.in_python()
                room = c.size

    def reader(self, *, from_lsn: int = 0, to_lsn: int = 0, mmap: bool = False) -> Reader:
        """A reader on this log, which is closed with the log."""
        with self._handle.use() as log:
            reader = Reader(self.path, from_lsn=from_lsn, to_lsn=to_lsn, mmap=mmap, _log=log)
            self._readers.add(reader)
        return reader

    # -- removing

    def trim(
        self, *, before_lsn: int = 0, keep_bytes: int = 0, keep_records: int = 0, before_time_ns: int = 0
    ) -> int:
        """Removes records from the head; returns the LSN of the oldest that is left. What a cursor needs stays."""
        options = _sized(
            _TrimOptions(
                before_lsn=_lsn(before_lsn), keep_bytes=_number(keep_bytes, 64, "keep_bytes"),
                keep_records=_number(keep_records, 64, "keep_records"), before_time_ns=_time(before_time_ns),
            )
        )
        trimmed = _sized(_TrimResult())
        with self._handle.use() as log:
            _check(_c.twinlog_trim(log, ctypes.byref(options), ctypes.byref(trimmed)))
        return int(trimmed.first_lsn)

    def truncate(self, last_lsn: int) -> None:
        """Removes every record with a larger LSN, for good."""
        with self._handle.use() as log:
            _check(_c.twinlog_truncate(log, _lsn(last_lsn)))

    def skip(self, next_lsn: int) -> None:
        """Makes this the LSN of the next record: fillers use up the LSNs before."""
        with self._handle.use() as log:
            _check(_c.twinlog_skip(log, _lsn(next_lsn)))

    def reset(self, next_lsn: int) -> None:
        """Removes every record; the next one gets this LSN."""
        with self._handle.use() as log:
            _check(_c.twinlog_reset(log, _lsn(next_lsn)))

    # -- cursors and values

    def set_cursor(self, name: str, lsn: int) -> None:
        """The consumer `name` has finished with every record up to `lsn`: trims keep what comes after."""
        with self._handle.use() as log:
            _check(_c.twinlog_cursor_set(log, _name(name), _lsn(lsn)))

    def cursor(self, name: str) -> Optional[int]:
        lsn = c_uint64()
        with self._handle.use() as log:
            result = _c.twinlog_cursor_get(log, _name(name), ctypes.byref(lsn))
        if result == -2:  # ENOENT
            return None
        _check(result)
        return lsn.value

    def remove_cursor(self, name: str) -> None:
        with self._handle.use() as log:
            _check(_c.twinlog_cursor_remove(log, _name(name)))

    def cursors(self) -> Dict[str, int]:
        found: Dict[str, int] = {}

        def add(_: object, name: bytes, lsn: int) -> int:
            found[name.decode(errors="surrogateescape")] = lsn
            return 0

        with self._handle.use() as log:
            _check(_c.twinlog_cursor_each(log, _EachCursor(add), None))
        return found

    def set_meta(self, name: str, value: Bytes) -> None:
        value = _bytes(value)
        with self._handle.use() as log:
            _check(_c.twinlog_meta_set(log, _name(name), value, len(value)))

    def meta(self, name: str) -> Optional[bytes]:
        value = ctypes.create_string_buffer(_META_BYTES)
        size = c_size_t()
        with self._handle.use() as log:
            result = _c.twinlog_meta_get(log, _name(name), value, _META_BYTES, ctypes.byref(size))
        if result == -2:
            return None
        _check(result)
        return value.raw[: size.value]

    def remove_meta(self, name: str) -> None:
        with self._handle.use() as log:
            _check(_c.twinlog_meta_remove(log, _name(name)))
