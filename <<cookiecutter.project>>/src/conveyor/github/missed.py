"""A commit of main without a delivery: `[skip ci]` in the message of a merge, or a start that GitHub lost."""

from __future__ import annotations

from conveyor.core.ci import annotate
from conveyor.core.project import Project
from conveyor.github.api import GitHub, deliver

MAIN = "refs/heads/main"


def run(project: Project) -> str:
    """Start ``deliver`` if it never ran for this commit of main.

    Raises:
        Misuse: GitHub does not answer, or the token has no right to it.
    """
    if project.environment.ref not in (None, MAIN):
        return f"nothing: {project.environment.ref} is not main, and `deliver` delivers main; start it from main"
    path = f"actions/workflows/deliver.yml/runs?head_sha={project.commit}&branch=main&per_page=1"
    if GitHub(project.environment)("GET", path)["total_count"]:
        return f"nothing: commit {project.commit[:12]} has had its delivery"
    told = deliver(project.environment)
    text = f"commit {project.commit[:12]} of main had no delivery, as with [skip ci] in the message of a merge; {told}"
    annotate(project.environment, "warning", "A delivery was missing", text)
    return text
