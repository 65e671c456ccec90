"""Changes of an ONNX graph from skl2onnx: 64-bit numbers only, no unused node, one input for each kind of column.

Each function changes the given model in place.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

ML = "ai.onnx.ml"
KNOWN, WANTED = 3, 5  # versions of these operators: the last one that skl2onnx knows, and that of TreeEnsemble
# Operators that always return 32-bit numbers, and those of them that accept only such numbers.
ROUNDING = {"Normalizer", "OneHotEncoder", "Scaler", "TfIdfVectorizer"}
SINGLE = {"LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor"}
JOINED = ("number", "text")  # kinds of columns that come as one input


def doubled(model: Any) -> None:
    """Make every 32-bit float a 64-bit one. Of the outputs only the last one, the answer, stays."""
    from onnx import TensorProto, helper, numpy_helper

    def wide(tensor: Any) -> None:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))

    graph, made = model.graph, []
    del graph.value_info[:], graph.output[:-1]
    graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in graph.initializer:
        wide(tensor)
    for number, node in enumerate(graph.node):
        if node.op_type == "FeatureVectorizer":  # concatenates columns, in 32 bits
            node.CopyFrom(helper.make_node("Concat", list(node.input), list(node.output), axis=1))
        for attribute in node.attribute:
            if attribute.type == attribute.TENSOR and node.op_type != "LabelEncoder":
                wide(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
        if node.op_type in SINGLE:
            single = f"{node.input[0]} single {number}"
            made.append(helper.make_node("Cast", [node.input[0]], [single], to=TensorProto.FLOAT))
            node.input[0] = single
        made.append(node)
        if node.op_type in ROUNDING | SINGLE or any(a.name == "values_floats" for a in node.attribute):
            said = node.output[-1]  # the first output of a classifier is its class
            node.output[-1] = f"{said} single"
            made.append(helper.make_node("Cast", [node.output[-1]], [said], to=TensorProto.DOUBLE))
    _set(graph.node, made)
    if any(node.op_type == "TreeEnsemble" for node in made):
        next(known for known in model.opset_import if known.domain == ML).version = WANTED


def pruned(model: Any) -> None:
    """Remove the nodes that lead to no output: the runtime would compute them for every request."""
    graph, kept = model.graph, []
    needed = {output.name for output in graph.output}
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    _set(graph.node, kept[::-1])
    _set(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


def named(model: Any, columns: list[str]) -> None:
    """Give the inputs the names of their columns: the converter writes ``mean radius`` as ``mean_radius``."""
    new = {given.name: name for given, name in zip(model.graph.input, columns, strict=True)}
    for given in model.graph.input:
        given.name = new[given.name]
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]


def joined(model: Any, columns: dict[str, list[str]]) -> None:
    """Join inputs (n x 1) into one input (n x k) for each kind: each input takes as much time as a step of the model.

    The model's metadata list the columns of an input in their order, as JSON under the input's name.

    Args:
        columns: the names of the inputs to be joined, by kind.
    """
    for kind, names in columns.items():
        known = {given.name for given in model.graph.input}
        if wanted := [name for name in names if name in known]:
            told = model.metadata_props.add()
            told.key, told.value = f"all of kind {kind}", json.dumps(wanted)
            _join(model.graph, told.key, wanted)


def _join(graph: Any, input: str, names: list[str]) -> None:
    from onnx import helper, numpy_helper

    places = {name: place for place, name in enumerate(names)}
    element = next(given for given in graph.input if given.name in places).type.tensor_type.elem_type
    others = [given for given in graph.input if given.name not in places]
    _set(graph.input, [*others, helper.make_tensor_value_info(input, element, [None, len(names)])])
    made, there = [], set()

    def taken(wanted: list[str], output: str) -> Any:
        if wanted == names:
            return helper.make_node("Identity", [input], [output])
        numbers = np.array([places[name] for name in wanted])
        graph.initializer.append(numpy_helper.from_array(numbers, f"places of {output}"))
        return helper.make_node("Gather", [input, f"places of {output}"], [output], axis=1)

    for node in graph.node:
        if node.op_type == "Concat" and all(name in places for name in node.input):
            made.append(taken(list(node.input), node.output[0]))
            continue
        for name in node.input:
            if name in places and name not in there:
                made.append(taken([name], name))
                there.add(name)
        made.append(node)
    _set(graph.node, made)


def _set(field: Any, values: list[Any]) -> None:
    """A repeated field of a protobuf message cannot be assigned."""
    values = list(values)
    del field[:]
    field.extend(values)
