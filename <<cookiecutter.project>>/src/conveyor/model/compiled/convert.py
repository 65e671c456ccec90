"""A fitted pipeline as ONNX, with 64-bit numbers from its inputs to its answer, as in scikit-learn.

skl2onnx converts each step. This module converts the steps that skl2onnx would round to 32 bits, and then declares all
32-bit numbers as 64-bit ones. If a step still loses bits, the comparison in choice.py finds it.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from conveyor.core.errors import Misuse
from conveyor.model.compiled import graphs, trees


def convert(fitted: Any, kinds: dict[str, str], task: str, classes: int) -> bytes:
    """A fitted pipeline as ONNX. Its output is the answer; its inputs are those of ``graphs.joined``.

    Args:
        kinds: the kind of each feature, see ``kind_of_values``.

    Raises:
        Misuse: the kind of a column or the shape of the model has no such input or answer.
        Exception: skl2onnx cannot convert it.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    types = {"number": DoubleTensorType, "truth": DoubleTensorType, "text": StringTensorType}
    for name, kind in kinds.items():
        if kind not in types:
            raise Misuse(f"column {name!r} is of kind {kind}, which is neither a number nor text")
    if task != "regression" and len(fitted.classes_) != classes:
        raise Misuse("a class was not there to learn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints of the converter about its own source
        made = convert_sklearn(
            fitted,
            name="model",
            initial_types=[(name, types[kind]([None, 1])) for name, kind in kinds.items()],
            options=None if task == "regression" else {"zipmap": False},
            target_opset={"": 18, graphs.ML: graphs.KNOWN},
            custom_conversion_functions=_converters(),
            custom_shape_calculators=_shapes(),
        )
    graphs.named(made, list(kinds))
    graphs.doubled(made)
    graphs.pruned(made)
    graphs.joined(made, {kind: [n for n in kinds if kinds[n] == kind] for kind in graphs.JOINED})
    content: bytes = made.SerializeToString()
    return content


def _converters() -> dict[type, Any]:
    """Converters for the steps whose numbers skl2onnx would round."""
    from sklearn import ensemble, tree
    from sklearn.impute import SimpleImputer

    forests = ("RandomForest", "ExtraTrees")
    made = {SimpleImputer: _impute}
    for kind in ("Classifier", "Regressor"):
        made |= {getattr(ensemble, f"{name}{kind}"): _forest for name in forests}
        made |= {getattr(tree, f"{name}{kind}"): _forest for name in ("DecisionTree", "ExtraTree")}
        made |= {getattr(ensemble, f"{name}{kind}"): _boosting for name in ("GradientBoosting", "HistGradientBoosting")}
    return made


def _shapes() -> dict[type, Any]:
    """Shapes of the encoders whose numbers skl2onnx would declare as 32-bit ones, and so all steps after them."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.shape_calculators import one_hot_encoder, ordinal_encoder
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    def wide(calculate: Any) -> Any:
        def calculated(operator: Any) -> None:
            calculate(operator)
            given = operator.outputs[0].type
            if isinstance(given, FloatTensorType):
                operator.outputs[0].type = DoubleTensorType(given.shape)

        return calculated

    return {
        OneHotEncoder: wide(one_hot_encoder.calculate_sklearn_one_hot_encoder_output_shapes),
        OrdinalEncoder: wide(ordinal_encoder.calculate_sklearn_ordinal_encoder_output_shapes),
    }


class _Graph:
    """The graph to which a converter adds nodes."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def constant(self, values: Any) -> str:
        """Adds an array of 64-bit floats or of integers; returns its name."""
        from onnx import TensorProto

        values = np.asarray(values)
        kind = TensorProto.INT64 if values.dtype.kind == "i" else TensorProto.DOUBLE
        name: str = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(values.shape), values.ravel().tolist())
        return name

    def add(self, operator: str, *inputs: str, to: str | None = None, version: int = 13, **attributes: Any) -> str:
        """Adds an operator on the named inputs; returns the name of its output."""
        output = to or self._scope.get_unique_variable_name(operator)
        name = self._scope.get_unique_operator_name(operator)
        self._container.add_node(operator, list(inputs), [output], name=name, op_version=version, **attributes)
        return output


