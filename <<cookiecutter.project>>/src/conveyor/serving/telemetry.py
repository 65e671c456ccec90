"""The counters of the server, for Prometheus. Labels are paths, statuses, columns and classes: all bounded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from conveyor.model.rows import Rows
from conveyor.model.signature import Column
from conveyor.serving.prediction_log import Log

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Observed:
    """The counters of a server.

    Args:
        columns: the columns of the model: differences from training are counted for each.
        classes: of a multiclass model, whose probabilities are counted separately; else empty.
        bounds: of the histogram of predictions, without the last one, which is infinite.
        about: labels of the model.
        logs: of predictions, and of labels.
    """

    def __init__(
        self,
        columns: list[Column],
        classes: list[str],
        bounds: list[float],
        about: dict[str, str],
        logs: Sequence[Log],
    ) -> None:
        # It adds an unused time to each counter. The library has types, but this function has none.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        new: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter("requests", "Requests by path and status.", ["path", "status"], **new)
        self.seconds = Histogram(
            "predict_seconds", "From the whole request for /predict to its answer.", buckets=SECONDS, **new
        )
        self._rows = Counter("rows", "Rows answered.", **new)
        self.labels = Counter("labels", "Labels taken of /feedback.", **new)
        self._unseen = Counter("unseen_categories", "Texts that training did not see.", ["column"], **new)
        self._outside = Counter("out_of_range", "Numbers outside of the range of training.", ["column"], **new)
        self._missing = Counter("missing_values", "Values that were null.", ["column"], **new)
        Gauge("model", "The model that answers.", list(about), **new).labels(**about).set(1)
        self._predictions = _Predictions(classes, bounds)
        self._registry.register(self._predictions)
        if logs:
            self._registry.register(_Logs(logs))
        ProcessCollector(registry=self._registry)
        numbers = [column for column in columns if column.kind == "number"]
        self._low, self._high = np.array([column.range or (-np.inf, np.inf) for column in numbers]).reshape(-1, 2).T
        self._ranges = list(zip(self._low.tolist(), self._high.tolist(), strict=True))
        self._numbers = [
            (
                self._outside.labels(column.name) if column.range else None,
                self._missing.labels(column.name) if column.missing else None,
            )
            for column in numbers
        ]
        self._texts = [
            (column.name, column.categories, self._unseen.labels(column.name))
            for column in columns
            if column.categories is not None
        ]
        self._gaps = [
            (column.name, self._missing.labels(column.name))
            for column in columns
            if column.missing and column.kind != "number"
        ]

    def rows(self, rows: Rows, predicted: NDArray[np.float64]) -> None:
        """Count the rows of one request and the answers to them.

        Args:
            rows: their numbers are in the order of the model's columns.
        """
        self._rows.inc(len(predicted))
        self._predictions.add(predicted)
        if not self._within(rows.numbers):
            within = (self._low <= rows.numbers) & (rows.numbers <= self._high)
            missing = np.isnan(rows.numbers)
            counts = zip(self._numbers, (~(within | missing)).sum(axis=0), missing.sum(axis=0), strict=True)
            for counters, *found in counts:
                for counter, count in zip(counters, found, strict=True):
                    if count and counter:
                        counter.inc(int(count))
        for name, seen, unseen in self._texts:
            values = rows.others[name]
            if not seen.issuperset(values) and (new := sum(value not in seen for value in values if value is not None)):
                unseen.inc(new)
        for name, gaps in self._gaps:
            if None in rows.others[name]:
                gaps.inc(rows.others[name].count(None))

    def _within(self, numbers: NDArray[np.float64]) -> bool:
        """Whether all numbers are in the ranges of training; a missing one is not."""
        if len(numbers) == 1:  # arrays would take several times as long
            values = zip(numbers[0].tolist(), self._ranges, strict=True)
            return all(low <= value <= high for value, (low, high) in values)
        return bool(((self._low <= numbers) & (numbers <= self._high)).all())

    def text(self) -> bytes:
        """All counters, in the format of Prometheus."""
        return generate_latest(self._registry)


class _Predictions(Collector):
    """A histogram that takes all rows of a request at once."""

    def __init__(self, classes: list[str], bounds: list[float]) -> None:
        self._classes, self._bounds, self._listed = classes, np.asarray(bounds, dtype=np.float64), bounds
        self._counts = np.zeros((max(len(classes), 1), len(bounds) + 1), dtype=np.int64)
        self._sums = np.zeros(len(self._counts))
        self._first = np.arange(len(self._counts)) * self._counts.shape[1]  # the position of a class's first count

    def add(self, predicted: NDArray[np.float64]) -> None:
        """Count predictions, (n,) or (n x classes)."""
        if predicted.shape == (1,):  # arrays would take ten times as long
            value = float(predicted[0])
            self._counts[0, bisect_left(self._listed, value)] += 1
            self._sums[0] += value
            return
        values = predicted.reshape(len(predicted), -1)
        found = np.searchsorted(self._bounds, values)  # a bound belongs to the values below it
        found += self._first
        self._counts += np.bincount(found.ravel(), minlength=self._counts.size).reshape(self._counts.shape)
        self._sums += values.sum(axis=0)

    def collect(self) -> Iterator[Metric]:
        made = HistogramMetricFamily("prediction", "What was answered.", labels=["class"] if self._classes else [])
        names = [*map(str, self._bounds.tolist()), "+Inf"]
        for number, counts in enumerate(self._counts):
            buckets = list(zip(names, counts.cumsum().tolist(), strict=True))
            made.add_metric(self._classes[number : number + 1], buckets, self._sums[number])
        yield made


class _Logs(Collector):
    """The logs of predictions and labels together: their values at the time of reading."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = logs

    def collect(self) -> Iterator[Metric]:
        dropped, waiting = (sum(getattr(log, name) for log in self._logs) for name in ("dropped", "waiting"))
        failing = any(log.failing for log in self._logs)
        yield CounterMetricFamily("log_dropped_rows", "Rows that the log could not take.", value=dropped)
        yield GaugeMetricFamily("log_failing", "Whether the log could not be written last.", value=int(failing))
        yield GaugeMetricFamily("log_waiting_rows", "Rows that wait to be written.", value=waiting)
