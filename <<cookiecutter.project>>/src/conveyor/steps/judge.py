"""Changes besides the model: to the rule, the contract, the judging code, and rows that the base has.

The author of a model does not choose the rule that judges it. A pull request is judged by its base. On main, a rule
that changed together with the model is used from the next change on. The report flags such changes for the reviewer.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from conveyor.core import frozen, params, yaml_file
from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import sha256
from conveyor.core.git import Git, GitError
from conveyor.core.project import Project
from conveyor.data import hashing, source, split
from conveyor.data.source import frame_of
from conveyor.gate.metrics import of_task

MODEL = ("data", "split", "model")  # sections of params.yaml that make a model


@dataclass(frozen=True)
class Changes:
    """The rule that judges, its origin, and what a reviewer should look at.

    Attributes:
        rule: the gate that decides.
        rule_of: its origin, in words.
        flags: a sentence for each change.
        altered_rows: positions of rows that differ from a holdout row of the base with the same key.
    """

    rule: params.Gate
    rule_of: str
    flags: list[str] = field(default_factory=list)
    altered_rows: NDArray[np.int64] = field(default_factory=lambda: np.array([], dtype=np.int64))


def find(project: Project) -> Changes:
    """The changes that matter for the verdict."""
    if project.pull:
        return of_pull_request(project, project.pull)
    if project.before:
        return of_push(project, project.before)
    return Changes(project.params.gate, "params.yaml")


def of_push(project: Project, before: str) -> Changes:
    """A push to main, from the commit ``before``: its rule decides if rule and model changed together.

    The threshold is always that of this commit, because the service answers by it.

    Raises:
        Misuse: its params.yaml cannot be read.
    """
    if not project.git.succeeds("cat-file", "-e", f"{before}^{{commit}}"):
        if not project.git.succeeds("rev-parse", "--verify", "--quiet", "HEAD^1"):
            return Changes(project.params.gate, "params.yaml")
        before = project.git("rev-parse", "HEAD^1")  # the branch was forced: the commit before is gone
    if not project.git.succeeds("cat-file", "-e", f"{before}:./params.yaml"):
        return Changes(project.params.gate, "params.yaml")  # there was no repository of this kind before
    try:
        then = yaml.safe_load(project.git("show", f"{before}:./params.yaml"))
        touched = project.git("diff", "--name-only", before, "HEAD", "--", "src", "requirements")
    except (GitError, yaml.YAMLError) as error:
        raise Misuse(f"params.yaml of {before[:12]}, the commit before: {error}; push again") from None
    if not isinstance(then, dict):
        return Changes(project.params.gate, "params.yaml")
    now = yaml_file.read_yaml(project.root / "params.yaml")
    rule = frozen.checked(params.Gate, then.get("gate"), f"params.yaml of {before[:12]}: gate.")
    threshold, flags = project.params.gate.threshold, []
    if rule.threshold != threshold and project.params.data.task == "binary":
        flags = [f"the threshold has changed from {rule.threshold:g} to {threshold:g}: classes are by the new one"]
    rule = rule.model_copy(update={"threshold": threshold})
    if rule == project.params.gate:
        return Changes(rule, "params.yaml", flags)
    changed = [section for section in MODEL if then.get(section) != now.get(section)]
    if not changed and not touched:
        flags.append("the rule of the gate has changed, and nothing else")
        return Changes(project.params.gate, "params.yaml", flags)
    named = {rule.metric, *rule.floors}
    if not named <= of_task(project.params.data.task).keys() or set(rule.guards.segments) - set(
        frame_of(project).columns
    ):
        unfit = "the rule of the gate has changed together with the data: that of before does not fit these"
        return Changes(project.params.gate, "params.yaml", [*flags, unfit])
    together = "the rule of the gate has changed together with the model: it is used from the next change on"
    return Changes(rule, f"params.yaml of {before[:12]}, the commit before", [*flags, together])


def of_pull_request(project: Project, pull: Path) -> Changes:
    """A pull request: rule, contract and code of the base judge, and changes to them are flagged."""
    flags = []
    mine, theirs = (yaml_file.read_yaml(root / "params.yaml") for root in (project.root, pull))
    for section, what in (("gate", "the rule of the gate"), ("split", "the split")):
        if mine.get(section) != theirs.get(section):
            flags.append(f"changes {what} (params.yaml: {section}); the base's was used")
    apart = dict.fromkeys(("path", "sha256", "source"))
    settings = [{**(side.get("data") or {}), **apart} for side in (mine, theirs)]
    if settings[0] != settings[1]:
        flags.append("changes what the data mean (params.yaml: data); the base's was used")
    if (mine.get("data") or {}).get("source") != (theirs.get("data") or {}).get("source"):
        flags.append("changes where `make collect` gets new rows (params.yaml: data.source)")
    trusted = [set(_listed(side)) for side in (mine, theirs)]
    if trusted[1] - trusted[0]:
        flags.append(f"wants more types in a stored model: {', '.join(sorted(trusted[1] - trusted[0]))}")
    if (mine.get("data") or {}).get("path") != (theirs.get("data") or {}).get("path"):
        flags.append(f"reads its data from elsewhere: {(theirs.get('data') or {}).get('path')}")
    model = f"src/{project.params.model.build.partition(':')[0].replace('.', '/')}.py"
    differing = [name for name in _differing(project.root, pull) if name not in ("params.yaml", model)]
    for folder, what in (
        ("expectations/", "changes the data contract; the base's was used"),
        ("src/conveyor/", "changes code that judges or moves models; the base's was used"),
        ("src/", "changes code beside the model"),
        ("requirements/", "changes libraries"),
        (".github/", "changes workflows"),
        ("", "changes how commands run or what is tested"),
    ):
        names = [name for name in differing if name.startswith(folder)]
        differing = [name for name in differing if name not in names]
        names = [name.removeprefix(folder) for name in names]
        flags += [f"{what}: {', '.join(names)}"] if names else []
    altered, gone = _holdout_rows(project)
    if len(altered):
        flags.append(f"changes {len(altered)} rows that the base holds out; they judge nothing")
    if gone:
        flags.append(f"drops {gone} rows that the base holds out")
    return Changes(project.params.gate, "the base", flags, altered)


def _listed(params: dict[str, Any]) -> list[str]:
    model = params.get("model")
    listed = model.get("trusted_types") if isinstance(model, dict) else None
    return [str(name) for name in listed] if isinstance(listed, list) else []


def _differing(mine: Path, theirs: Path) -> list[str]:
    """Names of the files that differ between both trees, without data and prose."""
    known = [_tree(root) for root in (mine, theirs)]
    names = sorted(name for name in known[0].keys() | known[1].keys() if known[0].get(name) != known[1].get(name))
    return [name for name in names if not name.startswith("data/") and not name.endswith(".md")]


def _tree(root: Path) -> dict[str, str]:
    """Kind and content of each file of a checkout, by name, without files that git ignores."""
    words = ("-c", "core.fsmonitor=false", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    found = {}
    for name in Git(root)(*words).split("\0"):
        path = root / name
        if path.is_symlink():
            found[name] = f"link {os.readlink(path)}"
        elif path.is_file():
            found[name] = f"{path.stat().st_mode & 0o100} {sha256(path.read_bytes())}"
    return found


def _holdout_rows(project: Project) -> tuple[NDArray[np.int64], int]:
    """Positions of rows that change or repeat a holdout row of the base, and how many of its rows are gone."""
    base, now = project.base_data, project.params.data
    if base.sha256 == now.sha256:
        return np.array([], dtype=np.int64), 0
    then, frame = source.read(base, project.root), frame_of(project)
    try:
        held_out = then[~split.split(then, base, project.params.split, project.params.gate.block).trained_on(then)]
    except Refused:
        return np.array([], dtype=np.int64), 0  # the base itself has no holdout
    shared = [column for column in then.columns if column in frame.columns]
    key = [column for column in base.key if column in shared]
    known = dict(
        zip(
            hashing.row_hash(held_out[key], codes=True).tolist(),
            hashing.row_hash(held_out[shared]).tolist(),
            strict=True,
        )
    )
    keys, contents = hashing.row_hash(frame[key], codes=True).tolist(), hashing.row_hash(frame[shared]).tolist()
    counts = Counter(keys)  # a repeated row would change the holdout, too
    altered = [
        place
        for place, name in enumerate(keys)
        if name in known and (known[name] != contents[place] or counts[name] > 1)
    ]
    return np.array(altered, dtype=np.int64), len(known.keys() - set(keys))
