"""Is the challenger better than the champion? ``decide`` answers from predictions alone: no file, no clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import config, data
from .config import Frozen
from .errors import Misuse, Refused
from .files import write_bytes, write_json
from .metrics import METRICS
from .project import Project


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


class Floor(Frozen):
    metric: str
    floor: float
    value: float | None
    holds: bool


class Decision(Frozen):
    """An outcome with its reason in words, and every number that it was drawn from."""

    outcome: Literal["bootstrap", "promote", "keep", "block", "incomparable"]
    reason: str
    metric: str
    higher_is_better: bool
    confidence: float
    margin: float
    promote_when: Literal["superior", "non_inferior"]
    rows: int
    positives: int
    floors: tuple[Floor, ...]
    metrics: tuple[Comparison, ...]


def compare(
    name: str,
    y: NDArray[np.int64],
    champion: NDArray[np.float64] | None,
    challenger: NDArray[np.float64],
    confidence: float,
) -> Comparison:
    """One metric of both models on the same rows, with bounds that each hold with ``confidence``.

    The bounds are those of a normal distribution with the covariance that the metric estimates from the paired rows:
    (low, high) is the two-sided interval of level ``2 * confidence - 1``.
    """
    from scipy.stats import norm

    metric = METRICS[name]
    models = [challenger] if champion is None else [challenger, champion]
    usable = [model for model in models if len(model) and _is_probability(model).all()]
    if len(usable) < len(models):
        return Comparison(name=name, higher_is_better=metric.higher_is_better)
    try:
        values, covariance = metric.function(y, np.stack(models))
    except ValueError:
        return Comparison(name=name, higher_is_better=metric.higher_is_better)
    given = {"challenger": values[0]}
    if champion is not None:
        given |= {"champion": values[1], "gain": (values[0] - values[1]) * (1 if metric.higher_is_better else -1)}
    # A single row of a class leaves nothing to estimate a variance from: then there are values without bounds.
    if np.isfinite(covariance).all():
        z = norm.ppf(confidence)
        spread = z * np.sqrt(covariance[0, 0])
        given |= {"challenger_low": values[0] - spread, "challenger_high": values[0] + spread}
        if champion is not None:
            # Rounding may leave a hair below zero where the two models agree everywhere.
            spread = z * np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0))
            given |= {"gain_low": given["gain"] - spread, "gain_high": given["gain"] + spread}
    # Adding zero turns a negative zero into zero.
    finite = {key: float(value) + 0.0 for key, value in given.items() if np.isfinite(value)}
    return Comparison(name=name, higher_is_better=metric.higher_is_better, **finite)


def decide(
    y: NDArray[np.int64],
    champion: NDArray[np.float64] | None,
    challenger: NDArray[np.float64],
    rule: config.Gate,
    champion_error: str | None = None,
) -> Decision:
    """Compare two models on rows that neither was trained on.

    Args:
        y: labels, zeros and ones (n,).
        champion: its predictions (n,), or None if there is no champion. NaN where it could not score.
        challenger: its predictions (n,). NaN where it could not score.
        rule: the gate of params.yaml.
        champion_error: why the champion could not score, if so.

    Returns:
        Always a decision: whatever cannot be computed promotes nothing.
    """
    compared = {name: compare(name, y, champion, challenger, rule.confidence) for name in METRICS}
    alone = compared if champion is None else {n: compare(n, y, None, challenger, rule.confidence) for n in METRICS}
    floors = tuple(_floor(alone[name], floor) for name, floor in rule.floors.items())
    outcome, reason = _outcome(y, champion, challenger, rule, compared, alone, floors, champion_error)
    shown = tuple(compared[n] if compared[n].challenger is not None else alone[n] for n in METRICS)
    return Decision(
        outcome=outcome,
        reason=reason,
        metric=rule.metric,
        higher_is_better=METRICS[rule.metric].higher_is_better,
        confidence=rule.confidence,
        margin=rule.margin,
        promote_when=rule.promote_when,
        rows=len(y),
        positives=int(np.sum(y)),
        floors=floors,
        metrics=shown,
    )


def _is_probability(predicted: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isfinite(predicted) & (predicted >= 0) & (predicted <= 1)


def _floor(measured: Comparison, floor: float) -> Floor:
    value = measured.challenger
    holds = value is not None and (value >= floor if measured.higher_is_better else value <= floor)
    return Floor(metric=measured.name, floor=floor, value=value, holds=holds)


def _outcome(
    y: NDArray[np.int64],
    champion: NDArray[np.float64] | None,
    challenger: NDArray[np.float64],
    rule: config.Gate,
    compared: dict[str, Comparison],
    alone: dict[str, Comparison],
    floors: tuple[Floor, ...],
    champion_error: str | None,
) -> tuple[Literal["bootstrap", "promote", "keep", "block", "incomparable"], str]:
    name, gate = rule.metric, compared[rule.metric]
    rows = f"on {len(y)} rows"
    unscored = len(y) - int(_is_probability(challenger).sum())
    if not len(y):
        return "block", "there is no row that neither model was trained on"
    if unscored:
        return "block", f"the challenger gave no probability for {unscored} of {len(y)} rows"
    if alone[name].challenger is None or alone[name].challenger_low is None:
        only = "only one class" if len(np.unique(y)) < 2 else "too few rows"
        return "block", f"{name} cannot be computed: the {len(y)} rows hold {only}"
    for floor in floors:
        if not floor.holds:
            side = "below" if METRICS[floor.metric].higher_is_better else "above"
            return "block", f"{floor.metric} {floor.value:.4f} is {side} the floor {floor.floor:g} {rows}"
    if champion is None:
        return "bootstrap", f"no champion yet and every floor holds: {name} {alone[name].challenger:.4f} {rows}"
    if champion_error or not _is_probability(champion).all():
        why = champion_error or "it gave no probability for some of them"
        return "incomparable", f"the champion cannot score these rows: {why}"
    if np.array_equal(champion, challenger):
        # Neither superior nor merely non-inferior: there is nothing to promote, by whatever rule.
        return "keep", f"the two models predict the same {rows}"
    gain, low, high = gate.gain, gate.gain_low, gate.gain_high
    if gain is None or low is None or high is None:
        return "block", f"the difference of {name} has no finite interval {rows}"
    numbers = (
        f"{name} {gate.challenger:.4f} against {gate.champion:.4f}, gain {gain:+.4f} [{low:+.4f}, {high:+.4f}] {rows}"
    )
    margin = f" by more than {rule.margin:g}" if rule.margin else ""
    if rule.promote_when == "superior" and low > rule.margin:
        return "promote", f"shown to be better{margin}: {numbers}"
    if rule.promote_when == "non_inferior" and low > -rule.margin:
        return "promote", f"shown not to be worse{margin}: {numbers}"
    if high < -rule.margin:
        return "block", f"shown to be worse{margin}: {numbers}"
    wanted = "better" if rule.promote_when == "superior" else "no worse"
    return "keep", f"not shown to be {wanted}{margin}: {numbers}"


def _parquet(path: Path, damaged: str) -> Any:
    """The table at ``path``.

    Raises:
        Misuse: it is no Parquet file; ``damaged`` says what to do then.
    """
    from pyarrow import ArrowException, parquet

    try:
        return parquet.read_table(path)
    except (ArrowException, OSError, ValueError) as error:
        raise Misuse(f"{path.name}: damaged ({type(error).__name__}); {damaged}") from None


def read_judged(path: Path) -> pd.DataFrame:
    """build/judged.parquet: label, champion and challenger of each row that was judged.

    Raises:
        Misuse: it is damaged.
    """
    return _parquet(path, "run `make compare` again").to_pandas()


def read_scores(project: Project) -> tuple[pd.DataFrame, dict[str, Any]]:
    """build/scores.parquet and what it says of its models.

    Raises:
        Misuse: it is missing or damaged.
    """
    path = project.build / "scores.parquet"
    if not path.is_file():
        raise Misuse(f"{path.name}: missing; run `make score` first")
    table = _parquet(path, "run `make score` again")
    try:
        about = json.loads(table.schema.metadata[b"scores"])
        frame = table.select(["row", "content", "champion", "challenger"]).to_pandas()
    except (KeyError, TypeError, ValueError) as error:
        raise Misuse(f"{path.name}: damaged ({type(error).__name__}); run `make score` again") from None
    return frame, about


def run(project: Project) -> str:
    """Write build/decision.json, and the rows it is about to build/judged.parquet.

    The scores may come from an untrusted job: labels, split and rule come from here.
    """
    scores, about = read_scores(project)
    frame, names = project.frame, project.params.data
    champion = project.ledger.champion()
    if (about["champion"] or {}).get("digest") != (champion.digest if champion else None):
        raise Misuse("scores.parquet: the champion has changed since; run `make score` again")
    held_out = ~data.split(frame, names, project.params.split).trained_on(frame)
    fresh = held_out.copy()
    error = about["champion_error"]
    if champion and not error:
        fresh &= ~project.ledger.bundle(champion).split.trained_on(frame)
    positions = np.flatnonzero(fresh)
    rows = frame.iloc[positions]
    # A row counts only if the scores are of this very row: place and content.
    given = scores.astype({"content": "UInt64"}).drop_duplicates("row").set_index("row").reindex(positions)
    same = given["content"].to_numpy(dtype=np.uint64, na_value=0) == data.row_hash(rows)
    ours = np.where(same, given["challenger"].to_numpy(dtype=np.float64), np.nan)
    theirs = np.where(same, given["champion"].to_numpy(dtype=np.float64), np.nan) if champion else None
    if champion and project.untrusted:
        # The champion's bytes are in the ledger: what a pull request says of its predictions need not be believed.
        from . import score

        theirs, error = score.of_champion(project, champion, data.features(rows, names))
    y = data.labels(frame, names)[positions]
    decision = decide(y, theirs, ours, project.params.gate, error)
    judged = pd.DataFrame({"label": y, "champion": np.nan if theirs is None else theirs, "challenger": ours})
    write_bytes(project.build / "judged.parquet", judged.to_parquet(index=False))
    write_json(
        project.build / "decision.json",
        {
            **project.header(),
            "champion": champion.model_dump() if champion else None,
            "challenger": about["challenger"],
            "ledger": project.ledger.number,
            "holdout_rows": int(held_out.sum()),
            "excluded_rows": int(held_out.sum() - fresh.sum()),
            "decision": decision.model_dump(mode="json"),
        },
    )
    if decision.outcome == "block":
        raise Refused(f"block: {decision.reason}")
    return f"{decision.outcome}: {decision.reason}"
