"""A measured value and its error, the bounds that follow from both, and whether a few units carry all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEWEST = 10  # rows, or groups, of each class: fewer give no interval, even if they all agree
MOST_RESAMPLED = 50_000  # units of a single model's metric: with more the tails are filled
WITHOUT = 3  # promotion must not hang on so few units where the tails are heavy
SKEWNESS = 1.5  # few units measure it too small: with this factor the bounds hold for lognormal ones
UNSURE = 1.5  # an inflation above it is an estimate that costs as many times the degrees of freedom
ALONE = 3  # units that would tell as much: fewer give no error
RHYTHM = 8  # units: a week of days, and one more

# The values that a metric can have: a share (0 to 1), a squared distance of probabilities (0 to 1, of more than two
# classes to 2), a loss (0 and above), 1 and below, any.
Scale = Literal["share", "distance", "loss", "up to one", "any"]


class Ends(NamedTuple):
    """The ends of a range of values; an infinite one is none."""

    low: float = -np.inf
    high: float = np.inf

    @property
    def open(self) -> bool:
        """Whether there is no end at all."""
        return not np.isfinite([self.low, self.high]).any()

    @property
    def differences(self) -> Ends:
        """The range of a difference of two values."""
        return Ends(self.low - self.high, self.high - self.low)

    def stretched(self, value: Any) -> Any:
        """Values on a scale that has no end: the logit of a share, the logarithm of a loss."""
        with np.errstate(divide="ignore", invalid="ignore"):
            low = np.log(value - self.low) if np.isfinite(self.low) else 0.0
            return low - (np.log(self.high - value) if np.isfinite(self.high) else 0.0)

    def slope(self, value: Any) -> Any:
        """The derivative of ``stretched``."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 / (value - self.low) + 1 / (self.high - value)

    def back(self, stretched: float) -> float:
        """The value whose ``stretched`` is this."""
        with np.errstate(over="ignore"):
            if np.isfinite(self.low) and np.isfinite(self.high):
                return float(self.low + (self.high - self.low) / (1 + np.exp(-stretched)))
            return float(self.low + np.exp(stretched) if np.isfinite(self.low) else self.high - np.exp(-stretched))


ENDS = {"share": Ends(0, 1), "distance": Ends(0, 1), "loss": Ends(0), "up to one": Ends(high=1), "any": Ends()}


