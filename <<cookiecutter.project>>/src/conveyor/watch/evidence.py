"""Which of two models is better on rows that neither has seen: looks at set times, whose levels add up.

Pure functions of numbers: no files, no git. The gate has judged a champion on a holdout that judged many models before.
Rows that came after its data judge it, and a challenger, anew. They are looked at as they come: look 1, 2, 3, ... has
the first 14, 28, 56, ... blocks and its own part of the level, and all parts together are no more than the whole. A
look always has the same rows, so it does not matter how often a job runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from conveyor.gate.guards import gain
from conveyor.gate.metrics import Labels, Metric
from conveyor.gate.spread import FEWEST, Floats

FIRST = 14  # blocks of the first look; each next one has twice as many
LEVEL = 0.05  # of all looks together, for each bound
PROBATION = (14, 28, 56, 91)  # days after which a new champion is looked at


@dataclass(frozen=True)
class Look:
    """One look at the rows that came later.

    Attributes:
        number: from 1.
        blocks: how many blocks it has, counted in time: those without a row count, too.
        level: the chance that its bound is wrong.
    """

    number: int
    blocks: int
    level: float


@dataclass(frozen=True)
class Shown:
    """The paired gain of one model over another one.

    Attributes:
        gain: how much better it is, in units of the metric.
        low, high: bounds, each of which is wrong with the chance ``level`` of the look; None: too few blocks.
        blocks, rows: what it was measured on.
    """

    gain: float
    low: float | None
    high: float | None
    blocks: int
    rows: int


def looks(blocks: int) -> tuple[Look, ...]:
    """The looks that are due once ``blocks`` blocks are complete. There is no last one: look k has the part
    1 / (k (k + 1)) of the level, which add up to 1."""
    made, number = [], 1
    while FIRST * 2 ** (number - 1) <= blocks:
        made.append(Look(number, FIRST * 2 ** (number - 1), LEVEL / (number * (number + 1))))
        number += 1
    return tuple(made)


def looks_of_probation(blocks: int, hours: int) -> tuple[Look, ...]:
    """The looks at a new champion that are due after ``blocks`` blocks of ``hours`` each: the last one is after
    13 weeks, and all have the same part of the level. A look of too few blocks for an interval is left out."""
    sizes = [size for days in PROBATION if (size := days * 24 // hours) >= FEWEST]
    return tuple(Look(n, size, LEVEL / len(sizes)) for n, size in enumerate(sizes, start=1) if size <= blocks)


def shown(metric: Metric, y: Labels, ours: Floats, theirs: Floats, number: NDArray[np.int64], level: float) -> Shown:
    """How much better ``ours`` is than ``theirs`` on the same rows.

    Args:
        metric: of the gate.
        y: labels (n,).
        ours, theirs: predictions (n,), or for several classes (n x classes).
        number: of the block of each row (n,).
        level: the chance that a bound is wrong.

    Raises:
        ValueError: the metric cannot be computed on these rows.
    """
    if not len(y):
        raise ValueError("there is no row")
    groups = np.unique(number, return_inverse=True)[1].astype(np.int64)
    between = gain(metric, y, theirs, ours, groups)[2]
    low, high = between.interval_within(1 - level, metric.ends(ours).differences) or (None, None)
    return Shown(float(between.value), low, high, int(groups.max()) + 1 if len(groups) else 0, len(y))


Judged = Literal["confirmed", "harmed", "undecided"]


def judged(found: Shown, margin: float) -> Judged:
    """Whether a model is shown to be no worse than another one by more than ``margin``, or to be worse by more."""
    if found.low is not None and found.low > -margin:
        return "confirmed"
    if found.high is not None and found.high < -margin:
        return "harmed"
    return "undecided"
