"""GitHub's REST API, as far as the template's own workflows need it, and how their tools end.

Nothing but the standard library: a job that may write to the repository installs nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

SECONDS = 60.0  # for an answer


class Refused(Exception):
    """The answer is no. Exit code 1."""

    code = 1


class Misuse(Exception):
    """Usage, configuration or environment. Exit code 2."""

    code = 2


class GitHub:
    """One repository, asked with the token of the job. Nothing is asked twice: a job that failed is run again.

    Raises:
        Misuse: the environment names no repository or no token.
    """

    def __init__(self) -> None:
        self._root = setting("GITHUB_API_URL", "https://api.github.com") + "/repos/" + setting("GITHUB_REPOSITORY")
        job = "/".join(os.environ.get(f"GITHUB_{part}", "by-hand") for part in ("WORKFLOW", "JOB"))
        self._headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {setting('GITHUB_TOKEN')}",
            "User-Agent": f"template/{job}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        self._opener = urllib.request.build_opener(_Stay)

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a request about the repository, as JSON; None where it is empty.

        Raises:
            Misuse: GitHub does not answer, or says no; with its reason.
        """
        data = None if body is None else json.dumps(body).encode()
        return self._send(method, f"{self._root}/{path}", data, "application/json")

    def pages(self, path: str) -> Iterator[Any]:
        """All items of a list."""
        page, more = 1, "&" if "?" in path else "?"
        while items := self("GET", f"{path}{more}per_page=100&page={page}"):
            yield from items
            page += 1
            if len(items) < 100:
                return

    def upload(self, url: str, name: str, content: bytes) -> None:
        """Add a file to a release; ``url`` is its ``upload_url``."""
        self._send("POST", f"{url.partition('{')[0]}?name={name}", content, "application/octet-stream")

    def _send(self, method: str, url: str, data: bytes | None, kind: str) -> Any:
        headers = self._headers | ({} if data is None else {"Content-Type": kind})
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                content = answer.read()
            return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            reason = (
                f"{error.code}, {_message(error.read()) or error.reason}; check the job's permissions and its token"
            )
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"{error}; run it again"
        raise Misuse(f"GitHub: {method} {url.partition('?')[0]}: {' '.join(reason.split())[:300]}")


class _Stay(urllib.request.HTTPRedirectHandler):
    """No redirect is followed: the token would go there as well."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, TypeError, KeyError):
        return ""


def setting(name: str, default: str | None = None) -> str:
    """The value of a variable of the environment.

    Raises:
        Misuse: it is not set, and there is no default.
    """
    value = os.environ.get(name) or default
    if not value:
        raise Misuse(f"{name}: not set; a workflow sets it, on a laptop you do")
    return value


def end(tool: Callable[[], str]) -> None:
    """Run a tool: what it says, or one line about why not."""
    try:
        print(tool())
    except (Refused, Misuse) as stop:
        print(f"error: {stop}", file=sys.stderr)
        sys.exit(stop.code)
