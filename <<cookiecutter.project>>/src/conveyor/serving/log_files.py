"""The files of the logs of a server: in a folder that several processes share, or as objects at an fsspec URL."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Protocol

PREDICTIONS, FEEDBACK, REFUSALS = KINDS = "predictions", "feedback", "refusals"  # the beginnings of names of files
STAMP = "%Y%m%dT%H%M%S%fZ"
HOUR = 3600.0  # a file, or an object, holds at most this much time


class Store(Protocol):
    """The target of lines. Each method raises the system's error.

    ``write`` returns the bytes of whole lines that it took. ``expire`` deletes the files of all logs that were begun
    before a time.
    """

    def write(self, lines: bytes) -> int: ...

    def expire(self, before: datetime) -> None: ...


def stamp() -> str:
    """The present time for file names: only portable characters, in the order of time."""
    return datetime.now(UTC).strftime(STAMP)


def begun(name: str) -> datetime | None:
    """When a file of a log was begun, by its name; None: the name does not say."""
    kind, _, rest = PurePosixPath(name).name.partition("-")
    if kind in KINDS and rest.endswith(".jsonl"):
        with suppress(ValueError):
            return datetime.strptime(rest.partition("-")[0], STAMP).replace(tzinfo=UTC)
    return None


def _order(name: str) -> datetime:
    """The order in which files go when a folder is full.

    A file of labels holds those of an hour. It goes after all predictions of that hour: a label is of no use without
    its prediction, and a prediction of little without its label.
    """
    at = begun(name) or datetime.min.replace(tzinfo=UTC)
    return at + timedelta(seconds=HOUR) if name.startswith(FEEDBACK) else at


def _expired(name: str, before: datetime) -> bool:
    at = begun(name)
    return at is not None and at < before


class Folder:
    """Files of a folder that several processes and all logs share; together they hold at most ``limit`` bytes.

    A file takes lines until it has a tenth of the limit, or is an hour old. The oldest files are deleted first.
    """

    def __init__(self, path: Path, limit: int, kind: str) -> None:
        self._path, self._limit, self._kind = path, limit, kind
        self._file, self._until = path, 0.0

    def write(self, lines: bytes) -> int:
        """Append whole lines, at most a tenth of the limit."""
        if len(lines) > self._limit // 10:  # up to the last line that fits, or the first one alone
            end = lines.rfind(b"\n", 0, self._limit // 10)
            lines = lines[: (end if end >= 0 else lines.index(b"\n")) + 1]
        self._path.mkdir(parents=True, exist_ok=True)
        size = self._size(self._file) if self._until else 0
        if time.monotonic() >= self._until or size + len(lines) > self._limit // 10:
            self._file = self._path / f"{self._kind}-{stamp()}-{socket.gethostname()}-{os.getpid()}.jsonl"
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

    def expire(self, before: datetime) -> None:
        """Delete the files that were begun before a time."""
        for file in self._files():
            if _expired(file.name, before):
                file.unlink(missing_ok=True)

    def try_out(self) -> None:
        """Write a file of one byte, and delete it; raises the error of a failed write."""
        self._path.mkdir(parents=True, exist_ok=True)
        file = self._path / f"tried-{self._kind}-{socket.gethostname()}-{os.getpid()}"
        try:
            file.write_bytes(b"\n")
        finally:
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        files = [file for kind in KINDS for file in self._path.glob(f"{kind}-*.jsonl")]
        return sorted(files, key=lambda file: (_order(file.name), file.name))

    def _make_room(self, wanted: int) -> None:
        files = self._files()
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
    """Objects at an fsspec URL, each written whole; the store's own rules limit their bytes."""

    def __init__(self, url: str, kind: str = PREDICTIONS) -> None:
        from fsspec.core import url_to_fs

        self._fs, self._path = url_to_fs(url)
        self._kind = kind

    def write(self, lines: bytes) -> int:
        """Write an object of all these lines."""
        name = f"{self._path}/{self._kind}-{stamp()}-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._fs.makedirs(self._path, exist_ok=True)
        self._fs.pipe_file(name, lines)
        return len(lines)

    def expire(self, before: datetime) -> None:
        """Delete the objects that were begun before a time."""
        with suppress(FileNotFoundError):  # nothing was written yet
            names = [str(name) for name in self._fs.ls(self._path, detail=False)]
            if old := [name for name in names if _expired(name, before)]:
                self._fs.rm(old)
