"""The verb `adopt`: the team's own data replace the sample, after a trial in a copy."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import yaml

from conveyor.adopt import draft, edit, infer, meant, plan, prepare, sniff
from conveyor.core import params
from conveyor.core.errors import Misuse
from conveyor.core.files import sha256, to_json, write_bytes
from conveyor.core.project import Project
from conveyor.core.yaml_file import UniqueKeys
from conveyor.data import columns, formats, source, split, units
from conveyor.data.contract import SUITE
from conveyor.gate.decide import decide
from conveyor.gate.decision import Decision
from conveyor.model.bundle import Bundle
from conveyor.model.scoring import answer

LEFT_OUT = (".git", ".venv", "build", "mlruns", "data", "tests", "docs")  # of the copy in which it is tried
MOST_BYTES = 50 * 2**20  # of a file in git without a word
LEAST = 60  # held out rows, if there are as many


def run(
    project: Project,
    data: str,
    asked: infer.Asked,
    separator: str | None = None,
    dry: bool = False,
    say: Callable[[str], None] = print,
) -> str:
    """Read data of any common format, infer what its columns are for, and write params.yaml, contract and model.py.

    It is tried in a copy first: the contract must hold, and the baseline must train. A process that is killed leaves
    the state of before; if it was killed while files were replaced, the next `adopt` replaces the rest.

    Raises:
        Misuse: the data cannot be read or used; the line says what to name.
    """
    plan.finish(project, say)
    files = _files(project, data)
    found = sniff.read(files, data, separator)
    roles, told = prepare.prepare(found, asked)
    path, new = _place(project, data, files, found.frame, found.native)
    frame = formats.read(new or files, path, roles.text, ())
    changes = _changes(project, path, source.pin(new or files), frame, roles, found.way)
    changes |= _new_files(project, path, new)
    settings = _settings((changes["params.yaml"] or b"").decode())
    most = max(map(len, (new or files).values()))
    if most > MOST_BYTES and "://" not in path:
        told.append(("size", f"{most / 2**20:.0f} MB", "GitHub refuses files of more than 100 MB: put them at a URL"))
    _show(roles, told, frame, settings, say)
    if dry:
        _differ(project, changes, say)
        return "nothing was changed (DRY=1)"
    say(
        "adopt     trying it in a copy: contract, training, and a comparison with a constant (some seconds, or minutes)"
    )
    decision, first, changes = _holding(project, changes, say)
    for name, content in changes.items():
        if content is None and name.startswith("data/"):
            say(f"adopt     {name} goes; git has it")
    plan.carry_out(project, changes)
    [of] = [one for one in decision.metrics if one.name == decision.metric]
    against = f"{path}: {decision.metric} {_figure(of.challenger)}, a constant has {_figure(of.champion)},"
    interval = ""
    if of.challenger_low is not None:
        interval = f" with the interval {_figure(of.challenger_low)} to {_figure(of.challenger_high)}"
    rest = f"{against}{interval} on {decision.rows:,} held out rows"
    if first.outcome == "block":
        mend = "take more rows, or raise split.holdout in params.yaml"
        if not _holds(decision):
            mend = "add columns that tell the target, or another model in model.py"
        return f"{rest}; `make pipeline` would block it ({first.reason}): {mend}"
    better = "" if decision.outcome == "promote" else "; it is not shown to be better than a constant"
    return f"{rest}{better}; next: make pipeline format check test"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _files(project: Project, data: str) -> dict[str, bytes]:
    if not data:
        raise Misuse("adopt: no data; name them and the target: make adopt DATA=rows.csv TARGET=price")
    if "://" not in data and not (project.root / data).exists():
        raise Misuse(f"{data}: no such file or folder; name it as DATA=rows.csv")
    return source.fetch(data, project.root, "DATA")


def _place(
    project: Project, data: str, files: dict[str, bytes], frame: pd.DataFrame, native: bool
) -> tuple[str, dict[str, bytes]]:
    """data.path, and the new files for it: their content by their path in it."""
    root = project.root.resolve()
    if native and "://" in data:
        return data, {}
    inside = "://" not in data and (root / data).resolve().is_relative_to(root)
    if native and inside:
        return (root / data).resolve().relative_to(root).as_posix(), {}
    name = PurePosixPath(data.rstrip("/")).name or "rows"
    if native:
        return f"data/{name}", files
    return f"data/{name.split('.')[0] or 'rows'}.parquet", {"": sniff.parquet_of(frame)}


def _new_files(project: Project, path: str, new: dict[str, bytes]) -> dict[str, bytes | None]:
    """What is written below ``path``: of a folder that is there the other files go.

    Raises:
        Misuse: something is there that is neither the pinned data nor in git.
    """
    place, made = project.root / path, {f"{path}/{inner}" if inner else path: data for inner, data in new.items()}
    if not new or not place.exists():
        return {**made}
    if path != project.params.data.path and not _kept_by_git(project, path):
        raise Misuse(f"{path}: is there already, and git does not have it; commit it, or move it away")
    files = [file for file in place.rglob("*") if not file.is_dir()] if "" not in new else []
    there = [file.relative_to(project.root).as_posix() for file in files]
    return {**made, **{name: None for name in there if name not in made}}


def _changes(
    project: Project, path: str, pin: str, frame: pd.DataFrame, roles: infer.Roles, way: meant.Way
) -> dict[str, bytes | None]:
    """The new content of each file; None: it goes."""
    root = project.root
    before = (root / "params.yaml").read_text(encoding="utf-8")
    module, _, _ = project.params.model.build.partition(":")
    model = f"src/{module.replace('.', '/')}.py"
    text, code = edit.of_task(before, (root / model).read_text(encoding="utf-8"), roles.task == "regression")
    values: dict[str, Any] = {
        "data.path": path,
        "data.sha256": pin,
        "data.task": roles.task,
        "data.target": roles.target,
        "data.key": list(roles.key),
        "data.time": roles.time,
        "data.group": roles.group,
        "data.ignore": [name for name in roles.ignore if name not in (roles.time, roles.target)],
        "data.private": list(roles.private),
        "data.text": list(roles.text),
        "data.numbers": [],
        **draft.gate(frame, roles),
        "gate.guards.segments": roles.segments,
        "split.holdout": max(0.2, round(min(0.5, LEAST / len(frame)), 2)),  # few rows have no interval
        "split.shared_rows": 0,
    }
    lists = {"CATEGORIES": roles.categories, "NUMBERS": roles.numbers}
    kept, kept_lists = _unlike_the_team_s(project, text, code, values, lists, roles)
    known = _settings(edit.with_values(text, kept))
    trained = split.split(frame, known.data, known.split, known.gate.block).trained_on(frame)
    shared = len(split.shared_rows(frame, trained, known.data))
    if shared and "split.shared_rows" in kept:
        values["split.shared_rows"] = kept["split.shared_rows"] = int(shared * 1.1) + 1
        reason = f"{shared} held out rows equal a training row in all features and the target"
        roles.told.append(("split.shared_rows", str(values["split.shared_rows"]), reason))
    suite = draft.contract(frame, roles)
    noted = {"values": values, "lists": lists, "expectations": sha256(to_json(suite).encode()), "way": asdict(way)}
    suite["meta"] = {"adopt": noted}
    named = edit.with_columns(code, **kept_lists)
    if named is None:
        reason = f"it has no lists {' and '.join(edit.LISTS)}: name the columns there yourself"
        roles.told.append((model, "stays", reason))
    if not _is_draft(project):
        roles.told.append((SUITE, "stays", "you changed it; delete it to have it drafted anew"))
    changes: dict[str, bytes | None] = {
        "params.yaml": edit.with_values(text, kept).encode(),
        model: (named or code).encode(),
    }
    if _is_draft(project):
        changes[SUITE] = (json.dumps(suite, indent=2, ensure_ascii=False) + "\n").encode()
    old = project.params.data.path
    if old != path and "://" not in old and _kept_by_git(project, old):
        changes[old] = None
    return changes


def _drafted(project: Project) -> Any:
    """What an earlier adopt has noted in the contract, or None."""
    try:
        return edit.value_at(json.loads((project.root / SUITE).read_bytes()), "meta.adopt")
    except (OSError, ValueError):
        return None


def _is_draft(project: Project) -> bool:
    """Whether the contract is the one of the sample, or of an earlier adopt, and not edited since."""
    noted = _drafted(project)
    if noted is None:
        return True
    suite = json.loads((project.root / SUITE).read_bytes())
    return bool(sha256(to_json({k: v for k, v in suite.items() if k != "meta"}).encode()) == noted.get("expectations"))


def _unlike_the_team_s(
    project: Project, text: str, code: str, values: dict[str, Any], lists: dict[str, list[str]], roles: infer.Roles
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The values and lists without those that the team has changed since the last adopt of this target."""
    noted, now = _drafted(project) or {}, yaml.load(text, Loader=UniqueKeys)
    before = noted.get("values", {})
    if before.get("data.target") != roles.target:
        return values, lists
    own = [
        name
        for name in values
        if name not in ("data.path", "data.sha256") and name in before and edit.value_at(now, name) != before[name]
    ]
    listed = edit.columns_in(code)
    own_lists = [name for name in lists if name in listed and listed[name] != noted.get("lists", {}).get(name)]
    for name in (*own, *own_lists):
        roles.told.append((name, "stays", "you changed it"))
    return (
        {name: value for name, value in values.items() if name not in own},
        {name: columns for name, columns in lists.items() if name not in own_lists},
    )


