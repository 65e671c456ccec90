"""Risk: rows are looked at again and again until they show what is not so."""

import numpy as np
import pytest

from conveyor.gate.metrics import METRICS
from conveyor.watch import evidence


def test_the_levels_of_all_looks_are_no_more_than_the_whole():
    assert [look.blocks for look in evidence.looks(120)] == [14, 28, 56, 112]
    assert sum(look.level for look in evidence.looks(10**6)) < evidence.LEVEL
    assert [look.blocks for look in evidence.looks_of_probation(91, 24)] == [14, 28, 56, 91]
    assert sum(look.level for look in evidence.looks_of_probation(91, 24)) == pytest.approx(evidence.LEVEL)


@pytest.mark.parametrize(("blocks", "due"), [(13, 0), (14, 1), (27, 1), (28, 2)])
def test_a_look_is_due_when_its_blocks_are_complete(blocks, due):
    assert len(evidence.looks(blocks)) == len(evidence.looks_of_probation(blocks, 24)) == due


@pytest.mark.parametrize(("hours", "sizes"), [(6, [56, 112, 224, 364]), (168, [13]), (24 * 14, [])])
def test_a_probation_lasts_thirteen_weeks_whatever_a_block_is_and_has_no_look_of_too_few(hours, sizes):
    looks = evidence.looks_of_probation(10**6, hours)
    assert [look.blocks for look in looks] == sizes
    assert sum(look.level for look in looks) == pytest.approx(evidence.LEVEL if sizes else 0)


def paired(generator, days: int, better: float, rows: int = 50):
    """Labels, predictions of two models and days; one of the two loses less by about ``better`` nats."""
    number = np.repeat(np.arange(days), rows)
    truth = generator.normal(size=len(number)) + generator.normal(size=days)[number]  # days are alike
    y = (generator.random(len(number)) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    noise = np.sqrt(8 * better) + 0.5
    ours, theirs = (1 / (1 + np.exp(-truth - s * generator.normal(size=len(number)))) for s in (0.5, noise))
    return y, ours, theirs, number


def decided(generator, better: float, margin: float = 0.0) -> str:
    y, ours, theirs, number = paired(generator, 91, better)
    for look in evidence.looks_of_probation(91, 24):
        seen = number < look.blocks
        found = evidence.shown(METRICS["log_loss"], y[seen], ours[seen], theirs[seen], number[seen], look.level)
        state = evidence.judged(found, margin)
        if state != "undecided":
            return state
    return "undecided"


def test_of_equal_models_at_most_a_share_is_said_to_be_worse_however_often_one_looks():
    """LEVEL for each bound: of 400 champions as good as the one before, harm is shown of 20, give or take 9."""
    generator = np.random.default_rng(20)
    states = [decided(generator, 0.0) for _ in range(400)]
    assert states.count("harmed") <= 20 + 9 and states.count("confirmed") <= 20 + 9
    assert states.count("undecided") >= 350


def test_a_better_model_is_confirmed_and_a_worse_one_is_found():
    generator = np.random.default_rng(21)
    assert [decided(generator, 0.05) for _ in range(20)].count("confirmed") == 20
    y, ours, theirs, number = paired(generator, 91, 0.05)
    look = evidence.looks_of_probation(91, 24)[-1]
    harm = evidence.shown(METRICS["log_loss"], y, theirs, ours, number, look.level)
    assert evidence.judged(harm, 0.0) == "harmed" and harm.gain < 0 and harm.high < 0


def test_time_alone_confirms_nothing():
    """A difference that rows do not show stays undecided, also at the last look."""
    generator = np.random.default_rng(22)
    y, ours, _, number = paired(generator, 91, 0.0)
    same = evidence.shown(METRICS["log_loss"], y, ours, ours.copy(), number, 0.01)
    assert (same.gain, same.low, same.high) == (0, 0, 0)  # a model that answers the same is no worse, for sure
    few = number < 9
    none = evidence.shown(METRICS["log_loss"], y[few], ours[few], 1 - ours[few], number[few], 0.01)
    assert none.low is None and evidence.judged(none, 0.001) == "undecided" and none.blocks == 9
