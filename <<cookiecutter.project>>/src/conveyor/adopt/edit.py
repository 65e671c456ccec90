"""Edits of the team's files: values in params.yaml and names in model.py change, comments and all else stay."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import yaml

from conveyor.core.migrations import Renamed, renamed
from conveyor.core.yaml_file import UniqueKeys

WIDTH = 120
LISTS = ("CATEGORIES", "NUMBERS")
# The baseline of classes and that of numbers differ in these words.
CLASSES = ("HistGradientBoostingClassifier", "RandomForestClassifier", "LogisticRegression", "logistic")
NUMBERS = ("HistGradientBoostingRegressor", "RandomForestRegressor", "Ridge", "ridge")
OPTIONS = {"logistic": {"C": 1.0, "max_iter": 1000}, "ridge": {"alpha": 1.0}}


def with_values(text: str, values: dict[str, Any]) -> str:
    """The text of a YAML file with other values of some dotted keys; a key that is missing is added to its section.

    Raises:
        KeyError: a section is missing.
    """
    for dotted, value in values.items():
        *sections, last = dotted.split(".")
        place: Any = yaml.compose(text, Loader=UniqueKeys)
        for section in sections:
            place = dict((key.value, inner) for key, inner in place.value)[section]
        known = {key.value: (key, inner) for key, inner in place.value}
        written = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
        written = written.removesuffix("\n").removesuffix("\n...")
        if last in known and value_at(yaml.load(text, Loader=UniqueKeys), dotted) == value:
            continue  # as the team has written it
        if last in known:
            key, inner = known[last]
            start, end, written = text.index(":", key.end_mark.index) + 1, _end(inner), f" {written}"
            comment = re.match(r" {2,}(?=#)", text[end:])
            if comment:  # it keeps its column, where there is room
                spaces = max(2, len(comment[0]) - (len(written) - (end - start)))
                written, end = written + " " * spaces, end + len(comment[0])
            text = text[:start] + written + text[end:]
        else:
            key, inner = place.value[-1]
            end = (text + "\n").index("\n", _end(inner)) + 1
            text = text if text.endswith("\n") else text + "\n"
            text = f"{text[:end]}{' ' * key.start_mark.column}{last}: {written}\n{text[end:]}"
    return text


def _end(node: yaml.Node) -> int:
    """Where a value ends: a block's own mark is behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def of_task(params: str, model: str, numbers: bool) -> tuple[str, str]:
    """params.yaml and model.py with the baseline for numbers, or for classes, if they have the other one's."""
    before, after = (CLASSES, NUMBERS) if numbers else (NUMBERS, CLASSES)
    if not all(word in model for word in before):
        return params, model
    for word, other in zip(before, after, strict=True):
        model = model.replace(word, other)
    params = renamed(params, (Renamed("", f"model.params.{before[-1]}", after[-1]),))
    params = params.replace(f"{before[-1]} | forest", f"{after[-1]} | forest")
    params = params.replace(f"the {before[-1]} regression", f"the {after[-1]} regression")
    given = yaml.load(params, Loader=UniqueKeys)["model"]["params"]
    values: dict[str, Any] = {f"model.params.{after[-1]}": OPTIONS[after[-1]]}
    if given.get("estimator") == before[-1]:
        values["model.params.estimator"] = after[-1]
    return with_values(params, values), model


def boosted(params: str, metric: str) -> str | None:
    """params.yaml with boosting in the place of the baseline's linear model; None: the model is another one."""
    given = yaml.load(params, Loader=UniqueKeys)["model"]["params"]
    if given.get("estimator") not in OPTIONS or not isinstance(given.get("boosting"), dict):
        return None
    values: dict[str, Any] = {"model.params.estimator": "boosting"}
    if metric == "mae":  # a mean is far from the median of a long tail
        values["model.params.boosting"] = given["boosting"] | {"loss": "absolute_error"}
    return with_values(params, values)


def with_columns(model: str, **lists: list[str]) -> str | None:
    """model.py with other lists of columns, by the names of the lists; None if it has no such lists."""
    for name, columns in lists.items():
        made = f"{name} = [{', '.join(map(_quoted, columns))}]" if columns else f"{name}: list[str] = []"
        if len(made) > WIDTH:
            made = f"{name} = [\n" + "".join(f"    {_quoted(column)},\n" for column in columns) + "]"
        found = next((node for node, of in _lists(model) if of == name), None)
        if found is None:
            return None
        lines = model.splitlines(keepends=True)
        model = "".join([*lines[: found.lineno - 1], f"{made}\n", *lines[found.end_lineno :]])
    return model


def columns_in(model: str) -> dict[str, list[str]]:
    """The lists of columns in model.py, by their names."""
    return {name: [str(cell) for cell in ast.literal_eval(node.value)] for node, name in _lists(model)}


def _lists(model: str) -> list[tuple[Any, str]]:
    """The assignments of these lists, and their names."""
    found = []
    for node in ast.parse(model).body:
        names = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        name = names[0].id if len(names) == 1 and isinstance(names[0], ast.Name) else None
        if name in LISTS and isinstance(getattr(node, "value", None), ast.List):
            found.append((node, name))
    return found


def value_at(values: Any, dotted: str) -> Any:
    """What stands under a dotted key, None where nothing does."""
    for part in dotted.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
