"""The context of a request besides its body: ``Service.answer`` is called with the body alone."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass

IDS = 256  # of which the random bytes are asked for at once
VARIANTS = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
_DRAWN: list[bytes] = []
os.register_at_fork(after_in_child=_DRAWN.clear)  # else two processes would give the same ids


@dataclass(frozen=True, slots=True)
class Asked:
    """The request that is being answered.

    Attributes:
        request: its id, from the caller or made here; None outside of a server.
        recorded: whether ``Service.answer`` counts and logs the answer.
    """

    request: str | None = None
    recorded: bool = True


def new_id() -> str:
    """A random UUID (version 4). Each request needs two: the standard library, and the system, would take longer."""
    if not _DRAWN:
        drawn = os.urandom(16 * IDS)
        _DRAWN.extend(drawn[start : start + 16] for start in range(0, len(drawn), 16))
    text = _DRAWN.pop().hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{VARIANTS[text[16]]}{text[17:20]}-{text[20:]}"


OUTSIDE = Asked()
ASKED: ContextVar[Asked] = ContextVar("asked", default=OUTSIDE)
