"""The three-way merge of an update: what the old release made, what the team made of it, and what the new one makes.

git itself merges, so renamed files, binary files and files that one side deleted are treated as in any other merge.
copier's own update replaces a binary file that the team changed, without a message.

The merge takes place in a folder of its own. The working tree gets its result in one step of git, which first checks
that no file is in the way and that nothing was edited meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conveyor.core.errors import Misuse
from conveyor.core.git import Git, GitError
from conveyor.update.lines import merged
from conveyor.update.tree import folder_of, parts, put

LINK = "120000"  # the mode of a symbolic link
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
        link: whether a version is a link, so the one of this repository stays.
    """

    path: str
    stages: frozenset[int]
    marked: bool
    link: bool


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
                "GIT_DIR": str(folder_of(git)),
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

    def enter(self, path: str, entry: str | None) -> None:
        """Say in the index what is at a path: its mode and id, or nothing."""
        if entry:
            self.git("update-index", "-z", "--index-info", stdin=os.fsencode(f"{entry}\t{path}\0"))
        else:
            self.git("update-index", "--force-remove", "--", path)

    def unmerged(self) -> dict[str, dict[int, str]]:
        """The mode and id of each version of a path that is not merged, by path and stage."""
        found: dict[str, dict[int, str]] = {}
        for entry in parts(self.git.bytes("ls-files", "--unmerged", "-z")):
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
    known = {entry.partition("\t")[2]: entry for entry in parts(git.bytes("ls-files", "--stage", "-z"))}
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
    put(git, head, _result(here, unmerged), unmerged)
    conflicts = [_conflict(here, path, versions) for path, versions in unmerged.items()]
    return Merged(parts(git.bytes("diff", "--name-only", "-z", "HEAD")), conflicts)


def _settle(here: Apart, path: str, versions: dict[int, str]) -> None:
    """Merge what is no conflict: neighbouring lines of settings. A lock is that of the release: it is made again."""
    if versions.keys() != {1, 2, 3} or not path.startswith(ALONE) or _linked(versions):
        return
    if path.startswith("requirements/") and path.endswith(".txt"):
        here.git("checkout-index", "--force", "--stage=3", "--", path)
    try:
        texts = [here.git.bytes("cat-file", "blob", versions[stage].split()[1]).decode() for stage in (1, 2, 3)]
    except (GitError, UnicodeDecodeError):
        return
    text = merged(*texts)
    if text is not None:
        (here.tree / path).write_bytes(text.encode())
        here.enter(path, _entry(here, path, versions))


def _result(here: Apart, unmerged: dict[str, dict[int, str]]) -> str:
    """The tree of the merge; a file with a conflict is as git left it.

    Raises:
        Misuse: a file of one side is a folder of the other.
    """
    for path, versions in unmerged.items():
        here.enter(path, _entry(here, path, versions))
    return here.git("write-tree")


def _entry(here: Apart, path: str, versions: dict[int, str]) -> str | None:
    """The mode and id of what is at the path now; None for nothing.

    git merges no link: that of this repository stays, and so does a file that git put under another name.
    """
    file = here.tree / path
    if file.is_dir() and not file.is_symlink():
        kind = "folder" if 2 in versions else "file"
        raise Misuse(f"{path}: the release has a {kind} of this name; `git mv` yours, commit, then run it again")
    if not os.path.lexists(file) or _linked(versions):
        return versions.get(2) or (versions.get(3) if _linked(versions) else None)
    return f"{_mode(versions)} {here.git('hash-object', '-w', '--', path)}"


def _linked(versions: dict[int, str]) -> bool:
    return any(version.startswith(LINK) for version in versions.values())


def _mode(versions: dict[int, str]) -> str:
    """The mode that one side gave the file; where both did, that of this repository."""
    old, ours, theirs = (versions.get(stage, "").partition(" ")[0] for stage in (1, 2, 3))
    return theirs if theirs and ours in ("", old) else ours


def _conflict(here: Apart, path: str, versions: dict[int, str]) -> Conflict:
    file, linked = here.tree / path, _linked(versions)
    marked = not linked and file.is_file() and b"<" * 7 in file.read_bytes()
    return Conflict(path, frozenset(versions), marked, linked and {2, 3} <= versions.keys())
