"""What the team's code may import from the machinery: this module alone keeps its names from version to version.

Frozen
    The class that ``Params`` in model.py derives from: frozen, and strict about keys and types.
Misuse
    Raise it with one line that says what is wrong and how to mend it: the command ends with exit code 2.
Metric
    A metric of your own, ``Metric(function, way, higher_is_better=True)``, which gate.own_metrics of params.yaml names;
    gate/metrics.py shows nine of them. ``function(y, predicted)`` gets labels and predictions of n rows.
by_mean
    Its way to an interval, where the function gives a number for each row (n,), whose mean is the metric.
by_bootstrap
    Its way, where the function gives a function of weights (k x n) to k values. The recall, for example:
    ``lambda y, p: lambda weights: (weights @ ((p >= 0.5) & (y == 1))) / (weights @ (y == 1))``
"""

from conveyor.core.errors import Misuse
from conveyor.core.frozen import Frozen
from conveyor.gate.intervals import by_bootstrap, by_mean
from conveyor.gate.metrics import Metric

__all__ = ["Frozen", "Metric", "Misuse", "by_bootstrap", "by_mean"]
