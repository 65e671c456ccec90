"""The model card of a release: the model's purpose, origin, quality and limits."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.data import columns, split, units
from conveyor.data.source import frame_of
from conveyor.gate import guards
from conveyor.gate.balance import balance
from conveyor.gate.decide import compare, floor
from conveyor.gate.decision import Comparison
from conveyor.gate.looks import History
from conveyor.gate.metrics import of_task
from conveyor.ledger.events import Event
from conveyor.ledger.ledger import ledger_of
from conveyor.model import scoring
from conveyor.model.bundle import Bundle
from conveyor.report import evidence
from conveyor.report.wording import (
    FLATTERED,
    NO_FLOOR,
    counted,
    escape,
    interval,
    number,
    percent,
    plain,
    threshold_line,
)

FEWEST = 30  # least rows of a segment with a line
SEGMENTS = 40  # lines


def markdown(project: Project, bundle: Bundle, version: str, event: Event, image: str) -> str:
    """The card, measured again on the pinned data of this commit, on rows that the model was not trained on.

    Raises:
        Misuse: the model cannot score them, or there are none.
    """
    names, rule, lineage = project.params.data, project.params.gate, bundle.lineage
    frame = frame_of(project)
    held_out = ~split.split(frame, names, project.params.split, project.params.gate.block).trained_on(frame)
    unseen = held_out & ~split.SplitRule.read(bundle.path).trained_on(frame)
    rows = frame.iloc[np.flatnonzero(unseen)]
    if not len(rows):
        raise Misuse(f"release: {names.path} holds no row that the model was not trained on; there is nothing to tell")
    with scoring.of_champion(project, bundle, columns.features(rows, names)) as (scored, error):
        if scored is None:
            raise Misuse(f"release: the model cannot score {names.path}: {error}; its card cannot be written")
        predicted = scored.predictions
    y = columns.labels(frame, names)[unseen]
    groups, unit = units.units(rows, names, rule.block)

    def measured(metric: str, mask: Any = slice(None)) -> Comparison:
        own = None if groups is None else np.unique(groups[mask], return_inverse=True)[1]
        return compare(metric, y[mask], None, predicted[mask], rule, own)

    told = [
        f"# {project.package} {version}",
        "",
        f"Predicts {code(names.target)} ({names.task}"
        + (f": {', '.join(escape(c) for c in lineage['classes'][:20])}" if lineage["classes"] else "")
        + f") from {counted(len(bundle.features), 'column')}: {', '.join(map(code, bundle.features))}.",
        "",
        "## How good it is",
        "",
        f"On {counted(len(rows), 'row')} of {code(names.path)} that it was not trained on{_times(rows, names)};"
        + ("" if groups is None else f" {escape(evidence.unit(int(groups.max()) + 1, unit))};")
        + f" each bound holds with {percent(rule.confidence)} confidence.",
        "",
        "| metric | value | interval | |",
        "|---|--:|:-:|---|",
    ]
    for metric in of_task(names.task):
        notes = ["decides"] * (metric == rule.metric)
        found = measured(metric)
        if metric in rule.floors:
            least = f"floor {rule.floors[metric]:g}"
            notes.append(least if floor(found, rule.floors[metric]).holds else f"**beyond the {least}**")
        told.append(_line(found, escape(metric), ", ".join(notes)))
    told += [] if rule.floors else ["", f"No floor is set: {NO_FLOOR}."]
    if names.task == "binary":
        balanced = balance(y, predicted)
        line = threshold_line(rule.threshold, balanced.model_dump() if balanced else None, "the model")
        told += ["", f"Threshold: {line}."]
    told += _segments(rows, project, measured)
    told += [
        "",
        "## What it was made from",
        "",
        f"- Data: sha256 `{lineage['data_sha256']}`; rows it was trained on: {lineage['trained_rows']:,}",
        f"- Parameters: {code(json.dumps(lineage['params']), 1000)}",
        f"- Code of the model: commit `{lineage['commit']}`; of the service around it: `{project.commit}`",
        f"- Model: key `{event.key}`, digest `{event.digest}`",
        f"- Champion since {event.time}, event {event.number} of the ledger, by {escape(event.by)}:"
        f" {escape(event.reason)}",
        f"- Image: {code(image)}",
        "",
        "## Limits",
        "",
        *_limits(project, rule, rows),
        *_flattered(ledger_of(project).history(), event.key),
        "",
    ]
    return "\n".join(told)


def code(value: Any, length: int = 200) -> str:
    """Text as a span of code, whatever characters it holds."""
    return f"`{plain(value, length).replace('`', ' ')}`"


def _times(rows: Any, names: Any) -> str:
    """The period of the rows, if they have a time."""
    if not names.time:
        return ""
    first, last = rows[names.time].min(), rows[names.time].max()
    return f", from {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _line(metric: Comparison, name: str, note: str) -> str:
    bounds = interval(metric.challenger_low, metric.challenger_high) or "none"
    return f"| {name} | {number(metric.challenger)} | {bounds} | {note} |"


def _segments(rows: Any, project: Project, measured: Any) -> list[str]:
    """The deciding metric in each guarded segment, the worst first."""
    rule = project.params.gate
    if not rule.guards.segments:
        return ["", "No segment is guarded: `gate.guards.segments` names no column."]
    found = guards.segment(rows, rule.guards.segments)
    lines: list[tuple[float, str]] = []
    small = 0
    for column in found:
        for value in sorted(set(found[column])):
            mask = (found[column] == value).to_numpy()
            metric = measured(rule.metric, mask)
            if mask.sum() < FEWEST or metric.challenger is None:
                small += 1
                continue
            badness = metric.challenger if metric.higher_is_better else -metric.challenger
            lines.append((badness, _line(metric, escape(f"{column} {value}", 80), f"{int(mask.sum()):,} rows")))
    told = ["", f"In the segments that the gate guards, by {escape(rule.metric)}, the worst first:", ""]
    told += ["| segment | value | interval | |", "|---|--:|:-:|---|", *(line for _, line in sorted(lines)[:SEGMENTS])]
    more = [f"{len(lines) - SEGMENTS} better ones are not shown"] * (len(lines) > SEGMENTS)
    more += [f"of {counted(small, 'segment')} there are too few rows"] * bool(small)
    return [*told, *(["", f"{'; '.join(more).capitalize()}."] if more else [])]


def _flattered(history: History, key: str) -> list[str]:
    """A limit of a model that was promoted after many verdicts: the best of many shows some luck."""
    won = next((n for n, seen in enumerate(history.looks, 1) if seen.promoted and seen.key == key), 0)
    if won < FLATTERED:
        return []
    return [
        f"- It was promoted by verdict number {won:,} of main. The gain that was reported then, and what is measured"
        " on the same rows, may be a little too good; rows that come later tell."
    ]


def _limits(project: Project, rule: Any, rows: Any) -> list[str]:
    """The limits of the numbers above: most are the same for every model of this repository."""
    found = guards.segment(rows, rule.guards.segments)
    fewer = all(found[column].value_counts().max() < rule.guards.min_rows for column in found)
    names = project.params.data
    where = "newest rows" if names.time else "rows that were set aside by the hash of their key"
    held = rule.guards
    looked = "Harm to a part of the rows is not looked for: no column is guarded."
    if held.segments:
        guarded = ", ".join(map(code, held.segments))
        looked = f"Harm to a part of the rows is only looked for in {guarded}, for values with at least"
        looked += f" {held.min_rows} rows" + ("; there is none: all have fewer." if fewer else ".")
    calibrated = "The gate does not look at calibration: `gate.guards.calibration_margin` is null."
    return [
        *([f"- {calibrated}"] if held.calibration_margin is None else []),
        f"- It was measured on the {where}. On data that have changed since it may be worse.",
        f"- {looked}",
        "- A category or a value that it was never trained on is answered, and counted by the service.",
        "- The data are held to `expectations/data.json` before training; what that does not ask was not checked.",
    ]
