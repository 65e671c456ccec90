"""The exchange with GitHub in the job of a workflow: its event, outputs, annotations and summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conveyor.core.environment import Environment
from conveyor.core.errors import Misuse


def event(environment: Environment) -> dict[str, Any]:
    """The event that started the workflow.

    Raises:
        Misuse: there is no workflow, or the file of its event cannot be read.
    """
    if not environment.event:
        raise Misuse("GITHUB_EVENT_PATH: not set; this runs in a workflow")
    try:
        told = json.loads(Path(environment.event).read_bytes())
    except (OSError, ValueError) as error:
        raise Misuse(f"GITHUB_EVENT_PATH: cannot be read: {error}; run it in a workflow") from None
    return told if isinstance(told, dict) else {}


def outputs(environment: Environment, **values: str) -> None:
    """In a workflow: write outputs of the step, for later steps and jobs."""
    if environment.outputs:
        with open(environment.outputs, "a", encoding="utf-8") as out:
            out.writelines(f"{name}={value}\n" for name, value in values.items())


def foreign(environment: Environment) -> bool:
    """Whether this run is of a pull request that gets no secret: one from a fork, or dependabot's."""
    pull = event(environment).get("pull_request") if environment.event else None
    if not isinstance(pull, dict):
        return False
    home = (pull["head"]["repo"] or {}).get("full_name")  # None: the fork was deleted
    return home != environment.repository or environment.actor == "dependabot[bot]"


def annotate(environment: Environment, level: str, title: str, text: str) -> None:
    """In a workflow: add an annotation to the page of the run, of level notice, warning or error."""
    if environment.run_url:
        print(f"::{level} title={_escaped(title, ':,')}::{_escaped(text)}")


def _escaped(text: str, more: str = "") -> str:
    """A value of a workflow command, escaped: nothing in it ends the command or begins another one."""
    return "".join(f"%{ord(c):02X}" if c in f"%\r\n{more}" else c for c in " ".join(text.splitlines()))


def summarise(environment: Environment, text: str) -> None:
    """Add Markdown to the summary of the job, in a workflow.

    Raises:
        Misuse: the summary cannot be written.
    """
    if not environment.summary:
        return
    try:
        with open(environment.summary, "a", encoding="utf-8") as summary:
            summary.write(text)
    except OSError as error:
        raise Misuse(f"GITHUB_STEP_SUMMARY: cannot be written: {error.strerror}; unset it") from None