def _kept_by_git(project: Project, path: str) -> bool:
    return project.git.succeeds("cat-file", "-e", f"HEAD:./{path}") and not project.git(
        "status", "--porcelain", "--", path
    )


def _settings(text: str) -> params.Params:
    with TemporaryDirectory() as folder:
        place = Path(folder, "params.yaml")
        place.write_text(text, encoding="utf-8")
        return params.load(place)


def _show(
    roles: infer.Roles,
    told: list[tuple[str, str, str]],
    frame: pd.DataFrame,
    settings: params.Params,
    say: Callable[[str], None],
) -> None:
    """What was inferred, as a table with reasons."""
    lines = [*told, ("data.target", roles.target, str(frame[roles.target].dtype)), *roles.told]
    lines += [
        (f"column {name}", "private" if name in roles.private else "ignored", why) for name, why in roles.ignore.items()
    ]
    lines += [(f"column {name}", "text", "codes of digits") for name in roles.text]
    lines.append(("categories", f"{len(roles.categories)}", ", ".join(roles.categories)[:200]))
    lines.append(("numbers", f"{len(roles.numbers)}", ", ".join(roles.numbers)[:200]))
    lines.append(("segments", ", ".join(roles.segments) or "none", f"values with {infer.SEGMENT_ROWS} held out rows"))
    floor = ", ".join(f"{name} {value:g}" for name, value in settings.gate.floors.items())
    lines.append(("gate", settings.gate.metric, f"margin {settings.gate.margin:g}, floor {floor}: a constant's"))
    width = min(28, max(len(line[0]) for line in lines))
    middle = min(28, max(len(line[1]) for line in lines))
    for subject, found, why in lines:
        say(f"  {subject:<{width}}  {found:<{middle}}  {why}".rstrip())


