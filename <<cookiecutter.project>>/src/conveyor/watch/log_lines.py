"""The lines of the files of a log as a table: of a line only what is asked for.

A log has three kinds of files: what the service predicted, the labels that callers sent to /feedback, and how many
requests for /predict it refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas as pd

from conveyor.serving.log_files import FEEDBACK, KINDS, PREDICTIONS, REFUSALS

if TYPE_CHECKING:
    import pyarrow as pa

    Fields = list[tuple[str, pa.DataType]]  # of a table, by name

ENDING = ".jsonl"
FEATURE = "feature "  # before the name of a feature, which may be id, row or time, too


def kind_of(name: str) -> str | None:
    """Of which log a file is, by its name; None: of none."""
    kind, dash, rest = PurePosixPath(name).name.partition("-")
    return kind if dash and kind in KINDS and rest.endswith(ENDING) else None


def is_beside(name: str) -> bool:
    """Whether a file is none of a log, and no trace of its writing either: it may be a packed part of it."""
    plain = PurePosixPath(name).name
    return kind_of(name) is None and not plain.startswith((".", "tried-"))


@dataclass(frozen=True)
class Asked:
    """What is read of each prediction.

    Attributes:
        wanted: features to read, as those of the key.
        several: whether a prediction is a list, of the probability of each class.
        recent: features of which only the last days are asked for, and the kind of each.
    """

    wanted: tuple[str, ...]
    several: bool
    recent: Mapping[str, str] = field(default_factory=dict)

    def fields(self, kind: str) -> Fields:
        """The columns of a kind of files."""
        import pyarrow as pa

        time = ("time", pa.timestamp("us", "UTC"))
        if kind == REFUSALS:
            return [time, ("status", pa.int64()), ("count", pa.int64())]
        own = [("id", pa.string()), ("row", pa.int64()), time]
        if kind == FEEDBACK:
            return [*own, ("label", pa.string())]
        number = pa.list_(pa.float64()) if self.several else pa.float64()
        own += [("model", _words()), ("prediction", number)]
        return [*own, *((f"{FEATURE}{name}", pa.string()) for name in self.wanted)]

    @property
    def recent_fields(self) -> Fields:
        import pyarrow as pa

        return [(name, pa.float64() if kind == "number" else _words()) for name, kind in self.recent.items()]


@dataclass(frozen=True)
class Part:
    """What files of one kind hold.

    Attributes:
        kind: of the files.
        rows: the lines (n,), see ``Asked.fields``; a time that is none is null.
        names: features that some of the predictions have.
        files: how many were read.
        damaged: what is no line, as the end of one that is being written.
        features: makes the table of what was asked for as recent (n,), see ``Asked.recent_fields``.
    """

    kind: str
    rows: pa.Table
    names: frozenset[str]
    files: int
    damaged: int
    features: Callable[[], pa.Table]


def part_of(kind: str, contents: Iterable[bytes], asked: Asked) -> Part:
    """The lines of files of one kind by their contents, in this order."""
    import pyarrow as pa

    fields, names = asked.fields(kind), set[str]()
    tables, recent = [_table([], fields)], [_table([], asked.recent_fields)]
    files = damaged = 0
    for content in contents:
        features = list[tuple[Any, ...]]()
        takes: dict[str, Callable[[Any], tuple[Any, ...]]] = {
            PREDICTIONS: partial(_prediction, asked, features, names),
            FEEDBACK: _label,
            REFUSALS: _refused,
        }
        rows, bad = lines_of(content, takes[kind])
        tables.append(_table(rows, fields))
        if asked.recent and kind == PREDICTIONS:
            recent.append(_table(features, asked.recent_fields))
        files, damaged = files + 1, damaged + bad
    found = pa.concat_tables(recent)
    return Part(kind, pa.concat_tables(tables), frozenset(names), files, damaged, lambda: found)


def _words() -> Any:
    """Texts of which many are equal."""
    import pyarrow as pa

    return pa.dictionary(pa.int32(), pa.string())


def _table(rows: list[tuple[Any, ...]], fields: Fields) -> pa.Table:
    """Arrow holds a file in a tenth of what Python needs."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    return pa.table([_array(cells, kind) for cells, (_, kind) in zip(columns, fields, strict=True)], pa.schema(fields))


def _array(cells: tuple[Any, ...], kind: Any) -> pa.Array:
    """Cells of one type; where one is of another, each is read by itself, which is slower."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        told = pd.Series(cells, dtype=object)
        times = pd.to_datetime(told, format="ISO8601", utc=True, errors="coerce").dt.tz_localize(None)
        return pa.array(times.to_numpy("datetime64[us]")).cast(kind)
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


def _prediction(asked: Asked, recent: list[tuple[Any, ...]], names: set[str], told: Any) -> tuple[Any, ...]:
    """A line as a row; its recent features are added to ``recent``, and what it has to ``names``."""
    features, prediction = told["features"], told["prediction"]
    found = [None if (cell := dict.get(features, name)) is None else text_of(cell) for name in asked.wanted]
    several = isinstance(prediction, list)
    said = [_finite(part) for part in prediction] if several else _finite(prediction)
    given = said if several == asked.several else None  # that of a model of another task
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


def _refused(told: Any) -> tuple[str, int, int]:
    status, count = int(told["status"]), int(told["count"])
    if not (0 < status < 1000 and 0 < count < 2**32):
        raise ValueError("no count of a status")
    return str(told["time"]), status, count


def _of_line(told: Any) -> tuple[str, int, str]:
    row = int(told["row"])
    if not 0 < row < 2**63:
        raise ValueError("no number of a row")
    time = str(told["time"])
    if not time[:4].isdigit():
        raise ValueError("pandas would take now and today for times")
    return str(told["id"]), row, time


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
