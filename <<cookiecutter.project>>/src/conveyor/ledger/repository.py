"""Which repository holds the ledger: one remote named origin, or this one; anything else would fork the ledger."""

from __future__ import annotations

import base64
import re
from urllib.parse import urlsplit

from conveyor.core.environment import Environment
from conveyor.core.errors import Misuse
from conveyor.core.project import Project

PARTIAL = re.compile(r" \(fetch\) \[.*\]$")  # git names the filter of a partial clone behind the URL
SEAL = ":(top,glob)**/src/conveyor/SEAL"


class Repository:
    """What is known of the repository before its ledger is read.

    Attributes:
        remote: whether a remote named origin holds the ledger.
        url: that of origin, to push to.
        partial: whether this clone may lack objects that origin has.

    Raises:
        Misuse: the ledger could be another one than the team's.
    """

    def __init__(self, project: Project) -> None:
        git = project.git
        # A remote without a URL is none: a person's settings for every origin, such as remote.origin.prune, make one.
        listed = (line.partition("\t") for line in git("remote", "--verbose").splitlines())
        remotes = [(name, url) for name, _, url in listed if url]
        self.remote = bool(remotes)
        self.url = _one_place(remotes) if self.remote else ""
        self.partial = any(name == "origin" and PARTIAL.search(url) for name, url in remotes)
        # In a merge with conflicts the index has a file up to three times.
        sealed = {name for name in git("ls-files", "--full-name", "-z", SEAL).split("\0") if name}
        if len(sealed) > 1:
            named = sorted((name.removesuffix("src/conveyor/SEAL") or "./" for name in sealed), key=len)
            places = " and ".join(named[:2])
            raise Misuse(f"ledger: {places} are two projects, and a repository has one ledger; give each its own")


def _one_place(remotes: list[tuple[str, str]]) -> str:
    """The URL of origin, from what `git remote --verbose` says.

    Raises:
        Misuse: no remote is called origin, or it is more than one repository.
    """
    names = [name for name, _ in remotes]
    if "origin" not in names:
        named = names[0]
        raise Misuse(
            f"ledger: the remote is called {named}, and the ledger is at the one called origin;"
            f" `git remote rename {named} origin`, or `git remote remove {named}` for a ledger of this clone alone"
        )
    fetched, pushed = (
        [
            found[1]
            for name, url in remotes
            if name == "origin" and (found := re.fullmatch(rf"(.*) \({way}\)(?: \[.*\])?", url))
        ]
        for way in ("fetch", "push")
    )
    if len(pushed) > 1:
        raise Misuse(
            "ledger: origin has more than one URL, and a ledger has one place; `git config --get-regexp remote.origin`"
            " shows them, remove all but one"
        )
    if [place_of(url) for url in fetched] != [place_of(url) for url in pushed]:
        raise Misuse(
            "ledger: origin is pushed to another repository than it is fetched from;"
            " `git config --unset-all remote.origin.pushurl`, or remove the url.*.pushInsteadOf that changes it"
        )
    return pushed[0]


def place_of(url: str) -> str:
    """The host and path of a repository, equal for its URLs of different protocols."""
    short = re.fullmatch(r"(?:[^@/:]+@)?([\w.-]+):(?!//)(.*)", url)  # git@github.com:owner/name.git
    if short:
        host, path = short[1], short[2]
    else:
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path
    path = path.rstrip("/").removesuffix(".git")
    return f"{host.lower().removeprefix('ssh.')}/{path.strip('/') if host else path}"


def credentials(given: Environment) -> dict[str, str]:
    """The workflow's token, for one process alone: it is never written into a configuration file.

    An empty value before it drops the header that actions/checkout may have left: two of them are refused. No redirect
    is followed: git would send the header to the other host, too.
    """
    if not given.token:
        return {}
    basic = base64.b64encode(f"x-access-token:{given.token}".encode()).decode()
    server = f"http.{given.server_url}/"
    settings = [
        (f"{server}.extraheader", ""),
        (f"{server}.extraheader", f"AUTHORIZATION: basic {basic}"),
        (f"{server}.followRedirects", "false"),
    ]
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables
