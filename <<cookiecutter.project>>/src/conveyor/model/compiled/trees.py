"""Trees of scikit-learn as one ONNX node with 64-bit thresholds and weights: the same decision at each threshold.

The converters of skl2onnx write thresholds as 32-bit numbers, and a row beside a threshold then takes the other branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conveyor.core.errors import Misuse

LEQ, SUM, NONE = 0, 1, 0  # of the operator TreeEnsemble: branch by <=, sum of the trees, no function afterwards


@dataclass(frozen=True)
class Tree:
    """A tree; each array has one value per node.

    Attributes:
        leaf: whether the node is a leaf.
        feature, threshold: a row with feature <= threshold goes left.
        left, right: the numbers of the two next nodes.
        gap_left: whether a row with a missing feature goes left.
        weight: what a leaf adds to the answer.
        target: the column of the answer that it adds to.
    """

    leaf: NDArray[np.bool_]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    gap_left: NDArray[np.bool_]
    weight: NDArray[np.float64]
    target: int


def of_boosting(model: Any) -> Iterator[Tree]:
    """The trees of a HistGradientBoosting model.

    Raises:
        Misuse: a tree splits by categories.
    """
    for iteration in model._predictors:
        for target, tree in enumerate(iteration):
            nodes = tree.nodes
            if nodes["is_categorical"].any():
                raise Misuse("a tree splits by categories")
            yield Tree(
                leaf=nodes["is_leaf"].astype(bool),
                feature=nodes["feature_idx"].astype(np.int64),
                threshold=nodes["num_threshold"],
                left=nodes["left"].astype(np.int64),
                right=nodes["right"].astype(np.int64),
                gap_left=nodes["missing_go_to_left"].astype(bool),
                weight=nodes["value"],
                target=target,
            )


def of_forest(model: Any) -> Iterator[Tree]:
    """The trees of a forest, or a single tree; their weights add up to the answer: the number, or one per class.

    For two classes only the second one is computed.

    Raises:
        Misuse: the model has several targets.
    """
    if model.n_outputs_ != 1:
        raise Misuse("the model has several targets")
    trees = [grown.tree_ for grown in getattr(model, "estimators_", [model])]
    for tree in trees:
        values = tree.value[:, 0, :]
        if hasattr(model, "classes_"):
            values = values / values.sum(axis=1, keepdims=True)
        for target, weight in enumerate(values.T[1:] if values.shape[1] == 2 else values.T):
            yield _rounding(tree, weight / len(trees), target)


def of_gradient_boosting(model: Any) -> Iterator[Tree]:
    """The trees of a GradientBoosting model."""
    for iteration in model.estimators_:
        for target, grown in enumerate(iteration):
            yield _rounding(grown.tree_, grown.tree_.value[:, 0, 0] * model.learning_rate, target)


def _rounding(tree: Any, weight: NDArray[np.float64], target: int) -> Tree:
    """A tree that rounds its inputs to 32 bits before it compares them."""
    return Tree(
        leaf=tree.children_left < 0,
        feature=tree.feature,
        threshold=_before_rounding(tree.threshold),
        left=tree.children_left,
        right=tree.children_right,
        gap_left=tree.missing_go_to_left.astype(bool),
        weight=weight,
        target=target,
    )


def _before_rounding(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest 64-bit numbers that are at most ``threshold`` once they are rounded to 32 bits."""
    with np.errstate(over="ignore"):
        low = threshold.astype(np.float32)
        low = np.where(low > threshold, np.nextafter(low, np.float32(-np.inf)), low)
        above = np.nextafter(low, np.float32(np.inf))
        middle = (low.astype(np.float64) + above.astype(np.float64)) / 2  # exact; it rounds to the even one of both
        return np.where(middle.astype(np.float32) == low, middle, np.nextafter(middle, -np.inf))


def node(trees: Iterator[Tree], targets: int) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """The attributes of an operator TreeEnsemble (ai.onnx.ml 5) that adds up trees, and a constant for its answer.

    Args:
        targets: columns of the answer.
    """
    from onnx import numpy_helper

    base, count, leaves = np.zeros(targets), 0, 0
    parts: dict[str, list[NDArray[Any]]] = {}
    for tree in trees:
        if tree.leaf[0]:  # the operator has no tree of a single leaf
            base[tree.target] += tree.weight[0]
            continue
        branch = ~tree.leaf
        # Branches and leaves have separate numbers.
        number = np.where(tree.leaf, np.cumsum(tree.leaf) - 1 + leaves, np.cumsum(branch) - 1 + count)
        made = {
            "tree_roots": np.array([count]),
            "nodes_featureids": tree.feature[branch],
            "nodes_splits": tree.threshold[branch],
            "nodes_truenodeids": number[tree.left[branch]],
            "nodes_trueleafs": tree.leaf[tree.left[branch]].astype(np.int64),
            "nodes_falsenodeids": number[tree.right[branch]],
            "nodes_falseleafs": tree.leaf[tree.right[branch]].astype(np.int64),
            "nodes_missing_value_tracks_true": tree.gap_left[branch].astype(np.int64),
            "leaf_weights": tree.weight[tree.leaf],
            "leaf_targetids": np.full(int(tree.leaf.sum()), tree.target),
        }
        for name, values in made.items():
            parts.setdefault(name, []).append(values)
        count, leaves = count + int(branch.sum()), leaves + int(tree.leaf.sum())
    if not parts:
        raise Misuse("no tree has a branch")
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    attributes: dict[str, Any] = {
        name: numpy_helper.from_array(values.astype(np.float64)) if name in ("nodes_splits", "leaf_weights") else values
        for name, values in joined.items()
    }
    attributes["nodes_modes"] = numpy_helper.from_array(np.full(count, LEQ, dtype=np.uint8))
    return attributes | {"n_targets": targets, "aggregate_function": SUM, "post_transform": NONE}, base
