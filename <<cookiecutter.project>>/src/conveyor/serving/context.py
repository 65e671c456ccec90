"""The context of a request besides its body: ``Service.answer`` is called with the body alone."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass


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
    """A random UUID (version 4). Each request needs two, and the standard library takes twice as long."""
    made = bytearray(os.urandom(16))
    made[6], made[8] = made[6] & 0x0F | 0x40, made[8] & 0x3F | 0x80  # the version, and the variant
    text = made.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


OUTSIDE = Asked()
ASKED: ContextVar[Asked] = ContextVar("asked", default=OUTSIDE)
