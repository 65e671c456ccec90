"""The metrics of the gate. The team adds its own by gate.own_metrics of params.yaml, see conveyor/api.py.

A function takes the labels ``y`` (n,) and one model's predictions; a metric of classes also takes the threshold of the
positive class. It returns the input of its way to an interval (see intervals.py): a quantity for each row, or a
function of resampling weights. Labels and predictions by task:

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
from conveyor.core.tasks import Task, chosen
from conveyor.core.team import imported
from conveyor.gate.intervals import Sums, Way, below, by_bootstrap, by_mean, by_placements, by_sums
from conveyor.gate.spread import ENDS, Ends, Floats, Scale

Labels = NDArray[Any]
Weights = NDArray[np.uint8]


@dataclass(frozen=True)
class Metric:
    """A function, the way to its interval, whether a larger value is better, which values there are,
    and whether it takes the threshold.

    With ``by_threshold`` the function has a third argument, gate.threshold of params.yaml; see ``at``.
    """

    function: Callable[..., Any]
    way: Way
    higher_is_better: bool
    scale: Scale = "any"
    by_threshold: bool = False

    def ends(self, predicted: Floats) -> Ends:
        """The ends of the range of its values, of such predictions."""
        return Ends(0, 2) if self.scale == "distance" and predicted.ndim > 1 else ENDS[self.scale]


def at(metric: Metric, threshold: float) -> Metric:
    """The metric with its threshold bound: a function of labels and predictions alone."""
    if not metric.by_threshold:
        return metric
    function = metric.function
    return replace(metric, function=lambda y, predicted: function(y, predicted, threshold), by_threshold=False)


def roc_auc(y: Labels, predicted: Floats) -> Floats:
    """For each row the share of the other class that it is ranked right against; the area is their mean over a class.

    Computed from one sort, in the manner of X. Sun and W. Xu, "Fast implementation of DeLong's algorithm for comparing
    the areas under correlated receiver operating characteristic curves", IEEE Signal Processing Letters 21 (2014).
    """
    positive = y == 1
    m, n = positive.sum(), (~positive).sum()
    order = np.argsort(predicted, kind="stable")
    ranked, of_positive = predicted[order], positive[order]
    lost, won = below(ranked, of_positive), below(ranked, ~of_positive)
    placed = np.empty(len(y))
    placed[order] = np.where(of_positive, won / max(n, 1), 1.0 - lost / max(m, 1))
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


def accuracy(y: Labels, predicted: Floats, threshold: float) -> Floats:
    """Whether the chosen class is the right one."""
    right: Floats = (chosen(predicted, threshold) == y).astype(np.float64)
    return right


def mae(y: Labels, predicted: Floats) -> Floats:
    """Absolute error, in units of the target."""
    return np.abs(predicted - y)


class Ranking:
    """The average precision as a function of weights, and how each row moves it."""

    def __init__(self, y: Labels, predicted: Floats) -> None:
        self.order = np.argsort(-predicted, kind="stable")
        ranked = predicted[self.order]
        self.positive = np.flatnonzero(y[self.order] == 1)
        # The end of each positive's tied rows, and the last positive up to there.
        self.last = np.searchsorted(-ranked, -ranked[self.positive], side="right") - 1
        self.upto = np.searchsorted(self.positive, self.last, side="right") - 1
        self.first = np.searchsorted(-ranked, -ranked, side="left")

    def __call__(self, weights: Weights) -> Floats:
        drawn = np.take(weights, self.order, axis=1)
        found = np.take(drawn, self.positive, axis=1)
        above = np.take(np.cumsum(drawn, axis=1, dtype=np.int32), self.last, axis=1)
        hits = np.take(np.cumsum(found, axis=1, dtype=np.int32), self.upto, axis=1)
        # No row is drawn down to this threshold: then no positive is found.
        precision = np.divide(hits, np.maximum(above, 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: Floats = (found * precision).sum(axis=1) / found.sum(axis=1)
        return mean

    def influence(self) -> Floats:
        """The derivative of the value by each row's weight (n,), where all weights are one."""
        above, hits = self.last + 1.0, self.upto + 1.0
        value = float(np.mean(hits / above))
        # A row counts at the thresholds of all positives that are not ranked above it.
        at_or_below = np.searchsorted(self.positive, self.first, side="left")
        gained, lost = (np.append(np.cumsum(each[::-1])[::-1], 0.0) for each in (1 / above, hits / above**2))
        moved = -lost[at_or_below]
        moved[self.positive] += gained[at_or_below[self.positive]] + hits / above - value
        influence = np.empty(len(moved))
        influence[self.order] = moved / max(len(self.positive), 1)
        return influence


def average_precision(y: Labels, predicted: Floats) -> Ranking:
    """Mean of the precision at the rank of each positive; tied rows share one threshold, as in scikit-learn."""
    return Ranking(y, predicted)


# Metrics of the confusion table by its margins: rows of each class, rows for which it is chosen, and rows of both.


@dataclass(frozen=True)
class Table:
    """Numbers of rows, each (..., classes)."""

    right: Floats
    true: Floats
    chosen: Floats


def confusion(y: Labels, predicted: Floats, threshold: float, combine: Callable[[Table], Floats]) -> Sums:
    """A function of the confusion table."""
    classes = 2 if predicted.ndim == 1 else predicted.shape[1]
    said = chosen(predicted, threshold)
    # Each row counts in three cells; a wrong one in the last instead of the first.
    cell = np.stack([np.where(y == said, y, 3 * classes), classes + y, 2 * classes + said], axis=1)

    def of_table(sums: Floats) -> Floats:
        counts = sums[..., 0]
        return combine(
            Table(counts[..., :classes], counts[..., classes : 2 * classes], counts[..., 2 * classes : 3 * classes])
        )

    return Sums(np.ones((len(y), 1)), of_table, cell, 3 * classes + 1)


