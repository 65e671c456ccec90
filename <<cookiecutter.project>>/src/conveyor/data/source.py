"""Reading the data strictly, and checking its pin."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from conveyor.core import environment, params
from conveyor.core.errors import Misuse
from conveyor.core.files import sha256
from conveyor.core.frozen import shown
from conveyor.core.project import Project, per_project, whole
from conveyor.data import formats
from conveyor.data.hints import hint

# What pull requests may name: fsspec knows many more, and some of them read the machine itself.
STORES = ("https", "http", "s3", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "oss")
QUESTION = ("data.target", "data.time", "data.key", "data.group")


class NoAccess(Misuse):
    """The data at a URL cannot be read: credentials may be missing."""


class NoColumn(Misuse):
    """The data lack a column that makes the question: target, time, key or group."""


def fetch(path: str, root: Path, key: str = "data.path in params.yaml") -> dict[str, bytes]:
    """The content of a file under the name "", or of the Parquet files of a folder by their path in it, in order.

    Args:
        path: relative to ``root``, or an fsspec URL for the options of DATA_OPTIONS. That of a folder ends with "/".
        key: what names it, for messages.

    Raises:
        NoAccess: a URL cannot be read.
        Misuse: nothing is there, or it cannot be read.
    """
    is_url = "://" in path
    where = path.partition("?")[0] if is_url else path  # what follows may be a secret
    try:
        if not is_url:
            place = root / path
            if not place.is_dir():
                return {"": place.read_bytes()}
            found = [
                file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_symlink() or file.is_file()
            ]
            wanted = _wanted(found, path)
            if not wanted:
                mend = f"put the data there or mend {key}"
                raise Misuse(f"{where}: holds no file that ends in .parquet; {mend}")
            for name in wanted:
                if (place / name).is_dir():
                    raise Misuse(f"{where}: {name} is a link to a folder; put the files themselves there")
            return {name: (place / name).read_bytes() for name in wanted}
        import fsspec

        if not path.endswith("/"):
            with fsspec.open(path, "rb", **environment.data_options()) as source:
                return {"": source.read()}
        store, folder = fsspec.core.url_to_fs(path, **environment.data_options())
        wanted = _wanted([str(name).removeprefix(folder).lstrip("/") for name in store.find(folder)], path)
        if not wanted:  # a store that does not answer has an empty list, too
            mend = f"check {key} and its credentials"
            raise NoAccess(f"{where}: holds no file that ends in .parquet, or none for whoever asks; {mend}")
        return {name: store.cat_file(f"{folder.rstrip('/')}/{name}") for name in wanted}
    except FileNotFoundError as error:
        if is_url and not path.startswith("file://"):
            # Stores give the same answer for a missing object and for a forbidden one. A server of files may say more.
            first: BaseException = error
            while first.__cause__:
                first = first.__cause__
            said = "" if first is error else " ".join(str(first).split()).partition(", url=")[0][:200]
            why = said.replace(path, where) or "it is not there, or not for whoever asks"
            raise NoAccess(f"{where}: cannot be read: {why}; check {key} and its credentials") from None
        raise Misuse(f"{where}: no such file; put the data there or mend {key}") from None
    except Misuse:
        raise
    except Exception as error:
        # Each file system raises its own library's exceptions when access is denied.
        reason = str(error).splitlines()[0].replace(path, where)[:200] if str(error) else type(error).__name__
        kind = NoAccess if is_url else Misuse
        raise kind(f"{where}: cannot be read: {reason}; check {key} and its credentials") from None


def _wanted(names: list[str], path: str) -> list[str]:
    """The files of rows among those of a folder, in order. None is left out silently.

    Writers of Parquet put notes beside the rows, as _SUCCESS, _temporary/ or .part-0.parquet.crc.

    Raises:
        Misuse: a file is neither Parquet nor such a note.
    """
    seen = [
        name
        for name in sorted(names)
        if not any(part.startswith(".") or (part[:1] == "_" and "=" not in part) for part in PurePosixPath(name).parts)
    ]
    for name in seen:
        if not name.endswith(".parquet") and (len(seen) > 1 or "." in PurePosixPath(name).name):
            mend = "name it so, or move it out of the folder"
            raise Misuse(f"{path}: holds {shown(name)}, which does not end in .parquet; {mend}")
    return [name for name in seen if name.endswith(".parquet")]


def pin(files: dict[str, bytes]) -> str:
    """The sha256 of a file; of a folder that of the list of its files, as `sha256sum` writes it."""
    if "" in files:
        return sha256(files[""])
    return sha256("".join(f"{sha256(content)}  {name}\n" for name, content in files.items()).encode())


def read(data: params.Data, root: Path) -> pd.DataFrame:
    """The pinned data as a frame with the columns of the file, in its order.

    Raises:
        Misuse: files are half replaced; the file is not the pinned one, cannot be used (see ``formats.read``), or lacks
            a column of params.yaml. The line names the file, and the row or column if there is one.
    """
    whole(root)
    files = fetch(data.path, root)
    found = pin(files)
    if found != data.sha256:
        # An empty or damaged file tells more by itself.
        formats.check(files, data.path)
        raise Misuse(
            f"{data.path}: its sha256 {found[:12]}… differs from the pin {data.sha256[:12]}… in params.yaml;"
            " restore the file, or run `make data-lock` if the change is meant"
        )
    return _frame(data, files)


def _frame(data: params.Data, files: dict[str, bytes]) -> pd.DataFrame:
    where, frame = data.path, formats.read(files, data.path, data.text, data.numbers)
    named = {"data.target": [data.target], "data.time": [data.time] if data.time else []}
    named |= {"data.key": list(data.key), "data.ignore": list(data.ignore)}
    named |= {"data.group": [data.group] if data.group else []}
    named |= {"data.text": list(data.text), "data.numbers": list(data.numbers)}
    for key, columns in named.items():
        for column in columns:
            if column not in frame.columns:
                kind = NoColumn if key in QUESTION else Misuse
                raise kind(f"params.yaml: {key}: no column {column!r} in {where}; it has {', '.join(frame.columns)}")
    if data.time and not isinstance(frame[data.time].dtype, pd.DatetimeTZDtype | np.dtypes.DateTime64DType):
        how = hint(frame[data.time]) or "write it as 2013-06-30T12:00:00Z in every row"
        raise Misuse(f"{where}: column {data.time!r} is no time; {how}")
    if data.group and frame[data.group].isna().any():
        row = int(frame[data.group].isna().to_numpy().argmax())
        raise Misuse(f"{where}: column {data.group!r} has no value in row {row + 1}, and data.group needs one; fill it")
    if data.time and frame[data.time].isna().any():
        row = int(frame[data.time].isna().to_numpy().argmax())
        raise Misuse(f"{where}: column {data.time!r} has no value in row {row + 1}; fill it or drop the row")
    return frame


def lock(project_root: Path, data: params.Data) -> str:
    """The digest to pin.

    Raises:
        Misuse: the data cannot be used; junk is never pinned.
    """
    files = fetch(data.path, project_root)
    _frame(data, files)
    return pin(files)


def _of_pull_request(path: str, checkout: Path) -> None:
    """A pull request names its data itself, and its judge has a token: nothing else of the judge's machine is read.

    Raises:
        Misuse: the data are neither in the checkout nor in a store.
    """
    scheme, is_url, _ = path.partition("://")
    inside, place = False, checkout / path
    with suppress(OSError, RuntimeError, ValueError):  # a link that leads to itself, or a name that cannot be one
        files = [place, *place.rglob("*")] if not is_url and place.is_dir() else [place]
        inside = not is_url and all(file.resolve().is_relative_to(checkout.resolve()) for file in files)
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
