"""What the team's code may import from the machinery: this module alone keeps its names from version to version.

Frozen          the class that ``Params`` in model.py derives from: frozen, and strict about keys and types
Misuse          raise it with one line that says what is wrong and how to mend it: the command ends with 2
Metric          a metric of your own, which gate.own_metrics of params.yaml names:
                Metric(function, way, higher_is_better); gate/metrics.py shows nine of them
by_mean         its way to an interval, where the function gives a number for each row and the metric is their mean
by_bootstrap    its way, where the function gives a function of resampling weights
"""

from conveyor.core.errors import Misuse
from conveyor.core.frozen import Frozen
from conveyor.gate.intervals import by_bootstrap, by_mean
from conveyor.gate.metrics import Metric

__all__ = ["Frozen", "Metric", "Misuse", "by_bootstrap", "by_mean"]
