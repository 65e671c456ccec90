"""Where runs are logged: the team's MLflow server, or a SQLite file of this repository."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from .errors import Misuse
from .project import Project


def uri(project: Project) -> str:
    """The server of the environment, else the SQLite file that `make ui` opens.

    Raises:
        Misuse: that file cannot be made, is no database of MLflow's, or is damaged.
    """
    # Set before MLflow is imported, for it reads them while it loads. A server that is down must fail in seconds; what
    # MLflow has to say is in its exceptions, and its log repeats them with tracebacks.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    return project.environment.tracking_uri or _database(project.root / "mlruns" / "mlflow.db")


def _database(place: Path) -> str:
    """The URI of the SQLite file at ``place``, made if there is none: whole or not at all, and by one process alone."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def opened(file: Path) -> str:
        name = f"sqlite:///{file.as_posix()}"
        # Making its tables takes MLflow dozens of migrations, and none of them knows how to go on after a kill.
        SqlAlchemyStore(name, (place.parent / "artifacts").as_uri()).engine.dispose()
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
            with closing(sqlite3.connect(place)) as database:
                database.execute("pragma schema_version")  # where this fails, MLflow would try again for minutes
            return opened(place)
    except Exception as error:
        # Whatever a damaged file or a full disk makes SQLite, SQLAlchemy and Alembic raise, there is no database.
        reason = " ".join(str(error).split())[:200]
        raise Misuse(f"mlruns/{place.name}: MLflow cannot use it: {reason}; make room, or move it away") from error
