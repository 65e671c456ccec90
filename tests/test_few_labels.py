"""Risk: where few predictions have a label, the live loss is told with more certainty than there is."""

import numpy as np
import pytest

from conveyor.gate.metrics import log_loss
from conveyor.gate.spread import ENDS, from_left_out
from conveyor.watch import few_labels
from conveyor.watch.explained import NO_LOSS, Explained
from conveyor.watch.wording import few

DAYS, ROWS, SETS = 28, 60, 300


def world(seed: int, days: int = DAYS, off: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions of days that differ by chance, the loss of each row, and its day; ``off``: how wrong the model is."""
    draw = np.random.default_rng(seed)
    weather, more = (0.3 * np.repeat(draw.normal(size=days), ROWS) for _ in range(2))
    score = 1.5 * draw.normal(size=days * ROWS) - 1 + weather
    said, true = (1 / (1 + np.exp(-each)) for each in (score, score + off + 0.7 * more))
    loss = log_loss((draw.random(days * ROWS) < true).astype(np.int64), said)
    return said, loss, np.repeat(np.arange(days), ROWS)


def estimate(seed: int, off: float = 0.0, share: float = 0.15) -> few_labels.FewLabels:
    said, loss, day = world(seed, off=off)
    known = np.random.default_rng(10_000 + seed).random(len(said)) < share
    return few_labels.estimate(few_labels.expected(said), day, known, loss[known])


@pytest.mark.parametrize("off", [0.0, 0.7], ids=["calibrated", "not calibrated"])
def test_intervals_hold_the_true_loss_as_often_as_they_say(off):
    """In 300 sets of 28 days: at least 95 % less three standard errors of a binomial."""
    truth = world(1, days=20_000, off=off)[1].mean()
    sets = [estimate(seed, off) for seed in range(SETS)]
    least = 0.95 - 3 * np.sqrt(0.95 * 0.05 / SETS)
    told = [each.corrected if each.narrower else each.alone for each in sets]
    for intervals in ([each.alone for each in sets], [each.corrected for each in sets], told):
        assert np.mean([each.low <= truth <= each.high for each in intervals]) >= least
    assert np.mean([each.narrower for each in sets]) > 0.5
    assert np.median([each.corrected.width / each.alone.width for each in sets]) < 1
    held = np.mean([each.calibrated.low <= truth <= each.calibrated.high for each in sets])
    assert held >= least if off == 0 else held < 0.5, "the expected loss alone is right only while calibration holds"


def test_weights_are_between_labels_alone_and_all_of_the_expected_losses():
    assert all(0 <= estimate(seed).weight <= 1 for seed in range(20))
    said, loss, day = world(1)
    known = np.arange(len(said)) % 5 == 0
    assert few_labels.estimate(few_labels.expected(said), day, known, -few_labels.expected(said)[known]).weight == 0


def test_a_model_that_says_the_same_of_each_row_adds_nothing():
    _, loss, day = world(1)
    known = np.arange(len(loss)) % 5 == 0
    found = few_labels.estimate(np.full(len(loss), np.log(2)), day, known, loss[known])
    assert found.weight == 0 and not found.narrower and found.corrected == found.alone


def test_the_corrected_mean_is_that_of_all_rows_less_how_far_off_the_labelled_ones_are():
    said, loss, day = world(3)
    known = np.random.default_rng(1).random(len(said)) < 0.2
    told = few_labels.expected(said)
    found = few_labels.estimate(told, day, known, loss[known])
    wanted = (loss[known] - found.weight * told[known]).mean() + found.weight * told[~known].mean()
    assert found.corrected.value == pytest.approx(wanted) and found.alone.value == pytest.approx(loss[known].mean())
    assert found.calibrated.value == pytest.approx(told.mean())
    assert (found.rows, found.labelled) == (len(said), known.sum())


def test_each_day_is_left_out_with_all_of_its_rows():
    said, loss, day = world(3)
    known = np.random.default_rng(1).random(len(said)) < 0.2
    told = few_labels.expected(said)
    found = few_labels.estimate(told, day, known, loss[known])

    def value(kept: np.ndarray) -> float:
        ours, others = known & kept, ~known & kept
        return loss[ours].mean() - found.weight * (told[ours].mean() - told[others].mean())

    left = np.array([value(day != each) for each in range(DAYS)])
    shares = np.stack([np.bincount(day[part], minlength=DAYS) / part.sum() for part in (known, ~known)])
    wanted = from_left_out(value(day >= 0), left, shares, DAYS).own_interval(0.975, ENDS["loss"])
    assert (found.corrected.low, found.corrected.high) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("labelled", "told"), [(19, False), (20, True), (839, True), (840, False)])
def test_it_is_told_from_twenty_labels_on_and_below_half_of_the_rows(labelled, told):
    said, loss, day = world(1)
    known = np.zeros(len(said), dtype=bool)
    known[np.random.default_rng(1).permutation(len(said))[:labelled]] = True
    found = few_labels.estimate(few_labels.expected(said), day, known, loss[known])
    assert (found is not None) == told


def test_fewer_than_ten_days_with_labels_give_no_interval():
    said, loss, day = world(1)
    known = (np.arange(len(said)) % 3 == 0) & (day < 9)
    found = few_labels.estimate(few_labels.expected(said), day, known, loss[known])
    assert found.alone.low is found.corrected.low is None and not found.narrower


def test_the_expected_loss_is_the_entropy_of_the_classes():
    assert few_labels.expected(np.array([0.5, 0.0, 1.0])) == pytest.approx([np.log(2), 0, 0], abs=1e-12)
    assert few_labels.expected(np.array([[0.25] * 4, [1.0, 0, 0, 0]])) == pytest.approx([np.log(4), 0], abs=1e-12)
    draw = np.random.default_rng(1)
    said = draw.dirichlet([1, 2, 3], size=4000)
    y = (draw.random(4000)[:, None] > said.cumsum(axis=1)).sum(axis=1)
    assert log_loss(y, said).mean() == pytest.approx(few_labels.expected(said).mean(), abs=0.05)


def test_the_lines_say_what_they_assume_and_leave_out_what_is_not_narrower():
    sets = [estimate(seed) for seed in range(20)]
    better = next(each for each in sets if each.narrower)
    worse = next(each for each in sets if not each.narrower)
    lines = few(Explained(None, few=better))
    assert f"{better.labelled:,} of {better.rows:,} predictions of the last 28 days have a label" in lines[0]
    assert "if rows with a label are a random sample of the predictions" in lines[1]
    assert lines[2].startswith("If calibration still holds, the loss of all of them is ")
    assert not any("random sample" in line for line in few(Explained(None, few=worse)))
    assert few(Explained(None, few_why=NO_LOSS)) == [f"Few rows have a label: {NO_LOSS}"]
    assert few(Explained(None)) == []
