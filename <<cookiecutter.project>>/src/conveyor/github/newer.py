"""Is a newer release of the template out? In a workflow one issue says so, and is closed once the release is here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from conveyor.core.environment import Environment
from conveyor.core.git import Git
from conveyor.github.api import GitHub
from conveyor.update import template

TITLE = "A newer release of the template is out"
FENCE = "~" * 8
LENGTH = 60_000  # characters; GitHub takes 65 536
HOW = (
    "On a branch, `make update` merges it into the working tree; review it like any change. A person has to run it: the"
    " token of a workflow may not write workflow files. This issue closes when the release is here."
)


def run(root: Path, issue: bool) -> str:
    """Compare the release that is here with the newest one; with ``issue`` open, rewrite or close the issue.

    Raises:
        Misuse: the template cannot be read; or, with ``issue``, GitHub says no.
    """
    template.forget_callers_git()
    origin = template.origin(root)
    git = Git(root)
    newest = (template.releases(origin, git) or [origin.release])[-1]
    if template.order(newest) <= template.order(origin.release):
        closed = _close(GitHub(Environment.read()), origin.release) if issue else 0
        return f"{origin.release} is the newest release" + ("; its issue is closed" if closed else "")
    told = f"{newest} is out, this repository has {origin.release}; `make update` brings it"
    if not issue:
        return told
    with tempfile.TemporaryDirectory() as scratch:
        bare = template.fetched(git, origin, [newest], Path(scratch, "git"))
        news = template.changelog(bare, newest, origin.release)
    if len(news) > LENGTH:
        news = news[:LENGTH].rpartition("\n")[0] + "\n\nIt goes on in the template's CHANGELOG.md."
    # As code: what it mentions is of the template's repository.
    body = f"{newest} is out; this repository has {origin.release}.\n\n{HOW}\n\n{FENCE}text\n{news}\n{FENCE}\n"
    return f"{told}; {_tell(GitHub(Environment.read()), body)}"


def _issues(github: GitHub) -> list[dict[str, Any]]:
    """Anybody may open an issue of that title: only what a workflow opened is written over."""
    return [
        each
        for each in github.pages("issues?state=open")
        if each["title"] == TITLE and each["user"] and each["user"]["type"] == "Bot" and "pull_request" not in each
    ]


def _tell(github: GitHub, body: str) -> str:
    for known in _issues(github):
        if known["body"] != body:
            github("PATCH", f"issues/{known['number']}", {"body": body})
        return f"said in {known['html_url']}"
    return f"opened {github('POST', 'issues', {'title': TITLE, 'body': body})['html_url']}"


def _close(github: GitHub, release: str) -> int:
    issues = _issues(github)
    for known in issues:
        github("POST", f"issues/{known['number']}/comments", {"body": f"{release} is here."})
        github("PATCH", f"issues/{known['number']}", {"state": "closed"})
    return len(issues)
