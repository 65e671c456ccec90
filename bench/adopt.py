"""`make adopt` over public data that come inside packages: is each a green repository, and does its contract hold?

    make bench-adopt                               # about an hour; writes docs/adopt.md
    .venv/bin/python bench/adopt.py digits titanic # these sets alone: their lines of the page
    .venv/bin/python bench/adopt.py --quick        # what needs no other package, in part

Each set is written as a file as its owner could have it. A fresh repository adopts it by DATA and TARGET alone; then
its pipeline runs, and its own tests. Nobody edits a line. The contract is drafted on random halves of the rows and
tried on the other halves; then faults are planted, each in every column that can have it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from drafts import FAULTS, ROWS, Proved, proved
from product import bake
from public import OF_SKLEARN, SETS, Set
from sklearn import datasets

from conveyor.adopt import infer, prepare, sniff
from conveyor.core.project import Project
from conveyor.data import columns, source
from conveyor.data.split import split
from conveyor.model.builder import Builder

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "adopt.md"
KEPT = ROOT / "build" / "bench" / "adopt.json"  # what was found of each set, for the page
SPLITS, QUICK = 200, 20
LEAST = 0.95  # of the halves on which a contract has to hold, and of the faults that it has to see
COST = "cost"  # what many columns cost: measured beside the sets
FIXED = 10  # seconds of `train` that no fit has to be worth

Frame = pd.DataFrame


# A green repository without an edit


@dataclass
class Adopted:
    """What became of a set.

    Attributes:
        adopt, pipeline, fit: seconds, the last one of the model's fit alone.
        gate: the metric of the model with its interval, and that of a constant, as `adopt` tells them.
        failed: the steps that failed, with their last line.
    """

    rows: int
    columns: int
    task: str = ""
    adopt: float = 0.0
    pipeline: float = 0.0
    fit: float = 0.0
    gate: tuple[str, str] = ("", "")
    tests: str = ""
    failed: list[str] = field(default_factory=list)


GATE = re.compile(r": (\w+) ([^ ,]+), a constant has ([^ ,]+), (?:with the interval ([^ ]+) to ([^ ]+) )?")


def adopted(one: Set, with_tests: bool) -> Adopted:
    """A fresh repository adopts the set."""
    given = one.load()
    found = Adopted(*given.shape)
    with tempfile.TemporaryDirectory() as folder:
        file, root = Path(folder, one.file), Path(folder, "repository")
        file.write_bytes(one.write(given))
        shutil.copytree(bake(), root, symlinks=True)

        def step(*words: str) -> tuple[str, float]:
            began = time.perf_counter()
            variables = {name: value for name, value in os.environ.items() if not name.startswith(("GIT", "MLFLOW_T"))}
            done = subprocess.run(
                [sys.executable, "-m", *words],
                cwd=root,
                env=variables | {"PYTHONPATH": "src"},
                capture_output=True,
                encoding="utf-8",
            )
            if done.returncode:
                found.failed.append(f"{words[-1]}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
            return done.stdout, time.perf_counter() - began

        said, found.adopt = step("conveyor", "adopt", "--data", str(file), "--target", one.target)
        if found.failed:
            return found
        metric, own, constant, low, high = GATE.search(said.splitlines()[-1]).groups()
        found.gate = (f"{metric} {own}" + (f" ({low} to {high})" if low else ""), constant)
        _, found.pipeline = step("conveyor", "pipeline")
        if with_tests:
            told, _ = step("pytest", "-q", "-p", "no:cacheprovider")
            found.tests = (told.strip().splitlines() or [""])[-1].partition(" in ")[0]
        found.task = Project(root).params.data.task
        # In a process of its own: each repository has a module of the same name.
        words = [sys.executable, __file__, "--fit"]
        path = f"src{os.pathsep}{os.environ['PYTHONPATH']}"
        done = subprocess.run(words, cwd=root, env=os.environ | {"PYTHONPATH": path}, check=True, capture_output=True)
        found.fit = float(done.stdout.split()[0])
    return found


def wide(rows: int, columns: int) -> Frame:
    """Rows of digits, drawn again and again, whose pixels stand beside each other in noisy copies; is the digit odd?"""
    given, rng = datasets.load_digits(as_frame=True).frame, np.random.default_rng(0)
    drawn = given.sample(rows, replace=True, random_state=0).reset_index(drop=True)
    pixels = drawn.drop(columns="target").loc[:, lambda frame: frame.nunique() > 8]
    copies = [
        pixels.add_suffix(f" {n}") + rng.normal(0, 2, pixels.shape) for n in range(-(-columns // pixels.shape[1]))
    ]
    return pd.concat(copies, axis=1).iloc[:, :columns].round(2).assign(odd=drawn["target"] % 2)


def cost(rows: int, columns: int) -> dict[str, float]:
    """Seconds of CPU of `train` and of the fit alone, in one run: others may use the machine meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        file, root = Path(folder, "wide.parquet"), Path(folder, "repository")
        file.write_bytes(sniff.parquet_of(wide(rows, columns)))
        shutil.copytree(bake(), root, symlinks=True)
        path = os.environ["PYTHONPATH"]

        def run(*words: str, path: str = "src") -> str:
            command, variables = [sys.executable, *words], os.environ | {"PYTHONPATH": path}
            done = subprocess.run(command, cwd=root, env=variables, check=True, capture_output=True, encoding="utf-8")
            return done.stdout

        def cpu() -> float:
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return used.ru_utime + used.ru_stime

        run("-m", "conveyor", "adopt", "--data", str(file), "--target", "odd")
        run("-m", "conveyor", "validate")
        before = cpu()
        run("-m", "conveyor", "train")
        trained = cpu() - before
        fit = run(__file__, "--fit", path=f"src{os.pathsep}{path}").split()[1]
    return {"rows": rows, "columns": columns, "train": trained, "fit": float(fit)}


