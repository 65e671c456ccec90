"""One issue for one matter: opened when it begins, rewritten while it lasts, closed when it is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from conveyor.github.api import GitHub

TIME = "%Y-%m-%dT%H:%M:%SZ"


def tell(github: GitHub, title: str, body: str, again_within: timedelta | None = None) -> str:
    """Let the issue of this title say ``body``; returns what was done, with its address.

    Of several open ones the first stays: two runs at once can both find none.

    Args:
        again_within: an issue that was closed no longer ago is opened again, instead of another one.

    Raises:
        Misuse: see ``GitHub``.
    """
    if known := _only(github, title):
        if known["body"] != body:
            github("PATCH", f"issues/{known['number']}", {"body": body})
        return f"said in {known['html_url']}"
    if again_within:
        since = (datetime.now(UTC) - again_within).strftime(TIME)
        for known in _found(github, title, f"state=closed&since={since}"):
            if (known["closed_at"] or "") >= since:
                github("PATCH", f"issues/{known['number']}", {"body": body, "state": "open"})
                return f"opened again: {known['html_url']}"
    opened = github("POST", "issues", {"title": title, "body": body})
    first = _only(github, title) or opened
    return f"opened {opened['html_url']}" if first["number"] == opened["number"] else f"said in {first['html_url']}"


def comment(github: GitHub, title: str, text: str) -> str | None:
    """Add a comment to the open issue of this title; returns its address, None if there is no such issue.

    Raises:
        Misuse: see ``GitHub``.
    """
    for known in _found(github, title, "state=open"):
        github("POST", f"issues/{known['number']}/comments", {"body": text})
        return str(known["html_url"])
    return None


def close(github: GitHub, title: str, why: str) -> int:
    """Close the open issues of this title with a comment; returns how many there were.

    Raises:
        Misuse: see ``GitHub``.
    """
    issues = _found(github, title, "state=open")
    for known in issues:
        _close(github, known, why)
    return len(issues)


def _close(github: GitHub, issue: dict[str, Any], why: str) -> None:
    github("POST", f"issues/{issue['number']}/comments", {"body": why})
    github("PATCH", f"issues/{issue['number']}", {"state": "closed"})


def _only(github: GitHub, title: str) -> dict[str, Any] | None:
    """The first open issue of this title; all others are closed."""
    found = sorted(_found(github, title, "state=open"), key=lambda each: int(each["number"]))
    for other in found[1:]:
        _close(github, other, f"The same is told in #{found[0]['number']}.")
    return found[0] if found else None


def _found(github: GitHub, title: str, which: str) -> list[dict[str, Any]]:
    """Anybody may open an issue of that title: only what a workflow opened is written over."""
    return [
        each
        for each in github.pages(f"issues?{which}")
        if each["title"] == title and each["user"] and each["user"]["type"] == "Bot" and "pull_request" not in each
    ]
