"""The contract and the gate for data: drafted from the rows, and wide enough for the next ones.

A limit has room for three things: other rows of the same kind (by the error of the figure), rows of a later time (by
what changed from the earlier half of the time to the later one), and what no drafted rows could have shown. It has no
room for another unit: values ten times as large, or a tenth, are another quantity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.adopt.infer import Roles
from conveyor.data.hashing import utc
from conveyor.model.rows import LARGEST, kind_of_values

KNOWN = 50  # distinct texts are listed
AGAIN = 0.6  # of the rows that have a listed text: more than half of them
SPREAD, TAIL = 10.0, 100.0  # so many times their range a bound is beyond the values, and those with a long tail
COUNTS = 10  # the least distance of a bound of whole numbers: a larger count is no fault, however few there are
MOVES = 10.0  # how many times as far as the later half went beyond the earlier one
UNIT, SIZE = 10.0, 4.0  # another unit is so many times this one; values of one size are within this factor
ERRORS = 4.0  # so many standard errors are chance
ENOUGH = 20  # rows that a share is told by
YEARS = 5  # of other times than those of the rows
FIRST, LAST = pd.Timestamp("1678-01-01"), pd.Timestamp("2262-01-01")  # what Great Expectations compares

Floats = NDArray[np.float64]
Late = NDArray[np.bool_] | None  # which rows are of the later half of the time


def contract(frame: pd.DataFrame, roles: Roles) -> dict[str, Any]:
    """A suite of expectations that these rows keep, and the next ones, too."""
    made = [_one("expect_table_columns_to_match_ordered_list", column_list=list(frame.columns))]
    made.append(_one("expect_table_row_count_to_be_between", min_value=max(1, len(frame) // 4)))
    if len(roles.key) > 1:
        made.append(_one("expect_compound_columns_to_be_unique", column_list=list(roles.key)))
    elif roles.key:
        made.append(_one("expect_column_values_to_be_unique", column=roles.key[0]))
    late = None
    if roles.time:
        times = frame[roles.time]
        late = (times > times.quantile(0.5, interpolation="lower")).to_numpy()
        late = late if 0 < late.sum() < len(late) else None
    for name in frame.columns:
        made += _column(frame[name], name, roles, late)
    return {"name": "data", "expectations": made}


def _one(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": arguments}


def _column(values: pd.Series, name: str, roles: Roles, late: Late) -> list[dict[str, Any]]:
    made = _gaps(values, name, roles, late)
    there = values.notna().to_numpy()
    present, late = values[there], late[there] if late is not None else None
    late = late if late is not None and 0 < late.sum() < len(late) else None  # of both halves
    kind = kind_of_values(values)
    if not len(present) or name in roles.private:
        return made
    if kind == "time":
        return made + (_times(present, name) if name == roles.time else [])
    if name == roles.target and roles.task != "regression":
        known = sorted(present.unique().tolist())
        told = {} if roles.task == "binary" else {"mostly": _rare(present)}
        return [*made, _one("expect_column_values_to_be_in_set", column=name, value_set=known, **told)]
    if kind == "truth":
        return [*made, _one("expect_column_values_to_be_in_set", column=name, value_set=[True, False])]
    if kind == "number":
        if name in roles.numbers or name == roles.target:
            made += _numbers(present.to_numpy(dtype=np.float64), name, late)
        return made
    return made + _texts(present, name, roles, late)


def _gaps(values: pd.Series, name: str, roles: Roles, late: Late) -> list[dict[str, Any]]:
    """How many rows have a value: twice as many gaps, and one in twenty more, are not yet another kind of data."""
    if name in (roles.target, roles.time, roles.group, *roles.key):
        return [_one("expect_column_values_to_not_be_null", column=name)]
    gaps, rows = values.isna().to_numpy(), len(values)
    share = float(gaps.mean())
    moved = abs(float(gaps[late].mean() - gaps[~late].mean())) if late is not None else 0.0
    more = share + max(share, 2 * moved) + 0.05 + ERRORS * np.sqrt(2 * share * (1 - share) / rows) + 3 / rows
    # Of a column that is nearly empty a fourth of the values has to be there.
    there = 1 - (max(float(gaps[late].mean()), float(gaps[~late].mean())) if late is not None else share)
    mostly = max(there / 4, 1 - more)
    if mostly * rows < ENOUGH / 4:
        return []
    return [_one("expect_column_values_to_not_be_null", column=name, mostly=_down(mostly))]


def _rare(present: pd.Series) -> float:
    """The share of rows with known classes: each class with one row tells of another one that has none here."""
    alone = int((present.value_counts() == 1).sum())
    return _down(max(0.5, 1 - (10 + ERRORS * alone) / len(present)))


def _texts(present: pd.Series, name: str, roles: Roles, late: Late) -> list[dict[str, Any]]:
    """The texts that most rows have. A new one is no fault, many of them are."""
    counts = present.value_counts()
    few = len(counts) <= KNOWN and len(counts) < len(present) / 5
    if not few and name not in roles.categories:
        return []
    if late is None:
        late = np.arange(len(present)) % 2 == 1
    known = present[late].isin(present[~late].value_counts()[:KNOWN].index)
    stays = (float(known.sum()) + 1) / (len(known) + 2)  # a few rows never tell that there is no other text
    error = float(np.sqrt(2 * stays * (1 - stays) / len(present)))
    mostly = min(0.9 if few and stays > 0.9 else AGAIN * stays, stays - ERRORS * error)
    if mostly * len(present) < ENOUGH or mostly < 0.01:
        return []
    listed = sorted(map(str, counts[:KNOWN].index))
    return [_one("expect_column_values_to_be_in_set", column=name, value_set=listed, mostly=_down(mostly))]


def _times(present: pd.Series, name: str) -> list[dict[str, Any]]:
    """Times of the next rows: somewhat more later than these are long, or some years."""
    times = utc(present).dt.tz_localize(None)
    first, last = times.min(), times.max()
    reach = max((last - first) * 1.25, pd.Timedelta(days=366 * YEARS))
    if not first > FIRST + reach or not last < LAST - reach:
        return []
    limits = {"min_value": f"{first - reach:%Y-%m-%d}", "max_value": f"{last + reach:%Y-%m-%d}"}
    return [_one("expect_column_values_to_be_between", column=name, **limits)]


def _numbers(values: Floats, name: str, late: Late) -> list[dict[str, Any]]:
    low, high = float(values.min()), float(values.max())
    span = (high - low) or max(1.0, abs(high))
    middle, deviation = float(values.mean()), float(values.std()) or 1.0
    apart = np.abs(values - np.median(values))
    far = float(apart.max()) > 5 * float(np.quantile(apart, 0.9))
    reach, moved = span * (TAIL if far else SPREAD), 0.0
    if bool((values % 1 == 0).all()):
        reach = max(reach, COUNTS)
    if late is not None:
        before, after = values[~late], values[late]
        moved = abs(float(after.mean() - before.mean()))
        reach = max(reach, MOVES * float(max(after.max() - before.max(), before.min() - after.min())))
    # Amounts and counts do not go below zero: they are far above it, or many are near it. Temperatures may.
    near = int((values <= high / 20).sum())
    amounts = low >= 0 and (low > deviation or near >= max(ENOUGH, len(values) / 100))
    limits = {
        "min_value": 0 if amounts else _round(max(low - reach, -LARGEST), down=True),
        "max_value": _round(min(high + reach, LARGEST)),
    }
    made = [_one("expect_column_values_to_be_between", column=name, **limits)]
    if not far:
        # The mean of other rows is near: a change of unit moves it further.
        room = max(deviation * max(1.0, 6 / np.sqrt(len(values))), 3 * moved)
        limits = {"min_value": _round(middle - room, down=True), "max_value": _round(middle + room)}
        made.append(_one("expect_column_mean_to_be_between", column=name, **limits))
    return made + _size(values, name, late)


def _size(values: Floats, name: str, late: Late) -> list[dict[str, Any]]:
    """How many values are of the usual size, which few would be if they were ten times as large, or a tenth."""
    sign = 1.0 if (values > 0).sum() >= (values < 0).sum() else -1.0
    amounts = values * sign
    usual = float(np.median(amounts[amounts > 0])) if (amounts > 0).any() else 0.0

    def share(of: Floats) -> float:
        return float(((of >= usual / SIZE) & (of <= usual * SIZE)).mean())

    found, other = share(amounts), max(share(amounts * UNIT), share(amounts / UNIT))
    mostly = min((found + other) / 2, found - ERRORS * float(np.sqrt(2 * found * (1 - found) / len(values))))
    if late is not None:
        mostly = min(mostly, found - 2 * abs(share(amounts[late]) - share(amounts[~late])))
    if mostly <= other or mostly * len(values) < ENOUGH / 2:
        return []
    low, high = sorted((sign * usual / SIZE, sign * usual * SIZE))
    limits = {"min_value": _round(low, down=True), "max_value": _round(high), "mostly": _down(mostly)}
    return [_one("expect_column_values_to_be_between", column=name, **limits)]


def _down(share: float) -> float:
    """A share with four digits, not above."""
    return float(np.floor(share * 10_000) / 10_000)


def _round(value: float, down: bool = False) -> float:
    """Two digits, away from the values."""
    if value == 0:
        return 0
    unit = 10.0 ** (np.floor(np.log10(abs(value))) - 1)
    rounded = float((np.floor if down else np.ceil)(value / unit) * unit)
    short = float(f"{rounded:.6g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


def gate(frame: pd.DataFrame, roles: Roles) -> dict[str, Any]:
    """Values of params.yaml for the gate, in proportion to the metric of a constant prediction."""
    if roles.task == "binary":
        return {
            "gate.metric": "roc_auc",
            "gate.margin": 0.001,
            "gate.floors": {"roc_auc": 0.5},
            "gate.guards.segment_margin": 0.02,
            "gate.guards.calibration_margin": 0.02,
        }
    if roles.task == "multiclass":
        shares = frame[roles.target].value_counts(normalize=True).to_numpy()
        floor = float(-(shares * np.log(shares)).sum())
        metric = "log_loss"
    else:
        y = frame[roles.target].to_numpy(dtype=np.float64)
        metric, floor = "mae", float(np.abs(y - np.median(y)).mean())
    return {
        "gate.metric": metric,
        "gate.margin": _figure(floor / 200),
        "gate.floors": {metric: _figure(floor * 1.02)},
        "gate.guards.segment_margin": _figure(floor / 25),
        "gate.guards.calibration_margin": 0.02 if metric == "log_loss" else _figure(floor / 20),
    }


def _figure(value: float) -> float:
    return float(f"{value:.3g}")
