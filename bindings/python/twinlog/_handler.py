# SPDX-License-Identifier: Apache-2.0
"""Records of `logging` in a plain file that the processes of a server share."""
import codecs
import logging
import os
from typing import Optional

from . import Path, Sink


class SinkHandler(logging.Handler):
    """Appends each record to the plain file `filename` in one piece, with its traceback: no record of another thread or
    process is inside it. What emit() has returned for survives a kill -9. The arguments up to `errors` are those of
    logging.handlers.RotatingFileHandler, and of several processes one renames the full file. A rename by logrotate is
    followed without a signal.

    Each process opens the file for itself, a forked child with its first record, and so needs the right to write it. A
    handler that is closed opens it again with the next record, as a FileHandler does. A record that cannot be written,
    on a full disk say, goes to handleError(), and the next one is tried as usual.

    flush() does nothing, because nothing is buffered; `flush_interval_ms`, or handler.sink.sync(), is for what must
    survive the power. `shared=False` is for one process; `lines` as in Sink. `sink` is the Sink of this process."""

    terminator = "\n"

    def __init__(
        self,
        filename: Path,
        mode: str = "a",
        maxBytes: int = 0,
        backupCount: int = 5,
        encoding: Optional[str] = "utf-8",
        delay: bool = False,
        errors: Optional[str] = "backslashreplace",
        *,
        shared: bool = True,
        lines: bool = True,
        flush_interval_ms: int = 0,
    ) -> None:
        if mode != "a":
            raise ValueError(f"a sink is appended to, so the mode is 'a', not {mode!r}")
        super().__init__()
        self.baseFilename = os.path.abspath(os.fspath(filename))  # the process may go to another directory
        self.maxBytes, self.backupCount = maxBytes, backupCount
        self.encoding, self.errors = encoding or "utf-8", errors or "strict"
        self.shared, self.lines, self.flush_interval_ms = shared, lines, flush_interval_ms
        self._sink: Optional[Sink] = None
        "".encode(self.encoding)  # LookupError here, and not at each record
        codecs.lookup_error(self.errors)
        if not delay:
            self.sink

    @property
    def sink(self) -> Sink:
        """That of this process, which is opened where there is none."""
        self.acquire()
        try:
            if self._sink is None or self._sink.closed:  # in a forked child that of the parent is
                self._sink = self._open()
            return self._sink
        finally:
            self.release()

    def _open(self) -> Sink:
        return Sink(
            self.baseFilename,
            shared=self.shared,
            lines=self.lines,
            max_bytes=self.maxBytes if self.backupCount else 0,
            keep_files=self.backupCount,
            flush_interval_ms=self.flush_interval_ms,
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + self.terminator
            self.sink.write(text.encode(self.encoding, self.errors))
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self.acquire()
        try:
            if self._sink is not None:
                self._sink.close()
        finally:
            super().close()
            self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.baseFilename!r} ({logging.getLevelName(self.level)})>"
