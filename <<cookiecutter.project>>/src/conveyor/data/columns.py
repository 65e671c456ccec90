"""The roles of the columns: features and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core import params
from conveyor.core.errors import Refused
from conveyor.core.frozen import shown


def features(frame: pd.DataFrame, data: params.Data) -> pd.DataFrame:
    """The columns that a model may use: all but target, time and ignored ones."""
    hidden = {data.target, data.time, *data.ignore}
    return frame[[column for column in frame.columns if column not in hidden]]


def classes(frame: pd.DataFrame, data: params.Data) -> list[Any]:
    """The sorted values of the target; of two the larger is the positive one. Empty for a regression.

    Raises:
        Refused: the target has nulls, or its values do not fit the task.
    """
    target, where = frame[data.target], f"{data.path}: column {data.target!r}"
    if data.task == "regression":
        numeric = pd.api.types.is_numeric_dtype(target) and not pd.api.types.is_bool_dtype(target)
        bad = int((~np.isfinite(target.to_numpy(dtype=np.float64, na_value=np.nan))).sum()) if numeric else len(target)
        if bad:
            raise Refused(f"{where} has {bad} values that are no finite number; a regression needs one in every row")
        return []
    values = sorted(target.dropna().unique().tolist())
    wrong = len(values) != 2 if data.task == "binary" else len(values) < 3
    if target.isna().any() or wrong:
        gaps = int(target.isna().sum())
        if gaps:
            row = int(target.isna().to_numpy().argmax()) + 1
            raise Refused(f"{where} has no value in {gaps} of {len(target)} rows, such as row {row}; fill or drop them")
        found = f"{len(values)} value" + "s" * (len(values) != 1) + f" ({', '.join(map(shown, values[:3]))}"
        found += ", …)" if len(values) > 3 else ")"
        if data.task == "binary":
            raise Refused(f"{where} has {found}, and a binary target exactly two; is data.task {_task(target)}?")
        raise Refused(f"{where} has {found}, and a multiclass target three or more; is data.task binary?")
    return values


def _task(target: pd.Series) -> str:
    """The task that values other than two ask for."""
    fractions = pd.api.types.is_float_dtype(target) and not (target.dropna() % 1 == 0).all()
    return (
        "regression" if fractions or (pd.api.types.is_numeric_dtype(target) and target.nunique() > 20) else "multiclass"
    )


def labels(frame: pd.DataFrame, data: params.Data) -> NDArray[Any]:
    """The target (n,): the number of the class, from zero in sorted order, or the number itself for a regression.

    Raises:
        Refused: see ``classes``.
    """
    values, target = classes(frame, data), frame[data.target]
    if data.task == "regression":
        numbers: NDArray[np.float64] = target.to_numpy(dtype=np.float64)
        return numbers
    classes_of_rows: NDArray[np.int64] = pd.Categorical(target, categories=values).codes.astype(np.int64)
    return classes_of_rows
