"""Read files of data into a frame, with the values that their owner means.

Types are inferred from all rows of a column. A value that would lose something as a number stays text:
whole numbers with leading zeros, such as postcodes, numbers with more digits than a number holds, and times of day.
"""

from __future__ import annotations

import csv as csv_module
import gzip
import io
import re
import zlib
from dataclasses import dataclass
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
FIRST, LAST = -62_135_596_800, 253_402_300_799  # seconds from 1970 to the ends of the years 1 and 9999
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MARKS = {";": "semicolons", "\t": "tabs", "|": "bars"}
ZEROS, WHOLE = r"^\s*[-+]?0[0-9xX]", r"(?i)^\s*([-+]?[0-9]+|nan)\s*$"
LONG = rf"[0-9]{{{DIGITS + 1}}}"
# Most files have no such place, and none of their columns is looked at twice.
MAY_HAVE_ZEROS = re.compile(rb"(?:^|[,;|\t\n\"])[ \t]*[-+]?0[0-9xX]")
MAY_BE_LONG = re.compile(LONG.encode())


class NoRows(Misuse):
    """There is no row. The second argument is the columns."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written: the mark between columns, that of decimals, and what stands for a missing value."""

    separator: str = ","
    decimal: str = "."
    gaps: tuple[str, ...] = ()


def read(
    files: dict[str, bytes],
    where: str,
    text: tuple[str, ...],
    numbers: tuple[str, ...],
    dialect: Dialect = Dialect(),
) -> pd.DataFrame:
    """All rows, in the order of the files.

    Args:
        files: the content of one file, CSV or Parquet, under the name ""; or of the Parquet files of a folder by their
            path in it. ``month=7/part-0.parquet`` gives each row of that file the column ``month``.
        where: the name of file or folder for messages.
        text: columns that stay text.
        numbers: columns of numbers, whatever they lose by it.
        dialect: how a CSV is written.

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
        table = table_of_parquet(content, place) if packed else _csv(content, place, text, numbers, dialect)
        for column, value in partition(name).items():
            if column not in table.column_names:
                table = table.append_column(column, pa.array([value] * len(table), pa.string()))
                parts.add(column)
            elif {str(cell) for cell in table.column(column).unique().to_pylist()} - {str(value)}:
                raise Misuse(f"{place}: column {column!r} holds other values than its folder says; drop one of them")
        for number, column in enumerate(table.column_names):
            if table.column_names.count(column) > 1:
                raise Misuse(f"{place}: column {column!r} stands twice; rename or drop one")
            settled = typed(table.column(number), place, column, column in text, column in numbers)
            table = table.set_column(number, column, settled)
        tables.append(table)
    # A file without rows says nothing about types.
    tables = [table for table in tables if len(table)] or tables[:1]
    try:
        whole = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        mend = "write all with the same columns and types"
        raise Misuse(f"{where}: its files do not fit together: {reason}; {mend}") from None
    if not len(whole):
        raise NoRows(f"{where}: has columns and no rows; fetch it again", whole.column_names)
    for number, column in enumerate(whole.column_names):
        if column in parts and column not in (*text, *numbers):
            whole = whole.set_column(number, column, _of_path(whole.column(number)))
        # Another file may have brought gaps.
        settled = typed(whole.column(number), where, column, column in text, column in numbers)
        whole = whole.set_column(number, column, settled)
    try:
        return whole.to_pandas(ignore_metadata=True)
    except Exception as error:  # as of a time zone that nobody knows: Arrow and pandas raise their own
        for column in whole.column_names:
            try:
                whole.select([column]).to_pandas(ignore_metadata=True)
            except Exception as cause:  # the same, now with the column that has it
                kind, reason = whole.schema.field(column).type, " ".join(str(cause).split())[:100]
                mend = "write it as numbers or as text"
                raise Misuse(f"{where}: column {column!r} of type {kind} cannot be used ({reason}); {mend}") from error
        raise


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


def partition(name: str) -> dict[str, str | None]:
    """The columns that the folders of a path tell."""
    told = [part.partition("=") for part in PurePosixPath(name).parts[:-1]]
    return {unquote(key): None if value == NO_VALUE else unquote(value) for key, is_key, value in told if is_key}


def table_of_parquet(content: bytes, place: str) -> pa.Table:
    """A file of Parquet.

    Raises:
        Misuse: it is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(io.BytesIO(content)).read(use_threads=False)
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Misuse(f"{place}: damaged Parquet: {reason}; fetch the file again") from None


