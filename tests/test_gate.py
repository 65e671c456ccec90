"""Risk: the gate's numbers are wrong, so that it promotes by chance or blocks what is fine."""

from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from conveyor.core.errors import Misuse
from conveyor.core.files import to_json
from conveyor.core.params import Gate, Guards
from conveyor.gate import decide as conveyor_decide
from conveyor.gate import guards as conveyor_guards
from conveyor.gate import metrics as conveyor_metrics
from conveyor.gate import resampling
from conveyor.gate.guards import CALIBRATION, Guard, holm
from conveyor.gate.intervals import by_bootstrap
from conveyor.gate.metrics import METRICS as UNBOUND
from conveyor.gate.metrics import Metric, at
from conveyor.gate.resampling import CHUNK, resamples

SEED = 2013
RNG = np.random.default_rng(SEED)
REFERENCE = {
    "binary": {
        "roc_auc": sklearn_metrics.roc_auc_score,
        "average_precision": sklearn_metrics.average_precision_score,
        "log_loss": sklearn_metrics.log_loss,
        "brier": sklearn_metrics.brier_score_loss,
        "accuracy": lambda y, p: sklearn_metrics.accuracy_score(y, p >= 0.5),
        "balanced_accuracy": lambda y, p: sklearn_metrics.balanced_accuracy_score(y, p >= 0.5),
        "precision": lambda y, p: sklearn_metrics.precision_score(y, p >= 0.5),
        "recall": lambda y, p: sklearn_metrics.recall_score(y, p >= 0.5),
        "f1": lambda y, p: sklearn_metrics.f1_score(y, p >= 0.5),
    },
    "multiclass": {
        "log_loss": sklearn_metrics.log_loss,
        "brier": lambda y, p: np.mean(np.sum((p - np.eye(p.shape[1])[y]) ** 2, axis=1)),
        "accuracy": lambda y, p: sklearn_metrics.accuracy_score(y, p.argmax(axis=1)),
        "balanced_accuracy": lambda y, p: sklearn_metrics.balanced_accuracy_score(y, p.argmax(axis=1)),
        "precision": lambda y, p: sklearn_metrics.precision_score(y, p.argmax(axis=1), average="macro"),
        "recall": lambda y, p: sklearn_metrics.recall_score(y, p.argmax(axis=1), average="macro"),
        "f1": lambda y, p: sklearn_metrics.f1_score(y, p.argmax(axis=1), average="macro"),
    },
    "regression": {
        "rmse": sklearn_metrics.root_mean_squared_error,
        "mae": sklearn_metrics.mean_absolute_error,
        "r2": sklearn_metrics.r2_score,
    },
}
THRESHOLD = 0.5
METRICS = {name: at(metric, THRESHOLD) for name, metric in UNBOUND.items()}
TASKS = list(REFERENCE)
EACH = [(task, metric) for task, metrics in REFERENCE.items() for metric in metrics]


@pytest.fixture(autouse=True)
def same_draws(monkeypatch):
    """A test draws the same, whichever ran before it."""
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(SEED))


def drawn(rows: int, noises: list[float], positives: float = 0.3, ties: bool = False):
    """Labels and the scores of models that see the same signal through noise of their own."""
    y = (RNG.random(rows) < positives).astype(np.int64)
    signal = y + RNG.normal(0, 1.0, rows)
    scores = np.stack([1 / (1 + np.exp(-(signal + RNG.normal(0, noise, rows)))) for noise in noises])
    return y, np.round(scores, 1) if ties else scores


def drawn_for(task: str, rows: int, noises: list[float], ties: bool = False):
    """The same for each task."""
    if task == "binary":
        return drawn(rows, noises, ties=ties)
    if task == "regression":
        y = RNG.normal(50, 10, rows)
        return y, np.stack([y + RNG.normal(0, 5, rows) + RNG.normal(0, 5 * noise, rows) for noise in noises])
    y = RNG.integers(0, 3, rows)
    signal = 2 * np.eye(3)[y] + RNG.normal(0, 1, (rows, 3))
    scores = np.exp(np.stack([signal + RNG.normal(0, noise, (rows, 3)) for noise in noises]))
    return y, scores / scores.sum(axis=2, keepdims=True)


