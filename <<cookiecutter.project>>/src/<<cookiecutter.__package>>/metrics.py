"""The metrics of the gate. To add one: write its function and one line in ``METRICS``.

Every function takes the labels ``y`` (n zeros and ones) and the predictions of one or more models ``scores``
(models x n, probabilities of the positive class) and returns the values (one per model) and their covariance
(models x models). Two models scored on the same rows share their luck with the rows: the covariance is what makes
the difference of two values precise although each value alone is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Estimate = tuple[Floats, Floats]


def roc_auc(y: NDArray[np.int64], scores: Floats) -> Estimate:
    """Area under the ROC curve, with the covariance of DeLong et al.

    E. DeLong, D. DeLong, D. Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", Biometrics 44 (1988); computed from midranks in O(n log n) as in X. Sun, W. Xu, "Fast
    implementation of DeLong's algorithm", IEEE Signal Processing Letters 21 (2014).

    Raises:
        ValueError: one of the two classes has no row.
    """
    from scipy.stats import rankdata

    positive, negative = scores[:, y == 1], scores[:, y == 0]
    m, n = positive.shape[1], negative.shape[1]
    if not m or not n:
        raise ValueError("roc_auc needs rows of both classes")
    among_all = rankdata(np.hstack([positive, negative]), axis=1)
    # For each positive row the share of negatives below it, and for each negative the share of positives above it.
    won = (among_all[:, :m] - rankdata(positive, axis=1)) / n
    lost = 1.0 - (among_all[:, m:] - rankdata(negative, axis=1)) / m
    return won.mean(axis=1), _covariance(won) / m + _covariance(lost) / n


def _covariance(rows: Floats) -> Floats:
    """Sample covariance (models x models); infinite where one row leaves nothing to estimate it from."""
    models, count = rows.shape
    return np.full((models, models), np.inf) if count < 2 else np.atleast_2d(np.cov(rows))


def _mean(per_row: Floats) -> Estimate:
    """Mean of a quantity of each row (models x n), with the covariance that the central limit theorem gives it."""
    return per_row.mean(axis=1), _covariance(per_row) / per_row.shape[1]


def log_loss(y: NDArray[np.int64], scores: Floats) -> Estimate:
    """Mean negative log-likelihood in nats; probabilities are clipped at machine precision, as scikit-learn does."""
    tiny = np.finfo(np.float64).eps
    clipped = np.clip(scores, tiny, 1.0 - tiny)
    return _mean(-np.where(y == 1, np.log(clipped), np.log1p(-clipped)))


def brier(y: NDArray[np.int64], scores: Floats) -> Estimate:
    """Mean squared difference of probability and outcome. G. Brier, Monthly Weather Review 78 (1950)."""
    return _mean((scores - y) ** 2)


def accuracy(y: NDArray[np.int64], scores: Floats) -> Estimate:
    """Share of rows on the right side of one half."""
    return _mean(((scores >= 0.5) == (y == 1)).astype(np.float64))


@dataclass(frozen=True)
class Metric:
    """A function of labels and predictions, and whether more of it is better."""

    function: Callable[[NDArray[np.int64], Floats], Estimate]
    higher_is_better: bool


METRICS = {
    "roc_auc": Metric(roc_auc, higher_is_better=True),
    "log_loss": Metric(log_loss, higher_is_better=False),
    "brier": Metric(brier, higher_is_better=False),
    "accuracy": Metric(accuracy, higher_is_better=True),
}
