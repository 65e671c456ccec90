"""The difference of two independent samples of days, each with its own error.

Rows of one day are alike, so a day is the unit: each day of each sample is left out in turn, with all of its rows, as
the gate does it. Pure functions of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conveyor.gate.spread import FEWEST, Floats, Spread, from_left_out

CONFIDENCE = 0.95  # of intervals, both bounds together
ROUNDING = 1e-12  # of a value: a smaller difference of two means is none


@dataclass(frozen=True)
class Days:
    """To which day each of some rows (n,) belongs.

    Attributes:
        place: the day's place among the days that have rows, in their order.
        count: rows of each day (d,).
    """

    place: NDArray[np.int64]
    count: Floats

    @classmethod
    def of(cls, number: NDArray[np.int64]) -> Days:
        """From the number of each row's day."""
        _, place, count = np.unique(number, return_inverse=True, return_counts=True)
        return cls(place.astype(np.int64), count.astype(np.float64))

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """The sum of the values (n,) of each day (d,)."""
        return np.bincount(self.place, weights=values, minlength=len(self.count)).astype(np.float64)

    def table(self, codes: NDArray[np.int64], kinds: int) -> Floats:
        """How many rows of each day have each code (d x kinds); codes from ``kinds`` on, and below 0, are left out."""
        known = (codes >= 0) & (codes < kinds)
        cells = np.bincount(self.place[known] * kinds + codes[known], minlength=len(self.count) * kinds)
        return cells.reshape(-1, kinds).astype(np.float64)

    @property
    def rows(self) -> float:
        return float(self.count.sum())

    @property
    def shares(self) -> Floats:
        """Each day's share of the rows (1 x d)."""
        return (self.count / max(self.rows, 1.0))[None]


def left_out_means(sums: Floats, count: Floats) -> Floats:
    """The mean of all rows without each day (d,); NaN where no row is left."""
    rest = count.sum() - count
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rest > 0, (sums.sum() - sums) / rest, np.nan)


def between(value: float, before: Floats, before_days: Days, now: Floats, now_days: Days) -> Spread:
    """The spread of a value of two samples.

    Args:
        value: of all rows, such as a mean now minus one before.
        before, now: the value without each day of the one sample and of the other (d,).
    """
    one, other = _own(value, before, before_days), _own(value, now, now_days)
    if not (one.known and other.known):
        return Spread(value, np.inf, 0)
    squares = one.error**2, other.error**2
    total = sum(squares)
    # B. Welch, "The generalization of Student's problem", Biometrika 34 (1947).
    parts = sum(square**2 / each.freedom for square, each in zip(squares, (one, other), strict=True))
    return Spread(value, float(np.sqrt(total)), total**2 / parts if parts else np.inf)


def _own(value: float, left_out: Floats, days: Days) -> Spread:
    """The part of the spread that comes from one of the samples."""
    if len(left_out) >= FEWEST and np.ptp(left_out) <= ROUNDING * max(abs(value), 1.0):
        # Days that are all equal differ by rounding, in which neighbours are alike.
        return Spread(value, 0.0, len(left_out) - 1)
    return from_left_out(value, left_out, days.shares, len(left_out))


def difference(before: Floats, before_days: Days, now: Floats, now_days: Days) -> Spread:
    """The mean of all rows now minus that before, from the sum of each day (d,)."""
    if not (before_days.rows and now_days.rows):
        return Spread(np.nan, np.inf, 0)
    old, new = before.sum() / before_days.rows, now.sum() / now_days.rows
    without_old, without_new = left_out_means(before, before_days.count), left_out_means(now, now_days.count)
    return between(float(new - old), new - without_old, before_days, without_new - old, now_days)


def two_sided(spread: Spread) -> float:
    """The p-value of "the true value is 0"; 1 without an error."""
    return min(1.0, 2 * min(spread.shown_below(0.0), spread.negative().shown_below(0.0)))


def bounds(spread: Spread, comparisons: int = 1) -> tuple[float | None, float | None]:
    """An interval of ``CONFIDENCE``, for one that was chosen among so many; None without an error."""
    return spread.interval(1 - (1 - CONFIDENCE) / 2 / comparisons) or (None, None)
