"""What moved between the rows that a model learnt from and its live rows. It explains; it never raises an alarm.

Pure functions of frames: no files, no git. The unit is the day, see samples.py. Several differences of a column are
looked at: for numbers the share of pairs in which the live value is the larger one (H. Mann and D. Whitney, "On a test
of whether one of two random variables is stochastically larger than the other", Annals of Mathematical Statistics 18,
1947), for categories the share of each; for both, missing values and values that training did not have. A column has
moved if one of them is

- shown: the p-values of a column count as many times as there are (Bonferroni), those of all columns are tested
  together by Holm's procedure at 5 %;
- and not small: at least ``SIZE`` of the pairs, or of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.gate.spread import Floats, Spread
from conveyor.watch.samples import Days, between, bounds, difference, left_out_means, two_sided

SIZE = 0.05  # of the pairs, or of the rows: a smaller difference is no change in practice
LEVEL = 0.05  # of all columns together
CATEGORIES = 50  # the most frequent ones of each sample that are looked at alone
EXAMPLES, LENGTH = 3, 30  # categories that training did not have, and characters of one
What = Literal["pairs", "deviations", "category", "missing", "unseen", "outside", "unreadable"]
Kind = Literal["number", "text", "truth", "time"]


@dataclass(frozen=True)
class Change:
    """One difference between live rows and those of training.

    Attributes:
        what: "pairs": share of the pairs of a live and a training value in which the live one is larger, ties as one
            half, minus .5; "deviations": difference of the means in standard deviations of training; else a difference
            of shares of the rows: of a category, of missing values, of categories or numbers that training did not have
            (``outside``: of its range), and of values that are no number (``unreadable``).
        before, now: the value of each; None for pairs and deviations.
        value: the difference.
        low, high: its interval of 95 %; of a category one that holds for all of them together. None: the days are fewer
            than ten, or too much alike.
        category: which one, else None.
        p: that so large a difference comes by chance, times the number of differences that a column has.
    """

    what: What
    value: float
    low: float | None
    high: float | None
    p: float
    before: float | None = None
    now: float | None = None
    category: str | None = None

    @property
    def large(self) -> bool:
        return abs(self.value) >= SIZE and self.what != "deviations"


@dataclass(frozen=True)
class Column:
    """What became of a column.

    Attributes:
        name: of the column, or of the score.
        kind: of its values in training.
        moved: whether it has moved.
        changes: the differences; of categories the largest one. Empty if the column is gone.
        gone: no live row has it.
        constant: where it has one value only: in training, live, or in both.
        distance: of categories the total variation distance, 0 to 1. Chance alone makes it larger than 0, so it has no
            interval and decides nothing.
        unseen: up to three categories that training did not have.
    """

    name: str
    kind: Kind
    moved: bool = False
    changes: tuple[Change, ...] = ()
    gone: bool = False
    constant: tuple[Literal["training", "live"], ...] = ()
    distance: float | None = None
    unseen: tuple[str, ...] = ()

    @property
    def size(self) -> float:
        """The largest difference of pairs or rows; of a column that is gone 1."""
        return 1.0 if self.gone else max((abs(c.value) for c in self.changes if c.what != "deviations"), default=0.0)

    @property
    def p(self) -> float:
        """The least one of its differences that are large enough."""
        return min((change.p for change in self.changes if change.large), default=1.0)

    def change(self, what: What) -> Change | None:
        return next((change for change in self.changes if change.what == what), None)


@dataclass(frozen=True)
class Traffic:
    """Predictions of each day, of all models, and requests for some that had no answer.

    Attributes:
        days: complete days, at most so many as were asked for, up to the last complete one of the log.
        median: predictions of a day.
        last: those of the last complete day.
        empty: days without any.
        idle: whole days since the last prediction.
        refused: requests without an answer in these days, by status.
        refused_median, refused_last: such requests of a day, and of the last complete day.
    """

    days: int
    median: float
    last: int
    empty: int
    idle: int
    refused: tuple[tuple[int, int], ...] = ()
    refused_median: float = 0.0
    refused_last: int = 0


def columns(
    before: pd.DataFrame,
    before_day: NDArray[np.int64],
    now: pd.DataFrame,
    now_day: NDArray[np.int64],
    kinds: Mapping[str, Kind],
) -> list[Column]:
    """What became of each column; ``tested`` says which have moved.

    Args:
        before: the rows of training (m x columns).
        before_day: the number of the day of each.
        now: live rows (n x columns), numbers as floats (infinite: it is no number), all other values as text. A column
            that no live row has is left out.
        now_day: the same of them.
        kinds: the columns to look at, and the kind of each in training.
    """
    days, live = Days.of(before_day), Days.of(now_day)
    return [_column(name, kind, before[name], days, now.get(name), live) for name, kind in kinds.items()]


def score(name: str, before: Floats, before_day: NDArray[np.int64], now: Floats, now_day: NDArray[np.int64]) -> Column:
    """What became of the predictions (m,) of rows that the model did not learn from, and the live ones (n,)."""
    return _number(name, "number", before, Days.of(before_day), now, Days.of(now_day), ranged=False)


def tested(found: list[Column]) -> list[Column]:
    """The same columns, and which of them have moved: all that are looked at belong together."""
    made, broken = list(found), True
    for rank, place in enumerate(sorted(range(len(found)), key=lambda place: found[place].p)):
        broken = broken and found[place].p <= LEVEL / (len(found) - rank)
        made[place] = replace(found[place], moved=broken or found[place].gone)
    return made


def _column(name: str, kind: Kind, before: pd.Series, days: Days, now: pd.Series | None, live: Days) -> Column:
    if now is None or not len(now):
        return Column(name, kind, gone=True)
    if kind == "number":
        return _number(name, kind, _floats(before), days, _floats(now), live)
    if kind == "time":
        return _number(name, kind, _times(before), days, _times(now), live)
    return _categories(name, kind, _texts(before, kind), days, _texts(now, kind), live)


def _floats(values: pd.Series) -> Floats:
    made: Floats = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return made


def _times(values: pd.Series) -> Floats:
    """Days since 1970; infinite where a text is no time."""
    times = pd.to_datetime(values.astype(object), errors="coerce", format="ISO8601", utc=True)
    found = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
    made: Floats = np.where(times.isna() & values.notna(), np.inf, found.to_numpy(dtype=np.float64))
    return made


def _texts(values: pd.Series, kind: Kind) -> pd.Series:
    texts = values.astype(object).map(str, na_action="ignore")
    return texts.str.lower() if kind == "truth" and texts.notna().any() else texts


# Numbers


def _number(name: str, kind: Kind, before: Floats, days: Days, now: Floats, live: Days, ranged: bool = True) -> Column:
    known, given = np.isfinite(before), np.isfinite(now)
    changes = [
        _shares("missing", np.isnan(before), days, np.isnan(now), live),
        _shares("unreadable", np.isinf(before), days, np.isinf(now), live),
    ]
    old, new = before[known], now[given]
    if len(old) and len(new):
        of_old, of_new = Days.of(days.place[known]), Days.of(live.place[given])
        changes.append(_pairs(old, of_old, new, of_new))
        if ranged:
            outside = given & ((now < old.min()) | (now > old.max()))
            changes.append(_shares("outside", np.zeros(len(before)), days, outside, live))
        changes += _deviations(old, of_old, new, of_new)
    told = [change for change in changes if change.value or change.what in ("missing", "pairs", "deviations")]
    return Column(name, kind, changes=_counted(told), constant=_constant(_one(old), _one(new)))


def _one(values: Floats) -> bool:
    return bool(len(values)) and bool((values == values[0]).all())


def _constant(before: bool, now: bool) -> tuple[Literal["training", "live"], ...]:
    where: tuple[tuple[Literal["training", "live"], bool], ...] = (("training", before), ("live", now))
    return tuple(name for name, is_so in where if is_so)


def _made(what: What, spread: Spread, before: float | None = None, now: float | None = None) -> Change:
    return Change(what, spread.value, *bounds(spread), two_sided(spread), before, now)


def _counted(changes: list[Change]) -> tuple[Change, ...]:
    """With p-values that count each difference that could have been the one; deviations decide nothing."""
    count = sum(change.what != "deviations" for change in changes)
    return tuple(replace(change, p=min(1.0, change.p * count)) for change in changes)


def _shares(what: What, before: NDArray[np.generic], days: Days, now: NDArray[np.generic], live: Days) -> Change:
    old, new = before.astype(np.float64), now.astype(np.float64)
    spread = difference(days.sums(old), days, live.sums(new), live)
    return _made(what, spread, float(old.mean()), float(new.mean()))


def _pairs(old: Floats, days: Days, new: Floats, live: Days) -> Change:
    """Each sample's rows by their place among the other's."""
    of_new, of_old = _below(new, old), 1 - _below(old, new)
    value = float(of_new.mean()) - 0.5
    without_old = left_out_means(days.sums(of_old), days.count) - 0.5
    without_new = left_out_means(live.sums(of_new), live.count) - 0.5
    return _made("pairs", between(value, without_old, days, without_new, live))


def _below(values: Floats, others: Floats) -> Floats:
    """The share of ``others`` below each value (n,), ties as one half."""
    ranked = np.sort(others)
    made: Floats = (np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")) / (
        2 * len(ranked)
    )
    return made


def _deviations(old: Floats, days: Days, new: Floats, live: Days) -> list[Change]:
    """Nothing where training has one value."""
    middle, scale = old.mean(), np.abs(old - old.mean()).max()
    if not scale:
        return []
    old, new = (old - middle) / scale, (new - middle) / scale

    def of(mean: float | Floats, first: float | Floats, second: float | Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((mean - first) / np.sqrt(np.maximum(second - np.square(first), 0)))

    first, second = (left_out_means(days.sums(old**power), days.count) for power in (1, 2))
    mean, moments = float(new.mean()), (float(old.mean()), float(np.mean(old**2)))
    without_new = of(left_out_means(live.sums(new), live.count), *moments)
    return [_made("deviations", between(float(of(mean, *moments)), of(mean, first, second), days, without_new, live))]


# Categories


def _categories(name: str, kind: Kind, before: pd.Series, days: Days, now: pd.Series, live: Days) -> Column:
    codes, values = pd.factorize(pd.concat([before, now], ignore_index=True))
    old, new = codes[: len(before)], codes[len(before) :]
    counts, others = (np.bincount(code[code >= 0], minlength=len(values)) for code in (old, new))
    fresh = (counts == 0) & (others > 0) & counts.any()
    changes = [_shares("missing", old < 0, days, new < 0, live)]
    if fresh.any():
        changes.append(_shares("unseen", np.zeros(len(old)), days, (new >= 0) & fresh[new], live))
    if counts.any() and others.any():
        changes.append(_largest(values, counts, old, days, others, new, live))
    frequent = np.flatnonzero(fresh)[np.argsort(-others[fresh], kind="stable")][:EXAMPLES]
    distance = np.abs(others / max(others.sum(), 1) - counts / max(counts.sum(), 1)).sum() / 2
    return Column(
        name,
        kind,
        changes=_counted(changes),
        constant=_constant(np.count_nonzero(counts) == 1, np.count_nonzero(others) == 1),
        distance=float(distance) if counts.any() and others.any() else None,
        unseen=tuple(_short(values[place]) for place in frequent),
    )


def _largest(
    values: pd.Index,
    counts: NDArray[np.int64],
    old: NDArray[np.int64],
    days: Days,
    others: NDArray[np.int64],
    new: NDArray[np.int64],
    live: Days,
) -> Change:
    """The largest difference of the shares of one category; its p-value is the least of all large ones."""
    tops = np.unique(np.concatenate([np.argsort(-count, kind="stable")[:CATEGORIES] for count in (counts, others)]))
    order = np.full(len(values) + 1, -1)  # the last place: missing ones have the code -1
    order[tops] = np.arange(len(tops))
    tables = days.table(order[old], len(tops)), live.table(order[new], len(tops))
    spreads = [difference(was, days, has, live) for was, has in zip(*(table.T for table in tables), strict=True)]
    place = int(np.argmax([abs(spread.value) for spread in spreads]))
    p = min((two_sided(spread) for spread in spreads if abs(spread.value) >= SIZE), default=1.0)
    low, high = bounds(spreads[place], len(tops))
    was, has = (
        float(table[:, place].sum() / max(each.rows, 1)) for table, each in zip(tables, (days, live), strict=True)
    )
    of_all = min(1.0, p * len(tops))
    return Change("category", spreads[place].value, low, high, of_all, was, has, _short(values[tops[place]]))


def _short(text: object) -> str:
    """A category on one line, as text that is no longer than ``LENGTH``."""
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    return plain if len(plain) <= LENGTH else plain[: LENGTH - 1] + "…"


# Traffic


def traffic(times: pd.Series, refusals: pd.DataFrame, now: pd.Timestamp, days: int) -> Traffic | None:
    """Predictions of the last ``days`` complete days of a log; None: it has no complete day.

    Args:
        times: of each prediction of the log (n,), in UTC.
        refusals: ``time``, ``status`` and ``count`` of requests without an answer (m,).
        now: the present time; its day is not complete.
    """
    if not len(times):
        return None
    numbers = times.dt.floor("D")
    last, first = numbers.max(), numbers.min()
    if last >= now.floor("D"):
        last = now.floor("D") - pd.Timedelta(days=1)
    since = max(first, last - pd.Timedelta(days=days - 1))
    count = (last - since).days + 1
    if count < 1:
        return None

    def by_day(of: pd.Series, weights: pd.Series | None = None) -> NDArray[np.int64]:
        place = (of.dt.floor("D") - since).dt.days.to_numpy()
        within = (place >= 0) & (place < count)
        weighed = None if weights is None else weights.to_numpy()[within]
        return np.bincount(place[within], weighed, count).astype(np.int64)

    made, refused = by_day(times), by_day(refusals["time"], refusals["count"])
    within = refusals[refusals["time"].between(since, last + pd.Timedelta(days=1), inclusive="left")]
    by_status = within.groupby("status")["count"].sum()
    return Traffic(
        days=count,
        median=float(np.median(made)),
        last=int(made[-1]),
        empty=int((made == 0).sum()),
        idle=max(0, (now - times.max()).days),
        refused=tuple((int(status), int(number)) for status, number in by_status.items()),
        refused_median=float(np.median(refused)),
        refused_last=int(refused[-1]),
    )
