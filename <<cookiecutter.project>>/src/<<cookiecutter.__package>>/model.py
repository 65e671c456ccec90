"""Yours to change: what is trained. The rest of the pipeline knows no more of the model than this file says."""

from __future__ import annotations

from typing import Any, Literal

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from conveyor.api import Frozen

CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = ["distance", "weekday", "departure_minute", "temp", "humid", "wind_speed", "precip", "pressure", "visib"]


class Params(Frozen):
    """What stands under model.params in params.yaml: the estimator, and options of each by scikit-learn's names.

    ``degree`` is of the logistic regression: with 2 it also gets the squares and products of the numbers.
    """

    estimator: Literal["logistic", "forest", "boosting"]
    degree: Literal[1, 2] = 1
    logistic: dict[str, Any] = {}
    forest: dict[str, Any] = {}
    boosting: dict[str, Any] = {}


def build(params: Params, seed: int) -> Pipeline:
    """An unfitted pipeline from the feature columns to the probability of the positive class.

    Raises:
        TypeError: the estimator knows no such option.
    """
    estimator = {
        "logistic": LogisticRegression,
        "forest": RandomForestClassifier,
        "boosting": HistGradientBoostingClassifier,
    }[params.estimator](**getattr(params, params.estimator), random_state=seed)
    # A new destination must not break a prediction: an unseen category is none of the known ones, all zeros.
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [SimpleImputer(strategy="median")]
    if params.estimator == "logistic":  # trees ask for the order of numbers alone, which no scale changes
        steps.append(StandardScaler())
        if params.degree > 1:
            steps += [PolynomialFeatures(params.degree, include_bias=False), StandardScaler()]
    columns = ColumnTransformer([("categories", categories, CATEGORIES), ("numbers", make_pipeline(*steps), NUMBERS)])
    return Pipeline([("columns", columns), ("estimator", estimator)])
