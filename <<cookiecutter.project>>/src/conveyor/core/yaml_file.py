"""Strict YAML: a key that is written twice, or a value that JSON cannot hold, is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from conveyor.core.errors import Misuse
from conveyor.core.frozen import shown


# PyYAML has no types: a type checker cannot know the base class.
class UniqueKeys(yaml.SafeLoader):  # type: ignore[misc]
    """YAML that refuses a repeated key instead of silently keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else key)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            if node.tag == "tag:yaml.org,2002:int":
                return math.inf  # more digits than Python reads: it is refused where its key is known
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in ``path``.

    Raises:
        Misuse: the file is missing, empty, no UTF-8, no YAML or no mapping.
    """
    try:
        return of_text(path.read_text(encoding="utf-8"), path.name)
    except FileNotFoundError:
        raise Misuse(f"{path.name}: missing; run this in the root of the repository") from None
    except UnicodeDecodeError:
        raise Misuse(f"{path.name}: not UTF-8 text; save it as UTF-8") from None


def of_text(text: str, name: str) -> dict[str, Any]:
    """The mapping in the text of the file ``name``.

    Raises:
        Misuse: it is empty, no YAML or no mapping.
    """
    try:
        value = yaml.load(text, Loader=UniqueKeys)
    except RecursionError:
        raise Misuse(f"{name}: too deep; no key needs more than a few levels") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise Misuse(f"{where}: not YAML: {getattr(error, 'problem', None) or error}; mend that line") from None
    if not isinstance(value, dict):
        raise Misuse(f"{name}: holds no keys; `git checkout {name}` brings it back")
    return value


def plain(value: Any, file: str, key: str = "") -> None:
    """Check that ``value`` holds only JSON values, and numbers that a computation can use.

    Raises:
        Misuse: naming the first key of the file with another value.
    """
    where = f"{file}: {key}" if key else file
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise Misuse(f"{where}: the key {shown(name)} should be text; put it into quotes")
            plain(inner, file, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            plain(inner, file, f"{key}.{number}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise Misuse(f"{where}: input should be a finite number, not {value}")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise Misuse(f"{where}: input should be a number of at most 64 bits, not {shown(value)}")
    elif not isinstance(value, str | int | float | None):
        kinds = "text, a number, true, false or null"
        raise Misuse(f"{where}: input should be {kinds}, not a {type(value).__name__}; put text into quotes")
