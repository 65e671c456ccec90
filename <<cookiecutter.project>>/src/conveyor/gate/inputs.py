"""Labels and predictions as the metrics take them, or the reason in words why they cannot be judged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conveyor.core.tasks import Task
from conveyor.gate.spread import Floats

MOST_CLASSES = 10_000


class Unjudged(Exception):
    """What was given cannot be judged; the text says why."""


def labels(given: Any, task: Task) -> NDArray[Any]:
    """Labels (n,): zeros and ones, numbers of classes, or numbers.

    Raises:
        Unjudged: they are others, some are missing, or they are no list of numbers.
    """
    try:
        y = np.asarray(given)
        numbers = y.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise Unjudged("the labels are no list of numbers") from None
    if y.ndim != 1:
        raise Unjudged(f"the labels have the shape {y.shape}, where a list is needed")
    missing = len(y) - int(np.isfinite(numbers).sum())
    if missing:
        raise Unjudged(f"{missing} of {len(y)} labels are missing or infinite")
    if task == "regression":
        return numbers
    most = 1 if task == "binary" else MOST_CLASSES
    odd = (numbers % 1 != 0) | (numbers < 0) | (numbers > most)
    if odd.any():
        kinds = "zeros and ones" if task == "binary" else "numbers of classes from 0"
        raise Unjudged(f"the labels are no {kinds}: there is {numbers[odd.argmax()]:g}")
    return numbers.astype(np.int64)


def predictions(given: Any, y: NDArray[Any], task: Task) -> Floats:
    """Predictions (n,), or for several classes (n x classes) with rows that sum to one; NaN where there is none.

    Raises:
        Unjudged: they are no numbers, or of another shape.
    """
    try:
        predicted = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise Unjudged("the predictions are no numbers") from None
    several = task == "multiclass"
    if predicted.shape[:1] != y.shape or predicted.ndim != 1 + several:
        need = f"{len(y)} rows and a column for each class" if several else f"({len(y)},)"
        raise Unjudged(f"the predictions have the shape {predicted.shape}, where {need} is needed")
    if several and len(y) and predicted.shape[1] <= int(y.max()):
        raise Unjudged(f"the predictions have {predicted.shape[1]} classes, and a label is of class {int(y.max())}")
    if not several:
        return predicted
    sums = predicted.sum(axis=1, keepdims=True)
    # A model times a number near one is the same model; rows that are no probabilities stay, and are refused later.
    near = np.abs(sums - 1) < 1e-3
    scaled: Floats = np.divide(predicted, sums, out=predicted.copy(), where=near)
    return scaled


def beside(y: NDArray[Any], groups: Any, segments: Any) -> NDArray[np.int64] | None:
    """The groups, numbered from zero without a gap; they and the segments are of these rows.

    Raises:
        Unjudged: there are more or fewer of them, or the groups are no list.
    """
    for name, given in (("groups", groups), ("segments", segments)):
        count = 0 if given is None else len(given) if hasattr(given, "__len__") else 1
        if given is not None and count != len(y):
            raise Unjudged(f"there are {name} for {count} rows, and labels for {len(y)}")
    if groups is None:
        return None
    try:
        numbers = np.unique(np.asarray(groups).ravel(), return_inverse=True)[1]
    except (TypeError, ValueError):
        raise Unjudged("the groups are no list of numbers, or of text") from None
    if len(numbers) != len(y):
        raise Unjudged(f"the groups have the shape {np.shape(groups)}, where a list is needed")
    return numbers.astype(np.int64)


def same(one: Floats, other: Floats, y: NDArray[Any], task: Task) -> bool:
    """Whether two models predict the same, but for rounding in the scale of the target without its largest tenth."""
    scale = float(np.quantile(np.abs(y), 0.9)) if task == "regression" and len(y) else 1.0
    return bool(np.allclose(one, other, rtol=1e-12, atol=1e-12 * scale))