@pytest.fixture
def rule():
    guards = Guards(calibration_margin=None)
    return Gate(metric="roc_auc", promote_when="superior", margin=0.0, confidence=0.95, guards=guards)


@pytest.fixture
def decide():
    """Only what the rule names is measured: thousands of decisions want no report."""
    return partial(conveyor_decide.decide, every_metric=False)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("ties", [False, True], ids=["distinct scores", "tied scores"])
def test_every_metric_agrees_with_scikit_learn(task, ties):
    y, scores = drawn_for(task, 800, [0.5, 2.0], ties=ties)
    assert set(REFERENCE[task]) == set(conveyor_metrics.of_task(task))
    for name in REFERENCE[task]:
        for model in scores:
            found = conveyor_metrics.value(METRICS[name], y, model)
            assert found == pytest.approx(REFERENCE[task][name](y, model), abs=1e-9), name


@pytest.mark.parametrize("grouped", [False, True], ids=["rows", "groups"])
@pytest.mark.parametrize("task, name", EACH)
def test_every_interval_is_as_wide_as_an_ordinary_bootstrap_says(task, name, grouped):
    y, scores = drawn_for(task, 600, [0.5, 2.0])
    groups = np.repeat(np.arange(200), 3) if grouped else None
    if grouped:  # rows of a group are nearly the same row
        first = np.arange(600) // 3 * 3
        y, scores = y[first], scores[:, first]
    metric = METRICS[name]
    spread = metric.way(metric.function, y, list(scores), groups).difference
    draws = []
    for _ in range(1000):
        if grouped:
            rows = (RNG.integers(0, 200, 200)[:, None] * 3 + np.arange(3)).ravel()
        else:
            rows = RNG.integers(0, len(y), len(y))
        one, two = (conveyor_metrics.value(metric, y[rows], model[rows]) for model in scores)
        draws.append(one - two)
    # 1 000 resamples know a standard deviation to about 2.3 %; the rest is for the small sample.
    assert spread.error == pytest.approx(np.std(draws), rel=0.12)
    if spread.draws is not None:
        assert spread.interval(0.95) == pytest.approx(np.quantile(draws, [0.05, 0.95]), abs=0.25 * spread.error)


def test_the_error_of_the_area_of_clustered_rows_is_delongs_where_each_row_is_its_own_group():
    y, scores = drawn(500, [0.5, 2.0])
    metric = METRICS["roc_auc"]
    alone = metric.way(metric.function, y, list(scores), None).difference
    grouped = metric.way(metric.function, y, list(scores), np.arange(500)).difference
    assert grouped.serial == 0 and grouped.freedom == alone.freedom
    # Each pair is left out once for either of its rows: a share of 1 / 500 of the error.
    assert (alone.value, alone.error) == pytest.approx((grouped.value, grouped.error), rel=5e-3)


def test_resamples_are_the_same_each_time_and_draw_a_group_as_a_whole():
    groups = RNG.integers(0, 40, 300)
    first = np.concatenate(list(resampling.resamples(300, groups)))
    assert first.shape == (resampling.RESAMPLES, 300) and first.mean() == pytest.approx(1, abs=0.02)
    assert np.array_equal(first, np.concatenate(list(resampling.resamples(300, groups))))
    drawn_together = [first[:, groups == group] for group in range(40)]
    assert all((rows == rows[:, :1]).all() for rows in drawn_together)
    counts = np.bincount(np.concatenate(list(resampling.resamples(300, None))).ravel(), minlength=6)
    expected = np.exp(-1) / np.array([1, 1, 2, 6, 24, 120])
    assert counts[:6] / counts.sum() == pytest.approx(expected, abs=2e-3)


