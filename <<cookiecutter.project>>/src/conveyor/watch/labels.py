"""What came true, joined to what was predicted: each prediction gets at most one label.

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
        unusable: labels that are no class of the model, or no number.
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
        frame = source.frame_of(project)[[*data.key, data.target]]
        return frame.rename(columns={data.target: LABEL})
    files = source.fetch(place, project.root, "monitor.labels in params.yaml")
    frame = formats.read(files, place, data.text, data.numbers)
    names = [LABEL, data.target] if LABEL in frame else [data.target]
    found = next((name for name in names if name in frame), None)
    by = [BY_ID, *([ROW] if ROW in frame else [])] if BY_ID in frame else list(data.key)
    missing = [name for name in by if name not in frame]
    if found is None or missing:
        lacks = f"no column {data.target!r} or {LABEL!r}" if found is None else f"no column {missing[0]!r}"
        mend = f"a label needs `id`, or the key ({', '.join(data.key)})"
        raise Misuse(f"{place}: has {lacks}; {mend}")
    return frame[[*by, found]].rename(columns={found: LABEL})


def key_columns(labels: pd.DataFrame) -> tuple[str, ...]:
    """The features that have to be read of the log to join these labels."""
    return () if BY_ID in labels else tuple(name for name in labels if name != LABEL)


def joined(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    data: params.Data,
    classes: list[str],
    feedback: pd.DataFrame | None = None,
) -> Joined:
    """Each prediction with the label that is said of it.

    Args:
        predictions: ``id``, ``row`` and, if the labels have no id, the key as text; see ``log_lines.Read``.
        labels: see ``read``; without ``row`` a label is of the first row of a request.
        classes: of the model, as text, in order; empty for numbers.
        feedback: more labels, by ``id`` and ``row``: what callers said to the service.
    """
    first = _said(predictions, labels, data, classes)
    if feedback is None or not len(feedback):
        return _together(predictions, first)
    return _together(predictions, first, _said(predictions, feedback, data, classes))


@dataclass(frozen=True)
class _Said:
    """What labels of one place say of each prediction.

    Attributes:
        y: the label of each, NaN for none.
        torn: of which they contradict each other.
        unknown, repeated, unusable: see ``Joined``.
    """

    y: pd.Series
    torn: pd.Series
    unknown: int
    repeated: int
    unusable: int


def _said(predictions: pd.DataFrame, labels: pd.DataFrame, data: params.Data, classes: list[str]) -> _Said:
    y = _values(labels[LABEL], classes)
    usable = ~np.isnan(y)
    said = pd.DataFrame({"name": _names(labels, data)[usable], "y": y[usable]})
    distinct = said.drop_duplicates()
    torn = distinct["name"].duplicated(keep=False)
    one = distinct[~torn].set_index("name")["y"]
    names = pd.Series(_names(predictions, data, key_columns(labels)), index=predictions.index)
    return _Said(
        y=names.map(one),
        torn=names.isin(set(distinct.loc[torn, "name"])),
        unknown=int((~one.index.isin(names)).sum()),
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


def _names(
    rows: pd.DataFrame, data: params.Data, key: tuple[str, ...] = ()
) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """One number for what names each row: the id and row of a request, or the key."""
    columns = list(key) or ([BY_ID] if BY_ID in rows else list(data.key))
    named = rows[columns]
    if columns == [BY_ID]:
        named = named.astype(str).assign(**{ROW: rows.get(ROW, 1)})
    return row_hash(named, codes=True)


def _values(labels: pd.Series, classes: list[str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The labels as numbers, NaN where one is none."""
    if not classes:
        numbers = pd.to_numeric(labels, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isfinite(numbers), numbers, np.nan)
    names = {plain(name): place for place, name in enumerate(classes)}
    numbered = labels.map(lambda cell: names.get(plain(cell), np.nan), na_action="ignore")
    return np.asarray(numbered, dtype=np.float64)
