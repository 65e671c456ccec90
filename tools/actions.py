"""Record what the pinned actions take and give, for the tests: tests/standins/actions.json.

    python tools/actions.py CHECKOUTS

CHECKOUTS is a folder of git repositories, with or without a work tree: of each pinned action CHECKOUTS/OWNER/NAME or
CHECKOUTS/OWNER+NAME/repo. Its ``action.yml`` is read at the pinned commit, whatever is checked out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from api import Misuse, Refused, end

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "tests" / "standins" / "actions.json"
FOLDERS = ("<<cookiecutter.project>>/.github", ".github")  # of the product, and of the template itself
PIN = re.compile(r"\s*(?:- )?uses:\s+([\w.-]+/[\w.-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)")
LOCAL = re.compile(r"\s*(?:- )?uses:\s+(?:\$|\.)/\S+")


class _Plain(yaml.SafeLoader):
    """Keeps scalars as they are written, as an action gets them: ``true`` and ``1`` are text there."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def described(text: str) -> dict[str, Any]:
    """What an ``action.yml`` declares: ``inputs`` (name -> default, required, deprecated), ``outputs``, ``using``.

    A default is the text that the action gets, or None where there is none. What a composite action uses itself follows
    ``composite:``.

    Raises:
        ValueError: it is no description of an action.
    """
    try:
        told = yaml.load(text, Loader=_Plain)
        using, inputs, outputs = told["runs"]["using"], told.get("inputs") or {}, told.get("outputs") or {}
        found = {}
        for name, details in inputs.items():
            details = details or {}
            found[name] = {
                "default": details.get("default"),
                "required": str(details.get("required")).lower() == "true",
            }
            if "deprecationMessage" in details:
                found[name]["deprecated"] = details["deprecationMessage"]
        inner = [step["uses"] for step in told["runs"].get("steps") or () if "uses" in step]
        using += f": {', '.join(inner)}" if using == "composite" and inner else ""
        return {"inputs": found, "outputs": sorted(outputs), "using": using}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"describes no action ({type(error).__name__}: {' '.join(str(error).split())})") from None


def pins(root: Path) -> dict[str, tuple[str, str]]:
    """The commit and the version of each action that the workflows and composite actions under ``root`` use.

    Raises:
        Refused: an action is not pinned, or at two commits; with the file and the line.
    """
    found: dict[str, tuple[str, str, str]] = {}
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.y*ml")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "uses:" not in line.partition("#")[0] or LOCAL.fullmatch(line):
                continue
            where, pin = f"{path.relative_to(root)}:{number}", PIN.fullmatch(line)
            if pin is None:
                raise Refused(f"{where}: `{line.strip()}`; pin it as owner/name@<40 digits of its commit> # vX.Y.Z")
            commit, version, before = found.setdefault(pin[1], (pin[2], pin[3], where))
            if (commit, version) != (pin[2], pin[3]):
                raise Refused(
                    f"{where}: {pin[1]} is pinned at {pin[2]} ({pin[3]}), and at {commit} ({version}) in {before}; "
                    "pin one commit"
                )
    if not found:
        raise Refused(f"{root}: no workflow there uses an action")
    return {action: (commit, version) for action, (commit, version, _) in sorted(found.items())}


def record(checkouts: Path, pinned: dict[str, tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """What each pinned action declares at its commit, with the sha256 of that file.

    Raises:
        Misuse: a checkout is missing, or has not the pinned commit.
        Refused: its tag of that version is another commit, or the commit describes no action.
    """
    return {action: _declared(checkouts, action, *pin) for action, pin in sorted(pinned.items())}


def _declared(checkouts: Path, action: str, commit: str, version: str) -> dict[str, Any]:
    folder = _repository(checkouts, action)
    if _git(folder, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").strip() != commit.encode():
        raise Misuse(f"{folder}: has no commit {commit}, at which {action} is pinned; fetch it there")
    tagged = _git(folder, "rev-parse", "--verify", "--quiet", f"refs/tags/{version}^{{commit}}").decode().strip()
    # A repository without any tag, as `git fetch` of one commit leaves it, says nothing about versions.
    if tagged != commit and _git(folder, "tag", "--list"):
        told = f"its tag {version} is {tagged}" if tagged else f"it has no tag {version}"
        raise Refused(f"{folder}: {action} is pinned at {commit} as {version}, but {told}; mend the pin or its comment")
    for name in ("action.yml", "action.yaml"):
        if _git(folder, "cat-file", "-t", f"{commit}:{name}").strip() == b"blob":
            content = _git(folder, "cat-file", "blob", f"{commit}:{name}")
            break
    else:
        raise Refused(f"{folder}: {action} has no action.yml at {commit}; pin a commit of an action")
    try:
        told = described(content.decode())
    except ValueError as error:
        raise Refused(f"{folder}: {name} at {commit} {error}; pin a commit of an action") from None
    return {"commit": commit, "version": version, "sha256": sha256(content).hexdigest(), **told}


def _repository(checkouts: Path, action: str) -> Path:
    """The git directory of an action's repository."""
    places = [checkouts / action, checkouts / action.replace("/", "+") / "repo"]
    for folder in (folder for place in places for folder in (place / ".git", place)):
        if _git(folder, "rev-parse", "--git-dir"):
            return folder
    raise Misuse(f"{checkouts}: no git repository of {action}; clone it to {places[0]} or {places[1]}")


def _git(folder: Path, *arguments: str) -> bytes:
    """What git prints about exactly this git directory; nothing where it fails."""
    environment = os.environ | {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1"}
    done = subprocess.run(["git", f"--git-dir={folder}", *arguments], env=environment, capture_output=True)
    return b"" if done.returncode else done.stdout


def main() -> str:
    """Write the record.

    Raises:
        Misuse: usage; see ``record`` and ``pins`` as well.
    """
    if len(sys.argv) != 2:
        raise Misuse("usage: python tools/actions.py CHECKOUTS, a folder with the repositories of the pinned actions")
    found = record(Path(sys.argv[1]), pins(ROOT))
    TARGET.write_text(json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return f"actions   {len(found)} recorded in {TARGET.relative_to(ROOT)}"


if __name__ == "__main__":
    end(main)
