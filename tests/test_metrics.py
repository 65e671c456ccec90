"""Risk: a metric of classes is measured by other classes than those that the service answers."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from conveyor.core import params, tasks
from conveyor.core.params import Gate, Guards
from conveyor.core.project import Project
from conveyor.gate.balance import balance
from conveyor.gate.decide import decide
from conveyor.gate.metrics import METRICS, at, value
from conveyor.model.bundle import Bundle
from conveyor.report import wording

THRESHOLDS = [1e-12, 0.1, 0.3, 0.5, 0.9, 1 - 1e-12]
OF_CLASSES = ["accuracy", "balanced_accuracy", "precision", "recall", "f1"]


def measured(name, y, predicted, threshold=0.5):
    return value(at(METRICS[name], threshold), y, predicted)


def drawn(rows=400, positives=0.3, decimals=8):
    """Labels, and probabilities that know something of them; few decimals make ties, and some at each threshold."""
    draw = np.random.default_rng([rows, decimals])
    y = (draw.random(rows) < positives).astype(np.int64)
    return y, np.round(1 / (1 + np.exp(-(2 * y - 1 + draw.normal(0, 1.5, rows)))), decimals)


def reference(name, y, said, classes=None, weights=None):
    """What scikit-learn says; of several classes the mean over all of them."""
    more = {"sample_weight": weights}
    if name == "accuracy":
        return sklearn_metrics.accuracy_score(y, said, **more)
    if name == "balanced_accuracy":
        return sklearn_metrics.balanced_accuracy_score(y, said, **more)
    if classes:
        more |= {"average": "macro", "labels": range(classes)}
    score = getattr(sklearn_metrics, f"{name}_score")
    return score(y, said, zero_division=0, **more)


LABELS = {
    "random": (drawn()[0], drawn()[1]),
    "ties, some at the threshold": drawn(decimals=1),
    "nobody flagged below one": (drawn()[0], np.zeros(400)),
    "everybody flagged": (drawn()[0], np.ones(400)),
    "one prediction for all": (drawn()[0], np.full(400, 0.3)),
    "no positive row": (np.zeros(50, dtype=np.int64), drawn(50)[1]),
    "positive rows alone": (np.ones(50, dtype=np.int64), drawn(50)[1]),
    "one row": (np.ones(1, dtype=np.int64), np.array([0.5])),
}


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_a_metric_of_two_classes_is_scikit_learns_at_every_threshold(name, kind, threshold):
    y, predicted = LABELS[kind]
    assert measured(name, y, predicted, threshold) == pytest.approx(reference(name, y, predicted >= threshold))


def several(rows=300, classes=4):
    draw = np.random.default_rng(rows)
    y = draw.integers(0, classes, rows)
    odds = np.exp(np.eye(classes)[y] + draw.normal(0, 1, (rows, classes)))
    return y, odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("kind", ["random", "a class that is never chosen", "a class without rows", "two columns"])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_a_metric_of_several_classes_is_scikit_learns_mean_over_them_at_no_threshold(name, kind):
    y, predicted = several(classes=2 if kind == "two columns" else 4)
    if kind == "a class that is never chosen":
        predicted = predicted * [1, 1, 1, 0]
    if kind == "a class without rows":
        y, predicted = y[y != 3], predicted[y != 3]
    wanted = reference(name, y, predicted.argmax(axis=1), predicted.shape[1])
    for threshold in (0.01, 0.5, 0.99):
        assert measured(name, y, predicted, threshold) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["balanced_accuracy", "precision", "recall", "f1"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_metric_of_resampled_rows_is_that_of_the_rows_as_often_as_they_were_drawn(name, task):
    y, predicted = drawn(120) if task == "binary" else several(120)
    said, classes = (predicted >= 0.4, None) if task == "binary" else (predicted.argmax(axis=1), 4)
    weights = np.random.default_rng(1).poisson(1.0, (7, 120)).astype(np.uint8)
    found = at(METRICS[name], 0.4).function(y, predicted).weighted(weights)
    assert found == pytest.approx([reference(name, y, said, classes, drawn) for drawn in weights])


def test_a_metric_whose_threshold_is_not_bound_measures_nothing():
    for name in OF_CLASSES:
        with pytest.raises(TypeError, match="threshold"):
            value(METRICS[name], *drawn())


# The gate


def rule(**more):
    given = {"metric": "precision", "promote_when": "superior", "margin": 0.0, "confidence": 0.95, **more}
    return Gate(**given)


@pytest.mark.parametrize("threshold", [0.2, 0.8])
def test_every_part_of_the_gate_takes_the_threshold_of_the_rule(threshold):
    y, champion = drawn(3000)
    challenger = np.clip(champion + 0.1, 0, 1)
    parts = pd.DataFrame({"half": np.where(np.arange(3000) % 2, "= odd", "= even")})
    guards = Guards(calibration_margin=None, segment_margin=1.0)
    given = rule(threshold=threshold, floors={"recall": 0.0}, guards=guards)
    made = decide(y, champion, challenger, given, segments=parts)
    assert made.threshold == threshold
    for compared in made.metrics:
        if compared.name in OF_CLASSES:
            ours, theirs = (measured(compared.name, y, model, threshold) for model in (challenger, champion))
            assert (compared.challenger, compared.champion) == pytest.approx((ours, theirs))
            assert compared.challenger_low <= ours <= compared.challenger_high
    assert made.floors[0].value == pytest.approx(measured("recall", y, challenger, threshold))
    odd = next(guard for guard in made.guards if guard.name == "half = odd")
    assert odd.challenger == pytest.approx(measured("precision", y[1::2], challenger[1::2], threshold))


def test_a_threshold_changes_no_metric_of_another_task():
    y, theirs = several(600)
    ours = np.eye(4)[y] * 0.2 + theirs * 0.8
    first, second = (decide(y, theirs, ours, rule(threshold=t), task="multiclass") for t in (0.1, 0.9))
    assert first == second and (first.threshold, first.balance) == (None, None)


# The threshold that balances


@pytest.mark.parametrize("positives", [0.01, 0.3, 0.9])
def test_at_the_balancing_threshold_precision_and_recall_are_equal(positives):
    y, predicted = drawn(2000, positives)
    found = balance(y, predicted)
    assert found.precision == found.recall == measured("precision", y, predicted, found.threshold)
    assert found.recall == measured("recall", y, predicted, found.threshold)
    flagged = np.sort(predicted)[::-1]
    low, high = flagged[y.sum()], flagged[y.sum() - 1]
    assert low < found.threshold <= high
    shorter = len(np.format_float_positional(found.threshold)) - len("0.") - 1
    assert np.floor(high * 10**shorter) / 10**shorter <= low, "fewer decimals would not do"


@pytest.mark.parametrize(
    "y, predicted",
    [
        ([], []),
        ([0, 0], [0.1, 0.9]),
        ([1, 1], [0.1, 0.9]),
        ([0, 1], [0.1, np.nan]),
        ([0, 1], [0.1, 1.5]),
        ([0, 1], [0.0, 0.0]),
    ],
    ids=["no rows", "no positive", "positives alone", "no number", "no probability", "zeros alone"],
)
def test_there_is_no_balancing_threshold_without_two_classes_and_probabilities(y, predicted):
    assert balance(np.array(y, dtype=np.int64), np.array(predicted, dtype=np.float64)) is None


@pytest.mark.parametrize(
    "predicted",
    [[0.0, 1.0], [1.0, 1.0], [0.5, np.nextafter(0.5, 1)], [0.0, 5e-324], [0.0, 1e-9], [0.999999999, 1.0]],
)
def test_a_balancing_threshold_can_stand_in_params_yaml(predicted):
    y = np.array([0, 1])
    found = balance(y, np.array(predicted))
    assert rule(threshold=found.threshold).threshold == found.threshold
    assert found.recall == measured("recall", y, np.array(predicted), found.threshold)
    assert np.float64(wording.positional(found.threshold)) == found.threshold


def test_the_line_of_the_report_names_both_thresholds_without_an_exponent():
    line = wording.threshold_line(0.00001, {"threshold": 0.31, "precision": 0.5, "recall": 0.5}, "the model")
    assert line == (
        "a row is flagged as positive from a probability of 0.00001 on; with 0.31, precision and recall of the model"
        " would be equal, 0.5000"
    )
    tied = wording.threshold_line(0.5, {"threshold": 0.3, "precision": 0.5, "recall": 0.52}, "the model")
    assert tied.endswith("with 0.3, precision and recall of the model would be closest, 0.5000 and 0.5200")
    assert wording.threshold_line(0.5, None, "it") == "a row is flagged as positive from a probability of 0.5 on"
    assert wording.threshold_line(None, None, "it") == ""


# The service


def service(project, bundle, **changes):
    from conveyor.serving.service import Service
    from conveyor.serving.settings import Settings

    given = params.load(project.path / "params.yaml", changes)
    return Service(bundle, Settings.of(given, bundle.key, bundle.digest, "0" * 40))


def test_the_service_answers_the_class_that_the_gate_measures_also_at_the_threshold(bootstrapped):
    from conveyor.serving.openapi import described

    bundle = Bundle(bootstrapped.path / "build" / "candidate")
    body = json.dumps({"rows": bundle.golden["rows"]}).encode()
    predicted = np.array(json.loads(service(bootstrapped, bundle).answer(body))["predictions"])
    exactly = float(np.sort(predicted)[len(predicted) // 2])
    counts = []
    for threshold in (1e-12, exactly, float(np.nextafter(exactly, 1)), 1 - 1e-12):
        served = service(bootstrapped, bundle, **{"gate.threshold": threshold})
        chosen = json.loads(served.answer(body))["chosen"]
        assert chosen == [bundle.asked["classes"][place] for place in tasks.chosen(predicted, threshold)]
        y = np.array([int(name) for name in chosen])  # were these the labels, the gate would see no mistake
        counts.append(int(y.sum()))
        assert measured("accuracy", y, predicted, threshold) == 1.0
        assert served.about["threshold"] == threshold
        shown = described(served, False)["components"]["schemas"]["Predictions"]["properties"]["chosen"]
        assert (
            shown["items"] == {"type": "string"} and f"from a probability of {threshold:g} on" in shown["description"]
        )
    assert counts == [len(predicted), counts[2] + 1, counts[2], 0], "the row at the threshold is positive"


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_lists_get_the_classes_of_arrays(classes):
    draw = np.random.default_rng(7)
    said = np.round(draw.random((2000, classes)), 1)  # many are equal
    said = said[:, 0] if classes == 1 else said
    for threshold in (0.0, 0.1, 0.5, 1.0):
        assert tasks.chosen_of_list(said.tolist(), threshold) == tasks.chosen(said, threshold).tolist()


def test_a_changed_threshold_is_judged_delivered_around_the_same_model_and_measured_on_its_card(bootstrapped):
    from conveyor.deploy import image
    from conveyor.serving.settings import Settings

    before = Project(bootstrapped.path)
    old = image.settings_of(before)
    bootstrapped.set_param("gate.threshold", 0.25)
    done = bootstrapped.cli("pipeline")
    assert re.search(r"train +unchanged: ", done.stdout), "the model does not depend on it"
    decision = json.loads((bootstrapped.path / "build" / "decision.json").read_text())["decision"]
    assert (decision["threshold"], decision["outcome"]) == (0.25, "keep")
    now = Project(bootstrapped.path)
    assert image.settings_of(now) != old, "an image of before is not the one to deploy"
    bundle = Bundle(bootstrapped.path / "build" / "candidate")
    laid = Settings.read(image.lay_out(now, bundle) / "app" / "settings.json")
    assert laid.threshold == 0.25
    report = (bootstrapped.path / "build" / "report.md").read_text()
    assert "- Threshold: a row is flagged as positive from a probability of 0.25 on; with 0." in report
    page = (bootstrapped.path / "build" / "report.html").read_text()
    assert "Threshold: a row is flagged as positive from a probability of 0.25 on; with 0." in page


def test_what_knows_of_no_threshold_means_one_half(bootstrapped):
    from conveyor.serving.settings import Settings

    text = (bootstrapped.path / "params.yaml").read_text()
    line = re.search(r"^  threshold: .*\n", text, re.M)[0]
    place = bootstrapped.path / "old.yaml"
    place.write_text(text.replace(line, ""))
    assert params.load(place).gate.threshold == 0.5
    made = json.loads(Settings.of(params.load(place), "k", "d", "c").to_json())
    assert made.pop("threshold") == 0.5
    place.write_text(json.dumps(made))
    assert Settings.read(place).threshold == 0.5


def test_a_decision_of_before_there_was_a_threshold_is_reported(bootstrapped):
    place = bootstrapped.path / "build" / "decision.json"
    made = json.loads(place.read_text())
    for name in ("threshold", "balance"):
        del made["decision"][name]
    place.write_text(json.dumps(made))
    bootstrapped.cli("report")
    report = (bootstrapped.path / "build" / "report.md").read_text()
    assert "**Verdict: bootstrap**" in report and "Threshold" not in report
