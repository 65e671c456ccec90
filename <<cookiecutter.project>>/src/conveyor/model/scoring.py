"""Bundle + rows -> predictions: the only code that runs a model outside serving.

Champion and challenger are scored on the same rows. A model is scored by its own bundle: in this process when code
and lock are the current ones, else in a subprocess that imports the wheel of the bundle, in an environment that is
built from the lock of the bundle if that one differs. Both are then timed in turn, so that a busy moment of the
machine meets both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core.code import code_sha256
from conveyor.core.errors import Misuse
from conveyor.core.files import sha256
from conveyor.core.project import Project
from conveyor.core.venv import holding
from conveyor.data import columns
from conveyor.data.source import frame_of
from conveyor.model.bundle import Bundle
from conveyor.model.code import scorer
from conveyor.model.runtime import predict

SECONDS = 1800
BATCH = 100  # rows that are predicted at once when models are timed


@dataclass(frozen=True)
class Scored:
    """A model's predictions, and a function that predicts the first BATCH rows again and returns the seconds."""

    predictions: NDArray[np.float64]
    again: Callable[[], float]


def answer(bundle: Bundle, rows: pd.DataFrame, trusted_types: tuple[str, ...]) -> Scored:
    """The bundle's model at work in this process.

    Raises:
        Misuse: a feature column is missing, the model is refused, or it fails on these rows.
    """
    columns = list(bundle.features)
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise Misuse(f"column {missing[0]!r} is missing; model {bundle.key[:12]} was trained with it")
    model, rows = bundle.load_model(trusted_types), rows[columns]
    task = bundle.asked["task"], len(bundle.asked["classes"])
    few = rows.head(BATCH)

    def again() -> float:
        began = time.perf_counter()
        predict(model, few, *task)
        return time.perf_counter() - began

    try:
        return Scored(predict(model, rows, *task), again)
    except Misuse:
        raise
    except Exception as error:
        # It may be asked about rows that it was not made for, and what it raises then is up to its libraries.
        raise Misuse(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def exact(values: pd.Series) -> list[Any]:
    """A column as JSON takes it, without losing a digit: numbers as Python writes them, times to the nanosecond."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return [None if pd.isna(value) else value.isoformat() for value in values]
    if pd.api.types.is_numeric_dtype(values):
        numbers: list[Any] = values.tolist()
        return numbers
    return [None if pd.isna(value) else value for value in values.astype(object)]


def column(values: list[Any], dtype: str) -> pd.Series:
    """What ``exact`` was given."""
    if dtype.startswith("datetime64"):
        return pd.to_datetime(pd.Series(values, dtype=object), format="ISO8601").astype(dtype)
    return pd.Series(values, dtype=dtype)


@contextmanager
def apart(project: Project, bundle: Bundle, rows: pd.DataFrame) -> Iterator[Scored]:
    """The model of a bundle whose code or lock are not the current ones, at work in a process of its own.

    Raises:
        Misuse: the environment cannot be built, or the model cannot score these rows.
    """
    current = project.needed("requirements/model.txt")
    python = sys.executable if bundle.requirements == current else environment(project, bundle)
    with tempfile.TemporaryDirectory(dir=project.build) as name:
        folder = Path(name)
        columns = {c: {"dtype": str(rows[c].dtype), "values": exact(rows[c])} for c in rows}
        (folder / "rows.json").write_text(
            json.dumps({"columns": columns, "trusted_types": project.params.model.trusted_types})
        )
        words = [python, "-m", scorer(bundle.wheel), str(bundle.path.resolve()), "rows.json", "out.npy"]
        # Only the wheel of the bundle is on the path: the code beside this file must not help the old model.
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with (
            open(folder / "said.txt", "w+") as said,
            subprocess.Popen(
                words,
                cwd=folder,
                env={**variables, "PYTHONPATH": str(bundle.wheel.resolve())},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            ) as worker,
        ):
            # Both are pipes, see above.
            asked, answers = cast(IO[str], worker.stdin), cast(IO[str], worker.stdout)
            limit = threading.Timer(SECONDS, worker.kill)
            limit.start()
            try:
                if not answers.readline():  # it ended instead of saying that it is done
                    worker.wait()
                    said.seek(0)
                    told = said.read().strip().splitlines() or [f"it said nothing within {SECONDS} s"]
                    raise Misuse(told[-1].removeprefix("error: "))

                def again() -> float:
                    try:
                        asked.write("again\n")
                        asked.flush()
                        return float(answers.readline() or "nan")
                    except OSError:
                        return float("nan")  # it has ended since: its predictions are there, its time decides nothing

                yield Scored(np.load(folder / "out.npy"), again)
            finally:
                limit.cancel()
                worker.kill()


def environment(project: Project, bundle: Bundle) -> str:
    """The Python of an environment that holds the bundle's lock; built once, then found again.

    Raises:
        Misuse: it cannot be built.
    """
    place = project.build / "environments" / sha256(bundle.requirements)[:16]
    return holding(place, bundle.path / "requirements.txt", f"the lock of model {bundle.key[:12]}")


def scoring_code(project: Project) -> str:
    """Digest of the code that a bundle of this commit is scored by: another one may give other predictions."""
    return code_sha256("conveyor.model.scoring", team=project.team)


@contextmanager
def of_own_bundle(project: Project, bundle: Bundle, rows: pd.DataFrame) -> Iterator[Scored]:
    """A bundle's model at work, in this process where that gives the same."""
    current = project.needed("requirements/model.txt")
    if bundle.requirements == current and bundle.scoring_code == scoring_code(project):
        yield answer(bundle, rows, project.params.model.trusted_types)
    else:
        with apart(project, bundle, rows) as scored:
            yield scored


def comparable(bundle: Bundle, about: dict[str, Any]) -> None:
    """Whether a model answers the question that the data ask.

    Args:
        bundle: the model.
        about: task, target and classes of the data; see ``question``.

    Raises:
        Misuse: it answers another one.
    """
    for what, now in about.items():
        then = bundle.asked[what]
        if then != now:
            raise Misuse(f"it was trained for {what} {then}, and these data ask for {now}")


def question(project: Project) -> dict[str, Any]:
    """What the data ask of a model: task, target and, as text, the classes."""
    names = project.params.data
    classes = [str(value) for value in columns.classes(frame_of(project), names)]
    return {"task": names.task, "target": names.target, "classes": classes}


@contextmanager
def of_champion(project: Project, bundle: Bundle, rows: pd.DataFrame) -> Iterator[tuple[Scored | None, str | None]]:
    """The champion at work, or in words why it cannot score these rows."""
    scored, error = None, None
    with ExitStack() as stack:
        try:
            comparable(bundle, question(project))
            scored = stack.enter_context(of_own_bundle(project, bundle, rows))
        except Misuse as refused:
            error = str(refused)
        yield scored, error


def main(bundle_path: str, rows_path: str, out_path: str) -> None:
    """What the subprocess of ``apart`` runs, from the wheel of the bundle: predicts, says so, and again when asked."""
    told, sys.stdout = sys.stdout, sys.stderr  # what a model prints is no answer
    given = json.loads(Path(rows_path).read_text())
    rows = pd.DataFrame({name: column(of["values"], of["dtype"]) for name, of in given["columns"].items()})
    scored = answer(Bundle(Path(bundle_path)), rows, tuple(given["trusted_types"]))
    np.save(out_path, scored.predictions)
    print("done", file=told, flush=True)
    for _ in sys.stdin:
        print(scored.again(), file=told, flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Misuse as refused:
        sys.exit(f"error: {refused}")
