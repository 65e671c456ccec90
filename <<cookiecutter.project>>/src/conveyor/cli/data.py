"""The verbs that change the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli.base import act, app, waited
from conveyor.core.errors import one_line


@app.command("data-lock")
def data_lock() -> None:
    """Pin the data as they are now: writes data.sha256 in params.yaml."""
    from conveyor.core import params
    from conveyor.core.files import write_text
    from conveyor.data import source

    path = Path.cwd() / "params.yaml"
    # The pin is replaced, so its present value does not matter: the rest of the file must be sound.
    names = params.load(path, {"data.sha256": "0" * 64}).data
    with waited("data-lock"):
        text, new = path.read_text(encoding="utf-8"), source.lock(path.parent, names)
    pinned = params.pinned(text, new)
    write_text(path, pinned)
    print(f"data-lock {'unchanged' if pinned == text else 'pinned'}: {names.path} {new}")


@app.command()
def adopt(
    data: Annotated[str, typer.Option(help="A file, a folder of Parquet, or an fsspec URL.")] = "",
    target: Annotated[str, typer.Option(help="The column to predict.")] = "",
    task: Annotated[str, typer.Option(help="binary, multiclass or regression; else it is inferred.")] = "",
    key: Annotated[str, typer.Option(help="Columns that tell all rows apart, with commas between.")] = "",
    time: Annotated[str, typer.Option(help="The column of times, or none.")] = "",
    group: Annotated[str, typer.Option(help="The column of what a row belongs to, or none.")] = "",
    separator: Annotated[str, typer.Option(help="What separates the columns of a CSV.")] = "",
    dry: Annotated[bool, typer.Option(help="Show what would change, and change nothing.")] = False,
) -> None:
    """Take data of your own: infer what their columns are for, and write params.yaml, the contract and model.py."""
    from conveyor.adopt.adopt import run
    from conveyor.adopt.infer import asked
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), waited("adopt"):
        print(
            f"adopt     {one_line(run(project, data, asked(target, task, key, time, group), separator or None, dry))}"
        )


@app.command()
def collect() -> None:
    """Bring the new rows of data.source in params.yaml, each once: checked by the contract, and pinned.

    A command gets the newest time as SINCE; SOURCE_PASSWORD is that of a database. docs/model.md has examples.
    """
    from conveyor.adopt.collect import run
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), waited("collect"):
        print(f"collect   {one_line(run(project))}")


@app.command()
def retrain(
    issue: Annotated[bool, typer.Option(help="In a workflow: tell the open issue about an alarm.")] = False,
) -> None:
    """Collect new rows, and where monitor.retrain is set, show whether a model that learns them is better.

    Nothing is promoted: `propose` makes a pull request of the rows.
    """
    act("retrain", False, issue)


@app.command()
def forget(
    key: Annotated[str, typer.Option(help="Whose rows: id=17,day=2013-05-01, all columns of data.key, or data.group.")],
    yes: Annotated[bool, typer.Option(help="Do it; else it is only told.")] = False,
) -> None:
    """Delete the rows of one person from data, log and labels, and tell what cannot be reached."""
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone
    from conveyor.watch.forget import run

    project = Project(Path.cwd())
    with alone(project), waited("forget"):
        print(f"forget    {one_line(run(project, key, yes))}")
