"""The latest requests and their answers, for a deployment that repeats them at a new release: see GET /mirror."""

from __future__ import annotations

from collections import deque
from typing import Any

from pydantic_core import to_json

REQUESTS = 200
BODY_BYTES = 64 * 1024  # a longer body is not kept
BYTES = 4 * 1024 * 1024  # of all bodies and answers together


class Kept:
    """The latest requests within the limits, only in memory."""

    def __init__(self) -> None:
        self._requests: deque[tuple[int, dict[str, Any]]] = deque()
        self._bytes = 0

    def add(self, request: str, at: float, body: bytes, status: int, answer: bytes, seconds: float) -> None:
        """Keep a request and its answer, if the body is short enough, and text.

        Args:
            at: seconds since 1970.
            seconds: time of the answer.
        """
        if len(body) > BODY_BYTES:
            return
        try:
            text = body.decode()
        except UnicodeDecodeError:  # could not be repeated
            return
        size = len(body) + len(answer)
        told = {"id": request, "at": at, "body": text, "status": status, "seconds": seconds}
        told["answer"] = answer.decode(errors="replace")  # a bad image may send anything
        self._requests.append((size, told))
        self._bytes += size
        while len(self._requests) > REQUESTS or self._bytes > BYTES:
            self._bytes -= self._requests.popleft()[0]

    def json(self) -> bytes:
        """All kept requests, the newest last."""
        return to_json({"requests": [told for _, told in self._requests]})
