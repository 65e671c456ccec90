"""The data contract: sound data pass, and each expectation fails on a fault that is planted for it.

A fault is made from the arguments of its expectation, so one that you add to expectations/data.json has its fault
already, unless its type is new here: then add the type to FAULTS.
"""

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from << cookiecutter.__package >>.validate import SUITE, read_suite, validate

EXPECTATIONS = read_suite(ROOT / SUITE)["expectations"]


def name(expectation: dict) -> str:
    return " ".join([expectation["kwargs"].get("column", "table"), expectation["type"].removeprefix("expect_")])


def put(frame: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    """One cell holds another value."""
    values = frame[column].tolist()
    values[5] = value
    return frame.assign(**{column: values})


def emptied(frame: pd.DataFrame, column: str, mostly: float = 1.0) -> pd.DataFrame:
    """More values are gone than may be."""
    gone = np.arange(len(frame)) < max(1, 1.1 * (1 - mostly) * len(frame))
    return frame.assign(**{column: frame[column].where(~gone)})


def shifted(frame: pd.DataFrame, column: str, max_value: float, **_: object) -> pd.DataFrame:
    return frame.assign(**{column: frame[column] - frame[column].mean() + max_value + 1})


# What spoils sound data for each type of expectation: given a copy of the data and the arguments.
FAULTS = {
    "table_columns_to_match_ordered_list": lambda frame, column_list: frame[frame.columns[::-1]],
    "table_row_count_to_be_between": lambda frame, min_value, max_value: frame.head(min_value - 1),
    "compound_columns_to_be_unique": lambda frame, column_list: pd.concat([frame, frame.head(1)], ignore_index=True),
    "column_values_to_be_between": lambda frame, column, min_value, max_value: put(frame, column, max_value + 1),
    "column_values_to_be_in_set": lambda frame, column, value_set: put(frame, column, "something else"),
    "column_values_to_be_in_type_list": lambda frame, column, type_list: frame.astype({column: str}),
    "column_values_to_not_be_null": emptied,
    "column_value_lengths_to_equal": lambda frame, column, value: put(frame, column, "x" * (value + 1)),
    "column_distinct_values_to_equal_set": lambda frame, column, value_set: frame.assign(**{column: value_set[0]}),
    "column_mean_to_be_between": shifted,
}


@pytest.fixture(scope="module")
def some(frame) -> pd.DataFrame:
    """Rows enough for every expectation, drawn over the whole time."""
    return frame.iloc[:: max(1, len(frame) // 2000)].reset_index(drop=True)


def test_sound_data_pass(some):
    outcomes = validate(some, {"name": "data", "expectations": EXPECTATIONS})
    assert [outcome.detail for outcome in outcomes if not outcome.passed] == []


@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=name)
def test_an_expectation_fails_on_its_fault(some, expectation):
    fault = FAULTS.get(expectation["type"].removeprefix("expect_"))
    assert fault, f"no fault is known for {expectation['type']}; add one to FAULTS in this file"
    spoilt = fault(some.copy(), **expectation["kwargs"])
    outcomes = validate(spoilt, {"name": "data", "expectations": EXPECTATIONS})
    [outcome] = [outcome for e, outcome in zip(EXPECTATIONS, outcomes, strict=True) if e == expectation]
    assert not outcome.passed
    if outcome.column:  # the fault is this column's own
        assert {o.column for o in outcomes if not o.passed} <= {outcome.column, None}
    assert "cannot be checked" not in outcome.detail
    assert str(expectation["kwargs"].get("column", "")) in outcome.detail


def test_a_broken_value_is_told_with_its_column_and_row(some):
    ranged = next(e for e in EXPECTATIONS if e["type"] == "expect_column_values_to_be_between")
    column, most = ranged["kwargs"]["column"], ranged["kwargs"]["max_value"]
    [told] = validate(put(some, column, most + 1), {"name": "data", "expectations": [ranged]})
    assert told.detail.startswith(f"column '{column}': expected values between ")
    assert f", 1 of {len(some)} rows differ: {most + 1}" in told.detail and told.detail.endswith(" in row 6")
