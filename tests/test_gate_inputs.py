"""Risk: labels or predictions of an odd form end in an exception, or in a verdict whose reason is not true."""

import re

import numpy as np
import pandas as pd
import pytest

from conveyor.core.params import Gate
from conveyor.gate.decide import decide


def rule(metric: str) -> Gate:
    return Gate(metric=metric, promote_when="superior", margin=0.0, confidence=0.95)


RULE = rule("roc_auc")


# Whatever is given, there is a decision, and its reason is true

ODD = {
    "text": (lambda y: np.where(y == 1, "late", "in time"), "the labels are no list of numbers"),
    "minus one": (lambda y: 2 * y - 1, "the labels are no zeros and ones: there is -1"),
    "halves": (lambda y: y / 2, "the labels are no zeros and ones: there is 0.5"),
    "huge": (lambda y: y * 1e300, r"the labels are no zeros and ones: there is 1e\+300"),
    "missing": (lambda y: np.where(np.arange(len(y)) < 3, np.nan, y), "3 of 400 labels are missing or infinite"),
    "nothing": (lambda y: [None] * len(y), "400 of 400 labels are missing or infinite"),
    "more digits than a number has": (lambda y: [10**400] * len(y), "the labels are no list of numbers"),
    "a column": (lambda y: y[:, None], r"the labels have the shape \(400, 1\), where a list is needed"),
    "ragged": (lambda y: [[1], [1, 2]] * 200, "the labels are no list of numbers"),
}


def two_models():
    generator = np.random.default_rng(5)
    y = generator.integers(0, 2, 400)
    weak = generator.random(400)
    return y, weak, np.clip(weak * 0.5 + y * 0.3, 0, 1)


@pytest.mark.parametrize("make, reason", ODD.values(), ids=ODD)
def test_labels_that_cannot_be_judged_are_a_reason_and_no_exception(make, reason):
    y, champion, challenger = two_models()
    for models in ((champion, challenger), (challenger, champion), (None, challenger)):
        made = decide(make(y), *models, RULE)
        assert made.outcome == "block" and re.fullmatch(reason, made.reason), made.reason


@pytest.mark.parametrize(
    "make", [np.ndarray.tolist, lambda y: y == 1, lambda y: y.astype(float), lambda y: y.astype(str)]
)
def test_labels_in_another_form_are_the_same_labels(make):
    y, champion, challenger = two_models()
    assert decide(make(y), champion, challenger, RULE) == decide(y, champion, challenger, RULE)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda p: p[:10], r"the predictions have the shape \(10,\), where \(400,\) is needed"),
        (
            lambda p: np.stack([1 - p, p], axis=1),
            r"the predictions have the shape \(400, 2\), where \(400,\) is needed",
        ),
        (lambda p: ["x"] * len(p), "the predictions are no numbers"),
    ],
)
def test_predictions_of_another_shape_block_a_challenger_and_make_a_champion_incomparable(change, reason):
    y, champion, challenger = two_models()
    made = decide(y, champion, change(challenger), RULE)
    assert made.outcome == "block" and re.fullmatch(reason, made.reason)
    made = decide(y, change(champion), challenger, RULE)
    assert made.outcome == "incomparable"
    assert re.fullmatch(f"the champion cannot score these rows: {reason}", made.reason)


def test_groups_and_segments_of_other_rows_are_a_reason():
    y, champion, challenger = two_models()
    made = decide(y, champion, challenger, RULE, groups=np.zeros(7, dtype=int))
    assert (made.outcome, made.reason) == ("block", "there are groups for 7 rows, and labels for 400")
    made = decide(y, champion, challenger, RULE, segments=pd.DataFrame({"origin": ["a"] * 9}))
    assert (made.outcome, made.reason) == ("block", "there are segments for 9 rows, and labels for 400")


def test_a_model_times_a_number_near_one_is_the_same_model():
    generator = np.random.default_rng(6)
    y, probabilities = generator.integers(0, 3, 300), generator.dirichlet([1, 1, 1], 300)
    made = decide(y, probabilities, probabilities * 1.00099, rule("log_loss"), task="multiclass")
    assert (made.outcome, made.reason) == ("keep", "the two models predict the same on 300 rows")


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_two_regressions_are_equal_by_the_scale_of_their_target(scale):
    y = np.random.default_rng(7).normal(0, scale, 300)
    of_numbers = rule("rmse")
    rounded = decide(y, y * 0.9, y * 0.9 + scale * 1e-13, of_numbers, task="regression")
    assert rounded.reason == "the two models predict the same on 300 rows"
    other = decide(y, y * 0.5, y * 0.9, of_numbers, task="regression")
    assert other.outcome == "promote", other.reason


