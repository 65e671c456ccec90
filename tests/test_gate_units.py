"""Risk: rows that belong together, a few rows with heavy tails, or a chain of small losses fool the gate."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from conveyor.core.params import Data, Gate, Guards
from conveyor.data.units import units
from conveyor.gate.decide import decide
from conveyor.gate.intervals import by_bootstrap
from conveyor.gate.metrics import METRICS, Metric, at, average_precision, rmse, value
from conveyor.gate.spread import Spread, from_left_out, serial
from conveyor.ledger.events import Event
from conveyor.ledger.state import State

TRIES = 400


def rule(metric="log_loss", **more):
    plain = {"promote_when": "superior", "margin": 0, "confidence": 0.95, "guards": Guards(calibration_margin=None)}
    return Gate(**{"metric": metric, **plain, **more})


def promoted(draw, metric, groups, seed=1):
    """In how many of TRIES decisions about equally good models the challenger is promoted."""
    count = 0
    for number in range(TRIES):
        y, champion, challenger = draw(np.random.default_rng([seed, number]))
        task = "regression" if y.dtype.kind == "f" else "binary"
        made = decide(y, champion, challenger, rule(metric), None, task, groups, None, False)
        count += made.outcome == "promote"
    return count


def most(errors=3):
    """Five of a hundred, and some Monte-Carlo errors."""
    return TRIES * 0.05 + errors * np.sqrt(TRIES * 0.05 * 0.95)


def numbers(common):
    """Draws of a regression in which everything that the models do not see has a part ``common(generator)``."""

    def draw(generator):
        noise = [common(generator) for _ in range(4)]
        return noise[0] + noise[1], noise[0] + 0.7 * noise[2], noise[0] + 0.7 * noise[3]

    return draw


# Blocks of time


def flights(*times, **more):
    data = {"path": "d.csv", "sha256": "0" * 64, "task": "binary", "target": "y", "key": ["k"], "time": "t", **more}
    return pd.DataFrame({"t": pd.to_datetime(list(times)), "g": list("abcdefgh")[: len(times)]}), Data(**data)


@pytest.mark.parametrize(
    "block, expected, name",
    [
        ("day", [0, 0, 1, 2], "day"),
        ("week", [0, 0, 0, 1], "week"),
        (1, [0, 1, 2, 3], "hour"),
        (12, [0, 1, 2, 3], "12 hours"),
        (48, [0, 0, 1, 1], "48 hours"),
    ],
)
def test_rows_of_one_block_of_time_are_one_unit_and_weeks_begin_on_mondays(block, expected, name):
    # A Saturday, the Sunday after it, and the Monday after that.
    rows, data = flights("2013-06-01 00:00", "2013-06-01 23:59", "2013-06-02 00:00", "2013-06-03 00:00")
    numbers, said = units(rows, data, block)
    assert (numbers.tolist(), said) == (expected, name)


def test_blocks_are_those_of_utc_and_in_the_order_of_time():
    rows, data = flights("2013-06-02 01:00+02:00", "2013-06-02 03:00+02:00", "2013-05-01 00:00+02:00")
    assert units(rows, data, "day")[0].tolist() == [1, 2, 0]


def test_a_group_is_the_unit_before_any_block_and_without_time_each_row_is_alone():
    rows, data = flights("2013-06-01", "2013-06-01", group="g")
    assert units(rows, data, "day") == (pytest.approx(np.array([0, 1])), "g")
    rows, data = flights("2013-06-01", "2013-06-01")
    assert units(rows, data, "row") == (None, "row")
    assert units(rows, data.model_copy(update={"time": None}), "day") == (None, "row")


@pytest.mark.parametrize("block", ["month", "6 hours", 0, -1, 1.5, True, None])
def test_a_block_that_is_none_is_refused(block):
    with pytest.raises(ValueError, match="is no block; write day, week, row, or a number of hours such as 6"):
        rule(block=block)


# What a unit is worth


def test_days_that_share_their_weather_count_once_each():
    day = np.arange(2000) // 50

    def common(generator):
        return np.sqrt(0.4) * generator.normal(size=40)[day] + np.sqrt(0.6) * generator.normal(size=2000)

    draw = numbers(common)
    assert promoted(draw, "mae", day) <= most() < promoted(draw, "mae", None)


@pytest.mark.parametrize("own", [0.0, 1.0], ids=["series alone", "and noise of its own"])
def test_blocks_that_resemble_their_neighbours_widen_the_interval(own):
    step = np.arange(6000) // 20

    def common(generator):
        path = lfilter([np.sqrt(1 - 0.49)], [1, -0.7], generator.normal(size=400))[100:]
        return path[step] + own * generator.normal(size=6000)

    assert promoted(numbers(common), "mae", step) <= most()


def equal(effect, rows=2000, kind="days"):
    """Draws of equally good models: the challenger's gain is that of its day, and noise of each row."""
    day = np.arange(rows) * 40 // rows if kind == "days" else None

    def draw(generator):
        gain = effect(generator, 40 if kind == "days" else rows)
        each = 0.5 * gain[day] + generator.normal(size=rows) if kind == "days" else gain
        return np.zeros(rows), np.full(rows, 1000.0), 1000.0 - each

    return draw, day


