"""A double of the few calls that the template's own tools make to GitHub's REST API; it keeps what they make."""

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "your-team/template"
TOKEN = "stand-in-token"
BOT = {"login": "github-actions[bot]", "type": "Bot"}


@dataclass
class GitHub:
    """One repository. A request that it does not know, or one without the token, is answered with an error.

    Attributes:
        requests: method and path of each, in order.
    """

    releases: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    _faults: list[tuple[str, int]] = field(default_factory=list)
    _ids: int = 0

    def __enter__(self) -> "GitHub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"github": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What a job has in its environment."""
        return {
            "GITHUB_API_URL": self.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": "7",
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_TOKEN": TOKEN,
        }

    def fail(self, method: str, path_regex: str, status: int) -> None:
        """Answer the next such request with this status; nothing is done."""
        self._faults.append((f"{method} {path_regex}", status))

    def answer(self, method: str, path: str, query: dict[str, list[str]], content: bytes) -> tuple[int, Any]:
        for fault in self._faults:
            if re.fullmatch(fault[0], f"{method} {path}"):
                self._faults.remove(fault)
                return fault[1], {"message": "as the test asked for"}
        for pattern, act in self._routes().items():
            if found := re.fullmatch(pattern, f"{method} {path}"):
                return act(*found.groups(), query=query, content=content)
        return 404, {"message": "Not Found"}

    def _routes(self):
        return {
            "GET releases": lambda query, content: (200, _page(self.releases, query)),
            "POST releases": self._release,
            r"GET releases/(\d+)": lambda number, query, content: (200, self._find(self.releases, "id", number)),
            r"PATCH releases/(\d+)": lambda number, query, content: self._patch(self.releases, "id", number, content),
            r"POST releases/(\d+)/assets": self._asset,
            r"DELETE releases/assets/(\d+)": self._delete,
            "GET issues": lambda query, content: (
                200,
                _page([issue for issue in self.issues if issue["state"] == query["state"][0]], query),
            ),
            "POST issues": self._issue,
            r"PATCH issues/(\d+)": lambda number, query, content: self._patch(self.issues, "number", number, content),
            r"POST issues/(\d+)/comments": self._comment,
        }

    def _id(self) -> int:
        self._ids += 1
        return self._ids

    def _find(self, items, key: str, number: str) -> dict[str, Any]:
        return next(item for item in items if item[key] == int(number))

    def _patch(self, items, key: str, number: str, content: bytes) -> tuple[int, Any]:
        item = self._find(items, key, number)
        item.update(json.loads(content))
        return 200, item

    def _release(self, query, content: bytes) -> tuple[int, Any]:
        number = self._id()
        release = {
            "id": number,
            "html_url": f"https://github.example/{REPOSITORY}/releases/{number}",
            "upload_url": f"{self.url}/repos/{REPOSITORY}/releases/{number}/assets{{?name,label}}",
            "assets": [],
            **json.loads(content),
        }
        self.releases.append(release)
        return 201, release

    def _asset(self, number: str, query, content: bytes) -> tuple[int, Any]:
        release, name = self._find(self.releases, "id", number), query["name"][0]
        if name in [asset["name"] for asset in release["assets"]]:
            return 422, {"message": "Validation Failed: already_exists"}
        digest = f"sha256:{sha256(content).hexdigest()}"
        asset = {"id": self._id(), "name": name, "size": len(content), "digest": digest, "bytes": content}
        release["assets"].append(asset)
        return 201, asset

    def _delete(self, number: str, query, content: bytes) -> tuple[int, Any]:
        for release in self.releases:
            release["assets"] = [asset for asset in release["assets"] if asset["id"] != int(number)]
        return 204, None

    def _issue(self, query, content: bytes) -> tuple[int, Any]:
        number = len(self.issues) + 1
        url = f"https://github.example/{REPOSITORY}/issues/{number}"
        issue = {"number": number, "html_url": url, "state": "open", "user": BOT, **json.loads(content)}
        self.issues.append(issue)
        return 201, issue

    def _comment(self, number: str, query, content: bytes) -> tuple[int, Any]:
        comment = {"id": self._id(), "user": BOT, **json.loads(content)}
        self.comments.setdefault(int(number), []).append(comment)
        return 201, comment


def _page(items: list[Any], query: dict[str, list[str]]) -> list[Any]:
    size, page = int(query.get("per_page", ["30"])[0]), int(query.get("page", ["1"])[0])
    return items[size * (page - 1) : size * page]


class _Handler(BaseHTTPRequestHandler):
    github: GitHub

    def _any(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        split = urlsplit(self.path)
        path = split.path.removeprefix(f"/repos/{REPOSITORY}/")
        self.github.requests.append(f"{self.command} {path}")
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            status, told = 401, {"message": "Bad credentials"}
        else:
            status, told = self.github.answer(self.command, path, parse_qs(split.query), content)
        body = b"" if told is None else json.dumps(told, default=lambda _: None).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{self.github.url}/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _any

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what the tool says."""
