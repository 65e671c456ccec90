"""The repository that a step works in: its parameters, its data, its commit and its build folder."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import config
from .errors import Misuse, at_fault
from .files import sha256
from .git import Git, GitError

if TYPE_CHECKING:
    import pandas as pd

    from .ledger import Ledger

PACKAGE = Path(__file__).resolve().parent
SCHEMA = 1


def now() -> str:
    """This second in UTC, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Project:
    """A repository on disk, read once per process.

    Args:
        root: where params.yaml is.
        pull: a checkout of a pull request, or None. Its data and the pin of its data are used, nothing else of it:
            the code and the rule of ``root`` judge.
        overrides: parameters by dotted name that are put over those of params.yaml.
        build: where the steps keep their files.
        push: whether the ledger at origin may be written.
        before: the commit that main was at before this push; its rule decides where rule and model changed together.
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
        self.build = root / build
        self.push = push
        self.environment = config.Environment.read()
        self.params = config.load(root / "params.yaml", overrides)
        self.data_root = root
        self.pull = pull
        self.before = before if before and before.strip("0") else None  # zeros: the branch is new
        self.base_data = self.params.data
        if pull is not None:
            if not (pull / "params.yaml").is_file():
                raise Misuse(f"{pull}: no checkout of a pull request; it holds no params.yaml")
            # Its other sections are for the code of the pull request: this code need not understand them.
            section = config.read_yaml(pull / "params.yaml").get("data")
            pinned = config.checked(config.Data, section, f"{pull}/params.yaml: data.")
            data = self.params.data.model_copy(update={"path": pinned.path, "sha256": pinned.sha256})
            self.params = self.params.model_copy(update={"data": data})
            self.data_root = pull

    @cached_property
    def git(self) -> Git:
        git = Git(self.root)
        try:
            git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        except GitError as error:
            if "not installed" in str(error):
                raise Misuse("git is not installed; install it") from None
            if unowned := re.search("dubious ownership in repository at '(.*)'", str(error)):
                mend = f"if you trust it, run `git config --global --add safe.directory {unowned[1]}`"
                raise Misuse(f"git: the repository {unowned[1]} belongs to another user; {mend}") from None
            if "not a git repository" in str(error) or "exited with" in str(error):
                mend = "run `git init`, `git add -A` and `git commit`"
                raise Misuse(f"not a git repository with a commit; {mend}") from None
            raise
        return git

    @cached_property
    def commit(self) -> str:
        """The commit of the working tree, 40 hex digits."""
        return self.git("rev-parse", "HEAD")

    @cached_property
    def dirty(self) -> bool:
        """Whether the working tree holds changes that the commit does not. Allowed, and recorded."""
        return bool(self.git("status", "--porcelain", "--untracked-files=normal"))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The pinned data; see data.read.

        Raises:
            Misuse: also where a column of the guards, or a private one, is missing.
        """
        from . import data

        frame = data.read(self.params.data, self.data_root)
        named = {"gate.guards.segments": self.params.gate.guards.segments, "data.private": self.params.data.private}
        for key, columns in named.items():
            for column in columns:
                if column not in frame.columns:
                    raise Misuse(
                        f"params.yaml: {key}: no column {column!r} in {self.params.data.path}; it has"
                        f" {', '.join(frame.columns)}"
                    )
        return frame

    @cached_property
    def ledger(self) -> Ledger:
        from .ledger import Ledger

        return Ledger(self)

    def header(self) -> dict[str, Any]:
        """What every JSON of a step begins with."""
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
            Misuse: there is none.
        """
        if not (self.root / path).is_file():
            raise Misuse(f"{path}: missing; `git checkout {path}` brings it back")
        return (self.root / path).read_bytes()

    def file_sha256(self, path: str) -> str:
        """Digest of a file of the repository, "absent" if there is none."""
        file = self.root / path
        return sha256(file.read_bytes()) if file.is_file() else "absent"


def code_sha256(*modules: str) -> str:
    """Digest of modules of this package and of all that they import from it at their top, at any depth.

    An import inside a function belongs to another step, which names its own modules.
    """
    sources = reached(*modules)
    return sha256("\n".join(f"{name} {sha256(sources[name])}" for name in sorted(sources)).encode())


def reached(*modules: str, late: bool = False) -> dict[str, bytes]:
    """The sources of modules of this package and of all that they import from it, at any depth, by name.

    Args:
        late: whether imports inside functions count; what stands below ``if TYPE_CHECKING`` never does.
    """
    sources: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        place = PACKAGE / f"{module}.py"
        if module not in sources and place.is_file():
            sources[module] = place.read_bytes()
            waiting += _imports(sources[module], place, late)
    return sources


@cache
def _imports(source: bytes, place: Path, late: bool) -> list[str]:
    """What a module of that source imports from this package at its top, or wherever it does."""
    try:
        tree = ast.parse(source, place)
    except (SyntaxError, ValueError) as error:
        raise at_fault(error, place, "mend that line") from None
    found: list[str] = []
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found += [node.module] if node.module else [name.name for name in node.names]
        elif late and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
        elif late:
            waiting += ast.iter_child_nodes(node)
    return found
