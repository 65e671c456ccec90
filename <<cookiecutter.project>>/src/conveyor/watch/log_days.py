"""The files of a log by days: a day whose files have not changed is read from a folder, not from the log again.

The folder holds rows of callers: only the user who runs this may read it, and `make forget` deletes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from conveyor.core.files import sha256, write_bytes
from conveyor.serving.log_files import PREDICTIONS, begun
from conveyor.watch import log_lines
from conveyor.watch.log_lines import Asked, Part, kind_of, part_of

if TYPE_CHECKING:
    import pyarrow as pa

    from conveyor.watch.log_lines import Fields

ABOUT, DIGEST, ENDING = b"conveyor", 64, ".day"  # of a kept day: its digest in hex, then Parquet
UNFINISHED, STALE = ".writing-", 3600.0  # seconds after which nobody writes such a file any more


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
        place = folder / f"{of}-{kind}-{day}{ENDING}"
        marks = sha256(json.dumps([[file.name, file.mark] for file in of_day]).encode())
        used.add(place)
        yield _kept(place, marks, kind, asked) or _keep(place, marks, kind, of_day, asked)
    _clean(folder, used)


def _order(named: tuple[str, str, LogFile]) -> tuple[str, str, str]:
    kind, day, file = named
    return kind, day, file.name


def _day(name: str) -> str:
    at = begun(name)
    return f"{at:%Y%m%d}" if at else ""


def _kept(place: Path, marks: str, kind: str, asked: Asked) -> Part | None:
    """The part as it was kept; None: it was not, its files have changed, or what was kept is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = place.read_bytes()
        digest, table = content[:DIGEST], content[DIGEST:]
        if sha256(table).encode() != digest:
            return None
        about = json.loads(pq.read_schema(pa.BufferReader(table)).metadata[ABOUT])
        if about["marks"] != marks:
            return None
        rows = _read(table, 0, asked.fields(kind))
        names, files, damaged = frozenset(about["names"]), about["files"], about["damaged"]
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    # Most features are of old days, and not asked for; their bytes stay in memory, for another look may replace them.
    return Part(kind, rows, names, files, damaged, partial(_read, table, len(rows.columns), asked.recent_fields))


def _read(table: bytes, first: int, fields: Fields) -> pa.Table:
    """Columns of a kept part, which are named by their place: features may have any name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [str(first + number) for number in range(len(fields))]
    found = pq.read_table(pa.BufferReader(table), columns=columns, partitioning=None)
    return found.rename_columns([name for name, _ in fields]).replace_schema_metadata().cast(pa.schema(fields))


def _keep(place: Path, marks: str, kind: str, files: list[LogFile], asked: Asked) -> Part:
    """Read files, and keep what they hold where there is room for it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = part_of(kind, (file.content() for file in files), asked)
    columns = [*part.rows.columns, *(part.features().columns if kind == PREDICTIONS else [])]
    about = {"marks": marks, "names": sorted(part.names), "files": part.files, "damaged": part.damaged}
    table = pa.table(columns, [str(number) for number in range(len(columns))])
    out = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({ABOUT: json.dumps(about)}), out, compression="zstd")
    made = out.getvalue().to_pybytes()
    with suppress(OSError):  # it is read again next time
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(place, sha256(made).encode() + made, 0o600)
    return replace(part, features=partial(_read, made, len(part.rows.columns), asked.recent_fields))


def _clean(folder: Path, used: set[Path]) -> None:
    """Delete days that were kept for another question or that the log has no more, and what killed runs have left."""
    for place in (*folder.glob(f"*{ENDING}"), *folder.glob(f"{UNFINISHED}*")):
        with suppress(OSError):
            is_new = time.time() - place.stat().st_mtime < STALE
            if place not in used and not (place.name.startswith(UNFINISHED) and is_new):
                place.unlink()
