"""The loss of the champion on live rows, day by day, beside its loss on the holdout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core import params, yaml_file
from conveyor.core.errors import Misuse
from conveyor.core.frozen import checked
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.core.tasks import Task
from conveyor.data import columns, formats, source, units
from conveyor.data.hashing import utc
from conveyor.data.split import SplitRule
from conveyor.gate.metrics import of_task
from conveyor.gate.spread import Floats
from conveyor.ledger.events import Champion
from conveyor.model.bundle import Bundle
from conveyor.model.scoring import of_own_bundle
from conveyor.watch.labels import Joined

OF_TASK = {"regression": "mae"}  # the loss of a row; of classes the log loss
ROWS = 20  # labelled rows of a live block; days with fewer wait for the next one
REACHED = 0.1  # of the predictions are in blocks with the reached share of labels, or a larger one
COMPLETE = 0.5  # of the reached share: the newest blocks with fewer labels wait for the rest


class Untold(Misuse):
    """The loss that a champion promised cannot be told; the text says why."""


@dataclass(frozen=True)
class Blocks:
    """The mean loss of each block of time, in order (n,).

    Attributes:
        loss: of its rows.
        number: the block's, counted from 1970; of merged ones the last.
        rows: how many there are.
    """

    loss: Floats
    number: NDArray[np.int64]
    rows: NDArray[np.int64]


def metric_of(task: Task) -> str:
    """The loss that is watched, by its name among the gate's metrics: a mean over rows, and never negative."""
    return OF_TASK.get(task, "log_loss")


def of_rows(task: Task, y: Floats, predicted: Floats) -> Floats:
    """The loss of each row (n,)."""
    labels = y if task == "regression" else y.astype(np.int64)
    found: Floats = of_task(task)[metric_of(task)].function(labels, predicted)
    return found


def block_of(rule: params.Gate) -> params.Block:
    """Blocks of the gate; where it takes each row alone, days: rows of one day are alike."""
    return "day" if rule.block == "row" else rule.block


def a_year(block: params.Block) -> int:
    """How many blocks a year has."""
    return max(1, round(365 * 24 / units.hours(block)))


def _means(number: NDArray[np.int64], loss: Floats) -> Blocks:
    found, place, rows = np.unique(number, return_inverse=True, return_counts=True)
    return Blocks(np.bincount(place, weights=loss) / rows, found, rows)


@dataclass(frozen=True)
class Then:
    """What a champion was trained and judged on, and what it predicts of its holdout.

    Attributes:
        frame: all rows of the data at its commit, in the order of the file.
        held: which of them (n,) are the holdout.
        predicted: its predictions of the holdout.
        y: the labels of the holdout.
    """

    frame: pd.DataFrame
    held: NDArray[np.bool_]
    predicted: Floats
    y: NDArray[np.generic]


def then(project: Project, champion: Champion, bundle: Bundle) -> Then:
    """The data of a champion, with its predictions of the holdout.

    Raises:
        Untold: the data have no time, or those of then cannot be read or scored.
    """
    data = project.params.data
    if not data.time:
        raise Untold("data.time is null: a holdout without time does not tell how much days differ")
    try:
        frame = data_of(project, champion, bundle)
        for name in (data.time, data.target):
            if name not in frame:
                raise Misuse(f"the data of then have no column {name!r}")
        if not pd.api.types.is_datetime64_any_dtype(frame[data.time]):
            raise Misuse(f"column {data.time!r} of the data of then is no time")
        held = ~SplitRule.read(bundle.path).trained_on(frame)
        with of_own_bundle(project, bundle, columns.features(frame[held], data)) as scored:
            predicted = scored.predictions
        y = columns.labels(frame, data)[held]
    except Misuse as error:
        raise Untold(f"the holdout of the champion cannot be scored: {error}") from None
    return Then(frame, held, predicted, y)


