"""Risk: the gate's numbers are wrong, so that it promotes by chance or blocks what is fine."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

RNG = np.random.default_rng(2013)


def drawn(rows: int, noises: list[float], positives: float = 0.3, ties: bool = False):
    """Labels and the scores of models that see the same signal through noise of their own."""
    y = (RNG.random(rows) < positives).astype(np.int64)
    signal = y + RNG.normal(0, 1.0, rows)
    scores = np.stack([1 / (1 + np.exp(-(signal + RNG.normal(0, noise, rows)))) for noise in noises])
    return y, np.round(scores, 1) if ties else scores


@pytest.fixture
def rule(product):
    return product.config.Gate(metric="roc_auc", promote_when="superior", margin=0.0, confidence=0.95)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct scores", "tied scores"])
def test_every_metric_agrees_with_scikit_learn(product, ties):
    y, scores = drawn(800, [0.5, 2.0], ties=ties)
    reference = {
        "roc_auc": sklearn_metrics.roc_auc_score,
        "log_loss": sklearn_metrics.log_loss,
        "brier": sklearn_metrics.brier_score_loss,
        "accuracy": lambda y, p: sklearn_metrics.accuracy_score(y, p >= 0.5),
    }
    assert set(reference) == set(product.metrics.METRICS)
    for name, metric in product.metrics.METRICS.items():
        values, _ = metric.function(y, scores)
        assert values == pytest.approx([reference[name](y, model) for model in scores], abs=1e-12), name


@pytest.mark.parametrize("ties", [False, True], ids=["distinct scores", "tied scores"])
def test_every_interval_is_as_wide_as_the_bootstrap_says(product, ties):
    y, scores = drawn(600, [0.5, 2.0], ties=ties)
    for name, metric in product.metrics.METRICS.items():
        _, covariance = metric.function(y, scores)
        draws = []
        for _ in range(1500):
            rows = RNG.integers(0, len(y), len(y))
            values, _ = metric.function(y[rows], scores[:, rows])
            draws.append(values[0] - values[1])
        analytic = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        # 1 500 resamples know a standard deviation to about 2 %; three of those, and a little for the small sample.
        assert analytic == pytest.approx(np.std(draws), rel=0.1), name


def test_equally_good_models_are_promoted_no_more_often_than_stated(product, rule):
    outcomes = []
    for _ in range(1000):
        y, (champion, challenger) = drawn(400, [1.0, 1.0])
        outcomes.append(product.compare.decide(y, champion, challenger, rule).outcome)
    nominal = 1 - rule.confidence
    tolerance = 3 * np.sqrt(nominal * (1 - nominal) / len(outcomes))
    for outcome in ("promote", "block"):
        assert abs(outcomes.count(outcome) / len(outcomes) - nominal) < tolerance, outcome


def test_a_really_better_model_is_promoted_and_its_reverse_is_blocked(product, rule):
    promoted = blocked = 0
    for _ in range(50):
        y, (champion, challenger) = drawn(2000, [2.0, 0.5])
        promoted += product.compare.decide(y, champion, challenger, rule).outcome == "promote"
        blocked += product.compare.decide(y, challenger, champion, rule).outcome == "block"
    assert promoted == blocked == 50


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "brier", "accuracy"])
def test_the_direction_of_the_metric_is_respected(product, rule, metric):
    y, (champion, challenger) = drawn(4000, [3.0, 0.2])
    rule = rule.model_copy(update={"metric": metric})
    assert product.compare.decide(y, champion, challenger, rule).outcome == "promote"
    assert product.compare.decide(y, challenger, champion, rule).outcome == "block"


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_a_floor_of_a_loss_is_a_ceiling(product, rule, metric):
    y, (challenger,) = drawn(1000, [1.0])
    value = product.metrics.METRICS[metric].function(y, challenger[None])[0][0]
    for floor, outcome in ((value + 0.01, "bootstrap"), (value - 0.01, "block")):
        floored = rule.model_copy(update={"floors": {metric: float(floor)}})
        assert product.compare.decide(y, None, challenger, floored).outcome == outcome


def test_a_decision_is_made_of_nothing_but_its_arguments(product, rule):
    y, (champion, challenger) = drawn(1000, [1.0, 0.8])
    before = y.copy(), champion.copy(), challenger.copy()
    first, second = (product.compare.decide(y, champion, challenger, rule) for _ in range(2))
    assert first == second
    assert all(np.array_equal(a, b) for a, b in zip(before, (y, champion, challenger), strict=True))


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 10])
@pytest.mark.parametrize("classes", ["zeros", "ones", "mixed"])
def test_no_holdout_is_too_small_for_an_answer(product, rule, rows, classes):
    y = {"zeros": np.zeros(rows), "ones": np.ones(rows), "mixed": np.arange(rows) % 2}[classes].astype(np.int64)
    scores = RNG.random((2, rows))
    for champion in (None, scores[0]):
        decision = product.compare.decide(y, champion, scores[1], rule)
        if rows == 0 or len(set(y)) < 2:
            assert decision.outcome == "block"
        assert "nan" not in decision.reason and "inf " not in decision.reason
        assert product.files.to_json(decision.model_dump(mode="json"))  # it can be stored: no NaN, no infinity


def test_perfect_models_of_both_sides_can_be_compared(product, rule):
    y = np.arange(200) % 2
    perfect, other = y * 0.8 + 0.1, y * 0.6 + 0.2
    assert product.compare.decide(y, perfect, other, rule).outcome == "keep"
    assert product.compare.decide(y, 1 - perfect, perfect, rule).outcome == "promote"
