"""All of a log as rows: each row once, in the order of time, and features of the last days alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from conveyor.core.tasks import Task
from conveyor.serving.log_files import FEEDBACK, KINDS, PREDICTIONS, REFUSALS
from conveyor.watch.log_lines import Asked, Part, part_of

FUTURE = pd.Timedelta(minutes=5)  # two clocks may differ by so much
RECENT = pd.Timedelta(days=28)  # whole days up to that of the newest line: so long features are kept


@dataclass(frozen=True)
class Read:
    """What was found in a log.

    Attributes:
        rows: ``id``, ``row``, ``time`` (UTC), ``model``, ``prediction`` and, as text, the features that were asked for,
            with ``FEATURE`` before their names.
        features: of the rows of the last ``RECENT`` days of the log, by their index: what was asked for as recent.
            Numbers are floats, infinite where a value is no number; all other values are text. A column that none of
            these lines has is left out.
        labels: what callers said by /feedback: ``id``, ``row`` and, as text, ``label``.
        refusals: ``time`` (UTC), ``status`` and ``count`` of requests for /predict that had no answer.
        files: how many were read.
        others: files beside them, which are not read.
        repeated: lines with the id and row of another one; each counts once.
        damaged: what is no line, as the end of one that is being written.
        future: lines of a time that has not come; they are left out.
    """

    rows: pd.DataFrame
    features: pd.DataFrame
    labels: pd.DataFrame
    refusals: pd.DataFrame
    files: int
    repeated: int
    damaged: int
    future: int
    others: int = 0


def read_of(parts: Iterable[Part], asked: Asked, now: pd.Timestamp) -> Read:
    """The rows of all parts of a log.

    Args:
        parts: in an order of which the first of two equal lines counts.
        now: the present time.
    """
    import pyarrow as pa

    files, damaged, begin = 0, 0, 0
    newest = swept = pd.Timestamp(0, tz="UTC")
    tables = {kind: [part_of(kind, [], asked).rows] for kind in KINDS}
    kept = list[_Features]()
    for part in parts:
        files, damaged = files + part.files, damaged + part.damaged
        tables[part.kind].append(part.rows)
        if part.kind != PREDICTIONS or not len(part.rows):
            continue
        last = _last(part.rows, now)
        newest = max(newest, last)
        if asked.recent:
            kept.append(_Features(part, begin, last))
        if newest - swept > pd.Timedelta(days=1):
            kept, swept = [each for each in kept if each.last >= _since(newest)], newest
        begin += len(part.rows)
    timed = {kind: _timed(pa.concat_tables(found).to_pandas(), now) for kind, found in tables.items()}
    frame, labels, refusals = (timed[kind][0] for kind in (PREDICTIONS, FEEDBACK, REFUSALS))
    again = frame.duplicated(["id", "row"])
    frame = frame[~again]
    is_recent = (frame["time"] >= _since(newest)).to_numpy()
    found = _joined([each for each in kept if each.last >= _since(newest)]).reindex(frame.index[is_recent])
    rows = frame.reset_index(drop=True)
    return Read(
        rows=rows,
        features=found.set_axis(rows.index[is_recent]),
        labels=labels[["id", "row", "label"]].reset_index(drop=True),
        refusals=refusals.reset_index(drop=True),
        files=files,
        repeated=int(again.sum()),
        damaged=damaged + sum(no_time for _, no_time, _ in timed.values()),
        future=sum(later for *_, later in timed.values()),
    )


def sound(read: Read, model: str, task: Task, classes: int) -> Read:
    """The same without the predictions of a model that are none of its task; they count as damaged."""
    mine = (read.rows["model"] == model).to_numpy()
    said, kept = read.rows.loc[mine, "prediction"], ~mine
    if task == "multiclass":
        kept[mine] = [_shares(each, classes) for each in said]
    else:
        kept[mine] = said.notna() if task == "regression" else said.between(0, 1)
    features = read.features[kept[read.features.index]]
    return replace(read, rows=read.rows[kept], features=features, damaged=read.damaged + int((~kept).sum()))


def _shares(prediction: Any, classes: int) -> bool:
    shares = np.asarray(prediction, dtype=np.float64)
    return shares.shape == (classes,) and bool((shares >= 0).all()) and abs(float(shares.sum()) - 1) < 1e-3


def _timed(frame: pd.DataFrame, now: pd.Timestamp) -> tuple[pd.DataFrame, int, int]:
    """The lines in the order of time, with their index; how many have none, and how many one that has not come."""
    no_time, later = frame["time"].isna(), frame["time"] > now + FUTURE
    return frame[~no_time & ~later].sort_values("time", kind="stable"), int(no_time.sum()), int(later.sum())


def _last(rows: Any, now: pd.Timestamp) -> pd.Timestamp:
    """The time of the newest row that is not in the future."""
    times = rows["time"].to_pandas()
    last = times[times <= now + FUTURE].max()
    return pd.Timestamp(0, tz="UTC") if pd.isna(last) else last


def _since(newest: pd.Timestamp) -> pd.Timestamp:
    return newest.floor("D") + pd.Timedelta(days=1) - RECENT


@dataclass(frozen=True)
class _Features:
    """The recent features of a part.

    Attributes:
        part: predictions.
        begin: how many rows the parts before it have.
        last: the time of the newest row that is not in the future.
    """

    part: Part
    begin: int
    last: pd.Timestamp


def _joined(kept: list[_Features]) -> pd.DataFrame:
    """The features of several parts by the place of the row in all of them, without those that no row has."""
    import pyarrow as pa

    if not kept:
        return pd.DataFrame()
    names = frozenset[str]().union(*(each.part.names for each in kept))
    table = pa.concat_tables([each.part.features() for each in kept])
    frame = table.select([name for name in table.schema.names if name in names]).to_pandas()
    places = [np.arange(each.begin, each.begin + len(each.part.rows)) for each in kept]
    return frame.set_axis(np.concatenate(places))
