"""The steps with their inputs and outputs, and the rule that skips an unchanged step."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from operator import getitem
from pathlib import Path
from types import ModuleType

from filelock import FileLock, Timeout

from conveyor.core.code import code_sha256
from conveyor.core.errors import Misuse, Refused, one_line
from conveyor.core.files import check_received, read_json, sha256, to_json, write_json
from conveyor.core.project import Project, whole
from conveyor.core.waits import announced
from conveyor.gate import metrics
from conveyor.ledger.ledger import ledger_of


@dataclass(frozen=True)
class Step:
    """A step is a module with ``run(project)``.

    Attributes:
        name: the verb, and the module.
        does: what it does, in words, for a wait that is long.
        code: modules whose code it runs, besides all modules that these import.
        reads: files that it reads, relative to the repository ("build/" means the build folder).
        settings: what it reads of params.yaml, as section or section.key.
        writes: files and folders under the build folder that it makes.
        champion: whether it reads the ledger.
        judge: whether it looks for changes besides the model.
        validated: whether it needs data that passed validation; validating them again does not repeat it.
        always: whether it runs even if nothing changed, because it acts outside of the build folder.
    """

    name: str
    does: str
    code: tuple[str, ...]
    reads: tuple[str, ...]
    settings: tuple[str, ...]
    writes: tuple[str, ...]
    champion: bool = False
    judge: bool = False
    validated: bool = False
    always: bool = False


STEPS = (
    Step(
        name="validate",
        does="reads the data and checks them against the contract",
        code=("conveyor.steps.validate",),
        reads=("expectations/data.json",),
        settings=("data", "split", "gate.block"),
        writes=("validation.json", "data_docs"),
    ),
    Step(
        name="train",
        does="fits the model, logs it, and tests its served forms on the holdout",
        code=("conveyor.steps.train",),
        reads=("requirements/run.txt", "requirements/model.txt"),
        settings=("data", "split", "model", "gate.block"),
        writes=("candidate",),
        validated=True,
    ),
    Step(
        name="score",
        does="predicts the holdout with both models, and times them",
        code=("conveyor.steps.score",),
        reads=("requirements/run.txt", "build/candidate"),
        settings=("data", "model"),
        writes=("scores.parquet",),
        champion=True,
    ),
    Step(
        name="compare",
        does="measures both models, and resamples rows for the intervals",
        code=("conveyor.steps.compare",),
        reads=("requirements/run.txt", "requirements/model.txt", "build/scores.parquet"),
        settings=("data", "split", "model", "gate"),
        judge=True,
        writes=("decision.json", "judged.parquet", "receipt.json"),
        champion=True,
    ),
    Step(
        name="promote",
        does="writes the ledger and MLflow",
        code=("conveyor.steps.promote",),
        reads=("build/decision.json", "build/candidate"),
        settings=(),
        writes=(),
        champion=True,
        always=True,
    ),
    Step(
        name="report",
        does="draws the report",
        code=("conveyor.steps.report",),
        reads=(
            "build/validation.json",
            "build/decision.json",
            "build/judged.parquet",
            "build/candidate",
            "build/champion",
            "build/aa.json",
        ),
        settings=(),
        writes=("report.md", "report.html"),
        always=True,
    ),
)
BY_NAME = {step.name: step for step in STEPS}
# Deleted as soon as an earlier step runs: the verdict was about the files of that time.
VERDICT = ("decision.json", "judged.parquet", "receipt.json", "report.md", "report.html")


def digest(path: Path) -> str:
    """Digest of a file or of all files below a folder, "absent" if there is nothing."""
    if path.is_file():
        return sha256(path.read_bytes())
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return sha256("".join(f"{file.relative_to(path).as_posix()} {digest(file)}\n" for file in files).encode())
    return "absent"


def fingerprint(step: Step, project: Project) -> dict[str, str]:
    """The digest of each input of a step, by name: a difference shows why the step runs again."""
    found = {"code": code_sha256(*step.code, team=project.team)}
    for path in step.reads:
        place = project.build / path.removeprefix("build/") if path.startswith("build/") else project.root / path
        found[path] = digest(place)
    params = project.params.model_dump(mode="json")
    for section in step.settings:
        value = reduce(getitem, section.split("."), params)
        found[f"params.{section}"] = sha256(to_json(value).encode())
    if "data" in step.settings:
        found["data"] = digest(project.data_root / project.params.data.path)
        if project.pull:  # which may ask another question
            found["asked"] = sha256(to_json(project.pull_data.model_dump(mode="json")).encode())
    if step.validated:
        verdict = read_json(project.build / "validation.json", made_by="validate")
        found["validated"] = str(verdict.get("passed") and verdict.get("data_sha256") == project.params.data.sha256)
    if step.judge:
        found["before"] = str(project.before)
        looks = ledger_of(project).history().model_dump(mode="json")
        found["looks"] = sha256(to_json(looks).encode())
    if step.champion:
        champion = ledger_of(project).champion()
        found["champion"] = champion.digest if champion else "none"
    return found


@contextmanager
def alone(project: Project) -> Iterator[None]:
    """Hold the lock of the build folder, and delete half-written files of a killed run.

    Raises:
        Misuse: another run holds the lock; or, in a workflow, an earlier job has put foreign files there.
    """
    project.build.mkdir(parents=True, exist_ok=True)
    lock = FileLock(project.build / ".lock", timeout=0)  # the system frees it even if the process is killed
    try:
        with lock:
            for left in project.build.glob(".writing-*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            if project.environment.run_url:
                check_received(project.build, apart="environments")
            metrics.add(project.params.gate.own_metrics)
            yield
    except Timeout:
        raise Misuse(f"{project.build.name}: another run is at work in it; wait until it has ended") from None


def run(step: Step, project: Project) -> str:
    """Run a step unless nothing changed; returns its message.

    Raises:
        Refused, Misuse: as the step does.
    """
    whole(project.root)
    record = project.build / "steps" / f"{step.name}.json"
    reads = fingerprint(step, project)
    writes = {name: digest(project.build / name) for name in step.writes}
    # For a pull request any file may be flagged, so the step runs again.
    if not step.always and not (step.judge and project.pull):
        try:
            known = read_json(record, step.name, {"reads": dict, "writes": dict, "message": str})
        except Misuse:
            known = {}  # no record, or a damaged one: the step runs
        if known.get("reads") == reads and known.get("writes") == writes:
            return f"unchanged: {known['message']}"
    record.unlink(missing_ok=True)
    if not step.always:
        for name in VERDICT:
            (project.build / name).unlink(missing_ok=True)
    began = time.monotonic()
    message: str = _module(step).run(project)
    seconds = round(time.monotonic() - began, 3)
    writes = {name: digest(project.build / name) for name in step.writes}
    write_json(record, {**project.header(), "reads": reads, "writes": writes, "message": message, "seconds": seconds})
    return message


def _seconds(step: Step, project: Project) -> float | None:
    """How long the step took when it last ran to its end."""
    try:
        known = read_json(project.build / "steps" / f"{step.name}.json", step.name).get("seconds")
    except Misuse:
        return None
    return known if isinstance(known, float) else None


def _module(step: Step) -> ModuleType:
    """The module of a step.

    Raises:
        Misuse: a library is missing.
    """
    try:
        return import_module(f"conveyor.steps.{step.name}")
    except ImportError as error:
        raise Misuse(f"{step.name}: {' '.join(str(error).split())}; run `make setup`") from error
    except EOFError as error:  # a full disk left a cut-off compiled module
        raise Misuse(f"{step.name}: a compiled module is cut off; delete the folders __pycache__ in src") from error


def show(step: Step, project: Project, say: Callable[[str], None] = print) -> None:
    """Run a step and say so in one line: its name, its message and how long it took."""
    began = time.monotonic()
    usual = f" (the last time it took {seconds:.0f} s)" if (seconds := _seconds(step, project)) else ""
    try:
        with announced(step.name, f"{step.does}{usual}"):
            message = run(step, project)
    except (Refused, Misuse):
        say(f"{step.name:<9} stopped ({time.monotonic() - began:.1f} s)")
        raise
    say(f"{step.name:<9} {one_line(message)} ({time.monotonic() - began:.1f} s)")


def run_all(project: Project, say: Callable[[str], None] = print) -> None:
    """validate, train, score, compare, promote and report, in one process.

    Raises:
        Refused, Misuse: from the step that stopped; the report is made all the same.
    """
    stopped: Refused | Misuse | None = None
    for step in STEPS[:-1]:
        try:
            show(step, project, say)
        except (Refused, Misuse) as error:
            stopped = error
            if step.name != "compare" or isinstance(error, Misuse):
                break  # a block is recorded all the same
    if stopped is None or (project.build / "validation.json").is_file():
        show(BY_NAME["report"], project, say)
    if stopped:
        raise stopped