def test_equally_good_models_are_promoted_no_more_often_than_stated_and_hardly_ever_blocked(decide, rule):
    outcomes = []
    for _ in range(1000):
        y, (champion, challenger) = drawn(400, [1.0, 1.0])
        outcomes.append(decide(y, champion, challenger, rule).outcome)
    nominal, harmless = 1 - rule.confidence, (1 - rule.guards.confidence) / 2
    assert abs(outcomes.count("promote") / 1000 - nominal) < 3 * np.sqrt(nominal * (1 - nominal) / 1000)
    assert outcomes.count("block") / 1000 < harmless + 3 * np.sqrt(harmless * (1 - harmless) / 1000)


def test_a_really_better_model_is_promoted_and_its_reverse_is_blocked(decide, rule):
    promoted = blocked = 0
    for _ in range(50):
        y, (champion, challenger) = drawn(2000, [2.0, 0.5])
        promoted += decide(y, champion, challenger, rule).outcome == "promote"
        blocked += decide(y, challenger, champion, rule).outcome == "block"
    assert promoted == blocked == 50


@pytest.mark.parametrize("task, metric", EACH)
def test_the_direction_of_the_metric_is_respected(decide, rule, task, metric):
    y, (champion, challenger) = drawn_for(task, 4000, [3.0, 0.2])
    rule = rule.model_copy(update={"metric": metric})
    assert decide(y, champion, challenger, rule, task=task).outcome == "promote"
    assert decide(y, challenger, champion, rule, task=task).outcome == "block"


@pytest.mark.parametrize("promote_when, outcome", [("superior", "keep"), ("non_inferior", "promote")])
def test_a_model_that_is_about_as_good_passes_only_the_rule_that_asks_for_no_more(decide, rule, promote_when, outcome):
    y, (champion, challenger) = drawn(20_000, [1.0, 1.0])
    either = rule.model_copy(update={"promote_when": promote_when, "margin": 0.05})
    assert decide(y, champion, challenger, either).outcome == outcome


def test_three_rows_of_disagreement_show_nothing(decide, rule):
    y = np.arange(400) % 2
    champion = y * 0.8 + 0.1
    champion[:3] = 1 - champion[:3]  # the champion is wrong in three rows, the challenger in none
    rule = rule.model_copy(update={"metric": "accuracy"})
    decision = decide(y, champion, y * 0.8 + 0.1, rule)
    assert decision.outcome == "keep" and "not shown to be better" in decision.reason


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "f1"])
def test_two_positives_in_the_holdout_promote_and_block_nothing_by_luck(decide, rule, metric):
    rule, outcomes = rule.model_copy(update={"metric": metric}), []
    for _ in range(200):
        y, (champion, challenger) = drawn(200, [1.0, 1.0], positives=0)
        y[:2] = 1
        outcomes.append(decide(y, champion, challenger, rule).outcome)
    assert outcomes.count("promote") <= 200 * 0.05 + 3 * np.sqrt(200 * 0.05 * 0.95) and outcomes.count("block") <= 4


ONES = np.ones(3, dtype=np.int64)
TOO_FEW = {
    "accuracy of three rows": ("accuracy", "binary", ONES, np.full(3, 0.1), np.full(3, 0.9)),
    "area with two positives": ("roc_auc", "binary", np.arange(502) < 2, np.full(502, 0.5), np.arange(502) < 2),
    "error of two numbers": ("mae", "regression", np.array([1.0, 2.0]), np.array([2.0, 3.0]), np.array([1.5, 2.5])),
}


@pytest.mark.parametrize("case", TOO_FEW)
def test_a_handful_of_rows_shows_nothing_however_much_they_agree(decide, rule, case):
    metric, task, y, champion, challenger = TOO_FEW[case]
    y = y.astype(np.float64 if task == "regression" else np.int64)
    rule = rule.model_copy(update={"metric": metric})
    for models in ((champion, challenger), (challenger, champion)):
        decision = decide(y, *(np.asarray(model, dtype=np.float64) for model in models), rule, task=task)
        assert (decision.outcome, "too few rows to tell" in decision.reason) == ("keep", True)
    assert decide(y, None, np.asarray(challenger, dtype=np.float64), rule, task=task).outcome == "block"