@pytest.mark.parametrize(
    "effect",
    [
        lambda g, n: lfilter([1], [1] + 6 * [0] + [-0.7], g.normal(size=n + 200))[200:],
        lambda g, n: (lambda e: e[5:] + e[:-5])(g.normal(size=n + 5)),
        lambda g, n: np.cumsum(g.normal(size=n)),
        lambda g, n: lfilter([1], [1, -0.9], g.normal(size=n + 200))[200:],
    ],
    ids=["weekdays that resemble each other", "every fifth day", "a random walk", "AR(.9) of days"],
)
def test_days_that_resemble_others_some_steps_apart_do_not_count_as_independent(effect):
    draw, day = equal(effect)
    assert promoted(draw, "mae", day) <= most()


@pytest.mark.parametrize(
    "effect",
    [
        lambda g, n: np.exp(0.5) - np.exp(g.normal(size=n)),
        lambda g, n: 1 - g.exponential(size=n),
        lambda g, n: np.where(g.random(n) < 0.03, -0.97, 0.03),
    ],
    ids=["lognormal losses", "exponential losses", "one loss in thirty"],
)
@pytest.mark.parametrize("kind, rows", [("days", 2000), ("rows", 200)])
def test_many_small_gains_do_not_hide_a_few_large_losses(effect, kind, rows):
    draw, day = equal(effect, rows, kind)
    assert promoted(draw, "mae", day) <= most()


def test_a_few_large_gains_are_no_harm_that_blocks():
    """The mirror image: many small losses, and a few large gains."""
    draw, day = equal(lambda g, n: np.exp(g.normal(size=n)) - np.exp(0.5))
    blocked = 0
    for number in range(TRIES):
        made = decide(*draw(np.random.default_rng([5, number])), rule("mae"), None, "regression", day, None, False)
        blocked += made.outcome == "block"
    assert blocked <= TRIES * 0.01 + 3 * np.sqrt(TRIES * 0.01)


def test_ten_days_that_are_alike_have_no_interval_instead_of_a_senseless_one():
    day, path = np.arange(1000) // 100, np.cumsum(np.random.default_rng(0).normal(size=10))
    noise = np.random.default_rng(1).normal(size=1000)
    made = decide(np.zeros(1000), 10 + path[day], 10 + noise, rule("mae"), None, "regression", day, unit="day")
    assert made.outcome == "keep" and made.metrics[0].gain_low is None
    assert re.search(r"10 units \(day\), so alike in neighbouring ones \(correlation 0\.\d+\)", made.reason)


