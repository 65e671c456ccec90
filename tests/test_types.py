"""Risk: new rows change the type of a column, and the champion is judged on values that it has never learnt."""

import json

import numpy as np
import pandas as pd
import pytest
from github_team import rewrite_data
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from conveyor.core.errors import Misuse
from conveyor.model.builder import unused
from conveyor.model.bundle import Bundle
from conveyor.model.scoring import column, comparable, exact
from conveyor.model.signature import BadRows, Signature, columns_of
from conveyor.model.types import as_trained


class Trained:
    """The columns of a model, as its bundle has them."""

    key = "k" * 64

    def __init__(self, kind, dtype, categories=None):
        self.features = {"x": dtype}
        self.profile = {"columns": [{"name": "x", "kind": kind, "missing": True, "categories": categories}]}


NUMBER, FLOAT = Trained("number", "int64"), Trained("number", "float64")
TEXT = Trained("text", "str", ["a", "b"])
EMPTY = Trained("text", "object", [])
DIGITS = Trained("text", "str", ["1", "2", "x"])
POSTCODES = Trained("text", "str", ["01067", "10115"])
TRUTH, GAPS = Trained("truth", "bool"), Trained("truth", "object")
SPELLED = Trained("text", "str", ["True", "False", "maybe"])
LONG = Trained("text", "str", ["123456789012345670"])
NAIVE, NANOS = Trained("time", "datetime64[s]"), Trained("time", "datetime64[ns]")
TIME = Trained("time", "datetime64[s, UTC]")


@pytest.mark.parametrize(
    "bundle, now, then, dtype",
    [
        (NUMBER, [1, 2], [1, 2], "int64"),
        (NUMBER, [1.0, 2.0], [1, 2], "int64"),
        (NUMBER, [1.0, None], [1.0, None], "float64"),
        (NUMBER, [1.5, 2.0], [1.5, 2.0], "float64"),
        (NUMBER, ["1", " 2"], [1, 2], "int64"),
        (NUMBER, ["01", None], [1.0, None], "float64"),
        (NUMBER, [None, None], [None, None], "float64"),
        (FLOAT, [1, 2], [1.0, 2.0], "float64"),
        (FLOAT, ["1.5", "2"], [1.5, 2.0], "float64"),
        (FLOAT, [True, False], [1.0, 0.0], "float64"),
        (FLOAT, [True, None], [1.0, None], "float64"),
        (TEXT, ["a", None], ["a", None], "str"),
        (TEXT, [None, None], [None, None], "str"),
        (EMPTY, [1.5, None], [None, None], "object"),
        (EMPTY, [True, False], [None, None], "object"),
        (EMPTY, [pd.Timestamp("2013-01-01")], [None], "object"),
        (EMPTY, ["a", None], ["a", None], "object"),
        (DIGITS, [1, 2, 3], ["1", "2", "3"], "str"),
        (DIGITS, [1.0, None, 2.5], ["1", None, "2.5"], "str"),
        (POSTCODES, [1067, 10115], ["01067", "10115"], "str"),
        (LONG, [123456789012345671], ["123456789012345671"], "str"),
        (NAIVE, ["2013-01-01T00:00:00", "2013-01-01T00:00:00Z"], [pd.Timestamp("2013-01-01")] * 2, "datetime64[s]"),
        (TRUTH, ["true", "FALSE"], [True, False], "bool"),
        (TRUTH, [1, 0], [True, False], "bool"),
        (TRUTH, [True, None], [True, None], "object"),
        (GAPS, [True, False], [True, False], "object"),
        (SPELLED, [True, None], ["True", None], "str"),
        (TIME, ["2013-01-01T00:00:00Z", None], [pd.Timestamp("2013-01-01", tz="UTC"), None], "datetime64[s, UTC]"),
    ],
)
def test_rows_are_brought_to_the_types_of_training(bundle, now, then, dtype):
    found = as_trained(pd.DataFrame({"x": now, "other": 1}, index=range(5, 5 + len(now))), bundle)
    assert list(found) == ["x"] and found.index[0] == 5
    assert str(found["x"].dtype) == dtype
    assert [None if pd.isna(value) else value for value in found["x"].tolist()] == then


@pytest.mark.parametrize(
    "bundle, now, example",
    [
        (NUMBER, ["1", "two"], "'two'"),
        (NUMBER, ["1", ""], "''"),
        (NUMBER, [pd.Timestamp("2013-01-01")], "Timestamp"),
        (TEXT, [1, 2], "1"),
        (POSTCODES, [1067, 99084], "99084"),
        (Trained("text", "str", ["1", "01"]), [1], "1"),
        (Trained("text", "str"), [1, 2], "1"),
        (TEXT, [True, False], "True"),
        (TEXT, [pd.Timestamp("2013-01-01")], "Timestamp"),
        (TRUTH, [2, 0], "2"),
        (TRUTH, ["yes", "no"], "'yes'"),
        (TIME, [1, 2], "1"),
        (NANOS, ["9999-12-31T00:00:00", None], "9999"),
        (LONG, [1.23456789012345671e17], "1.2345678901234566e"),
        (TIME, ["yesterday"], "'yesterday'"),
    ],
)
def test_a_value_without_an_equal_there_is_told_with_its_column_and_both_types(bundle, now, example):
    rows = pd.DataFrame({"x": now})
    message = rf"^column 'x' was \w+ \(.*\) when model kkkkkkkkkkkk was trained, and is .* now, as .*{example}.*; bring"
    with pytest.raises(Misuse, match=message):
        as_trained(rows, bundle)
    with pytest.raises(Misuse, match="trained, and is [^,]* now; bring"):
        as_trained(rows, bundle, private=("x",))


