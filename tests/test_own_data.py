"""Risk: the repository works with the sample alone. Here somebody follows its README with data of their own."""

import json
import sys

import pandas as pd
from sklearn.datasets import load_breast_cancer


def test_other_data_without_a_time_take_the_steps_that_the_readme_names(project):
    readme = " ".join((project.path / "README.md").read_text().split())
    for step in ("`make data-lock`", "`CATEGORIES`, `NUMBERS`", "`expectations/data.json`", "`time: null`"):
        assert step in readme

    frame = load_breast_cancer(as_frame=True).frame.rename(columns=lambda name: name.replace(" ", "_"))
    frame["site"] = ["north" if number % 3 else "south" for number in range(len(frame))]
    frame["target"] = frame["target"].map({0: "malign", 1: "benign"})
    frame.insert(0, "patient", range(1, len(frame) + 1))
    frame.to_csv(project.path / "data" / "tumours.csv", index=False)
    project.git("rm", "--quiet", "data/flights.csv.gz")

    project.edit("params.yaml", "path: data/flights.csv.gz", "path: data/tumours.csv")
    project.edit("params.yaml", "target: late ", "target: target ")
    project.edit("params.yaml", "key: [scheduled, carrier, flight, origin]", "key: [patient]")
    project.edit("params.yaml", "time: scheduled ", "time: null ")
    project.edit("params.yaml", "ignore: [flight]", "ignore: [patient]")
    project.cli("data-lock")

    numbers = [column for column in frame.columns if column not in ("patient", "target", "site")]
    model = project.path / "src" / project.package / "model.py"
    lines = model.read_text().splitlines(keepends=True)
    lines = [
        f'CATEGORIES = ["site"]\nNUMBERS = {json.dumps(numbers)}\n' if "CATEGORIES =" in line else line
        for line in lines
    ]
    model.write_text("".join(line for line in lines if not line.startswith('NUMBERS = ["distance"')))

    suite = [
        {"type": "expect_table_columns_to_match_ordered_list", "kwargs": {"column_list": list(frame.columns)}},
        {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["patient", "target"]}},
        *(
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": c, "min_value": 0, "max_value": 5000}}
            for c in numbers
        ),
    ]
    (project.path / "expectations" / "data.json").write_text(json.dumps({"name": "data", "expectations": suite}))

    project.make("pipeline", "format", "check", "test")
    decided = json.loads((project.path / "build" / "decision.json").read_text())["decision"]
    assert decided["outcome"] == "bootstrap"
    assert 80 < decided["rows"] < 150 and decided["metrics"][0]["challenger"] > 0.95
    assert "unchanged" in project.make("pipeline").stdout


