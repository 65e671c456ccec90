"""What the gate decides, and the numbers behind it."""

from __future__ import annotations

from typing import Literal

from conveyor.core.frozen import Frozen
from conveyor.core.tasks import Task
from conveyor.gate.balance import Balance
from conveyor.gate.guards import Guard
from conveyor.gate.looks import Look
from conveyor.gate.units import Units

Outcome = Literal["bootstrap", "promote", "keep", "block", "incomparable"]
BANNED = "this model will not be promoted"  # begins the flag of a model in quarantine


class Comparison(Frozen):
    """One metric of both models. A gain is positive if the challenger is better, whatever the metric's direction.

    ``gain_error`` is its standard error.
    """

    name: str
    higher_is_better: bool
    champion: float | None = None
    challenger: float | None = None
    challenger_low: float | None = None
    challenger_high: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    p_harm: float | None = None
    gain_error: float | None = None


class Floor(Frozen):
    metric: str
    floor: float
    value: float | None
    holds: bool


class Tail(Frozen):
    """The gain hangs on few units: the share of the squared deviations that one has, and the bound without some."""

    carried: float
    without: int
    low: float


class Decision(Frozen):
    """An outcome with its reason in words, and all numbers behind it.

    ``class_counts`` holds the number of rows of each class, empty for a regression; ``guard_confidence`` is the
    confidence of the guards and the test for overall harm together. Of a binary task ``threshold`` is the one that
    made the classes, and ``balance`` the one at which the challenger's precision and recall would be equal.
    ``unseen`` is what no guard looked at, in words; ``tail`` is there if the tails of the gain are heavy; ``look``
    is the place of this test among those of main and its level (None: it was tested as if it were the only one),
    ``needed`` the gain that is enough at that level; ``anchor_gain`` is that over the best champion so far, if it
    is another model; ``tested`` says whether luck could have promoted the challenger.
    """

    outcome: Outcome
    reason: str
    task: Task
    metric: str
    higher_is_better: bool
    confidence: float
    margin: float
    promote_when: Literal["superior", "non_inferior"]
    rows: int
    class_counts: tuple[int, ...]
    threshold: float | None = None
    balance: Balance | None = None
    floors: tuple[Floor, ...]
    metrics: tuple[Comparison, ...]
    guards: tuple[Guard, ...] = ()
    guard_confidence: float
    unseen: tuple[str, ...] = ()
    units: Units | None = None
    tail: Tail | None = None
    look: Look | None = None
    anchor_gain: float | None = None
    needed: float | None = None
    tested: bool = False
