"""Reading the data strictly, checking its pin, and splitting it so that a row never changes side unnoticed."""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from . import config
from .bundle import Bundle
from .config import Frozen
from .errors import Misuse, Refused
from .files import read_json, sha256

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
BUCKETS = 10_000


class NoAccess(Misuse):
    """What a URL names cannot be read from here: it may be that credentials are missing."""


def fetch(path: str, root: Path) -> bytes:
    """The bytes at ``path``: relative to ``root``, or an fsspec URL, which DATA_OPTIONS may give its options.

    Raises:
        NoAccess: a URL cannot be read.
        Misuse: there is no such file, or it cannot be read.
    """
    try:
        if "://" not in path:
            return (root / path).read_bytes()
        import fsspec

        with fsspec.open(path, "rb", **config.data_options()) as source:
            return source.read()
    except FileNotFoundError:
        if "://" in path and not path.startswith("file://"):
            # Stores say the same of what is not there and of what one may not see.
            mend = "check data.path in params.yaml and its credentials"
            raise NoAccess(f"{path}: cannot be read: it is not there, or not for whoever asks; {mend}") from None
        raise Misuse(f"{path}: no such file; put the data there or mend data.path in params.yaml") from None
    except Misuse:
        raise
    except Exception as error:
        # What a file system raises that nobody lets in is its library's own.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        kind = NoAccess if "://" in path else Misuse
        raise kind(f"{path}: cannot be read: {reason}; check data.path in params.yaml and its credentials") from None


def read(data: config.Data, root: Path, check_pin: bool = True) -> pd.DataFrame:
    """The data as a frame with the columns of the file, in its order.

    Raises:
        Misuse: the file is not the pinned one, not a well-formed CSV, or lacks a column that params.yaml names. The
            line names the file, and the row or column where there is one.
    """
    where = data.path
    content = fetch(where, root)
    if not content:
        raise Misuse(f"{where}: empty; fetch the file again")
    if content.startswith(LFS_POINTER):
        raise Misuse(f"{where}: a Git LFS pointer, not the data; run `git lfs pull`")
    if check_pin and sha256(content) != data.sha256:
        raise Misuse(
            f"{where}: its sha256 {sha256(content)[:12]}… differs from the pin {data.sha256[:12]}… in params.yaml;"
            " restore the file, or run `make data-lock` if the change is meant"
        )
    frame = parse(content, where)
    named = {"data.target": [data.target], "data.time": [data.time] if data.time else []}
    named |= {"data.key": list(data.key), "data.ignore": list(data.ignore)}
    named |= {"data.group": [data.group] if data.group else []}
    for key, columns in named.items():
        for column in columns:
            if column not in frame.columns:
                raise Misuse(f"params.yaml: {key}: no column {column!r} in {where}; it has {', '.join(frame.columns)}")
    if data.time and not isinstance(frame[data.time].dtype, pd.DatetimeTZDtype | np.dtypes.DateTime64DType):
        raise Misuse(f"{where}: column {data.time!r} is no time; write it as 2013-06-30T12:00:00Z in every row")
    if data.group and frame[data.group].isna().any():
        row = int(frame[data.group].isna().to_numpy().argmax())
        raise Misuse(f"{where}: column {data.group!r} has no value in row {row + 1}, and data.group needs one; fill it")
    if data.time and frame[data.time].isna().any():
        row = int(frame[data.time].isna().to_numpy().argmax())
        raise Misuse(f"{where}: column {data.time!r} has no value in row {row + 1}; fill it or drop the row")
    return frame


