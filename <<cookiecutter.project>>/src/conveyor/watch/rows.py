"""The files of data without some of their rows: not a byte of what stays in a CSV changes."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.adopt.sniff import packed
from conveyor.core import params
from conveyor.core.errors import Misuse
from conveyor.data import formats
from conveyor.data.hashing import row_hash
from conveyor.model.rows import changed_kind


def without(
    files: dict[str, bytes], where: str, frame: pd.DataFrame, gone: NDArray[np.bool_], data: params.Data
) -> dict[str, bytes | None]:
    """The files that change, by their path as in ``source.fetch``; None: a file of a folder that has no row left.

    Args:
        files: what is there.
        where: its name for messages.
        frame: the rows that ``files`` hold, in their order.
        gone: which of them go.
        data: columns that stay text, and columns of numbers.

    Raises:
        Misuse: no row would be left, or the files would be read otherwise without them.
    """
    if gone.all():
        raise Misuse(f"{where}: no other row would be left; delete the file, or bring other rows first")
    changed: dict[str, bytes | None] = {}
    first = 0
    for name, content in files.items():
        reads = _parquet if content.startswith(formats.PARQUET) else _csv
        left, count = reads(content, gone[first:])
        of_file = gone[first : first + count]
        if of_file.any():
            changed[name] = None if of_file.all() else left
        first += count
    whole = {name: content for name, content in {**files, **changed}.items() if content is not None}
    if first != len(frame) or not _reads_as(whole, where, frame[~gone], data):
        raise Misuse(f"{where}: its rows cannot be told apart; write the file anew as Parquet")
    return changed


def _parquet(content: bytes, gone: NDArray[np.bool_]) -> tuple[bytes, int]:
    """The file without its rows that go, and how many rows it has."""
    from pyarrow import array, parquet

    table = parquet.ParquetFile(io.BytesIO(content)).read(use_threads=False)
    count = len(table)
    return packed(table.filter(array(~gone[:count]))) if gone[:count].any() else content, count


def _csv(content: bytes, gone: NDArray[np.bool_]) -> tuple[bytes, int]:
    is_packed = content.startswith(formats.GZIP)
    header, *rows = _records(gzip.decompress(content) if is_packed else content)
    left = b"".join([header, *(row for row, goes in zip(rows, gone, strict=False) if not goes)])
    return gzip.compress(left, mtime=0) if is_packed else left, len(rows)


def _records(content: bytes) -> list[bytes]:
    """The header and the rows with their line ends. A quoted cell may hold line breaks; a blank line is no row."""
    records: list[bytes] = []
    is_open = False
    for line in content.splitlines(keepends=True):
        if records and (is_open or not line.strip(b"\r\n")):
            records[-1] += line
        else:
            records.append(line)
        is_open ^= line.count(b'"') % 2 == 1
    return records


def _reads_as(files: dict[str, bytes], where: str, left: pd.DataFrame, data: params.Data) -> bool:
    """Whether every step will read the rows that stay.

    Raises:
        Misuse: a column would be of another kind.
    """
    again = formats.read(files, where, data.text, data.numbers)
    if changed := changed_kind(left, again):
        name, before, now = changed
        mend = "name it in data.text or data.numbers of params.yaml first"
        raise Misuse(f"{where}: column {name!r} is {before}, and without these rows it would be {now}; {mend}")
    return len(again) == len(left) and bool((row_hash(again[list(left.columns)]) == row_hash(left)).all())
