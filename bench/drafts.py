"""What a drafted contract lets through: other rows of the same kind, the next ones, and which of the planted faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from conveyor.adopt import draft, infer
from conveyor.data import contract

ROWS = 100  # with fewer values, or values other than zero, a column tells nothing about its gaps or its size
ALIKE = 2  # halves on which Great Expectations has to say the same as ``holds``

Frame = pd.DataFrame
Suite = list[dict[str, Any]]


def holds(frame: Frame, suite: Suite) -> bool:
    """Whether rows keep a drafted contract: what Great Expectations says, some hundred times as fast."""
    return all(_holds(frame, one["type"].removeprefix("expect_"), **one["kwargs"]) for one in suite)


def _holds(frame: Frame, kind: str, column: str = "", mostly: float = 1.0, **given: Any) -> bool:
    if kind == "table_columns_to_match_ordered_list":
        return list(frame.columns) == given["column_list"]
    if kind == "table_row_count_to_be_between":
        return len(frame) >= given["min_value"]
    if kind == "compound_columns_to_be_unique":
        return not frame.duplicated(given["column_list"]).any()
    if column not in frame.columns:
        return False
    values = frame[column]
    present = values.dropna()
    if kind == "column_values_to_not_be_null":
        return len(present) >= mostly * len(values)
    if kind == "column_values_to_be_unique":
        return not present.duplicated().any()
    if kind == "column_values_to_be_in_set":
        return not len(present) or bool(present.isin(given["value_set"]).mean() >= mostly)
    low, high = given["min_value"], given["max_value"]
    if isinstance(low, str):
        low, high = (pd.Timestamp(end, tz=values.dt.tz) for end in (low, high))
    elif not pd.api.types.is_numeric_dtype(values):
        return False
    if kind == "column_mean_to_be_between":
        return low <= present.mean() <= high
    if kind == "column_values_to_be_between":
        return not len(present) or bool(present.between(low, high).mean() >= mostly)
    raise ValueError(f"{kind} is not drafted")


def said_by_the_product(frame: Frame, suite: Suite) -> bool:
    outcomes = contract.validate(frame, {"name": "data", "expectations": suite})
    return all(outcome.passed for outcome in outcomes)


def half_gone(values: pd.Series) -> pd.Series:
    return values.where(np.arange(len(values)) % 2 == 0)


def flooded(values: pd.Series) -> pd.Series:
    return values.where(np.arange(len(values)) % 2 == 0, "never seen")


def beyond(values: pd.Series) -> pd.Series:
    """One value is a thousand times the largest."""
    changed = values.astype("float64")
    changed.iloc[len(values) // 2] = 1000 * max(1.0, float(values.abs().max()))
    return changed


def as_amounts(values: pd.Series) -> pd.Series:
    return values.map(lambda value: f"{value} EUR", na_action="ignore").astype("str")


def codes(values: pd.Series) -> pd.Series:
    return pd.Series(pd.factorize(values)[0].astype("float64"), index=values.index)


FAULTS: dict[str, tuple[str, Callable[[pd.Series], pd.Series]]] = {
    "type": ("numbers", as_amounts),
    "codes": ("categories", codes),
    "× 10": ("numbers", lambda values: values * 10.0),
    "÷ 10": ("numbers", lambda values: values / 10.0),
    "× 100": ("numbers", lambda values: values * 100.0),
    "÷ 100": ("numbers", lambda values: values / 100.0),
    "range": ("numbers", beyond),
    "empty": ("features", lambda values: values.mask(values.notna())),
    "half empty": ("full", half_gone),
    "flood": ("texts", flooded),
    "times": ("time", lambda values: values + pd.Timedelta(days=36_525)),
}


def places(frame: Frame, roles: infer.Roles) -> dict[str, list[str]]:
    """The columns that can have a fault."""
    numbers = [
        n for n in roles.numbers if pd.api.types.is_float_dtype(frame[n]) or pd.api.types.is_integer_dtype(frame[n])
    ]
    numbers = [name for name in numbers if (frame[name].fillna(0) != 0).sum() >= ROWS]
    texts = [name for name in roles.categories if frame[name].dtype == "str"]
    if roles.task == "regression":
        numbers.append(roles.target)
    features = [name for name in (*roles.numbers, *roles.categories) if frame[name].notna().sum() >= ROWS]
    return {
        "numbers": numbers,
        "categories": roles.categories,
        "texts": texts,
        "features": features,
        "full": [name for name in features if frame[name].notna().mean() > 0.8],
        "time": [roles.time] if roles.time else [],
    }


def of_whole_tables(frame: Frame, roles: infer.Roles) -> Iterator[tuple[str, Frame]]:
    for name in frame.columns:
        yield "gone", frame.drop(columns=name)
    yield "gone", frame[frame.columns[::-1]]
    yield "rows", frame.head(len(frame) // 10)
    yield "key", pd.concat([frame, frame.head(3)], ignore_index=True)
    wrong = frame[roles.target].where(np.arange(len(frame)) % 10 > 0)
    yield "target", frame.assign(**{roles.target: wrong})
    if roles.task != "regression":
        yield "target", frame.assign(**{roles.target: flooded(frame[roles.target].astype(object))})


@dataclass
class Proved:
    """What a drafted contract lets through.

    Attributes:
        held: on how many other halves it holds.
        later: whether that of the earlier half of the time holds on the later one; None without a time.
        caught: of each fault, in how many columns it is seen, and in how many it was planted.
        missed: those that are not seen.
    """

    splits: int
    held: int = 0
    later: bool | None = None
    caught: dict[str, tuple[int, int]] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    broken: dict[str, int] = field(default_factory=dict)

    def count(self, fault: str, seen: bool, where: str = "") -> None:
        before = self.caught.get(fault, (0, 0))
        self.caught[fault] = (before[0] + seen, before[1] + 1)
        if not seen:
            self.missed.append(f"{fault} {where}".strip())


def proved(frame: Frame, roles: infer.Roles, splits: int) -> Proved:
    """Draft on halves, on the earlier time, and on all rows, and try each on what it has not seen.

    Raises:
        AssertionError: ``holds`` and Great Expectations differ, or a contract does not hold on its own rows.
    """
    found = Proved(splits)
    for number in range(splits):
        first = np.random.default_rng(number).permutation(len(frame)) < len(frame) // 2
        suite = draft.contract(frame[first], roles)["expectations"]
        other = frame[~first].reset_index(drop=True)
        kept = holds(other, suite)
        found.held += kept
        for each in [] if kept else suite:
            if not holds(other, [each]):
                name = f"{each['type']} {each['kwargs'].get('column', '')}"
                found.broken[name] = found.broken.get(name, 0) + 1
        if number < ALIKE and said_by_the_product(other, suite) != kept:
            raise AssertionError(f"Great Expectations says otherwise of half {number}")
    if roles.time:
        early = frame[roles.time] <= frame[roles.time].quantile(0.5, interpolation="lower")
        suite = draft.contract(frame[early], roles)["expectations"]
        later = frame[~early].reset_index(drop=True)
        found.later = holds(later, suite)
        for each in suite:
            if not holds(later, [each]):
                name = f"later: {each['type']} {each['kwargs'].get('column', '')}"
                found.broken[name] = found.broken.get(name, 0) + 1
    suite = draft.contract(frame, roles)["expectations"]
    if not holds(frame, suite):
        raise AssertionError("the contract does not hold on its own rows")
    _plant(frame, roles, suite, found)
    return found


def _plant(frame: Frame, roles: infer.Roles, suite: Suite, found: Proved) -> None:
    """Each fault in every column that can have it; one of each kind is shown to Great Expectations, too."""
    of = {name: [each for each in suite if each["kwargs"].get("column") == name] for name in frame.columns}
    where = places(frame, roles)
    for fault, (kind, change) in FAULTS.items():
        for number, name in enumerate(where[kind]):
            spoilt = frame[[name]].assign(**{name: change(frame[name])})
            seen = not holds(spoilt, of[name])
            found.count(fault, seen, name)
            if number == 0 and of[name] and said_by_the_product(spoilt, of[name]) == seen:
                raise AssertionError(f"{fault} of {name}: Great Expectations says otherwise")
    shape = [
        each
        for each in suite
        if "column" not in each["kwargs"] or each["kwargs"]["column"] in (*roles.key, roles.target)
    ]
    for fault, spoilt in of_whole_tables(frame, roles):
        found.count(fault, not holds(spoilt, shape))
