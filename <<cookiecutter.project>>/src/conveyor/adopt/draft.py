"""The contract and the gate for data: drafted from the rows, and wide enough for the next ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from conveyor.adopt.infer import Roles
from conveyor.model.rows import LARGEST, kind_of

KNOWN = 50  # distinct texts are listed
SPREAD = 2.0  # how many times the range of the values a bound is beyond them
TAIL = 10.0  # the same for values with a long tail, as a factor


def contract(frame: pd.DataFrame, roles: Roles) -> dict[str, Any]:
    """A suite of expectations that these rows keep, and the next ones, too."""
    made = [_one("expect_table_columns_to_match_ordered_list", column_list=list(frame.columns))]
    made.append(_one("expect_table_row_count_to_be_between", min_value=max(1, len(frame) // 4), max_value=None))
    made[-1]["kwargs"].pop("max_value")
    if len(roles.key) > 1:
        made.append(_one("expect_compound_columns_to_be_unique", column_list=list(roles.key)))
    elif roles.key:
        made.append(_one("expect_column_values_to_be_unique", column=roles.key[0]))
    for name in frame.columns:
        made += _column(frame[name], name, roles)
    return {"name": "data", "expectations": made}


def _one(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": arguments}


def _column(values: pd.Series, name: str, roles: Roles) -> list[dict[str, Any]]:
    present, made = values.dropna(), []
    gaps = 1 - len(present) / len(values)
    needs = name in (roles.target, roles.time, roles.group, *roles.key)
    if needs:
        made.append(_one("expect_column_values_to_not_be_null", column=name))
    elif gaps < 0.8:
        # Twice as many gaps, and one in twenty more, are not yet another kind of data.
        mostly = round(max(0.05, 1 - 2 * gaps - 0.05), 2)
        made.append(_one("expect_column_values_to_not_be_null", column=name, mostly=mostly))
    kind = kind_of(str(values.dtype))
    truths = kind == "text" and len(present) and present.map(type).eq(bool).all()
    if not len(present) or kind == "time" or name in roles.private:
        return made
    if name == roles.target and roles.task != "regression":
        known = sorted(present.unique().tolist())
        return [*made, _one("expect_column_values_to_be_in_set", column=name, value_set=known)]
    if kind == "truth" or truths:
        return [*made, _one("expect_column_values_to_be_in_set", column=name, value_set=[True, False])]
    if kind == "number":
        if name not in roles.key and name not in roles.ignore:
            made += _numbers(present.to_numpy(dtype=np.float64), name)
        return made
    distinct = present.nunique()
    if distinct <= KNOWN and distinct < len(present) / 5:
        # A new value is no fault, many of them are.
        known = sorted(map(str, present.unique()))
        made.append(_one("expect_column_values_to_be_in_set", column=name, value_set=known, mostly=0.9))
    return made


def _numbers(values: np.ndarray[Any, np.dtype[np.float64]], name: str) -> list[dict[str, Any]]:
    low, high = float(values.min()), float(values.max())
    span = (high - low) or max(1.0, abs(high))
    middle, deviation = float(values.mean()), float(values.std()) or 1.0
    far = float(np.abs(values - np.median(values)).max()) > 5 * float(
        np.quantile(np.abs(values - np.median(values)), 0.9)
    )
    reach = span * (TAIL if far else SPREAD)
    least = 0.0 if low >= 0 else low - reach
    made = [
        _one(
            "expect_column_values_to_be_between",
            column=name,
            min_value=_round(max(least, -LARGEST), down=True),
            max_value=_round(min(high + reach, LARGEST)),
        )
    ]
    if not far:
        # The mean of other rows is near: a change of unit moves it further.
        room = deviation * max(1.0, 6 / np.sqrt(len(values)))
        limits = {"min_value": _round(middle - room, down=True), "max_value": _round(middle + room)}
        made.append(_one("expect_column_mean_to_be_between", column=name, **limits))
    return made


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
