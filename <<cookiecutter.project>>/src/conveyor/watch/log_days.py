"""The files of a log by days: a day whose files are as they were is read from a folder, not from the log again.

The folder holds rows of callers, so it is only for the user who runs this, and `make forget` deletes it.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import Misuse
from conveyor.core.files import sha256, write_bytes
from conveyor.watch import log_lines
from conveyor.watch.log_lines import PREDICTIONS, Asked, Part, kind_of, part_of

if TYPE_CHECKING:
    import pyarrow as pa

    from conveyor.watch.log_lines import Fields

DAY = re.compile(r"-(\d{8})T[^/]*$")  # in the name of a file: when it was begun
UNUSED = 35 * 86400.0  # seconds after which a day that was asked for otherwise is deleted
ABOUT = b"conveyor"


@dataclass(frozen=True)
class LogFile:
    """A file of a log.

    Attributes:
        name: with its folder.
        mark: another one if the file has changed.
        content: reads it.
    """

    name: str
    mark: str
    content: Callable[[], bytes]


def parts(files: Iterable[LogFile], asked: Asked, folder: Path) -> Iterator[Part]:
    """What a log holds, one part for each day and kind, in the order of names.

    Args:
        folder: where days are kept that were read.
    """
    named = sorted(((kind, _day(file.name), file) for file in files if (kind := kind_of(file.name))), key=_order)
    of = sha256(Path(log_lines.__file__).read_bytes() + repr(asked).encode())[:16]  # other questions, other answers
    used = set[Path]()
    for (kind, day), group in groupby(named, key=lambda each: each[:2]):
        of_day = [file for *_, file in group]
        place = folder / f"{of}-{kind}-{day}.parquet"
        marks = sha256(json.dumps([[file.name, file.mark] for file in of_day]).encode())
        used.add(place)
        yield _kept(place, marks, kind, asked) or _keep(place, marks, kind, of_day, asked)
    _clean(folder, of, used)


def _order(named: tuple[str, str, LogFile]) -> tuple[str, str, str]:
    kind, day, file = named
    return kind, day, file.name


def _day(name: str) -> str:
    found = DAY.search(name)
    return found.group(1) if found else ""


def _kept(place: Path, marks: str, kind: str, asked: Asked) -> Part | None:
    """The part as it was kept; None: it was not, its files have changed, or what was kept is damaged."""
    import pyarrow as pa

    try:
        about = _about(place)
        if about["marks"] != marks:
            return None
        rows = _read(place, 0, asked.fields(kind))
        names, files, damaged = frozenset(about["names"]), about["files"], about["damaged"]
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):
        place.touch()  # it is in use
    return Part(kind, rows, names, files, damaged, partial(_features, place, marks, kind, asked))


def _features(place: Path, marks: str, kind: str, asked: Asked) -> pa.Table:
    """The features of a part that is kept: most are of old days, and not asked for.

    Raises:
        Misuse: the file is another one now.
    """
    import pyarrow as pa

    try:
        if _about(place)["marks"] == marks:
            return _read(place, len(asked.fields(kind)), asked.recent_fields)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        pass  # as one that was replaced
    raise Misuse(f"{place.parent.name}/{place.name}: changed while it was read; run it again")


def _about(place: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    found: dict[str, Any] = json.loads(pq.read_schema(place).metadata[ABOUT])
    return found


def _read(place: Path, first: int, fields: Fields) -> pa.Table:
    """Columns of a kept part, which are named by their place: features may have any name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [str(first + number) for number in range(len(fields))]
    table = pq.read_table(place, columns=columns, partitioning=None)
    return table.rename_columns([name for name, _ in fields]).replace_schema_metadata().cast(pa.schema(fields))


def _keep(place: Path, marks: str, kind: str, files: list[LogFile], asked: Asked) -> Part:
    """Read files, and keep what they hold where there is room for it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = part_of(kind, (file.content() for file in files), asked)
    columns = [*part.rows.columns, *(part.features().columns if kind == PREDICTIONS else [])]
    about = {"marks": marks, "names": sorted(part.names), "files": part.files, "damaged": part.damaged}
    table = pa.table(columns, [str(number) for number in range(len(columns))])
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({ABOUT: json.dumps(about)}), out, compression="zstd")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(place, out.getvalue())
    except OSError:
        return part  # it is read again next time
    return replace(part, features=partial(_features, place, marks, kind, asked))


def _clean(folder: Path, of: str, used: set[Path]) -> None:
    """Delete days that the log does not hold any more, and those that nobody has asked for since ``UNUSED``."""
    for place in folder.glob("*.parquet"):
        with suppress(OSError):
            is_old = time.time() - place.stat().st_mtime > UNUSED
            if place not in used and (is_old or place.name.startswith(of)):
                place.unlink()
