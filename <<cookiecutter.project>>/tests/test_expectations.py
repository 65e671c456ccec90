"""The data contract: sound data pass, and each expectation fails on a fault that was planted for it.

When you add an expectation to expectations/data.json, plant its fault here: a function that spoils a copy of the data.
"""

import pandas as pd
import pytest
from conftest import ROOT

from << cookiecutter.__package >>.validate import SUITE, read_suite, validate

EXPECTATIONS = read_suite(ROOT / SUITE)["expectations"]


def name(expectation: dict) -> str:
    return " ".join([expectation["kwargs"].get("column", "table"), expectation["type"].removeprefix("expect_")])


def put(column: str, value: object):
    """A fault: one cell holds another value."""

    def spoil(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].astype(object if isinstance(value, str) else frame[column].dtype)
        frame.loc[5, column] = value
        return frame.infer_objects()

    return spoil


def as_text(column: str):
    """A fault: a column of numbers arrives as text."""
    return lambda frame: frame.assign(**{column: frame[column].astype(str) + "x"})


def missing(column: str, share: float = 0.0001):
    """A fault: some values are gone."""
    return lambda frame: frame.assign(**{column: frame[column].where(frame.index >= len(frame) * share)})


RANGES = {"flight": 0, "distance": -5, "weekday": 8, "departure_minute": 1440, "temp": float("inf")}
RANGES |= {"humid": 101.0, "wind_speed": 1048.0, "precip": -0.1, "pressure": 10.0, "visib": float("-inf")}
FAULTS = {
    "table table_columns_to_match_ordered_list": lambda frame: frame[frame.columns[::-1]],
    "table table_row_count_to_be_between": lambda frame: frame.head(999),
    "table compound_columns_to_be_unique": lambda frame: pd.concat([frame, frame.head(1)], ignore_index=True),
    "carrier column_value_lengths_to_equal": put("carrier", "UAX"),
    "origin column_values_to_be_in_set": put("origin", "XXX"),
    "dest column_value_lengths_to_equal": put("dest", "XXXX"),
    "late column_distinct_values_to_equal_set": lambda frame: frame.assign(late=frame["late"] * 2),
    "late column_mean_to_be_between": lambda frame: frame.assign(late=(frame.index % 100 == 0).astype(int)),
    **{f"{column} column_values_to_be_between": put(column, value) for column, value in RANGES.items()},
    **{f"{column} column_values_to_be_in_type_list": as_text(column) for column in RANGES},
    **{f"{column} column_values_to_not_be_null": missing(column) for column in ("carrier", "origin", "dest")},
    **{f"{column} column_values_to_not_be_null": missing(column) for column in RANGES},
    "pressure column_values_to_not_be_null": missing("pressure", share=0.5),
}


@pytest.fixture(scope="module")
def some(frame) -> pd.DataFrame:
    """Rows enough for every expectation, drawn over the whole time."""
    return frame.iloc[::10].reset_index(drop=True)


def failing(frame: pd.DataFrame) -> set[str]:
    outcomes = validate(frame, {"name": "data", "expectations": EXPECTATIONS})
    return {name(e) for e, outcome in zip(EXPECTATIONS, outcomes, strict=True) if not outcome.passed}


def test_sound_data_pass(some):
    assert failing(some) == set()


@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=name)
def test_an_expectation_fails_on_its_fault(some, expectation):
    fault = FAULTS.get(name(expectation))
    assert fault, f"no fault is planted for {name(expectation)!r}; add one to FAULTS in this file"
    [outcome] = validate(fault(some.copy()), {"name": "data", "expectations": [expectation]})
    assert not outcome.passed
    assert outcome.detail and "cannot be checked" not in outcome.detail


def test_a_broken_value_is_told_with_its_column_and_row(some):
    spoilt = put("distance", -5)(some.copy())
    assert failing(spoilt) == {"distance column_values_to_be_between"}
    outcomes = validate(spoilt, {"name": "data", "expectations": EXPECTATIONS})
    told = [outcome.detail for outcome in outcomes if not outcome.passed]
    assert told == ["column 'distance': expected values between 1 and 6000, 1 of 2000 rows differ: -5 in row 6"]
