"""The numbers in the reason of an event: the gate writes them there, and no other place keeps them for long."""

from __future__ import annotations

import re
from dataclasses import dataclass

from conveyor.ledger.events import Event
from conveyor.report.wording import interval, metric_name, number

WRITTEN = ("promote", "bootstrap", "keep", "block")  # outcomes whose reason the gate writes; others are a person's
VALUE, SIGNED = r"-?\d+\.\d{4}", r"[+-]\d+\.\d{4}"
COMPARED = re.compile(rf"(\S+) ({VALUE}) against ({VALUE}), gain ({SIGNED}) \[({SIGNED}), ({SIGNED})\] on (\d+) rows?$")
ALONE = re.compile(rf": (\S+) ({VALUE}) on (\d+) rows?$")


@dataclass(frozen=True)
class Numbers:
    """What the gate measured.

    Attributes:
        metric: that decides.
        value: the model's.
        rows: that judged it.
        champion: the value of the model that it was compared with, on the same rows; None: there was none.
        gain, low, high: over that model, with the interval.
    """

    metric: str
    value: float
    rows: int
    champion: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def told(self) -> tuple[str, str]:
        """The value, and the gain with its interval, in words."""
        own = f"{metric_name(self.metric)} {number(self.value)}"
        if self.champion is None:
            return own, f"the first champion, on {self.rows:,} rows"
        gain = f"gain {number(self.gain, '+')} [{interval(self.low, self.high, '+')}]"
        return own, f"against {number(self.champion)}, {gain}, on {self.rows:,} rows"


def numbers(event: Event) -> Numbers | None:
    """The numbers in the reason of an event; None: it has none, or a person wrote it."""
    if event.outcome not in WRITTEN or event.type not in ("accepted", "live", "kept", "blocked"):
        return None
    if found := COMPARED.search(event.reason):
        metric, value, champion, gain, low, high, rows = found.groups()
        return Numbers(metric, float(value), int(rows), *map(float, (champion, gain, low, high)))
    if found := ALONE.search(event.reason):
        return Numbers(found[1], float(found[2]), int(found[3]))
    return None
