"""The log of predictions, one JSON line for each row, in files of a folder or objects at an fsspec URL.

The log never delays an answer: a bounded queue hands requests to a thread, and rows that find no room are dropped and
counted. If a disk is full or a store fails, the write is tried again until it succeeds.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

QUEUED_BYTES = 8_000_000  # bytes of request bodies in the queue
BATCH_BYTES = 500_000  # bytes of lines in one write to a file
EVERY = 1.0  # seconds between two writes
RETRY = 5.0  # seconds until a failed write is tried again
HOUR = 3600.0  # a file, or an object, holds at most this much time
SLICE_BYTES, PAUSE = 40_000, 0.001  # bytes of lines that are made at once, and seconds of pause after them
OBJECT_BYTES, OBJECT_SECONDS = 1_000_000, 60.0  # an object is written when it reaches one of them
CLOSING = 5.0  # seconds for the last lines at the end


class Store(Protocol):
    """The target of lines. ``write`` returns the bytes of whole lines that it took, or raises the system's error."""

    def write(self, lines: bytes) -> int: ...


def stamp() -> str:
    """The present time for file names: only portable characters, in the order of time."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")


@lru_cache(maxsize=1)
def _second(number: int) -> bytes:
    """A second since 1970 as the beginning of a line's time."""
    return datetime.fromtimestamp(number, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


class Folder:
    """Files of a folder that several processes share; together they hold at most ``limit`` bytes.

    A file takes lines until it has a tenth of the limit, or is an hour old. The oldest files are deleted first.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self._file, self._until = path, 0.0

    def write(self, lines: bytes) -> int:
        """Append whole lines, at most a tenth of the limit."""
        if len(lines) > self._limit // 10:  # up to the last line that fits, or the first one alone
            end = lines.rfind(b"\n", 0, self._limit // 10)
            lines = lines[: (end if end >= 0 else lines.index(b"\n")) + 1]
        self._path.mkdir(parents=True, exist_ok=True)
        size = self._size(self._file) if self._until else 0
        if time.monotonic() >= self._until or size + len(lines) > self._limit // 10:
            self._file = self._path / f"predictions-{stamp()}-{socket.gethostname()}-{os.getpid()}.jsonl"
            self._until, size = time.monotonic() + HOUR, 0
        self._make_room(len(lines))
        # Opened each time: another process may have deleted the file as the oldest one.
        with open(self._file, "ab", buffering=0) as out:
            before = out.tell()
            try:
                written = 0
                while written < len(lines):  # a nearly full disk takes only a part
                    written += out.write(lines[written:])
            except OSError:
                out.truncate(before)  # no partial line stays
                raise
        return len(lines)

    def try_out(self) -> None:
        """Write a file of one byte, and delete it; raises the error of a failed write."""
        self._path.mkdir(parents=True, exist_ok=True)
        file = self._path / f"tried-{socket.gethostname()}-{os.getpid()}"
        try:
            file.write_bytes(b"\n")
        finally:
            file.unlink(missing_ok=True)

    def _make_room(self, wanted: int) -> None:
        files = sorted(self._path.glob("predictions-*.jsonl"))
        sizes = [self._size(file) for file in files]
        total = sum(sizes) + wanted
        for file, size in zip(files, sizes, strict=True):
            if total <= self._limit:
                return
            file.unlink(missing_ok=True)
            total -= size

    @staticmethod
    def _size(file: Path) -> int:
        try:
            return file.stat().st_size
        except FileNotFoundError:
            return 0


class Remote:
    """Objects at an fsspec URL, each written whole; the store's own rules limit their number."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self._fs, self._path = url_to_fs(url)

    def write(self, lines: bytes) -> int:
        """Write an object of all these lines."""
        name = f"{self._path}/predictions-{stamp()}-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._fs.makedirs(self._path, exist_ok=True)
        self._fs.pipe_file(name, lines)
        return len(lines)


class PredictionLog:
    """The log of a server.

    Args:
        target: a folder, or an fsspec URL.
        key: of the model.
        private: columns that are never logged.
        limit: bytes of a folder.

    Attributes:
        dropped: rows that found no room.
        failing: whether the last write failed.
    """

    def __init__(self, target: str, key: str, private: tuple[str, ...], limit: int) -> None:
        self._remote = "://" in target
        self._target, self._limit = target, limit
        self._store: Store | None = None
        self._private = tuple(private)
        self._model = b',"model":%b,"features":' % to_json(key)  # the same in each line
        self._waiting: deque[tuple[str, str | None, float, list[dict[str, Any]], NDArray[np.float64], int]] = deque()
        # Each counter has one writing thread: the server's for queued rows, the log's for written ones.
        self._put_bytes, self._put_rows, self.dropped = 0, 0, 0
        self._done_bytes, self._done_rows, self._complained = 0, 0, ""
        self.failing = False
        if not self._remote:
            self._try()
        self._wake, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="prediction log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows in the queue or not yet written."""
        return self._put_rows - self._done_rows

    def put(
        self,
        id: str,
        rows: list[dict[str, Any]],
        predicted: NDArray[np.float64],
        size: int,
        request: str | None = None,
    ) -> None:
        """Queue the rows of a request and its predictions; returns at once. The log may change the rows from now on.

        Args:
            id: of the answer, unique.
            size: bytes of the request, which bound the queue.
            request: the request's id, which callers may choose.
        """
        queued = self._put_bytes - self._done_bytes + size
        if queued > QUEUED_BYTES or size > self._limit // 2:
            self.dropped += len(rows)
            return
        self._put_bytes += size
        self._put_rows += len(rows)
        self._waiting.append((id, request, time.time(), rows, predicted, size))
        if queued > QUEUED_BYTES // 4:
            self._wake.set()

    def close(self, seconds: float = CLOSING) -> None:
        """Write the queued lines, for at most so many seconds; the rest is dropped."""
        self._end.set()
        self._wake.set()
        self._thread.join(seconds)
        if lost := self._put_rows - self._done_rows:
            print(f"prediction log: {self._target}: {lost} rows were not written", file=sys.stderr, flush=True)

    # In the thread

    def _work(self) -> None:
        full, patience = (OBJECT_BYTES, OBJECT_SECONDS) if self._remote else (BATCH_BYTES, EVERY)
        lines, taken, since, began = bytearray(), 0, 0, time.monotonic()
        tried = began
        while True:
            while self._waiting and len(lines) < full:
                id, request, seconds, rows, predicted, size = self._waiting.popleft()
                made = self._lines(id, request, seconds, rows, predicted)
                lines += made
                taken += size
                since += len(made)
                if since >= SLICE_BYTES and not self._pressed():
                    since = 0
                    time.sleep(PAUSE)
            late = time.monotonic() - began >= patience
            if lines and (late or self._end.is_set() or len(lines) >= full):
                if not self._write(lines):
                    if self._end.wait(RETRY):
                        return
                    continue
                self._done_bytes += taken
                taken, late = 0, True
            if late:
                began = time.monotonic()
            if self._waiting:
                continue
            if self._end.is_set():
                if not lines:
                    return
            elif self._wake.wait(EVERY):
                self._wake.clear()
            elif self.failing and not lines and not self._remote and time.monotonic() - tried >= RETRY:
                self._try()
                tried = time.monotonic()

    def _pressed(self) -> bool:
        """Whether writing comes before requests: the queue is filling, or the server ends."""
        return self._end.is_set() or self._put_bytes - self._done_bytes > QUEUED_BYTES // 4

    def _try(self) -> None:
        """Find out whether the folder can be written, before the first line."""
        self._attempt(lambda: self._folder().try_out())

    def _folder(self) -> Folder:
        if self._store is None:
            self._store = Folder(Path(self._target), self._limit)
        return cast(Folder, self._store)

    def _write(self, lines: bytearray) -> bool:
        def write() -> None:
            store = self._store = self._store or (Remote(self._target) if self._remote else self._folder())
            while lines:
                done = store.write(bytes(lines))
                self._done_rows += lines.count(b"\n", 0, done)
                del lines[:done]

        return self._attempt(write)

    def _attempt(self, do: Callable[[], None]) -> bool:
        """Whether it succeeded; an error is printed once."""
        try:
            do()
        except Exception as error:
            # Each file system raises its own errors; none of them may end the log or the server.
            complaint = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            if complaint != self._complained:
                print(f"prediction log: {self._target}: {complaint}; it is tried again", file=sys.stderr, flush=True)
            self._complained, self.failing = complaint, True
            return False
        self._complained, self.failing = "", False
        return True

    def _lines(
        self,
        id: str,
        request: str | None,
        seconds: float,
        rows: list[dict[str, Any]],
        predicted: NDArray[np.float64],
    ) -> bytes:
        for name in self._private:
            for row in rows:
                row.pop(name, None)
        # The common parts of a request's lines become JSON once.
        before = b'{"id":%b,"request":%b,"row":' % (to_json(id), to_json(request))
        second, thousandths = divmod(round(seconds * 1e6) // 1000, 1000)
        between = b',"time":"%b.%03dZ"%b' % (_second(second), thousandths, self._model)
        numbered = enumerate(zip(map(to_json, rows), map(to_json, predicted.tolist()), strict=True), start=1)
        return b"".join(
            [b'%b%d%b%b,"prediction":%b}\n' % (before, number, between, *each) for number, each in numbered]
        )