@dataclass(frozen=True)
class Spread:
    """A measured value and its error.

    Attributes:
        value: the measured value.
        error: standard error; infinite if it cannot be estimated from the rows.
        freedom: degrees of freedom of that estimate: with few units the estimate itself is uncertain.
        draws: the value in each resample, if it was resampled.
        parts: what each unit adds (units,): pseudo-values, whose mean is the value; None if no unit can add much.
        units: the number of units, of the rarest class if there are classes.
        serial: correlation of neighbouring groups, which ``error`` and ``freedom`` include.
        inflated: how many times the variance is that of independent groups.
    """

    value: float
    error: float
    freedom: float
    draws: Floats | None = None
    parts: Floats | None = None
    units: int = 0
    serial: float = 0.0
    inflated: float = 1.0

    @property
    def known(self) -> bool:
        """Whether there is an error to make bounds of."""
        return bool(np.isfinite(self.error) and np.isfinite(self.value) and self.freedom > 0)

    def negative(self) -> Spread:
        """The same of the opposite value."""
        draws, parts = (None if each is None else -each for each in (self.draws, self.parts))
        return replace(self, value=-self.value, draws=draws, parts=parts)

    def at_least(self, inflated: float) -> Spread:
        """The same with groups that resemble each other at least so much: those of all rows show it more clearly."""
        more = inflated / self.inflated
        if more <= 1 or not self.known:
            return self
        return replace(self, error=self.error * np.sqrt(more), freedom=max(self.freedom / more, 1.0), inflated=inflated)

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Bounds that each hold with ``confidence``; None if there are none.

        From draws: the percentile interval, widened for small samples as in T. Hesterberg, "What Teachers Should Know
        About the Bootstrap", The American Statistician 69 (2015), section 3.3. Otherwise Student's. Where units are
        skewed, the bound on the side of the long tail is moved out by the cubic transformation of P. Hall, "On the
        removal of skewness by transformation", JRSS B 54 (1992).
        """
        from scipy.special import ndtr

        if not self.known:
            return None
        student, skewed = self._quantile(confidence), self._skewed
        below, above = max(student, _cubed(student, skewed)), max(student, -_cubed(-student, skewed))
        low, high = self.value - below * self.error, self.value + above * self.error
        if self.draws is None:
            return low, high
        widened = student * np.sqrt((self.freedom + 1) / self.freedom) if np.isfinite(self.freedom) else student
        tail = float(ndtr(-widened))
        drawn = np.quantile(self.draws, [tail, 1 - tail])
        # Student's bounds of draws are no better than theirs: only those that skewness moved are wanted.
        return (
            min(float(drawn[0]), low) if below > student else float(drawn[0]),
            max(float(drawn[1]), high) if above > student else float(drawn[1]),
        )

    def own_interval(self, confidence: float, ends: Ends) -> tuple[float, float] | None:
        """Bounds of one model's metric, made on a scale without end and carried back; None without any error.

        Near the end of its range the error of a metric depends on its value: an interval of equal arms would leave
        the range, or miss the truth on one side. A share gets the logit, a loss the logarithm; with heavy tails, which
        only a value without a second end can have, the arms are as unequal as the rows are skewed.
        """
        if ends.open or not self.known or not self.error:
            return self.interval(confidence) if self.error else None
        half_open = not np.isfinite(ends).all()
        if half_open and self.heavy and self.parts is not None and len(self.parts) <= MOST_RESAMPLED:
            return self._studentized(confidence, self.parts, ends)
        return self._stretched(confidence, ends)

    def interval_within(self, confidence: float, ends: Ends) -> tuple[float, float] | None:
        """``interval``, but a bound that would leave the range is made on a scale without end and carried back."""
        bounds = self.interval(confidence)
        if bounds is None or (bounds[0] >= ends.low and bounds[1] <= ends.high):
            return bounds
        low, high = self._stretched(confidence, ends) or (self.value, self.value)
        return bounds[0] if bounds[0] >= ends.low else low, bounds[1] if bounds[1] <= ends.high else high

    def _stretched(self, confidence: float, ends: Ends) -> tuple[float, float] | None:
        """Student's bounds on the scale without end; None for a value at an end, which has no place there."""
        value = np.float64(self.value)  # at the end of the range a float would raise
        middle, arm = ends.stretched(value), self._quantile(confidence) * self.error * ends.slope(value)
        if not np.isfinite([middle, arm]).all():
            return None
        low, high = ends.back(middle - arm), ends.back(middle + arm)
        return (low, high) if np.isfinite([low, high]).all() else None

    def _studentized(self, confidence: float, parts: Floats, ends: Ends) -> tuple[float, float]:
        """Bounds by the distribution of Student's t in resamples, which is as skewed as the rows are.

        The bound on the side of the end is made on the scale without end. The other one is not: there a few rows that
        carry all would throw it any distance.

        B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 12.
        """
        from conveyor.gate.resampling import resamples

        plain, stretched, middle = [], [], parts.mean()
        for weights in resamples(len(parts), None, 1000):
            count = np.maximum(weights.sum(axis=1), 1)
            mean = weights @ parts / count
            error = np.sqrt(np.maximum(weights @ parts**2 / count - mean**2, 0) / count)
            with np.errstate(divide="ignore", invalid="ignore"):
                plain.append((mean - middle) / error)
                stretched.append((ends.stretched(mean) - ends.stretched(middle)) / (ends.slope(mean) * error))

        def bound(found: list[Floats], level: float) -> float:
            t = np.concatenate(found)
            t = t[np.isfinite(t)]
            return float(np.quantile(t, level)) if len(t) else self._quantile(level)

        value = np.float64(self.value)
        low, high = (
            ends.back(ends.stretched(value) - bound(stretched, level) * self.error * ends.slope(value))
            if np.isfinite(end)
            else float(value - bound(plain, level) * self.error)
            for end, level in zip(ends, (confidence, 1 - confidence), strict=True)
        )
        return low, high

    def shown_below(self, bound: float) -> float:
        """One-sided p-value of "the true value is at least ``bound``": small if the value is shown to be below it."""
        from scipy.special import ndtr, stdtr

        if not self.known:
            return 1.0
        if self.error == 0:
            return 0.0 if self.value < bound else 1.0
        t, skewed = (self.value - bound) / self.error, self._skewed
        t = max(t, t + skewed * (t**2 / 3 + 1 / 6) + skewed**2 * t**3 / 27)
        return float(stdtr(self.freedom, t) if np.isfinite(self.freedom) else ndtr(t))

    def lower(self, confidence: float, ends: Ends = ENDS["any"]) -> float | None:
        """The bound above which the true value is shown to be; None if there is none.

        With heavy tails it must hold without the units that favour it most, too: the error that is measured on such
        rows is too small as long as no row of the other side was drawn. It stays within ``ends``, see
        ``interval_within``.
        """
        bounds = self.interval(confidence)
        if bounds is None:
            return None
        if self.parts is None or not self.heavy:
            return bounds[0]
        favourable = np.sort(self.parts)
        more = max(self.error / _error(favourable), 1.0)  # that the error is by correlation and uneven groups
        kept = [favourable[: len(favourable) - out] for out in range(WITHOUT + 1)]
        low = min(bounds[0], *(_student_low(each, self.freedom, confidence, more) for each in kept))
        return low if low >= ends.low else (self._stretched(confidence, ends) or (self.value,))[0]

    @property
    def carried(self) -> float:
        """Share of the squared deviations that the largest one has, 0 to 1."""
        if self.parts is None:
            return 0.0
        squares = (self.parts - self.parts.mean()) ** 2
        return float(squares.max() / squares.sum()) if squares.any() else 0.0

    @property
    def heavy(self) -> bool:
        """Whether the tails are heavy: the largest unit has four times the share that exponential tails give it.

        The largest of n exponential deviations is about log n, its share of their squares log(n)² / 2n.
        """
        return self.units > FEWEST and self.carried > 2 * np.log(self.units) ** 2 / self.units

    @cached_property
    def _skewed(self) -> float:
        """The skewness of the mean of the units; 0 if it is not known."""
        if self.parts is None or len(self.parts) < FEWEST:
            return 0.0
        off = self.parts - self.parts.mean()
        scale = np.abs(off).max()
        if not scale:
            return 0.0
        off = off / scale
        return float(SKEWNESS * np.mean(off**3) / np.mean(off**2) ** 1.5 / np.sqrt(len(off)))

    def _quantile(self, confidence: float) -> float:
        from scipy.special import ndtri, stdtrit

        return float(stdtrit(self.freedom, confidence) if np.isfinite(self.freedom) else ndtri(confidence))


