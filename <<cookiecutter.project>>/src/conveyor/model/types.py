"""Rows in the types that a model was trained on.

The type of a column is inferred from all rows of a file. New rows can change it: one text among numbers makes all of
them text. A model that gets another type than in training finds none of its categories, and is wrong without an error.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from conveyor.core.errors import Misuse
from conveyor.core.frozen import shown
from conveyor.model.bundle import Bundle
from conveyor.model.rows import kind_of, kind_of_values
from conveyor.model.signature import Column, columns_of

TRUTH = {"true": True, "false": False}


class Unlike(Exception):
    """A value has no equal in the type of training. Its argument is that value."""


def as_trained(rows: pd.DataFrame, bundle: Bundle, private: tuple[str, ...] = ()) -> pd.DataFrame:
    """The columns of the model that these rows have, each in the type that it had in training.

    Args:
        private: columns whose values are not told.

    Raises:
        Misuse: a value cannot be brought to that type; the line names column, types and value.
    """
    features, found = bundle.features, {}
    for column in columns_of(bundle):
        if column.name in rows:
            values = rows[column.name]
            try:
                found[column.name] = _in_type(values, column, features[column.name])
            except Unlike as unlike:
                [value] = unlike.args
                value = value.item() if isinstance(value, np.generic) else value
                example = "" if column.name in private else f", as {shown(value)}"
                raise Misuse(
                    f"column {column.name!r} was {column.kind} ({features[column.name]}) when model {bundle.key[:12]}"
                    f" was trained, and is {values.dtype} now{example}; bring the data back to that type, or name the"
                    " column in data.text or data.numbers of params.yaml"
                ) from None
    return pd.DataFrame(found, index=rows.index)


def _in_type(values: pd.Series, column: Column, dtype: str) -> pd.Series:
    try:
        return _brought(values, column, dtype)
    except (TypeError, ValueError, OverflowError) as error:  # as a time that is out of the range of the type
        raise Unlike(values[values.notna()].iloc[0]) from error


def _brought(values: pd.Series, column: Column, dtype: str) -> pd.Series:
    now, present = kind_of_values(values), values[values.notna()]
    if not len(present):
        return _missing(values, dtype)
    if now == column.kind:
        return _same_kind(values, dtype)
    if column.categories == frozenset():  # it was empty in training: to the model any value is one that it never had
        return _missing(values, dtype)
    if column.kind == "number" and now == "truth":
        return values.astype(object).where(values.notna(), np.nan).astype(np.float64)
    if column.kind == "number" and now == "text":
        return _same_kind(_parsed(values, pd.to_numeric(values, errors="coerce")), dtype)
    if column.kind == "time" and now == "text":
        times = _parsed(values, pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True))
        return (times if "," in dtype else times.dt.tz_localize(None)).astype(dtype)
    if column.kind == "truth":
        return _same_kind(_parsed(values, values.map(_truth)), dtype)
    if column.kind == "text" and now in ("number", "truth") and column.categories is not None:
        return _same_kind(_parsed(values, _as_written(values, now, column.categories)), dtype)
    raise Unlike(present.iloc[0])


def _missing(values: pd.Series, dtype: str) -> pd.Series:
    """A column of gaps."""
    if dtype.startswith(("int", "uint", "bool")):  # these types know none
        dtype = "object" if dtype == "bool" else "float64"
    return pd.Series([None] * len(values), index=values.index, dtype=dtype)


def _same_kind(values: pd.Series, dtype: str) -> pd.Series:
    """In the very type of training, where nothing is lost by it: a gap has made whole numbers floats."""
    if str(values.dtype) == dtype or (dtype == "bool" and values.isna().any()):
        return values
    if dtype == "object":
        return values.astype(object).where(values.notna(), None)
    try:
        cast = values.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return values
    return cast if kind_of(dtype) != "number" or ((cast == values) | values.isna()).all() else values


def _parsed(values: pd.Series, parsed: pd.Series) -> pd.Series:
    """What was parsed.

    Raises:
        Unlike: a value has become a gap.
    """
    lost = parsed.isna() & values.notna()
    if lost.any():
        raise Unlike(values[lost].iloc[0])
    return parsed


def _truth(value: Any) -> Any:
    if isinstance(value, str):
        return TRUTH.get(value.strip().lower())
    return bool(value) if value in (0, 1) else None


def _as_written(values: pd.Series, kind: str, categories: frozenset[str]) -> pd.Series:
    """Numbers or truth values as the texts that training knew; a gap where that is not certain.

    A number has many texts. If those of training were written as Python writes them, others are, too; else it is the
    only one that training knew of this number.
    """
    if kind == "truth":
        spelled = {text.strip().lower(): text for text in categories if text.strip().lower() in TRUTH}
        return values.map(lambda value: None if pd.isna(value) else spelled.get(str(value).lower()))
    known = {text: number for text in categories if (number := _number(text)) is not None}
    plain = bool(known) and all(text == str(number) for text, number in known.items())
    times = Counter(known.values())
    written = {number: text for text, number in known.items() if times[number] == 1}

    def text(value: Any) -> str | None:
        if pd.isna(value):
            return None
        number = int(value) if float(value).is_integer() else float(value)
        if isinstance(value, float) and abs(number) > 2**53:
            return None  # it stands for several whole numbers
        return str(number) if plain else written.get(number)

    return values.map(text)


def _number(text: str) -> int | float | None:
    """The number that a text can be read as: a whole one with all of its digits."""
    if "_" in text:
        return None
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        number = float(text)
        return None if not np.isfinite(number) else int(number) if number.is_integer() else number
    return None