def fitted(project: Project) -> tuple[float, float]:
    """Seconds that the model of a repository takes to fit, and nothing else: by the clock, and of CPU."""
    frame, names = source.frame_of(project), project.params.data
    rule = split(frame, names, project.params.split, project.params.gate.block)
    trained = frame[rule.trained_on(frame)]
    x, y = columns.features(trained, names), columns.labels(trained, names)
    model = Builder.of(project).pipeline(project.params.model.seed)
    began, used = time.perf_counter(), time.process_time()
    model.fit(x, y)
    return time.perf_counter() - began, time.process_time() - used


def read(one: Set) -> tuple[Frame, infer.Roles]:
    """The rows and the roles that `adopt` finds in a file."""
    found = sniff.read({"": one.write(one.load())}, one.file)
    roles, _ = prepare.prepare(found, infer.asked(one.target))
    return found.frame, roles


# The page

INTRODUCTION = """
# `make adopt` on public data

Written by `make bench-adopt`. Each set comes from a package and is written as a file in a form that a team could have.
A fresh repository adopts that file with DATA and TARGET alone, then its pipeline and its own tests run. Nothing else
writes into it, so no line is edited. If a step fails, the column of the tests names it. Each set can be measured alone:
the lines of this page are of several runs.
"""
FIRST = """
- *what*: what is special about the file
- *gate*: the metric of the first model on the holdout, with its interval; *constant*: that of the best answer without
  features
- *edits*: 0 if each step succeeded without an edited line, else "not green"
- *tests*: the last line of the repository's own tests
- *adopt*, *pipeline*, *fit*: seconds of one run each, on a machine that others used at the time; *fit* is the model's
  fit alone, which `adopt` and `pipeline` contain
"""
SECOND = """
## What the drafted contract lets through

The contract is drafted on a random half of the rows and tried on the other half, {splits} times; *held* is how often
it holds. *later* says whether the contract of the earlier half of the time holds on the later half. Then faults are
planted for the contract of all rows, one at a time, each in every column that can have it. A cell holds the number of
columns in which the fault is found, and the number in which it was planted. A column with fewer than {rows} values, or
fewer values other than zero, has no fault of its gaps or its size.

- *gone*: a column is missing, or all are in another order; *rows*: a tenth of the rows; *key*: three rows come twice;
  *target*: a tenth of the targets is missing, or half of them are a new class
- *type*: numbers become texts, as in 5 EUR; *codes*: categories become numbers
- *× 10* to *÷ 100*: all values of a column of numbers
- *range*: one value is a thousand times the largest
- *empty*: a feature has no value; *half empty*: half of the values of a feature that has most of them
- *flood*: half of the texts of a category have never been seen; *times*: all times are a hundred years later
"""
HEAD = ("set", "what", "rows", "columns", "task", "gate", "constant", "edits", "tests", "adopt", "pipeline", "fit")
SHAPES = ("gone", "rows", "key", "target")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def of_repositories(found: dict[str, Adopted]) -> list[str]:
    rows = []
    for name, one in found.items():
        told = SETS[name]
        seconds = tuple(f"{value:.2g}" if value < 1 else f"{value:.0f}" for value in (one.adopt, one.pipeline, one.fit))
        end = "; ".join(one.failed) or one.tests
        edits = "0" if not one.failed else "not green"
        shape = (f"{one.rows:,}", str(one.columns), one.task)
        rows.append((name, f"{told.source}: {told.told}", *shape, *one.gate, edits, end, *seconds))
    return table(HEAD, rows)


