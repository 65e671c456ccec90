"""Is the challenger better than the champion? ``decide`` uses predictions and labels alone: no file, no clock."""

from __future__ import annotations

import numpy as np
import pandas as pd

from conveyor.core import params
from conveyor.core.tasks import Task
from conveyor.gate import guards, inputs, looks
from conveyor.gate.balance import balance
from conveyor.gate.decision import Comparison, Decision, Floor, Tail
from conveyor.gate.guards import Checked, Guard
from conveyor.gate.metrics import METRICS, Labels, at, of_task
from conveyor.gate.outcome import OWN, Judged, usable
from conveyor.gate.resampling import Groups
from conveyor.gate.spread import WITHOUT, Floats, Spread
from conveyor.gate.units import measured

SHOWN = 100  # segments in a decision


def compare(
    name: str, y: Labels, champion: Floats | None, challenger: Floats, rule: params.Gate, groups: Groups = None
) -> Comparison:
    """One metric of both models on the same rows; each bound holds with the rule's confidence.

    (low, high) is the two-sided interval of level ``2 * confidence - 1``.
    """
    return _compare(name, y, champion, challenger, rule, groups)[0]


def _compare(
    name: str, y: Labels, champion: Floats | None, challenger: Floats, rule: params.Gate, groups: Groups
) -> tuple[Comparison, Spread | None]:
    """The comparison, and the spread of the gain if there is one."""
    metric = at(METRICS[name], rule.threshold)
    nothing = Comparison(name=name, higher_is_better=metric.higher_is_better), None
    models = [challenger] if champion is None else [challenger, champion]
    if not len(y) or not all(usable(model).all() for model in models):
        return nothing
    between = None
    try:
        if champion is None:
            own = metric.way(metric.function, y, [challenger], groups).alone[0]
            given = {"challenger": own.value}
        else:
            own, theirs, between = guards.gain(metric, y, champion, challenger, groups)
            given = {"challenger": own.value, "champion": theirs.value, "gain": between.value}
    except ValueError:
        return nothing
    if not own.known and groups is not None:
        # Too few groups for an error: the rows still tell whether there is anything to measure.
        own = metric.way(metric.function, y, [challenger], None).alone[0]
    ends = metric.ends(challenger)
    for role, bounds in (
        ("challenger", own.own_interval(rule.confidence, ends) if len(y) >= OWN else None),
        ("gain", between.interval_within(rule.confidence, ends.differences) if between else None),
    ):
        given |= {f"{role}_low": bounds[0], f"{role}_high": bounds[1]} if bounds else {}
    if between:
        given |= {"p_harm": between.shown_below(-rule.margin), "gain_error": between.error}
    # Adding zero turns a negative zero into zero.
    finite = {key: float(value) + 0.0 for key, value in given.items() if np.isfinite(value)}
    return Comparison(name=name, higher_is_better=metric.higher_is_better, **finite), between


