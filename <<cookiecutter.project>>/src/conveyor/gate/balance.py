"""The threshold that would balance precision and recall."""

from __future__ import annotations

from itertools import chain

import numpy as np

from conveyor.core.frozen import Frozen
from conveyor.gate.metrics import Labels
from conveyor.gate.spread import Floats


class Balance(Frozen):
    """A threshold, and precision and recall at it."""

    threshold: float
    precision: float
    recall: float


def balance(y: Labels, predicted: Floats) -> Balance | None:
    """The threshold at which precision and recall are equal, in the fewest decimals.

    They are equal if as many rows are called positive as are positive: both are then hits by that number. Rows that are
    tied can prevent it; then it is the threshold at which their ratio is closest to one.

    Args:
        y: zeros and ones (n,).
        predicted: the probability of a one (n,).

    Returns:
        None if there are rows of one class alone, a prediction is no probability, or no threshold in (0, 1) does it.
    """
    positives = int(np.sum(y == 1))
    if not 0 < positives < len(y) or not np.all((predicted >= 0) & (predicted <= 1)):
        return None
    values, counts = np.unique(predicted, return_counts=True)
    called = np.cumsum(counts[::-1])[::-1]  # rows with at least each value
    # A threshold of zero would be needed to call rows of probability zero positive.
    off = np.where(values > 0, np.abs(np.log(called / positives)), np.inf)
    place = int(off.argmin())
    if not np.isfinite(off[place]):
        return None
    high, low = float(values[place]), float(values[place - 1]) if place else 0.0
    tried = chain((round((low + high) / 2, digits) for digits in range(1, 18)), [high])
    threshold = next((value for value in tried if low < value <= high and value < 1), None)
    if threshold is None:
        return None
    hits = int(np.sum(y[predicted >= threshold] == 1))
    return Balance(threshold=threshold, precision=hits / int(called[place]), recall=hits / positives)
