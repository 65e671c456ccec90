"""The log of predictions as rows: each row once, in the order of time; and the labels that callers sent to it.

The log is in a volume of the Docker host that serves, or at a URL that ``serve.log`` or PREDICTION_LOG names. It is
read file by file, and of a line only what is asked for is kept.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any

import pandas as pd

from conveyor.core.environment import data_options
from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.deploy.docker_engine import connected
from conveyor.deploy.host import Host, log_of
from conveyor.ledger.permission import TARGET

if TYPE_CHECKING:
    import pyarrow as pa

    Fields = list[tuple[str, pa.DataType]]  # of a table, by name

KINDS, ENDING = ("predictions", "feedback"), ".jsonl"
FUTURE = pd.Timedelta(minutes=5)  # two clocks may differ by so much
IN_MEMORY = 50_000_000  # bytes of an archive of the volume; more of it waits on the disk


class NoLog(Misuse):
    """There is no log to read, because nothing is deployed or none is kept."""


@dataclass(frozen=True)
class Read:
    """What was found in a log.

    Attributes:
        rows: ``id``, ``row``, ``time`` (UTC), ``model``, ``prediction`` and, as text, the features that were asked for.
        labels: what callers said by /feedback: ``id``, ``row`` and, as text, ``label``.
        files: how many were read.
        repeated: lines with the id and row of another one; each counts once.
        damaged: what is no line, as the end of one that is being written.
        future: lines of a time that has not come; they are left out.
    """

    rows: pd.DataFrame
    labels: pd.DataFrame
    files: int
    repeated: int
    damaged: int
    future: int


def read(project: Project, wanted: tuple[str, ...], several: bool, now: pd.Timestamp) -> Read:
    """All predictions of production, and labels, that the log has.

    Args:
        wanted: features to read, as those of the key.
        several: whether a prediction is a list, of the probability of each class.
        now: the present time.

    Raises:
        NoLog: nothing is deployed, or no log is kept.
        Misuse: the log cannot be read.
    """
    return parsed(files_of(project), wanted, several, now)


def files_of(project: Project) -> Iterator[tuple[str, bytes]]:
    """The files of the log of production, by name and content; see ``read`` for the errors."""
    place = log_of(project)
    if not place:
        raise NoLog("serve.log: is null, so no prediction is kept; name a folder of the containers, or a URL")
    return _of_store(place) if "://" in place else _of_host(project, place)


def kind_of(name: str) -> str | None:
    """Of which log a file is, by its name; None: of none."""
    kind, dash, rest = PurePosixPath(name).name.partition("-")
    return kind if dash and kind in KINDS and rest.endswith(ENDING) else None


def parsed(files: Iterator[tuple[str, bytes]], wanted: tuple[str, ...], several: bool, now: pd.Timestamp) -> Read:
    """The rows of files by their name and content; see ``read``."""
    import pyarrow as pa

    fields = _fields(wanted, several)
    count, damaged, tables, said = 0, 0, [_table([], fields)], [_table([], _label_fields())]
    for name, content in files:
        kind = kind_of(name)
        if kind is None:
            continue
        if kind == "feedback":
            rows, bad = lines_of(content, _label)
            said.append(_table(rows, _label_fields()))
        else:
            rows, bad = lines_of(content, partial(_prediction, wanted, several))
            tables.append(_table(rows, fields))
        count, damaged = count + 1, damaged + bad
    frame, no_time, later = _timed(pa.concat_tables(tables).to_pandas(), now)
    labels, also_no_time, also_later = _timed(pa.concat_tables(said).to_pandas(), now)
    again = frame.duplicated(["id", "row"])
    return Read(
        rows=frame[~again].reset_index(drop=True),
        labels=labels[["id", "row", "label"]],
        files=count,
        repeated=int(again.sum()),
        damaged=damaged + no_time + also_no_time,
        future=later + also_later,
    )


def _timed(frame: pd.DataFrame, now: pd.Timestamp) -> tuple[pd.DataFrame, int, int]:
    """The lines in the order of time; how many have none, and how many one that has not come."""
    frame["time"] = pd.to_datetime(frame["time"], format="ISO8601", utc=True, errors="coerce")
    no_time, later = frame["time"].isna(), frame["time"] > now + FUTURE
    frame = frame[~no_time & ~later].sort_values("time", kind="stable").reset_index(drop=True)
    return frame, int(no_time.sum()), int(later.sum())


def _fields(wanted: tuple[str, ...], several: bool) -> Fields:
    import pyarrow as pa

    number = pa.float64()
    model = ("model", pa.dictionary(pa.int32(), pa.string()))
    prediction = ("prediction", pa.list_(number) if several else number)
    return [*_named(), model, prediction, *((name, pa.string()) for name in wanted)]


def _named() -> Fields:
    import pyarrow as pa

    return [("id", pa.string()), ("row", pa.int64()), ("time", pa.string())]


def _label_fields() -> Fields:
    import pyarrow as pa

    return [*_named(), ("label", pa.string())]


def _table(rows: list[tuple[Any, ...]], fields: Fields) -> pa.Table:
    """Arrow holds a file in a tenth of what Python needs."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    return pa.table(
        [pa.array(cells, kind) for cells, (_, kind) in zip(columns, fields, strict=True)], pa.schema(fields)
    )


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


def _prediction(wanted: tuple[str, ...], several: bool, told: Any) -> tuple[Any, ...]:
    features, prediction = told["features"], told["prediction"]
    asked = [None if (cell := dict.get(features, name)) is None else text_of(cell) for name in wanted]
    given = [float(part) for part in prediction] if several else float(prediction)
    return (*_names(told), str(told["model"]), given, *asked)


def _label(told: Any) -> tuple[Any, ...]:
    label = told["label"]
    if not isinstance(label, str | int | float):
        raise TypeError("a label is a text, a number or a truth value")
    return (*_names(told), text_of(label))


def _names(told: Any) -> tuple[str, int, str]:
    row = int(told["row"])
    if not 0 < row < 2**63:
        raise ValueError("no number of a row")
    return str(told["id"]), row, str(told["time"])


def text_of(cell: Any) -> str:
    """A value of JSON as text, as keys are compared."""
    return cell if isinstance(cell, str) else json.dumps(cell)


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
