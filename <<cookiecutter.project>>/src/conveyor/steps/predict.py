"""Predictions for the rows of a file, by the champion in the form in which it is served."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from conveyor.core.errors import Misuse
from conveyor.data import formats
from conveyor.ledger.ledger import ledger_of
from conveyor.model import runtime
from conveyor.model.signature import BadRows, Signature, columns_of

if TYPE_CHECKING:
    import pyarrow as pa

    from conveyor.core.project import Project

CHUNK = 10_000  # rows in memory at a time
SAID = 2.0  # seconds between two lines of progress
ENDINGS = (".csv", ".csv.gz", ".parquet")


def run(project: Project, source: Path, target: Path, say: Callable[[str], None] = print) -> str:
    """Write the rows of ``source`` with a column of predictions to ``target``, whole or not at all.

    A multiclass model gives a column for each class, ``prediction_<class>``. Other columns stay as they are.

    Raises:
        Misuse: there is no champion, a file cannot be read or written, or a row does not fit the model.
    """
    champion = ledger_of(project).champion()
    if champion is None:
        raise Misuse("ledger: there is no champion yet; run `make pipeline` first")
    if source == Path(".") or target == Path("."):  # make passes an empty value on
        raise Misuse("predict: no file; name both: make predict IN=rows.csv OUT=predictions.csv")
    if source.resolve() == target.resolve():
        raise Misuse(f"{target}: would be written over the rows that are read; name another OUT")
    for path in (source, target):
        if not path.name.endswith(ENDINGS):
            raise Misuse(f"{path}: ends in none of {', '.join(ENDINGS)}; rename it")
    bundle = ledger_of(project).bundle(champion)
    model = project.params.model
    form, answer = runtime.load(bundle, model.trusted_types, model.tolerance)
    runtime.golden(bundle, answer, model.tolerance)
    signature = Signature(columns_of(bundle), CHUNK)
    asked = bundle.asked
    classes = asked["classes"] if asked["task"] == "multiclass" else None
    names = [f"prediction_{name}" for name in classes] if classes else ["prediction"]

    def as_trained(chunk: pa.Table) -> pa.Table:
        """The columns of the model, read as training reads them; those of a CSV are parsed by their kind."""
        chunk, data = chunk.select(list(signature.columns)), project.params.data
        for place, name in enumerate(chunk.schema.names if source.name.endswith(".parquet") else ()):
            typed = formats.typed(chunk.column(place), str(source), name, name in data.text, name in data.numbers)
            chunk = chunk.set_column(place, name, typed)
        return chunk

    began = told = time.monotonic()
    done = 0
    with writing(target) as write:
        for chunk in read(source):
            if not done:
                _has_columns(source, chunk.schema.names, signature, names)
            predicted = _answers(source, as_trained(chunk), signature, answer, done)
            for name, values in zip(names, predicted.reshape(len(chunk), -1).T, strict=True):
                chunk = chunk.append_column(name, [values])
            write(chunk)
            done += len(chunk)
            if time.monotonic() - told > SAID:
                told = time.monotonic()
                say(f"predict   {done} rows")
        if not done:
            raise Misuse(f"{source}: has no rows; nothing was predicted")
    return f"{done} rows by champion {champion.key[:12]} ({form}): {target} ({time.monotonic() - began:.1f} s)"


def _has_columns(source: Path, found: list[str], signature: Signature, names: list[str]) -> None:
    for name in signature.columns:
        if name not in found:
            close = get_close_matches(name, found, n=1)
            mend = f"is {close[0]!r} meant?" if close else f"it has {', '.join(found)}"
            raise Misuse(f"{source}: column {name!r} is missing, and the model was trained with it; {mend}")
    for name in names:
        if name in found:
            raise Misuse(f"{source}: has a column {name!r} already; rename it")


def _answers(
    source: Path, chunk: pa.Table, signature: Signature, answer: runtime.Answer, before: int
) -> NDArray[np.float64]:
    columns = {name: _values(chunk.column(name), column.kind) for name, column in signature.columns.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    try:
        # In the form of a request: the service's refusals apply here, with the same messages.
        _, asked = signature.read(to_json({"rows": rows}, inf_nan_mode="constants"))
    except BadRows as bad:
        text = str(bad).partition(": ")[2] if bad.row else str(bad)
        raise Misuse(f"{source}: row {before + (bad.row or 1)}: {text}; mend that row") from None
    try:
        predicted = answer(asked)
    except Exception as error:
        # The model's libraries may raise any exception for unfit values.
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise Misuse(f"{source}: rows {before + 1} to {before + len(rows)} cannot be answered: {told}") from error
    lacking = ~np.isfinite(predicted.reshape(len(rows), -1)).all(axis=1)
    if lacking.any():
        raise Misuse(f"{source}: row {before + int(lacking.argmax()) + 1}: the model gives no answer; mend that row")
    return predicted


def _values(column: pa.ChunkedArray, kind: str) -> list[Any]:
    """The values of a column for JSON; texts of a number or truth column are parsed. Junk stays as it is."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return [None if value is None else value.isoformat() for value in column.to_pylist()]
    values: list[Any] = column.to_pylist()
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if text and kind == "number":
        try:
            numbers: list[Any] = column.cast(pa.float64()).to_pylist()
            return numbers
        except pa.ArrowInvalid:
            return [_number(value) for value in values]
    if text and kind == "truth":
        return [{"true": True, "false": False}.get(value.lower(), value) if value else None for value in values]
    return values


