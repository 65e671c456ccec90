"""Intervals for a metric and for the difference of two models, paired on the same rows.

Two models that are scored on the same rows share the luck of these rows. So the difference gets the interval, from the
rows on which both models disagree, and not each value alone. ``groups`` says which rows belong together (a customer, a
patient, a day); groups are then the units, because rows of one group repeat each other.

There are three ways, from the fastest to the most general. Each takes the metric's function, labels, the predictions
of one or two models and the groups; the first model is the challenger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Groups = NDArray[np.int64] | None  # each row's group, from 0 on; None: each row alone
RESAMPLES, AT_LEAST = 2000, 500  # fewer from WORK weights on: many rows need fewer resamples
WORK = 200_000_000
SEED = 20130101
CHUNK = 2_000_000  # weights in memory at once; a metric needs some times that in bytes, as much as a cache holds
FEWEST = 10  # rows, or groups, of each class: fewer give no interval, even if they all agree


@dataclass(frozen=True)
class Spread:
    """A measured value and its error.

    Attributes:
        value: the measured value.
        error: standard error; infinite if it cannot be estimated from the rows.
        freedom: degrees of freedom of that estimate: with few rows the estimate itself is uncertain.
        draws: the value in each resample, if it was resampled.
    """

    value: float
    error: float
    freedom: float
    draws: Floats | None = None

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Bounds that each hold with ``confidence``; None if there are none.

        From draws: the percentile interval, widened for small samples as in T. Hesterberg, "What Teachers Should Know
        About the Bootstrap", The American Statistician 69 (2015), section 3.3. Otherwise Student's.
        """
        from scipy.special import ndtr, stdtrit

        if not (np.isfinite(self.error) and np.isfinite(self.value) and self.freedom > 0):
            return None
        student = float(stdtrit(self.freedom, confidence)) if np.isfinite(self.freedom) else _normal(confidence)
        if self.draws is None:
            return self.value - student * self.error, self.value + student * self.error
        tail = float(ndtr(-student * np.sqrt((self.freedom + 1) / self.freedom)))
        low, high = np.quantile(self.draws, [tail, 1 - tail])
        return float(low), float(high)

    def shown_below(self, bound: float) -> float:
        """One-sided p-value of "the true value is at least ``bound``": small if the value is shown to be below it."""
        from scipy.special import ndtr, stdtr

        if not (np.isfinite(self.error) and np.isfinite(self.value) and self.freedom > 0):
            return 1.0
        if self.error == 0:
            return 0.0 if self.value < bound else 1.0
        t = (self.value - bound) / self.error
        return float(stdtr(self.freedom, t) if np.isfinite(self.freedom) else ndtr(t))


def _normal(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(confidence))


@dataclass(frozen=True)
class Measured:
    """A metric of one or two models: the value of each, and the first minus the second."""

    alone: tuple[Spread, ...]
    difference: Spread | None


Way = Callable[[Callable[..., Any], NDArray[Any], Sequence[Floats], Groups], Measured]


def by_mean(function: Callable[..., Floats], y: NDArray[Any], models: Sequence[Floats], groups: Groups) -> Measured:
    """A mean over rows: ``function(y, predicted)`` gives a quantity for each row (n,).

    The central limit theorem with Student's quantile; with groups, their sums are the units (cluster-robust variance:
    K.-Y. Liang and S. Zeger, Biometrika 73, 1986). Rows on which two models agree carry no information on the spread of
    their difference and count no degree of freedom: three rows of disagreement show nothing.
    """
    rows = [np.asarray(function(y, predicted), dtype=np.float64) for predicted in models]
    difference = None
    if len(rows) == 2:
        between = rows[0] - rows[1]
        differing = between != 0 if groups is None else np.bincount(groups, weights=between != 0) > 0
        difference = _mean(between, groups, int(np.sum(differing)))
    return Measured(tuple(_mean(row, groups, len(row)) for row in rows), difference)


def _mean(row: Floats, groups: Groups, informative: int) -> Spread:
    value = row.mean()
    units = row - value if groups is None else np.bincount(groups, weights=row - value)
    if len(units) < FEWEST or informative == 1:
        return Spread(float(value), np.inf, 0)
    if not informative:
        return Spread(0.0, 0.0, np.inf)
    error = np.sqrt(len(units) / (len(units) - 1) * np.sum(units**2)) / len(row)
    return Spread(float(value), float(error), min(len(units), informative) - 1)


def by_placements(
    function: Callable[..., Floats], y: NDArray[Any], models: Sequence[Floats], groups: Groups
) -> Measured:
    """The area under the ROC curve: ``function(y, predicted)`` gives each row's placement (n,) among the other class.

    The variance of E. DeLong, D. DeLong and D. Clarke-Pearson, "Comparing the areas under two or more correlated
    receiver operating characteristic curves", Biometrics 44 (1988); with groups, that of N. Obuchowski, "Nonparametric
    analysis of clustered ROC curve data", Biometrics 53 (1997), which equals the former if each row is its own group.
    The degrees of freedom are those of the rarer class, the conservative choice of B. Welch, Biometrika 29 (1938): a
    chance similarity of two positives must not make the interval narrow.

    Raises:
        ValueError: one of the two classes has no row.
    """
    m, n = int(np.sum(y == 1)), int(np.sum(y == 0))
    if not m or not n:
        raise ValueError("needs rows of both classes")
    rows = [np.asarray(function(y, predicted), dtype=np.float64) for predicted in models]
    alone = tuple(_area(row, y, groups) for row in rows)
    return Measured(alone, _area(rows[0] - rows[1], y, groups) if len(rows) == 2 else None)


def _area(placed: Floats, y: NDArray[Any], groups: Groups) -> Spread:
    positive = y == 1
    m, n = positive.sum(), (~positive).sum()
    value = placed[positive].mean()
    groups = np.arange(len(y)) if groups is None else groups
    off = np.where(positive, (placed - value) / m, (placed - value) / n)
    won = np.bincount(groups[positive], weights=off[positive], minlength=groups.max() + 1)
    lost = np.bincount(groups[~positive], weights=off[~positive], minlength=groups.max() + 1)
    of_positive, of_negative = len(np.unique(groups[positive])), len(np.unique(groups[~positive]))
    if min(of_positive, of_negative) < FEWEST:
        return Spread(float(value), np.inf, 0)
    a = of_positive / (of_positive - 1) * np.sum(won**2)
    b = of_negative / (of_negative - 1) * np.sum(lost**2)
    count = len(np.unique(groups))
    variance = max(a + b + 2 * count / (count - 1) * np.sum(won * lost), 0.0)
    if not a + b:
        return Spread(float(value), 0.0, np.inf)
    return Spread(float(value), float(np.sqrt(variance)), min(of_positive, of_negative) - 1)


def by_bootstrap(
    function: Callable[..., Any],
    y: NDArray[Any],
    models: Sequence[Floats],
    groups: Groups,
    count: int | None = None,
) -> Measured:
    """All other metrics: ``function(y, predicted)`` prepares its values once, and returns a function of weights.

    That function takes weights (resamples x n), how often each row was drawn, and returns the values (resamples,).
    Weights are Poisson with mean one for each row, or for each group as a whole, the same for both models: N. Chamandy
    et al., "Estimating Uncertainty for Massive Data Streams" (Google, 2012); J. Hanley and B. MacGibbon, "Creating
    non-parametric bootstrap samples using Poisson frequencies" (2006). CHUNK bounds the memory, whatever the rows.
    There are ``count`` resamples, else RESAMPLES; fewer for many rows, but at least AT_LEAST.
    """
    valued = [function(y, predicted) for predicted in models]
    values = [float(value(np.ones((1, len(y)), dtype=np.uint8))[0]) for value in valued]
    units = _units(y, groups)
    if units < FEWEST:
        nothing = [Spread(value, np.inf, 0) for value in values]
        return Measured(tuple(nothing), Spread(values[0] - values[1], np.inf, 0) if len(values) == 2 else None)
    chunks = [np.stack([value(weights) for value in valued]) for weights in resamples(len(y), groups, count)]
    draws = np.concatenate(chunks, axis=1)
    alone = tuple(_drawn(value, drawn, units) for value, drawn in zip(values, draws, strict=True))
    if len(values) < 2:
        return Measured(alone, None)
    with np.errstate(invalid="ignore"):  # a draw without a value has no difference
        return Measured(alone, _drawn(values[0] - values[1], draws[0] - draws[1], units))


def _drawn(value: float, draws: Floats, units: int) -> Spread:
    draws = draws[np.isfinite(draws)]
    if len(draws) < 100:  # most resamples have no value: the rows do not determine it
        return Spread(value, np.inf, 0)
    return Spread(value, float(draws.std(ddof=1)), units - 1, draws)


def _units(y: NDArray[Any], groups: Groups) -> int:
    """The number of units to resample; with classes, of the rarest one."""
    units = np.arange(len(y)) if groups is None else groups
    if y.dtype.kind == "f":
        return len(np.unique(units))
    return min((len(np.unique(units[y == label])) for label in np.unique(y)), default=0)


def resamples(rows: int, groups: Groups, count: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """How often each row is in each of ``count`` resamples, one chunk (resamples x rows) at a time."""
    count = count or max(AT_LEAST, min(RESAMPLES, WORK // max(rows, 1)))
    generator = np.random.default_rng(SEED)
    units = rows if groups is None else int(groups.max()) + 1
    step = max(1, CHUNK // max(rows, units))
    for begin in range(0, count, step):
        weights = poisson(generator, (min(step, count - begin), units))
        yield weights if groups is None else weights[:, groups]


def poisson(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Draws of a Poisson distribution with mean one: a table look-up by sixteen random bits, as fast as memory."""
    count = shape[0] * shape[1]
    bits = generator.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
    return _POISSON[bits].reshape(shape)


def _table() -> NDArray[np.uint8]:
    chances = np.exp(-1.0) / np.cumprod([1.0, *range(1, 9)])
    return np.searchsorted(np.cumsum(chances), (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)


_POISSON = _table()
