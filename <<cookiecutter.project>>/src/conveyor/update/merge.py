"""The three-way merge of an update: what the old release made, what the team made of it, and what the new one makes.

git itself merges, so renamed files, binary files and files that one side deleted are treated as in any other merge.
copier's own update replaces a binary file that the team changed, and says nothing.

The merge takes place in a folder of its own. The working tree gets its result in one step of git, which first checks
that no file is in the way and that nothing was edited meanwhile.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from conveyor.core.errors import Misuse
from conveyor.core.files import write_text
from conveyor.core.git import Git, GitError
from conveyor.update.lines import merged

# The commits that git merges are temporary.
NOBODY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "update"), ("EMAIL", "update@localhost"))
}
ALONE = ("params.yaml", ".copier-answers.yml", "requirements/")  # files in which each line has its own meaning
SETTINGS = {
    "core.autocrlf": "false",
    "core.hooksPath": os.devnull,
    "core.sparseCheckout": "false",
    "merge.directoryRenames": "false",
}


@dataclass(frozen=True)
class Conflict:
    """A file that git could not merge.

    Attributes:
        path: where it is.
        stages: which versions there are, of 1 (old release), 2 (this repository) and 3 (new release).
        marked: whether the file holds both versions, with git's marks.
    """

    path: str
    stages: frozenset[int]
    marked: bool


@dataclass(frozen=True)
class Merged:
    """What a merge left in the working tree.

    Attributes:
        changed: paths that differ from the last commit.
        conflicts: those that a person has to decide.
    """

    changed: list[str]
    conflicts: list[Conflict]


class Apart:
    """The repository's objects with an index and a working tree elsewhere.

    Args:
        tree: the folder that is the working tree.
    """

    def __init__(self, git: Git, tree: Path, index: Path) -> None:
        self.tree = tree
        given = {f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(SETTINGS)}
        given |= {f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(SETTINGS.values())}
        self.git = Git(
            tree,
            {
                **NOBODY,
                **given,
                "GIT_CONFIG_COUNT": str(len(SETTINGS)),
                "GIT_DIR": git("rev-parse", "--absolute-git-dir"),
                "GIT_WORK_TREE": str(tree),
                "GIT_INDEX_FILE": str(index),
                "GIT_LFS_SKIP_SMUDGE": "1",  # pointers are merged, not what they point to
                "GIT_MERGE_VERBOSITY": "0",
            },
        )

    def tree_of_files(self, instead: bytes = b"") -> str:
        """The tree of the folder's files, with the entries ``instead`` (as ls-files --stage -z gives them) over it."""
        self.git("add", "--all", "--force", ".")
        if instead:
            self.git("update-index", "-z", "--index-info", stdin=instead)
        return self.git("write-tree")

    def commit(self, tree: str) -> str:
        return self.git("commit-tree", tree, "-m", "update")

    def unmerged(self) -> dict[str, dict[int, str]]:
        """The mode and id of each version of a path that is not merged, by path and stage."""
        found: dict[str, dict[int, str]] = {}
        for entry in _parts(self.git.bytes("ls-files", "--unmerged", "-z")):
            about, _, path = entry.partition("\t")
            mode, identity, stage = about.split()
            found.setdefault(path, {})[int(stage)] = f"{mode} {identity}"
        return found


def merge(
    root: Path, old: Path, new: Path, replaced: list[str], label: str, migrate: Callable[[Path], None], scratch: Path
) -> Merged:
    """Merge into the clean working tree at ``root``, and stage the result.

    Args:
        old: a folder with what the old release makes.
        new: a folder with what the new release makes.
        replaced: paths whose content here counts as that of the old release: the new one replaces them.
        label: the name of the new release at a conflict.
        migrate: renames what the new release calls by another name, in a folder.
        scratch: an empty folder.

    Raises:
        Misuse: a file is in the way, or the working tree was changed meanwhile; nothing has changed then.
        GitError: git cannot merge; the same.
    """
    git = Git(root)
    head = git("rev-parse", "HEAD")
    here = Apart(git, scratch / "tree", scratch / "index")
    here.tree.mkdir()
    here.git("read-tree", head)
    here.git("checkout-index", "--all", "--force", "--index")
    for place in (old, here.tree):
        migrate(place)
    here.git("add", "--update", "--", "params.yaml")
    known = {entry.partition("\t")[2]: entry for entry in _parts(git.bytes("ls-files", "--stage", "-z"))}
    as_here = "".join(f"{known[path]}\0" for path in replaced if path in known)
    ours = here.commit(here.git("write-tree"))
    base = here.commit(Apart(git, old, scratch / "old").tree_of_files(os.fsencode(as_here)))
    theirs = here.commit(Apart(git, new, scratch / "new").tree_of_files())
    try:
        names = {f"GITHEAD_{ours}": "this repository", f"GITHEAD_{theirs}": label}
        here.git("merge-recursive", base, "--", ours, theirs, more=names)
    except GitError:
        if not here.unmerged():
            raise
    for path, versions in here.unmerged().items():
        _settle(here, path, versions)
    unmerged = here.unmerged()
    _put(git, head, _result(here, unmerged), unmerged)
    conflicts = [_conflict(here, path, versions) for path, versions in unmerged.items()]
    return Merged(_parts(git.bytes("diff", "--name-only", "-z", "HEAD")), conflicts)