def _csv(content: bytes, place: str, text: tuple[str, ...], numbers: tuple[str, ...], dialect: Dialect) -> pa.Table:
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
    header, rest = (re.split(rb"[\r\n]+", content, maxsplit=1) + [b""])[:2]
    title = header.decode("utf-8-sig").strip()
    if title.lower().startswith("sep="):
        raise Misuse(f"{place}: its first line is {title[:8]!r}; delete it, and separate the columns by commas")
    other = next((name for mark, name in MARKS.items() if mark in title), None)
    if other and dialect.separator not in title:  # looked at first: decimal commas would tell of ragged rows
        raise Misuse(f"{place}: its header {title[:40]!r} is separated by {other}; separate the columns by commas")
    if not rest.strip():
        columns = next(csv_module.reader([title], delimiter=dialect.separator), [])
        raise NoRows(f"{place}: has a header and no rows; fetch the file again", columns)

    def table(as_written: tuple[str, ...], alone: bool = False) -> pa.Table:
        # One block, so that a column's type is inferred from all of its rows and errors name the row.
        return csv.read_csv(
            io.BytesIO(content),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(content) + 1),
            parse_options=csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(as_written, pa.string()),
                decimal_point=dialect.decimal,
                null_values=["", *dialect.gaps],
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
            or ((pa.types.is_integer(field.type) or pa.types.is_floating(field.type)) and zeros)
            or (pa.types.is_floating(field.type) and long)
        )
        and field.name not in numbers
    )
    if not doubtful:
        return found
    written = table(doubtful, alone=True)
    for name in doubtful:
        cells, of = written.column(name), found.schema.field(name).type
        loses = pa.types.is_time(of) or compute.any(compute.match_substring_regex(cells, ZEROS)).as_py()
        if not loses and pa.types.is_floating(of) and long:
            whole = compute.all(compute.match_substring_regex(cells, WHOLE)).as_py()
            loses = whole and compute.any(compute.match_substring_regex(cells, LONG)).as_py()
        if loses:
            found = found.set_column(names.index(name), name, cells)
    return found


def typed(column: pa.ChunkedArray, where: str, name: str, text: bool = False, numbers: bool = False) -> pa.ChunkedArray:
    """A column in a type that models, contract and service know: number, truth, time or text.

    Args:
        text: whether it is to be text.
        numbers: whether it is to be numbers.

    Raises:
        Misuse: it cannot be.
    """
    import pyarrow as pa

    mend = "write it as numbers or as text in the file, or leave it out"
    try:
        settled = _numbers(column) if numbers else _settled(column, text)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        also = "; data.numbers names it" if numbers else ""
        raise Misuse(f"{where}: column {name!r}: {reason}{also}; {mend}") from None
    if settled is None:
        raise Misuse(f"{where}: column {name!r} holds {column.type}, which no model takes; {mend}")
    return settled


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    import pyarrow as pa
    from pyarrow import compute

    column = compute.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return compute.cast(column, pa.float64(), safe=False)
    if not _is_text(kind):
        return None
    trimmed = compute.utf8_trim_whitespace(compute.cast(column, pa.string()))
    whole = compute.all(compute.match_substring_regex(trimmed, r"^-?[0-9]{1,18}$")).as_py()
    return compute.cast(trimmed, pa.int64() if whole else pa.float64())


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _settled(column: pa.ChunkedArray, text: bool) -> pa.ChunkedArray | None:
    """None: no model takes it."""
    import pyarrow as pa
    from pyarrow import compute

    column = compute.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column
    kind = column.type
    if _is_text(kind):
        return compute.cast(column, pa.string())
    if pa.types.is_time(kind):
        return _plain(column, pa.types.is_time32(kind) and kind.unit == "s")
    if pa.types.is_decimal(kind):
        if kind.scale:
            return pa.chunked_array([_texts(column)], pa.string()) if text else compute.cast(column, pa.float64())
        try:
            column = compute.cast(column, pa.int64())
        except pa.ArrowInvalid:
            return compute.cast(column, pa.string())
        kind = column.type
    if pa.types.is_date(kind):
        column = compute.cast(column, pa.timestamp("ms"))
        kind = column.type
    if pa.types.is_timestamp(kind):
        ticks = compute.min_max(compute.cast(column, pa.int64())).as_py()
        beyond = [tick for tick in ticks.values() if tick is not None and not FIRST <= tick / TICKS[kind.unit] <= LAST]
        if beyond:
            raise pa.ArrowInvalid("it holds a time outside of the years 1 to 9999")
        return _plain(column, kind.unit == "s") if text else column
    if pa.types.is_floating(kind):
        if text:
            return pa.chunked_array([_texts(column)], pa.string())
        return compute.cast(column, pa.float32()) if pa.types.is_float16(kind) else column
    if pa.types.is_integer(kind):
        # A gap makes a number of 64 bits a float.
        ends = compute.min_max(column).as_py().values()
        loses = column.null_count and max(abs(end or 0) for end in ends) > EXACT
        return compute.cast(column, pa.string()) if text or loses else column
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return compute.cast(column, pa.string()) if text else column
    return None


def _plain(times: pa.ChunkedArray, whole: bool) -> pa.ChunkedArray:
    """Times as people write them, without a fraction of zeros. ``whole``: their type has no fractions."""
    import pyarrow as pa
    from pyarrow import compute

    written = compute.cast(times, pa.string())
    return written if whole else compute.replace_substring_regex(written, r"\.?0*(Z|[-+][0-9:]+)?$", r"\1")


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Numbers as people write them: 7 and not 7.0, and never with an exponent below 2**53."""

    def text(number: Any) -> str | None:
        if number is None or number != number:
            return None
        return str(int(number)) if abs(number) < EXACT and number == int(number) else str(number)

    return [text(number) for number in column.to_pylist()]


def _of_path(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a partition as whole numbers or times, if all of them are such; else as text."""
    import pyarrow as pa
    from pyarrow import compute

    if not compute.any(compute.match_substring_regex(column, ZEROS)).as_py():
        for kind in (pa.int64(), pa.timestamp("s")):
            try:
                return compute.cast(column, kind)
            except pa.ArrowInvalid:
                continue
    return column
