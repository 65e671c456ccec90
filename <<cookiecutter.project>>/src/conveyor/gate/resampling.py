"""Resamples of rows or groups, with weights from a Poisson distribution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.int64] | None  # each row's group, from 0 on; None: each row alone
RESAMPLES, AT_LEAST = 2000, 500  # fewer from WORK weights on: many rows need fewer resamples
WORK = 200_000_000
SEED = 20130101
CHUNK = 2_000_000  # weights in memory at once; a metric needs some times that in bytes, as much as a cache holds


def number(rows: int, count: int | None = None) -> int:
    """How many resamples are drawn of so many rows, if ``count`` does not say."""
    return count or max(AT_LEAST, min(RESAMPLES, WORK // max(rows, 1)))


def resamples(rows: int, groups: Groups, count: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """How often each row is in each of ``count`` resamples, one chunk (resamples x rows) at a time."""
    count = number(rows, count)
    generator = np.random.default_rng(SEED)
    units = rows if groups is None else int(groups.max()) + 1
    step = max(1, CHUNK // max(rows, units))
    for begin in range(0, count, step):
        weights = poisson(generator, (min(step, count - begin), units))
        yield weights if groups is None else weights[:, groups]


def left_out(rows: int, groups: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Weights (groups x rows) that leave out one group each, one chunk of them at a time."""
    count = int(groups.max()) + 1
    step = max(1, CHUNK // max(rows, 1))
    for begin in range(0, count, step):
        yield (groups != np.arange(begin, min(begin + step, count))[:, None]).astype(np.uint8)


def poisson(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Draws of a Poisson distribution with mean one: a table look-up by sixteen random bits, as fast as memory."""
    count = shape[0] * shape[1]
    bits = generator.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
    return _POISSON[bits].reshape(shape)


def _table() -> NDArray[np.uint8]:
    chances = np.exp(-1.0) / np.cumprod([1.0, *range(1, 9)])
    return np.searchsorted(np.cumsum(chances), (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)


_POISSON = _table()
