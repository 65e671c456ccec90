"""The data contract: sound data pass, and each expectation fails on a fault that is planted for it.

A fault is made from the arguments of its expectation, so one that you add to expectations/data.json has its fault
already, unless its type is new here: then add the type to FAULTS.
"""

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from conveyor.data.contract import SUITE, read_suite, validate

EXPECTATIONS = read_suite(ROOT / SUITE)["expectations"]


def together(expectations: list[dict]) -> list[list[dict]]:
    """Those of one type about different columns: their faults fit into one table, which is checked once."""
    groups: dict[tuple, list[dict]] = {}
    before: Counter = Counter()
    for number, expectation in enumerate(expectations):
        arguments = expectation["kwargs"]
        about = (expectation["type"], arguments.get("column"))
        alone = "column" not in arguments or "row_condition" in arguments
        groups.setdefault((about[0], number if alone else -1 - before[about]), []).append(expectation)
        before[about] += 1
    return list(groups.values())


def name(expectations: list[dict]) -> str:
    columns = [expectation["kwargs"].get("column", "table") for expectation in expectations]
    more = [f"and {len(columns) - 3} more"] if len(columns) > 3 else []
    return " ".join([*columns[:3], *more, expectations[0]["type"].removeprefix("expect_")])


def put(frame: pd.DataFrame, column: str, value: object, mostly: float = 1.0, **arguments: object) -> pd.DataFrame:
    """One cell holds another value; so many more as may differ, and all if the expectation chooses its rows."""
    last = len(frame) if "row_condition" in arguments else 6 + int(1.1 * (1 - mostly) * len(frame))
    zoned = isinstance(frame[column].dtype, pd.DatetimeTZDtype)
    if zoned and isinstance(value, pd.Timestamp) and value.tz is None:
        value = value.tz_localize(frame[column].dt.tz)  # another kind of time could not be compared
    values = frame[column].tolist()
    values[5:last] = [value] * len(values[5:last])
    return frame.assign(**{column: values})


def whole(frame: pd.DataFrame, column: str, values: object) -> pd.DataFrame:
    return frame.assign(**{column: values})


def outside(min_value: float | str | None = None, max_value: float | str | None = None, **_: object) -> object:
    """A value beyond the larger bound, or before the smaller one if that is the only one; a text is a time."""
    bound, sign = (min_value, -1) if max_value is None else (max_value, 1)
    if isinstance(bound, str):
        return pd.Timestamp(bound) + sign * pd.Timedelta(days=1)
    return bound + sign * max(1, abs(bound))


def other(value_set: list) -> object:
    """A value that is not among these, of their kind."""
    numbers = all(isinstance(value, int | float) for value in value_set)
    return outside(max_value=max(value_set)) if numbers else "something else"


def rows(frame: pd.DataFrame, min_value: int | None = None, max_value: int | None = None, **_: object) -> pd.DataFrame:
    """Fewer rows than the smaller bound, or more than the larger one."""
    return frame.head(min_value - 1) if min_value else pd.DataFrame(index=range(max_value + 1))


def columns(frame: pd.DataFrame, min_value: int | None = None, max_value: int | None = None) -> pd.DataFrame:
    more = {f"another {number}": 0 for number in range(max_value or 0)}
    return frame.assign(**more) if max_value else frame.iloc[:, : min_value - 1]


def length(min_value: int | None = None, max_value: int | None = None, **_: object) -> str:
    return "x" * (min_value - 1 if max_value is None else max_value + 1)


def mismatch(regex: str, **_: object) -> str:
    return next(text for text in ("something else", "", "12345", "?") if not re.search(regex, text))


def spread(frame: pd.DataFrame, max_value: float | None = None, **_: object) -> object:
    """Values that differ more than they may, or not at all."""
    return 0 if max_value is None else np.resize([-outside(0, max_value), outside(0, max_value)], len(frame))


def distinct(frame: pd.DataFrame, max_value: float | None = None, **_: object) -> object:
    """Values that are all different, or all the same."""
    return 0 if max_value is None else np.arange(len(frame))


def retyped(values: pd.Series) -> object:
    return range(len(values)) if pd.api.types.is_string_dtype(values) else values.astype(str)


