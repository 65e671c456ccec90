"""The guards: tests for harm that an average hides, in a segment or in the calibration.

A guard blocks only if the challenger is shown to be worse than the champion by more than the guard's margin. Each guard
can be wrong by chance, so all p-values are held against one level together (S. Holm, "A simple sequentially rejective
multiple test procedure", Scandinavian Journal of Statistics 6, 1979).

A segment also stops a promotion, without a block, if it measures worse than its margin allows and differs from the gain
over all rows: the challenger must not pay for its average there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core import params
from conveyor.core.frozen import Frozen
from conveyor.gate.intervals import Sums, by_sums
from conveyor.gate.metrics import METRICS, Labels, Metric, at
from conveyor.gate.resampling import Groups
from conveyor.gate.spread import FEWEST, Floats, Spread

BANDS = 4  # number of groups of about equally many rows into which a numeric column is cut
VALUES = 20  # a numeric column with more values than this is cut into bands
NAMED = 5  # values that are named in a sentence


class Guard(Frozen):
    """One thing that must not get worse, with its measurements.

    ``holds`` is the result of the whole family's test. A segment is ``doubted`` if it measures beyond its margin.
    """

    kind: Literal["segment", "calibration"]
    name: str
    rows: int
    champion: float
    challenger: float
    gain: float
    gain_low: float | None = None
    gain_high: float | None = None
    margin: float
    p: float
    holds: bool = True
    doubted: bool = False


class Checked(Frozen):
    """The guards, and for each column in words which of its values none looked at."""

    guards: tuple[Guard, ...] = ()
    unseen: tuple[str, ...] = ()


def calibration_error(y: Labels, predicted: Floats) -> Sums:
    """Mean squared distance between prediction and outcome, over ten groups of rows with similar predictions.

    The prediction is the probability of the positive class, or of the likeliest of several classes, or a number in
    units of the target's standard deviation. The part of a group's distance that is due to chance is subtracted, so
    that a perfectly calibrated model has the error zero on average: C. Ferro and T. Fricker, "A bias-corrected
    decomposition of the Brier score", Quarterly Journal of the Royal Meteorological Society 138 (2012).
    """
    if y.dtype.kind == "f":
        said, off = predicted, (y - predicted) / (y.std() or 1.0)
    else:
        said = predicted if predicted.ndim == 1 else predicted.max(axis=1)
        off = (y if predicted.ndim == 1 else predicted.argmax(axis=1) == y) - said
    edges = np.unique(np.quantile(said, np.linspace(0, 1, 11)[1:-1]))
    member = np.searchsorted(edges, said, side="right")

    def combine(sums: Floats) -> Floats:
        count, total, own = np.moveaxis(sums, -1, 0)
        error: Floats = ((total**2 - own) / np.maximum(count, 1)).sum(axis=-1) / count.sum(axis=-1)
        return error

    return Sums(np.stack([np.ones(len(y)), off, off**2], axis=1), combine, member[:, None], len(edges) + 1)


CALIBRATION = Metric(calibration_error, partial(by_sums, count=500), higher_is_better=False)


def gain(
    metric: Metric, y: Labels, champion: Floats, challenger: Floats, groups: Groups
) -> tuple[Spread, Spread, Spread]:
    """The metric of the challenger, that of the champion, and the challenger's gain, positive if it is better.

    Raises:
        ValueError: the metric cannot be computed on these rows.
    """
    measured = metric.way(metric.function, y, [challenger, champion], groups)
    between = measured.difference
    assert between is not None  # two models were given
    ours, theirs = measured.alone
    return ours, theirs, between if metric.higher_is_better else between.negative()


def check(
    y: Labels,
    champion: Floats,
    challenger: Floats,
    rule: params.Gate,
    groups: Groups = None,
    segments: pd.DataFrame | None = None,
    overall: Spread | None = None,
) -> Checked:
    """Every guard of the rule, tested by Holm's procedure at half of the level of the guards.

    The other half is for the test for overall harm: together they block a harmless change no more often than
    ``1 - guards.confidence``.

    Args:
        y, champion, challenger: labels and predictions of the same rows.
        rule: the gate.
        groups: which rows belong together, or None.
        segments: for each column of ``guards.segments`` the value of each row, as text (n x columns); see ``segment``.
        overall: the gain over all rows; units of a segment resemble each other at least as much as those of all rows.
    """
    guards, unseen = rule.guards, []
    made: list[Guard | None] = []
    if guards.calibration_margin is not None and len(y) >= guards.min_rows:
        grown = guards.calibration_margin

        def margin(theirs: float) -> float:
            # Squares are compared: the square's margin follows from the margin of the error itself.
            allowed: float = (np.sqrt(max(theirs, 0.0)) + grown) ** 2 - theirs
            return allowed

        told = y.dtype.kind == "f" or np.bincount(y).min(initial=len(y), where=np.bincount(y) > 0) >= FEWEST
        if told:
            made.append(
                _guard("calibration", "calibration error", margin, CALIBRATION, rule, y, champion, challenger, groups)
            )
            if made[0] is None:
                unseen.append("calibration: its error cannot be computed")
        else:
            unseen.append(f"calibration: a class has fewer than {FEWEST} rows")
    elif guards.calibration_margin is not None:
        unseen.append(f"calibration: fewer than {guards.min_rows} rows")
    of_columns = (
        [] if segments is None else [(name, segments.groupby(name, observed=True)) for name in segments.columns]
    )
    for column, values in of_columns:
        few: list[int] = []
        untold: list[str] = []
        for value, rows in sorted(values.indices.items()):
            if len(rows) < guards.min_rows:
                few.append(len(rows))
                continue
            own = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
            given = at(METRICS[rule.metric], rule.threshold), rule, y[rows], champion[rows], challenger[rows], own
            guard = _guard("segment", f"{column} {value}", lambda _: guards.segment_margin, *given, overall)
            made.append(guard)
            if guard is None or guard.gain_low is None:
                untold.append(str(value))
        unseen += _unseen(column, few, untold, guards.min_rows)
    tested = holm([guard for guard in made if guard is not None], (1 - guards.confidence) / 2)
    return Checked(guards=tested, unseen=tuple(unseen))


def _unseen(column: str, few: list[int], untold: list[str], least: int) -> list[str]:
    """What the guards of a column cannot tell, in words."""
    told = []
    if few:
        values = "one value has" if len(few) == 1 else f"{len(few):,} values have"
        told.append(f"{column}: {values} fewer than {least} rows, {sum(few):,} in all")
    if untold:
        named = ", ".join(untold[:NAMED]) + (f" and {len(untold) - NAMED} more" if len(untold) > NAMED else "")
        told.append(f"{column}: too few rows of a class, or too few groups, to tell for {named}")
    return told


def _guard(
    kind: Literal["segment", "calibration"],
    name: str,
    margin: Callable[[float], float],
    metric: Metric,
    rule: params.Gate,
    y: Labels,
    champion: Floats,
    challenger: Floats,
    groups: Groups,
    overall: Spread | None = None,
) -> Guard | None:
    try:
        ours, theirs, spread = gain(metric, y, champion, challenger, groups)
    except ValueError:
        return None  # without rows of both classes a segment has no result
    if not np.isfinite([ours.value, theirs.value, spread.value]).all():
        return None
    if overall:
        spread = spread.at_least(overall.inflated)
    low, high = spread.interval_within(rule.confidence, metric.ends(challenger).differences) or (None, None)
    worst = -margin(theirs.value)
    beyond = spread.known and spread.value < worst
    return Guard(
        kind=kind,
        name=name,
        rows=len(y),
        champion=theirs.value,
        challenger=ours.value,
        gain=spread.value + 0.0,
        gain_low=low,
        gain_high=high,
        margin=float(-worst),
        p=spread.shown_below(worst),
        doubted=overall is not None and beyond and spread.shown_below(overall.value) <= rule.guards.doubt,
    )


def holm(guards: list[Guard], level: float) -> tuple[Guard, ...]:
    """The guards in their order, each with its result at the level of the family."""
    broken: set[int] = set()
    for rank, place in enumerate(sorted(range(len(guards)), key=lambda place: guards[place].p)):
        if guards[place].p > level / (len(guards) - rank):
            break
        broken.add(place)
    return tuple(guard.model_copy(update={"holds": place not in broken}) for place, guard in enumerate(guards))


def segment(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """The columns as text (n x columns); columns of many numbers as bands of about equally many rows."""
    return pd.DataFrame({column: _values(frame[column]) for column in columns}, index=range(len(frame)))


def _values(column: pd.Series[Any]) -> NDArray[Any]:
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > VALUES:
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        edges = np.unique(np.nanquantile(numbers, np.arange(1, BANDS) / BANDS))
        names = [f"up to {edges[0]:g}", *(f"{a:g} to {b:g}" for a, b in zip(edges, edges[1:], strict=False))]
        names.append(f"above {edges[-1]:g}")
        # A value at an edge belongs to the band below it, as the name "up to" says.
        band = np.minimum(np.searchsorted(edges, numbers, side="left"), len(edges))
        return np.where(column.isna(), "missing", np.array(names, dtype=object)[band])
    return np.where(column.isna(), "missing", "= " + column.astype(object).map(str))
