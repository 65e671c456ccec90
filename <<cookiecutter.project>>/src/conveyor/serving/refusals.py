"""The log of refused and failed requests: one JSON line each on standard error, none for an answered one."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

A_SECOND = 20  # lines; one more counts those that were left out
WAITING = 200  # lines that standard error has not taken yet; more are left out, too
CLOSING = 1.0  # seconds for the last lines at the end


class Refusals:
    """Writes lines from its own thread: a reader that stops reading delays no answer."""

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._second, self._said, self._left_out = 0, 0, 0
        self._lines: deque[bytes] = deque()
        self._wake, self._end = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="refusals", daemon=True)
        self._thread.start()

    def say(self, level: str, **what: Any) -> None:
        """Add a line, unless this second has had its share."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._said = second, 0
            self._tell_left_out()
        if self._said >= A_SECOND or len(self._lines) >= WAITING:
            self._left_out += 1
            return
        self._said += 1
        self._put(level, what)

    def close(self) -> None:
        """Write the waiting lines, for a second at most."""
        self._tell_left_out()
        self._end = True
        self._wake.set()
        self._thread.join(CLOSING)

    def _tell_left_out(self) -> None:
        if self._left_out:
            self._put("warning", {"left_out": self._left_out})
            self._left_out = 0

    def _put(self, level: str, what: dict[str, Any]) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._lines.append(to_json({"time": at, "level": level, **what}, inf_nan_mode="null") + b"\n")
        self._wake.set()

    def _work(self) -> None:
        while self._lines or not self._end:
            self._wake.wait()
            self._wake.clear()
            while self._lines:
                line = self._lines.popleft()
                try:
                    while line:
                        line = line[os.write(self._descriptor, line) :]
                except OSError:  # the reader is gone, or its disk is full
                    continue
