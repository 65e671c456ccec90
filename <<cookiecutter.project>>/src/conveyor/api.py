"""The names that the team's code may import: only this module keeps its names from version to version.

Frozen
    The base class of ``Params`` in model.py: frozen, and strict about keys and types.
Misuse
    Raise it with one line that says what is wrong and how to fix it: the command ends with exit code 2.
Metric
    A metric of your own: ``Metric(function, way, higher_is_better=True)``. Name it in gate.own_metrics of params.yaml.
    gate/metrics.py has twelve examples. ``function(y, predicted)`` gets labels and predictions of n rows; with
    ``by_threshold=True`` it is called as ``function(y, predicted, threshold)``, with gate.threshold of params.yaml.
by_mean
    The way to an interval if the function returns one number per row (n,), whose mean is the metric.
by_bootstrap
    The way to an interval if the function returns a function of weights (k x n) to k values. The specificity, for
    example, with ``by_threshold=True``:
    ``lambda y, p, threshold: lambda weights: (weights @ ((p < threshold) & (y == 0))) / (weights @ (y == 0))``
"""

from conveyor.core.errors import Misuse
from conveyor.core.frozen import Frozen
from conveyor.gate.intervals import by_bootstrap, by_mean
from conveyor.gate.metrics import Metric

__all__ = ["Frozen", "Metric", "Misuse", "by_bootstrap", "by_mean"]