def _cubed(quantile: float, skewed: float) -> float:
    """The quantile of Student's t of units whose mean has the skewness ``skewed``, from that without skewness."""
    if abs(skewed) < 1e-6:
        return quantile
    return float(3 / skewed * (np.cbrt(1 + skewed * (quantile - skewed / 6)) - 1))


def _error(parts: Floats) -> float:
    return float(parts.std(ddof=1) / np.sqrt(len(parts)))


def _student_low(parts: Floats, freedom: float, confidence: float, more: float) -> float:
    from scipy.special import stdtrit

    return float(parts.mean() - stdtrit(min(freedom, len(parts) - 1), confidence) * more * _error(parts))


def from_left_out(
    value: float,
    left_out: Floats,
    shares: Floats,
    units: int,
    informative: int | None = None,
    ordered: bool = True,
) -> Spread:
    """The spread of a value by leaving out one unit after another.

    The variance is the jackknife's, which stays right where groups are uneven (CR3: J. MacKinnon and H. White,
    Journal of Econometrics 29, 1985); its degrees of freedom follow from the shares of the groups, as many as equal
    groups with the same sum of squared shares would have. Where neighbouring groups are correlated, both are
    corrected, see ``serial``.

    Args:
        value: the value of all rows.
        left_out: the value without each unit (units,).
        shares: each unit's share of the rows (units,) or, with classes, of those of each class (classes x units).
        units: the number of units, of the rarest class if there are classes.
        informative: how many units tell anything; None: all.
        ordered: whether neighbouring units may resemble each other.
    """
    count = len(left_out)
    if units < FEWEST or informative == 1 or not (np.isfinite(value) and np.isfinite(left_out).all()):
        return Spread(value, np.inf, 0, units=units)
    parts = count * value - (count - 1) * left_out
    if informative == 0:
        return Spread(value, 0.0, np.inf, units=units)
    off = left_out - left_out.mean()
    with np.errstate(over="ignore"):  # of huge values the error is infinite: it is not known
        variance = (count - 1) / count * float(np.sum(off**2))
    freedom = min(1 / float(np.max(np.sum(np.atleast_2d(shares) ** 2, axis=1))), informative or count) - 1
    neighbours, inflated = serial(off) if ordered else (0.0, 1.0)
    if inflated > count / ALONE:
        return Spread(value, np.inf, 0, None, parts, units, neighbours, inflated)
    unsure = UNSURE if inflated > UNSURE else 1.0
    freedom = max(freedom / (inflated * unsure), 1.0) if freedom > 0 else 0
    return Spread(value, float(np.sqrt(variance * inflated)), freedom, None, parts, units, neighbours, inflated)