def promised(project: Project, of: Then) -> Blocks:
    """The champion's loss on its holdout, which it was promoted for."""
    data = project.params.data
    number = units.blocks(utc(of.frame[data.time][of.held]), block_of(project.params.gate))
    return _means(number, of_rows(data.task, of.y.astype(np.float64), of.predicted))


def data_of(project: Project, champion: Champion, bundle: Bundle) -> pd.DataFrame:
    """The data as they were at the commit of a model.

    Raises:
        Misuse: they are gone.
    """
    pin = bundle.lineage["data_sha256"]
    if pin == project.params.data.sha256:
        return source.frame_of(project)
    try:
        text = project.git("show", f"{champion.commit}:./params.yaml")
        then = checked(params.Data, yaml_file.of_text(text, "params.yaml")["data"], "params.yaml: data.")
        if "://" in then.path:
            files = source.fetch(then.path, project.root)
        else:
            listed = project.git("ls-tree", "-r", "--name-only", champion.commit, f"./{then.path}").splitlines()
            whole = [name for name in listed if name == then.path]
            names = (
                {"": whole[0]} if whole else {name.removeprefix(f"{then.path.rstrip('/')}/"): name for name in listed}
            )
            files = {inner: project.git.bytes("show", f"{champion.commit}:./{name}") for inner, name in names.items()}
    except (GitError, KeyError) as error:
        raise Misuse(
            f"the data of commit {champion.commit[:12]} are not here: {error}; fetch the whole history"
        ) from None
    if not files or source.pin(files) != pin:
        raise Misuse(f"the data of commit {champion.commit[:12]} are no longer what they were")
    return formats.read(files, then.path, then.text, then.numbers)


def live(joined: Joined, log: pd.DataFrame, model: str, task: Task, block: params.Block) -> Blocks:
    """The loss of a model on the rows that have labels, see ``labelled``. A block of few rows waits for the next one.

    Args:
        joined: predictions with labels.
        log: all predictions.
        model: the key of the model.
        block: the length of a block of time.
    """
    rows = labelled(joined, log, model, task, block)
    return _merged(_means(units.blocks(rows["time"], block), rows["loss"].to_numpy(dtype=np.float64)))


def labelled(joined: Joined, log: pd.DataFrame, model: str, task: Task, block: params.Block) -> pd.DataFrame:
    """The rows of a model that have labels, with the column ``loss``; see ``live``.

    The newest blocks are left out until their labels have come: those that come first may be of another kind.
    """
    rows, all_rows = joined.rows[joined.rows["model"] == model], log[log["model"] == model]
    if not len(rows):
        return rows.assign(loss=np.zeros(0))
    number = units.blocks(rows["time"], block)
    every, predictions = np.unique(units.blocks(all_rows["time"], block), return_counts=True)
    found, counts = np.unique(number, return_counts=True)
    asked = predictions[np.searchsorted(every, found)]
    share = counts / asked
    # Not the largest share: a block of few predictions may have all its labels.
    order = np.argsort(share)[::-1]
    reached = share[order][np.searchsorted(np.cumsum(asked[order]), REACHED * asked.sum())]
    # Only at the end: an earlier block whose labels never came stays as small as it is.
    keep = number <= found[share >= COMPLETE * reached].max()
    predicted = np.stack(rows["prediction"].to_list()).astype(np.float64)
    loss = of_rows(task, rows["y"].to_numpy(dtype=np.float64), predicted)
    return rows.assign(loss=loss)[keep]


def _merged(blocks: Blocks) -> Blocks:
    """Blocks of at least ROWS rows: those with fewer are taken together with the next ones; the last ones wait."""
    found: list[tuple[float, int, int]] = []
    total, rows = 0.0, 0
    for loss, number, count in zip(blocks.loss, blocks.number, blocks.rows, strict=True):
        total, rows = total + loss * count, rows + int(count)
        if rows >= ROWS:
            found.append((total / rows, int(number), rows))
            total, rows = 0.0, 0
    losses, numbers, counts = np.array(found).reshape(-1, 3).T
    return Blocks(losses, numbers.astype(np.int64), counts.astype(np.int64))
