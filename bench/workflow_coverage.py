"""Which test executes each command of the generated workflows, and which one fails when the command does nothing.

    python bench/workflow_coverage.py check FILE     whether a run of the tests executed every command; FILE is what it
                                                     wrote as ACT_COVERAGE
    python bench/workflow_coverage.py [WORKFLOW ..]  replace each command by `true`, in the named workflows or else in
                                                     those that changed since; ALL: in all of them

The second writes bench/workflows.json, from which `make docs` makes the table of docs/workflows.md. A command counts as
tested if a test that passes as it is fails with `true` in the command's place.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "workflows.json"
SCENARIOS = tuple(f"tests/test_workflows_{name}.py" for name in ("run", "by_hand", "grown", "watch"))
TRIES = 6  # tests that are asked to notice one mutation


def generated(scratch: Path) -> dict[str, str]:
    """The workflows of the default answers, as text by name."""
    config = scratch / "config.yaml"
    config.write_text(f"cookiecutters_dir: {scratch}\nreplay_dir: {scratch}\n")
    words = {"no_input": True, "output_dir": str(scratch), "config_file": str(config), "accept_hooks": False}
    folder = Path(cookiecutter(str(ROOT), **words)) / ".github" / "workflows"
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.yml"))}


def commands(workflows: dict[str, str]) -> dict[str, str]:
    """workflow/job/step -> its command, for all that have one."""
    return {
        f"{name}/{job}/{step['name']}": step["run"]
        for name, text in workflows.items()
        for job, body in yaml.safe_load(text)["jobs"].items()
        for step in body["steps"]
        if "run" in step
    }


def digest(text: str) -> str:
    """Of all that a workflow does: its comments do not count."""
    return sha256(json.dumps(yaml.safe_load(text), default=str).encode()).hexdigest()


def executed(file: Path) -> dict[str, dict[str, bool]]:
    """workflow/job/step -> the tests that executed it, of those that run what is generated: whether its job failed."""
    found: dict[str, dict[str, bool]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if one["test"].startswith(SCENARIOS):
            tests = found.setdefault(f"{one['workflow']}/{one['job']}/{one['step']}", {})
            tests[one["test"]] = tests.get(one["test"], False) or one["result"] == "failure"
    return found


def check(file: Path) -> int:
    """1 if a command was not executed by any test."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = commands(generated(Path(scratch)))
    found = executed(file)
    missed = sorted(set(wanted) - set(found))
    for command in missed:
        print(f"never executed: {command}")
    print(f"coverage  {len(wanted) - len(missed)} of {len(wanted)} commands of the generated workflows were executed")
    return 1 if missed else 0


def tests(arguments: list[str], shared: Path, tell: bool = False, **more: str) -> bool:
    """Runs tests in a state that is kept from one run to the next; whether they all passed.

    tell: prints which did not.
    """
    env = {**os.environ, "TESTS_SHARED": str(shared), "OMP_NUM_THREADS": "1", **more}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", *arguments]
    words += [] if tell else ["-x"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode not in (0, 1) or "there is no step" in done.stdout:
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    if tell and done.returncode:
        print(done.stdout[-3000:])
    return done.returncode == 0


def seconds_of(report: Path) -> dict[str, float]:
    """The time of each test that passed, by its id."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        if not list(case):
            path = case.get("classname", "").replace(".", "/") + ".py"
            found[f"{path}::{case.get('name')}"] = float(case.get("time", 0))
    return found


def mutate(names: list[str]) -> int:
    """1 if a command can be replaced by `true` and no test fails."""
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        workflows = generated(Path(scratch))
    wanted = commands(workflows)
    stale = [name for name, text in workflows.items() if known.get(name, {}).get("sha256") != digest(text)]
    names = sorted(workflows) if names == ["ALL"] else names or stale
    if not names:
        print("mutation  no workflow has changed since")
        return 0
    place = ROOT / "build" / "mutation"
    coverage, report, shared = place / "coverage.jsonl", place / "report.xml", place / "shared"
    print(f"mutation  {', '.join(names)}; first every scenario as it is", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if not tests([*SCENARIOS, f"--junitxml={report}"], shared, tell=True, ACT_COVERAGE=str(coverage)):
        raise SystemExit("error: a scenario fails as it is; mend that first")
    took, found, survived = seconds_of(report), executed(coverage), []
    results = {name: {"sha256": digest(workflows[name]), "commands": {}} for name in names}
    for command in (command for command in wanted if command.partition("/")[0] in names):
        began, killer = time.monotonic(), None
        # What only has to say no, as a gate, is missed where it does: there its job failed.
        candidates = sorted(found.get(command, {}), key=lambda test: took.get(test, float("inf")))
        said_no = [test for test in candidates if found[command][test]]
        workflow, job, _ = command.split("/", 2)
        asked = said_no[:TRIES] + candidates[:TRIES] if job == workflow else candidates[:TRIES] + said_no[:TRIES]
        for test in dict.fromkeys(asked):
            if not tests([test], shared, ACT_MUTATE=command):
                killer = test
                break
        if killer is None:
            survived.append(command)
        results[command.partition("/")[0]]["commands"][command.partition("/")[2]] = {
            "run": wanted[command],
            "executed": len(candidates),
            "fails": killer,
        }
        print(f"mutation  {command}: {killer or 'NO TEST FAILS'} ({time.monotonic() - began:.0f} s)", flush=True)
    killers = sorted({each["fails"] for name in names for each in results[name]["commands"].values() if each["fails"]})
    if not tests(killers, shared):
        raise SystemExit("error: a test fails also without a mutation; begin again")
    written = {name: results.get(name, known.get(name)) for name in sorted(workflows)}
    RESULTS.write_text(json.dumps({name: each for name, each in written.items() if each}, indent=2) + "\n")
    print(f"mutation  {len(survived)} commands can be replaced by `true` unnoticed: {', '.join(survived) or 'none'}")
    return 1 if survived else 0


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(check(Path(words[1])) if words[:1] == ["check"] else mutate(words))
