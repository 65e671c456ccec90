"""The report as the one comment on the pull request: the first run makes it, and each later one rewrites it.

The comment carries how many challengers of the pull request were judged: an author who sees many
gains can tune a model to their luck.
"""

from __future__ import annotations

import re
from typing import Any

from conveyor.core.ci import annotate, event, summarise
from conveyor.core.errors import Misuse
from conveyor.core.files import read_json, sha256
from conveyor.core.project import Project
from conveyor.github.api import Denied, GitHub

LENGTH = 65_000  # characters; GitHub takes 65 536
TITLE = "No comment on the pull request"
COUNT = re.compile("^<!-- judged: ([0-9]{1,6}) ([0-9a-f]{12}) -->$", re.MULTILINE)
TUNED = 10  # challengers of one pull request; from here on the comment warns


def body(report: str, run_url: str | None, mark: str, count: int = 0, last: str = "") -> str:
    """The comment: the report, whose first line is the verdict, and the mark that identifies the comment.

    Args:
        count, last: how many challengers were judged, and which one was the last; see ``counted``.
    """
    where = f"[The whole report]({run_url}) is an artifact of the run.\n" if run_url else ""
    told = f"\n{often(count)}\n" if count > 1 else ""
    end = f"{told}\n{where}" + (f"<!-- judged: {count} {last} -->\n" if count else "") + f"{mark}\n"
    if len(report) + len(end) > LENGTH:
        cut = report[: LENGTH - len(end) - 100].rpartition("\n")[0]
        open_details = cut.count("<details>") > cut.count("</details>")
        report = cut + ("\n\n</details>" if open_details else "") + "\n\nIt goes on in the whole report.\n"
    return report + end


def often(count: int) -> str:
    """How many challengers of this pull request were judged, and a warning if they are many."""
    said = f"{count:,} challengers of this pull request were judged."
    if count < TUNED:
        return said
    return (
        f"> [!WARNING]\n> {said} Who changes a model by the gains that are reported fits it to the luck of these rows:"
        " no level protects from that. Believe the gain when rows that came later confirm it."
    )


def counted(before: str, judged: str | None) -> tuple[int, str]:
    """How many challengers were judged, and which one was the last.

    Args:
        before: the comment as it is.
        judged: names the challenger and its rows; None: nothing was judged.
    """
    known = COUNT.findall(before)
    count, last = (int(known[-1][0]), known[-1][1]) if known else (0, "")
    return (count, last) if judged in (None, last) else (count + 1, str(judged))


def judged(project: Project) -> str | None:
    """A name of the challenger and the rows of build/decision.json; None if there was no decision."""
    path = project.build / "decision.json"
    if not path.is_file():
        return None
    made = read_json(path, "compare", {"challenger": dict, "sight": dict})
    return sha256(f"{made['challenger'].get('digest')} {made['sight'].get('holdout')}".encode())[:12]


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
    report, this = path.read_text(encoding="utf-8"), judged(project)
    try:
        github, comments = GitHub(project.environment), f"issues/{pull['number']}/comments"
        # Only a comment of the workflow itself: anybody can put the mark into a comment.
        ours = [c for c in github.pages(comments) if mark in c["body"] and c["user"] and c["user"]["type"] == "Bot"]
        count, last = counted(ours[0]["body"] if ours else "", this)
        if count >= TUNED:
            summarise(project.environment, f"\n{often(count)}\n")
        return _write(github, comments, ours, body(report, project.environment.run_url, mark, count, last))
    except Denied:
        why = "the token of this pull request may not write one, as that of a fork; the report is in the job's summary"
        annotate(project.environment, "notice", TITLE, why)
    except Misuse as error:
        why = f"{error}; the report is in the job's summary"
        annotate(project.environment, "warning", TITLE, why)
    return f"none: {why}"


def _write(github: GitHub, path: str, ours: list[Any], text: str) -> str:
    """Make the comment, or rewrite the first of ours and delete the others."""
    if not ours:
        return f"made {github('POST', path, {'body': text})['html_url']}"
    comment, *others = ours
    for other in others:  # made by two runs at once
        github("DELETE", f"issues/comments/{other['id']}")
    if comment["body"] == text:
        return f"unchanged {comment['html_url']}"
    written = github("PATCH", f"issues/comments/{comment['id']}", {"body": text})
    return f"updated {written['html_url']}"
