"""Whether the model still answers while the process lives, for /readyz."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 5.0  # seconds for which a check of the model is valid
FAILURES = 20  # so many failed answers in a row are no accident
FORGOTTEN = 30.0  # seconds after which the last failure no longer counts: without requests it would stay for ever


class Ready:
    """The state of the model.

    Args:
        look: asks the model for a known answer; returns what is wrong, or None.
    """

    def __init__(self, look: Callable[[], str | None]) -> None:
        self._look, self._looked = look, float("-inf")
        self._found: str | None = None
        self._failures, self._failed = 0, float("-inf")

    def answered(self, failed: bool) -> None:
        """Count an answer to a caller, or a failure of the server."""
        if failed:
            self._failures, self._failed = self._failures + 1, time.monotonic()
        else:
            self._failures = 0

    def reason(self) -> str | None:
        """Why the model should get no requests, or None."""
        now = time.monotonic()
        if self._failures >= FAILURES and now - self._failed < FORGOTTEN:
            return f"the last {self._failures} requests failed"
        if now - self._looked >= EVERY:
            self._found, self._looked = self._look(), now
        return self._found
