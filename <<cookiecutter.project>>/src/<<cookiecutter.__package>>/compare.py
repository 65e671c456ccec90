"""Is the challenger better than the champion? ``decide`` answers from predictions alone: no file, no clock."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import changes, config, data, guards, tables
from .config import Frozen
from .errors import Misuse, Refused
from .files import sha256, write_json
from .guards import Guard
from .intervals import Floats, Groups
from .metrics import METRICS, Labels, Task, of_task
from .project import Project

SLOWER, LARGER = 1.5, 2.0  # times the champion's seconds or bytes from which on the report warns
SHOWN = 100  # segments that a decision lists

Outcome = Literal["bootstrap", "promote", "keep", "block", "incomparable"]


class Comparison(Frozen):
    """One metric of both models. A gain is positive when the challenger is the better one, whatever the direction."""

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
    """An outcome with its reason in words, and every number that it was drawn from.

    ``class_counts`` holds the rows of each class, none for a regression; ``guard_confidence`` is that of the guards and
    of the test for harm together.
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
    name: str, y: Labels, champion: Floats | None, challenger: Floats, rule: config.Gate, groups: Groups = None
) -> Comparison:
    """One metric of both models on the same rows, with bounds that each hold with the rule's confidence.

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
    rule: config.Gate,
    champion_error: str | None = None,
    task: Task = "binary",
    groups: Groups = None,
    segments: pd.DataFrame | None = None,
    every_metric: bool = True,
) -> Decision:
    """Compare two models on rows that neither was trained on.

    Args:
        y: labels (n,): zeros and ones, numbers of classes, or numbers; see metrics.py for each task.
        champion: its predictions, (n,) or of several classes (n x classes), or None if there is no champion. NaN where
            it could not score.
        challenger: its predictions of the same shape. NaN where it could not score.
        rule: the gate of params.yaml.
        champion_error: why the champion could not score, if so.
        task: what the labels are.
        groups: the number of its group for each row (n,), or None where rows do not belong together.
        segments: for each column to guard the value of each row, as text (n x columns).
        every_metric: also measure the metrics that the rule does not name, for the report.

    Returns:
        Always a decision: whatever cannot be computed promotes nothing.
    """
    names = [name for name in of_task(task) if every_metric or name in (rule.metric, *rule.floors)]
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
        outcome=outcome,
        reason=reason,
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
    """Which rows have a prediction that is a number (n,)."""
    finite = np.isfinite(predicted)
    return finite if predicted.ndim == 1 else finite.all(axis=1)


def _valid(predicted: Floats, task: Task) -> NDArray[np.bool_]:
    """Which rows have a prediction that the task allows (n,): finite, and a probability where it has to be one."""
    if task == "regression":
        return np.isfinite(predicted)
    inside = np.isfinite(predicted) & (predicted >= 0) & (predicted <= 1)
    if predicted.ndim == 1:
        return inside
    return inside.all(axis=1) & (np.abs(np.where(inside, predicted, 0).sum(axis=1) - 1) < 1e-3)


def _floor(measured: Comparison, floor: float) -> Floor:
    value = measured.challenger
    holds = value is not None and (value >= floor if measured.higher_is_better else value <= floor)
    return Floor(metric=measured.name, floor=floor, value=value, holds=holds)


def _outcome(
    y: Labels,
    champion: Floats | None,
    challenger: Floats,
    rule: config.Gate,
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
    if np.allclose(champion, challenger, rtol=1e-12, atol=1e-12):
        # Neither superior nor merely non-inferior: there is nothing to promote, by whatever rule.
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
        # Squares are compared, and told as what they are squares of.
        squares = guard.challenger, guard.champion, guard.champion + guard.margin
        ours, theirs, most = (float(np.sqrt(max(square, 0))) for square in squares)
        return f"shown to be worse calibrated: error {ours:.4f} against {theirs:.4f}, where {most:.4f} is tolerated"
    values = f"{metric} {guard.challenger:.4f} against {guard.champion:.4f} on its {guard.rows} rows"
    return f"shown to be worse in the segment {guard.name} by more than {guard.margin:g}: {values}"


def read_judged(project: Project) -> dict[str, NDArray[Any]]:
    """build/judged.parquet: label, champion and challenger of each row that was judged.

    Raises:
        Misuse: it is missing or damaged.
    """
    return tables.read(project.build / "judged.parquet", ("label", "champion", "challenger"), made_by="compare")[0]


def read_scores(project: Project) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """build/scores.parquet and what it says of its models, which may be anything: an untrusted job wrote it.

    Raises:
        Misuse: it is missing, damaged, or not what `score` writes.
    """
    path = project.build / "scores.parquet"
    scores, about = tables.read(path, ("row", "content", "champion", "challenger"), made_by="score")
    numbers = scores["row"].dtype.kind in "iu" and scores["content"].dtype == np.uint64
    if not numbers or scores["row"].ndim != 1 or scores["content"].ndim != 1:
        raise Misuse(f"{path.name}: damaged (no rows of this data); run `make score` again")
    for role in ("champion", "challenger"):
        about[role] = about.get(role) if isinstance(about.get(role), dict) else {}
    return scores, about


def of_rows(
    scores: dict[str, NDArray[Any]], positions: NDArray[np.int64], content: NDArray[np.uint64]
) -> dict[str, NDArray[Any]]:
    """The predictions for rows of the data, NaN where the scores are not of this very row: place and content.

    Args:
        scores: the columns of build/scores.parquet, which an untrusted job may have written.
        positions: the rows (n,).
        content: their hashes (n,).
    """
    place = {int(row): number for number, row in reversed(list(enumerate(scores["row"].tolist())))}
    found = np.array([place.get(position, -1) for position in positions.tolist()], dtype=np.int64)
    same = found >= 0
    same[same] = scores["content"][found[same]] == content[same]
    given = {}
    for role in ("champion", "challenger"):
        column = scores[role].astype(np.float64)
        given[role] = np.full((len(positions), *column.shape[1:]), np.nan)
        given[role][same] = column[found[same]]
    return given


def warnings(cost: Any) -> list[str]:
    """What is said of latency and size, which never decide: what was measured may come from an untrusted job."""
    told = []
    try:
        for what, unit, limit in (("seconds", f"for {int(cost['rows'])} rows", SLOWER), ("bytes", "as stored", LARGER)):
            ours, theirs = float(cost[what]["challenger"]), float(cost[what]["champion"])
            if ours > limit * theirs > 0:
                told.append(f"the challenger takes {ours / theirs:.1f} times the champion's {what} {unit}")
    except (KeyError, TypeError, ValueError):
        pass  # not measured
    return told


def run(project: Project) -> str:
    """Write build/decision.json, and the rows it is about to build/judged.parquet.

    The scores may come from an untrusted job: labels, split and rule come from here.
    """
    scores, about = read_scores(project)
    frame, names = project.frame, project.params.data
    champion = project.ledger.champion()
    if about["champion"].get("digest") != (champion.digest if champion else None):
        raise Misuse("scores.parquet: the champion has changed since; run `make score` again")
    changed, key = changes.find(project), str(about["challenger"].get("key"))
    banned = project.ledger.quarantine_of(key)
    quarantined = [f"this model will not be promoted: {project.ledger.why_quarantined(banned)}"] if banned else []
    held_out = ~data.split(frame, names, project.params.split).trained_on(frame)
    # A pull request's word on why the champion cannot score counts as little as its predictions.
    error = str(about["champion_error"]) if about.get("champion_error") and not project.pull else None
    learnt = np.zeros(len(frame), dtype=bool)
    if champion:
        try:
            learnt = held_out & data.SplitRule.of(project.ledger.bundle(champion)).trained_on(frame)
        except Misuse as unknown:
            error = error or str(unknown)
    altered = held_out & ~learnt & np.isin(np.arange(len(frame)), changed.altered_rows)
    positions = np.flatnonzero(held_out & ~learnt & ~altered)
    rows = frame.iloc[positions]
    given = of_rows(scores, positions, data.row_hash(rows))
    ours, theirs = given["challenger"], given["champion"] if champion else None
    if champion and project.pull:
        # The champion's bytes are in the ledger: what a pull request says of its predictions need not be believed.
        from . import score

        with score.of_champion(project, champion, data.features(rows, names)) as (scored, failed):
            theirs = scored.predictions if scored else np.full(len(rows), np.nan)
        error = error or failed
    y = data.labels(frame, names)[positions]
    wide = len(data.classes(frame, names)) if names.task == "multiclass" else 1
    ours = _shaped(ours, wide)
    if champion and not error and _shaped(theirs, wide) is not theirs:
        error = "its predictions are not those of this task"
    decision = decide(
        y,
        theirs if theirs is None else _shaped(theirs, wide),
        ours,
        changed.rule,
        error,
        names.task,
        np.unique(rows[names.group].astype(str), return_inverse=True)[1] if names.group else None,
        guards.segment(rows, changed.rule.guards.segments) if changed.rule.guards.segments else None,
    )
    holdout = sha256(np.sort(data.row_hash(rows)).tobytes())
    columns = {"label": y, "champion": np.full(ours.shape, np.nan) if theirs is None else theirs, "challenger": ours}
    tables.write(project.build / "judged.parquet", columns, {})
    write_json(
        project.build / "decision.json",
        {
            **project.header(),
            "champion": champion.model_dump() if champion else None,
            "challenger": about["challenger"],
            "ledger": project.ledger.number,
            "holdout": holdout,
            "holdout_rows": int(held_out.sum()),
            "left_out": {"champion_trained": int(learnt.sum()), "altered": int(altered.sum())},
            "decisions_before": project.ledger.decisions(holdout, key),
            "rule_of": changed.rule_of,
            "flags": [*changed.flags, *quarantined],
            "warnings": warnings(about.get("cost")),
            "decision": decision.model_dump(mode="json"),
        },
    )
    if decision.outcome == "block":
        raise Refused(f"block: {decision.reason}")
    return f"{decision.outcome}: {decision.reason}"


def _shaped(predicted: Floats, wide: int) -> Floats:
    """Predictions of the shape that the task has, NaN where they are of another one."""
    shape = (len(predicted),) if wide == 1 else (len(predicted), wide)
    return predicted if predicted.shape == shape else np.full(shape, np.nan)
