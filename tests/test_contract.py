"""Risk: an expectation that Great Expectations offers is dropped without a word, or ends in a traceback."""

import inspect
import json
import re

import numpy as np
import pandas as pd
import pytest

from conveyor.core.errors import Misuse
from conveyor.data.contract import UNCHECKED, validate
from conveyor.data.hints import hint

pytestmark = pytest.mark.filterwarnings("ignore")  # of Great Expectations about its own source
ROWS = 30
FRAME = pd.DataFrame(
    {
        "number": np.arange(ROWS) / 2,
        "text": pd.Series(["a", "b"] * (ROWS // 2)),
        "day": [f"2013-01-{number + 1:02d}" for number in range(ROWS)],
        "json": ["{}"] * ROWS,
        "other": range(ROWS),
    }
)
ARGUMENTS = {
    "column_A": "other",
    "column_B": "number",
    "column_list": ["number", "other"],
    "column_set": list(FRAME),
    "min_value": 0,
    "max_value": 100,
    "value_set": [0, 1],
    "value_pairs_set": [(0, 0)],
    "regex": "a|b",
    "regex_list": ["a", "b"],
    "like_pattern": "a",
    "like_pattern_list": ["a"],
    "type_": "float64",
    "type_list": ["float64"],
    "value": ROWS,
    "strftime_format": "%Y-%m-%d",
    "json_schema": {"type": "object"},
    "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 100]]},
    "threshold": 3,
    "double_sided": True,
    "sum_total": 1,
    "other_table_name": "other",
    "base_query": "select 1",
    "comparison_query": "select 1",
    "comparison_data_source_name": "other",
    "unexpected_rows_query": "select 1",
}


def offered() -> dict[str, list[str]]:
    """Each expectation that Great Expectations has, and its arguments."""
    import great_expectations.expectations as gxe

    found = {}
    for name, kind in inspect.getmembers(gxe, inspect.isclass):
        if re.match("(Expect|Unexpected).+", name) and name != "Expectation":
            fields = kind.__fields__
            known = [n for n, field in fields.items() if n == "column" or (n in ARGUMENTS and field.required)]
            known += [n for n in ("min_value", "max_value") if n in fields and n not in known]
            found[re.sub("(?<!^)(?=[A-Z])", "_", name).lower()] = known
    return found


def test_every_expectation_is_checked_or_refused_by_its_name():
    every = offered()
    assert len(every) > 45
    refused = set()
    for kind, names in every.items():
        told = []
        for column in ("number", "text", "day", "json"):
            given = {name: column if name == "column" else ARGUMENTS[name] for name in names}
            try:
                [outcome] = validate(FRAME, {"name": "data", "expectations": [{"type": kind, "kwargs": given}]})
                told.append(outcome.detail)
            except Misuse as error:
                assert f"expectation 1, {kind}, is refused: " in str(error) and "\n" not in str(error)
                refused.add(kind)
                break
            if UNCHECKED not in outcome.detail:
                break
        assert kind in refused or any(UNCHECKED not in detail for detail in told), told
    # Of databases, unknown to this version, or with a result that Great Expectations cannot keep.
    assert len(refused) < 12, refused


def test_among_others_the_one_at_fault_is_named():
    sound = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "number"}}
    ranges = {"column": "number", "quantile_ranges": ARGUMENTS["quantile_ranges"]}
    odd = {"type": "expect_column_quantile_values_to_be_between", "kwargs": ranges}
    with pytest.raises(
        Misuse, match="expectation 2, expect_column_quantile_values_to_be_between, is refused: .*; drop it"
    ):
        validate(FRAME, {"name": "data", "expectations": [sound, odd]})


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize(
    "written", ["2013-01-05", "2013-01-05T00:00:00", "2013-01-05T00:00:00Z", "2013-01-05 02:00+02:00"]
)
def test_a_day_is_a_limit_of_times_in_any_zone(zone, written):
    frame = pd.DataFrame({"when": pd.date_range("2013-01-05", periods=3, tz=zone)})

    def passes(**limits):
        given = {"column": "when", **limits}
        expectations = [
            {"type": f"expect_column_{what}_to_be_between", "kwargs": given} for what in ("values", "min", "max")
        ]
        return [outcome.passed for outcome in validate(frame, {"name": "data", "expectations": expectations})]

    assert passes(min_value=written) == [True, True, True]
    assert passes(max_value=written) == [False, True, False]


