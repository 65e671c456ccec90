"""Checks before a write to the ledger: the permission, and a person's reason for the record."""

from __future__ import annotations

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.ledger.journal import REASON
from conveyor.ledger.ledger import ledger_of

ATTEMPTS = 3


TARGET = "production"


def writable(project: Project, verb: str) -> None:
    """Check that the ledger may be written from here.

    Raises:
        Misuse: origin holds the ledger, and PUSH=1 is not given.
    """
    if not ledger_of(project).writable:
        raise Misuse(f"{verb}: the ledger at origin is read-only from here; PUSH=1 writes it")


def explained(because: str, verb: str) -> None:
    """Check that a reason is given.

    Raises:
        Misuse: no reason is given, or it cannot be kept.
    """
    if not because.strip():
        raise Misuse(f'{verb}: needs a reason for the record; give one: make {verb} BECAUSE="..."')
    if any("\ud800" <= letter <= "\udfff" for letter in because):
        raise Misuse(f"{verb}: the reason is no UTF-8 text; write it again in a UTF-8 terminal")
    if len(because) > REASON:
        raise Misuse(f"{verb}: the reason has {len(because)} characters, {REASON} are the most; shorten it")
