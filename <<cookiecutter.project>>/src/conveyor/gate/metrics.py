"""The metrics of the gate. The team adds its own by gate.own_metrics of params.yaml, see conveyor/api.py.

A function takes the labels ``y`` (n,) and one model's predictions. It returns the input of its way to an interval (see
intervals.py): a quantity for each row, or a function of resampling weights. Labels and predictions by task:

    binary       zeros and ones, and the probability of a one (n,)
    multiclass   the number of the class, and the probability of each class (n x classes)
    regression   numbers (n,)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conveyor.core import tasks
from conveyor.core.errors import Misuse, at_fault
from conveyor.core.tasks import Task
from conveyor.core.team import imported
from conveyor.gate.intervals import Floats, Way, by_bootstrap, by_mean, by_placements

Labels = NDArray[Any]
Weights = NDArray[np.uint8]
Weighted = Callable[[Weights], Floats]


@dataclass(frozen=True)
class Metric:
    """A function, the way to its interval, and whether a larger value is better."""

    function: Callable[[Labels, Floats], Any]
    way: Way
    higher_is_better: bool


def chosen(predicted: Floats) -> NDArray[np.int64]:
    """The predicted class of each row (n,): the likeliest one; at a probability of one half the positive one."""
    return (predicted >= 0.5).astype(np.int64) if predicted.ndim == 1 else predicted.argmax(axis=1)


def roc_auc(y: Labels, predicted: Floats) -> Floats:
    """For each row the share of the other class that it is ranked right against; the area is their mean over a class.

    Computed from midranks in O(n log n), as in X. Sun and W. Xu, "Fast implementation of DeLong's algorithm for
    comparing the areas under correlated receiver operating characteristic curves", IEEE Signal Processing Letters 21
    (2014).
    """
    from scipy.stats import rankdata

    positive = y == 1
    m, n = positive.sum(), (~positive).sum()
    among_all = rankdata(predicted)
    placed = np.empty(len(y))
    placed[positive] = (among_all[positive] - rankdata(predicted[positive])) / n
    placed[~positive] = 1.0 - (among_all[~positive] - rankdata(predicted[~positive])) / m
    return placed


def log_loss(y: Labels, predicted: Floats) -> Floats:
    """Negative log-likelihood in nats; probabilities are clipped at machine precision, as scikit-learn does."""
    tiny = np.finfo(np.float64).eps
    clipped = np.clip(predicted, tiny, 1.0 - tiny)
    if predicted.ndim == 1:
        return -np.where(y == 1, np.log(clipped), np.log1p(-clipped))
    return -np.log(clipped[np.arange(len(y)), y])


def brier(y: Labels, predicted: Floats) -> Floats:
    """Squared distance between probability and outcome. G. Brier, Monthly Weather Review 78 (1950).

    For two classes that of the positive one, as usual; for more, the sum over the classes.
    """
    if predicted.ndim == 1:
        return (predicted - y) ** 2
    squared: Floats = np.sum((predicted - np.eye(predicted.shape[1])[y]) ** 2, axis=1)
    return squared


def accuracy(y: Labels, predicted: Floats) -> Floats:
    """Whether the likeliest class is the right one."""
    right: Floats = (chosen(predicted) == y).astype(np.float64)
    return right


def mae(y: Labels, predicted: Floats) -> Floats:
    """Absolute error, in units of the target."""
    return np.abs(predicted - y)


def average_precision(y: Labels, predicted: Floats) -> Weighted:
    """Mean of the precision at the rank of each positive; tied rows share one threshold, as in scikit-learn."""
    order = np.argsort(-predicted, kind="stable")
    ranked, positive = predicted[order], np.flatnonzero(y[order] == 1)
    last = np.searchsorted(-ranked, -ranked[positive], side="right") - 1  # the end of each positive's tied rows
    upto = np.searchsorted(positive, last, side="right") - 1

    def value(weights: Weights) -> Floats:
        drawn = np.take(weights, order, axis=1)
        found = np.take(drawn, positive, axis=1)
        above = np.take(np.cumsum(drawn, axis=1, dtype=np.int32), last, axis=1)
        hits = np.take(np.cumsum(found, axis=1, dtype=np.int32), upto, axis=1)
        # No row is drawn down to this threshold: then no positive is found.
        precision = np.divide(hits, np.maximum(above, 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: Floats = (found * precision).sum(axis=1) / found.sum(axis=1)
        return mean

    return value


def f1(y: Labels, predicted: Floats) -> Weighted:
    """Harmonic mean of precision and recall: for the positive class, or for more classes their mean (macro).

    A class that is neither present nor predicted counts as zero, as in scikit-learn.
    """
    classes = 2 if predicted.ndim == 1 else predicted.shape[1]
    cell = y * classes + chosen(predicted)
    order = np.argsort(cell, kind="stable")
    cells, begins = np.unique(cell[order], return_index=True)

    def value(weights: Weights) -> Floats:
        table = np.zeros((len(weights), classes * classes))
        table[:, cells] = np.add.reduceat(np.take(weights, order, axis=1), begins, axis=1, dtype=np.int64)
        table = table.reshape(-1, classes, classes)
        right = np.diagonal(table, axis1=1, axis2=2)
        of_class: Floats = 2 * right / np.maximum(table.sum(axis=1) + table.sum(axis=2), 1)
        mean: Floats = of_class[:, 1] if predicted.ndim == 1 else of_class.mean(axis=1)
        return mean

    return value


def rmse(y: Labels, predicted: Floats) -> Weighted:
    """Root of the mean squared error, in units of the target."""
    squared = (predicted - y) ** 2
    return lambda weights: np.sqrt(weights @ squared / weights.sum(axis=1))


def r2(y: Labels, predicted: Floats) -> Weighted:
    """Share of the target's variance that the model explains."""
    centred = y - y.mean()  # keeps precision: the variance of large numbers would be lost in their squares
    squared = np.stack([(predicted - y) ** 2, centred, centred**2], axis=1)

    def value(weights: Weights) -> Floats:
        error, first, second = (weights @ squared).T
        with np.errstate(invalid="ignore", divide="ignore"):
            explained: Floats = 1.0 - error / (second - first**2 / weights.sum(axis=1))
        return explained

    return value


