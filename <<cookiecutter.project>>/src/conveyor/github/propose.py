"""A pull request for files that a job has changed: one commit on a branch of its own, which each run writes anew."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from conveyor.core.ci import summarise
from conveyor.core.errors import Misuse
from conveyor.core.files import read_json
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.github.api import Denied, GitHub
from conveyor.ledger.repository import credentials

PROPOSAL = "build/proposal.json"
KEYS = {"branch": str, "title": str, "body": str, "paths": list, "commit": str}
GREEN = ("success", "neutral", "skipped")
STARTING, CHECKING, PAUSE = 120.0, 1800.0, 15.0  # seconds in which checks begin and end, and between two looks at them
AUTHOR = {"NAME": "conveyor", "EMAIL": "conveyor@invalid"}
CHECKS = (
    "\nGitHub starts no checks for what a workflow's own token proposes. Close and reopen this pull request to start"
    " them, or give the secret `PROPOSE_TOKEN` (docs/model.md).\n"
)
SETTING = "Settings, Actions, General, `Allow GitHub Actions to create and approve pull requests`"


def run(project: Project, sleep: Callable[[float], None] = time.sleep) -> str:
    """Push the files of build/proposal.json as one commit on top of this one, and open or rewrite a pull request.

    Where the proposal says so it is merged, once its checks have ended and GitHub lets it.

    Neither branch nor working tree of this clone changes. A branch that holds the commits of others is left alone.

    Raises:
        Misuse: the branch holds commits of others, origin takes no push, or GitHub opens no pull request.
    """
    told = read_json(project.root / PROPOSAL, "collect", KEYS)
    if told["commit"] != project.commit:
        raise Misuse(f"{PROPOSAL}: is of commit {told['commit'][:12]}, not of this one; run `make collect` again")
    github, branch = GitHub(project.environment), told["branch"]
    try:
        changed, commit = _pushed(project, branch, told["title"], told["paths"])
    except GitError as error:
        mend = "check the job's permissions (contents: write) and its token"
        raise Misuse(f"propose: the branch {branch} was not written: {error}; {mend}") from None
    pull = _opened(github, project, branch, told["title"], told["body"] + CHECKS)
    url = pull["html_url"]
    said = f"; {_merged(github, pull['number'], commit, sleep)}" if told.get("merge") else ""
    summarise(project.environment, f"{told['title']}: {url}{said}\n")
    return f"{'pushed' if changed else 'found as it is'}: branch {branch}, {url}{said}"


def _pushed(project: Project, branch: str, title: str, paths: list[str]) -> tuple[bool, str]:
    """Write the branch at origin unless it holds these files already; returns whether it was written, and its head."""
    git, ref, access = project.git, f"refs/heads/{branch}", credentials(project.environment)
    there = git("ls-remote", "origin", ref, more=access).partition("\t")[0]
    tree = _tree(project, paths)
    if there:
        git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", there, more=access)
        listed = git("log", "--format=%ae %h %an", f"HEAD..{there}").splitlines()
        others = [line.partition(" ")[2] for line in listed if not line.startswith(f"{AUTHOR['EMAIL']} ")]
        if others:
            mend = "merge or close its pull request and delete the branch"
            raise Misuse(f"propose: the branch {branch} holds a commit of others ({others[0]}); {mend}")
        if git("rev-parse", f"{there}^{{tree}}") == tree and git("rev-parse", f"{there}^") == project.commit:
            return False, there
    by = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in AUTHOR.items()}
    commit = git("commit-tree", "--no-gpg-sign", tree, "-p", project.commit, "-F", "-", stdin=title.encode(), more=by)
    words = ("push", "--quiet", "--no-verify", f"--force-with-lease={ref}:{there}", "origin", f"{commit}:{ref}")
    git(*words, more=access)
    return True, commit


def _tree(project: Project, paths: list[str]) -> str:
    """The tree of this commit with the files as they are in the working tree. The index stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        project.git("read-tree", project.commit, more=index)
        project.git("add", "--force", "--", *paths, more=index)
        return project.git("write-tree", more=index)


def _opened(github: GitHub, project: Project, branch: str, title: str, body: str) -> dict[str, Any]:
    """The one pull request of this branch, which says what is given."""
    owner = (project.environment.repository or "").partition("/")[0]
    for known in github.pages(f"pulls?state=open&head={owner}:{branch}"):
        if _differs(known, {"title": title, "body": body}):
            github("PATCH", f"pulls/{known['number']}", {"title": title, "body": body})
        return dict(known)
    try:
        made: dict[str, Any] = github("POST", "pulls", {"title": title, "head": branch, "base": "main", "body": body})
    except Denied:
        server, name = project.environment.server_url, project.environment.repository
        by_hand = f"{server}/{name}/compare/main...{branch}?expand=1"
        raise Misuse(
            f"propose: this workflow may open no pull request: allow it ({SETTING}), or open it yourself: {by_hand}"
        ) from None
    return made


def _merged(github: GitHub, number: int, head: str, sleep: Callable[[float], None]) -> str:
    """Merge a pull request once its checks have ended; returns what became of it.

    Checks that never start are not waited for: GitHub says what it misses.
    """
    waited = 0.0
    while True:
        checks = github("GET", f"commits/{head}/check-runs?per_page=100")["check_runs"]
        if waited < CHECKING and any(check["status"] != "completed" for check in checks):
            sleep(PAUSE)
            waited += PAUSE
            continue
        failed = [check["name"] for check in checks if check["conclusion"] not in GREEN]
        if failed:
            return f"not merged: {failed[0]} has not succeeded"
        try:
            github("PUT", f"pulls/{number}/merge", {"sha": head, "merge_method": "squash"})
            return "merged; its delivery begins by itself, or `monitor` starts it"
        except Misuse as refused:
            if checks or waited >= STARTING:
                return f"not merged, a person must: {refused}"
            sleep(PAUSE)
            waited += PAUSE


def _differs(known: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return any((known.get(name) or "").strip() != text.strip() for name, text in wanted.items())
