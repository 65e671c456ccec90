"""Keys of params.yaml with another name in a later version: an update renames them, and keeps comments and values."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from conveyor.core.yaml_file import UniqueKeys


@dataclass(frozen=True)
class Renamed:
    """A key that has another name.

    Attributes:
        version: the first version that knows the new name.
        old: the dotted key, as gate.margin.
        new: its last part from then on.
    """

    version: str
    old: str
    new: str


RENAMED: tuple[Renamed, ...] = ()


def renamed(text: str, changes: tuple[Renamed, ...] = RENAMED) -> str:
    """The text of params.yaml with the new names; a name that is not there, or is new already, changes nothing.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    for change in changes:
        *parents, last = change.old.split(".")
        place = yaml.compose(text, Loader=UniqueKeys)
        for parent in parents:
            place = next((value for key, value in _pairs(place) if key.value == parent), None)
        keys = {key.value: key for key, _ in _pairs(place)}
        if last in keys and change.new not in keys:
            start, end = keys[last].start_mark.index, keys[last].end_mark.index
            line = text[end:].partition("\n")[0]
            text = text[:start] + change.new + _aligned(line, len(last) - len(change.new)) + text[end + len(line) :]
    return text


def _aligned(line: str, more: int) -> str:
    """The rest of a line whose comment keeps its column, where there is room."""
    comment = re.search(r"  +(?=#)", line)
    if not comment:
        return line
    spaces = max(len(comment[0]) + more, 1)
    return line[: comment.start()] + " " * spaces + line[comment.end() :]


def _pairs(node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []
