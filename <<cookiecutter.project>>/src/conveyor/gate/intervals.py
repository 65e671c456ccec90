"""Intervals for a metric and for the difference of two models, paired on the same rows.

Two models that are scored on the same rows share the luck of these rows. So the difference gets the interval, from the
rows on which both models disagree, and not each value alone. ``groups`` says which rows belong together (a customer, a
patient, a day); groups are then the units, because rows of one group repeat each other, and each is left out in turn.
Groups are in order: neighbours that resemble each other, such as two days of one week's weather, widen the interval.

There are four ways, from the fastest to the most general. Each takes the metric's function, labels, the predictions
of one or two models and the groups; the first model is the challenger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conveyor.gate import resampling
from conveyor.gate.resampling import Groups
from conveyor.gate.spread import FEWEST, Floats, Spread, from_left_out

LINEAR = 20_000  # units of the rarest class from which on no resample is needed: the metric is linear in them
BLOCK = 2_000_000  # numbers in memory at once where each row is left out


@dataclass(frozen=True)
class Measured:
    """A metric of one or two models: the value of each, and the first minus the second."""

    alone: tuple[Spread, ...]
    difference: Spread | None


@dataclass(frozen=True)
class Sums:
    """A metric that is a function of sums over rows.

    Attributes:
        values: what each row adds (rows x k).
        combine: the metric of sums (... x cells x k).
        cell: the cells to which each row adds (rows x some), such as its places in a confusion table; None: there is
            one cell.
        cells: the number of cells.
    """

    values: Floats
    combine: Callable[[Floats], Floats]
    cell: NDArray[np.int64] | None = None
    cells: int = 1

    def of_units(self, unit: NDArray[np.int64], units: int) -> Floats:
        """The sums of each unit (units x cells x k)."""
        sums = np.zeros((units * self.cells, self.values.shape[1]))
        for cell in [0] if self.cell is None else self.cell.T:
            place = unit * self.cells + cell
            for column, added in enumerate(self.values.T):
                sums[:, column] += np.bincount(place, weights=added, minlength=len(sums))
        return sums.reshape(units, self.cells, -1)

    def weighted(self, weights: NDArray[Any]) -> Floats:
        """The metric under weights (draws x rows), for each draw."""
        sums = weights @ self.values if self.cell is None else (self._adds.T @ weights.T.astype(np.float64)).T
        return self.combine(sums.reshape(len(weights), self.cells, -1))

    @cached_property
    def _adds(self) -> Any:
        """What each row adds to each sum, a sparse matrix (rows x cells * k)."""
        from scipy.sparse import csr_array

        assert self.cell is not None
        (rows, times), width = self.cell.shape, self.values.shape[1]
        column = self.cell[:, :, None] * width + np.arange(width)
        added = np.broadcast_to(self.values[:, None], column.shape)
        row = np.repeat(np.arange(rows), times * width)
        return csr_array((added.ravel(), (row, column.ravel())), shape=(rows, self.cells * width))

    def without_each_row(self, total: Floats) -> Floats:
        """The metric without each row (rows,), of which ``total`` are the sums; equal rows are left out once."""
        cells = np.zeros((len(self.values), 1), dtype=np.int64) if self.cell is None else self.cell
        if (self.values == self.values[:1]).all():
            kinds, member = np.unique(cells, axis=0, return_inverse=True)
            return self._without(total, kinds, self.values[:1].repeat(len(kinds), axis=0))[member.ravel()]
        return self._without(total, cells, self.values)

    def _without(self, total: Floats, cells: NDArray[np.int64], values: Floats) -> Floats:
        left = np.empty(len(values))
        step = max(1, BLOCK // total.size)
        for begin in range(0, len(left), step):
            rows = slice(begin, begin + step)
            held = np.repeat(total[None], len(values[rows]), axis=0)
            for cell in cells[rows].T:
                held[np.arange(len(held)), cell] -= values[rows]
            left[rows] = self.combine(held)
        return left


def with_difference(each: Sequence[Any] | NDArray[Any]) -> list[Any]:
    """What was found of one or two models, and of two their difference."""
    if len(each) < 2:
        return list(each)
    with np.errstate(invalid="ignore"):  # what is not finite has no difference
        return [*each, each[0] - each[1]]


def measured(spreads: Sequence[Spread], models: int) -> Measured:
    """The spreads of ``models`` models and, of two, that of their difference."""
    return Measured(tuple(spreads[:models]), spreads[models] if models == 2 else None)


Way = Callable[[Callable[..., Any], NDArray[Any], Sequence[Floats], Groups], Measured]


def units_of(y: NDArray[Any], groups: Groups) -> int:
    """The number of units; with classes, of the rarest one."""
    if y.dtype.kind == "f":
        return len(y) if groups is None else len(np.unique(groups))
    if groups is None:
        return int(min((count for count in np.bincount(y) if count), default=0))
    return min((len(np.unique(groups[y == label])) for label in np.unique(y)), default=0)


def telling(differ: NDArray[np.bool_], groups: Groups) -> int:
    """The number of units with a row in which two models differ: the others tell nothing of their difference."""
    return int(np.sum(differ if groups is None else np.bincount(groups, weights=differ) > 0))


def shares_of(groups: NDArray[np.int64], *masks: NDArray[np.bool_]) -> Floats:
    """Each group's share of the rows in each mask (masks x groups); of all rows without a mask."""
    count = int(groups.max()) + 1
    counts = [np.bincount(groups[mask], minlength=count) for mask in masks] or [np.bincount(groups, minlength=count)]
    return np.stack([each / max(each.sum(), 1) for each in counts])