def _parts(listed: bytes) -> list[str]:
    return [part for part in os.fsdecode(listed).split("\0") if part]


def _settle(here: Apart, path: str, versions: dict[int, str]) -> None:
    """Merge what is no conflict: neighbouring lines of settings. A lock is that of the release: it is made again."""
    if versions.keys() != {1, 2, 3} or not path.startswith(ALONE):
        return
    if path.startswith("requirements/") and path.endswith(".txt"):
        here.git("checkout-index", "--force", "--stage=3", "--", path)
    try:
        texts = [here.git.bytes("cat-file", "blob", versions[stage].split()[1]).decode() for stage in (1, 2, 3)]
    except (GitError, UnicodeDecodeError):
        return
    text = merged(*texts)
    if text is not None:
        write_text(here.tree / path, text)
        here.git("add", "--", path)


def _result(here: Apart, unmerged: dict[str, dict[int, str]]) -> str:
    """The tree of the merge; a file with a conflict is as git left it."""
    for path, versions in unmerged.items():
        file = here.tree / path
        if file.is_file() and not file.is_symlink():
            mode = versions[max(versions)].split()[0]
            here.git("update-index", "--add", "--cacheinfo", f"{mode},{here.git('hash-object', '-w', path)},{path}")
        else:
            here.git("update-index", "--force-remove", "--", path)
    return here.git("write-tree")


def _put(git: Git, head: str, result: str, unmerged: dict[str, dict[int, str]]) -> None:
    """Bring a result into the working tree, and mark in the index what is not merged.

    Raises:
        Misuse: see ``merge``.
    """
    changed = [line[3:] for line in git("status", "--porcelain").splitlines()]
    if git("rev-parse", "HEAD") != head:
        changed = ["HEAD"]
    if changed:
        raise Misuse(f"update: {changed[0]} was changed meanwhile; run it again")
    _free(git, head, result)
    # What is not merged has no entry of its own, and then one for each version.
    stages = "".join(
        [f"0 {'0' * len(head)}\t{path}\0" for path in unmerged]
        + [f"{entry} {stage}\t{path}\0" for path, versions in unmerged.items() for stage, entry in versions.items()]
    )
    with _undisturbed():
        try:
            git("update-index", "-q", "--refresh")  # a copied repository has other times
            git("read-tree", "-m", "-u", head, result)
        except GitError as error:
            raise Misuse(f"update: {error}; nothing was changed: move that file away, or commit it") from None
        if stages:
            git("update-index", "-z", "--index-info", stdin=os.fsencode(stages))


def _free(git: Git, head: str, result: str) -> None:
    """Check that no file of a person is in the way of a new one: git itself writes over files that it ignores.

    Raises:
        Misuse: one is, with its path.
    """
    new = _parts(git.bytes("diff-tree", "-r", "--no-renames", "--name-only", "--diff-filter=A", "-z", head, result))
    known = set(_parts(git.bytes("ls-files", "-z")))
    folders = {parent.as_posix() for path in known for parent in PurePosixPath(path).parents}
    for path in new:
        for place in (path, *(parent.as_posix() for parent in PurePosixPath(path).parents)):
            found = git.root / place
            if place in known or place in folders or not os.path.lexists(found):
                continue
            if place == path or found.is_symlink() or not found.is_dir():
                raise Misuse(
                    f"{place}: is in the way of a file of the release, and git does not know it; move it away or commit"
                    " it"
                )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait: git must not be stopped while it writes files."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _conflict(here: Apart, path: str, versions: dict[int, str]) -> Conflict:
    file = here.tree / path
    marked = file.is_file() and b"<" * 7 in file.read_bytes() if not file.is_symlink() else False
    return Conflict(path, frozenset(versions), marked)
