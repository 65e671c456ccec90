"""The tasks of a model and the names of their metrics; the gate holds the functions."""

from __future__ import annotations

from typing import Literal

Task = Literal["binary", "multiclass", "regression"]

CLASSES: tuple[Task, ...] = ("binary", "multiclass")
METRICS: dict[str, tuple[Task, ...]] = {
    "roc_auc": ("binary",),
    "average_precision": ("binary",),
    "log_loss": CLASSES,
    "brier": CLASSES,
    "accuracy": CLASSES,
    "f1": CLASSES,
    "rmse": ("regression",),
    "mae": ("regression",),
    "r2": ("regression",),
}


def of_task(task: Task) -> tuple[str, ...]:
    """The names of the metrics of a task."""
    return tuple(name for name, tasks in METRICS.items() if task in tasks)
