"""The verbs about what is live, and about its history."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli.base import Because, Before, Push, To, act, app, waited


@app.command()
def accept(push: Push = False, before: Before = None) -> None:
    """Accept the candidate if the gate said so; `deploy` makes it champion once it serves."""
    act("accept", push, before=before)


@app.command()
def image(push: Annotated[bool, typer.Option(help="Push it to REGISTRY.")] = False) -> None:
    """Build the image of the model that is to serve."""
    act("image", push)


@app.command()
def sbom() -> None:
    """Write build/sbom.cdx.json: what is in the image of build/image.json."""
    act("sbom", False)


@app.command()
def deploy(
    to: To = "production",
    push: Push = False,
) -> None:
    """Deploy build/image.json without losing a request; undo it if it fails."""
    act("deploy", push, to)


@app.command()
def undeploy(to: To = "production") -> None:
    """Take an environment down: edge and replicas; the ledger stays as it is."""
    act("undeploy", False, to)


@app.command()
def history(
    at: Annotated[str | None, typer.Option(help="2026-11-24 or 2026-11-24T08:00: what was live then, UTC.")] = None,
    json: Annotated[bool, typer.Option(help="As JSON.")] = False,
) -> None:
    """Every event of the ledger, the newest last; with --at the model that was live then."""
    from conveyor.core.project import Project
    from conveyor.ledger.history import events, live_at
    from conveyor.ledger.ledger import ledger_of

    with nullcontext() if json else waited("history"):  # a program reads the one, a person the other
        ledger = ledger_of(Project(Path.cwd()))
    print(events(ledger, json) if at is None else live_at(ledger, at, json), end="")


@app.command()
def approve(because: Because = "", push: Push = False) -> None:
    """Accept a candidate that could not be compared; records who accepts it, and why."""
    act("approve", push, because)


@app.command()
def rollback(
    to: Annotated[int | None, typer.Option(help="The event that made the model champion; see history.")] = None,
    because: Because = "",
    push: Push = False,
) -> None:
    """Go back to an earlier champion, the last one by default; the present one is quarantined."""
    act("rollback", push, to, because)


@app.command()
def quarantine(
    event: Annotated[int, typer.Option(help="An event of the model.")], because: Because = "", push: Push = False
) -> None:
    """Ban a model: it is not accepted again."""
    act("quarantine", push, event, because)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=2, help="How many of the last champions keep their bytes.")] = 10,
    push: Push = False,
) -> None:
    """Delete the stored bytes of old models; the events stay."""
    act("prune", push, keep)


@app.command()
def fsck(
    repair: Annotated[bool, typer.Option(help="Mend what needs no judgement.")] = False, push: Push = False
) -> None:
    """List every damage of the ledger, each with its repair."""
    act("fsck", push, repair)


@app.command()
def monitor(issue: Annotated[bool, typer.Option(help="In a workflow: keep one issue about an alarm.")] = False) -> None:
    """Show what is live and for how long, what is on its way, and whether its loss has risen."""
    act("monitor", False, issue)


@app.command()
def probation(
    issue: Annotated[bool, typer.Option(help="In a workflow: keep one issue about harm.")] = False, push: Push = False
) -> None:
    """Is the champion no worse than the one before, on rows that came after its data? The ledger records it."""
    act("probation", push, issue)


@app.command()
def site(live: Annotated[bool, typer.Option(help="Look at the live loss first, as `monitor`.")] = False) -> None:
    """Write build/site from the ledger: what is live, all champions and events, as pages that need no server."""
    act("site", False, live)


@app.command()
def mirror() -> None:
    """Bring MLflow's registry in line with the ledger; it only writes MLflow."""
    from conveyor.core.project import Project
    from conveyor.ledger import mirror
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), waited("mirror"):
        print(f"mirror    {mirror.run(project)}")
