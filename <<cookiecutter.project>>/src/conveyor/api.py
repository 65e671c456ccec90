"""The names that the team's code may import: only this module keeps its names from version to version.

Frozen
    The base class of ``Params`` in model.py: frozen, and strict about keys and types.
Misuse
    Raise it with one line that says what is wrong and how to fix it: the command ends with exit code 2.
Metric
    A metric of your own: ``Metric(function, way, higher_is_better=True)``. Name it in gate.own_metrics of params.yaml.
    gate/metrics.py has nine examples. ``function(y, predicted)`` gets labels and predictions of n rows.
by_mean
    The way to an interval if the function returns one number per row (n,), whose mean is the metric.
by_bootstrap
    The way to an interval if the function returns a function of weights (k x n) to k values. The recall, for example:
    ``lambda y, p: lambda weights: (weights @ ((p >= 0.5) & (y == 1))) / (weights @ (y == 1))``
"""

from conveyor.core.errors import Misuse
from conveyor.core.frozen import Frozen
from conveyor.gate.intervals import by_bootstrap, by_mean
from conveyor.gate.metrics import Metric

__all__ = ["Frozen", "Metric", "Misuse", "by_bootstrap", "by_mean"]