def test_a_number_far_from_all_others_makes_no_two_models_equal():
    """A gap mark such as the largest integer is a value of the target like any."""
    y = np.append(np.random.default_rng(3).normal(size=199), 9.2e18)
    made = decide(y, 0 * y, np.append(y[:-1], 0), rule("mae"), task="regression")
    gain = next(each.gain for each in made.metrics if each.name == "mae")
    assert "predict the same" not in made.reason and gain > 0.5


def test_numbers_that_are_too_large_to_square_are_no_single_value():
    y = np.random.default_rng(3).normal(size=100) * 1e200
    made = decide(y, y, 1.1 * y, rule("rmse"), task="regression")
    assert (made.outcome, made.reason) == ("block", "rmse cannot be computed: it is no finite number on 100 rows")


@pytest.mark.parametrize("calls", [1, 2, 3, 5, 8])
def test_a_metric_at_the_end_of_its_range_is_measured(calls):
    """All positive calls are right: precision is one."""
    generator = np.random.default_rng(0)
    y = np.zeros(400, dtype=int)
    y[generator.choice(400, 60, replace=False)] = 1
    champion, challenger = generator.random(400) * 0.49, generator.random(400) * 0.49
    challenger[np.flatnonzero(y)[:calls]] = 0.8
    for group in (None, np.arange(400) // 10):
        found = {m.name: m for m in decide(y, champion, challenger, RULE, groups=group).metrics}
        assert found["precision"].challenger == 1 and found["recall"].challenger_low is not None


@pytest.mark.parametrize("wrong", [1, 2, 5, 95, 99])
def test_an_interval_stays_within_the_range_of_its_metric(wrong):
    """An accuracy of 1.009 is none."""
    y = np.arange(100) % 2
    said = np.where(np.arange(100) < wrong, 1 - y, y) * 0.9 + 0.05
    bounded = {"roc_auc", "average_precision", "brier", "accuracy", "balanced_accuracy", "precision", "recall", "f1"}
    for group in (None, np.arange(100) // 4):
        found = {m.name: m for m in decide(y, None, said, RULE, groups=group).metrics}
        ends = [(m.challenger_low, m.challenger_high) for name, m in found.items() if name in bounded]
        known = [(low, high) for low, high in ends if low is not None]
        assert bounded <= set(found) and len(known) > 4
        assert all(0 <= low <= high <= 1 for low, high in known), known


@pytest.mark.parametrize("metric", ["log_loss", "brier", "accuracy"])
@pytest.mark.parametrize("positive", [0, 2, 9])
def test_rows_of_one_class_show_nothing_because_the_other_class_would_pay(metric, positive):
    said = np.full(200, 0.55) + 0.01 * np.random.default_rng(3).random(200)
    y = (np.arange(200) < positive).astype(int)
    for group in (None, np.arange(200) // 4):
        made = decide(y, said, said / 2, rule(metric), groups=group)
        assert made.outcome == "keep" and "too few rows to tell" in made.reason


def test_models_of_other_classes_cannot_be_compared():
    generator = np.random.default_rng(1)
    y, three, four = generator.integers(0, 3, 60), generator.dirichlet([1] * 3, 60), generator.dirichlet([1] * 4, 60)
    for champion, challenger, said in ((three, four, "3 classes, and the challenger 4"), (four, three, "4 classes, ")):
        made = decide(y, champion, challenger, rule("log_loss"), task="multiclass")
        assert made.outcome == "incomparable" and said in made.reason
    merely = Gate(metric="log_loss", promote_when="non_inferior", margin=5.0, confidence=0.95)
    made = decide(y, three, three[::-1], merely, task="multiclass", anchor=four)
    assert made.anchor_gain is None


def test_a_best_champion_that_is_infinitely_bad_is_no_exception():
    y = np.random.default_rng(2).normal(size=60)
    merely = Gate(metric="rmse", promote_when="non_inferior", margin=5.0, confidence=0.95)
    made = decide(y, y + 1, 0.9 * y, merely, task="regression", anchor=np.full(60, 1e200))
    assert made.outcome == "promote" and made.anchor_gain is None


@pytest.mark.parametrize(
    "groups", [[None, 1] * 200, np.zeros((400, 2)), [[1], [1, 2]] * 200, 7, "x" * 7, np.array(["a", 1] * 200, object)]
)
def test_groups_of_an_odd_form_are_a_reason(groups):
    made = decide(*two_models(), RULE, groups=groups)
    assert made.outcome == "block" and re.match("(the groups|there are groups) ", made.reason)
