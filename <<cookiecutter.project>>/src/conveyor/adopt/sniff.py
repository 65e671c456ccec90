"""Detect the form of a file: its compression, encoding, separator, decimal mark, gap marks and dates."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Iterator
from itertools import count, islice
from typing import TYPE_CHECKING

import pandas as pd

from conveyor.adopt.meant import Found, Way, amounts, times, without_signs
from conveyor.core.errors import Misuse
from conveyor.core.frozen import shown
from conveyor.data import formats, hints
from conveyor.data.formats import TICKS

if TYPE_CHECKING:
    import pyarrow as pa

BLANK = " "  # any number of them
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LINES = 200  # of a CSV are read to find the separator
PACKED = (formats.PARQUET, formats.GZIP, b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")  # they begin so


def read(
    files: dict[str, bytes],
    where: str,
    separator: str | None = None,
    text: tuple[str, ...] = (),
    numbers: tuple[str, ...] = (),
    codes: tuple[str, ...] = (),
    way: Way | None = None,
    columns: tuple[str, ...] = (),
) -> Found:
    """Rows of a CSV, of Parquet or of JSON, compressed or not.

    Args:
        files: as of ``source.fetch``.
        where: the name for messages.
        separator: that of a CSV; None: it is found.
        text: columns that stay text.
        numbers: columns of numbers.
        codes: columns that stay text where the file does not tell types, as a CSV.
        way: how an earlier file was read.
        columns: of an earlier file; they tell the separator where several fit.

    Raises:
        Misuse: it is none of these, or could be read in two ways; the line says how to choose.
    """
    way, content = way or Way(), files.get("", b"")
    if "" not in files or content.startswith(formats.PARQUET):
        formats.check(files, where)
        found = _parquet(files, where, text, numbers)
        times(found, text, way)
        return _named(found)
    formats.check(files, where)
    plain, packed = _unpacked(content, where)
    if plain.startswith(formats.PARQUET):
        found = _parquet({"": plain}, where, text, numbers)
        found.native, found.told = False, [f"Parquet in {packed}", *found.told[1:]]
        times(found, text, way)
        return _named(found)
    written, encoding = _text(plain, where)
    if written.lstrip()[:1] == "<":
        raise Misuse(f"{where}: is HTML or XML, perhaps a message of a server, and no rows: {shown(written.strip())}")
    if written.lstrip()[:1] in ("{", "["):
        found = _json(written, where, text, numbers)
    else:
        text = (*text, *codes)
        found = _csv(written, where, separator, text, numbers, way, columns)
    if packed:
        found.told.append(packed)
    if encoding != "UTF-8":
        found.told.append(encoding)
    found.native = found.native and packed in ("", "gzip") and encoding == "UTF-8"
    times(found, text, way)
    amounts(found, text, where)
    return _named(found)


def _named(found: Found) -> Found:
    """Columns with names that a message, a contract and a line of code can hold."""
    names: list[str] = []
    for name in map(str, found.frame.columns):
        plain = " ".join(re.sub(r"[\x00-\x1f\x7f\\]", " ", name).split()) or "unnamed"
        while plain in names:
            plain += "_"
        names.append(plain)
    renamed = [new for old, new in zip(found.frame.columns, names, strict=True) if old != new]
    if renamed:
        found.frame, found.native = found.frame.set_axis(names, axis=1), False
        found.told.append(f"{', '.join(map(shown, renamed))} renamed")
    return found


def _unpacked(content: bytes, where: str) -> tuple[bytes, str]:
    try:
        if content.startswith(formats.GZIP):
            return gzip.decompress(content), "gzip"
        if content.startswith(b"BZh"):
            return bz2.decompress(content), "bzip2"
        if content.startswith(b"\xfd7zXZ\x00"):
            return lzma.decompress(content), "xz"
        if content.startswith(b"\x28\xb5\x2f\xfd"):
            import pyarrow as pa

            return pa.input_stream(io.BytesIO(content), compression="zstd").read(), "zstd"
        if content.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
                names = [name for name in names if not name.startswith("__MACOSX/")]
                if len(names) == 1:
                    return archive.read(names[0]), "zip"
            if {"[Content_Types].xml", "mimetype"} & set(names):
                raise Misuse(f"{where}: a workbook of a spreadsheet; save the sheet that holds the rows as CSV")
            raise Misuse(f"{where}: a zip of {len(names)} files; unpack it and name one of them")
    except Misuse:
        raise
    except Exception as error:  # each library has its own for a damaged file
        raise Misuse(f"{where}: damaged ({' '.join(str(error).split())[:100]}); fetch the file again") from None
    return content, ""


def _text(content: bytes, where: str) -> tuple[str, str]:
    if content[257:262] == b"ustar":
        raise Misuse(f"{where}: a tar archive; unpack it and name one of its files")
    if content[:2] in formats.UTF_16:
        return content.decode("utf-16", errors="replace"), "UTF-16"
    try:
        text, encoding = content.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        text, encoding = content.decode("cp1252", errors="replace"), "Windows-1252"
    if "\0" in text or "\ufffd" in text:
        raise Misuse(f"{where}: neither text nor Parquet; save it as CSV in UTF-8")
    return text, encoding


def _json(text: str, where: str, stay: tuple[str, ...], numbers: tuple[str, ...]) -> Found:
    import pyarrow as pa
    from pyarrow import json as lines

    try:
        if text.lstrip().startswith("["):
            table = pa.Table.from_pylist(json.loads(text))
            told = "a list of JSON objects"
        else:
            block = lines.ReadOptions(use_threads=False, block_size=len(text.encode()) + 1)
            table, told = lines.read_json(io.BytesIO(text.encode()), read_options=block), "JSON lines"
            # Arrow takes a text for a time and drops its zone.
            times = [pa.field(each.name, pa.string()) for each in table.schema if pa.types.is_timestamp(each.type)]
            if times:
                as_text = lines.ParseOptions(explicit_schema=pa.schema(times))
                table = lines.read_json(io.BytesIO(text.encode()), block, as_text)
    except (pa.ArrowException, ValueError, AttributeError) as error:
        raise Misuse(f"{where}: no JSON of rows: {' '.join(str(error).split())[:200]}; mend it") from None
    table, changed = _flat(table)
    return Found(formats.read({"": packed(table)}, where, stay, numbers), False, [told, *changed])


def _parquet(files: dict[str, bytes], where: str, stay: tuple[str, ...], numbers: tuple[str, ...]) -> Found:
    """Parquet, whose columns of no type that models take become such, or are left out."""
    plain, told = {}, []
    for name, content in files.items():
        table, changed = _flat(formats.table_of_parquet(content, f"{where}/{name}" if name else where))
        plain[name] = packed(table) if changed else content
        told += [each for each in changed if each not in told]
    return Found(formats.read(plain, where, stay, numbers), not told, ["Parquet", *told])


def _flat(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """Objects in a column become columns of their own, durations become seconds, and lists and bytes are left out."""
    import pyarrow as pa
    from pyarrow import compute

    told = []
    while any(pa.types.is_struct(field.type) for field in table.schema):
        told += [f"{field.name} as columns of its own" for field in table.schema if pa.types.is_struct(field.type)]
        table = table.flatten()
    for field in table.schema:
        if pa.types.is_duration(field.type):
            ticks = compute.cast(compute.cast(table.column(field.name), pa.int64()), pa.float64(), safe=False)
            seconds = compute.divide(ticks, float(TICKS[field.type.unit]))
            table = table.set_column(table.column_names.index(field.name), field.name, seconds)
            told.append(f"{field.name} in seconds")
        elif pa.types.is_nested(field.type) or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            table = table.drop_columns(field.name)
            told.append(f"{field.name} left out, for it holds {field.type}")
    return table, told


def packed(table: pa.Table) -> bytes:
    """A table as Parquet."""
    from pyarrow import BufferOutputStream, parquet

    out = BufferOutputStream()
    parquet.write_table(table, out, compression="zstd")
    content: bytes = out.getvalue().to_pybytes()
    return content


def parquet_of(frame: pd.DataFrame) -> bytes:
    """A frame as Parquet, without its index."""
    import pyarrow as pa

    return packed(pa.table({name: arrow(frame[name]) for name in frame}))


def arrow(values: pd.Series) -> pa.Array:
    """A column as Arrow has it: gaps are null, and times keep their zone."""
    import pyarrow as pa

    if isinstance(values.dtype, pd.DatetimeTZDtype):
        plain = pa.array(values.dt.tz_convert(None).to_numpy(), from_pandas=True)
        return plain.cast(pa.timestamp(values.dt.unit, str(values.dt.tz)))
    return pa.array(values.array, from_pandas=True)


def _csv(
    text: str,
    where: str,
    separator: str | None,
    stay: tuple[str, ...],
    numbers: tuple[str, ...],
    way: Way,
    columns: tuple[str, ...],
) -> Found:
    text, remarks = _without_remarks(text)
    native = not remarks
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        separator, text, native = separator or first.strip()[4], rest, False
    mark = separator or _separator(text, where, columns)
    told = [(SEPARATORS | {BLANK: "blanks"}).get(mark, f"separated by {mark!r}")] + [
        f"{remarks} lines of remarks left out"
    ] * bool(remarks)
    names = _header(text, mark)
    if mark == BLANK or len(set(names)) < len(names):
        text, mark, native = _with_commas(text, mark), ",", False
    content = {"": text.encode()}
    written = formats.read(content, where, tuple(_header(text, mark)), (), formats.Dialect(mark))
    decimal, gaps, doubtful = way.decimal or ".", set(), ""
    for name in written:
        cells = [str(cell) for cell in written[name].dropna().unique()]
        others = without_signs([cell for cell in cells if not hints.GAPS.fullmatch(cell)])
        commas = [cell for cell in others if hints.COMMA.fullmatch(cell)]
        certain = [cell for cell in commas if not hints.GROUPED.fullmatch(cell)]
        plain = [cell for cell in others if hints.NUMBER.fullmatch(cell)]
        numeric = others and len(commas) + len(plain) == len(others)
        # One comma that cannot be of thousands settles it for the whole file.
        if numeric and certain and way.decimal is None:
            decimal = ","
        if numeric and commas and not certain and name not in stay:
            doubtful = doubtful or f"column {name!r}, as {shown(commas[0])}"
        if numeric and (certain or not commas):
            gaps |= {cell for cell in cells if hints.GAPS.fullmatch(cell) and cell.strip()}
    if doubtful and decimal == "." and way.decimal is None and mark == ";":  # where the comma is often that of decimals
        mend = "write the numbers with a decimal point"
        raise Misuse(f"{where}: a comma could be that of decimals or of thousands in {doubtful}; {mend}")
    if decimal == "," and any(
        (cells := written[name].dropna()).str.fullmatch(r"\s*[-+]?\d+\.\d+\s*").any()
        and not cells.str.contains(",").any()
        for name in written
    ):
        raise Misuse(f"{where}: has decimal commas in one column and decimal points in another; write all alike")
    dialect = formats.Dialect(mark, decimal, tuple(sorted(gaps)))
    frame = formats.read(content, where, stay, numbers, dialect)
    told += ["decimal comma"] * (decimal == ",") + [f"{', '.join(map(shown, sorted(gaps)))} for a gap"] * bool(gaps)
    return Found(frame, native and dialect == formats.Dialect(), ["CSV, " + ", ".join(told)], Way(decimal))


def _rows(text: str, mark: str) -> Iterator[list[str]]:
    if mark == BLANK:
        text = re.sub(r"(?m)^ +| +$", "", re.sub("[ \t]+", BLANK, text))
    return csv.reader(io.StringIO(text, newline=None), delimiter=mark)


def _header(text: str, mark: str) -> list[str]:
    return next(_rows(text, mark), [])


def _with_commas(text: str, mark: str) -> str:
    """The same rows with commas between, and each name of a column once: a second one gets a number."""
    out, rows = io.StringIO(), _rows(text, mark)
    names, once = next(rows), list[str]()
    for name in names:
        others = (f"{name or 'unnamed'}_{number}" for number in count(2))
        once.append(name if name not in once else next(new for new in others if new not in (*names, *once)))
    csv.writer(out, lineterminator="\n").writerows([once, *filter(None, rows)])
    return out.getvalue()


def _without_remarks(text: str) -> tuple[str, int]:
    """The text without the remarks above its header, and how many lines they are.

    The names of the columns may begin with # as well: that line has as many marks as the next one.
    """
    lines = text.split("\n", LINES)
    remarks = next((number for number, line in enumerate(lines) if not line.startswith("#")), 0)
    marks = [sum(map(line.count, SEPARATORS)) for line in lines]
    if remarks and marks[remarks - 1] and marks[remarks - 1] == marks[remarks]:
        remarks -= 1
    return ("\n".join(lines[remarks:]) if remarks else text), remarks


def _separator(text: str, where: str, columns: tuple[str, ...]) -> str:
    """The one mark that divides all lines into equally many cells.

    Raises:
        Misuse: several do.
    """
    fits = []
    for mark in SEPARATORS:
        with_cells = {len(row) for row in islice(_rows(text, mark), LINES) if row}
        if len(with_cells) == 1 and with_cells != {1}:
            fits.append(mark)
    if len(fits) > 1 and columns:
        fits = [mark for mark in fits if set(columns) <= set(_header(text, mark))] or fits
    if len(fits) > 1:
        # In the header stands no decimal comma.
        alone = [m for m in fits if not any(other in "".join(_header(text, m)) for other in set(fits) - {m})]
        fits = alone or fits
    if len(fits) > 1:
        choices = " or ".join(f"SEPARATOR={mark!r}" for mark in fits)
        raise Misuse(f"{where}: several marks could separate its columns; say {choices}")
    # Rows that do not fit their header are told as such.
    header = text.partition("\n")[0]
    found = fits or sorted((mark for mark in SEPARATORS if mark in header), key=header.count, reverse=True)
    with_cells = set() if found else {len(row) for row in islice(_rows(text, BLANK), LINES) if row}
    if len(with_cells) == 1 and with_cells != {1}:
        return BLANK
    if not found:
        raise Misuse(f"{where}: has one column; rows need several (SEPARATOR= of adopt names another mark)")
    return found[0]
