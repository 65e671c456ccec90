"""The origin of the code, as labels of the Open Container Initiative."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

from conveyor.core.git import GitError
from conveyor.core.project import Project


def labels(project: Project) -> dict[str, str]:
    """source, created and licenses, as far as they are known; equal for the same commit.

    Raises:
        Misuse: pyproject.toml cannot be read.
    """
    at = datetime.fromisoformat(project.git("show", "--no-patch", "--format=%cI", project.commit)).astimezone(UTC)
    found = {"created": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "licenses": licence(project)}
    with suppress(GitError):  # there is no such remote
        found["source"] = address(project.git("remote", "get-url", "origin"))
    return {f"org.opencontainers.image.{name}": value for name, value in found.items() if value}


def licence(project: Project) -> str | None:
    """The SPDX expression of the licence that pyproject.toml names, or None.

    Raises:
        Misuse: pyproject.toml cannot be read.
    """
    named = project.pyproject.get("project", {}).get("license")
    return named if isinstance(named, str) else None


def address(remote: str) -> str | None:
    """The https address of a remote, without user name and password; None: the remote is on no host."""
    if "://" in remote:
        try:
            url = urlsplit(remote)
            host, port, path = url.netloc.rpartition("@")[2], url.port, url.path
        except ValueError:
            return None
        if url.scheme not in ("https", "http", "ssh", "git"):
            return None
        if port and url.scheme in ("ssh", "git"):  # the port of ssh or git does not serve https
            host = host.removesuffix(f":{port}")
    else:
        found = re.fullmatch(r"(?:[^@/:]+@)?([\w.-]{2,}):(?!:)/*(.+)", remote)  # ssh's short form; C: is a disk
        if not found:
            return None
        host, path = found[1], found[2]
    path = path.strip("/").removesuffix(".git")
    parts = path.split("/")
    if not host or {".", ".."} & set(parts) or not all(re.fullmatch(r"[\w.~+-]+", part) for part in parts):
        return None
    return f"https://{host}/{path}"
