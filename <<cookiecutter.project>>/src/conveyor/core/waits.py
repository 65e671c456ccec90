"""A long silent wait prints what is being done, so that nobody ends it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 15.0  # of silence; each next time twice as long


class _Heard:
    """Standard output that knows when something was last said, and what is done now."""

    def __init__(self, out: Any) -> None:
        self.out, self.at, self.doing, self.began = out, time.monotonic(), "", time.monotonic()

    def write(self, text: str) -> Any:
        self.at = time.monotonic()
        return self.out.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.out, name)

    @contextmanager
    def during(self, doing: str) -> Iterator[None]:
        before = self.doing, self.began
        self.doing, self.began = doing, time.monotonic()
        try:
            yield
        finally:
            self.doing, self.began = before

    def speak(self, ended: threading.Event, silence: float) -> None:
        """Say what is done after so much silence, until it has ended."""
        left = silence
        while not ended.wait(left):
            left = self.at + silence - time.monotonic()
            if left <= 0:
                verb, _, what = self.doing.partition(" ")
                self.out.write(f"{verb:<9} at work for {time.monotonic() - self.began:.0f} s: {what}\n")
                self.out.flush()
                self.at, silence = time.monotonic(), 2 * silence
                left = silence


@contextmanager
def announced(verb: str, what: str, silence: float = SECONDS) -> Iterator[None]:
    """While the block runs and prints nothing, say what it does.

    Args:
        verb: the first word of the line.
        what: what is done, in words.
        silence: seconds before the first line. An inner block has the silence of the outer one, and its own words.
    """
    doing = f"{verb} {' '.join(what.split())}"
    if isinstance(sys.stdout, _Heard):
        with sys.stdout.during(doing):
            yield
        return
    heard, ended, plain = _Heard(sys.stdout), threading.Event(), sys.stdout
    speaker = threading.Thread(target=heard.speak, args=(ended, silence), daemon=True)
    sys.stdout = heard  # but for writing, the other one answers what it is asked
    try:
        with heard.during(doing):
            speaker.start()
            yield
    finally:
        sys.stdout = plain
        ended.set()
        speaker.join()
