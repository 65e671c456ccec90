"""The template of this repository: where it is, which releases it has, and what one of them contains."""

from __future__ import annotations

import io
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conveyor.core import seal
from conveyor.core.errors import Misuse
from conveyor.core.git import Git, GitError
from conveyor.core.yaml_file import read_yaml
from conveyor.update.tree import parts

ANSWERS = ".copier-answers.yml"
TAG = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
SHORT = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/", "git+": ""}
# Settings of a repository that say what it is; and what its other settings were read from.
OWN = re.compile(r"core\.(bare|worktree|repositoryformatversion)$|(extensions|remote|branch|include|includeif)\.")
HEADING = re.compile(r"^## \[?v?(\d+\.\d+\.\d+)\b[^\n]*$", re.M)


@dataclass(frozen=True)
class Origin:
    """Where this repository comes from.

    Attributes:
        address: of the template, for git.
        release: the tag of the template that it has, as v1.0.0.
        answers: what was answered.
    """

    address: str
    release: str
    answers: dict[str, Any]


def forget_callers_git() -> None:
    """Drop variables of a caller, as an alias of git, that would lead git to another repository."""
    for name in Git(Path.cwd())("rev-parse", "--local-env-vars").split():
        os.environ.pop(name, None)


def order(tag: str) -> tuple[int, ...]:
    """What tags are sorted by."""
    return tuple(int(part) for part in tag[1:].split("."))


def origin(root: Path) -> Origin:
    """What .copier-answers.yml says.

    Raises:
        Misuse: it is missing or says too little.
    """
    said = read_yaml(root / ANSWERS)
    release, source = said.pop("_commit", None), said.pop("_src_path", None)
    if not isinstance(release, str) or not TAG.fullmatch(release):
        raise Misuse(f"{ANSWERS}: _commit: {release!r} is no release; write the one that is here, as v1.0.0")
    if not isinstance(source, str) or not source.isprintable() or source[:1] in ("", "-"):
        raise Misuse(f"{ANSWERS}: _src_path: names no template; write its address")
    for short, long in SHORT.items():
        source = long + source.removeprefix(short) if source.startswith(short) else source
    if (root / source).exists():
        source = str((root / source).resolve())
    sealed = seal.read(root)[0]
    if release != f"v{sealed}":
        raise Misuse(f"{ANSWERS}: _commit: is {release}, and the machinery is that of {sealed}; write v{sealed}")
    return Origin(source, release, said)


def releases(origin: Origin, git: Git) -> list[str]:
    """The tags of all releases, the oldest first; what is no release, as v2.0.0rc1, is left out.

    Raises:
        Misuse: the template does not answer.
    """
    try:
        lines = git("ls-remote", "--tags", "--refs", origin.address).splitlines()
    except GitError as error:
        where = f"{ANSWERS}: _src_path: {origin.address}"
        raise Misuse(f"{where}: {error}; write the template's address there, or see that git may read it") from None
    return sorted(filter(TAG.fullmatch, (line.rpartition("/")[2] for line in lines)), key=order)


def fetched(git: Git, origin: Origin, tags: list[str], place: Path) -> Git:
    """A bare repository at ``place`` that holds these tags and no history; ``git`` is that of this repository.

    Raises:
        Misuse: the template does not have one of them.
    """
    place.mkdir(parents=True)
    settings = place / "settings"
    settings.write_bytes(os.fsencode(_settings(git)))
    only = {"GIT_CONFIG_GLOBAL": str(settings), "GIT_CONFIG_NOSYSTEM": "1"}
    bare = Git(git.root, {"GIT_DIR": str(place), **only})
    bare("init", "--quiet", "--bare")
    for tag in tags:
        try:
            bare("fetch", "--quiet", "--depth=1", origin.address, f"refs/tags/{tag}:refs/tags/{tag}")
        except GitError as error:
            raise Misuse(f"{origin.address}: release {tag} cannot be fetched: {error}") from None
    return bare


def _settings(git: Git) -> str:
    """All settings of git that hold in this repository, as a file of them: they say how to reach an address."""
    entries = [entry.partition("\n") for entry in parts(git.bytes("config", "--list", "-z"))]
    return "".join(_setting(key, value if said else "true") for key, said, value in entries if not OWN.match(key))


def _setting(key: str, value: str) -> str:
    section, _, rest = key.partition(".")
    about, _, name = rest.rpartition(".")
    about, value = (text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for text in (about, value))
    head = f'{section} "{about}"' if about else section
    return f'[{head}]\n{name} = "{value}"\n'


def unpacked(git: Git, tag: str, place: Path) -> Path:
    """The files of a release in the folder ``place``."""
    with tarfile.open(fileobj=io.BytesIO(git.bytes("archive", "--format=tar", f"refs/tags/{tag}"))) as archive:
        archive.extractall(place, filter="data")
    return place


def changelog(git: Git, tag: str, since: str) -> str:
    """The sections of the changelog of ``tag`` that are newer than ``since``, the newest first; empty without one."""
    try:
        text = git.bytes("show", f"refs/tags/{tag}:CHANGELOG.md").decode(errors="replace")
    except GitError:
        return ""
    parts = HEADING.split(text)[1:]
    sections = zip(parts[::2], parts[1::2], strict=True)
    return "\n\n".join(
        f"## {version}\n\n{body.strip()}"
        for version, body in sections
        if order(since) < order(f"v{version}") <= order(tag)
    )