def test_models_that_differ_by_rounding_alone_predict_the_same(decide, rule):
    y, (champion, _) = drawn(500, [1.0, 1.0])
    for promote_when in ("superior", "non_inferior"):
        either = rule.model_copy(update={"metric": "log_loss", "promote_when": promote_when, "margin": 0.01})
        assert decide(y, champion, champion * (1 - 1e-15), either).reason.startswith("the two models predict the same")


def test_rows_that_repeat_each_other_are_no_new_evidence(decide, rule):
    """The same 60 rows, each twenty times: without the groups it looks like 1 200 rows."""
    wrong = {"rows": 0, "groups": 0}
    for _ in range(200):
        y, scores = drawn(60, [1.0, 1.0], positives=0.5)
        y, (champion, challenger) = y.repeat(20), scores.repeat(20, axis=1)
        for kind, groups in (("rows", None), ("groups", np.arange(1200) // 20)):
            wrong[kind] += decide(y, champion, challenger, rule, groups=groups).outcome == "promote"
    assert wrong["groups"] <= 200 * 0.05 + 3 * np.sqrt(200 * 0.05 * 0.95) < wrong["rows"]


# Guards


def segmented(rows: int, harmed: float):
    """A champion, and a challenger that is better but for one of eight segments, where noise drowns it."""
    y = RNG.integers(0, 2, rows)
    segment = np.array([*"abcdefg", "west"], dtype=object)[np.arange(rows) % 8]
    signal = y + RNG.normal(0, 0.7, rows)
    champion, challenger = signal + RNG.normal(0, 1.0, rows), signal + RNG.normal(0, 0.5, rows)
    challenger = np.where(segment == "west", challenger + RNG.normal(0, harmed, rows), challenger)
    squeezed = [1 / (1 + np.exp(-2 * (scores - 0.5))) for scores in (champion, challenger)]
    return y, *squeezed, pd.DataFrame({"side": "= " + segment})


def test_a_segment_that_loses_blocks_what_wins_on_average(decide, rule):
    y, champion, challenger, segments = segmented(16_000, harmed=3.0)
    assert decide(y, champion, challenger, rule).outcome == "promote"
    decision = decide(y, champion, challenger, rule, segments=segments)
    assert decision.outcome == "block"
    assert decision.reason.startswith("shown to be worse in the segment side = west by more than 0.02: roc_auc 0.")
    assert [(guard.name, guard.holds) for guard in decision.guards] == [
        *((f"side = {name}", True) for name in "abcdefg"),
        ("side = west", False),
    ]


def test_a_segment_of_few_rows_is_not_judged(decide, rule):
    y, champion, challenger, segments = segmented(640, harmed=9.0)
    assert len(segments) / 8 < rule.guards.min_rows
    assert decide(y, champion, challenger, rule, segments=segments).guards == ()


def test_probabilities_that_cannot_be_taken_at_their_word_any_more_are_blocked(decide, rule):
    """A better ranking with all probabilities pushed up: the area does not see it."""
    y = (RNG.random(20_000) < 1 / (1 + np.exp(-(z := RNG.normal(0, 1.5, 20_000))))).astype(np.int64)
    champion = 1 / (1 + np.exp(-(z + RNG.normal(0, 0.8, len(z)))))
    pushed = (1 / (1 + np.exp(-z))) ** 0.5
    assert decide(y, champion, pushed, rule).outcome == "promote"
    guarded = rule.model_copy(update={"guards": Guards(calibration_margin=0.02)})
    decision = decide(y, champion, pushed, guarded)
    assert decision.outcome == "block" and "shown to be worse calibrated: error 0." in decision.reason
    assert decide(y, pushed, champion, rule).outcome == "block"  # the reverse is better calibrated and ranks worse


@pytest.mark.parametrize("task", TASKS)
def test_the_calibration_error_of_a_calibrated_model_is_zero_on_average(task):
    errors = []
    for _ in range(200):
        if task == "binary":
            said = RNG.random(500)
            y = (RNG.random(500) < said).astype(np.int64)
        elif task == "multiclass":
            said = RNG.dirichlet([1, 1, 1], 500)
            y = (RNG.random((500, 1)) > said.cumsum(axis=1)).sum(axis=1).clip(0, 2)
        else:
            said = RNG.normal(0, 2, 500)
            y = said + RNG.normal(0, 1, 500)
        errors.append(conveyor_metrics.value(CALIBRATION, y, said))
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors))


