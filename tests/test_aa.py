"""Risk: the A/A test finds the gate right whatever it does, or wrong where it is right."""

import json
import time

import numpy as np
import pytest

from conveyor.core.errors import Misuse, Refused
from conveyor.core.params import Gate
from conveyor.core.project import Project
from conveyor.gate import aa, guards
from conveyor.gate.decide import decide
from conveyor.gate.metrics import METRICS
from conveyor.steps import aa as step
from conveyor.steps.report import aa_of

RULE = {"promote_when": "superior", "margin": 0.0, "confidence": 0.95}


def drawn(task, groups, seed=7, noises=(0.3, 1.5), together=0.0):
    """Labels and two models of different quality; ``together`` is a noise that the rows of one group share."""
    draw = np.random.default_rng(seed)
    rows, shared = len(groups), int(groups.max()) + 1
    signal = draw.normal(0, 1.5, rows)
    errors = [noise * draw.normal(0, 1, rows) + together * draw.normal(0, 1, shared)[groups] for noise in noises]
    if task == "regression":
        return signal + draw.normal(0, 1, rows), [signal + error for error in errors]
    if task == "binary":
        y = (draw.random(rows) < 1 / (1 + np.exp(-signal))).astype(np.int64)
        return y, [1 / (1 + np.exp(-signal - error)) for error in errors]
    of_class = np.stack([signal, -signal, np.zeros(rows)], axis=1)
    y = (of_class + draw.gumbel(0, 1, of_class.shape)).argmax(axis=1)
    models = [np.exp(of_class * (1 + error[:, None])) for error in errors]
    return y, [model / model.sum(axis=1, keepdims=True) for model in models]


GROUPS = np.repeat(np.arange(60), 15)
TASKS = [("binary", "log_loss"), ("binary", "roc_auc"), ("multiclass", "log_loss"), ("regression", "mae")]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_whole_units_are_exchanged_by_a_fair_coin(task):
    _, (one, other) = drawn(task, GROUPS)
    heads = []
    for turn in range(400):
        champion, challenger = aa.exchanged(one, other, GROUPS, np.random.default_rng(turn))
        mine = (champion == one).reshape(len(one), -1).all(axis=1)
        assert np.array_equal(champion[mine], one[mine]) and np.array_equal(challenger[mine], other[mine])
        assert np.array_equal(champion[~mine], other[~mine]) and np.array_equal(challenger[~mine], one[~mine])
        of_unit = mine.reshape(60, 15)
        assert (of_unit == of_unit[:, :1]).all()
        heads.append(of_unit[:, 0])
    share, error = np.mean(heads, axis=0), 0.5 / np.sqrt(400)
    assert np.abs(share - 0.5).max() < 4 * error
    between = np.corrcoef(np.array(heads).T)[np.triu_indices(60, 1)]
    assert np.abs(between).max() < 5 / np.sqrt(400)


def test_rows_that_are_alone_are_exchanged_alone():
    _, (one, other) = drawn("binary", GROUPS)
    champion, _ = aa.exchanged(one, other, None, np.random.default_rng(7))
    assert 0.4 < np.mean(champion == one) < 0.6 and len(np.unique((champion == one).reshape(60, 15), axis=0)) > 50


@pytest.mark.parametrize("task, metric", TASKS)
def test_the_gate_is_right_and_a_gate_without_an_interval_promotes_one_half_though_one_model_is_far_better(
    task, metric
):
    y, models = drawn(task, GROUPS)
    rule = Gate(metric=metric, **RULE)
    better = guards.gain(METRICS[metric], y, models[1], models[0], GROUPS)[2]
    assert better.interval(0.999)[0] > 0, "the two models differ in truth"
    found = aa.result(
        list(aa.decisions(models, GROUPS, aa.by_gate(y, rule, task, GROUPS), 7)), y, models, rule, GROUPS, "day"
    )
    assert abs(found.greater.share - 0.5) < 3 * found.greater.error and found.greater.error < 0.04
    assert not found.promoted.above and not found.blocked.above
    assert (found.differ, found.units, found.unit, len(found.decisions)) == (1.0, 60, "day", 200)


