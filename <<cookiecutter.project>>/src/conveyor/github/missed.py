"""A commit of main without a delivery: `[skip ci]` in the message of a merge, or a start that GitHub lost."""

from __future__ import annotations

from conveyor.core.ci import annotate
from conveyor.core.project import Project
from conveyor.github.api import GitHub, deliver

MAIN = "refs/heads/main"


def run(project: Project) -> str:
    """Start ``deliver`` if it never ran for this commit of main, and keep the schedules on.

    Raises:
        Misuse: GitHub does not answer, or the token has no right to it.
    """
    if project.environment.ref not in (None, MAIN):
        return f"nothing: {project.environment.ref} is not main, and `deliver` delivers main; start it from main"
    github = GitHub(project.environment)
    told = _started(project, github)
    keep_schedules(github)
    return told


def _started(project: Project, github: GitHub) -> str:
    path = f"actions/workflows/deliver.yml/runs?head_sha={project.commit}&branch=main&per_page=1"
    if github("GET", path)["total_count"]:
        return f"nothing: commit {project.commit[:12]} has had its delivery"
    told = deliver(project.environment)
    text = f"commit {project.commit[:12]} of main had no delivery, as with [skip ci] in the message of a merge; {told}"
    annotate(project.environment, "warning", "A delivery was missing", text)
    return text


def keep_schedules(github: GitHub) -> None:
    """Switch each workflow on that is on, or that GitHub has stopped for want of changes.

    In a public repository without changes GitHub stops schedules after 60 days. What a person has switched off stays
    off.
    """
    for workflow in github("GET", "actions/workflows?per_page=100")["workflows"]:
        if workflow["state"] in ("active", "disabled_inactivity"):
            github("PUT", f"actions/workflows/{workflow['id']}/enable")