@pytest.mark.parametrize("weeks", [3, 30])
def test_weekdays_that_resemble_each_other_are_told_though_neighbouring_days_do_not(weeks):
    day, week = np.arange(700 * weeks) // 100, np.array([3.0, -3.0, 3.0, -3.0, 3.0, -3.0, 0.0])
    noise = np.random.default_rng(2).normal(size=(2, 700 * weeks))
    y, path = np.zeros(700 * weeks), week[day % 7]
    made = decide(y, 10 + path + noise[0], 10 + noise[1], rule("mae"), None, "regression", day, unit="day")
    assert made.units.serial == 0 and made.units.still_correlated
    told = f"{7 * weeks} units (day), so alike a few units apart, as weekdays are, that they tell too little"
    assert (made.metrics[0].gain_low is None) == (told in made.reason)


def test_one_large_group_does_not_decide_alone():
    group = np.concatenate([np.zeros(600, dtype=int), 1 + np.arange(1400) * 49 // 1400])

    def common(generator):
        return np.sqrt(0.3) * generator.normal(size=50)[group] + np.sqrt(0.7) * generator.normal(size=2000)

    assert promoted(numbers(common), "mae", group) <= most()


def test_the_jackknife_is_cr3_with_freedom_from_the_shares():
    """By hand: three hundred rows in groups of 60, 30 and twenty-one of 10."""
    group = np.concatenate([np.repeat(0, 60), np.repeat(1, 30), 2 + np.arange(210) // 10])
    row = np.random.default_rng(1).normal(size=300)
    y = np.zeros(300)
    found = METRICS["mae"].way(lambda y, p: p, y, [row], group).alone[0]
    shares = np.bincount(group) / 300
    left = np.array([row[group != g].mean() for g in range(23)])
    variance = 22 / 23 * np.sum((left - left.mean()) ** 2)
    _, inflated = serial(left - left.mean())
    assert found.error == pytest.approx(np.sqrt(variance * inflated))
    assert found.freedom == pytest.approx((1 / np.sum(shares**2) - 1) / inflated)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "f1", "rmse", "r2"])
def test_each_metric_leaves_out_groups_exactly(name):
    generator = np.random.default_rng(3)
    group = np.repeat(np.arange(30), generator.integers(5, 25, 30))
    n = len(group)
    metric = METRICS[name]
    if name in ("rmse", "r2"):
        y = generator.normal(size=n)
        models = [y + generator.normal(size=n), y + generator.normal(size=n)]
    else:
        y = (generator.random(n) < 0.5).astype(int)
        models = [np.round(generator.random(n), 1), np.round((y + generator.random(n)) / 2, 1)]
    metric = at(metric, 0.5)
    spread = metric.way(metric.function, y, models, group).difference
    left = [value(metric, y[group != g], models[0][group != g]) for g in range(30)]
    left = np.array(left) - [value(metric, y[group != g], models[1][group != g]) for g in range(30)]
    assert spread.parts == pytest.approx(30 * spread.value - 29 * left)


def test_a_metric_of_ones_own_leaves_out_groups_and_draws_where_there_are_many():
    generator = np.random.default_rng(3)
    y, group = generator.normal(size=3000), np.arange(3000) // 100
    models = [y + generator.normal(size=3000), y + generator.normal(size=3000)]
    own = Metric(lambda y, p: lambda w: np.sqrt(w @ (p - y) ** 2 / w.sum(axis=1)), by_bootstrap, False)
    mine = own.way(own.function, y, models, group).difference
    shipped = METRICS["rmse"].way(rmse, y, models, group).difference
    assert (mine.error, mine.freedom) == pytest.approx((shipped.error, shipped.freedom))
    many = own.way(own.function, y, models, np.arange(3000)).difference
    assert many.draws is not None and many.error == pytest.approx(mine.error, rel=0.5)


def test_the_influence_of_rows_on_average_precision_is_its_derivative():
    generator = np.random.default_rng(4)
    y = (generator.random(200) < 0.3).astype(int)
    ranking = average_precision(y, np.round(generator.random(200), 1))
    step = 1e-6

    def measured(weights):
        drawn = weights[None, ranking.order]
        found = drawn[:, ranking.positive]
        above, hits = np.cumsum(drawn, axis=1)[:, ranking.last], np.cumsum(found, axis=1)[:, ranking.upto]
        return float(((found * hits / above).sum(axis=1) / found.sum(axis=1))[0])

    ones = np.ones(200)
    slope = [(measured(ones + step * (np.arange(200) == row)) - measured(ones)) / step for row in range(200)]
    assert ranking.influence() == pytest.approx(np.array(slope), abs=1e-7)


def test_the_report_gets_the_design_effect_and_what_it_leaves_of_the_rows():
    generator = np.random.default_rng(5)
    y = generator.normal(size=200).repeat(10)
    models = [y + generator.normal(size=200).repeat(10) for _ in range(2)]
    made = decide(y, *models, rule("mae"), None, "regression", np.arange(2000) // 10, None, False, unit="day")
    assert made.units.name == "day" and made.units.count == 200
    assert made.units.design_effect == pytest.approx(10, rel=0.3)
    assert made.units.effective_rows == pytest.approx(2000 / made.units.design_effect)


@pytest.mark.parametrize(
    "unit, told", [("day", True), ("12 hours", True), ("customer", False), ("day (column)", False)]
)
def test_only_blocks_of_time_can_be_made_longer(unit, told):
    step = np.arange(4000) // 20
    path = [lfilter([1], [1, -0.9], np.random.default_rng(seed).normal(size=200))[step] for seed in range(3)]
    made = decide(path[0], path[0] + path[1], path[0] + path[2], rule("mae"), None, "regression", step, unit=unit)
    assert made.units.serial > 0.3 and made.units.still_correlated is told


def test_a_group_that_is_called_like_a_block_of_time_is_none():
    rows, data = flights("2013-06-01", group="g")
    assert (
        units(rows.rename(columns={"g": "week"}), data.model_copy(update={"group": "week"}), "day")[1]
        == "week (column)"
    )


def test_correlated_neighbours_are_told():
    off = lfilter([1], [1, -0.7], np.random.default_rng(6).normal(size=400))
    first, inflated = serial(off - off.mean())
    assert first == pytest.approx(0.7, abs=0.1) and inflated == pytest.approx(1.7 / 0.3, rel=0.4)
    alone = np.random.default_rng(7).permutation(off)
    assert serial(alone - alone.mean())[1] < 1.3
    assert serial(np.zeros(50)) == (0.0, 1.0)


def test_too_few_units_tell_nothing_and_the_reason_counts_them():
    generator = np.random.default_rng(8)
    y = generator.normal(size=900)
    made = decide(
        y, y + generator.normal(size=900), y + 0.1, rule("mae"), None, "regression", np.arange(900) // 100, unit="day"
    )
    assert made.outcome == "keep"
    assert made.reason.endswith("on 900 rows, which are of 9 units (day); at least 10 are needed")
    first = decide(y, None, y + 0.1, rule("mae"), None, "regression", np.arange(900) // 100)
    assert first.outcome == "bootstrap"


# Tails


def test_what_hangs_on_one_row_is_no_gain():
    """Without the one row the two models are alike; with it the challenger is far better."""
    generator = np.random.default_rng(9)
    y = generator.normal(size=500)
    champion, challenger = y + generator.normal(size=500), y + generator.normal(size=500)
    champion[:40] += 3 * np.sign(champion[:40] - y[:40])
    assert decide(y, champion, challenger, rule("rmse"), None, "regression").outcome == "promote"
    y, (champion, challenger) = y[40:], (champion[40:], challenger[40:])
    champion[0] = y[0] + 400
    plain = METRICS["rmse"].way(rmse, y, [champion, challenger], None).difference
    assert plain.heavy and plain.carried > 0.9
    made = decide(y, champion, challenger, rule("rmse"), None, "regression")
    assert made.outcome == "keep" and made.tail.carried > 0.9 and made.tail.low <= 0


def test_the_evidence_must_hold_without_the_rows_that_favour_it_most():
    generator = np.random.default_rng(10)
    parts = generator.normal(0.05, 1, 400)
    parts[:3] = 30
    error = parts.std(ddof=1) / 20
    spread = Spread(parts.mean(), error, 399, None, parts, 400)
    assert spread.heavy and spread.lower(0.8) < spread.interval(0.8)[0]
    light = Spread(parts[3:].mean(), parts[3:].std(ddof=1) / 20, 396, None, parts[3:], 397)
    assert not light.heavy and light.lower(0.8) == light.interval(0.8)[0]


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_equal_models_of_a_lognormal_target_are_promoted_as_rarely_as_others(metric):
    def draw(generator):
        seen, rest, *noise = generator.normal(size=(4, 200))
        return np.exp(seen + rest), *(np.exp((seen + each) / 2 + 0.75) for each in noise)

    assert promoted(draw, metric, None) <= most()


# A model's own interval


def separated(seed, rows=1000):
    """Two classes that a model tells apart nearly always, and its probabilities."""
    generator = np.random.default_rng(seed)
    y = (generator.random(rows) < 0.5).astype(int)
    return y, 1 / (1 + np.exp(3 - 6 * y - 1.6 * generator.normal(size=rows)))


def test_an_own_interval_stays_within_the_range_of_its_metric():
    shares = 0
    for one in decide(separated(1)[0], None, separated(1)[1], rule("roc_auc")).metrics:
        assert one.challenger_low <= one.challenger <= one.challenger_high
        if METRICS[one.name].scale == "share":
            shares += 1
            assert one.challenger_low > 0 and one.challenger_high < 1
    assert shares == 7


RANGES = {"log_loss": (0, np.inf), "rmse": (0, np.inf), "mae": (0, np.inf), "r2": (-np.inf, 1)}  # others: 0 to 1


def extreme(task, rows):
    """Labels, and by name the predictions of models that are right, or wrong, everywhere or but for few rows."""
    if task == "regression":
        y = np.random.default_rng(3).gamma(2, 100, rows)
        sides = {"exact": (y, y + 1000), "close": (y + np.sin(np.arange(rows)), y * 1e6)}
    elif task == "multiclass":
        y = np.arange(rows) % 3
        sides = {name: (sure * np.eye(3)[y] + (1 - sure) / 3) for name, sure in (("exact", 1.0), ("close", 0.8))}
        sides = {name: (right, np.roll(right, 1, axis=1)) for name, right in sides.items()}
    else:
        y = (np.arange(rows) % 3 == 0).astype(int)
        sides = {name: np.where(y == 1, sure, 1 - sure) for name, sure in (("exact", 1.0), ("close", 0.9))}
        sides = {name: (right, 1 - right) for name, right in sides.items()}
    models = {}
    for name, (right, wrong) in sides.items():
        for few in (0, 1, 2):
            other = np.isin(np.arange(rows), [0, 7][:few])[(...,) + (None,) * (right.ndim - 1)]
            models[f"{name}, all right but {few}"] = np.where(other, wrong, right)
            models[f"{name}, all wrong but {few}"] = np.where(other, right, wrong)
    return y, models


@pytest.mark.parametrize("units", [None, 12])
@pytest.mark.parametrize("rows", [30, 48])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_no_interval_leaves_the_range_of_its_metric_whatever_the_models_get_right(task, rows, units):
    y, models = extreme(task, rows)
    groups = None if units is None else np.arange(rows) * units // rows
    name = {"binary": "roc_auc", "multiclass": "brier", "regression": "r2"}[task]
    told = 0

    def inside(low, high, *values):
        slack = 1e-12 * max(1.0, *map(abs, values))  # the rounding of a sum
        assert all(low - slack <= value <= high + slack for value in values), (values, low, high)

    def look(one, low, high):
        if one.challenger_low is not None:
            inside(low, high, one.challenger_low, one.challenger, one.challenger_high)
            inside(one.challenger_low, one.challenger_high, one.challenger)
        if one.gain_low is not None:
            inside(low - high, high - low, one.gain_low, one.gain, one.gain_high)
            inside(one.gain_low, one.gain_high, one.gain)
        return one.challenger_low is not None

    for champion in (None, *list(models.values())[::3]):
        for challenger in models.values():
            made = decide(y, champion, challenger, rule(name), None, task, groups)
            for one in made.metrics:
                low, high = RANGES.get(one.name, (0, 2 if one.name == "brier" and task == "multiclass" else 1))
                told += look(one, low, high)
            low, high = RANGES.get(name, (0, 2 if name == "brier" else 1))
            inside(low - high, high - low, made.needed or 0.0, made.tail.low if made.tail else 0.0)
    assert told > 100


def test_a_rare_error_of_heavy_tails_does_not_throw_the_bound_of_a_loss_any_distance():
    """The bound away from the end of the range is not made by the logarithm, which would."""
    generator = np.random.default_rng(5)
    off = generator.lognormal(0, 2, 200)
    [made] = decide(off, None, np.zeros(200), rule("rmse"), None, "regression", every_metric=False).metrics
    assert 0 < made.challenger_low < made.challenger < made.challenger_high < 100 * made.challenger


def test_the_own_interval_of_a_nearly_perfect_model_holds_the_truth():
    truth = METRICS["roc_auc"].way(METRICS["roc_auc"].function, *(lambda y, p: (y, [p]))(*separated(2, 10**6)), None)
    inside = 0
    for seed in range(100):
        [one] = decide(separated(seed)[0], None, separated(seed)[1], rule("roc_auc"), every_metric=False).metrics
        inside += one.challenger_low <= truth.alone[0].value <= one.challenger_high
    assert inside >= 80  # of 90 expected, less three errors


@pytest.mark.parametrize("rows, there", [(29, False), (30, True)])
def test_fewer_than_thirty_rows_have_no_own_interval(rows, there):
    y = np.arange(rows) / 3
    made = decide(y, None, y + np.sin(y), rule("mae"), None, "regression")
    assert (made.metrics[0].challenger_low is not None) is there


# Segments that pay


def segmented(harm, rows=6000):
    """A challenger that is better but for a tenth of the rows, where it is worse by ``harm`` of its noise."""
    generator = np.random.default_rng(11)
    y = (generator.random(rows) < 0.5).astype(int)
    tenth = np.arange(rows) % 10 == 0
    noise = np.where(tenth, 1 + harm, 0.6)
    seen = 1.5 * y + generator.normal(size=rows)

    def said(noise):
        return 1 / (1 + np.exp(0.75 - (seen + noise * generator.normal(size=rows)) / (1 + noise**2)))

    return y, said(1.0), said(noise), pd.DataFrame({"place": np.where(tenth, "there", "elsewhere")})


@pytest.mark.parametrize("harm, doubt, outcome", [(0.6, 0.1, "keep"), (0.6, 0, "promote"), (-0.4, 0.1, "promote")])
def test_a_segment_that_measures_beyond_its_margin_stops_a_promotion(harm, doubt, outcome):
    y, champion, challenger, segments = segmented(harm)
    guards = Guards(segments=("place",), calibration_margin=None, doubt=doubt, confidence=0.9999999)
    made = decide(y, champion, challenger, rule("roc_auc", guards=guards), segments=segments)
    assert made.outcome == outcome
    if outcome == "keep":
        assert made.reason.startswith("the segment place there measures worse by more than 0.02: roc_auc 0.")
        assert [(guard.name, guard.doubted, guard.holds) for guard in made.guards] == [
            ("place elsewhere", False, True),
            ("place there", True, True),
        ]


def test_guards_say_what_they_did_not_look_at():
    y, champion, challenger, _ = segmented(0.0, 1000)
    values = np.where(np.arange(1000) < 950, "= a", np.arange(1000).astype(str))
    one_class = np.where(y == 1, "= yes", "= no")
    segments = pd.DataFrame({"place": values, "leak": one_class})
    made = decide(
        y, champion, challenger, rule("roc_auc", guards=Guards(segments=("place", "leak"))), segments=segments
    )
    assert made.unseen == (
        "place: 50 values have fewer than 100 rows, 50 in all",
        "leak: too few rows of a class, or too few groups, to tell for = no, = yes",
    )
    rare = np.zeros(1000, dtype=int)
    rare[:9] = 1
    said = np.linspace(0, 1, 1000)
    made = decide(rare, said, said**2, rule("log_loss", guards=Guards()))
    assert made.unseen == ("calibration: a class has fewer than 10 rows",)


def test_a_class_of_seven_rows_tells_nothing_about_f1_and_the_reason_counts_it():
    y = np.zeros(500, dtype=int)
    y[:7] = 1
    generator = np.random.default_rng(12)
    made = decide(y, generator.random(500), np.where(y == 1, 0.9, 0.1), rule("f1"))
    assert made.outcome == "keep" and made.reason.endswith("on 500 rows; a class has 7, at least 10 are needed")


# The best champion so far


def test_a_chain_of_models_that_are_only_not_worse_ends_at_the_best_one():
    generator = np.random.default_rng(13)
    y = generator.normal(size=4000)
    noise = generator.normal(size=4000)
    best, champion, challenger = (
        y + (1 + worse) * noise + 0.02 * generator.normal(size=4000) for worse in (0, 0.03, 0.06)
    )
    softer = rule("mae", promote_when="non_inferior", margin=0.03)
    alone = decide(y, champion, challenger, softer, None, "regression")
    assert alone.outcome == "promote" and alone.anchor_gain is None
    made = decide(y, champion, challenger, softer, None, "regression", anchor=best)
    assert made.outcome == "keep" and made.anchor_gain == pytest.approx(-0.048, abs=0.01)
    assert "not shown to be no worse by more than 0.03 than the best champion so far" in made.reason
    lost = decide(y, champion, challenger, softer, None, "regression", anchor=np.full(4000, np.nan))
    assert lost.outcome == "promote"  # it cannot be measured on these rows


def event(number, kind, key, **more):
    told = {"schema": 2, "number": number, "id": f"{number:032x}", "type": kind, "key": key * 64, "digest": key * 64}
    told |= {"commit": "a" * 40, "data_sha256": "d", "time": "2026-01-01T00:00:00Z", "by": "x", "reason": ""}
    return Event.model_validate(told | {"outcome": "promote", **more})


def test_the_ledger_knows_the_best_champion_so_far():
    state = State()
    assert state.anchor() is None
    for told in [
        event(1, "accepted", "1"),
        event(2, "live", "1"),
        event(3, "accepted", "2", anchor="1" * 64),
        event(4, "live", "2"),
    ]:
        state.add(told)
    assert state.anchor() == "1" * 64
    state.add(event(5, "accepted", "3"))
    assert state.anchor() == "1" * 64  # it is not live yet
    state.add(event(6, "live", "3"))
    assert state.anchor() == "3" * 64
    state.add(event(7, "rolled_back", "2", replaces="3" * 64))
    state.add(event(8, "live", "2"))
    assert state.anchor() == "1" * 64


def test_a_spread_without_units_is_unknown():
    assert not from_left_out(1.0, np.ones(5), np.full(5, 0.2), 5).known
    assert not from_left_out(np.nan, np.ones(50), np.full(50, 0.02), 50).known
