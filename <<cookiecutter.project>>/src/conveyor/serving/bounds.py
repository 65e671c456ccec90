"""Limits of the content of a body, checked before it is parsed.

A parser builds an object for each value, and an error for each unknown column: a body of 2 MB became 800 MB. This
module counts the characters outside of strings, at some 2 ns a byte.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

SMALL = 32_768  # bytes; parsing any body of this size takes some megabytes at most
SPARE = 2000  # objects, lists, values and columns beyond those of rows: a mistake still gets its own message
STRUCTURE = b'{}[]:,"'
_OTHERS = bytes(set(range(256)) - set(STRUCTURE))
_IS_STRUCTURE = np.isin(np.arange(256), list(STRUCTURE))


class Beyond(Exception):
    """A body holds more than rows of this model need.

    Attributes:
        row: the number of the row that does, the first is 1, or None.
        beginning: the body cut off early or at the beginning of that row, completed to valid JSON and small enough to
            be checked; None: it is no JSON.
    """

    def __init__(self, text: str, beginning: bytes | None, row: int | None = None) -> None:
        self.row, self.beginning = row, beginning
        super().__init__(text)


def check(body: bytes, columns: int, max_rows: int) -> None:
    """Accept a body that can hold only rows of so many columns.

    Raises:
        Beyond: the body holds more objects, lists, values or columns.
    """
    if len(body) <= SMALL:
        return
    text, some = plain(body), 4 * columns + SPARE
    found = skeleton(text)
    objects, lists, keys, commas = map(found.count, (b"{", b"[", b":", b","))
    if objects > max_rows + 1 + SPARE:
        told = f"`rows` should hold 1 to {max_rows} rows; the body holds {objects} objects"
        raise Beyond(told, _beginning(body, text, some))
    if lists > 1 + SPARE or commas > keys + max_rows + SPARE:
        values = "lists" if lists > 1 + SPARE else "values"
        told = f"the body holds too many {values}; a row is one object, {{column: value, ...}}"
        raise Beyond(told, _beginning(body, text, some))
    parts = found.split(b"}")  # the object that ends in each, and the text around it
    counts = list(map(bytes.count, parts, repeat(b":")))
    most = columns + SPARE
    if max(counts) > most:
        row = next(number for number, count in enumerate(counts) if count > most)
        before = sum(map(len, parts[:row])) + row
        told = f"holds {counts[row]} values; the model has {columns} columns"
        raise Beyond(told, _beginning(body, text, before + some), row + 1)


def plain(body: bytes) -> bytes:
    """A JSON text with other characters for each escaped quote and backslash; the length stays."""
    return body.replace(b"\\\\", b"xx").replace(b'\\"', b"xx") if b"\\" in body else body


def skeleton(text: bytes) -> bytes:
    """The braces, brackets, colons and commas of a plain text that stand outside of its strings."""
    found = text.translate(None, _OTHERS)
    # A string without these leaves two adjacent quotes. If no quote is left after their removal, no string holds any.
    bare = found.replace(b'""', b"")
    if b'"' not in bare:
        return bare
    given = np.frombuffer(found, np.uint8)
    return given[_outside(given)].tobytes()


def _outside(given: NDArray[np.uint8], inside: int = 0) -> NDArray[np.bool_]:
    """Which characters are outside of strings; a quote is not.

    Args:
        inside: 1 if the text begins in a string.
    """
    quotes = (given == ord('"')).view(np.uint8)
    strings: NDArray[Any] = np.bitwise_xor.accumulate(quotes) ^ inside
    outside: NDArray[np.bool_] = (strings | quotes) == 0
    return outside


def _beginning(body: bytes, text: bytes, length: int) -> bytes | None:
    """The text before the skeleton's character with this number, completed to a JSON body."""
    inside, end = 0, len(body)
    for start in range(0, len(body), SMALL):
        given = np.frombuffer(text, np.uint8, min(SMALL, len(body) - start), start)
        places = np.flatnonzero(_IS_STRUCTURE[given] & _outside(given, inside))
        if len(places) >= length:
            end = start + int(places[length - 1])
            break
        length -= len(places)
        inside ^= int(np.count_nonzero(given == ord('"'))) & 1
    try:
        return to_json(from_json(body[:end], allow_partial=True))
    except ValueError:
        return None
