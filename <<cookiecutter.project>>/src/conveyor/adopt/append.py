"""Append new rows to a file in its own form: no byte of the rows that a CSV holds changes."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from conveyor.adopt.sniff import arrow, packed
from conveyor.core.errors import Misuse
from conveyor.core.files import sha256
from conveyor.core.frozen import shown
from conveyor.data import formats
from conveyor.model.rows import kind_of_values


def appended(files: dict[str, bytes], where: str, known: pd.DataFrame, new: pd.DataFrame) -> dict[str, bytes]:
    """The files that change, by their path as in ``source.fetch``: a file as a whole, or one more file of a folder.

    Args:
        files: what is there.
        where: its name for messages.
        known: the rows that ``files`` hold.
        new: the rows to add, with the columns and kinds of ``known``; see ``alike``.

    Raises:
        Misuse: a value has no place in the types of a Parquet file.
    """
    if "" not in files:
        return _in_folders(files, where, new)
    old = files[""]
    if old.startswith(formats.PARQUET):
        import pyarrow as pa

        return {"": packed(pa.concat_tables([_read(old), _table(old, where, new)]))}
    is_packed = old.startswith(formats.GZIP)
    plain = gzip.decompress(old) if is_packed else old
    text = io.StringIO()
    ending = "\r\n" if b"\r\n" in plain[:10_000] else "\n"
    if not plain.endswith((b"\n", b"\r")):
        text.write(ending)
    columns = [_written(known[name], new[name]) for name in known.columns]
    csv.writer(text, lineterminator=ending).writerows(zip(*columns, strict=True))
    more = text.getvalue().encode()
    # A gzip file may have several members; the time in its header would make equal rows other bytes.
    return {"": old + (gzip.compress(more, mtime=0) if is_packed else more)}


def _in_folders(files: dict[str, bytes], where: str, new: pd.DataFrame) -> dict[str, bytes]:
    """A new file for the rows of each folder, in the folders whose names tell columns (``month=7``)."""
    first, like = next(iter(files.items()))
    told = list(formats.partition(first))
    found = {}
    groups = new.groupby(told, dropna=False, sort=True) if told else [((), new)]
    for values, rows in groups:
        content = packed(_table(like, where, rows.drop(columns=told)))
        parts = [f"{name}={_folder(value)}" for name, value in zip(told, values, strict=True)]
        found["/".join([*parts, f"rows-{sha256(content)[:12]}.parquet"])] = content
    return found


def _folder(value: Any) -> str:
    if pd.isna(value):
        return formats.NO_VALUE
    return quote(str(value.item() if isinstance(value, np.generic) else value), safe="")


def alike(new: pd.DataFrame, known: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    """The new rows with the columns of the known ones, in their order and kinds; and the names that are left out.

    Raises:
        Misuse: a column is missing, or is of another kind.
    """
    has_all(list(map(str, new.columns)), known, where)
    found = {name: _alike(new[name], known[name], where, name) for name in known.columns}
    return pd.DataFrame(found), [name for name in new.columns if name not in known.columns]


def has_all(columns: list[str], known: pd.DataFrame, where: str) -> None:
    """Check that the columns of the data are among those of an answer.

    Raises:
        Misuse: one is missing.
    """
    if missing := ", ".join(name for name in known.columns if name not in columns):
        has = ", ".join(columns)[:300]
        raise Misuse(f"{where}: has no column {missing}, which the data have; it has {has}; mend data.source")


def _alike(values: pd.Series, known: pd.Series, where: str, name: str) -> pd.Series:
    now, wanted = kind_of_values(values), kind_of_values(known)
    if values.isna().all() or known.isna().all():
        return values
    if wanted == "time" and now == "number" and _years(values, known):
        return pd.to_datetime(values.astype("int64").astype(str), format="%Y").astype(known.dtype)
    if wanted == now == "time":
        if (values.dt.tz is None) != (known.dt.tz is None):
            with_zone = (
                "the data have a zone and it has none" if values.dt.tz is None else "it has a zone, the data none"
            )
            mend = "write the zone, as 2013-06-30T12:00:00Z" if values.dt.tz is None else "leave the zone out"
            raise Misuse(f"{where}: column {name!r}: {with_zone}; {mend}")
        return values if known.dt.tz is None else values.dt.tz_convert(known.dt.tz)
    if wanted == now:
        # What a narrower number of the data holds of it is compared, and written.
        return values.astype(known.dtype) if known.dtype == np.float32 else values
    if wanted == "number" and now == "truth":
        return values.astype(object).where(values.notna(), np.nan).astype(np.float64)
    if wanted == "truth" and now == "number" and set(values.dropna().unique()) <= {0, 1}:
        return values.map({0: False, 1: True})
    example = values[values.notna()].iloc[0]
    if wanted == "number" and now == "text":  # the one that is no number
        odd = values[pd.to_numeric(values, errors="coerce").isna() & values.notna()]
        example = odd.iloc[0] if len(odd) else example
    seen = shown(example.item() if isinstance(example, np.generic) else example)
    raise Misuse(
        f"{where}: column {name!r} is {now} there, as {seen}, and {wanted} in the data; bring it to {wanted} there"
    )


def _years(values: pd.Series, known: pd.Series) -> bool:
    """Whether whole numbers are years, which `adopt` has made times of: then these are first days of years."""
    first = known.dropna().dt.strftime("%m-%d %H:%M:%S").eq("01-01 00:00:00").all()
    return bool(first and values.notna().all() and (values % 1 == 0).all() and values.between(1000, 2999).all())


def _written(known: pd.Series, new: pd.Series) -> list[str]:
    """The cells of a column as a CSV holds them; a gap is empty."""
    write: Callable[[Any], str] = str
    kind = kind_of_values(new)
    if kind == "time":
        days = all((times.dropna() == times.dropna().dt.normalize()).all() for times in (known, new))
        write = _day if days and known.dt.tz is None else _time
    elif kind == "truth":
        write = _truth
    elif kind == "number":
        whole = pd.api.types.is_integer_dtype(known) and (new.dropna() % 1 == 0).all()
        write = _whole if whole or pd.api.types.is_integer_dtype(new) else _number
    return ["" if missing else write(value) for value, missing in zip(new, new.isna(), strict=True)]


def _day(time: Any) -> str:
    return str(time.strftime("%Y-%m-%d"))


def _time(time: Any) -> str:
    return str(time.isoformat()).replace("+00:00", "Z")


def _truth(value: Any) -> str:
    return "true" if value else "false"


def _whole(value: Any) -> str:
    return str(int(value))


def _number(value: Any) -> str:
    return repr(float(value))


def _read(content: bytes) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(io.BytesIO(content)).read(use_threads=False)


def _table(like: bytes, where: str, new: pd.DataFrame) -> Any:
    """The rows as a table of the types of a Parquet file; a column that only other files have keeps its own."""
    import pyarrow as pa

    schema = _read(like).schema
    fields, columns = [], []
    for name in [*schema.names, *(name for name in new.columns if name not in schema.names)]:
        values = arrow(new[name])
        kind = schema.field(name).type if name in schema.names else values.type
        mend = f"bring it to {kind} at the source, or write the data anew with another type"
        if values.null_count and name in schema.names and not schema.field(name).nullable:
            raise Misuse(f"{where}: column {name!r} of the new rows has a gap, and the file takes none there; {mend}")
        given = values
        try:
            values = values.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else values.cast(kind)
            kept = pa.types.is_float32(kind) or pa.types.is_dictionary(kind) or values.cast(given.type).equals(given)
            reason = "" if kept else "its values would be rounded"
        except pa.ArrowException as error:
            reason = " ".join(str(error).split())[:120]
        if reason:
            raise Misuse(f"{where}: column {name!r} of the new rows does not fit {kind} ({reason}); {mend}")
        columns.append(values)
        fields.append(schema.field(name) if name in schema.names else pa.field(name, kind))
    return pa.table(columns, schema=pa.schema(fields, metadata=schema.metadata))