def test_many_guards_together_block_a_harmless_change_no_more_often_than_stated(decide, rule):
    guards = Guards(segment_margin=0, min_rows=20, calibration_margin=0)
    rule = rule.model_copy(update={"guards": guards})
    blocked, tries = 0, 300
    for _ in range(tries):
        y, (champion, challenger) = drawn(1000, [1.0, 1.0])
        segments = pd.DataFrame({"a": np.arange(1000) % 5, "b": RNG.integers(0, 5, 1000)}).astype(str)
        blocked += decide(y, champion, challenger, rule, segments=segments).outcome == "block"
    assert blocked / tries <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / tries)


def test_holm_rejects_as_its_definition_says():
    guard = Guard(kind="segment", name="a", rows=9, champion=0, challenger=0, gain=0, margin=0, p=1.0)
    family = [guard.model_copy(update={"p": p}) for p in (0.03, 0.001, 0.013, 0.9)]
    assert [g.holds for g in holm(family, 0.05)] == [True, False, False, True]
    assert [g.holds for g in holm(family, 0.06)] == [False, False, False, True]


def test_numbers_of_many_values_become_bands_and_gaps_a_segment_of_their_own():
    frame = pd.DataFrame({"n": [*range(100), None], "few": [1, 2] * 50 + [1], "word": ["a"] * 100 + [None]})
    found = conveyor_guards.segment(frame, ("n", "few", "word"))
    assert dict(found["n"].value_counts()) == {
        "up to 24.75": 25,
        "24.75 to 49.5": 25,
        "49.5 to 74.25": 25,
        "above 74.25": 25,
        "missing": 1,
    }
    assert set(found["few"]) == {"= 1", "= 2"} and set(found["word"]) == {"= a", "missing"}


# Bad input


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_a_floor_of_a_loss_is_a_ceiling(rule, metric):
    y, (challenger,) = drawn(1000, [1.0])
    value = conveyor_metrics.value(METRICS[metric], y, challenger)
    for floor, outcome in ((value + 0.01, "bootstrap"), (value - 0.01, "block")):
        floored = rule.model_copy(update={"floors": {metric: float(floor)}})
        assert conveyor_decide.decide(y, None, challenger, floored).outcome == outcome


def test_a_decision_is_made_of_nothing_but_its_arguments(decide, rule):
    y, (champion, challenger) = drawn(1000, [1.0, 0.8])
    before = y.copy(), champion.copy(), challenger.copy()
    first, second = (decide(y, champion, challenger, rule) for _ in range(2))
    assert first == second
    assert all(np.array_equal(a, b) for a, b in zip(before, (y, champion, challenger), strict=True))


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 10])
@pytest.mark.parametrize("classes", ["zeros", "ones", "mixed"])
@pytest.mark.parametrize("metric", REFERENCE["binary"])
def test_no_holdout_is_too_small_for_an_answer(decide, rule, rows, classes, metric):
    y = {"zeros": np.zeros(rows), "ones": np.ones(rows), "mixed": np.arange(rows) % 2}[classes].astype(np.int64)
    scores = RNG.random((2, rows))
    rule = rule.model_copy(update={"metric": metric})
    for champion in (None, scores[0]):
        decision = decide(y, champion, scores[1], rule, segments=pd.DataFrame({"all": ["x"] * rows}))
        if rows == 0 or (len(set(y)) < 2 and metric == "roc_auc"):
            assert decision.outcome == "block"
        if champion is not None and len(y) < 3:
            assert decision.outcome in ("block", "keep")
        assert "nan" not in decision.reason and "inf " not in decision.reason
        assert to_json(decision.model_dump(mode="json"))  # it can be stored: no NaN, no infinity


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_never_promotes(decide, rule, task, bad):
    y, (champion, challenger) = drawn_for(task, 500, [3.0, 0.1])
    rule = rule.model_copy(update={"metric": list(REFERENCE[task])[0]})
    for spoilt in (challenger.copy(), np.full_like(challenger, bad)):
        spoilt[3] = bad
        assert decide(y, champion, spoilt, rule, task=task).outcome == "block"
        assert decide(y, None, spoilt, rule, task=task).outcome == "block"
        assert decide(y, spoilt, challenger, rule, task=task).outcome == "incomparable"


