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
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import pandas as pd

from conveyor.core.errors import Misuse
from conveyor.core.frozen import shown
from conveyor.data import formats, hints

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LINES = 200  # of a CSV are read to find the separator
PACKED = (formats.PARQUET, formats.GZIP, b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")  # they begin so
MARKS = 3  # of a missing value are enough in one file
DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d")
WORDS = ("%d %b %Y", "%b %d %Y", "%b %d, %Y", "%d-%b-%Y", "%d %B %Y", "%B %d %Y", "%B %d, %Y")
WORDY = re.compile(r"(\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{4}|[A-Za-z]{3,9} \d{1,2},? \d{4}).*")
AMOUNT = re.compile(r"[-+]?[$€£¥]?[-+]?(\d+|\d{1,3}([., '\u00a0\u202f]\d{3})+)([.,]\d+)?[$€£¥%]?")
SIGNS = re.compile(r"[$€£¥% '\u00a0\u202f]")
MONTH = re.compile(r"(19|20)\d\d-(0[1-9]|1[0-2])")
# Where a mark is of thousands, three digits come after each one.
THOUSANDS = {
    mark: re.compile(rf"[-+]?[$€£¥]?[-+]?\d{{1,3}}({re.escape(mark)}\d{{3}})+([{re.escape(other)}]\d+)?[$€£¥%]?")
    for mark, other in ((",", "."), (".", ","))
}
CLOCKS = ("", " %H:%M", " %H:%M:%S")


@dataclass
class Way:
    """How marks are read that could mean two things. An earlier file of the same source settles it for later ones.

    Attributes:
        decimal: the mark of decimals in a CSV; None: not settled.
        dates: the form of each column of dates that is not ISO 8601.
    """

    decimal: str | None = None
    dates: dict[str, str] = field(default_factory=dict)


@dataclass
class Found:
    """Rows, and how they were read.

    Attributes:
        frame: the rows.
        native: whether ``data.path`` can name the file as it is.
        told: what was found, a line each.
        way: how marks were read.
    """

    frame: pd.DataFrame
    native: bool
    told: list[str] = field(default_factory=list)
    way: Way = field(default_factory=Way)


def read(
    files: dict[str, bytes],
    where: str,
    separator: str | None = None,
    text: tuple[str, ...] = (),
    numbers: tuple[str, ...] = (),
    codes: tuple[str, ...] = (),
    way: Way | None = None,
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

    Raises:
        Misuse: it is none of these, or could be read in two ways; the line says how to choose.
    """
    way, content = way or Way(), files.get("", b"")
    if "" not in files or content.startswith(formats.PARQUET):
        found = Found(formats.read(files, where, text, numbers), True, ["Parquet"])
        _dates(found, text, way)
        return _named(found)
    formats.check(files, where)
    plain, packed = _unpacked(content, where)
    if plain.startswith(formats.PARQUET):
        return _named(Found(formats.read({"": plain}, where, text, numbers), False, [f"Parquet in {packed}"]))
    written, encoding = _text(plain, where)
    if written.lstrip()[:1] == "<":
        raise Misuse(f"{where}: is HTML or XML, perhaps a message of a server, and no rows: {shown(written.strip())}")
    if written.lstrip()[:1] in ("{", "["):
        found = _json(written, where, text, numbers)
    else:
        text = (*text, *codes)
        found = _csv(written, where, separator, text, numbers, way)
    if packed:
        found.told.append(packed)
    if encoding != "UTF-8":
        found.told.append(encoding)
    found.native = found.native and packed in ("", "gzip") and encoding == "UTF-8"
    _dates(found, text, way)
    _amounts(found, text, where)
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


def _amounts(found: Found, stay: tuple[str, ...], where: str) -> None:
    """Text columns of numbers with marks of thousands, signs of money or of a hundredth become numbers.

    Raises:
        Misuse: a comma could be that of decimals or of thousands, or stands in the place of neither.
    """
    decimal = found.way.decimal or "."
    for name in found.frame:
        values = found.frame[name]
        texts = [str(text) for text in values.dropna().unique()] if values.dtype == "str" and name not in stay else []
        cells = [text for text in texts if not hints.GAPS.fullmatch(text)]
        plain = [cell.replace(" ", "") if not re.search(r"\d \d", cell) else cell.strip() for cell in cells]
        if not cells or not all(AMOUNT.fullmatch(cell) for cell in plain):
            continue
        if any(re.match(r"[-+]?0\d", cell) for cell in plain) or all(cell.isdigit() for cell in plain):
            continue  # codes
        other = "." if decimal == "," else ","
        odd = next((cell for cell in plain if other in cell and not THOUSANDS[other].fullmatch(cell)), None)
        if odd is not None:
            mend = f"write {shown(odd)} with a decimal point and without marks of thousands"
            raise Misuse(f"{where}: column {name!r} has numbers whose marks mean two things; {mend}")
        known = {}
        for cell in cells:
            bare = SIGNS.sub("", cell.strip())
            known[cell] = bare.replace(".", "").replace(",", ".") if decimal == "," else bare.replace(",", "")
        numbers = pd.to_numeric(pd.Series(list(known.values())), errors="coerce")
        if numbers.notna().all():
            parsed = dict(zip(known, numbers, strict=True))
            found.frame = found.frame.assign(**{name: values.map(parsed).astype("float64")})
            found.native = False
            found.told.append(f"{name} as amounts")


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
                if len(names) == 1:
                    return archive.read(names[0]), "zip"
            raise Misuse(f"{where}: a zip of {len(names)} files; unpack it and name one of them")
    except Misuse:
        raise
    except Exception as error:  # each library has its own for a damaged file
        raise Misuse(f"{where}: damaged ({' '.join(str(error).split())[:100]}); fetch the file again") from None
    return content, ""


def _text(content: bytes, where: str) -> tuple[str, str]:
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
    return Found(formats.read({"": packed(table)}, where, stay, numbers), False, [told])


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
    text: str, where: str, separator: str | None, stay: tuple[str, ...], numbers: tuple[str, ...], way: Way
) -> Found:
    first, _, rest = text.partition("\n")
    native = True
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        separator, text, native = separator or first.strip()[4], rest, False
    mark = separator or _separator(text, where)
    content = {"": text.encode()}
    written = formats.read(content, where, tuple(_header(text, mark)), (), formats.Dialect(mark))
    decimal, gaps, doubtful = way.decimal or ".", set(), ""
    for name in written:
        cells = [str(cell) for cell in written[name].dropna().unique()]
        others = [cell for cell in cells if not hints.GAPS.fullmatch(cell)]
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
    told = [SEPARATORS.get(mark, f"separated by {mark!r}")]
    told += ["decimal comma"] * (decimal == ",") + [f"{', '.join(map(shown, sorted(gaps)))} for a gap"] * bool(gaps)
    return Found(frame, native and dialect == formats.Dialect(), ["CSV, " + ", ".join(told)], Way(decimal))


def _header(text: str, mark: str) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline=None), delimiter=mark), [])


def _separator(text: str, where: str) -> str:
    """The one mark that divides all lines into equally many cells.

    Raises:
        Misuse: several do.
    """
    fits = []
    for mark in SEPARATORS:
        lines = csv.reader(io.StringIO(text, newline=None), delimiter=mark)
        with_cells = {len(row) for row in islice(lines, LINES) if row}
        if len(with_cells) == 1 and with_cells != {1}:
            fits.append(mark)
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
    if not found:
        raise Misuse(f"{where}: has one column; rows need several (SEPARATOR= of adopt names another mark)")
    return found[0]


def _dates(found: Found, stay: tuple[str, ...], settled: Way) -> None:
    """Text columns of dates become times, where one way to read them fits all."""
    for name in found.frame:
        values = found.frame[name]
        texts = [str(text) for text in values.dropna().unique()] if values.dtype == "str" and name not in stay else []
        if not texts or not all(any(way.fullmatch(text) for way in (hints.DATE, WORDY, MONTH)) for text in texts):
            continue
        fits: dict[str, Any] = {}
        ways = [settled.dates[name]] if name in settled.dates else [d + c for d in (*DAYS, *WORDS) for c in CLOCKS]
        for way in ("ISO8601", *ways):
            utc = way == "ISO8601" and all(re.search(r"(Z|[-+]\d\d:?\d\d)$", text) for text in texts)
            try:
                read = pd.to_datetime(pd.Series(texts, dtype=object), format=way, errors="coerce", utc=utc)
            except ValueError:  # some with a zone and some without
                continue
            if pd.api.types.is_datetime64_any_dtype(read) and read.notna().all():
                fits.setdefault(str(read.tolist()), (way, dict(zip(texts, read, strict=True))))
        if len(fits) == 1:
            [(way, known)] = fits.values()
            found.frame = found.frame.assign(**{name: pd.to_datetime(values.map(known))})
            found.native = False
            found.told.append(f"{name} as {way}")
            if way != "ISO8601":
                found.way.dates[name] = way
        elif fits:
            either = " or ".join(way for way, _ in fits.values())
            found.told.append(f"{name} could be {either}: write it as 2013-06-30")
