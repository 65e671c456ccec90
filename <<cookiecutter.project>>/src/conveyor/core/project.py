"""The repository of a step: its parameters, data, commit and build folder."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

from conveyor.core import frozen, params, yaml_file
from conveyor.core.environment import Environment
from conveyor.core.errors import Misuse
from conveyor.core.files import sha256
from conveyor.core.git import LEAST, Git, GitError

SCHEMA = 1
PLAN = "build/adopt"  # files that take their places together; a run that is killed meanwhile leaves it


def now() -> str:
    """This second in UTC, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_pyproject(root: Path) -> dict[str, Any]:
    """The content of a repository's pyproject.toml.

    Raises:
        Misuse: it is missing, or cannot be read.
    """
    try:
        return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Misuse("pyproject.toml: missing; run this in the root of the repository") from None
    except ValueError as error:
        raise Misuse(f"pyproject.toml: {error}; mend it") from None


def new_enough(told: str) -> None:
    """Check what `git version` says.

    Raises:
        Misuse: it is older than ``LEAST``.
    """
    found = re.search(r"(\d+)\.(\d+)", told)
    if found and (int(found[1]), int(found[2])) < LEAST:
        raise Misuse(f"git: {told.strip()} is too old; install {LEAST[0]}.{LEAST[1]} or newer")


def whole(root: Path) -> None:
    """Check that no killed run has left files half replaced: any of them may be the old one, and none is to blame.

    Raises:
        Misuse: one has.
    """
    if (root / PLAN / "plan.json").is_file():
        mend = f"run it again; to keep the files as they are now, delete {PLAN}"
        raise Misuse(f"{PLAN}: `adopt`, `collect` or `forget` was killed while it replaced files; {mend}")


Made = TypeVar("Made")


def per_project(make: Callable[[Project], Made]) -> Callable[[Project], Made]:
    """Cache a function's result with its project, so that higher layers can keep their objects there."""

    @wraps(make)
    def known(project: Project) -> Made:
        if make not in project.made:
            project.made[make] = make(project)
        made: Made = project.made[make]
        return made

    return known


@dataclass(frozen=True)
class Clone:
    """The git repository of a project.

    Attributes:
        git: git in the project's folder.
        shared: git's own folder, which all working trees of this clone share.
        shallow: whether this clone lacks old commits.
        commit: that of the working tree, in hex digits.
    """

    git: Git
    shared: Path
    shallow: bool
    commit: str


class Project:
    """A repository on disk, read once per process.

    Args:
        root: where params.yaml is.
        pull: a checkout of a pull request, or None. Only its data and the pin of its data are used: the code and the
            rule of ``root`` judge.
        overrides: parameters by dotted name that replace those of params.yaml.
        build: the folder of the steps' files.
        push: whether the ledger at origin may be written.
        before: the commit of main before this push; its rule decides if rule and model changed together.
    """

    def __init__(
        self,
        root: Path,
        pull: Path | None = None,
        overrides: dict[str, Any] | None = None,
        build: str = "build",
        push: bool = False,
        before: str | None = None,
    ) -> None:
        self.root = root
        self.made: dict[Callable[[Project], Any], Any] = {}
        self.build = root / build
        self.push = push
        self.environment = Environment.read()
        self.params = params.load(root / "params.yaml", overrides)
        self.data_root = root
        self.pull = pull
        self.before = before if before and before.strip("0") else None  # zeros: the branch is new
        self.base_data, self.pull_data = self.params.data, self.params.data
        if pull is not None:
            if not (pull / "params.yaml").is_file():
                raise Misuse(f"{pull}: no checkout of a pull request; it holds no params.yaml")
            # The other sections are for the code of the pull request: this code may not know them.
            section = yaml_file.read_yaml(pull / "params.yaml").get("data")
            pinned = self.pull_data = frozen.checked(params.Data, section, f"{pull}/params.yaml: data.")
            data = self.params.data.model_copy(update={"path": pinned.path, "sha256": pinned.sha256})
            self.params = self.params.model_copy(update={"data": data})
            self.data_root = pull

    @cached_property
    def clone(self) -> Clone:
        """The git repository around ``root``.

        Raises:
            Misuse: there is none with a commit, it belongs to another user, or git is missing or too old.
        """
        git = Git(self.root)
        try:
            # --path-format is as old as LEAST: an older git stops at it.
            words = ("--path-format=absolute", "--git-common-dir", "--is-shallow-repository")
            told = git("rev-parse", *words, "--verify", "--quiet", "HEAD^{commit}")
        except GitError as error:
            if "not installed" in str(error):
                raise Misuse("git is not installed; install it") from None
            if unowned := re.search("dubious ownership in repository at '(.*)'", str(error)):
                mend = f"if you trust it, run `git config --global --add safe.directory {unowned[1]}`"
                raise Misuse(f"git: the repository {unowned[1]} belongs to another user; {mend}") from None
            if "not a git repository" in str(error) or "exited with" in str(error):
                new_enough(git("version"))
                mend = "run `git init`, `git add -A` and `git commit`"
                raise Misuse(f"not a git repository with a commit; {mend}") from None
            raise
        shared, shallow, commit = told.rsplit("\n", 2)
        return Clone(git, Path(shared), shallow == "true", commit)

    @property
    def git(self) -> Git:
        """git in this repository; see ``clone`` for the errors."""
        return self.clone.git

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        """The content of pyproject.toml.

        Raises:
            Misuse: it is missing, or cannot be read.
        """
        return read_pyproject(self.root)

    @cached_property
    def name(self) -> str:
        """The name of the project in pyproject.toml, in lower case with hyphens, as image and host names need it.

        Raises:
            Misuse: pyproject.toml has no name.
        """
        section = self.pyproject.get("project")
        name = section.get("name") if isinstance(section, dict) else None
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
            raise Misuse('pyproject.toml: project.name: missing or no name; write it as in name = "late-flights"')
        return re.sub("[-_.]+", "-", name).lower()

    @property
    def package(self) -> str:
        """The same with underscores: for labels, and for the name of the model in MLflow."""
        return self.name.replace("-", "_")

    @property
    def team(self) -> Path:
        """The folder of the team's package, by model.build."""
        return self.root / "src" / self.params.model.build.partition(".")[0]

    @property
    def commit(self) -> str:
        """The commit of the working tree, 40 hex digits."""
        return self.clone.commit

    @cached_property
    def dirty(self) -> bool:
        """Whether the working tree has uncommitted changes. They are allowed, and recorded."""
        return bool(self.git("status", "--porcelain", "--untracked-files=normal"))

    def header(self) -> dict[str, Any]:
        """The fields at the beginning of every JSON of a step."""
        return {
            "schema": SCHEMA,
            "commit": self.commit,
            "dirty": self.dirty,
            "data_sha256": self.params.data.sha256,
            "created": now(),
        }

    def needed(self, path: str) -> bytes:
        """The content of a file of the repository.

        Raises:
            Misuse: it is missing.
        """
        if not (self.root / path).is_file():
            raise Misuse(f"{path}: missing; `git checkout {path}` brings it back")
        return (self.root / path).read_bytes()

    def file_sha256(self, path: str) -> str:
        """Digest of a file of the repository, "absent" if there is none."""
        file = self.root / path
        return sha256(file.read_bytes()) if file.is_file() else "absent"
