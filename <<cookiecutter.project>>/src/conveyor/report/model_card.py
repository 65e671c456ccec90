"""The model card of a release: the model's purpose, origin, quality and limits."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.data import columns, split
from conveyor.data.source import frame_of
from conveyor.gate import guards
from conveyor.gate.decide import Comparison, compare
from conveyor.gate.metrics import of_task
from conveyor.ledger.events import Event
from conveyor.model import scoring
from conveyor.model.bundle import Bundle
from conveyor.report.wording import counted, escape, interval, number, percent, plain

FEWEST = 30  # least rows of a segment with a line
SEGMENTS = 40  # lines


def markdown(project: Project, bundle: Bundle, version: str, event: Event, image: str) -> str:
    """The card, measured again on the pinned data of this commit, on rows that the model was not trained on.

    Raises:
        Misuse: the model cannot score them, or there are none.
    """
    names, rule, lineage = project.params.data, project.params.gate, bundle.lineage
    frame = frame_of(project)
    held_out = ~split.split(frame, names, project.params.split).trained_on(frame)
    unseen = held_out & ~split.SplitRule.read(bundle.path).trained_on(frame)
    rows = frame.iloc[np.flatnonzero(unseen)]
    if not len(rows):
        raise Misuse(f"release: {names.path} holds no row that the model was not trained on; there is nothing to tell")
    with scoring.of_champion(project, bundle, columns.features(rows, names)) as (scored, error):
        if scored is None:
            raise Misuse(f"release: the model cannot score {names.path}: {error}; its card cannot be written")
        predicted = scored.predictions
    y = columns.labels(frame, names)[unseen]
    groups = np.unique(rows[names.group].astype(str), return_inverse=True)[1] if names.group else None

    def measured(metric: str, mask: Any = slice(None)) -> Comparison:
        return compare(metric, y[mask], None, predicted[mask], rule, None if groups is None else groups[mask])

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
        f" each bound holds with {percent(rule.confidence)} confidence.",
        "",
        "| metric | value | interval | |",
        "|---|--:|:-:|---|",
    ]
    for metric in of_task(names.task):
        notes = ["decides"] * (metric == rule.metric)
        if metric in rule.floors:
            notes.append(f"floor {rule.floors[metric]:g}")
        told.append(_line(measured(metric), escape(metric), ", ".join(notes)))
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
        *_limits(project, rule),
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
    bounds = interval(metric.challenger_low, metric.challenger_high) or "too few rows"
    return f"| {name} | {number(metric.challenger)} | {bounds} | {note} |"


def _segments(rows: Any, project: Project, measured: Any) -> list[str]:
    """The deciding metric in each guarded segment, the worst first."""
    rule = project.params.gate
    if not rule.guards.segments:
        return []
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


def _limits(project: Project, rule: Any) -> list[str]:
    """The limits of the numbers above, the same for every model of this repository."""
    names = project.params.data
    where = "newest rows" if names.time else "rows that were set aside by the hash of their key"
    guarded = ", ".join(map(code, rule.guards.segments)) or "no column"
    return [
        f"- It was measured on the {where}. On data that have changed since it may be worse.",
        f"- Harm to a part of the rows is only looked for in {guarded}.",
        "- A category or a value that it was never trained on is answered, and counted by the service.",
        "- The data are held to `expectations/data.json` before training; what that does not ask was not checked.",
    ]
