"""GitHub's REST API for the workflows: comments, releases, the start of another workflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from requests.structures import CaseInsensitiveDict

from conveyor.core.environment import Environment
from conveyor.core.errors import Misuse

ATTEMPTS = 3
SECONDS = 30.0  # time limit of an answer, and of a pause that GitHub asks for
BUSY = (429, 502, 503, 504)


class Denied(Misuse):
    """The token has no right to do this; that of a pull request from a fork can write nothing."""


class GitHub:
    """The API of one repository, with the token of the job.

    Raises:
        Misuse: the environment names no repository or no token.
    """

    def __init__(self, environment: Environment, sleep: Callable[[float], None] = time.sleep) -> None:
        for name, value in (("GITHUB_REPOSITORY", environment.repository), ("GITHUB_TOKEN", environment.token)):
            if not value:
                raise Misuse(f"{name}: not set; this runs in a workflow, or with both of these set")
        self._repository, self._root, self._sleep = environment.repository, environment.api_url.rstrip("/"), sleep
        self._session = requests.Session()
        self._session.trust_env = False  # no .netrc: the token is the only identity
        self._session.proxies = requests.utils.get_environ_proxies(self._root)
        self._session.headers = CaseInsensitiveDict(
            {
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {environment.token}",
                "User-Agent": f"conveyor/{environment.job}",
                "X-GitHub-Api-Version": "2022-11-28",
            }
        )

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a request about the repository, as JSON; None if it is empty.

        After a busy answer the request is repeated a little later, but a POST never: it may have had its effect.

        Raises:
            Denied: the token has no right to it.
            Misuse: GitHub does not answer, or answers with an error; with its reason.
        """
        return self._read(self._answer(method, self._url(path), json=body), f"{method} {path}")

    def pages(self, path: str) -> Iterator[Any]:
        """All items of a list."""
        url: str | None = self._url(path) + ("&" if "?" in path else "?") + "per_page=100"
        while url:
            answer = self._answer("GET", url)
            yield from self._read(answer, f"GET {path}") or ()
            url = answer.links.get("next", {}).get("url")
            if url and not url.startswith(self._root):
                raise Misuse(f"GitHub: its next page is at another place, {url[:80]}; the token does not go there")

    def upload(self, url: str, file: Path) -> Any:
        """Add a file to a release; ``url`` is its ``upload_url``."""
        place = url.partition("{")[0]
        answer = self._answer(
            "POST",
            place,
            params={"name": file.name},
            data=file.read_bytes(),
            headers={"Content-Type": "application/octet-stream"},
        )
        return self._read(answer, f"upload of {file.name}")

    def _url(self, path: str) -> str:
        return f"{self._root}/repos/{self._repository}/{path}".rstrip("/")

    def _answer(self, method: str, url: str, **more: Any) -> requests.Response:
        attempts = 1 if method == "POST" else ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                answer = self._session.request(method, url, timeout=SECONDS, allow_redirects=method == "GET", **more)
            except requests.RequestException as error:
                if attempt == attempts:
                    reason = " ".join(str(error).split())[:200]
                    raise Misuse(f"GitHub: {self._root} does not answer: {reason}; run it again") from None
                pause = float(attempt)
            else:
                if answer.status_code not in BUSY or attempt == attempts:
                    return answer
                asked = answer.headers.get("Retry-After", "")
                pause = float(asked) if asked.isdecimal() else float(attempt)
            self._sleep(min(pause, SECONDS))
        raise AssertionError("the last attempt returns or raises")

    @staticmethod
    def _read(answer: requests.Response, what: str) -> Any:
        if answer.status_code in (204, 205):
            return None
        try:
            told = answer.json()
        except ValueError:
            told = None
        if answer.ok:
            return told
        message = told.get("message") if isinstance(told, dict) else None
        reason = " ".join(str(message or answer.reason).split())[:200]
        kind = Denied if answer.status_code in (401, 403) else Misuse
        raise kind(f"GitHub: {what}: {answer.status_code}, {reason}; check the job's permissions and its token")


def deliver(environment: Environment) -> str:
    """Start the workflow deliver on main.

    Raises:
        Misuse: see ``GitHub``.
    """
    GitHub(environment)("POST", "actions/workflows/deliver.yml/dispatches", {"ref": "main"})
    return "the workflow deliver was asked to run on main"


def undo(environment: Environment, to: int, because: str) -> str:
    """Start the workflow rollback on main, unless a run of it waits, as for its reviewers.

    Raises:
        Misuse: see ``GitHub``.
    """
    github = GitHub(environment)
    for run in github("GET", "actions/workflows/rollback.yml/runs?branch=main&per_page=10")["workflow_runs"]:
        if run["status"] != "completed":
            return f"a run of the workflow rollback has not ended: {run['html_url']}"
    inputs = {"because": because, "to": str(to)}
    github("POST", "actions/workflows/rollback.yml/dispatches", {"ref": "main", "inputs": inputs})
    return f"the workflow rollback was asked to go back to event {to}"
