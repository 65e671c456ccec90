"""A hash of a row by its values alone, so that a row never changes side as data grow."""

from __future__ import annotations

import re
from contextlib import suppress

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def row_hash(frame: pd.DataFrame, codes: bool = False) -> NDArray[np.uint64]:
    """One number per row that depends on the row's values alone, not on its position or on other rows.

    It also ignores the type of the column, because that is inferred from all rows: one text among numbers makes the
    others text, one gap makes whole numbers floats. A value is hashed as the number or time that it can be read as.

    Args:
        codes: whether a text is a number only as Python writes it, so that 007, 7 and 1.10 are other values than 7 and
            1.1: a key needs it. A split does not, and its rows would change sides.
    """
    combined = np.zeros(len(frame), dtype=np.uint64)
    for name in frame.columns:
        # Overflow wraps around, as intended for a hash.
        combined = combined * np.uint64(1_099_511_628_211) + _value_hash(frame[name], codes)
    return combined


def _value_hash(values: pd.Series, codes: bool = False) -> NDArray[np.uint64]:
    hashed: NDArray[np.uint64]
    if pd.api.types.is_datetime64_any_dtype(values):
        # Microseconds cover the years 1 to 9999; many files write "never" as the year 9999.
        hashed = pd.util.hash_array(utc(values).dt.as_unit("us").astype("int64").to_numpy())
    elif pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        hashed = pd.util.hash_array(values.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0)
        if pd.api.types.is_integer_dtype(values):
            # Beyond 2**53 several whole numbers are the same float: they are hashed as integers.
            whole = values.to_numpy()
            large = (whole > 2**53) | (whole < -(2**53))
            hashed[large] = pd.util.hash_array(whole[large])
    else:
        texts = values if values.dtype == "str" else values.astype(object).map(str, na_action="ignore")
        places, distinct = pd.factorize(texts)  # a missing one is -1, the last place
        hashed = np.append(_text_hash(pd.Series(distinct, dtype=object), codes), np.uint64(1))[places]
    hashed[values.isna().to_numpy()] = np.uint64(1)
    return hashed


def _text_hash(texts: pd.Series, codes: bool) -> NDArray[np.uint64]:
    hashed: NDArray[np.uint64] = pd.util.hash_array(texts.to_numpy(dtype=object), categorize=False)
    # Only a text with such a beginning can be a number or a truth value: most texts are skipped here.
    likely = texts.str.match(r"\s*[-+.0-9]|\s*(?:true|false|inf|nan)\s*$", case=False, na=False).to_numpy(dtype=bool)
    truth = texts.str.strip().str.lower().map({"true": 1.0, "false": 0.0})
    numbers = pd.to_numeric(texts.where(likely), errors="coerce").astype(np.float64).fillna(truth)
    if codes:
        numbers = numbers.where([_is_plain(*pair) for pair in zip(texts, numbers, strict=True)])
    found = numbers.notna().to_numpy()
    hashed[found] = pd.util.hash_array(numbers[found].to_numpy() + 0.0)
    for place in np.flatnonzero(found & (numbers.abs() > 2**53).to_numpy()):
        with suppress(ValueError, OverflowError):
            hashed[place] = pd.util.hash_array(np.array([int(texts.iloc[place])]))[0]
    rest = likely & ~found
    times = pd.to_datetime(texts[rest], errors="coerce", format="ISO8601", utc=True)
    known = times.notna().to_numpy()
    hashed[np.flatnonzero(rest)[known]] = _value_hash(times[known])
    return hashed


def _is_plain(text: str, number: float) -> bool:
    """Whether a text is the one of this number, as Python writes it, or one of a truth value."""
    whole = re.fullmatch("0|-?[1-9][0-9]*", text) and np.isfinite(number)
    return bool(whole) or text == repr(number) or text.strip().lower() in ("true", "false")


def utc(times: pd.Series) -> pd.Series:
    return times.dt.tz_localize("UTC") if times.dt.tz is None else times.dt.tz_convert("UTC")
