"""A verdict with everything that it follows from, so that anyone can derive it again from one file.

It holds labels, predictions, units, rule and the verdict itself; of the features only the guarded segments.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from conveyor.core import params
from conveyor.core.frozen import Frozen
from conveyor.core.tasks import Task
from conveyor.gate.decide import decide
from conveyor.gate.decision import Decision
from conveyor.gate.looks import Look

MOST_NUMBERS = 10**9  # of one array
SHA256 = "^[0-9a-f]{64}$"


class Damaged(Exception):
    """A part of a receipt is not what it says; the text says which."""


class Array(Frozen):
    """Numbers as exact text: base64 of the zlib-compressed bytes, little-endian, row by row."""

    type: Literal["<f8", "<i8"]
    shape: tuple[int, ...]
    data: str

    @classmethod
    def of(cls, values: NDArray[Any]) -> Array:
        kind: Literal["<f8", "<i8"] = "<f8" if values.dtype.kind == "f" else "<i8"
        packed = zlib.compress(np.ascontiguousarray(values, dtype=kind).tobytes())
        return cls(type=kind, shape=values.shape, data=base64.b64encode(packed).decode())

    def values(self) -> NDArray[Any]:
        """The numbers.

        Raises:
            Damaged: the text holds no such array.
        """
        size, unpacker = 8, zlib.decompressobj()
        for length in self.shape:
            size *= length
        if len(self.shape) not in (1, 2) or not all(0 <= length <= MOST_NUMBERS for length in (*self.shape, size // 8)):
            raise Damaged(f"has an array of the shape {self.shape}")
        try:
            packed = base64.b64decode(self.data, validate=True)
            held = unpacker.decompress(packed, size + 1)
        except (binascii.Error, zlib.error, ValueError):
            raise Damaged("has an array that is no base64 of compressed numbers") from None
        if len(held) != size or not unpacker.eof or unpacker.unused_data:
            raise Damaged("has an array with more or fewer numbers than its shape says")
        return np.frombuffer(held, dtype=self.type).reshape(self.shape)


class Segment(Frozen):
    """A guarded column: its different values, and the number of each row's value (n,)."""

    column: str
    values: tuple[str, ...]
    codes: Array


class Receipt(Frozen):
    """Everything that ``decide`` reads, and what it decided.

    Attributes:
        version: of the machinery.
        key, digest: of the challenger's bundle.
        champion_digest: of the champion's, if there is one.
        holdout: the digest of the judged rows.
        task, unit, rule, champion_error, labels, champion, challenger, groups, segments, look, anchor: see ``decide``.
        decision: with the metrics that the rule names.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    version: str
    key: str
    digest: str
    champion_digest: str | None
    holdout: str
    task: Task
    unit: str
    rule: params.Gate
    champion_error: str | None
    labels: Array
    champion: Array | None
    challenger: Array
    groups: Array | None
    segments: tuple[Segment, ...] | None
    look: Look | None
    anchor: Array | None
    decision: Decision

    def given(self) -> dict[str, Any]:
        """The arguments of ``decide``.

        Raises:
            Damaged: a part is not what it says.
        """
        return {
            "y": self.labels.values(),
            "champion": None if self.champion is None else self.champion.values(),
            "challenger": self.challenger.values(),
            "rule": self.rule,
            "champion_error": self.champion_error,
            "task": self.task,
            "groups": None if self.groups is None else self.groups.values(),
            "segments": None if self.segments is None else _frame(self.segments),
            "every_metric": False,
            "unit": self.unit,
            "look": self.look,
            "anchor": None if self.anchor is None else self.anchor.values(),
        }

    def again(self) -> Decision:
        """The verdict, derived again.

        Raises:
            Damaged: a part is not what it says.
        """
        return decide(**self.given())


def receipt(given: dict[str, Any], decision: Decision, **about: Any) -> Receipt:
    """The receipt of a decision.

    Args:
        given: the arguments of ``decide``.
        decision: what it made of them.
        about: version, digests and holdout.
    """
    rule, segments = given["rule"], given["segments"]
    named = [metric for metric in decision.metrics if metric.name in (rule.metric, *rule.floors)]
    champion, groups, anchor = given["champion"], given["groups"], given.get("anchor")
    return Receipt(
        **about,
        task=given["task"],
        unit=given["unit"],
        rule=rule,
        champion_error=given["champion_error"],
        labels=Array.of(given["y"]),
        champion=None if champion is None else Array.of(champion),
        challenger=Array.of(given["challenger"]),
        groups=None if groups is None else Array.of(groups),
        segments=None if segments is None else tuple(_segment(name, segments[name]) for name in segments),
        look=given.get("look"),
        anchor=None if anchor is None else Array.of(anchor),
        decision=decision.model_copy(update={"metrics": tuple(named)}),
    )


def _segment(name: str, column: pd.Series[Any]) -> Segment:
    values, codes = np.unique(column.to_numpy(dtype=object), return_inverse=True)
    return Segment(column=name, values=tuple(values.tolist()), codes=Array.of(codes))


def _frame(segments: tuple[Segment, ...]) -> pd.DataFrame:
    columns = {}
    for segment in segments:
        codes, values = segment.codes.values(), np.array(segment.values, dtype=object)
        if codes.ndim != 1 or codes.dtype.kind != "i" or not ((codes >= 0) & (codes < len(values))).all():
            raise Damaged(f"has a segment {segment.column!r:.60} with values that it does not name")
        columns[segment.column] = values[codes]
    if len({len(column) for column in columns.values()}) > 1:
        raise Damaged("has segments of more or fewer rows than others")
    return pd.DataFrame(columns)