# What spoils sound data for each type of expectation: given a copy of the data, the column and the other arguments.
FAULTS = {
    "table_columns_to_match_ordered_list": lambda frame, **_: frame[frame.columns[::-1]],
    "table_columns_to_match_set": lambda frame, column_set, **_: frame.drop(columns=column_set[0]),
    "table_column_count_to_equal": lambda frame, value, **_: columns(frame, max_value=value),
    "table_column_count_to_be_between": columns,
    "table_row_count_to_equal": lambda frame, value, **_: rows(frame, value),
    "table_row_count_to_be_between": rows,
    "compound_columns_to_be_unique": lambda frame, **_: pd.concat([frame, frame], ignore_index=True),
    "select_column_values_to_be_unique_within_record": lambda frame, column_list, **_: whole(
        frame, column_list[0], frame[column_list[1]]
    ),
    "column_pair_values_to_be_equal": lambda frame, column_A, **arguments: put(
        frame, column_A, "something else", **arguments
    ),
    "column_pair_values_a_to_be_greater_than_b": lambda frame, column_A, column_B, **_: frame.assign(
        **{column_A: frame[column_B], column_B: frame[column_A]}
    ),
    "column_to_exist": lambda frame, column, **_: frame.drop(columns=column),
    "column_values_to_be_between": lambda frame, column, **a: put(frame, column, outside(**a), **a),
    "column_values_to_be_in_set": lambda frame, column, value_set, **a: put(frame, column, other(value_set), **a),
    "column_values_to_not_be_in_set": lambda frame, column, value_set, **a: put(frame, column, value_set[0], **a),
    "column_values_to_be_unique": lambda frame, column, **_: whole(frame, column, frame[column].iloc[0]),
    "column_values_to_be_increasing": lambda frame, column, **_: whole(frame, column, np.arange(len(frame))[::-1]),
    "column_values_to_be_decreasing": lambda frame, column, **_: whole(frame, column, np.arange(len(frame))),
    "column_values_to_match_regex": lambda frame, column, **a: put(frame, column, mismatch(**a), **a),
    "column_values_to_match_strftime_format": lambda frame, column, **a: put(frame, column, "something else", **a),
    "column_values_to_not_be_null": lambda frame, column, **a: put(frame, column, None, **a),
    "column_values_to_be_null": lambda frame, column, **a: put(frame, column, "something", **a),
    "column_value_lengths_to_equal": lambda frame, column, value, **a: put(frame, column, "x" * (value + 1), **a),
    "column_value_lengths_to_be_between": lambda frame, column, **a: put(frame, column, length(**a), **a),
    "column_distinct_values_to_be_in_set": lambda frame, column, value_set, **_: put(frame, column, other(value_set)),
    "column_most_common_value_to_be_in_set": lambda frame, column, value_set, **_: whole(
        frame, column, other(value_set)
    ),
    "column_proportion_of_non_null_values_to_be_between": lambda frame, column, **_: whole(frame, column, None),
    "column_stdev_to_be_between": lambda frame, column, **a: whole(frame, column, spread(frame, **a)),
    **{
        f"column_values_to_be_{ending}": lambda frame, column, **_: whole(frame, column, retyped(frame[column]))
        for ending in ("of_type", "in_type_list")
    },
    **{
        f"column_distinct_values_to_{ending}_set": lambda frame, column, value_set, **_: whole(
            frame, column, other(value_set)
        )
        for ending in ("equal", "contain")
    },
    **{
        f"column_{figure}_to_be_between": lambda frame, column, **a: whole(frame, column, outside(**a))
        for figure in ("min", "max", "mean", "median", "sum")
    },
    **{
        f"column_{figure}_to_be_between": lambda frame, column, **a: whole(frame, column, distinct(frame, **a))
        for figure in ("unique_value_count", "proportion_of_unique_values")
    },
}


def check(frame: pd.DataFrame, expectations: list = EXPECTATIONS) -> list:
    return validate(frame, {"name": "data", "expectations": expectations})


@pytest.fixture(scope="module")
def some(frame) -> pd.DataFrame:
    """Rows drawn over the whole time, where so few are enough for every expectation: else all."""
    few = frame.iloc[:: max(1, len(frame) // 2000)].reset_index(drop=True)
    sound = all(outcome.passed for outcome in check(few) if "row_count" not in outcome.type)
    return few if sound else frame


def test_sound_data_pass(frame):
    assert [outcome.detail for outcome in check(frame) if not outcome.passed] == []


@pytest.mark.parametrize("expectations", together(EXPECTATIONS), ids=name)
def test_an_expectation_fails_on_its_fault(some, expectations):
    spoilt = some.copy()
    for expectation in expectations:
        fault = FAULTS.get(expectation["type"].removeprefix("expect_"))
        assert fault, f"no fault is known for {expectation['type']}; add one to FAULTS in this file"
        spoilt = fault(spoilt, **expectation["kwargs"])
    for expectation, outcome in zip(expectations, check(spoilt, expectations), strict=True):
        assert not outcome.passed, expectation
        assert "cannot be checked" not in outcome.detail
        assert str(expectation["kwargs"].get("column", "")) in outcome.detail


def test_a_broken_value_is_told_with_its_column_and_row():
    limits = {"column": "size", "min_value": 0, "max_value": 9}
    ranged = {"type": "expect_column_values_to_be_between", "kwargs": limits}
    few = pd.DataFrame({"size": range(10)})
    [told] = validate(put(few, "size", 10), {"name": "data", "expectations": [ranged]})
    assert told.detail == "column 'size': expected values between 0 and 9, 1 of 10 rows differ: 10 in row 6"