def test_a_gate_that_takes_rows_of_one_day_for_independent_is_caught():
    y, models = drawn("regression", GROUPS, noises=(0.3, 0.3), together=1.5)
    rule = Gate(metric="mae", **RULE)
    rates = []
    for of_gate in (GROUPS, None):
        judge = aa.by_gate(y, rule, "regression", of_gate)
        made = aa.result(list(aa.decisions(models, GROUPS, judge, 7)), y, models, rule, GROUPS, "day")
        rates.append(made.promoted)
    right, wrong = rates
    assert not right.above and wrong.above and wrong.share > 0.15


def test_the_margin_the_floors_and_a_lenient_rule_do_not_hide_a_wrong_gate():
    y, models = drawn("binary", GROUPS)
    strict = Gate(metric="roc_auc", **RULE)
    other = Gate(metric="roc_auc", **{**RULE, "margin": 0.2, "promote_when": "non_inferior"}, floors={"roc_auc": 0.99})
    pair = aa.exchanged(*models, GROUPS, np.random.default_rng(7))
    assert aa.by_gate(y, strict, "binary", GROUPS)(*pair) == aa.by_gate(y, other, "binary", GROUPS)(*pair)


def test_ties_are_told_because_a_gate_without_an_interval_promotes_them():
    y, (one, _) = drawn("binary", GROUPS)
    models = [np.where(np.arange(len(y)) == place, 1 - one, one) for place in (3, 99)]
    rule = Gate(metric="accuracy", **RULE)
    found = aa.result(
        list(aa.decisions(models, None, aa.by_gate(y, rule, "binary", None), 7)), y, models, rule, None, "row"
    )
    assert found.differ == 2 / len(y) and found.ties > 0.3 and found.greater.share > 0.6
    assert not found.promoted.share and "% ties" in step.told(found)[3]
    # Models that differ in one row alone: there is no error to tell a gain from.
    unknown = found.model_copy(update={"smallest_gain": aa.visible(y, [one, models[0]], rule, None)})
    assert unknown.smallest_gain is None and "cannot be told" in step.told(unknown)[4]


@pytest.mark.parametrize("superior", [True, False])
def test_the_smallest_gain_is_promoted_in_four_of_five_simulated_decisions(superior):
    rule = Gate(metric="mae", **{**RULE, "margin": 0.02, "promote_when": "superior" if superior else "non_inferior"})

    def pair(seed, gain):
        """Absolute errors of both models, which differ by ``gain`` in truth."""
        draw = np.random.default_rng(seed)
        theirs = draw.gamma(9.0, 1 / 9, 400) + 10
        return np.zeros(400), theirs, theirs - gain + draw.normal(0, 0.3, 400)

    told = [aa.smallest(guards.gain(METRICS["mae"], *pair(seed, 0.0), None)[2], rule) for seed in range(100)]
    gain = float(np.mean(told))
    made = [decide(*pair(1000 + turn, gain), rule, None, "regression", every_metric=False) for turn in range(600)]
    promoted = np.mean([one.outcome == "promote" for one in made])
    assert abs(promoted - 0.8) < 3 * np.sqrt(0.8 * 0.2 / 600)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_each_fit_sees_other_rows_without_repeats_and_every_class(task):
    y, _ = drawn(task, GROUPS)
    if task != "regression":
        y[y == 0] = 1
        y[13] = 0  # a class of one row
    parts = [aa.part(y, np.random.default_rng(turn)) for turn in range(2)]
    for part in parts:
        assert np.array_equal(part, np.unique(part)) and len(part) == pytest.approx(600, abs=3)
        assert task == "regression" or set(y[part]) == set(y)
    assert 0.5 < np.isin(*parts).mean() < 0.8