METRICS = {
    "roc_auc": Metric(roc_auc, by_placements, higher_is_better=True),
    "average_precision": Metric(average_precision, by_bootstrap, higher_is_better=True),
    "log_loss": Metric(log_loss, by_mean, higher_is_better=False),
    "brier": Metric(brier, by_mean, higher_is_better=False),
    "accuracy": Metric(accuracy, by_mean, higher_is_better=True),
    "f1": Metric(f1, by_bootstrap, higher_is_better=True),
    "rmse": Metric(rmse, by_bootstrap, higher_is_better=False),
    "mae": Metric(mae, by_mean, higher_is_better=False),
    "r2": Metric(r2, by_bootstrap, higher_is_better=True),
}


def value(metric: Metric, y: Labels, predicted: Floats) -> float:
    """The metric of one model, without an interval.

    Raises:
        ValueError: it cannot be computed, such as an area with rows of one class.
    """
    made = metric.function(y, predicted)
    if callable(made):
        return float(made(np.ones((1, len(y)), dtype=np.uint8))[0])
    return metric.way(lambda *_: made, y, [predicted], None).alone[0].value


def of_task(task: Task) -> dict[str, Metric]:
    """The metrics of a task, by name; the team's own ones are for the task that it has."""
    return {name: metric for name, metric in METRICS.items() if name in {*tasks.of_task(task), *_own}}


def _held(name: str, file: Path, metric: Metric) -> Callable[[Labels, Floats], Any]:
    """The function of a team's metric, checked against its way; its errors and wrong results become one line."""

    def said(given: Callable[[], Any]) -> Any:
        try:
            return given()
        except (Exception, SystemExit) as error:
            raise at_fault(error, file, f"mend the metric {name}") from error

    def numbers(given: Any, length: int, what: str) -> Floats:
        values: Floats = said(lambda: np.asarray(given, dtype=np.float64))
        if values.shape != (length,):
            raise Misuse(f"{file.name}: the metric {name} gives an array of shape {values.shape} for {length} {what}")
        return values

    def function(y: Labels, predicted: Floats) -> Any:
        made = said(lambda: metric.function(y, predicted))
        if metric.way is by_mean:
            values = numbers(made, len(y), "rows")
            if not np.isfinite(values).all():
                raise Misuse(f"{file.name}: the metric {name} gives no finite number for some rows; mend it")
            return values
        if not callable(made):
            raise Misuse(f"{file.name}: the metric {name} gives no function of weights, as by_bootstrap wants; mend it")
        # Floats, so that sums do not overflow: only the gate's own functions expect weights as bytes.
        return lambda weights: numbers(said(lambda: made(weights.astype(np.float64))), len(weights), "sets of weights")

    return function


_own: set[str] = set()  # names of the team's metrics in METRICS


def add(own: Mapping[str, str]) -> None:
    """Add the team's metrics to the gate, and remove those of an earlier call.

    Args:
        own: gate.own_metrics of params.yaml.

    Raises:
        Misuse: a module does not load, or a name is no ``Metric``.
    """
    for name in _own:
        del METRICS[name]
    _own.clear()
    for name, reference in own.items():
        module, _, attribute = reference.partition(":")
        file, loaded = imported(module, f"gate.own_metrics.{name}")
        metric = getattr(loaded, attribute, None)
        where = f"params.yaml: gate.own_metrics.{name}: {attribute} of {file.name}"
        if not isinstance(metric, Metric):
            raise Misuse(f"{where} is no Metric of conveyor.api; define it as one")
        if not callable(metric.function) or metric.way not in (by_mean, by_bootstrap):
            raise Misuse(f"{where} wants a function and by_mean or by_bootstrap, in this order; mend it")
        METRICS[name] = replace(metric, function=_held(name, file, metric))
        _own.add(name)
