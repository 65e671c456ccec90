"""Risk: the repository works with the sample alone. Here somebody follows docs/model.md with data of their own."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import BakedProject
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine


@pytest.fixture
def project(project, installed_venv) -> BakedProject:
    """Its commands are forks of a process that has the libraries."""
    return replace(project, venv=installed_venv)


def adopt(project: BakedProject, frame: pd.DataFrame, **settings: object) -> None:
    """Put data of one's own in the place of the sample, by the steps that docs/model.md names.

    ``frame`` begins with its key, ends with its target, and holds one category named ``site``.
    """
    key, *features, target = frame.columns
    frame.to_csv(project.path / "data" / "own.csv", index=False)
    project.git("rm", "--quiet", "data/flights.csv.gz")
    own = {"path": "data/own.csv", "target": target, "key": [key], "time": None, "ignore": [key]}
    for name, value in own.items():
        project.set_param(f"data.{name}", value)
    project.set_param("gate.guards.segments", ["site"])
    for name, value in settings.items():
        project.set_param(name.replace("__", "."), value)
    project.cli("data-lock")

    numbers = [column for column in features if column != "site"]
    model = project.path / "src" / project.package / "model.py"
    lines = model.read_text().splitlines(keepends=True)
    lines = [
        f'CATEGORIES = ["site"]\nNUMBERS = {json.dumps(numbers)}\n' if "CATEGORIES =" in line else line
        for line in lines
    ]
    model.write_text("".join(line for line in lines if not line.startswith('NUMBERS = ["distance"')))

    suite = [
        {"type": "expect_table_columns_to_match_ordered_list", "kwargs": {"column_list": list(frame.columns)}},
        {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": [key, "site"]}},
        *(
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": c, "min_value": -1, "max_value": 5000}}
            for c in numbers
        ),
    ]
    (project.path / "expectations" / "data.json").write_text(json.dumps({"name": "data", "expectations": suite}))


def with_site_and_key(data, target: str) -> pd.DataFrame:
    frame = data.frame.rename(columns=lambda name: name.replace(" ", "_").replace("/", "_"))
    frame.insert(1, "site", ["north" if number % 3 else "south" for number in range(len(frame))])
    frame.insert(0, "number", range(1, len(frame) + 1))
    return frame.rename(columns={"target": target})


def decided(project: BakedProject) -> dict:
    return json.loads((project.path / "build" / "decision.json").read_text())["decision"]


def test_other_data_without_a_time_take_the_steps_that_their_page_names(project):
    page = " ".join((project.path / "docs" / "model.md").read_text().split())
    for step in ("`make data-lock`", "`CATEGORIES`, `NUMBERS`", "`expectations/data.json`", "`time: null`"):
        assert step in page
    assert "`gate.guards.segments`" in page
    frame = with_site_and_key(load_breast_cancer(as_frame=True), "tumour")
    frame["tumour"] = frame["tumour"].map({0: "malign", 1: "benign"})
    adopt(project, frame)
    project.make("pipeline", "format", "check", "test")
    assert decided(project)["outcome"] == "bootstrap"
    assert 80 < decided(project)["rows"] < 150 and decided(project)["metrics"][0]["challenger"] > 0.95
    assert "unchanged" in project.make("pipeline").stdout


def test_other_data_take_the_place_of_the_samples_champion_with_the_approval_that_their_page_names(bootstrapped):
    assert 'make approve BECAUSE="our own data"' in (bootstrapped.path / "docs" / "model.md").read_text()
    adopt(bootstrapped, with_site_and_key(load_breast_cancer(as_frame=True), "tumour"))
    bootstrapped.make("pipeline")
    assert decided(bootstrapped)["outcome"] == "incomparable"
    bootstrapped.make("approve", BECAUSE="our own data")
    bootstrapped.set_param("model.seed", 8)
    bootstrapped.make("pipeline")
    assert decided(bootstrapped)["outcome"] == "keep"


def test_the_words_of_the_readme_lead_from_an_unseen_file_to_a_promoted_champion_and_a_prediction(project):
    """Nothing is run or edited here but what README.md and the verbs themselves say."""
    readme = (project.path / "README.md").read_text()
    said = {words.split()[1]: words for words in re.findall(r"make [a-z]+[^`#\n]*", readme)}

    def run(verb: str, **env: str) -> str:
        return project.run("sh", "-c", said[verb], env={"VENV": str(project.venv), **env}).stdout

    rng = np.random.default_rng(20261130)
    rooms, area = rng.integers(1, 9, 900), rng.uniform(20, 200, 900).round(1)
    price = 1000 * np.where(rooms % 2 == 0, area, 300 - area) * rng.lognormal(0, 0.05, 900)  # of no linear form
    rows = pd.DataFrame({"rooms": rooms, "area": area, "price": price.round()})
    rows.to_csv(project.path / "rows.csv", index=False)
    run("setup")
    assert "next: make pipeline format check test" in run("adopt")
    assert "bootstrap: champion/000002" in run("pipeline")
    tried = run("try")
    assert re.search("(?m)^promote: ", tried) and "put the change into params.yaml" in tried
    [(name, value)] = re.findall(r'SET="([\w.]+)=(\w+)"', said["try"])
    project.set_param(name, value)
    assert "promote: " in run("pipeline") and json.loads(project.cli("history", "--json").stdout)[-1]["type"] == "live"
    run("predict")
    told = pd.read_csv(project.path / "predictions.csv")
    assert len(told) == 900 and np.corrcoef(told["prediction"], price)[0, 1] > 0.95


OTHER_TASKS = {
    "multiclass": (load_wine, "log_loss", {"accuracy": 0.8}, {}),
    "regression": (
        load_diabetes,
        "rmse",
        {"r2": 0.2},
        {
            "HistGradientBoostingClassifier": "HistGradientBoostingRegressor",
            "RandomForestClassifier": "RandomForestRegressor",
            "LogisticRegression": "Ridge",
            '"logistic"': '"ridge"',
            "logistic:": "ridge:",
        },
    ),
}


def adopt_task(project, task, **settings) -> None:
    load, metric, floors, renamed = OTHER_TASKS[task]
    frame = with_site_and_key(load(as_frame=True), "answer")
    frame.insert(2, "family", frame["number"] % 60)
    adopt(project, frame, data__task=task, gate__metric=metric, gate__floors=floors, **settings)
    for old, new in renamed.items():
        project.edit(f"src/{project.package}/model.py", old, new)
    if task == "regression":
        forest = {"n_estimators": 50, "min_samples_leaf": 10}
        project.set_param("model.params", {"estimator": "ridge", "ridge": {"alpha": 1.0}, "forest": forest})
        project.set_param("data.group", "family")


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_the_gate_is_tested_on_other_tasks_too(project, task):
    adopt_task(project, task, split__holdout=0.5)
    done = project.cli("aa")
    made = json.loads((project.path / "build" / "aa.json").read_text())["aa"]
    assert (made["metric"], made["unit"]) == (OTHER_TASKS[task][1], {"regression": "family"}.get(task, "row"))
    assert made["differ"] > 0.9 and made["smallest_gain"] > 0 and len(made["decisions"]) == 200
    assert "false promotions" in done.stdout


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_other_tasks_run_from_the_data_to_a_decision_between_two_models(project, task):
    _, metric, floors, _ = OTHER_TASKS[task]
    adopt_task(project, task)
    project.make("pipeline", "format", "check", "test")
    made = decided(project)
    assert (made["outcome"], made["task"]) == ("bootstrap", task)
    assert {m["name"] for m in made["metrics"]} >= {metric, *floors}
    project.set_param("model.params.estimator", "forest")
    done = project.make("pipeline", check=False)
    made = decided(project)
    assert made["outcome"] in ("promote", "keep", "block"), done.stderr
    compared = next(m for m in made["metrics"] if m["name"] == metric)
    assert compared["champion"] > 0 and compared["challenger"] > 0
    assert (project.path / "build" / "report.html").read_text().count("<svg") >= 1


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
    done = project.run(sys.executable, "-m", "pytest", "-v", "tests/test_expectations.py")
    assert "failed" not in done.stdout
    for kind in contract:  # those of one type about different columns are tried at once
        assert re.search(rf"test_an_expectation_fails_on_its_fault\[.*\b{kind}\d*\] PASSED", done.stdout), kind
