"""The commands: one verb per step, each a thin line over its module. Exit 0 done, 1 the gate said no, 2 misuse."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .errors import Misuse, Refused
from .git import GitError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
Pull = Annotated[Path | None, typer.Option(help="A checkout of a pull request: its data are judged by the rule here.")]
Push = Annotated[bool, typer.Option(help="Write the ledger at origin. Without a remote it is local anyway.")]


def _step(name: str, pull: Path | None = None, push: bool = False) -> None:
    from .pipeline import BY_NAME, alone, show
    from .project import Project

    project = Project(Path.cwd(), pull=pull, push=push)
    with alone(project):
        show(BY_NAME[name], project)


@app.command("data-lock")
def data_lock() -> None:
    """Pin the data as they are now: writes data.sha256 in params.yaml."""
    from . import config, data
    from .files import write_text

    path = Path.cwd() / "params.yaml"
    # Whatever stands in its place, the pin is what is to be written: the rest of the file must be sound.
    names = config.load(path, {"data.sha256": "0" * 64}).data
    text, new = path.read_text(encoding="utf-8"), data.lock(path.parent, names)
    pinned = config.pinned(text, new)
    write_text(path, pinned)
    print(f"data-lock {'unchanged' if pinned == text else 'pinned'}: {names.path} {new}")


@app.command()
def validate(pull: Pull = None) -> None:
    """Check the data against expectations/data.json, before anything is trained."""
    _step("validate", pull)


@app.command()
def train() -> None:
    """Fit model.py on the training rows and write the candidate bundle."""
    _step("train")


@app.command()
def score() -> None:
    """Predict the holdout with the candidate and with the champion."""
    _step("score")


@app.command()
def compare(pull: Pull = None) -> None:
    """Decide whether the challenger is better than the champion; exit 1 if it is blocked."""
    _step("compare", pull)


@app.command()
def promote(push: Push = False) -> None:
    """Make the candidate champion if the gate said so."""
    _step("promote", push=push)


@app.command()
def report(pull: Pull = None) -> None:
    """Write build/report.md and build/report.html."""
    _step("report", pull)


@app.command()
def pipeline(push: Push = False) -> None:
    """validate, train, score, compare, promote and report, in one process; what did not change is not repeated."""
    from .pipeline import alone, run_all
    from .project import Project

    project = Project(Path.cwd(), push=push)
    with alone(project):
        run_all(project)


@app.command("try")
def try_(
    changes: Annotated[list[str] | None, typer.Argument(help="model.seed=8 model.params.estimator=forest ...")] = None,
) -> None:
    """Train with changed parameters and show the difference to the champion; promotes nothing."""
    from . import experiment

    experiment.run(Path.cwd(), changes or [])


@app.command()
def history(json: Annotated[bool, typer.Option(help="The events as JSON.")] = False) -> None:
    """Every event of the ledger, the newest last."""
    from .files import to_json
    from .project import Project

    events = Project(Path.cwd()).ledger.events
    if json:
        print(to_json([event.model_dump(by_alias=True) for event in events]), end="")
    elif not events:
        print("no events yet; `make pipeline` bootstraps the first champion")
    for event in [] if json else events:
        print(
            f"{event.number:06d}  {event.time}  {event.type:<9} {event.key[:12]}  {event.commit[:12]}  {event.reason}"
        )


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """Open the MLflow runs of this repository on the loopback address."""
    from . import tracking
    from .project import Project

    words = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", tracking.uri(Project(Path.cwd()))]
    # Jobs are nothing that runs need, and their processes outlive the server for a while.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # In place of this process: whoever ends it ends the server.
    os.execv(sys.executable, [sys.executable, "-m", *words])


def main() -> None:
    """Run the command line; every foreseen end is one line on standard error."""
    # Progress is shown as it comes, also into a file or a workflow's log.
    sys.stdout.reconfigure(line_buffering=True)
    try:
        app(prog_name=__package__)
    except (Refused, Misuse) as error:
        _end(str(error), error.code)
    except GitError as error:
        _end(f"git: {error}; mend that and run again", Misuse.code)
    except OSError as error:
        # A full disk, a folder without permission, a file in the place of a folder: whichever step met it.
        _end(f"{_near(error.filename)}: {error.strerror or error}; make room or mend the access, and run again", 2)
    except Exception:
        # Not foreseen: a traceback for whoever mends it, and never the exit code of the gate.
        traceback.print_exc()
        raise SystemExit(2) from None


def _end(text: str, code: int) -> NoReturn:
    # One line whatever a file or a library put into it: a line break could start a command of the workflow's log.
    print("error: " + "\\n".join(text.splitlines()), file=sys.stderr)
    raise SystemExit(code) from None


def _near(path: object) -> str:
    """A path as seen from here."""
    if not isinstance(path, str | bytes | os.PathLike):
        return "the disk"
    place = Path(os.fsdecode(path))
    return str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place)
