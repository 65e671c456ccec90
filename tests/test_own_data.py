"""Risk: the repository works with the sample alone. Here somebody follows its README with data of their own."""

import json

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
