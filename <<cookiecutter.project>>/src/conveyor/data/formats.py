"""What is in files of data becomes a frame, as its owner means it.

Types are inferred from all rows of a column. What would lose something as a number stays text: whole numbers with
leading zeros, as of postcodes, and those with more digits than a number holds. So do times of day.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from conveyor.core.errors import Misuse

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PARQUET, GZIP, UTF_16 = b"PAR1", b"\x1f\x8b", (b"\xff\xfe", b"\xfe\xff")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # stands in the name of a partition's folder for none
EXACT, DIGITS = 2**53, 15  # up to here, and with so many digits, a 64-bit float holds each whole number
MARKS = {";": "semicolons", "\t": "tabs", "|": "bars"}
ZEROS, WHOLE = r"^\s*[-+]?0[0-9xX]", r"^\s*[-+]?[0-9]+\s*$"
# Most files have no such place, and none of their columns is looked at twice.
MAY_HAVE_ZEROS = re.compile(rb"(?:^|[,\n\"])[ \t]*[-+]?0[0-9xX]")
MAY_BE_LONG = re.compile(rb"[0-9]{%d}" % (DIGITS + 1))


def read(files: dict[str, bytes], where: str, text: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    """All rows, in the order of the files.

    Args:
        files: the content of one file, CSV or Parquet, under the name ""; or of the Parquet files of a folder by their
            path in it. ``month=7/part-0.parquet`` gives each row of that file the column ``month``.
        where: the name of file or folder for messages.
        text: columns that stay text.
        numbers: columns whose leading zeros mean nothing.

    Raises:
        Misuse: a file is empty, damaged, neither Parquet nor a well-formed CSV in UTF-8, or a column has a type that no
            model takes. The line names the file, and the row or column if there is one.
    """
    import pyarrow as pa

    check(files, where)
    tables, parts = [], set()
    for name, content in files.items():
        place = _place(where, name)
        packed = content.startswith(PARQUET)
        table = _parquet(content, place) if packed else _csv(content, place, text, numbers)
        for column, value in _partition(name).items():
            if column not in table.column_names:
                table = table.append_column(column, pa.array([value] * len(table), pa.string()))
                parts.add(column)
        for column in text if packed else ():  # before files are joined: one may have it as a number
            if table.column_names.count(column) == 1:
                settled = _settled(table.column(column), place, column, text=True)
                table = table.set_column(table.column_names.index(column), column, settled)
        tables.append(table)
    try:
        whole = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise Misuse(f"{where}: its files do not fit together: {reason}; write all with the same columns") from None
    for column in whole.column_names:
        if whole.column_names.count(column) > 1:
            raise Misuse(f"{where}: column {column!r} stands twice; rename or drop one")
    if not len(whole):
        raise Misuse(f"{where}: has columns and no rows; fetch it again")
    for number, field in enumerate(whole.schema):
        settled = _settled(whole.column(number), where, field.name, of_path=field.name in parts - set(text))
        whole = whole.set_column(number, field.name, settled)
    return whole.to_pandas(date_as_object=False, ignore_metadata=True)  # a date becomes a time, too


def check(files: dict[str, bytes], where: str) -> None:
    """Refuse files that were not fetched.

    Raises:
        Misuse: a file is empty, or stands for one that Git LFS has.
    """
    for name, content in files.items():
        if not content:
            raise Misuse(f"{_place(where, name)}: empty; fetch the file again")
        if content.startswith(LFS_POINTER):
            raise Misuse(f"{_place(where, name)}: a Git LFS pointer, not the data; run `git lfs pull`")


def _place(where: str, name: str) -> str:
    return f"{where.rstrip('/')}/{name}" if name else where


def _partition(name: str) -> dict[str, str | None]:
    """The columns that the folders of a path tell."""
    told = [part.partition("=") for part in PurePosixPath(name).parts[:-1]]
    return {unquote(key): None if value == NO_VALUE else unquote(value) for key, is_key, value in told if is_key}


def _parquet(content: bytes, place: str) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(io.BytesIO(content)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Misuse(f"{place}: damaged Parquet: {reason}; fetch the file again") from None


def _csv(content: bytes, place: str, text: tuple[str, ...], numbers: tuple[str, ...]) -> pa.Table:
    """CSV, plain or gzip-compressed. A ragged row is an error; blank lines are left out."""
    import pyarrow as pa
    from pyarrow import compute, csv

    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error):
            raise Misuse(f"{place}: truncated or damaged gzip; fetch the file again") from None
    if content[:2] in UTF_16:
        raise Misuse(f"{place}: UTF-16 text; save it as UTF-8")
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misuse(f"{place}: no UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None
    if b"\0" in content:
        raise Misuse(f"{place}: binary, not text; save it as CSV in UTF-8, or as Parquet")
    header, _, rest = content.partition(b"\n")
    title = header.decode("utf-8-sig").strip()
    if title.lower().startswith("sep="):
        raise Misuse(f"{place}: its first line is {title[:8]!r}; delete it, and separate the columns by commas")
    other = next((name for mark, name in MARKS.items() if mark in title), None)
    if other and "," not in title:  # looked at first: decimal commas would tell of ragged rows
        raise Misuse(f"{place}: its header {title[:40]!r} is separated by {other}; separate the columns by commas")
    if not rest.strip():
        raise Misuse(f"{place}: has a header and no rows; fetch the file again")

    def table(as_written: tuple[str, ...], alone: bool = False) -> pa.Table:
        # One block, so that a column's type is inferred from all of its rows and errors name the row.
        return csv.read_csv(
            io.BytesIO(content),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(content) + 1),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(as_written, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                include_columns=as_written if alone else (),
            ),
        )

    try:
        found = table(text)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")
        raise Misuse(f"{place}: {reason}; mend that row") from None
    names = found.column_names
    zeros, long = MAY_HAVE_ZEROS.search(content), MAY_BE_LONG.search(content)
    doubtful = tuple(
        field.name
        for field in found.schema
        if names.count(field.name) == 1
        and (
            pa.types.is_time(field.type)
            or (pa.types.is_integer(field.type) and zeros and field.name not in numbers)
            or (pa.types.is_floating(field.type) and long)
        )
    )
    if not doubtful:
        return found
    written = table(doubtful, alone=True)
    for name in doubtful:
        cells, of = written.column(name), found.schema.field(name).type
        if pa.types.is_integer(of):
            loses = compute.any(compute.match_substring_regex(cells, ZEROS)).as_py()
        elif pa.types.is_floating(of):
            loses = compute.all(compute.match_substring_regex(cells, WHOLE)).as_py()
        else:
            loses = True
        if loses:
            found = found.set_column(names.index(name), name, cells)
    return found


def _settled(
    column: pa.ChunkedArray, where: str, name: str, text: bool = False, of_path: bool = False
) -> pa.ChunkedArray:
    """A column in a type that models, contract and service know: number, truth, time or text.

    Args:
        text: whether it is to be text.
        of_path: whether it is to be what its values are, which stood in names of folders.
    """
    import pyarrow as pa
    from pyarrow import compute

    def cast(to: Any) -> pa.ChunkedArray:
        return compute.cast(column, to)

    try:
        if pa.types.is_dictionary(column.type):
            column = cast(column.type.value_type)
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            plain = of_path and compute.all(compute.match_substring_regex(column, WHOLE)).as_py()
            if plain and not compute.any(compute.match_substring_regex(column, ZEROS)).as_py():
                return cast(pa.int64())
            return cast(pa.string())
        if text or pa.types.is_time(kind):
            return cast(pa.string())
        if pa.types.is_decimal(kind):
            if kind.scale or kind.precision <= DIGITS:
                return cast(pa.float64())
            return cast(pa.string())
        if pa.types.is_float16(kind):
            return cast(pa.float32())
        if pa.types.is_integer(kind) and column.null_count:
            # A gap makes a number of 64 bits a float.
            ends = compute.min_max(column).as_py().values()
            return cast(pa.string()) if max(abs(end or 0) for end in ends) > EXACT else column
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise Misuse(f"{where}: column {name!r}: {reason}; write it as numbers or as text") from None
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date(kind)
        or pa.types.is_null(kind)
    ):
        return column
    raise Misuse(f"{where}: column {name!r} holds {kind}, which no model takes; leave it out, or write it as text")
