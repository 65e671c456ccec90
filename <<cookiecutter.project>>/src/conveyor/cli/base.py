"""What the verbs share: the application, options of several verbs, and how a step or an act is run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from conveyor.core.errors import one_line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
Pull = Annotated[Path | None, typer.Option(help="A checkout of a pull request: its data are judged by the rule here.")]
Push = Annotated[bool, typer.Option(help="Write the ledger at origin. Without a remote it is local anyway.")]
Before = Annotated[
    str | None, typer.Option(help="The commit of main before this push: it judges a change of rule and model at once.")
]
To = Annotated[str, typer.Option(help="The environment: production, or another one beside it.")]
Because = Annotated[str, typer.Option(help="Why, for the record.")]


def waited(verb: str) -> AbstractContextManager[None]:
    """Says what the verb does, in the first words of its help, where it is silent for long."""
    from conveyor.core.waits import announced

    known = [(each.name, each.callback) for each in app.registered_commands if each.callback]
    callback = next(function for name, function in known if verb in (name, function.__name__))
    return announced(verb, (callback.__doc__ or "").partition("\n")[0])


def step(name: str, pull: Path | None = None, push: bool = False, before: str | None = None) -> None:
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import BY_NAME, alone, show

    project = Project(Path.cwd(), pull=pull, push=push, before=before)
    with alone(project):
        show(BY_NAME[name], project)


# The functions of the verbs that act on the ledger or on an engine; the steps of the pipeline are not among them.
ACTS = {
    "accept": "steps.promote.accept",
    "approve": "steps.promote.approve",
    "attested": "github.attested.run",
    "comment": "github.comment.run",
    "deploy": "deploy.deployment.run",
    "due": "github.due.run",
    "fsck": "ledger.fsck.run",
    "image": "deploy.image.run",
    "ledger-key": "github.ledger_key.run",
    "missed": "github.missed.run",
    "monitor": "watch.monitor.run",
    "probation": "watch.probation.run",
    "propose": "github.propose.run",
    "prune": "deploy.rollback.prune",
    "publish": "github.release.publish",
    "quarantine": "deploy.rollback.quarantine",
    "release": "github.release.run",
    "retrain": "watch.retrain.run",
    "rollback": "deploy.rollback.rollback",
    "sbom": "deploy.sbom.run",
    "site": "watch.site.run",
    "undeploy": "deploy.deployment.undeploy",
}


def act(verb: str, push: bool, *given: object, before: str | None = None) -> None:
    """Run a verb of ``ACTS``, and load no more than it needs; the ledger is mirrored as after a step."""
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone

    module, _, function = ACTS[verb].rpartition(".")
    act = getattr(import_module(f"conveyor.{module}"), function)
    project = Project(Path.cwd(), push=push, before=before)
    with alone(project), waited(verb):
        print(f"{verb:<9} {one_line(act(project, *given))}")
