"""The exchange with GitHub in the job of a workflow: its event, outputs, annotations and summary."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

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


class Where(NamedTuple):
    """A pull request, a branch or a commit: its kind, its name, and its address on GitHub where that is known."""

    name: str
    text: str
    url: str | None = None

    @property
    def short(self) -> str:
        """The name; that of a commit without its last digits."""
        return self.text[:12] if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", self.text) else self.text


def origin(environment: Environment, commit: str) -> list[Where]:
    """Where a report comes from: pull request and branch, if a workflow tells them, and ``commit`` as the last one.

    A pull request is judged by the code of its base, so that ``commit`` is that of the base there.

    Raises:
        Misuse: the file of the workflow's event cannot be read.
    """

    def where(name: str, text: str, path: str, home: str | None = environment.repository) -> Where:
        return Where(name, text, f"{environment.server_url}/{quote(f'{home}/{path}')}" if home else None)

    pull = event(environment).get("pull_request") if environment.event else None
    branch = (environment.ref or "").partition("refs/heads/")[2]
    if not isinstance(pull, dict):
        on = [where("branch", branch, f"tree/{branch}")] if branch else []
        return [*on, where("commit", commit, f"commit/{commit}")]
    head, number = pull["head"], pull["number"]
    fork = (head["repo"] or {}).get("full_name")  # None: the fork was deleted
    return [
        where("pull request", f"#{number}", f"pull/{number}"),
        where("branch", head["ref"], f"tree/{head['ref']}", fork if environment.repository else None),
        where("commit", head["sha"], f"pull/{number}/commits/{head['sha']}"),
        where("base", commit, f"commit/{commit}"),
    ]


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