def serial(off: Floats) -> tuple[float, float]:
    """Correlation of neighbouring units, 0 to 0.99, and how many times the variance of their mean is that of others.

    ``off`` (units,) are deviations from a mean in the order of the units. Their mean is estimated, so the plain
    correlation is too small by about (1 + 4 r) / n: M. Kendall, "Note on bias in the estimation of autocorrelation",
    Biometrika 41 (1954). Half a standard error is taken for chance: more would leave real correlation in. The variance
    is that of an autoregressive series or, where that is more:

    - where correlation is clear, that of a series with a standard error more of it, and what all lags sum to: the
      initial monotone sequence of C. Geyer, "Practical Markov Chain Monte Carlo", Statistical Science 7 (1992);
    - where units some steps apart are alike, as Mondays are, that of such a series.
    """
    count = len(off)
    if count < FEWEST or not off.any():
        return 0.0, 1.0
    spectrum = np.fft.rfft(off / np.abs(off).max(), 2 * count)
    correlation = np.fft.irfft(spectrum * spectrum.conj())[:count]
    correlation = correlation / correlation[0]
    rhythm = 1.0
    for lag in range(2, min(RHYTHM, count // 4) + 1):
        apart = float(correlation[lag]) * count / (count - lag) + 1 / count
        if apart * np.sqrt(count - lag) > 2.4:  # one in fifteen series that have none
            rhythm = max(rhythm, _inflation(apart + 0.5 * np.sqrt(max(1 - apart**2, 0) / count)))
    first = min((float(correlation[1]) + 1 / count) / (1 - 4 / count), 0.99)
    if first <= 0.5 / np.sqrt(count):
        return 0.0, rhythm
    inflated = max(_inflation(first), rhythm)
    if first > 2 / np.sqrt(count):
        inflated = max(inflated, _inflation(first + np.sqrt((1 - first**2) / count)))
    if first <= 1 / np.sqrt(count):
        return first, inflated
    lags = max(6, min(count // 3, 200))
    summed = correlation[:lags] + 1 / count
    summed[0] = 1.0
    pairs = np.minimum.accumulate(summed[: lags // 2 * 2].reshape(-1, 2).sum(axis=1))
    positive = pairs[: int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else None]
    return first, max(inflated, 2 * float(positive.sum()) - 1)


def _inflation(correlation: float) -> float:
    """How many times the variance of a mean is that of independent units, in an autoregressive series."""
    correlation = min(correlation, 0.99)
    return (1 + correlation) / (1 - correlation)
