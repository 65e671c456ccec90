"""Which model was live when: each ``live`` event holds until the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from conveyor.ledger.events import Event
from conveyor.report.timeline import Period


@dataclass(frozen=True)
class Life:
    """The time of one champion.

    Attributes:
        event: its ``live`` event.
        before, after: those of the champions before and after it, or None.
    """

    event: Event
    before: Event | None
    after: Event | None

    @property
    def label(self) -> str:
        return f"#{self.event.number} {self.event.key[:7]}"

    def period(self, today: str) -> Period:
        """Its stretch of a picture; that of the present champion ends now."""
        start = moment(self.event.time)
        return Period(start, max(start, moment(self.after.time if self.after else today)), self.label)

    def times(self) -> tuple[str, str]:
        """From and to, in words."""
        return words(self.event.time), words(self.after.time) if self.after else "now"


def lives(lived: Sequence[Event]) -> list[Life]:
    """The champions in order.

    Args:
        lived: the ``live`` events.
    """
    around = [None, *lived, None]
    return [Life(event, around[at], around[at + 2]) for at, event in enumerate(lived)]


def moment(time: str) -> datetime:
    """A time of an event."""
    return datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def words(time: str) -> str:
    return time.replace("T", " ").removesuffix("Z")


def sure(event: Event) -> str:
    """What is not sure about the time of an event; empty: nothing."""
    return f"not sure: its writer's clock said {words(event.clock)}" if event.clock else ""
