"""The split: which rows train a model, and which are held out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from conveyor.core import frozen, params
from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import read_json
from conveyor.core.frozen import Frozen
from conveyor.data.columns import features
from conveyor.data.hashing import row_hash, utc
from conveyor.data.units import blocks

BUCKETS = 10_000


class SplitRule(Frozen):
    """Tells from a row alone whether a model was trained on it. It is stored in the bundle and outlives the data.

    by "time": rows up to and including ``watermark`` were (or could have been) trained on.
    by "hash": rows whose group or key falls into the upper ``1 - holdout`` of the hash range.
    """

    by: Literal["time", "hash"]
    columns: frozen.Names
    holdout: float
    watermark: str | None

    @classmethod
    def read(cls, folder: Path) -> SplitRule:
        """The split rule in the bundle of a model.

        Args:
            folder: the bundle.

        Raises:
            Misuse: its split.json is missing or damaged.
        """
        path = folder / "split.json"
        try:
            return cls.model_validate(read_json(path, made_by="train"))
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise Misuse(f"{path}: damaged (key {key}); delete it and run `make train`") from None

    def unlike(self, before: SplitRule) -> str:
        """That another share of the rows trained the champion; empty if it was the same. New rows move no share."""
        if (self.by, self.columns, self.holdout) == (before.by, before.columns, before.holdout):
            return ""
        then, now = (f"{rule.holdout:g} held out by {rule.by}" for rule in (before, self))
        return (
            f"the split has changed ({then}, now {now}): a gain may come from other training rows than the champion's"
        )

    def trained_on(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Mask (n,) of the rows on the training side.

        Raises:
            Misuse: the frame lacks a column of the rule.
        """
        for column in self.columns:
            if column not in frame.columns:
                raise Misuse(f"column {column!r} is missing; the split of a model needs it")
        if self.by == "time":
            before: NDArray[np.bool_] = (utc(frame[self.columns[0]]) <= pd.Timestamp(self.watermark)).to_numpy()
            return before
        bucket = row_hash(frame[list(self.columns)]) % np.uint64(BUCKETS)
        return bucket >= np.uint64(round(self.holdout * BUCKETS))


def split(frame: pd.DataFrame, data: params.Data, rule: params.Split, block: params.Block) -> SplitRule:
    """The split of ``frame``: the newest rows are held out, or without a time rows by a hash of the group or the key.

    Rows of one instant or of one block of time stay together: the holdout begins with the block that makes it nearest
    to ``rule.holdout``. Where this would change it by more than half, the block is divided.

    Raises:
        Refused: one of the two sides would be empty.
    """
    if data.time:
        times = utc(frame[data.time]).sort_values()
        place = min(int(len(times) * (1 - rule.holdout)), len(times) - 1)
        if not data.group and block != "row":
            begins = np.flatnonzero(np.diff(blocks(times, block))) + 1
            near = begins[np.abs(begins - place) <= (len(times) - place) / 2]
            place = int(near[np.abs(near - place).argmin()]) if near.size else place
        first_held_out = times.iloc[place]
        earlier = times[times < first_held_out]
        if earlier.empty:
            raise Refused(f"{data.path}: {len(frame)} rows leave nothing to train on beside the holdout; add rows")
        watermark = earlier.iloc[-1].isoformat()
        made = SplitRule(by="time", columns=(data.time,), holdout=rule.holdout, watermark=watermark)
    else:
        # Rows of one group stay together: a model that has learnt one of them partly knows the others.
        columns = (data.group,) if data.group else data.key
        made = SplitRule(by="hash", columns=columns, holdout=rule.holdout, watermark=None)
    trained = made.trained_on(frame)
    if trained.all() or not trained.any():
        side = "the holdout" if trained.all() else "training"
        raise Refused(f"{data.path}: {len(frame)} rows leave none for {side}; add rows or change split.holdout")
    return made


def repeated_keys(frame: pd.DataFrame, data: params.Data) -> NDArray[np.int64]:
    """Positions of the rows whose key an earlier row has. As texts, 007 and 7 are two keys."""
    return np.flatnonzero(pd.Series(row_hash(frame[list(data.key)], codes=True)).duplicated().to_numpy())


def shared_rows(frame: pd.DataFrame, trained: NDArray[np.bool_], data: params.Data) -> NDArray[np.int64]:
    """Positions of the holdout rows that equal a training row in all features and the target."""
    content = row_hash(features(frame, data).assign(**{data.target: frame[data.target]}))
    return np.flatnonzero(~trained & np.isin(content, content[trained]))