def test_rows_of_probabilities_that_do_not_add_up_are_refused(decide, rule):
    y, (champion, challenger) = drawn_for("multiclass", 500, [1.0, 1.0])
    rule = rule.model_copy(update={"metric": "accuracy"})
    decision = decide(y, champion, challenger * 0.9, rule, task="multiclass")
    assert decision.reason == "the challenger gave no probability for 500 of 500 rows"


def test_a_constant_target_cannot_be_explained(decide, rule):
    y, predicted = np.full(100, 3.0), RNG.normal(3, 1, (2, 100))
    rule = rule.model_copy(update={"metric": "r2"})
    assert (
        decide(y, *predicted, rule, task="regression").reason
        == "r2 cannot be computed: the 100 rows hold only one value"
    )


def test_a_million_rows_are_decided_in_seconds_and_bounded_memory(decide, rule):
    import resource
    import time

    y, (champion, challenger) = drawn(1_000_000, [1.0, 0.9])
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    metric = METRICS["roc_auc"]
    spread = metric.way(metric.function, y, [challenger, champion], None).difference
    weights = next(resamples(1_000_000, None))
    assert spread.interval(0.95)[0] > 0 and weights.nbytes <= CHUNK
    assert time.monotonic() - began < 60
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 1_000_000  # kilobytes


def test_perfect_models_of_both_sides_can_be_compared(decide, rule):
    y = np.arange(200) % 2
    perfect, other = y * 0.8 + 0.1, y * 0.6 + 0.2
    assert decide(y, perfect, other, rule).outcome == "keep"
    assert decide(y, 1 - perfect, perfect, rule).outcome == "promote"


def test_a_metric_of_ones_own_is_judged_like_those_that_are_shipped(decide, rule, monkeypatch):
    def specificity(y, predicted, threshold):
        negative = y == 0
        found = negative & (predicted < threshold)
        return lambda weights: weights[:, found].sum(axis=1) / weights[:, negative].sum(axis=1)

    module = ModuleType("a_team.metrics")
    module.SPECIFICITY = Metric(specificity, by_bootstrap, higher_is_better=True, by_threshold=True)
    monkeypatch.setattr(conveyor_metrics, "imported", lambda name, key: (Path(f"{name}.py"), module))
    conveyor_metrics.add({"specificity": "a_team.metrics:SPECIFICITY"})
    assert "specificity" in conveyor_metrics.of_task("binary")
    y, (champion, challenger) = drawn(4000, [3.0, 0.2])
    own = rule.model_copy(update={"metric": "specificity", "threshold": 0.7})
    found = np.mean(challenger[y == 0] < 0.7)
    assert decide(y, champion, challenger, own).reason.startswith(f"shown to be better: specificity {found:.4f} ")
    message = "own_metrics.specificity: specificity of a_team.metrics.py is no Metric of conveyor.api"
    with pytest.raises(Misuse, match=message):
        conveyor_metrics.add({"specificity": "a_team.metrics:specificity"})
    assert "specificity" not in conveyor_metrics.METRICS
