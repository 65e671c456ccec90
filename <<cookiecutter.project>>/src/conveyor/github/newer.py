"""Is a newer release of the template out? In a workflow one issue says so, and is closed once the release is here."""

from __future__ import annotations

import tempfile
from pathlib import Path

from conveyor.core.environment import Environment
from conveyor.core.git import Git
from conveyor.github.api import GitHub
from conveyor.github.issue import close, tell
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
        closed = close(GitHub(Environment.read()), TITLE, f"{origin.release} is here.") if issue else 0
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
    return f"{told}; {tell(GitHub(Environment.read()), TITLE, body)}"
