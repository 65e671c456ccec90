"""Compare the challenger with the champion on rows that neither was trained on, and write build/decision.json."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core import ci, params
from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import sha256, write_json
from conveyor.core.project import Project
from conveyor.data import columns, hashing, split, tables, units
from conveyor.data.source import frame_of
from conveyor.gate import guards, looks, overlap
from conveyor.gate.decide import decide
from conveyor.gate.decision import BANNED, Decision
from conveyor.gate.spread import Floats
from conveyor.ledger.ledger import ledger_of
from conveyor.model.scoring import of_champion
from conveyor.steps import judge, verify

SLOWER, LARGER = 1.5, 2.0  # the report warns from so many times the champion's seconds or bytes on


def read_scores(project: Project) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """build/scores.parquet and its note. An untrusted job may have written both, so they can hold anything.

    Raises:
        Misuse: the file is missing, damaged, or not in the format of `score`.
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
    """The predictions for rows of the data; NaN unless the score's position and content are those of the row.

    Args:
        scores: the columns of build/scores.parquet, possibly from an untrusted job.
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
    """Warnings about latency and size. They never decide: the measurements may come from an untrusted job."""
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
    """Judge, and tell a workflow the outcome, because a verdict that stops its job is recorded by the next one.

    Raises:
        Refused: the challenger is blocked.
    """
    decision = judge_now(project)
    ci.outputs(project.environment, outcome=decision.outcome)
    if decision.outcome == "block":
        raise Refused(f"block: {decision.reason}")
    return f"{decision.outcome}: {decision.reason}"


def judge_now(project: Project) -> Decision:
    """Write build/decision.json, its rows to build/judged.parquet, and build/receipt.json where that may be.

    The scores may come from an untrusted job: labels, split and rule come from here.
    """
    scores, about = read_scores(project)
    frame, names = frame_of(project), project.params.data
    champion = ledger_of(project).champion()
    if about["champion"].get("digest") != (champion.digest if champion else None):
        # In a workflow another job has made the scores, which would be the same if this one alone ran again.
        again = "choose Re-run all jobs" if project.environment.run_url else "run `make score` again"
        raise Misuse(f"scores.parquet: the champion has changed since; {again}")
    changed, key = judge.find(project), str(about["challenger"].get("key"))
    banned = ledger_of(project).quarantine_of(key)
    quarantined = [f"{BANNED}: {ledger_of(project).why_quarantined(banned)}"] if banned else []
    rule = split.split(frame, names, project.params.split, project.params.gate.block)
    held_out, apart = ~rule.trained_on(frame), ""
    # An error that the pull request reports for the champion counts as little as its predictions.
    error = str(about["champion_error"]) if about.get("champion_error") and not project.pull else None
    learnt = np.zeros(len(frame), dtype=bool)
    recipe = None
    if champion:
        try:
            bundle = ledger_of(project).bundle(champion)
            recipe = looks.recipe_of(about["challenger"].get("recipe"), bundle.recipe)
            theirs_rule = split.SplitRule.read(bundle.path)
            learnt = held_out & theirs_rule.trained_on(frame)
            apart = "" if project.pull else rule.unlike(theirs_rule)  # a pull request is judged by the split of main
        except Misuse as unknown:
            error = error or str(unknown)
    altered = held_out & ~learnt & np.isin(np.arange(len(frame)), changed.altered_rows)
    positions = np.flatnonzero(held_out & ~learnt & ~altered)
    rows = frame.iloc[positions]
    content = hashing.row_hash(rows)
    given = of_rows(scores, positions, content)
    ours, theirs = given["challenger"], given["champion"] if champion else None
    if champion and project.pull:
        # The champion's bytes are in the ledger: its predictions are computed here, not taken from the pull request.
        with of_champion(project, ledger_of(project).bundle(champion), columns.features(rows, names)) as (
            scored,
            failed,
        ):
            theirs = scored.predictions if scored else np.full(len(rows), np.nan)
        error = error or failed
    y = columns.labels(frame, names)[positions]
    wide = len(columns.classes(frame, names)) if names.task == "multiclass" else 1
    ours = _shaped(ours, wide)
    if theirs is not None and not error and _shaped(theirs, wide) is not theirs:
        error = "its predictions are not those of this task"
    best = _best(project, changed.rule, columns.features(rows, names)) if champion and not error else None
    groups, unit = units.units(rows, names, changed.rule.block)
    sight = looks.Sight(
        holdout=sha256(np.sort(content).tobytes()), rows=len(rows), sketch=overlap.sketch(content), recipe=recipe
    )
    history = ledger_of(project).history()
    asked: dict[str, Any] = {
        "y": y,
        "champion": theirs if theirs is None else _shaped(theirs, wide),
        "challenger": ours,
        "rule": changed.rule,
        "champion_error": error,
        "task": names.task,
        "groups": groups,
        "segments": guards.segment(rows, changed.rule.guards.segments) if changed.rule.guards.segments else None,
        "unit": unit,
        "look": looks.next_look(history, changed.rule, key, champion.key, sight) if champion else None,
        "anchor": None if best is None else _shaped(best, wide),
    }
    decision = decide(**asked)
    receipt = verify.write(
        project,
        asked,
        decision,
        key=key,
        digest=str(about["challenger"].get("digest")),
        champion_digest=champion.digest if champion else None,
        holdout=str(sight.holdout),
    )
    judged = {"label": y, "champion": np.full(ours.shape, np.nan) if theirs is None else theirs, "challenger": ours}
    tables.write(project.build / "judged.parquet", judged, {})
    write_json(
        project.build / "decision.json",
        {
            **project.header(),
            "champion": champion.model_dump() if champion else None,
            "challenger": about["challenger"],
            "ledger": ledger_of(project).number,
            "sight": (sight if decision.tested else sight.model_copy(update={"rows": 0, "sketch": None})).model_dump(),
            "receipt": receipt,
            "holdout_rows": int(held_out.sum()),
            "left_out": {"champion_trained": int(learnt.sum()), "altered": int(altered.sum())},
            "anchor": _anchor(project, decision),
            "rule_of": changed.rule_of,
            "flags": [*changed.flags, *([apart] if apart else []), *quarantined],
            "warnings": warnings(about.get("cost")),
            "decision": decision.model_dump(mode="json"),
        },
    )
    return decision


def _best(project: Project, rule: params.Gate, rows: pd.DataFrame) -> Floats | None:
    """The predictions of the best champion so far, where the rule asks for them and it is another model.

    NaN if it cannot score these rows.
    """
    ledger = ledger_of(project)
    champion, best = ledger.champion(), ledger.stored(ledger.anchor() or "")
    if rule.promote_when != "non_inferior" or champion is None or best is None or best.key == champion.key:
        return None
    with of_champion(project, ledger.bundle(best.champion, "anchor"), rows) as (scored, _):
        return scored.predictions if scored else np.full(len(rows), np.nan)


def _anchor(project: Project, decision: Decision) -> str | None:
    """The key of the best champion so far once this challenger is champion; None: it is that itself.

    A challenger that is shown to be better than the champion, or measures better than the best one, is the new best.
    """
    champion, key = ledger_of(project).champion(), ledger_of(project).anchor()
    gain = decision.anchor_gain
    if champion and key == champion.key:
        gain = {one.name: one.gain for one in decision.metrics}[decision.metric]
    return None if decision.promote_when == "superior" or (gain is not None and gain >= 0) else key


def _shaped(predicted: Floats, wide: int) -> Floats:
    """Predictions in the shape of the task; NaN if they have another shape."""
    shape = (len(predicted),) if wide == 1 else (len(predicted), wide)
    return predicted if predicted.shape == shape else np.full(shape, np.nan)