def _joined(scope: Any, operator: Any, container: Any) -> str:
    from skl2onnx.operator_converters.common import concatenate_variables

    name: str = concatenate_variables(scope, operator.inputs, container)
    return name


def _impute(scope: Any, operator: Any, container: Any) -> None:
    from skl2onnx.common.data_types import StringTensorType
    from skl2onnx.operator_converters.imputer_op import convert_sklearn_imputer

    model = operator.raw_operator
    if isinstance(operator.inputs[0].type, StringTensorType):
        convert_sklearn_imputer(scope, operator, container)
        return
    filled = np.asarray(model.statistics_, dtype=np.float64)
    if model.add_indicator or not (isinstance(model.missing_values, float) and np.isnan(model.missing_values)):
        raise Misuse("an imputer fills something else than gaps")
    if np.isnan(filled).any():
        raise Misuse("an imputer drops a column that is empty")
    graph, name = _Graph(scope, container), _joined(scope, operator, container)
    graph.add("Where", graph.add("IsNaN", name), graph.constant([filled]), name, to=operator.output_full_names[0])


def _forest(scope: Any, operator: Any, container: Any) -> None:
    model, graph = operator.raw_operator, _Graph(scope, container)
    classes = len(model.classes_) if hasattr(model, "classes_") else None
    targets = classes if classes and classes > 2 else 1
    said = _trees(graph, _joined(scope, operator, container), trees.of_forest(model), targets, 0.0)
    _answer(graph, operator, _both(graph, said) if classes == 2 else said, classes)


def _boosting(scope: Any, operator: Any, container: Any) -> None:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    model, graph = operator.raw_operator, _Graph(scope, container)
    if hasattr(model, "_predictors"):
        grown, targets, base = trees.of_boosting(model), model.n_trees_per_iteration_, model._baseline_prediction
    else:
        if not isinstance(model.init_, str | DummyClassifier | DummyRegressor):
            raise Misuse("the boosting begins with another model")
        grown, targets = trees.of_gradient_boosting(model), model.estimators_.shape[1]
        base = model._raw_predict_init(np.zeros((1, model.n_features_in_)))
    said = _trees(graph, _joined(scope, operator, container), grown, targets, np.ravel(base))
    classes = len(model.classes_) if hasattr(model, "classes_") else None
    link = model._loss.link
    if classes is None:
        if link.__class__.__name__ == "LogLink":
            said = graph.add("Exp", said)
        elif link.__class__.__name__ != "IdentityLink":
            raise Misuse(f"the boosting has the link {link.__class__.__name__}")
    elif model._loss.__class__.__name__ not in ("HalfBinomialLoss", "HalfMultinomialLoss"):
        raise Misuse(f"the boosting has the loss {model._loss.__class__.__name__}")
    elif targets == 1:
        said = _both(graph, graph.add("Sigmoid", said))
    else:
        said = graph.add("Softmax", said, axis=1)
    _answer(graph, operator, said, classes)


def _trees(graph: _Graph, name: str, grown: Any, targets: int, base: Any) -> str:
    attributes, more = trees.node(grown, targets)
    said = graph.add("TreeEnsemble", name, version=graphs.KNOWN, op_domain=graphs.ML, **attributes)
    return graph.add("Add", said, graph.constant([more + base]))


def _both(graph: _Graph, second: str) -> str:
    """The probabilities of two classes (n x 2), from that of the second one (n x 1)."""
    return graph.add("Concat", graph.add("Sub", graph.constant([1.0]), second), second, axis=1)


def _answer(graph: _Graph, operator: Any, said: str, classes: int | None) -> None:
    """The outputs of a step: the number; or the class and the probability of each class."""
    *label, last = operator.output_full_names
    graph.add("Identity", said, to=last)
    if classes and label:
        graph.add("ArgMax", said, to=label[0], axis=1, keepdims=0)
