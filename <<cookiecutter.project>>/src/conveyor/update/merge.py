"""The three-way merge of an update: what the old release made, what the team made of it, and what the new one makes.

git itself merges, so renamed files, binary files and files that one side deleted are treated as in any other merge.
copier's own update replaces a binary file that the team changed, and says nothing.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from conveyor.core.errors import Misuse
from conveyor.core.files import write_text
from conveyor.core.git import Git, GitError
from conveyor.update.lines import merged

# The commits that git merges are seen by nobody.
NOBODY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "update"), ("EMAIL", "update@localhost"))
}
ALONE = ("params.yaml", ".copier-answers.yml", "requirements/")  # files in which each line stands alone
SETTINGS = ("-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "-c", "merge.directoryRenames=false")


@dataclass(frozen=True)
class Merged:
    """What a merge left in the working tree.

    Attributes:
        changed: paths that differ from the last commit.
        clashes: those of them that git could not merge.
    """

    changed: list[str]
    clashes: list[str]


def merge(root: Path, old: Path, new: Path, replaced: list[str], label: str) -> Merged:
    """Merge into the clean working tree at ``root``, and stage what merges.

    Args:
        old: a folder with what the old release makes.
        new: a folder with what the new release makes.
        replaced: paths whose content here counts as that of the old release: the new one replaces them.
        label: the name of the new release at a clash.

    Raises:
        Misuse: a file that git does not know is in the way; nothing has changed then.
        GitError: git cannot merge.
    """
    git = Git(root, {**NOBODY, "GIT_MERGE_VERBOSITY": "0"})
    git("add", "--update", more={})  # what was migrated here
    ours = _commit(git, git("write-tree"))
    base = _commit(git, _tree(git, old, _entries(git, replaced)))
    theirs = _commit(git, _tree(git, new, []))
    _free(git, base, theirs)
    try:
        names = {f"GITHEAD_{ours}": "this repository", f"GITHEAD_{theirs}": label}
        git(*SETTINGS, "merge-recursive", base, "--", ours, theirs, more=names)
    except GitError:
        if not git("ls-files", "--unmerged"):
            raise
    clashes = []
    for path in git("-c", "core.quotePath=false", "diff", "--name-only", "--diff-filter=U").splitlines():
        if not _settled(git, path):
            clashes.append(path)
    changed = git("-c", "core.quotePath=false", "diff", "--name-only", "HEAD").splitlines()
    return Merged(changed, clashes)


def _free(git: Git, base: str, theirs: str) -> None:
    """Check that no file of a person lies where a new one comes: git itself writes over files that it ignores."""
    new = git("diff", "--no-renames", "--name-only", "--diff-filter=A", "-z", base, theirs).split("\0")
    known = set(git("ls-files", "-z").split("\0"))
    for path in filter(None, new):
        if path not in known and os.path.lexists(git.root / path):
            raise Misuse(f"{path}: the release adds this file, and git does not know yours; move it away or commit it")


def _settled(git: Git, path: str) -> bool:
    """Whether a clash in a file whose lines stand alone is none."""
    if not path.startswith(ALONE):
        return False
    try:
        base, ours, theirs = (git.bytes("show", f":{stage}:{path}").decode() for stage in (1, 2, 3))
    except (GitError, UnicodeDecodeError):  # one side deleted or added it, or it is no text
        return False
    text = merged(base, ours, theirs)
    if text is None:
        return False
    write_text(git.root / path, text)
    git("add", "--", path)
    return True


def _commit(git: Git, tree: str) -> str:
    return git("commit-tree", tree, "-m", "update")


def _entries(git: Git, paths: list[str]) -> list[str]:
    """What the index of the repository holds for ``paths``, for `update-index --index-info`."""
    known = {line.partition("\t")[2]: line for line in git("ls-files", "--stage", "-z").split("\0")}
    return [known[path] for path in paths if path in known]


def _tree(git: Git, folder: Path, entries: list[str]) -> str:
    """The tree of a folder, with ``entries`` of an index over it."""
    with tempfile.TemporaryDirectory() as scratch:
        place = {
            "GIT_DIR": git("rev-parse", "--absolute-git-dir"),
            "GIT_WORK_TREE": str(folder),
            "GIT_INDEX_FILE": str(Path(scratch, "index")),
        }
        apart = Git(folder, place)
        apart(*SETTINGS, "add", "--all", "--force", ".")
        if entries:
            apart("update-index", "-z", "--index-info", stdin="\0".join([*entries, ""]).encode())
        return apart("write-tree")
