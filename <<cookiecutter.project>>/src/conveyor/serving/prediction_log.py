"""What was predicted, one JSON line for each row, in files of a folder or objects at an fsspec URL.

The log never holds up an answer: requests are handed over to a thread through a bounded queue, and what finds no room
there is dropped and counted. A disk that is full or a store that fails is tried again until it takes the lines.
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

QUEUED_BYTES = 8_000_000  # of request bodies that wait to be written
BATCH_BYTES = 500_000  # of lines that are written at once to a file
EVERY = 1.0  # seconds between two writes
RETRY = 5.0  # seconds until a store that failed is tried again
HOUR = 3600.0  # a file, or an object, holds at most this much time
SLICE_BYTES, PAUSE = 40_000, 0.001  # so many bytes of lines are made at a time, then requests have so many seconds
OBJECT_BYTES, OBJECT_SECONDS = 1_000_000, 60.0  # an object is written when it has one of them
CLOSING = 5.0  # seconds that the end waits for the last lines


class Store(Protocol):
    """Where lines go. ``write`` says how many bytes it took, whole lines, or raises what its file system raises."""

    def write(self, lines: bytes) -> int: ...


def stamp() -> str:
    """Now, as it stands in names: no character that a file system minds, in the order of time."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")


@lru_cache(maxsize=1)
def _second(number: int) -> bytes:
    """A second since 1970 as a time in a line, but for its end."""
    return datetime.fromtimestamp(number, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


class Folder:
    """Files of a folder that several processes share; together they hold at most ``limit`` bytes.

    A file takes lines until it has a tenth of the limit, or is an hour old. The oldest files go first.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self._file, self._until = path, 0.0

    def write(self, lines: bytes) -> int:
        """Append a tenth of the limit at most."""
        if len(lines) > self._limit // 10:  # up to the last line that fits, or the first one alone
            end = lines.rfind(b"\n", 0, self._limit // 10)
            lines = lines[: (end if end >= 0 else lines.index(b"\n")) + 1]
        self._path.mkdir(parents=True, exist_ok=True)
        size = self._size(self._file) if self._until else 0
        if time.monotonic() >= self._until or size + len(lines) > self._limit // 10:
            self._file = self._path / f"predictions-{stamp()}-{socket.gethostname()}-{os.getpid()}.jsonl"
            self._until, size = time.monotonic() + HOUR, 0
        self._make_room(len(lines))
        # Opened each time: a file that another process removed as the oldest one does not go on unseen.
        with open(self._file, "ab", buffering=0) as out:
            before = out.tell()
            try:
                written = 0
                while written < len(lines):  # a disk that is nearly full takes a part
                    written += out.write(lines[written:])
            except OSError:
                out.truncate(before)  # no line stays half-written
                raise
        return len(lines)

    def try_out(self) -> None:
        """Write a file of one byte, and take it away; raises what a write would."""
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
    """Objects at an fsspec URL, each written whole; how many are kept is up to the store's own rules."""

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
        private: columns that the log never holds.
        limit: bytes that a folder may take.

    Attributes:
        dropped: rows that found no room.
        failing: whether what was tried last could not be written.
    """

    def __init__(self, target: str, key: str, private: tuple[str, ...], limit: int) -> None:
        self._remote = "://" in target
        self._target, self._limit = target, limit
        self._store: Store | None = None
        self._private = tuple(private)
        self._model = b',"model":%b,"features":' % to_json(key)  # of each line the same
        self._waiting: deque[tuple[str, str | None, float, list[dict[str, Any]], NDArray[np.float64], int]] = deque()
        # Each counter is written by one thread alone: what was handed over by the server's, what is done by the log's.
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
        """Rows that are taken and not yet written."""
        return self._put_rows - self._done_rows

    def put(
        self,
        id: str,
        rows: list[dict[str, Any]],
        predicted: NDArray[np.float64],
        size: int,
        request: str | None = None,
    ) -> None:
        """Hand over the rows of a request, which are the log's from then on, and its predictions; returns at once.

        Args:
            id: of the answer, which no other one has.
            size: bytes of the request, by which the queue is bounded.
            request: its id, which callers may choose.
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
        """Write what waits, for at most so long; what is left then is dropped."""
        self._end.set()
        self._wake.set()
        self._thread.join(seconds)
        if lost := self._put_rows - self._done_rows:
            print(f"prediction log: {self._target}: {lost} rows were not written", file=sys.stderr, flush=True)

    # What the thread does

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
        """Whether the lines are wanted more than the time that making them takes from requests."""
        return self._end.is_set() or self._put_bytes - self._done_bytes > QUEUED_BYTES // 4

    def _try(self) -> None:
        """Find out whether the folder takes anything, before there is something to write."""
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
        """Whether it could be done; if not, that is told once."""
        try:
            do()
        except Exception as error:
            # Each file system raises its own, and none of them may end the log, less so the server.
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
        # What the lines of a request have in common becomes JSON once.
        before = b'{"id":%b,"request":%b,"row":' % (to_json(id), to_json(request))
        second, thousandths = divmod(round(seconds * 1e6) // 1000, 1000)
        between = b',"time":"%b.%03dZ"%b' % (_second(second), thousandths, self._model)
        numbered = enumerate(zip(map(to_json, rows), map(to_json, predicted.tolist()), strict=True), start=1)
        return b"".join(
            [b'%b%d%b%b,"prediction":%b}\n' % (before, number, between, *each) for number, each in numbered]
        )