def _differ(project: Project, changes: dict[str, bytes | None], say: Callable[[str], None]) -> None:
    for name, content in changes.items():
        if name.startswith("data/") or content is None:
            say(f"{'removes' if content is None else 'writes'} {name}")
            continue
        before = (project.root / name).read_text(encoding="utf-8") if (project.root / name).is_file() else ""
        lines = difflib.unified_diff(before.splitlines(), content.decode().splitlines(), name, name, lineterm="", n=0)
        for line in lines:
            say(line)


def _holding(
    project: Project, changes: dict[str, bytes | None], say: Callable[[str], None]
) -> tuple[Decision, Decision, dict[str, bytes | None]]:
    """What came of the baseline, or of boosting if that alone keeps to the floors: heavy tails spoil a linear model.

    Returns:
        The comparison with a constant, the verdict of a first champion, and the changes.
    """
    found, text = _tried(project, changes), (changes["params.yaml"] or b"").decode()
    boosted = edit.boosted(text, found[0].metric) if not _holds(found[0]) else None
    if boosted is None:
        return *found, changes
    say("adopt     the baseline is beyond its floor: trying boosting in its place")
    other = changes | {"params.yaml": boosted.encode()}
    again = _tried(project, other)
    if not _holds(again[0]):
        return *found, changes
    say("adopt     model.params.estimator is boosting, which keeps to the floor")
    return *again, other


def _holds(decision: Decision) -> bool:
    return all(floor.holds for floor in decision.floors)


def _tried(project: Project, changes: dict[str, bytes | None]) -> tuple[Decision, Decision]:
    """The baseline against a constant, both on the holdout, and as a first champion, in a copy of the repository.

    Raises:
        Misuse: the contract does not hold, or training fails; the line is of that step.
    """
    copy = project.root / "build" / "adopt-try"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for entry in project.root.iterdir():
        if entry.name not in LEFT_OUT:
            put = shutil.copytree if entry.is_dir() else shutil.copy2
            put(entry, copy / entry.name)
    for name, content in changes.items():
        if content is not None:
            write_bytes(copy / name, content)
    path = params.load(copy / "params.yaml").data.path
    if "://" not in path and not (copy / path).exists():  # it stays where it is
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).symlink_to(project.root / path)
    variables = {
        name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "GITHUB_OUTPUT")
    }
    for step in ("validate", "train"):
        words = [sys.executable, "-m", "conveyor", step]
        done = subprocess.run(
            words, cwd=copy, env={**variables, "PYTHONPATH": "src"}, capture_output=True, encoding="utf-8"
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it exited with {done.returncode}"]
            raise Misuse(f"adopt: {step} of the draft: {lines[-1].removeprefix('error: ')}; nothing was changed")
    tried = Project(copy)
    frame, names, rule = source.frame_of(tried), tried.params.data, tried.params.gate
    bundle = Bundle(copy / "build" / "candidate")
    trained = split.SplitRule.read(bundle.path).trained_on(frame)
    held_out, y = frame[~trained], columns.labels(frame, names)
    predicted = answer(bundle, columns.features(held_out, names), tried.params.model.trusted_types).predictions
    groups, unit = units.units(held_out, names, rule.block)
    constant = _constant(y[trained], names.task, predicted)
    decision, first = (
        decide(y[~trained], other, predicted, rule, task=names.task, groups=groups, unit=unit, every_metric=False)
        for other in (constant, None)
    )
    shutil.rmtree(copy)
    return decision, first


def _constant(y: np.ndarray[Any, Any], task: str, predicted: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The best answer without features, for as many rows."""
    if task == "multiclass":
        shares = np.bincount(y, minlength=predicted.shape[1]) / len(y)
        return np.tile(shares, (len(predicted), 1))
    return np.full(len(predicted), np.median(y) if task == "regression" else y.mean())