def parse(content: bytes, where: str) -> pd.DataFrame:
    """CSV bytes, plain or gzip-compressed, as a frame.

    A ragged row is an error; types are inferred from all rows, blank lines are left out.

    Raises:
        Misuse: see ``read``.
    """
    import pyarrow as pa
    from pyarrow import csv

    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error):
            raise Misuse(f"{where}: truncated or damaged gzip; fetch the file again") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Misuse(f"{where}: UTF-16 text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misuse(f"{where}: no UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None
    if "\0" in text:
        raise Misuse(f"{where}: binary, not text; save it as CSV in UTF-8")
    header, _, rest = text.partition("\n")
    if not rest.strip():
        raise Misuse(f"{where}: has a header and no rows; fetch the file again")
    try:
        # One block, so that a column's type is inferred from all of its rows and errors name the row.
        table = csv.read_csv(
            io.BytesIO(text.encode()),
            read_options=csv.ReadOptions(use_threads=False, block_size=max(len(content), 1) + 1),
            convert_options=csv.ConvertOptions(null_values=[""], strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")
        raise Misuse(f"{where}: {reason}; mend that row") from None
    if len(table.column_names) == 1 and any(mark in header for mark in ";\t|"):
        raise Misuse(f"{where}: one column named {header.strip()[:40]!r}…; separate the columns by commas")
    for column in table.column_names:
        if table.column_names.count(column) > 1:
            raise Misuse(f"{where}: column {column!r} stands twice; rename or drop one")
    return table.to_pandas(date_as_object=False)  # a day is a time, too


def features(frame: pd.DataFrame, data: config.Data) -> pd.DataFrame:
    """What a model may see: every column but target, time and those to ignore."""
    hidden = {data.target, data.time, *data.ignore}
    return frame[[column for column in frame.columns if column not in hidden]]


def classes(frame: pd.DataFrame, data: config.Data) -> list[Any]:
    """The values of the target, sorted: of two the larger is the positive one. Empty for a regression.

    Raises:
        Refused: the target is null somewhere, or its values are not what the task needs.
    """
    target, where = frame[data.target], f"{data.path}: column {data.target!r}"
    if data.task == "regression":
        numeric = pd.api.types.is_numeric_dtype(target) and not pd.api.types.is_bool_dtype(target)
        bad = int((~np.isfinite(target.to_numpy(dtype=np.float64, na_value=np.nan))).sum()) if numeric else len(target)
        if bad:
            raise Refused(f"{where} has {bad} values that are no finite number; a regression needs one in every row")
        return []
    values = sorted(target.dropna().unique().tolist())
    wrong = len(values) != 2 if data.task == "binary" else len(values) < 3
    if target.isna().any() or wrong:
        found = "nulls" if target.isna().any() else f"{len(values)} value" + "s" * (len(values) != 1)
        needs = "exactly two" if data.task == "binary" else "at least three (data.task is multiclass)"
        raise Refused(f"{where} has {found}; the target needs {needs}, in every row")
    return values


def labels(frame: pd.DataFrame, data: config.Data) -> NDArray[Any]:
    """The target (n,): the number of the class, zero and on in sorted order, or the number itself of a regression.

    Raises:
        Refused: see ``classes``.
    """
    values, target = classes(frame, data), frame[data.target]
    if data.task == "regression":
        return target.to_numpy(dtype=np.float64)
    return pd.Categorical(target, categories=values).codes.astype(np.int64)


def row_hash(frame: pd.DataFrame) -> NDArray[np.uint64]:
    """One number per row that depends on the row's values alone: not on its place, nor on the other rows.

    Nor on the type of the column, which is inferred from all of its rows: one text among numbers makes the others
    text, one gap makes whole numbers floats. So a value hashes as the number or the time that it reads as.
    """
    combined = np.zeros(len(frame), dtype=np.uint64)
    for name in frame.columns:
        # Wraps around, as a hash should.
        combined = combined * np.uint64(1_099_511_628_211) + _value_hash(frame[name])
    return combined


def _value_hash(values: pd.Series) -> NDArray[np.uint64]:
    if pd.api.types.is_datetime64_any_dtype(values):
        # Microseconds reach from year one to year 9999, which stands for "never" in many a file.
        hashed = pd.util.hash_array(_utc(values).dt.as_unit("us").astype("int64").to_numpy())
    elif pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        hashed = pd.util.hash_array(values.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0)
        if pd.api.types.is_integer_dtype(values):
            # Beyond 2**53 several whole numbers are the same float: these are hashed as they are.
            whole = values.to_numpy()
            large = (whole > 2**53) | (whole < -(2**53))
            hashed[large] = pd.util.hash_array(whole[large])
    else:
        hashed = _text_hash(values.astype(object).map(str, na_action="ignore"))
    hashed[values.isna().to_numpy()] = np.uint64(1)
    return hashed


def _text_hash(texts: pd.Series) -> NDArray[np.uint64]:
    hashed = pd.util.hash_array(texts.map(str).to_numpy(dtype=object), categorize=False)
    # Only what begins like a number or a truth value can be one: most texts need no second look.
    likely = texts.str.match(r"\s*[-+.0-9]|\s*(?:true|false|inf|nan)\s*$", case=False, na=False).to_numpy(dtype=bool)
    truth = texts.str.strip().str.lower().map({"true": 1.0, "false": 0.0})
    numbers = pd.to_numeric(texts.where(likely), errors="coerce").astype(np.float64).fillna(truth)
    found = numbers.notna().to_numpy()
    hashed[found] = pd.util.hash_array(numbers[found].to_numpy() + 0.0)
    for place in np.flatnonzero(found & (numbers.abs() > 2**53).to_numpy()):
        with suppress(ValueError, OverflowError):
            hashed[place] = pd.util.hash_array(np.array([int(texts.iloc[place])]))[0]
    rest = likely & ~found
    times = pd.to_datetime(texts[rest], errors="coerce", format="ISO8601", utc=True)
    known = times.notna().to_numpy()
    hashed[np.flatnonzero(rest)[known]] = _value_hash(times[known])
    return hashed


class SplitRule(Frozen):
    """Which rows a model was trained on, told from a row alone: it goes into the bundle and outlives the data.

    by "time": rows up to and including ``watermark`` were (or could have been) trained on.
    by "hash": rows whose group or key falls into the upper ``1 - holdout`` of the hash range.
    """

    by: Literal["time", "hash"]
    columns: config.Names
    holdout: float
    watermark: str | None

    @classmethod
    def of(cls, bundle: Bundle) -> SplitRule:
        """The rule by which a bundle's model was trained.

        Raises:
            Misuse: its split.json is missing or damaged.
        """
        path = bundle.path / "split.json"
        try:
            return cls.model_validate(read_json(path, made_by="train"))
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise Misuse(f"{path}: damaged (key {key}); delete it and run `make train`") from None

    def trained_on(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Mask (n,) of the rows on the training side.

        Raises:
            Misuse: the frame lacks a column of the rule.
        """
        for column in self.columns:
            if column not in frame.columns:
                raise Misuse(f"column {column!r} is missing; the split of a model needs it")
        if self.by == "time":
            return (_utc(frame[self.columns[0]]) <= pd.Timestamp(self.watermark)).to_numpy()
        bucket = row_hash(frame[list(self.columns)]) % np.uint64(BUCKETS)
        return bucket >= np.uint64(round(self.holdout * BUCKETS))


def _utc(times: pd.Series) -> pd.Series:
    return times.dt.tz_localize("UTC") if times.dt.tz is None else times.dt.tz_convert("UTC")


def split(frame: pd.DataFrame, data: config.Data, rule: config.Split) -> SplitRule:
    """The split of ``frame``: the newest rows if there is a time, else by a hash of the group or the key.

    Rows of one instant stay together, so the holdout may be a little smaller than asked for.

    Raises:
        Refused: one of the two sides would be empty.
    """
    if data.time:
        times = _utc(frame[data.time]).sort_values()
        first_held_out = times.iloc[min(int(len(times) * (1 - rule.holdout)), len(times) - 1)]
        earlier = times[times < first_held_out]
        if earlier.empty:
            raise Refused(f"{data.path}: {len(frame)} rows leave nothing to train on beside the holdout; add rows")
        watermark = earlier.iloc[-1].isoformat()
        made = SplitRule(by="time", columns=(data.time,), holdout=rule.holdout, watermark=watermark)
    else:
        # Rows that belong together stay together: a model that knows one of them half knows the others.
        columns = (data.group,) if data.group else data.key
        made = SplitRule(by="hash", columns=columns, holdout=rule.holdout, watermark=None)
    trained = made.trained_on(frame)
    if trained.all() or not trained.any():
        side = "the holdout" if trained.all() else "training"
        raise Refused(f"{data.path}: {len(frame)} rows leave none for {side}; add rows or change split.holdout")
    return made


def repeated_keys(frame: pd.DataFrame, data: config.Data) -> NDArray[np.int64]:
    """Positions of the rows whose key stands in a row before."""
    return np.flatnonzero(pd.Series(row_hash(frame[list(data.key)])).duplicated().to_numpy())


def shared_rows(frame: pd.DataFrame, trained: NDArray[np.bool_], data: config.Data) -> NDArray[np.int64]:
    """Positions of the holdout rows that equal a training row in all features and the target."""
    content = row_hash(features(frame, data).assign(**{data.target: frame[data.target]}))
    return np.flatnonzero(~trained & np.isin(content, content[trained]))


def lock(project_root: Path, data: config.Data) -> str:
    """The digest to pin, of data that can be read.

    Raises:
        Misuse: the file is not well-formed; junk is never pinned.
    """
    read(data, project_root, check_pin=False)
    return sha256(fetch(data.path, project_root))
