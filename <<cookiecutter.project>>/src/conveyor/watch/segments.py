"""The live loss of each part of the rows beside that of the same part of the holdout. It explains an average.

Pure functions of frames. The unit of the intervals is the day, see samples.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.gate.guards import segment
from conveyor.gate.spread import Floats
from conveyor.watch.samples import Days, bounds, difference

ROWS = 20  # with a label, live and in the holdout: fewer tell nothing
MOST = 30  # segments that are told


@dataclass(frozen=True)
class Segment:
    """A value of a column, or a band of numbers.

    Attributes:
        column, value: what it is, in words.
        rows, then_rows: live rows with a label, and rows of the holdout.
        live, then: the mean loss of each.
        difference: the first minus the second.
        low, high: its interval of 95 %; None: days are fewer than ten, or too much alike.
    """

    column: str
    value: str
    rows: int
    then_rows: int
    live: float
    then: float
    difference: float
    low: float | None
    high: float | None


def compared(
    now: pd.DataFrame,
    now_day: NDArray[np.int64],
    now_loss: Floats,
    before: pd.DataFrame,
    before_day: NDArray[np.int64],
    before_loss: Floats,
) -> tuple[Segment, ...]:
    """The segments that have rows enough, the largest rise of the loss first; at most ``MOST``.

    Args:
        now: live rows with a label: the columns that divide them (n x k), in the types of training.
        now_day, now_loss: the number of the day of each, and its loss (n,).
        before: the same columns of the holdout (m x k).
        before_day, before_loss: the same of them (m,).
    """
    names = segment(pd.concat([before, now], ignore_index=True), tuple(now.columns))
    losses, days, live = np.concatenate([before_loss, now_loss]), np.concatenate([before_day, now_day]), len(before)
    found = []
    for column in names:
        for value, places in names.groupby(column, observed=True).indices.items():
            old, new = places[places < live], places[places >= live]
            if min(len(old), len(new)) < ROWS:
                continue
            was, has = Days.of(days[old]), Days.of(days[new])
            spread = difference(was.sums(losses[old]), was, has.sums(losses[new]), has)
            means = float(losses[new].mean()), float(losses[old].mean())
            found.append(Segment(column, str(value), len(new), len(old), *means, spread.value, *bounds(spread)))
    return tuple(sorted(found, key=lambda each: (-each.difference, each.column, each.value))[:MOST])
