"""What may explain the live loss: what moved, which expectations fail, segments, traffic, and rows without labels.

Nothing here changes the state of the alarm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core.errors import Misuse
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.core.tasks import Task
from conveyor.data import contract, units
from conveyor.data.hashing import utc
from conveyor.gate.spread import Floats
from conveyor.ledger.events import Champion
from conveyor.model.bundle import Bundle
from conveyor.model.signature import columns_of
from conveyor.model.types import TRUTH, as_trained
from conveyor.watch import few_labels, log_rows, loss, moved, segments
from conveyor.watch.labels import Joined

CHECKED = 200_000  # live rows that the contract looks at; of more, as many at equal distances
NO_LOSS = "a model of numbers tells no loss that it expects, so rows without a label tell nothing of it"


@dataclass(frozen=True)
class Contract:
    """The expectations of training, checked on live rows.

    Attributes:
        why: why they were not checked, else None.
        count: how many were; those of the target, of the whole table and of columns that are not logged are left out.
        failing: those that fail, in words.
    """

    why: str | None = None
    count: int = 0
    failing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explained:
    """What may explain the live loss of a champion; of the last days of the log.

    Attributes:
        why: why columns, score and segments are not known, else None.
        days: the length of that time.
        rows, live_days: predictions of the champion in it, and days that have one.
        columns: what became of each feature that is logged, the largest difference first.
        scores: the same of the prediction, of several classes of each one's probability; before: of the holdout.
        private: features that are not logged.
        contract: the expectations.
        segments: live loss and that of the holdout.
        traffic: predictions of each day, of all models; None: the log has no complete day.
        few: the loss where few rows have a label, else None.
        few_why: why it is not known though few rows have a label.
    """

    why: str | None
    days: int = log_rows.RECENT.days
    rows: int = 0
    live_days: int = 0
    columns: tuple[moved.Column, ...] = ()
    scores: tuple[moved.Column, ...] = ()
    private: int = 0
    contract: Contract = Contract()
    segments: tuple[segments.Segment, ...] = ()
    traffic: moved.Traffic | None = None
    few: few_labels.FewLabels | None = None
    few_why: str | None = None


def wanted(project: Project, bundle: Bundle) -> dict[str, str]:
    """The features to read of the log, and the kind of each: those of the model, and columns of segments."""
    data = project.params.data
    kinds = {column.name: column.kind for column in columns_of(bundle)}
    kinds |= {
        name: "text" for name in project.params.gate.guards.segments if name not in kinds and name in bundle.unused
    }
    return {name: kind for name, kind in kinds.items() if name not in (*data.private, data.target)}


def explain(
    project: Project,
    champion: Champion,
    bundle: Bundle,
    log: log_rows.Read,
    found: Joined,
    then: loss.Then | loss.Untold,
    now: pd.Timestamp,
) -> Explained:
    """All of it.

    Args:
        log: with the features of ``wanted``.
        found: its rows with labels.
        then: the champion's data, or why they are not known.
        now: the present time.
    """
    window = log.rows.loc[log.features.index]
    window = window[window["model"] == champion.key]
    traffic = moved.traffic(log.rows["time"], log.refusals, now, log_rows.RECENT.days)
    if not len(window):
        why = f"the last {log_rows.RECENT.days} days of the log hold no prediction of this model"
        return Explained(why, traffic=traffic)
    asked, day = bundle.asked, units.blocks(window["time"], "day")
    labelled = loss.labelled(found, log.rows, champion.key, asked["task"], loss.block_of(project.params.gate))
    labelled = labelled[labelled.index.isin(window.index)]
    predicted = np.stack(window["prediction"].to_list()).astype(np.float64)
    known = window.index.isin(labelled.index)
    few, few_why = None, None
    if asked["task"] == "regression":
        few_why = NO_LOSS if few_labels.ROWS <= known.sum() < few_labels.FEW * len(known) else None
    else:
        losses = labelled["loss"].reindex(window.index[known]).to_numpy(dtype=np.float64)
        few = few_labels.estimate(few_labels.expected(predicted), day, known, losses)
    about: dict[str, Any] = dict(rows=len(window), live_days=len(np.unique(day)), traffic=traffic)
    about |= dict(few=few, few_why=few_why)
    if isinstance(then, loss.Untold):
        return Explained(str(then), **about)
    kinds = {column.name: column.kind for column in columns_of(bundle)}
    private = sum(name in project.params.data.private for name in kinds)
    kinds = {name: kind for name, kind in kinds.items() if name not in project.params.data.private}
    live = log.features.loc[window.index]
    rows = _typed(live, kinds, bundle)
    scores, columns = _moved(project, then, live, day, predicted, cast(Mapping[str, moved.Kind], kinds), asked)
    return Explained(
        None,
        **about,
        private=private,
        columns=tuple(sorted(columns, key=lambda column: (-column.size, column.name))),
        scores=tuple(scores),
        contract=_contract(project, champion, rows),
        segments=_segments(project, then, live.loc[labelled.index], rows.loc[labelled.index], labelled, asked["task"]),
    )


def _moved(
    project: Project,
    then: loss.Then,
    live: pd.DataFrame,
    day: NDArray[np.int64],
    predicted: Floats,
    kinds: Mapping[str, moved.Kind],
    asked: Mapping[str, Any],
) -> tuple[list[moved.Column], list[moved.Column]]:
    """Scores and columns."""
    days = _days(project, then.frame)
    classes = [f"probability of {name}" for name in asked["classes"]] if predicted.ndim == 2 else ["prediction"]
    scores = [
        moved.score(name, before, days[then.held], now, day)
        for name, before, now in zip(classes, np.atleast_2d(then.predicted.T), np.atleast_2d(predicted.T), strict=True)
    ]
    trained = then.frame[~then.held]
    found = moved.tested(scores + moved.columns(trained, days[~then.held], live, day, kinds))
    return found[: len(scores)], found[len(scores) :]


def _days(project: Project, frame: pd.DataFrame) -> NDArray[np.int64]:
    time = project.params.data.time
    assert time is not None  # there would be no Then
    return units.blocks(utc(frame[time]), "day")


def _typed(live: pd.DataFrame, kinds: Mapping[str, str], bundle: Bundle) -> pd.DataFrame:
    """Features of the log in the types of training; what is no such value is missing."""
    found = {}
    for name, values in live.items():
        kind = kinds.get(str(name))
        if kind == "number":
            found[name] = values.where(np.isfinite(values))
        elif kind == "time":
            found[name] = pd.to_datetime(values.astype(object), errors="coerce", format="ISO8601", utc=True)
        elif kind == "truth":
            found[name] = values.astype(object).map(lambda text: TRUTH.get(str(text).lower()), na_action="ignore")
        elif kind == "text":
            found[name] = values.astype(object)
    return as_trained(pd.DataFrame(found, index=live.index), bundle)


# The contract


def _contract(project: Project, champion: Champion, rows: pd.DataFrame) -> Contract:
    try:
        suite = _suite(project, champion)
        wanted = [each for each in suite["expectations"] if _concerns(each, rows)]
        if not wanted:
            return Contract("no expectation is about a column that is logged")
        seen = rows.iloc[:: -(-len(rows) // CHECKED)].reset_index(drop=True)
        outcomes = contract.validate(seen, {**suite, "expectations": wanted})
    except Misuse as error:
        return Contract(str(error))
    # A gap makes whole numbers floats: it is told by itself.
    failing = [
        outcome
        for outcome in outcomes
        if not outcome.passed and not ("in_type" in outcome.type and seen[outcome.column].isna().any())
    ]
    return Contract(None, len(wanted), tuple(re.sub(r" in row \d+", "", outcome.detail) for outcome in failing))


def _suite(project: Project, champion: Champion) -> dict[str, Any]:
    """The suite of a commit, or the present one if that has none."""
    try:
        suite = json.loads(project.git("show", f"{champion.commit}:./{contract.SUITE}"))
        if all(isinstance(each["type"], str) for each in suite["expectations"]):
            return {"name": "data", **suite}
    except (GitError, ValueError, KeyError, TypeError):
        pass
    return contract.read_suite(project.root / contract.SUITE)


def _concerns(expectation: Mapping[str, Any], rows: pd.DataFrame) -> bool:
    """Whether an expectation is about one column that is logged. Rows may be asked twice, so none is unique."""
    given = expectation.get("kwargs") or {}
    column = given.get("column")
    return (
        isinstance(column, str)
        and column in rows
        and "row_condition" not in given
        and "unique" not in expectation["type"]
    )


# Segments


def _segments(
    project: Project, then: loss.Then, live: pd.DataFrame, rows: pd.DataFrame, labelled: pd.DataFrame, task: Task
) -> tuple[segments.Segment, ...]:
    held = then.frame[then.held]
    parts = {
        name: rows[name] if name in rows else _like(live[name], held[name])
        for name in project.params.gate.guards.segments
        if name in live and name in held
    }
    if not parts or not len(labelled):
        return ()
    return segments.compared(
        pd.DataFrame(parts, index=rows.index),
        units.blocks(labelled["time"], "day"),
        labelled["loss"].to_numpy(dtype=np.float64),
        held[list(parts)],
        _days(project, then.frame)[then.held],
        loss.of_rows(task, then.y.astype(np.float64), then.predicted),
    )


def _like(values: pd.Series, then: pd.Series) -> pd.Series:
    """Texts of the log as numbers, where the column has numbers."""
    texts = values.astype(object)
    if not pd.api.types.is_numeric_dtype(then) or pd.api.types.is_bool_dtype(then):
        return texts
    numbers = pd.to_numeric(texts, errors="coerce")
    whole = pd.api.types.is_integer_dtype(then) and not numbers.isna().any()
    return numbers.astype(then.dtype) if whole and (numbers % 1 == 0).all() else numbers
