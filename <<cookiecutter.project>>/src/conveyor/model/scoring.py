"""Bundle + rows -> predictions: the only code that runs a model outside serving.

Champion and challenger are scored on the same rows, each by the code of its own bundle. If code and lock are the
current ones, that is this process. Otherwise a subprocess imports the wheel of the bundle, in an environment that is
built from the bundle's lock if the lock differs. Both models are then timed in turn, so that a busy moment of the
machine affects both.
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
from conveyor.model.types import as_trained

SECONDS = 1800
BATCH = 100  # rows per call when models are timed


@dataclass(frozen=True)
class Scored:
    """A model's predictions, and a function that predicts the first BATCH rows again and returns the seconds."""

    predictions: NDArray[np.float64]
    again: Callable[[], float]


def answer(bundle: Bundle, rows: pd.DataFrame, trusted_types: tuple[str, ...]) -> Scored:
    """The bundle's model, run in this process.

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
        # The rows may be unlike those of its training, and its libraries may raise any exception for them.
        raise Misuse(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def exact(values: pd.Series) -> list[Any]:
    """A column as lossless JSON: numbers as Python writes them, times to the nanosecond."""
    if pd.api.types.is_datetime64_any_dtype(values):
        # In one zone: a column with two offsets, as of summer and winter, could not be read back.
        one = values if values.dt.tz is None else values.dt.tz_convert("UTC")
        return [None if pd.isna(value) else value.isoformat() for value in one]
    if pd.api.types.is_numeric_dtype(values):
        numbers: list[Any] = values.tolist()
        return numbers
    return [None if pd.isna(value) else value for value in values.astype(object)]


def column(values: list[Any], dtype: str) -> pd.Series:
    """The column that ``exact`` was given."""
    if dtype.startswith("datetime64"):
        return pd.to_datetime(pd.Series(values, dtype=object), format="ISO8601", utc="," in dtype).astype(dtype)
    return pd.Series(values, dtype=dtype)


@contextmanager
def apart(project: Project, bundle: Bundle, rows: pd.DataFrame) -> Iterator[Scored]:
    """The model of a bundle with another code or lock, run in a subprocess.

    Raises:
        Misuse: the environment cannot be built, or the model cannot score these rows.
    """
    current = project.needed("requirements/model.txt")
    python = sys.executable if bundle.requirements == current else environment(project, bundle)
    with tempfile.TemporaryDirectory(dir=project.build) as name:
        folder = Path(name)
        columns = {c: {"dtype": str(rows[c].dtype), "values": exact(rows[c])} for c in rows}
        (folder / "rows.json").write_text(
            json.dumps({"columns": columns, "trusted_types": project.params.model.trusted_types}), encoding="utf-8"
        )
        words = [python, "-m", scorer(bundle.wheel), str(bundle.path.resolve()), "rows.json", "out.npy"]
        # Only the wheel of the bundle is on the path: the present code must not replace the old model's.
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with (
            open(folder / "said.txt", "w+", encoding="utf-8", errors="replace") as said,
            subprocess.Popen(
                words,
                cwd=folder,
                env={**variables, "PYTHONPATH": str(bundle.wheel.resolve())},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                encoding="utf-8",
            ) as worker,
        ):
            # Both are pipes, see above.
            asked, answers = cast(IO[str], worker.stdin), cast(IO[str], worker.stdout)
            limit = threading.Timer(SECONDS, worker.kill)
            limit.start()
            try:
                if not answers.readline():  # it ended before it printed "done"
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
                        return float("nan")  # it has ended: its predictions are complete, its time decides nothing

                yield Scored(np.load(folder / "out.npy"), again)
            finally:
                limit.cancel()
                worker.kill()


def environment(project: Project, bundle: Bundle) -> str:
    """The Python of an environment with the bundle's lock; it is built once and then reused.

    Raises:
        Misuse: it cannot be built.
    """
    place = project.build / "environments" / sha256(bundle.requirements)[:16]
    for_whom = f"setup     installing the libraries of model {bundle.key[:12]}, whose lock differs"
    return holding(place, bundle.path / "requirements.txt", f"{for_whom} (once; some seconds, or minutes)")


def scoring_code(project: Project) -> str:
    """Digest of the code that scores a bundle of this commit: other code may give other predictions."""
    return code_sha256("conveyor.model.scoring", team=project.team)


@contextmanager
def of_own_bundle(project: Project, bundle: Bundle, rows: pd.DataFrame) -> Iterator[Scored]:
    """A bundle's model on rows in the types of its training, run in this process if that gives the same predictions.

    Raises:
        Misuse: the rows have another type, or the model cannot score them; see ``as_trained`` and ``apart``.
    """
    rows = as_trained(rows, bundle, project.params.data.private)
    current = project.needed("requirements/model.txt")
    if bundle.requirements == current and bundle.scoring_code == scoring_code(project):
        yield answer(bundle, rows, project.params.model.trusted_types)
    else:
        with apart(project, bundle, rows) as scored:
            yield scored


def comparable(bundle: Bundle, about: dict[str, Any]) -> None:
    """Check that a model answers the question of the data.

    Args:
        bundle: the model.
        about: task, target and classes of the data; see ``question``.

    Raises:
        Misuse: it answers another question.
    """
    for what, now in about.items():
        then = bundle.asked[what]
        if _alike(then) != _alike(now):
            raise Misuse(f"it was trained for {what} {then}, and these data ask for {now}")


def _alike(asked: Any) -> Any:
    """Classes with one name for one value: 0 and 1 are also 0.0 and 1.0, or false and true."""
    if not isinstance(asked, list):
        return asked
    names = {"true": "1", "false": "0"} if len(asked) == 2 else {}
    return [names.get(name.lower(), name.removesuffix(".0")) for name in map(str, asked)]


def question(project: Project) -> dict[str, Any]:
    """The question of the data: task, target and, as text, the classes."""
    names = project.params.data
    classes = [str(value) for value in columns.classes(frame_of(project), names)]
    return {"task": names.task, "target": names.target, "classes": classes}


@contextmanager
def of_champion(project: Project, bundle: Bundle, rows: pd.DataFrame) -> Iterator[tuple[Scored | None, str | None]]:
    """The champion's predictions, or the reason why it cannot score these rows."""
    scored, error = None, None
    with ExitStack() as stack:
        try:
            comparable(bundle, question(project))
            scored = stack.enter_context(of_own_bundle(project, bundle, rows))
        except Misuse as refused:
            error = str(refused)
        yield scored, error


def main(bundle_path: str, rows_path: str, out_path: str) -> None:
    """The subprocess of ``apart``, from the wheel of the bundle: predicts, prints "done", and repeats on request."""
    told, sys.stdout = sys.stdout, sys.stderr  # the model's own output must not mix with the answers
    given = json.loads(Path(rows_path).read_text(encoding="utf-8"))
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
