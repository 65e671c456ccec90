"""Columns of numbers on disk: a Parquet file with a note that describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conveyor.core.errors import Misuse
from conveyor.core.files import write_bytes

Columns = dict[str, NDArray[Any]]


def write(path: Path, columns: Columns, about: dict[str, Any]) -> None:
    """Write columns, each of one number (n,) or of several (n x k) per row, in one rename."""
    import pyarrow as pa
    from pyarrow import parquet

    arrays = {
        name: pa.array(column)
        if column.ndim == 1
        else pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
        for name, column in columns.items()
    }
    packed = pa.BufferOutputStream()
    parquet.write_table(pa.table(arrays).replace_schema_metadata({b"about": json.dumps(about)}), packed)
    write_bytes(path, packed.getvalue().to_pybytes())


def read(path: Path, names: tuple[str, ...], made_by: str) -> tuple[Columns, dict[str, Any]]:
    """The named columns of a file that ``write`` made, and their note.

    Raises:
        Misuse: the file is missing or damaged; the line names the step that makes it.
    """
    from pyarrow import ArrowException, parquet

    if not path.is_file():
        raise Misuse(f"{path.name}: missing; run `make {made_by}` first")
    try:
        table = parquet.read_table(path)
        about = json.loads(table.schema.metadata[b"about"])
        if not isinstance(about, dict):
            raise ValueError
        return {name: _numbers(table.column(name)) for name in names}, about
    except (ArrowException, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Misuse(f"{path.name}: damaged ({type(error).__name__}); run `make {made_by}` again") from None


def _numbers(column: Any) -> NDArray[Any]:
    import pyarrow as pa

    found: NDArray[Any]
    whole = column.combine_chunks()
    if not pa.types.is_fixed_size_list(whole.type):
        found = whole.to_numpy(zero_copy_only=False)
    else:
        found = whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), whole.type.list_size)
    if not np.issubdtype(found.dtype, np.number):
        raise ValueError
    return found
