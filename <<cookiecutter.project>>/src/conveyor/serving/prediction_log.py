"""The logs of predictions and labels, one JSON line each, and of refusals, in files of a folder or at an fsspec URL.

A log never delays an answer: a bounded queue hands requests to a thread. Predictions that find no room are dropped and
counted; labels are refused, so that their caller keeps them. If a disk is full or a store fails, the write is tried
again until it succeeds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from conveyor.serving import log_files
from conveyor.serving.log_files import FEEDBACK, PREDICTIONS, REFUSALS, Folder, Remote, Store

QUEUED_BYTES = 8_000_000  # bytes of request bodies in the queue
BATCH_BYTES = 500_000  # bytes of lines in one write to a file
EVERY = 1.0  # seconds between two writes
RETRY = 5.0  # seconds until a failed write is tried again
SLICE_BYTES, PAUSE = 40_000, 0.001  # bytes of lines that are made at once, and seconds of pause after them
OBJECT_BYTES, OBJECT_SECONDS = 1_000_000, 60.0  # an object is written when it reaches one of them
COUNTED = 60.0  # seconds of refusals that one line counts
CLOSING = 5.0  # seconds for the last lines at the end


@lru_cache(maxsize=1)
def _second(number: int) -> bytes:
    """A second since 1970 as the beginning of a line's time."""
    return datetime.fromtimestamp(number, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _time(seconds: float) -> bytes:
    """Seconds since 1970 as the time of a line."""
    second, thousandths = divmod(round(seconds * 1e6) // 1000, 1000)
    return b"%b.%03dZ" % (_second(second), thousandths)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class Log:
    """A log of a server.

    Args:
        target: a folder, or an fsspec URL.
        kind: what the names of its files begin with.
        limit: bytes of a folder.
        days: files that were begun on an earlier day than so many days ago are deleted, of all logs; None: none is.

    Attributes:
        dropped: lines that found no room.
        failing: whether the last write failed.
    """

    def __init__(self, target: str, kind: str, limit: int, days: int | None = None) -> None:
        self._remote = "://" in target
        self._target, self._limit, self._kind = target, limit, kind
        self._name = f"{kind.removesuffix('s')} log"
        self._store: Store | None = None
        self._waiting: deque[tuple[Callable[[], bytes], int]] = deque()
        # Each counter has one writing thread: the server's for queued rows, the log's for written ones.
        self._put_bytes, self._put_rows, self.dropped = 0, 0, 0
        self._done_bytes, self._done_rows, self._complained = 0, 0, ""
        self.failing = False
        if not self._remote:
            self._try()
        self._wake, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()
        if days is not None:
            threading.Thread(target=self._expire, args=(days,), name=f"days of the {self._name}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Rows in the queue or not yet written."""
        return self._put_rows - self._done_rows

    def add(self, lines: Callable[[], bytes], rows: int, size: int) -> bool:
        """Queue lines; returns at once whether there was room.

        Args:
            lines: makes them, in the log's thread.
            rows: how many.
            size: bytes of the request, which bound the queue.
        """
        queued = self._put_bytes - self._done_bytes + size
        if queued > QUEUED_BYTES or size > self._limit // 2:
            return False
        self._put_bytes += size
        self._put_rows += rows
        self._waiting.append((lines, size))
        if queued > QUEUED_BYTES // 4:
            self._wake.set()
        return True

    def close(self, seconds: float = CLOSING) -> None:
        """Write the queued lines, for at most so many seconds; the rest is dropped."""
        self._end.set()
        self._wake.set()
        self._thread.join(seconds)
        if lost := self._put_rows - self._done_rows:
            print(f"{self._name}: {self._target}: {lost} rows were not written", file=sys.stderr, flush=True)

    # In the thread

    def _work(self) -> None:
        full, patience = (OBJECT_BYTES, OBJECT_SECONDS) if self._remote else (BATCH_BYTES, EVERY)
        lines, taken, since, began = bytearray(), 0, 0, time.monotonic()
        tried = began
        while True:
            ending = self._end.is_set()
            self._gather()
            while self._waiting and len(lines) < full:
                make, size = self._waiting.popleft()
                made = make()
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
                if ending and not lines:
                    return
            elif self._wake.wait(EVERY):
                self._wake.clear()
            elif self.failing and not lines and not self._remote and time.monotonic() - tried >= RETRY:
                self._try()
                tried = time.monotonic()

    def _gather(self) -> None:
        """Add what the log's thread itself has to say."""

    def _pressed(self) -> bool:
        """Whether writing comes before requests: the queue is filling, or the server ends."""
        return self._end.is_set() or self._put_bytes - self._done_bytes > QUEUED_BYTES // 4

    def _try(self) -> None:
        """Find out whether the folder can be written, before the first line."""
        self._attempt(lambda: self._folder().try_out())

    def _folder(self) -> Folder:
        if self._store is None:
            self._store = Folder(Path(self._target), self._limit, self._kind)
        return cast(Folder, self._store)

    def _write(self, lines: bytearray) -> bool:
        def write() -> None:
            store = self._store = self._store or (Remote(self._target, self._kind) if self._remote else self._folder())
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
            complaint = _told(error)
            if complaint != self._complained:
                print(f"{self._name}: {self._target}: {complaint}; it is tried again", file=sys.stderr, flush=True)
            self._complained, self.failing = complaint, True
            return False
        self._complained, self.failing = "", False
        return True

    # In a thread of its own, for a store may take long

    def _expire(self, days: int) -> None:
        complained = False
        while True:
            today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            try:
                store = Remote(self._target) if self._remote else Folder(Path(self._target), self._limit, self._kind)
                store.expire(today - timedelta(days=days))
            except Exception as error:  # each file system raises its own; none of them may end the server
                if not complained:
                    told = f"{_told(error)}; files of more than {days} days stay"
                    print(f"{self._name}: {self._target}: {told}", file=sys.stderr, flush=True)
                complained = True
            if self._end.wait(log_files.HOUR):
                return


class PredictionLog(Log):
    """The log of predictions.

    Args:
        target, limit, days: see ``Log``.
        key: of the model.
        private: columns that are never logged.
    """

    def __init__(self, target: str, key: str, private: tuple[str, ...], limit: int, days: int | None = None) -> None:
        self._private = tuple(private)
        self._model = b',"model":%b,"features":' % to_json(key)  # the same in each line
        super().__init__(target, PREDICTIONS, limit, days)

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
        lines = partial(self._lines, id, request, time.time(), rows, predicted)
        if not self.add(lines, len(rows), size):
            self.dropped += len(rows)

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
        between = b',"time":"%b"%b' % (_time(seconds), self._model)
        said = to_json(predicted.tolist())[1:-1]  # once, and cut: a number holds neither comma nor bracket
        parts = said.split(b",") if predicted.ndim == 1 else [b"[%b]" % each for each in said[1:-1].split(b"],[")]
        numbered = enumerate(zip(map(to_json, rows), parts, strict=True), start=1)
        return b"".join(
            [b'%b%d%b%b,"prediction":%b}\n' % (before, number, between, *each) for number, each in numbered]
        )


class FeedbackLog(Log):
    """The log of labels.

    Args:
        target, limit: see ``Log``; the log of predictions deletes the files of old days, for all.
    """

    def __init__(self, target: str, limit: int) -> None:
        super().__init__(target, FEEDBACK, limit)

    def put(self, labels: Sequence[tuple[str, int, str | float | bool]], size: int) -> bool:
        """Queue labels, each with the id of its answer and the row; returns at once whether there was room.

        Args:
            size: bytes of the request, which bound the queue.
        """
        return self.add(partial(self._lines, labels, time.time()), len(labels), size)

    @staticmethod
    def _lines(labels: Sequence[tuple[str, int, str | float | bool]], seconds: float) -> bytes:
        at = _time(seconds)
        return b"".join(
            [
                b'{"id":%b,"row":%d,"time":"%b","label":%b}\n' % (to_json(id), row, at, to_json(label))
                for id, row, label in labels
            ]
        )


class RefusedLog(Log):
    """The log of requests for predictions that had no answer: how many in a minute, by status.

    Args:
        target, limit: see ``Log``; the log of predictions deletes the files of old days, for all.
    """

    def __init__(self, target: str, limit: int) -> None:
        self._counts, self._told = Counter[int](), Counter[int]()
        self._next = time.monotonic() + COUNTED
        super().__init__(target, REFUSALS, limit)

    def count(self, status: int) -> None:
        """Count a request; returns at once."""
        self._counts[status] += 1

    def _gather(self) -> None:
        if time.monotonic() < self._next and not self._end.is_set():
            return
        self._next = time.monotonic() + COUNTED
        counts = self._counts.copy()  # only the server's thread changes the original
        new, self._told = counts - self._told, counts
        if new:
            lines = self._lines(new, time.time())
            self.add(lambda: lines, len(new), len(lines))

    @staticmethod
    def _lines(counts: Counter[int], seconds: float) -> bytes:
        at = _time(seconds)
        return b"".join(b'{"time":"%b","status":%d,"count":%d}\n' % (at, *each) for each in sorted(counts.items()))
