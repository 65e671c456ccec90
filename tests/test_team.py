"""Risk: the team's own code (its model, its metrics) breaks a command, or is told of in words that mend nothing."""

import json

import pytest

METRICS = """from conveyor.api import Metric, by_bootstrap, by_mean

OWN = Metric({function}, {way}, higher_is_better=True)
"""
RECALL = "lambda y, p: lambda weights: (weights @ ((p >= 0.3) & (y == 1))) / (weights @ (y == 1))"


def define(project, function: str, way: str) -> None:
    """A metric in a module of its own, which the gate measures beside the others."""
    project.cli("score")
    (project.path / "src" / project.package / "metrics.py").write_text(METRICS.format(function=function, way=way))
    project.set_param("gate.own_metrics", {"own": f"{project.package}.metrics:OWN"})


def test_a_metric_of_the_team_is_measured_like_the_gates_own(bootstrapped):
    define(bootstrapped, RECALL, "by_bootstrap")
    bootstrapped.set_param("gate.floors", {"own": 0.2})
    bootstrapped.cli("compare")
    [own] = [
        m
        for m in json.loads((bootstrapped.path / "build/decision.json").read_text())["decision"]["metrics"]
        if m["name"] == "own"
    ]
    assert 0.2 < own["challenger"] < 1 and own["challenger_low"] < own["challenger"] < own["challenger_high"]
    assert own["gain"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    "function, way, message",
    [
        ("lambda y, p: 1 / 0", "by_mean", r"metrics\.py:3: ZeroDivisionError: division by zero; mend the metric own"),
        ("lambda y, p: exit(0)", "by_mean", r"metrics\.py:3: SystemExit: 0; mend the metric own"),
        ("lambda y, p: p[:3]", "by_mean", r"metrics\.py: .* gives an array of shape \(3,\) for 4043 rows"),
        ("lambda y, p: 0.5", "by_mean", r"metrics\.py: the metric own gives an array of shape \(\) for 4043 rows"),
        ("lambda y, p: p * float('nan')", "by_mean", r"metrics\.py: .* gives no finite number for some .*"),
        ("lambda y, p: ['a'] * len(y)", "by_mean", r"metrics\.py: could not convert string to float: .*; mend .*"),
        ("lambda y, p: p", "by_bootstrap", r"metrics\.py: the metric own gives no function of weights, .*"),
        (
            "lambda y, p: lambda w: 1.0",
            "by_bootstrap",
            r"metrics\.py: .* shape \(\) for \d+ sets of weights",
        ),
        ("5", "by_mean", r"params\.yaml: gate\.own_metrics\.own: OWN of metrics\.py wants a function and .*"),
        ("len", "5", r"params\.yaml: gate\.own_metrics\.own: OWN of metrics\.py wants a function and .*"),
    ],
)
def test_a_metric_that_is_broken_is_told_in_one_line_and_decides_nothing(
    bootstrapped, one_line, function, way, message
):
    define(bootstrapped, function, way)
    one_line(bootstrapped.cli("compare", check=False), 2, message)
    assert not (bootstrapped.path / "build" / "decision.json").exists()


@pytest.mark.parametrize(
    "own, message",
    [
        ({"roc_auc": "late_flights.metrics:OWN"}, r".*own_metrics: 'roc_auc' is taken, or no name of a metric; .*"),
        (
            {"own": "late_flights.metrics"},
            r".*: 'late_flights\.metrics' names nothing; write it as .*",
        ),
        ({"own": "late_flights.model:OWN"}, r".*own_metrics\.own: late_flights\.model is a module of models, .*"),
        ({"own": "late_flights.absent:OWN"}, r".*own: late_flights\.absent: there is no such module in src; .*"),
        ({"own": "numpy.linalg:norm"}, r".*own: numpy\.linalg: is none of your own modules; write one in src, .*"),
        ({"own": "conveyor.gate.metrics:Metric"}, r".*own: conveyor\.gate\.metrics: is none of your own modules; .*"),
    ],
)
def test_a_metric_that_is_named_wrongly_is_refused_by_its_key(bootstrapped, one_line, own, message):
    bootstrapped.set_param("gate.own_metrics", own)
    one_line(bootstrapped.cli("compare", check=False), 2, message)


@pytest.mark.parametrize(
    "build, message",
    [
        ("late_flights.model", r"params\.yaml: model\.build: 'late_flights\.model' names no function; write it as .*"),
        ("late_flights.modle:build", r"params\.yaml: model\.build: late_flights\.modle: there is no such module .*"),
        ("sklearn.svm:SVC", r"params\.yaml: model\.build: sklearn\.svm: is none of your own modules; .*"),
        ("late_flights.model:biuld", r"model\.py: `biuld`, which model\.build of params\.yaml names, is not there; .*"),
        ("late_flights.model:CATEGORIES", r"model\.py: `CATEGORIES`, which model\.build .* names, is no function; .*"),
    ],
)
def test_a_model_that_is_named_wrongly_is_refused_by_its_key(sound, one_line, build, message):
    sound.set_param("model.build", build)
    one_line(sound.cli("train", check=False), 2, message)


@pytest.mark.parametrize("params", ["dict", "5", "type('Params', (), {})"])
def test_parameters_that_cannot_be_checked_are_refused(sound, one_line, params):
    with (sound.path / "src" / sound.package / "model.py").open("a") as model:
        model.write(f"\n\nParams = {params}\n")
    message = "model.py: `Params` is none that training can check; derive it from conveyor.api.Frozen"
    one_line(sound.cli("train", check=False), 2, message)


def test_a_model_may_stand_anywhere_in_the_teams_package_that_a_wheel_can_import(sound, one_line):
    package = sound.path / "src" / sound.package
    (package / "models").mkdir()
    (package / "model.py").rename(package / "models" / "flights.py")
    sound.set_param("model.build", f"{sound.package}.models.flights:build")
    message = (
        f"src/{sound.package}/models: has modules and no __init__.py, so no wheel can import them; add an empty one"
    )
    one_line(sound.cli("train", check=False), 2, message)
    (package / "models" / "__init__.py").touch()
    assert sound.cli("train").stdout.startswith("train     model ")
