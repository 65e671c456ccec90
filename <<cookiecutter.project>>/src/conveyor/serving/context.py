"""What an answer must know of its request besides the body: ``Service.answer`` is called with the body alone."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asked:
    """The request that is being answered.

    Attributes:
        request: its id, the caller's or made; None outside of a server.
        recorded: whether the answer is counted and logged where it is given.
    """

    request: str | None = None
    recorded: bool = True


OUTSIDE = Asked()
ASKED: ContextVar[Asked] = ContextVar("asked", default=OUTSIDE)
