"""The gate: what is shown to be better is promoted, what is shown to be worse is blocked, the rest is kept."""

import numpy as np
import pytest

from conveyor.gate.decide import decide

RNG = np.random.default_rng(20130701)
Y = RNG.integers(0, 2, 4000)
GOOD = 1 / (1 + np.exp(-(2 * Y - 1 + RNG.normal(0, 1.5, len(Y)))))
POOR = 1 / (1 + np.exp(-(2 * Y - 1 + RNG.normal(0, 4.0, len(Y)))))


@pytest.fixture
def rule(params):
    told = {"metric": "roc_auc", "floors": {}, "margin": 0.0, "promote_when": "superior"}
    return params.gate.model_copy(update=told)


def test_without_a_champion_the_floors_decide(rule):
    assert decide(Y, None, GOOD, rule).outcome == "bootstrap"
    floored = rule.model_copy(update={"floors": {"roc_auc": 0.99}})
    assert decide(Y, None, GOOD, floored).outcome == "block"


def test_a_better_challenger_is_promoted_and_the_reverse_is_blocked(rule):
    assert decide(Y, POOR, GOOD, rule).outcome == "promote"
    assert decide(Y, GOOD, POOR, rule).outcome == "block"


def test_a_difference_that_may_be_chance_is_kept(rule):
    nudged = np.clip(GOOD + RNG.normal(0, 0.01, len(Y)), 0, 1)
    assert decide(Y, GOOD, nudged, rule).outcome == "keep"


def test_the_same_predictions_are_kept_by_either_rule(rule):
    for promote_when in ("superior", "non_inferior"):
        either = rule.model_copy(update={"promote_when": promote_when, "margin": 0.1})
        assert decide(Y, GOOD, GOOD, either).outcome == "keep"


def test_flipped_labels_turn_the_verdict(rule):
    assert decide(1 - Y, POOR, GOOD, rule).outcome == "block"
    assert decide(1 - Y, GOOD, POOR, rule).outcome == "promote"


def test_a_margin_asks_for_more_than_better(rule):
    gain = next(m.gain for m in decide(Y, POOR, GOOD, rule).metrics if m.name == rule.metric)
    assert decide(Y, POOR, GOOD, rule.model_copy(update={"margin": gain})).outcome == "keep"


def test_non_inferior_lets_a_loss_within_the_margin_through(rule):
    nudged = np.clip(GOOD + RNG.normal(0, 0.05, len(Y)), 0, 1)
    lenient = rule.model_copy(update={"promote_when": "non_inferior", "margin": 0.05})
    assert decide(Y, GOOD, nudged, lenient).outcome == "promote"
    assert decide(Y, GOOD, POOR, lenient).outcome == "block"


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1.5, -0.1])
def test_a_prediction_that_is_no_probability_never_promotes(rule, broken):
    spoilt = GOOD.copy()
    spoilt[3] = broken
    assert decide(Y, POOR, spoilt, rule).outcome == "block"
    assert decide(Y, None, spoilt, rule).outcome == "block"
    assert decide(Y, spoilt, GOOD, rule).outcome == "incomparable"


def test_a_holdout_of_one_class_or_no_row_is_blocked(rule):
    decision = decide(np.ones(len(Y), dtype=int), POOR, GOOD, rule)
    assert decision.outcome == "block"
    assert decision.reason == "roc_auc cannot be computed: the 4000 rows hold only one class"
    assert decide(Y[:0], POOR[:0], GOOD[:0], rule).outcome == "block"
