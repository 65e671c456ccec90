"""Removes lines from files of a log, while replicas write there. It runs where the folder is, and needs only Python.

A replica opens its file again for each write. So a file is first renamed: the next write makes a new file, and the last
one has ended a moment later. Then the lines that stay are written beside it and take its place.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress

ENDING, MARK = ".jsonl", "-rewritten"  # no replica writes to a file with this mark
WORDS, PART = ".forget.json", ".forget-part"
WAIT = 2.0  # seconds in which a write ends that had begun


def remove(folder: str, names: list[str], rows: set[tuple[str, int]], wait: float = WAIT) -> int:
    """Remove the lines of these answers; returns how many. A kill leaves each file as it was or as it is to be.

    Args:
        names: files of the folder, in the order in which they change; one that is gone is left out.
        rows: id and row of each answer.
    """
    aside = [name for name in map(lambda name: _aside(folder, name), names) if name]
    time.sleep(wait)
    return sum(_rewrite(folder, name, rows) for name in aside)


def _aside(folder: str, name: str) -> str | None:
    """The name of a file that nobody writes to any more; None: it is gone."""
    stem, number, other = name[: -len(ENDING)], 1, name
    if MARK not in stem:
        while os.path.exists(os.path.join(folder, other)):
            other, number = f"{stem}{MARK}{number}{ENDING}", number + 1
    try:
        os.rename(os.path.join(folder, name), os.path.join(folder, other))
    except FileNotFoundError:  # it was deleted as the oldest one
        return None
    return other


def _rewrite(folder: str, name: str, rows: set[tuple[str, int]]) -> int:
    file, part = os.path.join(folder, name), os.path.join(folder, PART)
    with open(file, "rb") as before:
        content = before.read()
    left, count = without(content, rows)
    if not left:
        os.unlink(file)
        return count
    about = os.stat(file)
    with open(part, "wb") as out:
        os.chmod(part, about.st_mode & 0o7777)
        if hasattr(os, "chown"):
            with suppress(PermissionError):  # only root can give a file away
                os.chown(part, about.st_uid, about.st_gid)
        out.write(left)
        out.flush()
        os.fsync(out.fileno())
    os.replace(part, file)
    return count


def without(content: bytes, rows: set[tuple[str, int]]) -> tuple[bytes, int]:
    """The lines that are of none of these answers, and how many are not among them; what is no line stays."""
    lines = content.splitlines(keepends=True)
    left = [line for line in lines if row_of(line) not in rows]
    return b"".join(left), len(lines) - len(left)


def row_of(line: bytes) -> tuple[str, int] | None:
    """The id and the row of a line; None: it has none."""
    try:
        told = json.loads(line)
        return str(told["id"]), int(told["row"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def main(folder: str) -> None:
    """Remove what a file beside the log asks for, and print how many lines that were."""
    words = os.path.join(folder, WORDS)
    with open(words, encoding="utf-8") as file:
        asked = json.load(file)
    try:
        print(remove(folder, asked["names"], {(id, row) for id, row in asked["rows"]}))
    finally:
        os.unlink(words)


if __name__ == "__main__":
    main(sys.argv[1])
