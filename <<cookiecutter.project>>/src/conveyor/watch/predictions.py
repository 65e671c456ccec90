"""The log of predictions as rows: each row once, in the order of time.

The log is in a volume of the Docker host that serves, or at a URL that ``serve.log`` or PREDICTION_LOG names. It is
read file by file, and of a line only what is asked for is kept.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import PurePosixPath
from tempfile import SpooledTemporaryFile
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from conveyor.core.environment import data_options
from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.deploy.docker_engine import connected
from conveyor.deploy.host import Host, log_of
from conveyor.ledger.permission import TARGET

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX, ENDING = "predictions-", ".jsonl"
FUTURE = pd.Timedelta(minutes=5)  # two clocks may differ by so much
RECENT = pd.Timedelta(days=28)  # whole days up to that of the newest line: so long features are kept
IN_MEMORY = 50_000_000  # bytes of an archive of the volume; more of it waits on the disk


class NoLog(Misuse):
    """There is no log to read, because nothing is deployed or none is kept."""


@dataclass(frozen=True)
class Read:
    """What was found in a log.

    Attributes:
        rows: ``id``, ``row``, ``time`` (UTC), ``model``, ``prediction`` and, as text, the features that were asked for.
        features: of the rows of the last ``RECENT`` days of the log, by their index: what was asked for as recent.
            Numbers are floats, infinite where a value is no number; all other values are text. A column that none of
            these lines has is left out.
        files: how many were read.
        repeated: lines with the id and row of another one; each counts once.
        damaged: what is no line, as the end of one that is being written.
        future: lines of a time that has not come; they are left out.
    """

    rows: pd.DataFrame
    features: pd.DataFrame
    files: int
    repeated: int
    damaged: int
    future: int


def read(
    project: Project,
    wanted: tuple[str, ...],
    several: bool,
    now: pd.Timestamp,
    recent: Mapping[str, str] = MappingProxyType({}),
) -> Read:
    """All predictions of production that the log has.

    Args:
        wanted: features to read, as those of the key.
        several: whether a prediction is a list, of the probability of each class.
        now: the present time.
        recent: features of which only the last days are kept, and the kind of each.

    Raises:
        NoLog: nothing is deployed, or no log is kept.
        Misuse: the log cannot be read.
    """
    place = log_of(project)
    if not place:
        raise NoLog("serve.log: is null, so no prediction is kept; name a folder of the containers, or a URL")
    files = _of_store(place) if "://" in place else _of_host(project, place)
    return parsed(files, wanted, several, now, recent)


def parsed(
    files: Iterator[tuple[str, bytes]],
    wanted: tuple[str, ...],
    several: bool,
    now: pd.Timestamp,
    recent: Mapping[str, str] = MappingProxyType({}),
) -> Read:
    """The rows of files by their name and content; see ``read``."""
    import pyarrow as pa

    asked = _Asked(wanted, several, recent)
    count, damaged, begin = 0, 0, 0
    newest = swept = pd.Timestamp(0, tz="UTC")
    tables, kept = [_table([], asked.fields)], list[_Features]()
    for name, content in files:
        base = PurePosixPath(name).name
        if base.startswith(PREFIX) and base.endswith(ENDING):
            rows, features, names, bad = _lines(content, asked)
            tables.append(_table(rows, asked.fields))
            last = _last(rows, now)
            newest = max(newest, last)
            if recent and rows:
                kept.append(_Features(_table(features, asked.recent_fields), begin, last, names))
            if newest - swept > pd.Timedelta(days=1):
                kept, swept = [each for each in kept if each.last >= _since(newest)], newest
            count, damaged, begin = count + 1, damaged + bad, begin + len(rows)
    frame = pa.concat_tables(tables).to_pandas()
    frame["time"] = pd.to_datetime(frame["time"], format="ISO8601", utc=True, errors="coerce")
    no_time, later = frame["time"].isna(), frame["time"] > now + FUTURE
    frame = frame[~no_time & ~later].sort_values("time", kind="stable")
    again = frame.duplicated(["id", "row"])
    frame = frame[~again]
    is_recent = (frame["time"] >= _since(newest)).to_numpy()
    found = _joined([each for each in kept if each.last >= _since(newest)]).reindex(frame.index[is_recent])
    rows = frame.reset_index(drop=True)
    return Read(
        rows=rows,
        features=found.set_axis(rows.index[is_recent]),
        files=count,
        repeated=int(again.sum()),
        damaged=damaged + int(no_time.sum()),
        future=int(later.sum()),
    )


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
    """What is read of each line, see ``read``."""

    wanted: tuple[str, ...]
    several: bool
    recent: Mapping[str, str]

    @property
    def fields(self) -> list[tuple[str, Any]]:
        import pyarrow as pa

        number = pa.list_(pa.float64()) if self.several else pa.float64()
        own = [("id", pa.string()), ("row", pa.int64()), ("time", pa.string()), ("model", _words())]
        return [*own, ("prediction", number), *((name, pa.string()) for name in self.wanted)]

    @property
    def recent_fields(self) -> list[tuple[str, Any]]:
        import pyarrow as pa

        return [(name, pa.float64() if kind == "number" else _words()) for name, kind in self.recent.items()]


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


def _table(rows: list[tuple[Any, ...]], fields: list[tuple[str, Any]]) -> pa.Table:
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
        of = _number if pa.types.is_floating(kind) else _text
        return pa.array([None if cell is None else of(cell) for cell in cells], kind)


def _lines(content: bytes, asked: _Asked) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], set[str], int]:
    """The lines of one file, their recent features, which of these one has, and how many lines are none."""
    rows, recent, bad = [], [], 0
    names = set[str]()
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
            features, prediction = told["features"], told["prediction"]
            found = [None if (cell := dict.get(features, name)) is None else _text(cell) for name in asked.wanted]
            given = [_finite(part) for part in prediction] if asked.several else _finite(prediction)
            row = (str(told["id"]), int(told["row"]), str(told["time"]), str(told["model"]), given, *found)
            if asked.recent:
                cells = tuple(map(features.get, asked.recent))
                names.update(features)
                recent.append(cells)
            rows.append(row)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            bad += 1
    return rows, recent, names, bad


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


def _text(cell: Any) -> str:
    return cell.encode(errors="replace").decode() if isinstance(cell, str) else json.dumps(cell)


def _of_store(url: str) -> Iterator[tuple[str, bytes]]:
    """The objects at a URL.

    Raises:
        Misuse: the store does not answer.
    """
    import fsspec

    try:
        store, folder = fsspec.core.url_to_fs(url, **data_options())
        names = sorted(str(name) for name in store.find(folder))
        for name in names:
            yield name, store.cat_file(name)
    except FileNotFoundError:
        return  # nothing was written yet
    except Exception as error:  # each file system raises its own library's
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Misuse(f"serve.log: {url}: cannot be read: {reason}; check DATA_OPTIONS and the store") from None


def _of_host(project: Project, place: str) -> Iterator[tuple[str, bytes]]:
    """The files of the volume on the Docker host, which replicas of all releases share.

    Raises:
        NoLog: there is no such volume.
        Misuse: the engine cannot be reached.
    """
    if project.params.deploy.target != "docker":
        raise NoLog(f"serve.log: {place} is a folder of the pods; name a URL to have the log read")
    try:
        yield from _of_volume(project, place)
    except Misuse as error:
        # No engine here is no fault where none is named: what serves is elsewhere.
        raise error if project.environment.docker_host else NoLog(str(error)) from None


def _of_volume(project: Project, place: str) -> Iterator[tuple[str, bytes]]:
    from docker.errors import NotFound

    with connected() as client:
        host = Host(project, TARGET, client, lambda text: None)
        with suppress(NotFound):
            client.volumes.get(host.volume("predictions"))
            releases = host.releases()
            if releases:
                yield from _archived(releases[0].containers[0].get_archive, place)
                return
    raise NoLog("nothing is deployed in production on this engine, so there is no log of predictions")


def _archived(archive: Callable[[str], tuple[Iterator[bytes], Any]], place: str) -> Iterator[tuple[str, bytes]]:
    """The files of a folder in a container."""
    parts, _ = archive(place)
    file: IO[bytes]
    with SpooledTemporaryFile(IN_MEMORY) as file:
        for part in parts:
            file.write(part)
        file.seek(0)
        with tarfile.open(fileobj=file) as members:
            for member in members:
                content = members.extractfile(member) if member.isfile() else None
                if content:
                    yield member.name, content.read()
