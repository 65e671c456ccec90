"""New rows behind the old ones, in the form of the file: not a byte of what a CSV holds changes."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from conveyor.adopt.sniff import arrow, packed
from conveyor.core.errors import Misuse
from conveyor.core.files import sha256
from conveyor.data import formats
from conveyor.model.rows import kind_of


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
        like = next(iter(files.values()))
        content = packed(_table(like, where, new))
        return {f"rows-{sha256(content)[:12]}.parquet": content}
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


def alike(new: pd.DataFrame, known: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    """The new rows with the columns of the known ones, in their order and kinds; and the names that are left out.

    Raises:
        Misuse: a column is missing, or is of another kind.
    """
    missing = [name for name in known.columns if name not in new.columns]
    if missing:
        named, has = ", ".join(missing), ", ".join(map(str, new.columns))
        raise Misuse(f"{where}: has no column {named}, which the data have; it has {has}; mend data.source")
    found = {name: _alike(new[name], known[name], where, name) for name in known.columns}
    return pd.DataFrame(found), [name for name in new.columns if name not in known.columns]


def _alike(values: pd.Series, known: pd.Series, where: str, name: str) -> pd.Series:
    now, wanted = kind_of(str(values.dtype)), kind_of(str(known.dtype))
    if values.isna().all() or known.isna().all():
        return values
    if wanted == now == "time":
        if (values.dt.tz is None) != (known.dt.tz is None):
            with_zone = (
                "the data have a zone and it has none" if values.dt.tz is None else "it has a zone, the data none"
            )
            mend = "write the zone, as 2013-06-30T12:00:00Z" if values.dt.tz is None else "leave the zone out"
            raise Misuse(f"{where}: column {name!r}: {with_zone}; {mend}")
        return values if known.dt.tz is None else values.dt.tz_convert(known.dt.tz)
    if wanted == now:
        return values
    if wanted == "number" and now == "truth":
        return values.astype(np.float64)
    if wanted == "truth" and now == "number" and set(values.dropna().unique()) <= {0, 1}:
        return values.map({0: False, 1: True})
    raise Misuse(
        f"{where}: column {name!r} is {now} there, and {wanted} in the data; bring it to {wanted} at the source"
    )


def _written(known: pd.Series, new: pd.Series) -> list[str]:
    """The cells of a column as a CSV holds them; a gap is empty."""
    write: Callable[[Any], str] = str
    kind = kind_of(str(new.dtype))
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
    """The rows as a table of the types of a Parquet file. What its folders tell is a column of the file here."""
    import pyarrow as pa

    schema = _read(like).schema
    fields, columns = [], []
    for name in [*schema.names, *(name for name in new.columns if name not in schema.names)]:
        values = arrow(new[name])
        kind = schema.field(name).type if name in schema.names else pa.string()
        try:
            values = values.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else values.cast(kind)
        except pa.ArrowException as error:
            reason = " ".join(str(error).split())[:120]
            mend = f"bring it to {kind} at the source, or write the data anew with another type"
            raise Misuse(f"{where}: column {name!r} of the new rows does not fit {kind} ({reason}); {mend}") from None
        columns.append(values)
        fields.append(schema.field(name) if name in schema.names else pa.field(name, kind))
    return pa.table(columns, schema=pa.schema(fields, metadata=schema.metadata))
