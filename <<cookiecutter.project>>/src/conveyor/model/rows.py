"""Rows in the form that models take: one array for all numeric columns, one list for each other column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 1e30  # a larger number is refused: the square of this one is finite, and a 32-bit model can hold the number


def kind_of(dtype: str) -> str:
    """The kind of a column's values: number, truth, time or text."""
    if dtype.startswith("bool"):
        return "truth"
    if dtype.startswith("datetime64"):
        return "time"
    return "number" if dtype.lower().startswith(("int", "uint", "float")) else "text"


def kind_of_values(values: pd.Series) -> str:
    """The same of the values: pandas has no type of its own for truth values with gaps."""
    kind = kind_of(str(values.dtype))
    if kind != "text":
        return kind
    present = values.dropna()
    return "truth" if len(present) and present.map(type).eq(bool).all() else "text"


def changed_kind(before: pd.DataFrame, now: pd.DataFrame) -> tuple[str, str, str] | None:
    """The first column that has another kind now, with both kinds; None: there is none. One of gaps only has none."""
    for name in before.columns:
        kinds = kind_of_values(before[name]), kind_of_values(now[name])
        if kinds[0] != kinds[1] and before[name].notna().any():
            return str(name), *kinds
    return None


@dataclass(frozen=True)
class Rows:
    """Some rows (n).

    Attributes:
        names: the columns of numbers (k).
        numbers: their values (n x k), 64-bit floats, NaN where one is missing.
        others: the values of each other column: text, true or false, or a time as ISO 8601; None where it is missing.
    """

    names: tuple[str, ...]
    numbers: NDArray[np.float64]
    others: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(cls, columns: dict[str, list[Any]], features: dict[str, str]) -> Rows:
        """Rows from the values of each column (None: missing) and the column types of training."""
        names = tuple(name for name, dtype in features.items() if kind_of(dtype) == "number")
        numbers = np.array([columns[name] for name in names], dtype=np.float64)  # None becomes NaN
        count = len(next(iter(columns.values())))
        others = {name: columns[name] for name in features if name not in names}
        return cls(names, numbers.reshape(len(names), count).T, others)

    @classmethod
    def of_frame(cls, frame: pd.DataFrame) -> Rows:
        """The rows of a data frame in the form of a request."""
        kinds = {name: kind_of(str(dtype)) for name, dtype in frame.dtypes.items()}
        names = tuple(name for name, kind in kinds.items() if kind == "number")
        numbers = np.empty((len(frame), len(names)))
        for place, name in enumerate(names):
            numbers[:, place] = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
        others = {}
        for name, kind in kinds.items():
            if kind != "number":
                cells, gaps = frame[name].astype(object).tolist(), frame[name].isna().tolist()
                shown = [cell.isoformat() for cell in cells] if kind == "time" else cells
                others[name] = [None if gap else cell for gap, cell in zip(gaps, shown, strict=True)]
        return cls(names, numbers, others)

    def number(self, name: str) -> NDArray[np.float64]:
        """A numeric column (n,)."""
        return self.numbers[:, self.names.index(name)]
