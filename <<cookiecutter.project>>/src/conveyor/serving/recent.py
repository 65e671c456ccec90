"""The newest requests and what was answered, for a deployment that asks a new release the same: see GET /mirror."""

from __future__ import annotations

from collections import deque
from typing import Any

from pydantic_core import to_json

REQUESTS = 200
BODY_BYTES = 64 * 1024  # a longer body is not kept
BYTES = 4 * 1024 * 1024  # of all bodies and answers together


class Kept:
    """At most so many of the newest requests, in memory alone."""

    def __init__(self) -> None:
        self._requests: deque[tuple[int, dict[str, Any]]] = deque()
        self._bytes = 0

    def add(self, request: str, at: float, body: bytes, status: int, answer: bytes, seconds: float) -> None:
        """Keep a request and what was sent for it, if its body is short enough, and text.

        Args:
            at: seconds since 1970.
            seconds: that the answer took.
        """
        if len(body) > BODY_BYTES:
            return
        try:
            text = body.decode()
        except UnicodeDecodeError:  # could not be asked again as it was
            return
        size = len(body) + len(answer)
        told = {"id": request, "at": at, "body": text, "status": status, "seconds": seconds}
        told["answer"] = answer.decode(errors="replace")  # whatever a bad image sends
        self._requests.append((size, told))
        self._bytes += size
        while len(self._requests) > REQUESTS or self._bytes > BYTES:
            self._bytes -= self._requests.popleft()[0]

    def json(self) -> bytes:
        """All of them, the newest last."""
        return to_json({"requests": [told for _, told in self._requests]})
