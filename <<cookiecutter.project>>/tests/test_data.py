"""Splitting: a row never changes side unnoticed. On rows made here, so that it holds whatever the data are."""

import numpy as np
import pandas as pd
import pytest

from conveyor.core.params import Data, Split
from conveyor.data.columns import features
from conveyor.data.hashing import row_hash
from conveyor.data.split import shared_rows, split

RULE = Split(holdout=0.2)


@pytest.fixture
def rows() -> pd.DataFrame:
    hours = pd.date_range("2013-01-01", periods=500, freq="h", tz="UTC").repeat(2)
    number = np.arange(1000)
    return pd.DataFrame({"when": hours, "number": number, "size": number * 0.5, "note": "n", "late": number % 2})


@pytest.fixture
def by_time() -> Data:
    names = {"path": "rows.csv", "sha256": "0" * 64, "target": "late", "key": ["number"]}
    return Data(**names, time="when", ignore=["number"])


@pytest.fixture
def by_key(by_time) -> Data:
    return by_time.model_copy(update={"time": None})


def test_the_newest_rows_are_held_out_and_no_instant_is_divided(rows, by_time):
    shuffled = rows.sample(frac=1, random_state=1)
    trained = split(shuffled, by_time, RULE, "day").trained_on(shuffled)
    assert shuffled["when"][trained].max() < shuffled["when"][~trained].min()
    assert abs((~trained).mean() - RULE.holdout) < 0.03


@pytest.mark.parametrize(
    ("block", "first"),
    [
        ("day", "2013-01-18 00:00"),  # a fifth of the rows begins at 16:00 of the day before
        (48, "2013-01-17 00:00"),
        ("week", "2013-01-17 16:00"),  # the Mondays of 14 and 21 are too far away
        ("row", "2013-01-17 16:00"),
    ],
)
def test_the_holdout_begins_with_a_block_of_the_gate(rows, by_time, block, first):
    trained = split(rows, by_time, RULE, block).trained_on(rows)
    assert rows["when"][~trained].min() == pd.Timestamp(first, tz="UTC")


def test_times_beyond_the_nanoseconds_of_pandas_are_split_like_any(rows, by_time):
    late = rows.assign(when=rows["when"].dt.as_unit("s") + pd.Timedelta(days=365_000).as_unit("s"))
    trained = split(late, by_time, RULE, "day").trained_on(late)
    assert late["when"][trained].max() < late["when"][~trained].min()


def test_without_a_time_a_row_keeps_its_side_as_data_grow(rows, by_key):
    few = rows.iloc[::2].reset_index(drop=True)
    before = split(few, by_key, RULE, "day").trained_on(few)
    after = split(rows, by_key, RULE, "day").trained_on(rows)
    assert np.array_equal(before, after[::2])
    assert abs((~after).mean() - RULE.holdout) < 0.05


def test_rows_that_belong_together_stay_on_one_side(rows, by_key):
    together = by_key.model_copy(update={"group": "family"})
    families = rows.assign(family=rows["number"] % 50)
    trained = split(families, together, RULE, "day").trained_on(families)
    assert families.assign(trained=trained).groupby("family")["trained"].nunique().max() == 1


def test_a_row_keeps_its_side_when_a_key_column_turns_from_integers_to_floats(rows, by_key):
    rule = split(rows, by_key, RULE, "day")
    assert np.array_equal(rule.trained_on(rows), rule.trained_on(rows.astype({"number": float})))


def test_whole_numbers_that_are_the_same_float_are_told_apart():
    large = pd.DataFrame({"number": [2**60, 2**60 + 1, -(2**60), -(2**60) - 1]})
    assert len(set(row_hash(large))) == 4
    small = pd.DataFrame({"number": [0, 7, -7, 2**53]})
    assert np.array_equal(row_hash(small), row_hash(small.astype(float)))


def test_a_value_hashes_alike_whatever_the_other_rows_make_of_its_column(rows):
    """Types are inferred from all rows: one odd value turns numbers, times and truth values into text."""
    hours = ["2013-01-01T05:00:00Z", "9999-12-31"]
    for name, values in {"n": [1, 2**60 + 1], "x": [0.1, -2.5e-7], "b": [True, False], "t": hours}.items():
        if name == "t":
            typed = pd.Series(pd.to_datetime(values, format="ISO8601", utc=True).as_unit("us"))
        else:
            typed = pd.Series(values)
        texts = [str(value).lower() if name == "b" else str(value) for value in values]
        mixed = pd.Series([*texts, "something else", None])
        assert np.array_equal(row_hash(typed.to_frame()), row_hash(mixed.to_frame())[:2]), name
    assert row_hash(pd.DataFrame({"a": [None]}))[0] == row_hash(pd.DataFrame({"a": [np.nan]}))[0]


def test_a_row_keeps_its_side_when_another_row_has_a_time_of_day(rows, by_key):
    days = rows.assign(when=pd.date_range("2013-01-01", periods=1000))
    names = by_key.model_copy(update={"key": ("when",)})
    rule = split(days, names, RULE, "day")
    later = days.copy()
    later.loc[0, "when"] += pd.Timedelta(hours=5)
    assert np.array_equal(rule.trained_on(days)[1:], rule.trained_on(later)[1:])


def test_a_row_that_stands_on_both_sides_is_found(rows, by_time):
    rows.loc[999, ["size", "note", "late"]] = rows.loc[0, ["size", "note", "late"]]
    trained = split(rows, by_time, RULE, "day").trained_on(rows)
    assert list(shared_rows(rows, trained, by_time)) == [999]


def test_no_model_sees_the_target_the_time_or_an_ignored_column(rows, by_time):
    assert list(features(rows, by_time).columns) == ["size", "note"]
