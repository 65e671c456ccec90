"""Tell the maintainers whether the tests pass on the newest dependencies: one issue, which is open while they do not.

RESULT=failure python tools/tell.py
"""

from __future__ import annotations

from api import GitHub, Misuse, end, setting

TITLE = "The newest dependencies break the tests"


def tell() -> str:
    """Open the issue, comment on it, or close it, as the result of the tests asks for.

    Raises:
        Misuse: RESULT is no result of a job; see ``GitHub`` as well.
    """
    result = setting("RESULT")
    if result not in ("success", "failure", "cancelled", "skipped"):
        raise Misuse(f"RESULT: {result!r} is no result of a job; give success, failure, cancelled or skipped")
    if result in ("cancelled", "skipped"):
        return f"tell      nothing: the tests were {result}"
    github = GitHub()
    # Anybody may open an issue of that title: only what this workflow opened is its own.
    issues = [
        issue
        for issue in github.pages("issues?state=open")
        if issue["title"] == TITLE and issue["user"]["type"] == "Bot" and "pull_request" not in issue
    ]
    run = "/".join(
        (setting("GITHUB_SERVER_URL"), setting("GITHUB_REPOSITORY"), "actions/runs", setting("GITHUB_RUN_ID"))
    )
    if result == "success":
        for issue in issues:
            github("POST", f"issues/{issue['number']}/comments", {"body": f"They pass again: {run}"})
            github("PATCH", f"issues/{issue['number']}", {"state": "closed"})
        return f"tell      the tests pass; {len(issues)} issues closed"
    if issues:
        github("POST", f"issues/{issues[0]['number']}/comments", {"body": f"They still do: {run}"})
        return f"tell      the tests still fail; said in {issues[0]['html_url']}"
    how = "`make upgrade test-python` shows it on a laptop. Once the tests pass, this closes itself."
    body = f"The run that found it: {run}\n\n{how}"
    return f"tell      the tests fail; opened {github('POST', 'issues', {'title': TITLE, 'body': body})['html_url']}"


if __name__ == "__main__":
    end(tell)
