"""Reading the data strictly, and checking its pin."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from conveyor.core import environment, params
from conveyor.core.errors import Misuse
from conveyor.core.files import sha256
from conveyor.core.project import Project, per_project

# What pull requests may name: fsspec knows many more, and some of them read the machine itself.
STORES = ("https", "http", "s3", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "oss")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class NoAccess(Misuse):
    """The data at a URL cannot be read: credentials may be missing."""


def fetch(path: str, root: Path) -> bytes:
    """The bytes at ``path``, relative to ``root``, or at an fsspec URL with the options of DATA_OPTIONS.

    Raises:
        NoAccess: a URL cannot be read.
        Misuse: the file is missing, or cannot be read.
    """
    try:
        if "://" not in path:
            return (root / path).read_bytes()
        import fsspec

        with fsspec.open(path, "rb", **environment.data_options()) as source:
            content: bytes = source.read()
            return content
    except FileNotFoundError:
        if "://" in path and not path.startswith("file://"):
            # Stores give the same answer for a missing object and for a forbidden one.
            mend = "check data.path in params.yaml and its credentials"
            raise NoAccess(f"{path}: cannot be read: it is not there, or not for whoever asks; {mend}") from None
        raise Misuse(f"{path}: no such file; put the data there or mend data.path in params.yaml") from None
    except Misuse:
        raise
    except Exception as error:
        # Each file system raises its own library's exceptions when access is denied.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        kind = NoAccess if "://" in path else Misuse
        raise kind(f"{path}: cannot be read: {reason}; check data.path in params.yaml and its credentials") from None


def read(data: params.Data, root: Path, check_pin: bool = True) -> pd.DataFrame:
    """The data as a frame with the columns of the file, in its order.

    Raises:
        Misuse: the file is not the pinned one, is not a well-formed CSV, or lacks a column of params.yaml. The line
            names the file, and the row or column if there is one.
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
    return table.to_pandas(date_as_object=False)  # a date becomes a time, too


def lock(project_root: Path, data: params.Data) -> str:
    """The digest to pin.

    Raises:
        Misuse: the file is not well-formed; junk is never pinned.
    """
    read(data, project_root, check_pin=False)
    return sha256(fetch(data.path, project_root))


def _of_pull_request(path: str, checkout: Path) -> None:
    """A pull request names its data itself, and its judge has a token: nothing else of the judge's machine is read.

    Raises:
        Misuse: the data are neither in the checkout nor in a store.
    """
    scheme, is_url, _ = path.partition("://")
    inside = not is_url and (checkout / path).resolve().is_relative_to(checkout.resolve())
    if not inside and (scheme not in STORES or "::" in path):
        mend = f"name a file of the repository, or a URL of {', '.join(STORES)}"
        raise Misuse(f"{path}: a pull request's data.path leads out of its repository; {mend}")


@per_project
def frame_of(project: Project) -> pd.DataFrame:
    """The pinned data of a repository; see ``read``. Do not change the frame: it is shared.

    Raises:
        Misuse: as ``read``; also if a column of the guards, or a private one, is missing, or if a pull request's data
            are no part of it and in no store.
    """
    if project.pull is not None:
        _of_pull_request(project.params.data.path, project.pull)
    frame = read(project.params.data, project.data_root)
    named = {"gate.guards.segments": project.params.gate.guards.segments, "data.private": project.params.data.private}
    for key, columns in named.items():
        for column in columns:
            if column not in frame.columns:
                raise Misuse(
                    f"params.yaml: {key}: no column {column!r} in {project.params.data.path}; it has"
                    f" {', '.join(frame.columns)}"
                )
    return frame