def _number(text: str | None) -> Any:
    import pyarrow as pa

    try:
        return None if text is None else pa.scalar(text).cast(pa.float64()).as_py()
    except pa.ArrowInvalid:
        return text


def read(source: Path) -> Iterator[pa.Table]:
    """The rows of a file in order, some at a time; all columns of a CSV as text.

    Raises:
        Misuse: it is missing, damaged, or a row is ragged.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if source.name.endswith(".parquet"):
            with parquet.ParquetFile(source) as file:
                for batch in file.iter_batches(CHUNK):
                    yield pa.Table.from_batches([batch])
            return
        names = _header(source)
        with pa.input_stream(str(source), compression="detect") as stream:
            batches = csv.open_csv(
                stream,
                read_options=csv.ReadOptions(use_threads=False, block_size=1_000_000),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
                ),
            )
            for batch in batches:
                for start in range(0, len(batch), CHUNK):
                    yield pa.Table.from_batches([batch.slice(start, CHUNK)])
    except FileNotFoundError:
        raise Misuse(f"{source}: no such file; name the rows as IN=rows.csv") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        # Arrow's errors are ValueErrors or OSErrors, as those of a damaged gzip are.
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ") if str(error) else type(error).__name__
        raise Misuse(f"{source}: cannot be read: {reason}; mend that") from None


def _header(source: Path) -> list[str]:
    import pyarrow as pa
    from pyarrow import csv

    across = csv.ParseOptions(newlines_in_values=True)
    with (
        pa.input_stream(str(source), compression="detect") as stream,
        csv.open_csv(stream, parse_options=across) as reader,
    ):
        names: list[str] = reader.schema.names
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"column {name!r} stands twice")
    return names


@contextmanager
def writing(target: Path) -> Iterator[Callable[[pa.Table], None]]:
    """A function that writes rows to a new file, which replaces ``target`` if the block ends without an error."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".writing-")
    os.close(handle)
    writer: Any = None
    packed = "gzip" if target.name.endswith(".gz") else None
    try:
        with pa.output_stream(temporary, compression=packed) as stream:

            def write(rows: pa.Table) -> None:
                nonlocal writer
                if writer is None:
                    kind = parquet.ParquetWriter if target.name.endswith(".parquet") else csv.CSVWriter
                    writer = kind(stream, rows.schema)
                writer.write_table(rows)

            yield write
            if writer is not None:
                writer.close()
        os.chmod(temporary, 0o644)  # mkstemp makes it private; a file of predictions is not
        os.replace(temporary, target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)
        raise
