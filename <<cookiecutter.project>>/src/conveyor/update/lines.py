"""A three-way merge of settings: changes of neighbouring lines are no conflict.

git calls it a conflict when one side adds a line directly above a line that the other side changes.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import pairwise

Change = tuple[int, int, tuple[str, ...]]  # the lines of the base from, to (exclusive), and what stands there instead


def merged(base: str, ours: str, theirs: str) -> str | None:
    """Both sides' changes of ``base``.

    None if two of them overlap, if they add different lines at one place, or if one adds a line where the other deletes
    its neighbour: what the line belonged to may be gone. The last line ends like the others: one without an end would
    become one line with the next.
    """
    lines = _lines(base)
    changes = sorted(set(_changes(lines, ours)) | set(_changes(lines, theirs)), key=lambda change: change[:2])
    for (start, end, instead), (next_start, next_end, next_instead) in pairwise(changes):
        beside_nothing = next_start == end and not (instead and next_instead)
        if next_start < end or (start, end) == (next_start, next_end) or beside_nothing:
            return None
    for start, end, instead in reversed(changes):
        lines[start:end] = instead
    return "".join(lines)


def _lines(text: str) -> list[str]:
    return (text if text.endswith("\n") or not text else f"{text}\n").splitlines(keepends=True)


def _changes(base: list[str], side: str) -> list[Change]:
    lines = _lines(side)
    found = SequenceMatcher(None, base, lines, autojunk=False).get_opcodes()
    return [(start, end, tuple(lines[low:high])) for what, start, end, low, high in found if what != "equal"]
