"""Which rows belong together: those of a group, or of a block of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core import params
from conveyor.data.hashing import utc

HOUR = 3_600_000_000  # microseconds: nanoseconds end in the year 2262
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONDAY = 4 * 24 * HOUR  # weeks begin on Mondays; the first of 1970 was the fifth of January


def units(rows: pd.DataFrame, data: params.Data, block: params.Block) -> tuple[NDArray[np.int64] | None, str]:
    """The number of each row's unit (n,), from zero and for blocks of time in their order, and what a unit is.

    Args:
        rows: the rows (n,).
        data: ``group`` wins over ``time``; without both, each row is alone.
        block: the length of a block of time; "row": each row is alone.

    Returns:
        None for the numbers if each row is alone.
    """
    if data.group:
        # A column that is called like a block of time is none.
        name = f"{data.group} (column)" if params.BLOCK.fullmatch(data.group) else data.group
        return np.unique(rows[data.group].astype(str), return_inverse=True)[1].astype(np.int64), name
    if not data.time or block == "row":
        return None, "row"
    name = block if isinstance(block, str) else "hour" if block == 1 else f"{block} hours"
    numbers = blocks(utc(rows[data.time]), block)
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64), name


def blocks(times: pd.Series[pd.Timestamp], block: params.Block) -> NDArray[np.int64]:
    """The number of the block of time in which each of ``times`` (n,), in UTC, lies, in the order of the blocks."""
    begin = MONDAY if block == "week" else 0
    numbers: NDArray[np.int64] = (times.dt.as_unit("us").astype(np.int64).to_numpy() - begin) // (hours(block) * HOUR)
    return numbers


def begins(number: int, block: params.Block) -> datetime:
    """When the block of time with this number begins, in UTC."""
    begin = MONDAY if block == "week" else 0
    return EPOCH + timedelta(microseconds=begin + number * hours(block) * HOUR)


def named(block: params.Block, count: int = 1) -> str:
    """So many blocks in words: a day, 14 days, 14 blocks of 6 hours."""
    if isinstance(block, str):
        return f"a {block}" if count == 1 else f"{count} {block}s"
    return f"a block of {block} hours" if count == 1 else f"{count} blocks of {block} hours"


def hours(block: params.Block) -> int:
    """How long a block of time is."""
    return int({"day": 24, "week": 7 * 24}.get(block, 0) if isinstance(block, str) else block)
