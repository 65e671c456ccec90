"""The unit of the gate: how much rows that belong together repeat each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conveyor.core.frozen import Frozen
from conveyor.core.params import BLOCK
from conveyor.gate.spread import Spread


class Units(Frozen):
    """What a unit is, and what it does to the number of rows.

    Attributes:
        name: what one is, such as "day".
        count: how many there are.
        design_effect: how many times the variance of the gain is that of rows which do not belong together; None if
            it cannot be told.
        effective_rows: so many independent rows would tell as much.
        serial: correlation of neighbouring units.
        still_correlated: whether that is more than chance gives, or units some steps apart are alike. Of blocks of time
            only, because longer ones are better.
    """

    name: str
    count: int
    design_effect: float | None = None
    effective_rows: float | None = None
    serial: float = 0.0
    still_correlated: bool = False


def measured(name: str, groups: NDArray[np.int64], gain: Spread, by_row: Spread) -> Units:
    """The units of a decision.

    Args:
        name: what one is.
        groups: the number of each row's unit (n,).
        gain: the gain by units.
        by_row: the gain as if each row were alone.
    """
    count = int(groups.max()) + 1
    effect = (gain.error / by_row.error) ** 2 if gain.known and by_row.known and by_row.error else None
    return Units(
        name=name,
        count=count,
        design_effect=effect,
        effective_rows=len(groups) / effect if effect else None,
        serial=gain.serial,
        still_correlated=bool(BLOCK.fullmatch(name))
        and bool(gain.serial > 2 / np.sqrt(count) or (not gain.serial and gain.inflated > 1)),
    )
