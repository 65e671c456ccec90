"""MLflow: its address, its time limits, and its errors as one line."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from conveyor.core.errors import Misuse

# Where MLflow's tables name files, and what else of the environment it takes for a new run.
PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
TAKEN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from conveyor.core.project import Project


def database(project: Project) -> Path:
    """The SQLite file for runs and models, used if no server is named."""
    return project.root / "mlruns" / "mlflow.db"


def uri(project: Project) -> str:
    """The server of the environment, else the SQLite file that `make ui` opens; the file is made if it is missing.

    Raises:
        Misuse: the file cannot be made, is no database of MLflow's, or is damaged.
    """
    # Set before the import of MLflow, which reads them at that time. A server that is down must fail in seconds.
    # MLflow's log only repeats its exceptions with tracebacks.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    return project.environment.tracking_uri or _local(database(project))


def _local(place: Path) -> str:
    """The URI of the SQLite file at ``place``. A missing file is made whole or not at all, by one process at a time."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def opened(file: Path) -> str:
        name = f"sqlite:///{file.as_posix()}"
        # MLflow makes its tables by dozens of migrations, and none of them can continue after a kill.
        # MLflow has types, but this constructor has none.
        SqlAlchemyStore(name, (place.parent / "artifacts").as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
        return name

    try:
        place.parent.mkdir(exist_ok=True)
        with FileLock(place.parent / ".lock"):
            for left in place.parent.glob(".new-*"):
                left.unlink()
            if not place.exists():
                new = place.with_name(f".new-{os.getpid()}.db")
                opened(new)
                os.replace(new, place)
            with closing(sqlite3.connect(place)) as known:
                known.execute("pragma schema_version")  # a damaged file fails here; MLflow would try again for minutes
            name = opened(place)
            with closing(sqlite3.connect(place)) as known:
                _moved(known, (place.parent / "artifacts").as_uri())
            return name
    except Exception as error:
        # SQLite, SQLAlchemy and Alembic raise many exceptions for a damaged file or a full disk; all mean the same.
        reason = " ".join(str(error).split())[:200]
        raise Misuse(f"mlruns/{place.name}: MLflow cannot use it: {reason}; make room, or move it away") from error


def _moved(known: sqlite3.Connection, here: str) -> None:
    """Lead MLflow to the files of this repository: its paths are full ones, of the place where they were written.

    Args:
        here: the URI of the folder of the files.
    """
    ending = here[here.rindex("/mlruns/") :]
    found = known.execute(
        "select artifact_location from experiments where artifact_location like 'file://%'"
    ).fetchall()
    before = {place[: place.rindex(ending)] + ending for (place,) in found if ending in place}
    with known:
        for old in before - {here}:
            for table, column in PATHS:
                known.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) where substr({column} || '/', 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )


def where(project: Project) -> str:
    """The same for people; an address could hold a password."""
    return "MLFLOW_TRACKING_URI: the server" if project.environment.tracking_uri else "mlruns: MLflow's database"


def load(project: Project) -> Any:
    """The module mlflow with this project's address; its import takes seconds."""
    address = uri(project)
    import mlflow

    mlflow.set_tracking_uri(address)
    return mlflow


@contextmanager
def answering(project: Project, what: str, mend: str) -> Iterator[MlflowClient]:
    """A client of MLflow; each failure becomes one line.

    Args:
        what: what failed, as in "did not take the run".
        mend: how to fix it.

    Raises:
        Misuse: MLflow cannot be reached, does not answer in time, refuses access, or has an error.
    """
    taken = [name for name in TAKEN if os.environ.get(name)]  # MLflow itself changes them
    mlflow = load(project)
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield mlflow.MlflowClient()
    except (mlflow.exceptions.MlflowException, SQLAlchemyError, OSError) as error:
        if taken:
            mend += f"; MLflow takes {' and '.join(taken)} of the environment: unset what is not meant"
        raise Misuse(f"{where(project)} {what}: {complaint(error)}; {mend}") from error


def complaint(error: Exception) -> str:
    """The cause of a failure of MLflow as one line without passwords."""
    from requests.exceptions import ConnectionError, SSLError

    text = re.sub(r"//[^/\s@]*@", "//", " ".join(str(error).split()))
    causes = [error, error.__cause__ or error.__context__]
    status = _status(error, text)
    if status in (401, 403):
        return (
            f"access refused (HTTP {status}), set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and"
            " MLFLOW_TRACKING_PASSWORD"
        )
    if status and status >= 500:
        return f"server error (HTTP {status})"
    if "timed out" in text:
        return f"no answer within {os.environ.get('MLFLOW_HTTP_REQUEST_TIMEOUT')} seconds"
    if any(isinstance(cause, ConnectionError) and not isinstance(cause, SSLError) for cause in causes):
        return "not reachable"
    return text[:200]


def _status(error: Exception, text: str) -> int | None:
    """The HTTP status of an answer, if that is the cause of the error: MLflow reports it in three ways."""
    if getattr(error, "json", {}).get("error_code"):
        of_mlflow: Any = error  # no other error has it
        status: int = of_mlflow.get_http_status_code()
        return status
    found = re.search(r"failed with error code (\d{3})|too many (\d{3}) error responses", text)
    return int(found[1] or found[2]) if found else None
