"""The code that a step runs: the modules of the machinery that it imports, and the whole package of the team."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from conveyor.core.errors import at_fault
from conveyor.core.files import sha256
from conveyor.core.team import MACHINERY, SOURCE


def code_sha256(*modules: str, team: Path | None = None) -> str:
    """Digest of modules of the machinery and of all modules that they import at their top, at any depth.

    An import inside a function belongs to another step, which names its own modules.

    Args:
        modules: full names, such as ``conveyor.steps.train``.
        team: the team's package, of which every module counts.
    """
    sources = reached(*modules) | (written_by(team) if team else {})
    return sha256("\n".join(f"{name} {sha256(sources[name])}" for name in sorted(sources)).encode())


def written_by(team: Path) -> dict[str, bytes]:
    """The sources of the modules in the team's package, by name."""
    names = {path: path.relative_to(team.parent).with_suffix("") for path in sorted(team.rglob("*.py"))}
    return {".".join(name.parts): path.read_bytes() for path, name in names.items()}


def reached(*modules: str, late: bool = False) -> dict[str, bytes]:
    """The sources of modules of the machinery and of all modules that they import, at any depth, by full name.

    Args:
        late: whether imports inside functions count; imports under ``if TYPE_CHECKING`` never count.
    """
    sources: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        place = place_of(module)
        if module not in sources and place:
            sources[module] = place.read_bytes()
            waiting += _imports(sources[module], place, late)
            waiting += [module.rpartition(".")[0]]  # Python runs a package before its modules
    return sources


def place_of(module: str) -> Path | None:
    """The file of a module of the machinery, or None if there is no such module."""
    path = SOURCE.joinpath(*module.split("."))
    found = (path.with_name(f"{path.name}.py"), path / "__init__.py")
    return next((place for place in found if module and place.is_file()), None)


@cache
def _imports(source: bytes, place: Path, late: bool) -> list[str]:
    """The modules of the machinery that a source imports at its top, or anywhere in it."""
    try:
        tree = ast.parse(source, place)
    except (SyntaxError, ValueError) as error:
        raise at_fault(error, place, "mend that line") from None
    found: list[str] = []
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == MACHINERY:
            found += [str(node.module), *(f"{node.module}.{name.name}" for name in node.names)]
        elif late and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
        elif late:
            waiting += ast.iter_child_nodes(node)
    return found
