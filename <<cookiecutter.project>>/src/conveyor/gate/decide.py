"""Is the challenger better than the champion? ``decide`` uses predictions and labels alone: no file, no clock."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core import params
from conveyor.core.frozen import Frozen
from conveyor.core.tasks import Task
from conveyor.gate import guards, inputs
from conveyor.gate.guards import Guard
from conveyor.gate.intervals import Floats, Groups
from conveyor.gate.metrics import METRICS, Labels, of_task

SHOWN = 100  # segments in a decision

Outcome = Literal["bootstrap", "promote", "keep", "block", "incomparable"]


class Comparison(Frozen):
    """One metric of both models. A gain is positive if the challenger is better, whatever the metric's direction."""

    name: str
    higher_is_better: bool
    champion: float | None = None
    challenger: float | None = None
    challenger_low: float | None = None
    challenger_high: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    p_harm: float | None = None


class Floor(Frozen):
    metric: str
    floor: float
    value: float | None
    holds: bool


class Decision(Frozen):
    """An outcome with its reason in words, and all numbers behind it.

    ``class_counts`` holds the number of rows of each class, empty for a regression; ``guard_confidence`` is the
    confidence of the guards and the test for overall harm together.
    """

    outcome: Outcome
    reason: str
    task: Task
    metric: str
    higher_is_better: bool
    confidence: float
    margin: float
    promote_when: Literal["superior", "non_inferior"]
    rows: int
    class_counts: tuple[int, ...]
    floors: tuple[Floor, ...]
    metrics: tuple[Comparison, ...]
    guards: tuple[Guard, ...] = ()
    guard_confidence: float


def compare(
    name: str, y: Labels, champion: Floats | None, challenger: Floats, rule: params.Gate, groups: Groups = None
) -> Comparison:
    """One metric of both models on the same rows; each bound holds with the rule's confidence.

    (low, high) is the two-sided interval of level ``2 * confidence - 1``.
    """
    metric = METRICS[name]
    nothing = Comparison(name=name, higher_is_better=metric.higher_is_better)
    models = [challenger] if champion is None else [challenger, champion]
    if not len(y) or not all(_usable(model).all() for model in models):
        return nothing
    try:
        if champion is None:
            measured = {"challenger": metric.way(metric.function, y, [challenger], groups).alone[0]}
        else:
            ours, theirs, gain = guards.gain(metric, y, champion, challenger, groups)
            measured = {"challenger": ours, "champion": theirs, "gain": gain}
    except ValueError:
        return nothing
    given = {role: spread.value for role, spread in measured.items()}
    for role in measured.keys() & {"challenger", "gain"}:
        bounds = measured[role].interval(rule.confidence)
        given |= {f"{role}_low": bounds[0], f"{role}_high": bounds[1]} if bounds else {}
    if "gain" in measured:
        given["p_harm"] = measured["gain"].shown_below(-rule.margin)
    # Adding zero turns a negative zero into zero.
    finite = {key: float(value) + 0.0 for key, value in given.items() if np.isfinite(value)}
    return Comparison(name=name, higher_is_better=metric.higher_is_better, **finite)


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
        groups: the number of each row's group (n,), or None if rows do not belong together.
        segments: for each guarded column the value of each row, as text (n x columns).
        every_metric: also measure the metrics that the rule does not name, for the report.

    Returns:
        Always a decision: what cannot be judged or computed promotes nothing, and the reason says why.
    """
    names = [name for name in of_task(task) if every_metric or name in (rule.metric, *rule.floors)]
    unjudged = None
    try:
        y = inputs.labels(y, task)
        challenger = inputs.predictions(challenger, y, task)
        inputs.beside(y, groups, segments)
    except inputs.Unjudged as why:
        unjudged, y = str(why), np.zeros(0, dtype=np.int64)
        champion, challenger, groups, segments = None, np.zeros(0), None, None
    try:
        champion = None if champion is None else inputs.predictions(champion, y, task)
    except inputs.Unjudged as why:
        champion, champion_error = np.full(challenger.shape, np.nan), champion_error or str(why)
    compared = {name: compare(name, y, champion, challenger, rule, groups) for name in names}
    alone = compared
    if champion is not None and compared[rule.metric].challenger is None:
        alone = {name: compare(name, y, None, challenger, rule, groups) for name in names}
    floors = tuple(_floor(alone[name], floor) for name, floor in rule.floors.items())
    guarded: tuple[Guard, ...] = ()
    if champion is not None and not champion_error and compared[rule.metric].gain is not None:
        guarded = guards.check(y, champion, challenger, rule, groups, segments)
    outcome, reason = _outcome(y, champion, challenger, rule, task, compared, alone, floors, guarded, champion_error)
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
        floors=floors,
        metrics=tuple(compared[n] if compared[n].challenger is not None else alone[n] for n in names),
        guards=guarded[:SHOWN] if all(guard.holds for guard in guarded[SHOWN:]) else guarded,
        guard_confidence=rule.guards.confidence,
    )


def _usable(predicted: Floats) -> NDArray[np.bool_]:
    """Which rows have a finite prediction (n,)."""
    finite = np.isfinite(predicted)
    return finite if predicted.ndim == 1 else np.asarray(finite.all(axis=1))


def _valid(predicted: Floats, task: Task) -> NDArray[np.bool_]:
    """Which rows have a prediction that the task allows (n,): finite, and a probability if the task has classes."""
    if task == "regression":
        return np.isfinite(predicted)
    inside = np.isfinite(predicted) & (predicted >= 0) & (predicted <= 1)
    if predicted.ndim == 1:
        return inside
    whole: NDArray[np.bool_] = np.abs(np.where(inside, predicted, 0).sum(axis=1) - 1) < 1e-3
    return whole & inside.all(axis=1)


def _floor(measured: Comparison, floor: float) -> Floor:
    value = measured.challenger
    holds = value is not None and (value >= floor if measured.higher_is_better else value <= floor)
    return Floor(metric=measured.name, floor=floor, value=value, holds=holds)


def _outcome(
    y: Labels,
    champion: Floats | None,
    challenger: Floats,
    rule: params.Gate,
    task: Task,
    compared: dict[str, Comparison],
    alone: dict[str, Comparison],
    floors: tuple[Floor, ...],
    guarded: tuple[Guard, ...],
    champion_error: str | None,
) -> tuple[Outcome, str]:
    name, gate = rule.metric, compared[rule.metric]
    rows, kind = f"on {len(y)} rows", "number" if task == "regression" else "probability"
    if not len(y):
        return "block", "no row is left to judge by"
    unscored = len(y) - int(_valid(challenger, task).sum())
    if unscored:
        return "block", f"the challenger gave no {kind} for {unscored} of {len(y)} rows"
    if alone[name].challenger is None:
        only = "only one value" if task == "regression" else "only one class"
        return "block", f"{name} cannot be computed: the {len(y)} rows hold {only}"
    for floor in floors:
        if not floor.holds:
            side = "below" if METRICS[floor.metric].higher_is_better else "above"
            value = "not computable" if floor.value is None else f"{floor.value:.4f}"
            return "block", f"{floor.metric} {value} is {side} the floor {floor.floor:g} {rows}"
    if champion is None and alone[name].challenger_low is None:
        return "block", f"{name} {alone[name].challenger:.4f} {rows} has no interval: too few rows to tell"
    if champion is None:
        return "bootstrap", f"no champion yet and every floor holds: {name} {alone[name].challenger:.4f} {rows}"
    if champion_error or not _valid(champion, task).all():
        why = champion_error or f"it gave no {kind} for some of them"
        return "incomparable", f"the champion cannot score these rows: {why}"
    if inputs.same(champion, challenger, y, task):
        # Neither superior nor merely non-inferior: nothing is promoted, by either rule.
        return "keep", f"the two models predict the same {rows}"
    gain, low, high = gate.gain, gate.gain_low, gate.gain_high
    margin = f" by more than {rule.margin:g}" if rule.margin else ""
    wanted = "better" if rule.promote_when == "superior" else "no worse"
    if gain is None or gate.champion is None or low is None or high is None or gate.p_harm is None:
        return "keep", f"not shown to be {wanted}{margin}: too few rows to tell, the difference of {name} {rows}"
    numbers = (
        f"{name} {gate.challenger:.4f} against {gate.champion:.4f}, gain {gain:+.4f} [{low:+.4f}, {high:+.4f}] {rows}"
    )
    if gate.p_harm <= (1 - rule.guards.confidence) / 2:
        return "block", f"shown to be worse{margin}: {numbers}"
    for guard in guarded:
        if not guard.holds:
            return "block", f"{_harm(guard, name)}; over all {numbers}"
    if rule.promote_when == "superior" and low > rule.margin:
        return "promote", f"shown to be better{margin}: {numbers}"
    if rule.promote_when == "non_inferior" and low > -rule.margin:
        return "promote", f"shown not to be worse{margin}: {numbers}"
    return "keep", f"not shown to be {wanted}{margin}: {numbers}"


def _harm(guard: Guard, metric: str) -> str:
    if guard.kind == "calibration":
        # The guard compares squares; their roots are shown.
        squares = guard.challenger, guard.champion, guard.champion + guard.margin
        ours, theirs, most = (float(np.sqrt(max(square, 0))) for square in squares)
        return f"shown to be worse calibrated: error {ours:.4f} against {theirs:.4f}, where {most:.4f} is tolerated"
    values = f"{metric} {guard.challenger:.4f} against {guard.champion:.4f} on its {guard.rows} rows"
    return f"shown to be worse in the segment {guard.name} by more than {guard.margin:g}: {values}"
