"""A sketch of a set of rows: 64 bytes that tell how many rows two sets have in common.

Min-hashing with one permutation: P. Li, A. Owen and C.-H. Zhang, "One Permutation Hashing" (NIPS 2012). The hashes fall
into ``BINS`` bins, and each bin keeps the smallest one. Of that four bits are stored, as in P. Li and A. C. König,
"b-Bit Minwise Hashing" (WWW 2010): zero for an empty bin, else one of 15 values.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

BITS = 7  # of a hash that name its bin
BINS = 2**BITS
VALUES = 15


def sketch(hashes: NDArray[np.uint64]) -> str:
    """The sketch of a set of rows.

    Args:
        hashes: of the rows (n,), in any order; see data/hashing.py.
    """
    mixed = np.sort(_mixed(hashes))
    # A bin is a range of hashes: its smallest one is the first of the range.
    edges = np.searchsorted(mixed, np.arange(BINS, dtype=np.uint64) * np.uint64(2 ** (64 - BITS)))
    filled = np.diff(edges, append=len(mixed)) > 0
    stored = np.zeros(BINS, dtype=np.uint8)
    stored[filled] = 1 + mixed[edges[filled]] % np.uint64(VALUES)
    return base64.b64encode((stored[::2] * 16 + stored[1::2]).tobytes()).decode()


def in_common(now: str, rows_now: int, then: str, rows_then: int) -> tuple[float, float]:
    """The share of the rows of ``now`` that are in ``then``, too, and the standard error of that estimate.

    Raises:
        ValueError: one of the texts is no sketch.
    """
    a, b = _stored(now), _stored(then)
    filled = int(np.sum((a > 0) | (b > 0)))
    if not filled or not rows_now:
        return 0.0, 0.0
    # Where both bins are filled, different rows have the same value once in VALUES.
    equal, both = float(np.sum((a == b) & (a > 0))) / filled, float(np.sum((a > 0) & (b > 0))) / filled
    of_all = max(0.0, (equal - both / VALUES) / (1 - 1 / VALUES))
    error = np.sqrt(max(equal * (1 - equal), 1 / filled) / filled) / (1 - 1 / VALUES)
    # |A and B| = J / (1 + J) * (|A| + |B|) for J = |A and B| / |A or B|.
    share = of_all / (1 + of_all) * (rows_now + rows_then) / rows_now
    slope = (rows_now + rows_then) / rows_now / (1 + of_all) ** 2
    return min(1.0, share), float(error * slope)


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit depends on all bits: the finalizer of SplitMix64 (G. Steele, D. Lea and C. Flood, OOPSLA 2014)."""
    mixed = (hashes ^ np.right_shift(hashes, np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ np.right_shift(mixed, np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    final: NDArray[np.uint64] = mixed ^ np.right_shift(mixed, np.uint64(31))
    return final


def _stored(text: str) -> NDArray[np.uint8]:
    try:
        stored = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except (binascii.Error, ValueError):
        stored = np.zeros(0, dtype=np.uint8)
    if len(stored) != BINS // 2:
        raise ValueError(f"no sketch of rows: {text[:40]!r}")
    return np.stack([stored // 16, stored & 15], axis=1).ravel()