def test_a_column_in_a_zone_with_summer_time_goes_to_another_process_and_back():
    times = pd.Series(pd.to_datetime(["2013-01-01T00:00:00Z", "2013-07-01T00:00:00Z", None], format="ISO8601"))
    for zone in ("UTC", "Europe/Berlin", "Asia/Kolkata"):
        there = times.dt.tz_convert(zone)
        assert column(json.loads(json.dumps(exact(there))), str(there.dtype)).equals(there)


@pytest.mark.parametrize("now", [["0", "1"], ["0.0", "1.0"], ["False", "True"]])
def test_classes_are_the_same_whatever_their_type(now):
    old = Trained("number", "int64")
    old.asked = {"task": "binary", "target": "late", "classes": ["0", "1"]}
    comparable(old, old.asked | {"classes": now})
    for other in (["0", "2"], ["1", "0"], ["no", "yes"]):
        with pytest.raises(Misuse, match="it was trained for classes"):
            comparable(old, old.asked | {"classes": other})


def test_a_model_without_a_profile_has_the_types_of_its_features_alone():
    old = Trained("number", "int64")
    old.profile = None
    assert as_trained(pd.DataFrame({"x": ["1"]}), old)["x"].tolist() == [1]
    old.features = {"x": "object"}
    with pytest.raises(Misuse, match="column 'x' was text"):
        as_trained(pd.DataFrame({"x": [1]}), old)


CONTRACT = {
    "name": "data",
    "expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "late"}}],
}


def told(project):
    decision = json.loads((project.path / "build" / "decision.json").read_text())["decision"]
    return decision["outcome"], decision["reason"]


@pytest.mark.parametrize("cell, outcome", [("unknown", "incomparable"), ("", "keep")])
def test_a_champion_is_not_beaten_by_a_column_that_has_become_text(bootstrapped, cell, outcome):
    """Weekdays were numbers. One text among them makes all of them text; a code with a zero does, too."""

    def changed(header, rows):
        row, place = (rows[-1] if cell == "unknown" else rows[0]), header.index("weekday")
        row[place] = cell or "0" + row[place]

    rewrite_data(bootstrapped, changed)
    bootstrapped.edit(f"src/{bootstrapped.package}/model.py", '"dest"]', '"dest", "weekday"]')
    bootstrapped.edit(f"src/{bootstrapped.package}/model.py", '"weekday", "departure_minute"', '"departure_minute"')
    (bootstrapped.path / "expectations" / "data.json").write_text(json.dumps(CONTRACT))
    bootstrapped.cli("pipeline", check=False)
    found, why = told(bootstrapped)
    assert found == outcome, why
    if outcome == "incomparable":
        assert "column 'weekday' was number (int64) when model" in why and "'unknown'" in why


def test_a_column_that_no_step_takes_is_named_in_training_and_a_request_may_leave_it_out(project):
    project.set_param("data.ignore", [])
    assert "; it takes no flight: list them in model.py, or in data.ignore" in project.cli("pipeline").stdout
    bundle = Bundle(project.path / "build" / "candidate")
    assert bundle.unused == ("flight", "scheduled") and "flight" not in bundle.features
    asked = Signature(columns_of(bundle), 9, None, bundle.unused)
    [row] = bundle.golden["rows"][:1]
    for rows in ([row], [row] * 6):
        plain = asked.read(json.dumps({"rows": rows}).encode())
        for more in (12, "B6", None, {"a": [1]}):
            given = [{**each, "flight": more} for each in rows]
            with_it = asked.read(json.dumps({"rows": given}).encode())
            assert with_it[0] == given and plain[0] == rows and (with_it[1].numbers == plain[1].numbers).all()
    with pytest.raises(BadRows, match="unknown column 'flights'"):
        asked.read(json.dumps({"rows": [{**row, "flights": 12}]}).encode())
    with pytest.raises(BadRows, match="row 1: should be an object"):
        asked.read(b'{"rows": [[]]}')


@pytest.mark.parametrize(
    "pipeline, expected",
    [
        (ColumnTransformer([("n", "passthrough", ["a"]), ("t", OneHotEncoder(), "b")]), ["c"]),
        (make_pipeline(ColumnTransformer([("n", "passthrough", ["a"]), ("d", "drop", ["b"])])), ["b", "c"]),
        (ColumnTransformer([("n", "passthrough", ["a"])], remainder="passthrough"), []),
        (ColumnTransformer([("n", "passthrough", ["a"])], remainder=StandardScaler()), []),
        (ColumnTransformer([("n", "passthrough", [0])]), []),
        (ColumnTransformer([("n", "passthrough", make_column_selector())]), []),
        (make_pipeline(StandardScaler()), []),
        (StandardScaler(), []),
    ],
)
def test_what_a_pipeline_drops_is_known_only_where_it_names_what_it_takes(pipeline, expected):
    assert unused(pipeline, ["a", "b", "c"]) == expected


def test_numbers_that_are_trained_as_text_answer_alike_after_their_type_has_changed():
    """The measured fault: one-hot codes of text that arrive as numbers are none of the known categories."""
    codes = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(pd.DataFrame({"x": ["1", "2"]}))
    bundle = Trained("text", "str", ["1", "2"])
    rows = as_trained(pd.DataFrame({"x": [2, 1]}), bundle)
    assert np.array_equal(codes.transform(rows), [[0, 1], [1, 0]])
