"""A three-way merge of text whose lines stand alone, as settings do: what touches is no clash, only what overlaps.

git calls it a clash when one side adds a line directly above a line that the other side changes.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import pairwise

Change = tuple[int, int, tuple[str, ...]]  # the lines of the base from, to (exclusive), and what stands there instead


def merged(base: str, ours: str, theirs: str) -> str | None:
    """Both sides' changes of ``base``; None if two of them overlap, or add different lines at one place."""
    lines = base.splitlines(keepends=True)
    changes = sorted(set(_changes(lines, ours)) | set(_changes(lines, theirs)), key=lambda change: change[:2])
    for (start, end, _), (next_start, next_end, _) in pairwise(changes):
        if next_start < end or (start, end) == (next_start, next_end):
            return None
    for start, end, instead in reversed(changes):
        lines[start:end] = instead
    return "".join(lines)


def _changes(base: list[str], side: str) -> list[Change]:
    lines = side.splitlines(keepends=True)
    found = SequenceMatcher(None, base, lines, autojunk=False).get_opcodes()
    return [(start, end, tuple(lines[low:high])) for what, start, end, low, high in found if what != "equal"]
