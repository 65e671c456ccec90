"""Bundle + rows -> predictions: the only code that runs a model outside serving.

Champion and challenger are scored on the same rows. A model is scored by its own bundle: in this process when code
and lock are the current ones, else in a subprocess that imports the wheel of the bundle, in an environment that is
built from the lock of the bundle if that one differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import Misuse
from .files import sha256, write_bytes

if TYPE_CHECKING:
    from .ledger import Champion
    from .project import Project

SECONDS = 1800


def predict(model: Any, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Probability of the positive class for each row (n,).

    Raises:
        Misuse: the model gives no array of a row for each and two columns.
    """
    given = np.asarray(model.predict_proba(rows))
    if given.shape != (len(rows), 2):
        raise Misuse(f"predict_proba gives an array {given.shape}, not {(len(rows), 2)}: both classes in each row")
    return given[:, 1].astype(np.float64)


def score(bundle: Bundle, rows: pd.DataFrame, trusted_types: tuple[str, ...]) -> NDArray[np.float64]:
    """The predictions of the bundle's model (n,) in this process.

    Raises:
        Misuse: a feature column is missing, or the model is refused.
    """
    columns = list(bundle.features)
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise Misuse(f"column {missing[0]!r} is missing; model {bundle.key[:12]} was trained with it")
    return predict(bundle.load_model(trusted_types), rows[columns])


def score_apart(project: Project, bundle: Bundle, rows: pd.DataFrame) -> NDArray[np.float64]:
    """The predictions (n,) of a bundle whose code or lock are not the current ones: in a process of its own.

    Raises:
        Misuse: the environment cannot be built, or the model cannot score these rows.
    """
    current = project.needed("requirements/serve.txt")
    python = sys.executable if bundle.requirements == current else environment(project, bundle)
    with tempfile.TemporaryDirectory(dir=project.build) as name:
        folder = Path(name)
        columns = {
            c: {
                "dtype": str(rows[c].dtype),
                "values": json.loads(rows[c].to_json(orient="values", double_precision=15, date_format="iso")),
            }
            for c in rows
        }
        (folder / "rows.json").write_text(
            json.dumps({"columns": columns, "trusted_types": project.params.model.trusted_types})
        )
        words = [
            python,
            "-m",
            f"{__package__}.score",
            str(bundle.path),
            str(folder / "rows.json"),
            str(folder / "out.json"),
        ]
        # Only the wheel of the bundle is on the path: the code beside this file must not help the old model.
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            words,
            cwd=folder,
            env={**variables, "PYTHONPATH": str(bundle.wheel.resolve())},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if done.returncode:
            raise Misuse((done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: "))
        return np.asarray(json.loads((folder / "out.json").read_text()), dtype=np.float64)


def environment(project: Project, bundle: Bundle) -> str:
    """The Python of an environment that holds the bundle's lock; built once, then found again.

    Raises:
        Misuse: it cannot be built.
    """
    place = project.build / "environments" / sha256(bundle.requirements)[:16]
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = place / "complete"
    if not done.is_file():
        try:
            subprocess.run(
                [sys.executable, "-m", "venv", "--clear", str(place)], check=True, capture_output=True, timeout=SECONDS
            )
            install = [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "-r",
                str(bundle.path / "requirements.txt"),
            ]
            subprocess.run(install, check=True, capture_output=True, timeout=SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
            raise Misuse(
                f"the lock of model {bundle.key[:12]} cannot be installed: {said[-1] if said else error}"
            ) from None
        write_bytes(done, b"")
    return str(python)


def of_own_bundle(project: Project, bundle: Bundle, rows: pd.DataFrame) -> NDArray[np.float64]:
    """The predictions (n,) of a bundle, in this process where that gives the same."""
    from .project import code_sha256

    current = project.needed("requirements/serve.txt")
    if bundle.requirements == current and bundle.scoring_code == code_sha256("score", "model"):
        return score(bundle, rows, project.params.model.trusted_types)
    return score_apart(project, bundle, rows)


def of_champion(
    project: Project, champion: Champion | None, rows: pd.DataFrame
) -> tuple[NDArray[np.float64], str | None]:
    """The champion's predictions (n,), NaN with the reason in words where it cannot score these rows."""
    nothing = np.full(len(rows), np.nan)
    if champion is None:
        return nothing, None
    bundle = project.ledger.bundle(champion)  # damage in the ledger is an error, not a champion that cannot score
    try:
        return of_own_bundle(project, bundle, rows), None
    except Misuse as error:
        return nothing, str(error)


def run(project: Project) -> str:
    """Write build/scores.parquet: a row for each holdout row, with the predictions of champion and challenger."""
    import pyarrow as pa
    from pyarrow import parquet

    from . import data

    challenger = Bundle(project.build / "candidate")
    frame = project.frame
    positions = np.flatnonzero(~challenger.split.trained_on(frame))
    rows = data.features(frame.iloc[positions], project.params.data)
    champion = project.ledger.champion()
    theirs, error = of_champion(project, champion, rows)
    ours = of_own_bundle(project, challenger, rows)
    table = pa.table(
        {"row": positions, "content": data.row_hash(frame.iloc[positions]), "champion": theirs, "challenger": ours}
    )
    about = {
        "champion": champion.model_dump() if champion else None,
        "champion_error": error,
        "challenger": {"key": challenger.key, "digest": challenger.digest},
    }
    packed = pa.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata({b"scores": json.dumps(about)}), packed)
    write_bytes(project.build / "scores.parquet", packed.getvalue().to_pybytes())
    against = f"champion {champion.key[:12]}" if champion else "no champion yet"
    return f"{len(positions)} holdout rows scored: challenger {challenger.key[:12]}, {against}"


def main(bundle_path: str, rows_path: str, out_path: str) -> None:
    """What the subprocess of ``score_apart`` runs, from the wheel of the bundle."""
    given = json.loads(Path(rows_path).read_text())
    rows = pd.DataFrame({c: pd.Series(v["values"], dtype=v["dtype"]) for c, v in given["columns"].items()})
    answers = score(Bundle(Path(bundle_path)), rows, tuple(given["trusted_types"]))
    Path(out_path).write_text(json.dumps(answers.tolist()))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Misuse as refused:
        sys.exit(f"error: {refused}")
