"""The kinds of damage of a ledger, each with its repair."""

from __future__ import annotations

from dataclasses import dataclass

from conveyor.core.errors import Misuse


@dataclass(frozen=True)
class Damage:
    """One damage.

    Attributes:
        what: what is wrong.
        mend: what a person does.
        repair: refs by name, with the commit that each gets, where writing them needs no judgement.
        passing: whether a writer between two refs looks the same: look again before it is called damage.
        stops: whether a reader must not go on.
    """

    what: str
    mend: str
    repair: tuple[tuple[str, str], ...] = ()
    passing: bool = False
    stops: bool = True

    @property
    def line(self) -> str:
        return f"{self.what}; {self.mend}"


@dataclass(frozen=True)
class Left(Damage):
    """Bytes of deleted models that are still there, which are deleted without judgement.

    Attributes:
        refs: those of git.
        files: the names of those at `ledger.models`.
        head: the last commit of the ledger that says so; behind a later one they may be wanted again.
    """

    refs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    head: str | None = None


class Damaged(Misuse):
    """The ledger is damaged. Damage is never "no champion"."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(f"ledger: {damage.line}")
        self.damage = damage
