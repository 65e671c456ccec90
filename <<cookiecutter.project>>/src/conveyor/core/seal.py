"""The seal: the files of the machinery, and whether they are those of their version.

``SEAL`` beside the packages holds the version and the sha256 of each sealed file. A team can own a file explicitly:
``[tool.conveyor] owned = ["container/Caddyfile"]`` in pyproject.toml. That file is then no longer checked.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from conveyor.core.errors import Misuse
from conveyor.core.files import sha256

PLACE = "src/conveyor/SEAL"
WHOLE = ("src/conveyor", "container/kubernetes/base")  # folders in which every file is sealed
CONTAINER = ("Caddyfile", "Dockerfile", "edge.Dockerfile", "kubernetes/deployer.yaml")
FIRST = re.compile(r"conveyor (\S+)")
SHOWN = 5


def sealed(root: Path) -> dict[str, str]:
    """The sha256 of each existing file under the seal, by its path from ``root``."""
    there = [path for folder in WHOLE for path in (root / folder).rglob("*")]
    there += [root / "container" / name for name in CONTAINER]
    found = {}
    for path in there:
        name = path.relative_to(root).as_posix()
        if path.is_symlink():  # its target may change, and is not one of these files
            found[name] = "a link"
        elif path.is_file() and name != PLACE and (path.parent.name, path.suffix) != ("__pycache__", ".pyc"):
            found[name] = sha256(path.read_bytes())
    return {name: found[name] for name in sorted(found)}


def written(version: str, digests: dict[str, str]) -> str:
    """The text of the seal."""
    return f"conveyor {version}\n" + "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def read(root: Path) -> tuple[str, dict[str, str]]:
    """The version, and the sha256 of its files.

    Raises:
        Misuse: the seal is missing or damaged.
    """
    mend = f"`git checkout {PLACE}` brings it back"
    try:
        first, *lines = (root / PLACE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        raise Misuse(f"{PLACE}: missing or damaged; {mend}") from None
    version = FIRST.fullmatch(first)
    pairs = [line.split("  ", 1) for line in lines]
    if not version or any(len(pair) != 2 for pair in pairs):
        raise Misuse(f"{PLACE}: damaged; {mend}")
    return version[1], {name: digest for digest, name in pairs}


def owned(pyproject: dict[str, Any]) -> list[str]:
    """The files that the team has taken over, from tool.conveyor.owned of pyproject.toml.

    Raises:
        Misuse: it is not a list of texts.
    """
    tool = pyproject.get("tool", {})
    section = tool.get("conveyor", {}) if isinstance(tool, dict) else None
    if not isinstance(section, dict) or section.keys() - {"owned"}:
        raise Misuse("pyproject.toml: tool.conveyor: holds something else than `owned`; remove it")
    listed = section.get("owned", [])
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise Misuse('pyproject.toml: tool.conveyor.owned: no list of paths; write it as ["container/Caddyfile"]')
    return sorted({PurePosixPath(name).as_posix() for name in listed})


def check(root: Path, ours: list[str]) -> str:
    """Compare the files with the seal; returns the result in words.

    Args:
        ours: paths of sealed files that the team has taken over.

    Raises:
        Misuse: a file differs, is missing or was added; or an owned file is not under the seal.
    """
    version, known = read(root)
    found = sealed(root)
    if strange := sorted(set(ours) - known.keys()):
        raise Misuse(f"pyproject.toml: tool.conveyor.owned: {strange[0]} is no file of the machinery; remove it")
    differing = [
        f"{name} {'is missing' if name not in found else 'was added' if name not in known else 'differs'}"
        for name in sorted(known.keys() | found.keys())
        if name not in ours and known.get(name) != found.get(name)
    ]
    if differing:
        shown = ", ".join(differing[:SHOWN]) + (f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else "")
        raise Misuse(
            f"seal: {shown}: not the machinery of version {version}; undo it with git, or own a file that differs by"
            ' [tool.conveyor] owned = ["its path"] in pyproject.toml; what you add goes into another folder'
        )
    return f"the machinery is that of version {version}" + (f", but for {', '.join(sorted(ours))}" if ours else "")