def by_mean(function: Callable[..., Floats], y: NDArray[Any], models: Sequence[Floats], groups: Groups) -> Measured:
    """A mean over rows: ``function(y, predicted)`` gives a quantity for each row (n,).

    The central limit theorem with Student's quantile. Rows on which two models agree carry no information on the
    spread of their difference and count no degree of freedom: three rows of disagreement show nothing. Nor do rows of
    one of two classes: what a model loses on the other one, it gains on these.
    """
    rows = [np.asarray(function(y, predicted), dtype=np.float64) for predicted in models]
    rarest = units_of(y, groups)
    if y.dtype.kind != "f" and y.max() <= 1 and (rarest < FEWEST or y.min() == y.max()):
        return measured([Spread(float(v), np.inf, 0) for v in with_difference([row.mean() for row in rows])], len(rows))
    difference = None
    if len(rows) == 2:
        between = rows[0] - rows[1]
        difference = _mean(between, groups, telling(between != 0, groups), rarest)
    return Measured(tuple(_mean(row, groups, None, rarest) for row in rows), difference)


def _mean(row: Floats, groups: Groups, informative: int | None, rarest: int) -> Spread:
    value = float(row.mean())
    units = len(row) if groups is None else int(groups.max()) + 1
    if units < FEWEST or informative == 1:
        return Spread(value, np.inf, 0)
    if informative == 0:
        return Spread(0.0, 0.0, np.inf)
    if groups is None:
        error = float(row.std(ddof=1)) / np.sqrt(len(row))
        return Spread(value, error, min(units, informative or units) - 1, None, row, rarest)
    sums, counts = np.bincount(groups, weights=row), np.bincount(groups)
    left = (sums.sum() - sums) / np.maximum(len(row) - counts, 1)
    return from_left_out(value, left, shares_of(groups), units, informative)


def by_placements(
    function: Callable[..., Floats], y: NDArray[Any], models: Sequence[Floats], groups: Groups
) -> Measured:
    """The area under the ROC curve: ``function(y, predicted)`` gives each row's placement (n,) among the other class.

    The variance of E. DeLong, D. DeLong and D. Clarke-Pearson, "Comparing the areas under two or more correlated
    receiver operating characteristic curves", Biometrics 44 (1988). The degrees of freedom are those of the rarer
    class, the conservative choice of B. Welch, Biometrika 29 (1938): a chance similarity of two positives must not
    make the interval narrow. Groups are left out in turn, with all their pairs.

    Raises:
        ValueError: one of the two classes has no row.
    """
    positive = y == 1
    if not positive.any() or positive.all():
        raise ValueError("needs rows of both classes")
    rows = [np.asarray(function(y, predicted), dtype=np.float64) for predicted in models]
    if groups is None:
        alone = tuple(_area(row, positive) for row in rows)
        return Measured(alone, _area(rows[0] - rows[1], positive) if len(rows) == 2 else None)
    values = [float(row[positive].mean()) for row in rows]
    left = [_areas_left_out(row, positive, predicted, groups) for row, predicted in zip(rows, models, strict=True)]
    shares, units = shares_of(groups, positive, ~positive), units_of(y, groups)
    spreads = tuple(from_left_out(value, each, shares, units) for value, each in zip(values, left, strict=True))
    if len(rows) < 2:
        return Measured(spreads, None)
    changed = min(telling(rows[0] != rows[1], groups), units)
    between = from_left_out(values[0] - values[1], left[0] - left[1], shares, units, changed)
    return Measured(spreads, between)


def _area(placed: Floats, positive: NDArray[np.bool_]) -> Spread:
    m, n = int(positive.sum()), int((~positive).sum())
    value = float(placed[positive].mean())
    if min(m, n) < FEWEST:
        return Spread(value, np.inf, 0)
    variance = float(placed[positive].var(ddof=1) / m + placed[~positive].var(ddof=1) / n)
    if not variance:
        return Spread(value, 0.0, np.inf)
    return Spread(value, float(np.sqrt(variance)), min(m, n) - 1)


def _areas_left_out(
    placed: Floats, positive: NDArray[np.bool_], predicted: Floats, groups: NDArray[np.int64]
) -> Floats:
    """The area without each group (groups,): its rows' pairs are taken away, those within it once only."""
    m, n = positive.sum(), (~positive).sum()
    count = int(groups.max()) + 1
    ours, theirs = (np.bincount(groups[mask], minlength=count) for mask in (positive, ~positive))
    won = np.bincount(groups, weights=placed * np.where(positive, n, m), minlength=count)
    order = np.lexsort((predicted, groups))
    within = below(predicted[order], ~positive[order], groups[order])[positive[order]]
    inside = np.bincount(groups[order][positive[order]], weights=within, minlength=count)
    pairs = (m - ours) * (n - theirs)
    with np.errstate(invalid="ignore", divide="ignore"):
        left: Floats = (placed[positive].sum() * n - won + inside) / pairs
    return left


def below(ranked: Floats, counted: NDArray[np.bool_], groups: NDArray[np.int64] | None = None) -> Floats:
    """How many counted rows of the same group are below each row (n,), ties as one half.

    Args:
        ranked: values in ascending order, within each group.
        counted: which rows are counted.
        groups: the group of each row, in ascending order; None: all are one group.
    """
    new = np.empty(len(ranked), dtype=bool)
    new[:1] = True
    new[1:] = ranked[1:] != ranked[:-1]
    begins = new.copy()
    if groups is not None:
        begins[1:] = groups[1:] != groups[:-1]
        new |= begins
    else:
        begins[1:] = False
    upto = np.concatenate([[0], np.cumsum(counted)])
    first = np.flatnonzero(new)
    tie = np.cumsum(new) - 1
    last = np.append(first[1:], len(ranked))
    start = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    found: Floats = (upto[first][tie] + upto[last][tie]) / 2 - upto[start]
    return found


def by_sums(
    function: Callable[..., Sums],
    y: NDArray[Any],
    models: Sequence[Floats],
    groups: Groups,
    count: int | None = None,
) -> Measured:
    """A function of sums over rows, such as a root of a mean or a share of a table: ``function(y, predicted)`` is Sums.

    Groups are left out in turn, exactly. Rows are resampled as in ``by_bootstrap`` below LINEAR of them, and left out
    in turn above: a smooth function of so many rows is linear.
    """
    made = [function(y, predicted) for predicted in models]
    unit, units = (np.arange(len(y)), len(y)) if groups is None else (groups, int(groups.max()) + 1)
    totals = [each.of_units(np.zeros_like(unit), 1)[0] for each in made]
    values = with_difference([float(each.combine(total)) for each, total in zip(made, totals, strict=True)])
    rarest = units_of(y, groups)
    if rarest < FEWEST:
        return measured([Spread(value, np.inf, 0) for value in values], len(made))
    left = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for each, total in zip(made, totals, strict=True):
            if groups is None:
                left.append(each.without_each_row(total))
            else:
                left.append(each.combine(total - each.of_units(unit, units)))
    shares = np.full((1, units), 1 / units) if groups is None else shares_of(groups)
    informative: list[int | None] = [None] * len(made)
    if len(made) == 2:
        differ = models[0] != models[1]
        informative.append(telling(differ if differ.ndim == 1 else differ.any(axis=1), groups))
    spreads = [
        from_left_out(value, each, shares, rarest, some, ordered=groups is not None)
        for value, each, some in zip(values, with_difference(left), informative, strict=True)
    ]
    if groups is None and rarest < LINEAR:
        drawn = _draws([each.weighted for each in made], len(y), None, count)
        spreads = [_with(spread, each) for spread, each in zip(spreads, drawn, strict=True)]
    return measured(spreads, len(made))


def _with(spread: Spread, draws: Floats) -> Spread:
    """The spread with its error and bounds from draws."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < 100:  # most resamples have no value: the rows do not determine it
        return Spread(spread.value, np.inf, 0)
    return Spread(spread.value, float(finite.std(ddof=1)), spread.units - 1, finite, spread.parts, spread.units)


def by_bootstrap(
    function: Callable[..., Any],
    y: NDArray[Any],
    models: Sequence[Floats],
    groups: Groups,
    count: int | None = None,
) -> Measured:
    """All other metrics: ``function(y, predicted)`` prepares its values once, and returns a function of weights.

    That function takes weights (resamples x n), how often each row was drawn, and returns the values (resamples,).
    Weights are Poisson with mean one for each row, the same for both models: N. Chamandy et al., "Estimating
    Uncertainty for Massive Data Streams" (Google, 2012); J. Hanley and B. MacGibbon, "Creating non-parametric
    bootstrap samples using Poisson frequencies" (2006). There are ``count`` resamples, else RESAMPLES; fewer for many
    rows, but at least AT_LEAST. Groups are left out in turn, or resampled if there are more of them than resamples.
    CHUNK bounds the memory, whatever the rows.
    """
    valued = [function(y, predicted) for predicted in models]
    values = with_difference([float(value(np.ones((1, len(y)), dtype=np.uint8))[0]) for value in valued])
    rarest = units_of(y, groups)
    if rarest < FEWEST:
        spreads = [Spread(value, np.inf, 0) for value in values]
    elif rarest >= LINEAR and all(hasattr(value, "influence") for value in valued):
        moved = with_difference([value.influence() for value in valued])
        spreads = [_linear(v, each, groups, rarest) for v, each in zip(values, moved, strict=True)]
    elif groups is not None and groups.max() < resampling.number(len(y), count):
        chunks = [np.stack([value(w) for value in valued]) for w in resampling.left_out(len(y), groups)]
        left = with_difference(np.concatenate(chunks, axis=1))
        spreads = [from_left_out(v, each, shares_of(groups), rarest) for v, each in zip(values, left, strict=True)]
    else:
        draws = _draws(valued, len(y), groups, count)
        spreads = [_with(Spread(v, 0, 0, units=rarest), each) for v, each in zip(values, draws, strict=True)]
    return measured(spreads, len(models))


def _draws(
    valued: Sequence[Callable[[NDArray[Any]], Floats]], rows: int, groups: Groups, count: int | None
) -> list[Floats]:
    """The values of each model in each resample, and their difference if there are two."""
    chunks = [np.stack([value(w) for value in valued]) for w in resampling.resamples(rows, groups, count)]
    return with_difference(np.concatenate(chunks, axis=1))


def _linear(value: float, influence: Floats, groups: Groups, units: int) -> Spread:
    """The spread of a value that is linear in so many rows."""
    if groups is None:
        parts = value + len(influence) * influence
        return Spread(value, float(parts.std(ddof=1)) / np.sqrt(len(parts)), units - 1, None, parts, units)
    shares = shares_of(groups)
    left = value - np.bincount(groups, weights=influence) / np.maximum(1 - shares[0], 1 / len(influence))
    return from_left_out(value, left, shares, units)
