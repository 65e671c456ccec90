"""The tasks of a model: the class that a prediction means, and the names of the metrics; the gate has the functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Task = Literal["binary", "multiclass", "regression"]

CLASSES: tuple[Task, ...] = ("binary", "multiclass")
METRICS: dict[str, tuple[Task, ...]] = {
    "roc_auc": ("binary",),
    "average_precision": ("binary",),
    "log_loss": CLASSES,
    "brier": CLASSES,
    "accuracy": CLASSES,
    "balanced_accuracy": CLASSES,
    "precision": CLASSES,
    "recall": CLASSES,
    "f1": CLASSES,
    "rmse": ("regression",),
    "mae": ("regression",),
    "r2": ("regression",),
}


def of_task(task: Task) -> tuple[str, ...]:
    """The names of the metrics of a task."""
    return tuple(name for name, tasks in METRICS.items() if task in tasks)


def plain(cell: object) -> str:
    """A class by one name, whatever its type: 1, 1.0 and true are the same one, as in the data."""
    text = str(cell)
    return {"true": "1", "false": "0"}.get(text.lower(), text.removesuffix(".0"))


def chosen(predicted: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """The predicted class of each row (n,): the gate measures it, and the service answers it.

    Args:
        predicted: the probability of the positive class (n,), or of each of several classes (n x classes).
        threshold: the least probability at which a row is positive; of several classes the likeliest one is chosen.
    """
    return (predicted >= threshold).astype("int64") if predicted.ndim == 1 else predicted.argmax(axis=1)


def chosen_of_list(said: list[float] | list[list[float]], threshold: float) -> list[int]:
    """The same of lists; for one row NumPy takes several times as long."""
    return [row.index(max(row)) if isinstance(row, list) else int(row >= threshold) for row in said]
