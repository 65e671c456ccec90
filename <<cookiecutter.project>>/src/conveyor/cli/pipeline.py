"""The verbs of the pipeline and of experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli.base import Before, Pull, Push, app, step, waited
from conveyor.core.errors import one_line


@app.command()
def validate(pull: Pull = None) -> None:
    """Check the data against expectations/data.json, before anything is trained."""
    step("validate", pull)


@app.command()
def train() -> None:
    """Fit model.py on the training rows and write the candidate bundle."""
    step("train")


@app.command()
def score() -> None:
    """Predict the holdout with the candidate and with the champion."""
    step("score")


@app.command()
def compare(pull: Pull = None, before: Before = None) -> None:
    """Decide whether the challenger is better than the champion; exit 1 if it is blocked."""
    step("compare", pull, before=before)


@app.command()
def promote(push: Push = False, before: Before = None) -> None:
    """Make the candidate champion if the gate said so."""
    step("promote", push=push, before=before)


@app.command()
def report(pull: Pull = None) -> None:
    """Write build/report.md and build/report.html."""
    step("report", pull)


@app.command()
def pipeline(push: Push = False) -> None:
    """validate, train, score, compare, promote and report, in one process; what did not change is not repeated."""
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone, run_all

    project = Project(Path.cwd(), push=push)
    with alone(project):
        run_all(project)


@app.command("try")
def try_(
    changes: Annotated[list[str] | None, typer.Argument(help="model.seed=8 model.params.estimator=forest ...")] = None,
) -> None:
    """Train with changed parameters and show the difference to the champion; promotes nothing."""
    from conveyor.steps import experiment

    experiment.run(Path.cwd(), changes or [])


@app.command()
def aa() -> None:
    """Test the gate on equally good models: how often does it promote one? Exit 1 if too often."""
    from conveyor.core.project import Project
    from conveyor.steps import aa
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), waited("aa"):
        print(f"aa        {aa.run(project)}")


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(help="The receipt of a verdict.")] = Path("build/receipt.json"),
    event: Annotated[int | None, typer.Option(help="The event that must record it; any by default.")] = None,
) -> None:
    """Derive a verdict again from its receipt, and compare it with the ledger; exit 1 if anything was changed."""
    from conveyor.steps import verify

    with waited("verify"):
        print(f"verify    {one_line(verify.run(receipt, Path.cwd(), event))}")


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(help="The rows: .csv, .csv.gz or .parquet.")],
    target: Annotated[
        Path, typer.Argument(help="Where the rows go, with a column of predictions; by the same endings.")
    ],
) -> None:
    """Predict the rows of a file with the champion, in the form in which it is served."""
    from conveyor.core.project import Project
    from conveyor.steps import predict
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), waited("predict"):
        print(f"predict   {predict.run(project, source, target)}")
