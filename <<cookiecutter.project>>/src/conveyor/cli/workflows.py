"""The verbs of workflows and of releases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli.base import Push, act, app


@app.command()
def comment() -> None:
    """In a workflow: write build/report.md as the comment on the pull request."""
    act("comment", False)


@app.command()
def attested() -> None:
    """Was the image of build/image.json built by `deliver` on main? Exit 1 if that is not attested."""
    act("attested", False)


@app.command()
def due() -> None:
    """In a workflow: has anything that serves changed since the last deployment?"""
    act("due", False)


@app.command()
def missed() -> None:
    """In a workflow: start `deliver` if it never ran for this commit."""
    act("missed", False)


@app.command()
def propose() -> None:
    """In a workflow: make a pull request of build/proposal.json, which `collect` or `retrain` has written."""
    act("propose", False)


@app.command()
def deliver() -> None:
    """In a workflow: start `deliver` on main."""
    from conveyor.core import environment
    from conveyor.github import api

    print(f"deliver   {api.deliver(environment.Environment.read())}")


@app.command()
def release(tag: Annotated[str, typer.Option(help="The tag of this commit: v1.0.0.")] = "") -> None:
    """Write the files of a release to build/release: the champion of this commit, its card, its image's contents."""
    act("release", False, tag)


@app.command()
def publish(push: Push = False) -> None:
    """In a workflow: make build/release a release on GitHub, and tag its image; nothing is built."""
    act("publish", push)


@app.command()
def newer(issue: Annotated[bool, typer.Option(help="In a workflow: keep one issue about it.")] = False) -> None:
    """Say whether a newer release of the template is out."""
    from conveyor.github import newer

    print(f"newer     {newer.run(Path.cwd(), issue)}")


@app.command("github-setup")
def github_setup(
    apply: Annotated[bool, typer.Option(help="Run them through gh; settings that are there are updated.")] = False,
    ledger_key: Annotated[bool, typer.Option(help="Make the key that alone writes the ledger.")] = False,
) -> None:
    """Print the one-time settings of this repository on GitHub as commands."""
    from conveyor.github import setup

    if ledger_key:
        act("ledger-key", False)
    else:
        setup.run(Path.cwd(), apply)
