"""The lines of the log of predictions as rows: each row once, in the order of time; of a line only what is asked for.

A log has two kinds of files: what the service predicted, and the labels that callers sent to /feedback.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from conveyor.core.tasks import Task

if TYPE_CHECKING:
    import pyarrow as pa

    Fields = list[tuple[str, pa.DataType]]  # of a table, by name

KINDS, ENDING = ("predictions", "feedback"), ".jsonl"
FUTURE = pd.Timedelta(minutes=5)  # two clocks may differ by so much
FEATURE = "feature "  # before the name of a feature, which may be id, row or time, too
RECENT = pd.Timedelta(days=28)  # whole days up to that of the newest line: so long features are kept
NOTHING: Mapping[str, str] = MappingProxyType({})


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
        files: how many were read.
        repeated: lines with the id and row of another one; each counts once.
        damaged: what is no line, as the end of one that is being written.
        future: lines of a time that has not come; they are left out.
    """

    rows: pd.DataFrame
    features: pd.DataFrame
    labels: pd.DataFrame
    files: int
    repeated: int
    damaged: int
    future: int


def kind_of(name: str) -> str | None:
    """Of which log a file is, by its name; None: of none."""
    kind, dash, rest = PurePosixPath(name).name.partition("-")
    return kind if dash and kind in KINDS and rest.endswith(ENDING) else None


def parsed(
    files: Iterator[tuple[str, bytes]],
    wanted: tuple[str, ...],
    several: bool,
    now: pd.Timestamp,
    recent: Mapping[str, str] = NOTHING,
) -> Read:
    """The rows of files by their name and content; see ``predictions.read``."""
    import pyarrow as pa

    asked = _Asked(wanted, several, recent)
    count, damaged, begin = 0, 0, 0
    newest = swept = pd.Timestamp(0, tz="UTC")
    tables, said, kept = [_table([], asked.fields)], [_table([], _label_fields())], list[_Features]()
    for name, content in files:
        kind = kind_of(name)
        if kind is None:
            continue
        count += 1
        if kind == "feedback":
            rows, bad = lines_of(content, _label)
            said.append(_table(rows, _label_fields()))
            damaged += bad
            continue
        features, names = list[tuple[Any, ...]](), set[str]()
        rows, bad = lines_of(content, partial(_prediction, asked, features, names))
        tables.append(_table(rows, asked.fields))
        last = _last(rows, now)
        newest = max(newest, last)
        if recent and rows:
            kept.append(_Features(_table(features, asked.recent_fields), begin, last, names))
        if newest - swept > pd.Timedelta(days=1):
            kept, swept = [each for each in kept if each.last >= _since(newest)], newest
        damaged, begin = damaged + bad, begin + len(rows)
    frame, no_time, later = _timed(pa.concat_tables(tables).to_pandas(), now)
    labels, also_no_time, also_later = _timed(pa.concat_tables(said).to_pandas(), now)
    again = frame.duplicated(["id", "row"])
    frame = frame[~again]
    is_recent = (frame["time"] >= _since(newest)).to_numpy()
    found = _joined([each for each in kept if each.last >= _since(newest)]).reindex(frame.index[is_recent])
    rows = frame.reset_index(drop=True)
    return Read(
        rows=rows,
        features=found.set_axis(rows.index[is_recent]),
        labels=labels[["id", "row", "label"]].reset_index(drop=True),
        files=count,
        repeated=int(again.sum()),
        damaged=damaged + no_time + also_no_time,
        future=later + also_later,
    )


def sound(read: Read, model: str, task: Task, classes: int) -> Read:
    """The same without the predictions of a model that are none of its task; they count as damaged."""
    if task == "regression":
        return read
    mine = (read.rows["model"] == model).to_numpy()
    said, kept = read.rows.loc[mine, "prediction"], ~mine
    kept[mine] = [_shares(each, classes) for each in said] if task == "multiclass" else said.between(0, 1)
    features = read.features[kept[read.features.index]]
    return replace(read, rows=read.rows[kept], features=features, damaged=read.damaged + int((~kept).sum()))


def _shares(prediction: Any, classes: int) -> bool:
    shares = np.asarray(prediction, dtype=np.float64)
    return shares.shape == (classes,) and bool((shares >= 0).all()) and abs(float(shares.sum()) - 1) < 1e-3


def _timed(frame: pd.DataFrame, now: pd.Timestamp) -> tuple[pd.DataFrame, int, int]:
    """The lines in the order of time, with their index; how many have none, and how many one that has not come."""
    frame["time"] = pd.to_datetime(frame["time"], format="ISO8601", utc=True, errors="coerce")
    no_time, later = frame["time"].isna(), frame["time"] > now + FUTURE
    return frame[~no_time & ~later].sort_values("time", kind="stable"), int(no_time.sum()), int(later.sum())


def _since(newest: pd.Timestamp) -> pd.Timestamp:
    return newest.floor("D") + pd.Timedelta(days=1) - RECENT


@dataclass(frozen=True)
class _Features:
    """The recent features of a file.

    Attributes:
        table: of each of its rows.
        begin: how many rows the files before it have.
        last: the time of the newest row that is not in the future.
        names: what a row has.
    """

    table: pa.Table
    begin: int
    last: pd.Timestamp
    names: set[str]


def _joined(kept: list[_Features]) -> pd.DataFrame:
    """The features of several files by the place of the row in all of them, without those that no row has."""
    import pyarrow as pa

    if not kept:
        return pd.DataFrame()
    names = set[str]().union(*(each.names for each in kept))
    table = pa.concat_tables([each.table for each in kept])
    frame = table.select([name for name in table.schema.names if name in names]).to_pandas()
    return frame.set_axis(np.concatenate([np.arange(each.begin, each.begin + len(each.table)) for each in kept]))


@dataclass(frozen=True)
class _Asked:
    """What is read of each line, see ``predictions.read``."""

    wanted: tuple[str, ...]
    several: bool
    recent: Mapping[str, str]

    @property
    def fields(self) -> Fields:
        import pyarrow as pa

        number = pa.list_(pa.float64()) if self.several else pa.float64()
        own = [*_named(), ("model", _words()), ("prediction", number)]
        return [*own, *((f"{FEATURE}{name}", pa.string()) for name in self.wanted)]

    @property
    def recent_fields(self) -> Fields:
        import pyarrow as pa

        return [(name, pa.float64() if kind == "number" else _words()) for name, kind in self.recent.items()]


def _named() -> Fields:
    import pyarrow as pa

    return [("id", pa.string()), ("row", pa.int64()), ("time", pa.string())]


def _label_fields() -> Fields:
    import pyarrow as pa

    return [*_named(), ("label", pa.string())]


def _words() -> Any:
    """Texts of which many are equal."""
    import pyarrow as pa

    return pa.dictionary(pa.int32(), pa.string())


def _last(rows: list[tuple[Any, ...]], now: pd.Timestamp) -> pd.Timestamp:
    times = pd.to_datetime(
        pd.Series([row[2] for row in rows], dtype=object), format="ISO8601", utc=True, errors="coerce"
    )
    last = times[times <= now + FUTURE].max()
    return pd.Timestamp(0, tz="UTC") if pd.isna(last) else last


def _table(rows: list[tuple[Any, ...]], fields: Fields) -> pa.Table:
    """Arrow holds a file in a tenth of what Python needs."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    return pa.table([_array(cells, kind) for cells, (_, kind) in zip(columns, fields, strict=True)], pa.schema(fields))


def _array(cells: tuple[Any, ...], kind: Any) -> pa.Array:
    """Cells of one type; where one is of another, each is read by itself, which is slower."""
    import pyarrow as pa

    try:
        return pa.array(cells, kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        of = _number if pa.types.is_floating(kind) else text_of
        return pa.array([None if cell is None else of(cell) for cell in cells], kind)


def lines_of(content: bytes, taken: Callable[[Any], tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], int]:
    """The lines of one file as tuples, and how many of them are none."""
    rows, bad = [], 0
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        try:
            rows.append(taken(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            bad += 1
    return rows, bad


def _prediction(asked: _Asked, recent: list[tuple[Any, ...]], names: set[str], told: Any) -> tuple[Any, ...]:
    """A line as a row; its recent features are added to ``recent``, and what it has to ``names``."""
    features, prediction = told["features"], told["prediction"]
    found = [None if (cell := dict.get(features, name)) is None else text_of(cell) for name in asked.wanted]
    given = [_finite(part) for part in prediction] if asked.several else _finite(prediction)
    row = (*_of_line(told), str(told["model"]), given, *found)
    if asked.recent:
        cells = tuple(map(features.get, asked.recent))
        names.update(features)
        recent.append(cells)
    return row


def _label(told: Any) -> tuple[Any, ...]:
    label = told["label"]
    if not isinstance(label, str | int | float):
        raise TypeError("a label is a text, a number or a truth value")
    return (*_of_line(told), text_of(label))


def _of_line(told: Any) -> tuple[str, int, str]:
    row = int(told["row"])
    if not 0 < row < 2**63:
        raise ValueError("no number of a row")
    return str(told["id"]), row, str(told["time"])


def _finite(cell: Any) -> float:
    """A prediction as a number.

    Raises:
        ValueError, TypeError: it is none.
    """
    number = float(cell)
    if not isfinite(number):
        raise ValueError("no service answers such a number")
    return number


def _number(cell: Any) -> float:
    """Infinite: it is none."""
    with suppress(OverflowError):
        return float(cell) if isinstance(cell, int | float) else float("inf")
    return float("inf")


def text_of(cell: Any) -> str:
    """A value of JSON as text, as keys are compared."""
    return cell.encode(errors="replace").decode() if isinstance(cell, str) else json.dumps(cell)
