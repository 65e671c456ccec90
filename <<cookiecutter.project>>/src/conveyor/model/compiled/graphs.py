"""What is done to an ONNX graph that skl2onnx made: 64-bit numbers only, no needless node, an input for each kind.

Each function changes the model that it is given.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

ML = "ai.onnx.ml"
KNOWN, WANTED = 3, 5  # versions of these operators: the last one that skl2onnx knows, and that of TreeEnsemble
# Operators that give 32-bit numbers whatever they are given, and those of them that take no others.
ROUNDING = {"Normalizer", "OneHotEncoder", "Scaler", "TfIdfVectorizer"}
SINGLE = {"LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor"}
JOINED = ("number", "text")  # kinds of columns that come as one input


def doubled(model: Any) -> None:
    """Every 32-bit float becomes a 64-bit one. Of the outputs only the last one stays, which is the answer."""
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
        if node.op_type == "FeatureVectorizer":  # puts columns side by side, in 32 bits
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
            said = node.output[-1]  # of a classifier's outputs the first one is its class
            node.output[-1] = f"{said} single"
            made.append(helper.make_node("Cast", [node.output[-1]], [said], to=TensorProto.DOUBLE))
    _set(graph.node, made)
    if any(node.op_type == "TreeEnsemble" for node in made):
        next(known for known in model.opset_import if known.domain == ML).version = WANTED


def pruned(model: Any) -> None:
    """What leads to no output goes: the runtime would calculate it for every request."""
    graph, kept = model.graph, []
    needed = {output.name for output in graph.output}
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    _set(graph.node, kept[::-1])
    _set(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


def joined(model: Any, columns: dict[str, list[str]]) -> None:
    """Inputs (n x 1) become one input (n x k) for each kind: each one costs time, as much as a step of the model.

    The metadata of the model say which columns an input holds, in their order, as a JSON list under its name.

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
    """Repeated fields of a protobuf message take no assignment."""
    values = list(values)
    del field[:]
    field.extend(values)
