"""Whether the model still answers, while the process lives: what /readyz asks."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 5.0  # seconds for which one look at the model holds
FAILURES = 20  # so many answers in a row that failed are no accident
FORGOTTEN = 30.0  # seconds after which the last failure counts no more: who is asked nothing cannot show it is well


class Ready:
    """What the model said last.

    Args:
        look: asks the model for an answer that is known; why it is wrong, or None.
    """

    def __init__(self, look: Callable[[], str | None]) -> None:
        self._look, self._looked = look, float("-inf")
        self._found: str | None = None
        self._failures, self._failed = 0, float("-inf")

    def answered(self, failed: bool) -> None:
        """A caller was answered, or was told that the server failed."""
        if failed:
            self._failures, self._failed = self._failures + 1, time.monotonic()
        else:
            self._failures = 0

    def reason(self) -> str | None:
        """Why the model is not to be asked, or None."""
        now = time.monotonic()
        if self._failures >= FAILURES and now - self._failed < FORGOTTEN:
            return f"the last {self._failures} requests failed"
        if now - self._looked >= EVERY:
            self._found, self._looked = self._look(), now
        return self._found
