"""Explain why a column is text, or a time, where numbers were expected."""

from __future__ import annotations

import re

import pandas as pd

from conveyor.core.frozen import shown

MOST = 0.8  # of the distinct values must look alike before the others count as mistakes
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
COMMA = re.compile(r"\s*[-+]?(\d+|\d{1,3}([. ']\d{3})+),\d+\s*")
GROUPED = re.compile(r"\s*[-+]?\d{1,3}(,\d{3})+(\.\d+)?\s*")
DATE = re.compile(r"\s*\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T]\d{1,2}:\d{2}.*)?\s*")
GAPS = re.compile(
    r"\s*(n\.?/?a\.?|#n/?a|<na>|nan|nat|null|none|nil|missing|unknown|undefined|\?+|-+|\.+|)\s*", re.IGNORECASE
)


def hint(values: pd.Series) -> str:
    """How to write the values of a column so that they are numbers, or times; empty if they are no such thing."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return "it is a time: make numbers of it, such as its hour, or list it in data.ignore of params.yaml"
    if pd.api.types.is_numeric_dtype(values):
        return ""
    texts = [str(text) for text in values.dropna().unique()]
    gaps = [text for text in texts if GAPS.fullmatch(text)]
    others = [text for text in texts if not GAPS.fullmatch(text)]

    def told(text: str) -> str:
        return f"{shown(text)} in row {int((values.astype(str) == text).to_numpy().argmax()) + 1}"

    def like(*patterns: re.Pattern[str]) -> bool:
        """Whether most look like one of these."""
        found = sum(any(pattern.fullmatch(text) for pattern in patterns) for text in others)
        return bool(others) and found >= MOST * len(others)

    grouped = [text for text in others if GROUPED.fullmatch(text)]
    commas = [text for text in others if COMMA.fullmatch(text) and not GROUPED.fullmatch(text)]
    if commas and like(COMMA, NUMBER):
        return f"{told(commas[0])} has a decimal comma: write it with a point, as 1.5"
    if grouped and like(GROUPED, NUMBER):
        return f"{told(grouped[0])} has a mark of thousands: write it without, as 1234.5"
    if like(DATE):
        odd = next((text for text in texts if not DATE.fullmatch(text)), None)
        if odd is not None:
            return f"{told(odd)} is no date: mend it"
        return f"{told(others[0])} is a date: write it as 2013-06-30 or 2013-06-30T12:00:00Z in every row"
    odd = next((text for text in others if not NUMBER.fullmatch(text)), None)
    if like(NUMBER) and odd is not None:
        return f"{told(odd)} is no number: mend it, or leave the cell empty"
    if like(NUMBER) and gaps:
        return f"{told(gaps[0])} stands for a missing value: leave such cells empty"
    return ""