@np.errstate(over="ignore", invalid="ignore")  # what overflows is not finite, and the reason says so
def decide(
    y: Labels,
    champion: Floats | None,
    challenger: Floats,
    rule: params.Gate,
    champion_error: str | None = None,
    task: Task = "binary",
    groups: Groups = None,
    segments: pd.DataFrame | None = None,
    every_metric: bool = True,
    unit: str = "group",
    look: looks.Look | None = None,
    anchor: Floats | None = None,
) -> Decision:
    """Compare two models on rows that neither was trained on.

    Args:
        y: labels (n,): zeros and ones, numbers of classes, or numbers; see metrics.py for each task.
        champion: its predictions, (n,) or for several classes (n x classes); None without a champion. NaN in rows that
            it could not score.
        challenger: its predictions in the same shape. NaN in rows that it could not score.
        rule: the gate of params.yaml.
        champion_error: why the champion could not score, if so.
        task: the kind of the labels.
        groups: the number of each row's group (n,), or None if rows do not belong together. Neighbouring numbers are
            neighbours in time where the groups are of time.
        segments: for each guarded column the value of each row, as text (n x columns).
        every_metric: also measure the metrics that the rule does not name, for the report.
        unit: what a group is, in words, such as "day".
        look: the level of the test that promotes, after those before it; None: ``1 - confidence``.
        anchor: the predictions of the best champion so far, in the same shape, if that is another model than the
            champion: a challenger that is only not worse must be no worse than this one, too. NaN: it cannot score.

    Returns:
        Always a decision: what cannot be judged or computed promotes nothing, and the reason says why.
    """
    names = [name for name in of_task(task) if every_metric or name in (rule.metric, *rule.floors)]
    unjudged = None
    try:
        y = inputs.labels(y, task)
        challenger = inputs.predictions(challenger, y, task)
        groups = inputs.beside(y, groups, segments)
    except inputs.Unjudged as why:
        unjudged, y = str(why), np.zeros(0, dtype=np.int64)
        champion, challenger, groups, segments = None, np.zeros(0), None, None
    try:
        champion = None if champion is None else inputs.predictions(champion, y, task)
        if champion is not None and champion.shape != challenger.shape:
            theirs, ours = champion.shape[1], challenger.shape[1]
            raise inputs.Unjudged(f"it predicts {theirs} classes, and the challenger {ours}")
    except inputs.Unjudged as why:
        champion, champion_error = np.full(challenger.shape, np.nan), champion_error or str(why)
    both = {name: _compare(name, y, champion, challenger, rule, groups) for name in names}
    compared = {name: comparison for name, (comparison, _) in both.items()}
    gain = both[rule.metric][1]
    alone = compared
    if champion is not None and compared[rule.metric].challenger is None:
        alone = {name: compare(name, y, None, challenger, rule, groups) for name in names}
    floors = tuple(floor(alone[name], least) for name, least in rule.floors.items())
    checked, units = Checked(), None
    if champion is not None and not champion_error and gain is not None and compared[rule.metric].gain is not None:
        checked = guards.check(y, champion, challenger, rule, groups, segments, gain)
        if groups is not None:
            by_row = guards.gain(at(METRICS[rule.metric], rule.threshold), y, champion, challenger, None)[2]
            units = measured(unit, groups, gain, by_row)
    against = _against(y, anchor, challenger, rule, task, groups) if gain else None
    judged = Judged(
        y=y,
        champion=champion,
        challenger=challenger,
        rule=rule,
        task=task,
        compared=compared,
        alone=alone,
        floors=floors,
        guarded=checked.guards,
        champion_error=champion_error,
        gain=gain,
        groups=groups,
        unit=unit,
        look=look,
        against=against,
    )
    outcome, reason = judged.outcome()
    ends = METRICS[rule.metric].ends(challenger).differences
    low = gain.lower(rule.confidence, ends) if gain and gain.heavy else None
    return Decision(
        outcome="block" if unjudged else outcome,
        reason=unjudged or reason,
        task=task,
        metric=rule.metric,
        higher_is_better=METRICS[rule.metric].higher_is_better,
        confidence=rule.confidence,
        margin=rule.margin,
        promote_when=rule.promote_when,
        rows=len(y),
        class_counts=() if task == "regression" else tuple(np.bincount(y, minlength=2).tolist()),
        threshold=rule.threshold if task == "binary" else None,
        balance=balance(y, challenger) if task == "binary" else None,
        floors=floors,
        metrics=tuple(compared[n] if compared[n].challenger is not None else alone[n] for n in names),
        guards=_shown(checked.guards),
        guard_confidence=rule.guards.confidence,
        unseen=checked.unseen,
        units=units,
        tail=Tail(carried=gain.carried, without=WITHOUT, low=low) if gain and low is not None else None,
        look=look,
        needed=judged.needed,
        anchor_gain=None if against is None else float(against.value),
        tested=outcome != "incomparable" and compared[rule.metric].gain_low is not None and not judged.alike,
    )


def _against(
    y: Labels, anchor: Floats | None, challenger: Floats, rule: params.Gate, task: Task, groups: Groups
) -> Spread | None:
    """The gain over the best champion so far; None if there is no other than the champion, or it cannot be measured."""
    try:
        theirs = None if anchor is None else inputs.predictions(anchor, y, task)
        if theirs is None or theirs.shape != challenger.shape or not usable(theirs).all():
            return None
        gain = guards.gain(at(METRICS[rule.metric], rule.threshold), y, theirs, challenger, groups)[2]
        return gain if np.isfinite(gain.value) else None
    except (inputs.Unjudged, ValueError):
        return None


def _shown(guarded: tuple[Guard, ...]) -> tuple[Guard, ...]:
    """The first SHOWN guards, and all if one of the others decides anything."""
    rest = guarded[SHOWN:]
    return guarded[:SHOWN] if all(guard.holds and not guard.doubted for guard in rest) else guarded


def floor(measured: Comparison, least: float) -> Floor:
    """Whether a metric holds its floor, which is the most of a loss."""
    value = measured.challenger
    holds = value is not None and (value >= least if measured.higher_is_better else value <= least)
    return Floor(metric=measured.name, floor=least, value=value, holds=holds)