def test_the_verb_tests_the_sample_within_a_minute_and_the_report_shows_it_while_it_is_about_this_rule(sound):
    began = time.monotonic()
    done = sound.cli("aa")
    assert time.monotonic() - began < 60
    assert "refit 1 of 12, about" in done.stdout and "decision 50 of 200, about" in done.stdout
    path = sound.path / "build" / "aa.json"
    made = json.loads(path.read_text())
    found = aa.Result.model_validate_json(json.dumps(made["aa"]))
    commit = sound.git("rev-parse", "HEAD").stdout.strip()
    pin = json.loads((sound.path / "build" / "validation.json").read_text())["data_sha256"]
    assert (made["schema"], made["commit"], made["data_sha256"]) == (1, commit, pin) and made["created"].endswith("Z")
    assert (found.refits, len(found.decisions), found.unit, found.units) == (12, 200, "day", 37)
    assert found.differ > 0.99 and not found.promoted.above and 0 < found.smallest_gain < 0.05
    assert abs(found.greater.share - 0.5) < 3 * found.greater.error
    for line in step.told(found):
        assert line in done.stdout

    heading = "Can the gate be trusted on these data?"

    def page():
        sound.cli("report")
        return (sound.path / "build" / "report.html").read_text()

    shown = page()
    assert heading in shown and "It keeps its promise" in shown and f"+{found.smallest_gain:.4f}" in shown
    assert 'aria-label="Intervals of 200 decisions between equal models' in shown
    path.write_text(json.dumps({**made, "aa": {**made["aa"], "promoted": {**made["aa"]["promoted"], "share": 0.3}}}))
    assert "It promotes too often" in page()
    path.write_text(json.dumps({**made, "aa": {**made["aa"], "units": "<b>"}}))
    failed = sound.cli("report", check=False)
    assert failed.returncode == 2 and failed.stderr.endswith(
        "aa.json: damaged, its `aa.units`; delete it and run `make aa`\n"
    )
    path.write_text(json.dumps(made))
    sound.set_param("gate.margin", 0.002)
    assert heading not in page()


def test_a_holdout_of_fewer_than_ten_days_is_one_line(project, one_line):
    project.set_param("split.holdout", 0.02)
    mend = r"take a larger split.holdout, or a shorter gate.block"
    told = rf"aa: the holdout has \d units \(day\) of the rarest class, and the gate needs 10; {mend}"
    one_line(project.cli("aa", check=False), 2, told)


@pytest.fixture
def refits(monkeypatch):
    """Gives the verb these predictions of the holdout instead of fitting models."""

    def refits(project, make):
        def made(project, features, y, trained, say):
            return make(y[~trained])

        monkeypatch.setattr(step, "_refits", made)
        return Project(project.path)

    return refits


def test_refits_that_predict_the_same_are_one_line(project, refits):
    opened = refits(project, lambda y: [np.full(len(y), 0.3)] * 2)
    with pytest.raises(Misuse, match="all refits predict the same"):
        step.run(opened, lambda line: None)
    assert not (project.path / "build" / "aa.json").exists()


def test_a_gate_that_promotes_too_often_ends_with_one_line_and_writes_its_rate(project, refits, monkeypatch):
    draw = np.random.default_rng(7)
    opened = refits(project, lambda y: [np.clip(0.3 + 0.2 * y + draw.normal(0, 0.3, len(y)), 0, 1) for _ in range(2)])

    by_gate = aa.by_gate

    def greedy(*given):
        judge = by_gate(*given)

        def wrong(champion, challenger):
            made = judge(champion, challenger)
            return made.model_copy(update={"outcome": "promote" if made.gain > 0 else "keep"})

        return wrong

    monkeypatch.setattr(aa, "by_gate", greedy)
    with pytest.raises(Refused, match=r"^aa: \d\d\.\d% false promotions where 5\.0% are nominal"):
        step.run(opened, lambda line: None)
    made = json.loads((project.path / "build" / "aa.json").read_text())["aa"]
    assert 0.38 < made["promoted"]["share"] < 0.62


def test_a_result_that_came_with_a_pull_request_is_not_shown(project, tmp_path):
    opened = Project(project.path)
    opened.build.mkdir()
    (opened.build / "aa.json").write_text('{"asked": "", "aa": {}}')
    assert aa_of(opened) is None, "it is about another rule"
    (opened.build / "aa.json").write_text(json.dumps({"asked": step.asked(opened), "aa": {}}))
    with pytest.raises(Misuse, match="damaged"):
        aa_of(opened)
    opened.pull = tmp_path
    assert aa_of(opened) is None
