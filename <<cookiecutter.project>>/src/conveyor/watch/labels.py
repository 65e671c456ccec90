"""Join labels with predictions: each prediction gets at most one label.

Labels are the data themselves, or a file, folder or URL of their own (``monitor.labels``), and what callers send to
the service. A label finds its prediction by the id of the answer, or by the key of the data, which callers may send
beside the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from conveyor.core import params
from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.core.tasks import plain
from conveyor.data import formats, source
from conveyor.data.hashing import row_hash
from conveyor.watch.log_lines import FEATURE

BY_ID, ROW, LABEL = "id", "row", "label"


@dataclass(frozen=True)
class Joined:
    """Predictions with their labels.

    Attributes:
        rows: those of the log that have a label, by its index, with the column ``y``: the number of the class, or a
            number.
        waiting: predictions without a label.
        unknown: labels without a prediction.
        unasked: the same, of those that callers sent to the service.
        repeated: labels that were said before, equally.
        contradicting: predictions with labels that differ: none of them counts.
        unusable: labels that lack a part of the key, or are no class of the model, or no number.
    """

    rows: pd.DataFrame
    waiting: int
    unknown: int
    repeated: int
    contradicting: int
    unusable: int
    unasked: int = 0


def read(project: Project) -> pd.DataFrame:
    """The labels, with the columns that name a prediction.

    Raises:
        Misuse: they cannot be read, or have no column that names a prediction or none of labels.
    """
    data, place = project.params.data, project.params.monitor.labels
    if place is None:
        return _by_key(source.frame_of(project), data, data.target)
    files = source.fetch(place, project.root, "monitor.labels in params.yaml")
    try:
        frame = formats.read(files, place, data.text, data.numbers)
    except formats.NoRows as none:  # none has come yet
        frame = pd.DataFrame(columns=[str(name).strip() for name in none.args[1]], dtype=object)
    names = [LABEL, data.target] if LABEL in frame else [data.target]
    found = next((name for name in names if name in frame), None)
    of_data = BY_ID in data.key and set(data.key) <= set(frame.columns)  # then `id` is that of the data
    by = [BY_ID, *([ROW] if ROW in frame else [])] if BY_ID in frame and not of_data else list(data.key)
    missing = [name for name in by if name not in frame]
    if found is None or missing:
        lacks = f"no column {data.target!r} or {LABEL!r}" if found is None else f"no column {missing[0]!r}"
        mend = f"a label needs `id`, or the key ({', '.join(data.key)})"
        raise Misuse(f"{place}: has {lacks}; {mend}")
    if by == list(data.key):
        return _by_key(frame, data, found)
    return frame[[*by, found]].rename(columns={found: LABEL})


def _by_key(frame: pd.DataFrame, data: params.Data, label: str) -> pd.DataFrame:
    """Labels whose names are the key of the data, under the names that the log gives to features."""
    return pd.DataFrame({f"{FEATURE}{name}": frame[name] for name in data.key} | {LABEL: frame[label]})


def key_columns(labels: pd.DataFrame) -> tuple[str, ...]:
    """The features that have to be read of the log to join these labels."""
    return tuple(name.removeprefix(FEATURE) for name in labels if name.startswith(FEATURE))


def joined(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    classes: list[str],
    feedback: pd.DataFrame | None = None,
) -> Joined:
    """Each prediction with the label that is said of it.

    Args:
        predictions: ``id``, ``row`` and, if the labels have no id, the key as text; see ``log_rows.Read``.
        labels: see ``read``; without ``row`` a label is of the first row of a request.
        classes: of the model, as text, in order; empty for numbers.
        feedback: more labels, by ``id`` and ``row``: what callers said to the service.
    """
    first = _said(predictions, labels, classes)
    if feedback is None or not len(feedback):
        return _together(predictions, first)
    return _together(predictions, first, _said(predictions, feedback, classes))


@dataclass(frozen=True)
class _Said:
    """What labels of one place say of each prediction.

    Attributes:
        y: the label of each, NaN for none.
        torn: which of them have labels that differ.
        unknown, repeated, unusable: see ``Joined``.
    """

    y: pd.Series
    torn: pd.Series
    unknown: int
    repeated: int
    unusable: int


def _said(predictions: pd.DataFrame, labels: pd.DataFrame, classes: list[str]) -> _Said:
    y = _values(labels[LABEL], classes)
    usable = ~np.isnan(y)
    key = [f"{FEATURE}{name}" for name in key_columns(labels)]
    usable &= labels[key].notna().all(axis=1).to_numpy()  # what lacks a part of the key has no name
    said = pd.DataFrame({"name": _names(labels, key)[usable], "y": y[usable]})
    distinct = said.drop_duplicates()
    torn = distinct["name"].duplicated(keep=False)
    one = distinct[~torn].set_index("name")["y"]
    names = pd.Series(_names(predictions, key), index=predictions.index)
    named = predictions[key].notna().all(axis=1)
    return _Said(
        y=names.map(one).where(named),
        torn=names.isin(set(distinct.loc[torn, "name"])) & named,
        unknown=int((~one.index.isin(names[named])).sum()),
        repeated=len(said) - len(distinct),
        unusable=int((~usable & labels[LABEL].notna()).sum()),
    )


def _together(predictions: pd.DataFrame, first: _Said, second: _Said | None = None) -> Joined:
    y, torn, equal = first.y, first.torn, 0
    if second:
        both = first.y.notna() & second.y.notna()
        differ = both & (first.y != second.y)
        y, torn, equal = first.y.fillna(second.y), first.torn | second.torn | differ, int((both & ~differ).sum())
    labelled = y.notna() & ~torn
    return Joined(
        rows=predictions[labelled].assign(y=y[labelled]),
        waiting=int((y.isna() & ~torn).sum()),
        unknown=first.unknown,
        repeated=first.repeated + equal + (second.repeated if second else 0),
        contradicting=int(torn.sum()),
        unusable=first.unusable + (second.unusable if second else 0),
        unasked=second.unknown if second else 0,
    )


def _names(rows: pd.DataFrame, key: list[str]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """One number for what names each row: the key, or without one the id and row of a request."""
    if key:
        return row_hash(rows[key], codes=True)
    return row_hash(pd.DataFrame({BY_ID: rows[BY_ID].astype(str), ROW: numbers_of_rows(rows)}), codes=True)


def numbers_of_rows(rows: pd.DataFrame) -> pd.Series:
    """The places in a request: 1 where none is said, 0 for what is no number."""
    if ROW not in rows:
        return pd.Series(1, index=rows.index)
    numbers = pd.to_numeric(rows[ROW], errors="coerce")
    return numbers.where(rows[ROW].notna(), 1).fillna(0).astype(np.int64)


def _values(labels: pd.Series, classes: list[str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The labels as numbers, NaN where one is none."""
    if not classes:
        numbers = pd.to_numeric(labels, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isfinite(numbers), numbers, np.nan)
    names = {plain(name): place for place, name in enumerate(classes)}
    numbered = labels.map(lambda cell: names.get(plain(cell), np.nan), na_action="ignore")
    return np.asarray(numbered, dtype=np.float64)