def _share(part: Floats, whole: Floats) -> Floats:
    """The quotient; zero where there is nothing to divide by, as in scikit-learn."""
    made: Floats = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return made


def _averaged(of_class: Floats, predicted: Floats) -> Floats:
    """The value of the positive class, or the mean over several (macro)."""
    made: Floats = of_class[..., 1] if predicted.ndim == 1 else of_class.mean(axis=-1)
    return made


def precision(y: Labels, predicted: Floats, threshold: float) -> Sums:
    """Of the rows that are called positive, the share that is; for several classes the mean over them (macro).

    A class that is never chosen counts as zero, as in scikit-learn.
    """
    return confusion(y, predicted, threshold, lambda table: _averaged(_share(table.right, table.chosen), predicted))


def recall(y: Labels, predicted: Floats, threshold: float) -> Sums:
    """Of the positive rows, the share that is called so; for several classes the mean over them (macro).

    A class without rows counts as zero, as in scikit-learn.
    """
    return confusion(y, predicted, threshold, lambda table: _averaged(_share(table.right, table.true), predicted))


def balanced_accuracy(y: Labels, predicted: Floats, threshold: float) -> Sums:
    """Mean over the classes of the share of their rows that is found; a class without rows does not count.

    K. Brodersen et al., "The Balanced Accuracy and Its Posterior Distribution", ICPR (2010).
    """

    def combine(table: Table) -> Floats:
        recalls = _share(table.right, table.true)
        made: Floats = recalls.sum(axis=-1) / np.maximum((table.true > 0).sum(axis=-1), 1)
        return made

    return confusion(y, predicted, threshold, combine)


def f1(y: Labels, predicted: Floats, threshold: float) -> Sums:
    """Harmonic mean of precision and recall: for the positive class, or for several classes their mean (macro).

    A class that is neither present nor chosen counts as zero, as in scikit-learn.
    """

    def combine(table: Table) -> Floats:
        return _averaged(_share(2 * table.right, table.true + table.chosen), predicted)

    return confusion(y, predicted, threshold, combine)


def rmse(y: Labels, predicted: Floats) -> Sums:
    """Root of the mean squared error, in units of the target."""
    squared = np.stack([np.ones(len(y)), (predicted - y) ** 2], axis=1)
    return Sums(squared, lambda sums: np.sqrt(np.maximum(sums[..., 0, 1], 0) / sums[..., 0, 0]))


def r2(y: Labels, predicted: Floats) -> Sums:
    """Share of the target's variance that the model explains."""
    centred = y - y.mean()  # keeps precision: the variance of large numbers would be lost in their squares
    squared = np.stack([np.ones(len(y)), (predicted - y) ** 2, centred, centred**2], axis=1)

    def combine(sums: Floats) -> Floats:
        count, error, first, second = np.moveaxis(sums[..., 0, :], -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            explained: Floats = 1.0 - error / (second - first**2 / count)
        return explained

    return Sums(squared, combine)


METRICS = {
    "roc_auc": Metric(roc_auc, by_placements, higher_is_better=True, scale="share"),
    "average_precision": Metric(average_precision, by_bootstrap, higher_is_better=True, scale="share"),
    "log_loss": Metric(log_loss, by_mean, higher_is_better=False, scale="loss"),
    "brier": Metric(brier, by_mean, higher_is_better=False, scale="distance"),
    "accuracy": Metric(accuracy, by_mean, higher_is_better=True, scale="share", by_threshold=True),
    "balanced_accuracy": Metric(balanced_accuracy, by_sums, higher_is_better=True, scale="share", by_threshold=True),
    "precision": Metric(precision, by_sums, higher_is_better=True, scale="share", by_threshold=True),
    "recall": Metric(recall, by_sums, higher_is_better=True, scale="share", by_threshold=True),
    "f1": Metric(f1, by_sums, higher_is_better=True, scale="share", by_threshold=True),
    "rmse": Metric(rmse, by_sums, higher_is_better=False, scale="loss"),
    "mae": Metric(mae, by_mean, higher_is_better=False, scale="loss"),
    "r2": Metric(r2, by_sums, higher_is_better=True, scale="up to one"),
}


def value(metric: Metric, y: Labels, predicted: Floats) -> float:
    """The metric of one model, without an interval; its threshold is bound, see ``at``.

    Raises:
        ValueError: it cannot be computed, such as an area with rows of one class.
    """
    made = metric.function(y, predicted)
    if isinstance(made, Sums):
        return float(made.weighted(np.ones((1, len(y)), dtype=np.uint8))[0])
    if callable(made):
        return float(made(np.ones((1, len(y)), dtype=np.uint8))[0])
    return metric.way(lambda *_: made, y, [predicted], None).alone[0].value


def of_task(task: Task) -> dict[str, Metric]:
    """The metrics of a task, by name; the team's own ones are for the task that it has."""
    return {name: metric for name, metric in METRICS.items() if name in {*tasks.of_task(task), *_own}}


def _held(name: str, file: Path, metric: Metric) -> Callable[..., Any]:
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

    def function(y: Labels, predicted: Floats, *threshold: float) -> Any:
        made = said(lambda: metric.function(y, predicted, *threshold))
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
