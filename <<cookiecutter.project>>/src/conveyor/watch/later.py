"""Rows that came after a champion's data: no model that was compared for it has seen one of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core import params
from conveyor.core.errors import Misuse
from conveyor.core.project import Project, now
from conveyor.data import columns, source, units
from conveyor.data.hashing import utc
from conveyor.gate.metrics import Labels
from conveyor.gate.spread import Floats
from conveyor.ledger.events import Champion
from conveyor.ledger.ledger import ledger_of
from conveyor.model.bundle import Bundle
from conveyor.model.scoring import of_own_bundle
from conveyor.watch.loss import block_of, data_of


@dataclass(frozen=True)
class Later:
    """The complete blocks of time after the last one of a champion's data.

    Attributes:
        rows: positions in the data (n,).
        number: the block of each row (n,); the first one after the champion's data is 1.
        blocks: how many there are, counted in time. The newest one of the data may still get rows and is left out.
    """

    rows: NDArray[np.int64]
    number: NDArray[np.int64]
    blocks: int


def last_block(project: Project, champion: Champion, bundle: Bundle) -> int:
    """The number of the newest block in the data that a champion was trained and judged on.

    Raises:
        Misuse: data.time is null, or those data are gone.
    """
    if not project.params.data.time:
        raise Misuse("data.time is null, so nothing tells which rows came later")
    number = numbered(data_of(project, champion, bundle), project.params)
    then = ledger_of(project).events[champion.event - 1].time
    past = number[number <= _block(then, project.params)]  # a date that had not come is a wrong one
    return int(past.max() if len(past) else number.min())


def numbered(frame: pd.DataFrame, rule: params.Params) -> NDArray[np.int64]:
    """The number of the block of each row (n,), counted from 1970."""
    return units.blocks(utc(frame[rule.data.time]), block_of(rule.gate))


def complete(number: NDArray[np.int64], last: int, today: int) -> int:
    """How many blocks are complete after the block ``last``.

    Args:
        number: of the block of each row (n,). The newest one may still get rows.
        today: the present block: rows after it have a wrong date, and count for nothing.
    """
    past = number[number <= today]
    return max(0, int(past.max()) - 1 - last) if len(past) else 0


def today(rule: params.Params) -> int:
    """The number of the present block."""
    return _block(now(), rule)


def _block(time: str, rule: params.Params) -> int:
    return int(units.blocks(pd.Series(pd.to_datetime([time], utc=True)), block_of(rule.gate))[0])


def later(project: Project, last: int) -> Later:
    """The rows of this project's data after the block ``last``."""
    number = numbered(source.frame_of(project), project.params) - last
    blocks = complete(number, 0, today(project.params) - last)
    rows = np.flatnonzero((number > 0) & (number <= blocks))
    return Later(rows, number[rows], blocks)


def labels_of(project: Project, bundle: Bundle) -> Labels:
    """The labels of all rows of the data (n,), as a model has learnt them.

    Raises:
        Misuse: its classes are others than those of the data.
    """
    frame, data = source.frame_of(project), project.params.data
    now, then = [str(each) for each in columns.classes(frame, data)], bundle.asked["classes"]
    if now != [str(each) for each in then]:
        raise Misuse(f"model {bundle.key[:12]} knows other classes ({', '.join(then)}) than the data have")
    return columns.labels(frame, data)


def predicted(project: Project, bundle: Bundle, rows: NDArray[np.int64]) -> Floats:
    """What a model predicts for rows of the data, by the code of its own bundle.

    Raises:
        Misuse: it cannot score them.
    """
    frame = source.frame_of(project).iloc[rows]
    with of_own_bundle(project, bundle, columns.features(frame, project.params.data)) as scored:
        return scored.predictions