def test_a_contract_of_any_common_kind_has_a_fault_for_each_expectation(project):
    """What a team may write: bounds on one side, strict or for times, `mostly`, conditions, and many types."""
    path = project.path / "data" / "flights.csv.gz"
    frame = pd.read_csv(path).iloc[::5]
    frame.assign(number=range(len(frame))).to_csv(path, index=False)
    project.cli("data-lock")
    contract = {
        "table_columns_to_match_set": [{"column_set": ["late", "dest", "origin"], "exact_match": False}],
        "table_column_count_to_equal": [{"value": 16}],
        "table_column_count_to_be_between": [{"min_value": 9}, {"min_value": 9, "max_value": 20}],
        "table_row_count_to_equal": [{"value": 4000}],
        "table_row_count_to_be_between": [
            {"min_value": 3000},
            {"max_value": 30000},
            {"min_value": 0, "max_value": 10000},
        ],
        "compound_columns_to_be_unique": [{"column_list": ["scheduled", "carrier", "flight", "origin"]}],
        "select_column_values_to_be_unique_within_record": [{"column_list": ["origin", "dest"]}],
        "column_pair_values_a_to_be_greater_than_b": [{"column_A": "distance", "column_B": "weekday"}],
        "column_to_exist": [{"column": "visib"}],
        "column_values_to_be_between": [
            {"column": "distance", "min_value": 1, "max_value": 6000, "mostly": 0.99},
            {"column": "flight", "min_value": 0, "strict_min": True},
            {"column": "flight", "max_value": 9999, "min_value": None, "strict_max": True},
            {"column": "scheduled", "min_value": "2013-01-01T00:00:00Z", "max_value": "2013-08-01T00:00:00Z"},
            {"column": "pressure", "min_value": 900, "max_value": 1100, "mostly": 0.5},
            {"column": "temp", "min_value": -40.5, "row_condition": 'origin=="EWR"', "condition_parser": "pandas"},
        ],
        "column_values_to_be_in_set": [
            {"column": "weekday", "value_set": [1, 2, 3, 4, 5, 6, 7]},
            {"column": "origin", "value_set": ["EWR", "JFK"], "mostly": 0.5},
        ],
        "column_values_to_not_be_in_set": [{"column": "carrier", "value_set": ["??", "ZZ"]}],
        "column_values_to_be_unique": [{"column": "number"}],
        "column_values_to_be_increasing": [{"column": "number", "strictly": True}],
        "column_values_to_match_regex": [
            {"column": "dest", "regex": "^[A-Z]{3}$"},
            {"column": "carrier", "regex": "[0-9A-Z]", "mostly": 0.9},
        ],
        "column_values_to_not_be_null": [{"column": "late"}, {"column": "pressure", "mostly": 0.8}],
        "column_values_to_be_of_type": [{"column": "weekday", "type_": "int64"}, {"column": "origin", "type_": "str"}],
        "column_values_to_be_in_type_list": [{"column": "temp", "type_list": ["float64", "int64"]}],
        "column_value_lengths_to_equal": [{"column": "dest", "value": 3, "mostly": 0.9}],
        "column_value_lengths_to_be_between": [
            {"column": "carrier", "min_value": 2, "max_value": None},
            {"column": "dest", "max_value": 3},
        ],
        "column_distinct_values_to_equal_set": [{"column": "late", "value_set": [0, 1]}],
        "column_distinct_values_to_contain_set": [{"column": "origin", "value_set": ["LGA"]}],
        "column_distinct_values_to_be_in_set": [{"column": "origin", "value_set": ["LGA", "EWR", "JFK"]}],
        "column_most_common_value_to_be_in_set": [{"column": "late", "value_set": [0]}],
        "column_min_to_be_between": [{"column": "distance", "min_value": 1}],
        "column_max_to_be_between": [
            {"column": "distance", "max_value": 6000, "strict_max": True},
            {"column": "scheduled", "min_value": "2013-06-01T00:00:00Z", "max_value": "2013-08-01T00:00:00Z"},
        ],
        "column_mean_to_be_between": [{"column": "humid", "max_value": 90}, {"column": "temp", "min_value": 10}],
        "column_median_to_be_between": [{"column": "humid", "min_value": 10, "max_value": 90}],
        "column_sum_to_be_between": [{"column": "precip", "min_value": 0, "max_value": 5000}],
        "column_stdev_to_be_between": [{"column": "humid", "max_value": 50}, {"column": "temp", "min_value": 1}],
        "column_unique_value_count_to_be_between": [
            {"column": "carrier", "min_value": 3, "max_value": 100},
            {"column": "dest", "min_value": 50},
        ],
        "column_proportion_of_unique_values_to_be_between": [{"column": "flight", "max_value": 0.9}],
        "column_proportion_of_non_null_values_to_be_between": [{"column": "visib", "min_value": 0.9}],
    }
    expectations = [
        {"type": f"expect_{kind}", "kwargs": kwargs} for kind, variants in contract.items() for kwargs in variants
    ]
    (project.path / "expectations" / "data.json").write_text(json.dumps({"expectations": expectations}))
    done = project.run(sys.executable, "-m", "pytest", "-q", "tests/test_expectations.py")
    assert f"{len(expectations) + 2} passed" in done.stdout