def of_contracts(found: dict[str, Proved]) -> list[str]:
    faults = (*SHAPES, *FAULTS)
    rows = []
    for name, one in found.items():
        later = {None: "", True: "holds", False: "**broken**"}[one.later]
        cells = [f"{one.caught[fault][0]}/{one.caught[fault][1]}" if fault in one.caught else "" for fault in faults]
        rows.append((name, f"{one.held}/{one.splits}", later, *cells))
    return table(("set", "held", "later", *faults), rows)


def of_cost(found: dict[str, float]) -> str:
    shape = f"{found['columns']:.0f} columns and {found['rows']:,.0f} rows"
    return (
        f"Many columns: of {shape} (pixels of the digits in noisy copies) `train` took {found['train']:.1f} s,\n"
        f"and the fit alone {found['fit']:.1f} s, of CPU in one run. It may take 1.5 times the fit, and {FIXED} s."
    )


def page(repositories: dict[str, Adopted], contracts: dict[str, Proved], costs: dict[str, float]) -> str:
    """The text of docs/adopt.md."""
    with_what = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, pandas {pd.__version__}"
    where = f"Written on {with_what}, scikit-learn {version('scikit-learn')}, on {os.cpu_count()} cores."
    second = SECOND.format(splits=next(iter(contracts.values())).splits, rows=ROWS).strip()
    missed = [f"- {name}: {', '.join(one.missed)}" for name, one in contracts.items() if one.missed]
    lines = [INTRODUCTION.strip(), where, FIRST.strip(), "\n".join(of_repositories(repositories))]
    lines += [of_cost(costs), second, "\n".join(of_contracts(contracts))]
    lines += ["Not found:", "\n".join(missed)] if missed else []
    return "\n\n".join(lines) + "\n"


def wrong(repositories: dict[str, Adopted], contracts: dict[str, Proved], costs: dict[str, float] | None) -> list[str]:
    """What is not as promised."""
    told = [f"{name}: {'; '.join(one.failed)}" for name, one in repositories.items() if one.failed]
    for name, one in contracts.items():
        if one.held < LEAST * one.splits or one.later is False:
            told.append(f"{name}: held {one.held} of {one.splits}, later {one.later}: {one.broken}")
        if len(one.missed) > (1 - LEAST) * sum(planted for _, planted in one.caught.values()):
            told.append(f"{name}: not seen: {', '.join(one.missed)}")
    if costs and costs["train"] > 1.5 * costs["fit"] + FIXED:
        told.append(of_cost(costs))
    return told


def keep(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """All that was found so far, with this."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    KEPT.write_text(json.dumps(kept | {name: found}))
    return kept | {name: found}


def main(names: list[str], quick: bool) -> None:
    repositories, contracts, kept = {}, {}, {}
    for name in names:
        if name == COST:
            costs = cost(20_000, 500)
            print(of_cost(costs), flush=True)
            kept = keep(name, costs)
            continue
        contracts[name] = proved(*read(SETS[name]), QUICK if quick else SPLITS)
        print("\n".join(of_contracts({name: contracts[name]})[2:]), contracts[name].broken, flush=True)
        if not quick or name == names[0]:
            repositories[name] = adopted(SETS[name], with_tests=not quick)
            print("\n".join(of_repositories({name: repositories[name]})[2:]), flush=True)
        if not quick:
            kept = keep(name, {"repository": asdict(repositories[name]), "contracts": asdict(contracts[name])})
    told = wrong(repositories, contracts, kept.get(COST))
    print(*told, sep="\n")
    if not {*SETS, COST} - set(kept):
        repositories = {name: Adopted(**kept[name]["repository"]) for name in SETS}
        contracts = {name: Proved(**kept[name]["contracts"]) for name in SETS}
        PAGE.write_text(page(repositories, contracts, kept[COST]), encoding="utf-8")
    sys.exit(bool(told))


if __name__ == "__main__":
    given = sys.argv[1:]
    if given == ["--fit"]:
        print(*fitted(Project(Path.cwd())))
    else:
        main(list(OF_SKLEARN) if given == ["--quick"] else given or [*SETS, COST], given == ["--quick"])