def test_numbers_of_numpy_break_no_report(sound, one_line):
    """A contract that compares the values of columns: their results are NumPy's."""
    suite = sound.path / "expectations" / "data.json"
    content = json.loads(suite.read_text())
    for kind in ("most_common_value_to_be_in_set", "distinct_values_to_equal_set", "distinct_values_to_contain_set"):
        content["expectations"].append(
            {"type": f"expect_column_{kind}", "kwargs": {"column": "weekday", "value_set": [77]}}
        )
    suite.write_text(json.dumps(content))
    one_line(sound.cli("validate", check=False), 1, ".*column 'weekday': expected .*")
    assert "77" in sound.cli("report").stdout + (sound.path / "build" / "report.md").read_text()


@pytest.mark.parametrize(
    "values, told",
    [
        (["1,5", "2", "3,25"], "'1,5' in row 1 has a decimal comma: write it with a point, as 1.5"),
        (["2", "1.234,5", "3,5"], "'1.234,5' in row 2 has a decimal comma"),
        (["1,234", "5,678.5", "9"], "'1,234' in row 1 has a mark of thousands: write it without, as 1234.5"),
        (["1", "2", "NA", "4"], "'NA' in row 3 stands for a missing value: leave such cells empty"),
        (["1", "?", "3", "4"], "'?' in row 2 stands for"),
        ([*"123456789", "ten"], "'ten' in row 10 is no number: mend it, or leave the cell empty"),
        (["31.12.2013", "01.01.2014"], "'31.12.2013' in row 1 is a date: write it as 2013-06-30 or 2013-06-30T12"),
        (["2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04", "never"], "'never' in row 5 is no date"),
        (["a", "b"], ""),
        (["NA", "?"], ""),
        ([None, None], ""),
        ([1, 2], ""),
        ([True, None], ""),
        (["7", "b", "c"], ""),
    ],
)
def test_text_where_numbers_were_meant_is_told_how_to_write_it(values, told):
    found = hint(pd.Series(values))
    assert found.startswith(told) and bool(found) == bool(told)


def test_training_names_the_columns_that_are_no_numbers_and_how_to_mend_them(sound, one_line):
    from github_team import rewrite_data

    def spoil(header, rows):
        place = header.index("temp")
        for row in rows:
            row[place] = f'"{row[place].replace(".", ",")}"' if row[place] else "NA"

    rewrite_data(sound, spoil)
    (sound.path / "expectations" / "data.json").write_text(
        '{"name": "data", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "temp"}}]}'
    )
    sound.cli("validate")
    message = r"model.py: .*; column 'temp': '.*,.*' in row \d+ has a decimal comma: write it with a point, as 1.5"
    one_line(sound.cli("train", check=False), 2, message)


def test_a_target_that_does_not_fit_the_task_is_told_what_it_holds(sound):
    from conveyor.core.errors import Refused
    from conveyor.core.params import load
    from conveyor.data.columns import labels

    data = load(sound.path / "params.yaml").data

    def told(values, task="binary"):
        with pytest.raises(Refused) as refused:
            labels(pd.DataFrame({data.target: values}), data.model_copy(update={"task": task}))
        return str(refused.value).partition("column 'late' ")[2]

    assert told([0, 1, None]) == "has no value in 1 of 3 rows, such as row 3; fill or drop them"
    assert told(["a", "b", "c", "d"]).startswith("has 4 values ('a', 'b', 'c', …), and a binary target exactly two; is")
    assert told(["a", "b", "c"]).endswith("is data.task multiclass?")
    assert told([0.5, 1.5, 2.5]).endswith("is data.task regression?") and told([*range(30)]).endswith("regression?")
    assert told(["a", "b"], "multiclass").endswith("a multiclass target three or more; is data.task binary?")
