"""The report as the one comment on the pull request: the first run makes it, and each later one rewrites it."""

from __future__ import annotations

from conveyor.core.ci import annotate, event
from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.github.api import Denied, GitHub

LENGTH = 65_000  # characters; GitHub takes 65 536
TITLE = "No comment on the pull request"


def body(report: str, run_url: str | None, mark: str) -> str:
    """The comment: the report, whose first line is the verdict, and the mark that identifies the comment."""
    where = f"[The whole report]({run_url}) is an artifact of the run.\n" if run_url else ""
    end = f"\n{where}{mark}\n"
    if len(report) + len(end) > LENGTH:
        cut = report[: LENGTH - len(end) - 100].rpartition("\n")[0]
        open_details = cut.count("<details>") > cut.count("</details>")
        report = cut + ("\n\n</details>" if open_details else "") + "\n\nIt goes on in the whole report.\n"
    return report + end


def run(project: Project) -> str:
    """Write build/report.md as the comment. If the token may not write, such as a fork's, a notice says so.

    The job's summary holds the same report, so an error of GitHub here is only a warning.

    Raises:
        Misuse: there is no report, or this is no workflow of a pull request.
    """
    path = project.build / "report.md"
    if not path.is_file():
        raise Misuse(f"{path}: missing; run `make report` first")
    pull = event(project.environment).get("pull_request")
    if not isinstance(pull, dict):
        raise Misuse("comment: the event is about no pull request; run it in the workflow compare")
    mark = f"<!-- {project.package}: compare -->"
    text = body(path.read_text(encoding="utf-8"), project.environment.run_url, mark)
    try:
        return _write(GitHub(project.environment), f"issues/{pull['number']}/comments", text, mark)
    except Denied:
        why = "the token of this pull request may not write one, as that of a fork; the report is in the job's summary"
        annotate(project.environment, "notice", TITLE, why)
    except Misuse as error:
        why = f"{error}; the report is in the job's summary"
        annotate(project.environment, "warning", TITLE, why)
    return f"none: {why}"


def _write(github: GitHub, path: str, text: str, mark: str) -> str:
    """Rewrite only a comment of the workflow itself: anybody can put the mark into a comment."""
    ours = [c for c in github.pages(path) if mark in c["body"] and c["user"] and c["user"]["type"] == "Bot"]
    if not ours:
        return f"made {github('POST', path, {'body': text})['html_url']}"
    comment, *others = ours
    for other in others:  # made by two runs at once
        github("DELETE", f"issues/comments/{other['id']}")
    if comment["body"] == text:
        return f"unchanged {comment['html_url']}"
    written = github("PATCH", f"issues/comments/{comment['id']}", {"body": text})
    return f"updated {written['html_url']}"
