"""Files are whole or absent: each is written beside its place and then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conveyor.core.errors import Misuse

MOST_FILES, MOST_BYTES = 10_000, 4 * 2**30


def check_received(folder: Path, apart: str) -> None:
    """Check that another job handed over nothing but files in folders, of an expected size.

    Args:
        folder: the files.
        apart: a folder in it that was made here.

    Raises:
        Misuse: there is a link or a device, or too many files or bytes.
    """
    count = size = 0
    for place, folders, files in os.walk(folder):
        if Path(place) == folder and apart in folders:
            folders.remove(apart)
        for name in (*folders, *files):
            path = Path(place, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise Misuse(f"{path.relative_to(folder.parent)}: neither a file nor a folder; nothing of it is used")
            count, size = count + 1, size + path.lstat().st_size
    if count > MOST_FILES or size > MOST_BYTES:
        found, most = (f"{n} files of {held // 2**20} MB" for n, held in ((count, size), (MOST_FILES, MOST_BYTES)))
        raise Misuse(f"{folder.name}: holds {found}, where {most} are the most; nothing of it is used")


def sha256(content: bytes) -> str:
    """Hex digest of ``content``."""
    return hashlib.sha256(content).hexdigest()


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``content`` in one rename.

    Args:
        mode: who may read it; mkstemp makes it private, and an artifact is not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        _name(error, path)
        raise


def _name(error: BaseException, path: Path) -> None:
    """The error of a full disk does not name the file that did not fit: add it."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` (UTF-8, line feeds) in one rename."""
    write_bytes(path, text.encode())


def to_json(value: Any) -> str:
    """JSON as it is stored: readable, in a stable order, without NaN or infinities (they are not JSON)."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as JSON in one rename."""
    write_text(path, to_json(value))


def read_json(path: Path, made_by: str, keys: Mapping[str, type] | None = None) -> dict[str, Any]:
    """The object stored at ``path``.

    Args:
        path: the file.
        made_by: the step that makes it.
        keys: the required keys, by dotted name, and the type of each.

    Raises:
        Misuse: the file is missing, is no JSON object, or lacks a key; the line names the step that makes it.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Misuse(f"{path}: missing; run `make {made_by}` first") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Misuse(f"{path}: not a JSON object; delete it and run `make {made_by}`")
    for key, kind in (keys or {}).items():
        found: Any = value
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if not isinstance(found, kind):
            raise Misuse(f"{path}: damaged, its `{key}` is no {kind.__name__}; delete it and run `make {made_by}`")
    return value


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A new directory that replaces ``path`` if the block ends without an error; otherwise it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".writing-"))
    try:
        temporary.chmod(0o755)
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    except OSError as error:
        _name(error, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
