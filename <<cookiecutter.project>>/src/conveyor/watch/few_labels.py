"""The mean live loss where few predictions have a label, estimated with the model's own probabilities of the others.

From its own probabilities a classifier gives the loss that it expects of a row. If they were right, the mean of these
would be the loss. The rows with a label show the error of that mean: A. Angelopoulos, S. Bates, C. Fannjiang,
M. Jordan and T. Zrnic, "Prediction-powered inference", Science 382 (2023). How much the expected losses count is chosen
on the data, from 0 (labels alone) to 1: A. Angelopoulos, J. Duchi and T. Zrnic, "PPI++: Efficient prediction-powered
inference" (2023). Whatever is chosen, the interval holds if rows with a label are a random sample of the predictions.

The unit of the intervals is the day, see samples.py. Pure functions of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conveyor.gate.spread import ENDS, Floats, Spread, from_left_out
from conveyor.watch.samples import CONFIDENCE, Days, left_out_means

FEW = 0.5  # share of the predictions with a label from which on labels alone are enough
ROWS = 20  # with a label: fewer tell nothing


@dataclass(frozen=True)
class Estimate:
    """A mean loss of rows, and its interval of 95 %; None: days are too few, or too much alike."""

    value: float
    low: float | None
    high: float | None

    @property
    def width(self) -> float:
        return np.inf if self.low is None or self.high is None else self.high - self.low


@dataclass(frozen=True)
class FewLabels:
    """The mean loss of some rows of which few have a label.

    Attributes:
        rows, labelled: how many there are, and have a label.
        alone: by the rows with a label.
        corrected: by all rows.
        weight: how much the expected losses count in it, 0 to 1.
        calibrated: what the model expects of all rows: the loss, if its probabilities are right.
    """

    rows: int
    labelled: int
    alone: Estimate
    corrected: Estimate
    weight: float
    calibrated: Estimate

    @property
    def narrower(self) -> bool:
        """Whether rows without a label have made the interval narrower; else they tell nothing more."""
        return self.corrected.width < self.alone.width


def expected(predicted: Floats) -> Floats:
    """The log loss that probabilities (n,) of the positive class, or of all classes (n x k), expect (n,)."""
    tiny = np.finfo(np.float64).eps
    each = np.stack([predicted, 1 - predicted], axis=1) if predicted.ndim == 1 else predicted
    found: Floats = -np.sum(each * np.log(np.clip(each, tiny, 1 - tiny)), axis=1)
    return found


def estimate(told: Floats, day: NDArray[np.int64], known: NDArray[np.bool_], loss: Floats) -> FewLabels | None:
    """The mean loss of rows (n,); None: at least half of them have a label, or fewer than ``ROWS``.

    Args:
        told: the loss that the model expects of each (n,).
        day: the number of its day (n,).
        known: whether it has a label (n,).
        loss: of those with a label, in the same order.
    """
    if known.sum() < ROWS or known.mean() >= FEW:
        return None
    days, all_losses = Days.of(day), np.zeros(len(told))
    all_losses[known] = loss
    labelled, others = days.sums(known), days.sums(~known)
    mean = left_out_means(days.sums(all_losses), labelled)
    apart = left_out_means(days.sums(told * known), labelled) - left_out_means(days.sums(told * ~known), others)
    off = float(told[known].mean() - told[~known].mean())
    weight = _weight(told, known, loss)
    units = int((labelled > 0).sum())
    shares = np.stack([labelled / labelled.sum(), others / others.sum()])
    alone = from_left_out(float(loss.mean()), mean, shares[:1], units)
    corrected = from_left_out(float(loss.mean()) - weight * off, mean - weight * apart, shares, units)
    own = from_left_out(float(told.mean()), left_out_means(days.sums(told), days.count), days.shares, len(days.count))
    return FewLabels(len(told), int(known.sum()), _estimate(alone), _estimate(corrected), weight, _estimate(own))


def _weight(told: Floats, known: NDArray[np.bool_], loss: Floats) -> float:
    """The weight of the least variance, if rows were independent: any one is valid, and days are too few to choose."""
    spread = float(told.var())
    if not spread:
        return 0.0
    together = float(np.cov(loss, told[known])[0, 1])
    return float(np.clip(together / ((1 + known.sum() / (~known).sum()) * spread), 0, 1))


def _estimate(spread: Spread) -> Estimate:
    low, high = spread.own_interval(1 - (1 - CONFIDENCE) / 2, ENDS["loss"]) or (None, None)
    return Estimate(spread.value, low, high)
