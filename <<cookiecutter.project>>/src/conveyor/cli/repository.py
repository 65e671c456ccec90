"""The verbs about the repository itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli.base import app, waited


@app.command()
def seal() -> None:
    """Check that the machinery is that of its version, except files that pyproject.toml names as yours."""
    from conveyor.core import seal
    from conveyor.core.project import read_pyproject

    print(f"seal      {seal.check(Path.cwd(), seal.owned(read_pyproject(Path.cwd())))}")


@app.command()
def update(to: Annotated[str, typer.Option(help="A release: v1.2.0; the newest one by default.")] = "") -> None:
    """Bring this repository to a newer release of its template: a merge to review, not committed."""
    from conveyor.update import update

    with waited("update"):
        print(f"update    {update.run(Path.cwd(), to)}")


@app.command(hidden=True)
def migrate(check: Annotated[bool, typer.Option(help="Only see whether this version takes them.")] = False) -> None:
    """For `update`: rename the keys of params.yaml that this version calls by another name."""
    from conveyor.update import update

    update.migrate(Path.cwd() / "params.yaml", check)


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """Open the MLflow runs of this repository on the loopback address."""
    from conveyor.core.project import Project
    from conveyor.model import tracking

    words = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", tracking.uri(Project(Path.cwd()))]
    # Runs need no jobs, and the processes of jobs outlive the server for a while.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # It replaces this process, so ending this process ends the server.
    os.execv(sys.executable, [sys.executable, "-m", *words])
