"""The working tree of a team: whether an update can begin there, and how a result gets into it, whole or not at all."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from conveyor.core.errors import Misuse
from conveyor.core.git import Git, GitError

# What git has begun, by the file that it keeps meanwhile; the one that git looks at first comes first.
BEGUN = {
    "rebase-merge": "rebase",
    "rebase-apply/applying": "am",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "sequencer": "cherry-pick",
}
MARKS = {"s": "skip-worktree", "h": "assume-unchanged"}
# Kept in git's folder while a result is written: the index before it and the one after it, and two to work with.
KEPT, BEFORE, AFTER, WRITE, UNDO = "conveyor-update", "before", "after", "write", "undo"


def parts(listed: bytes) -> list[str]:
    """The entries of a list of git with -z."""
    return [part for part in os.fsdecode(listed).split("\0") if part]


def folder_of(git: Git) -> Path:
    """Where git keeps what belongs to this working tree."""
    return Path(os.fsdecode(git.bytes("rev-parse", "--absolute-git-dir").removesuffix(b"\n")))


def check(git: Git) -> None:
    """Check that an update can begin.

    Raises:
        Misuse: the folder is no root of a repository, git is at work on something else, or files are not committed.
    """
    try:
        inside = git.bytes("rev-parse", "--show-prefix").strip()
        git.bytes("rev-parse", "--verify", "--quiet", "HEAD")
    except GitError:
        raise Misuse("update: run it in the root of a git repository that has a commit") from None
    if inside:
        raise Misuse(
            "update: this folder is inside another git repository, which is not supported; give it a repository of its"
            " own"
        )
    folder = folder_of(git)
    _unlocked(git, folder)
    for name, what in BEGUN.items():
        if (folder / name).exists():
            raise Misuse(f"update: a {what} is in progress; finish it, or undo it with `git {what} --abort`")
    if changed := _changed(git):
        if _stopped(git, folder / KEPT / AFTER):
            raise Misuse("update: an update was killed; `git reset --hard` undoes it and what was edited since")
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        raise Misuse(f"update: {changed[0]}{more}: not committed; commit it, or `git stash -u`")
    _all_seen(git)


def _changed(git: Git) -> list[str]:
    return [entry[3:] for entry in parts(git.bytes("status", "--porcelain", "-z", "--no-renames"))]


def _stopped(git: Git, after: Path) -> bool:
    """Whether the index is, not committed, what an update made of it that did not come to its end."""
    if not after.exists() or git.succeeds("diff", "--cached", "--quiet"):
        return False
    now, then = (each.bytes("ls-files", "--stage", "-z") for each in (git, _with_index(git, after)))
    return now == then


def _with_index(git: Git, index: Path) -> Git:
    whole = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.splitIndex", "GIT_CONFIG_VALUE_0": "false"}
    return Git(git.root, {"GIT_INDEX_FILE": str(index), **whole})


def _unlocked(git: Git, folder: Path) -> None:
    lock = folder / "index.lock"
    if lock.exists():
        place = lock.relative_to(git.root) if lock.is_relative_to(git.root) else lock
        raise Misuse(f"{place}: git is at work here; if no git is, delete this file, then run it again")


def _all_seen(git: Git) -> None:
    """Check that git compares every file: it would write over one that it does not look at.

    Raises:
        Misuse: the checkout is sparse, or a file has a mark.
    """
    if git("config", "--type=bool", "--default=false", "--get", "core.sparseCheckout") == "true":
        raise Misuse("update: this checkout is sparse; `git sparse-checkout disable`, then run it again")
    for entry in parts(git.bytes("ls-files", "-v", "-z")):
        mark, path = MARKS.get(entry[0].lower()), entry[2:]
        if mark and entry[0] != "H":
            undo = f"git update-index --no-{mark} -- {shlex.quote(path)}"
            raise Misuse(f"{path}: is marked {mark}, so git does not see your edits; `{undo}`, then run it again")


def put(git: Git, head: str, result: str, unmerged: dict[str, dict[int, str]]) -> None:
    """Bring a result into the working tree, and mark in the index what is not merged.

    The index is replaced first, in one rename. If this process is killed, git shows what is not merged, and
    `git reset --hard` undoes the rest.

    Args:
        unmerged: the mode and id of each version of a path, by path and stage.

    Raises:
        Misuse: a file is in the way, the working tree was changed meanwhile, or a file cannot be written.
    """
    if changed := _changed(git) if git("rev-parse", "HEAD") == head else ["HEAD"]:
        raise Misuse(f"update: {changed[0]} was changed meanwhile; run it again")
    told = parts(git.bytes("diff-tree", "-r", "--no-renames", "--name-status", "-z", head, result))
    kinds = dict(zip(told[1::2], told[::2], strict=True))
    added = {path for path, kind in kinds.items() if kind == "A"}
    _free(git, added)
    folder = folder_of(git)
    _unlocked(git, folder)
    kept = folder / KEPT
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    with _undisturbed():
        git.succeeds("update-index", "-q", "--refresh")  # a copied repository has other times
        before, after, write, undo = (
            _with_index(git, shutil.copyfile(folder / "index", kept / name)) for name in (BEFORE, AFTER, WRITE, UNDO)
        )
        after("read-tree", "-m", head, result)
        after("update-index", "-z", "--index-info", stdin=_stages(unmerged, len(head)))
        undo("update-index", "-z", "--index-info", stdin=_of_tree(git, result, added))
        try:
            write("read-tree", "-m", "-u", "--dry-run", head, result)
        except GitError as error:
            raise Misuse(f"update: {error}; nothing was changed: move that file away, or commit it") from None
        _replace_index(folder, kept / AFTER)
        try:
            write("read-tree", "-m", "-u", head, result)
            # git only warns of a file that it cannot delete.
            for path in (path for path, kind in kinds.items() if kind == "D" and _is_file(git.root, path)):
                raise GitError(f"unable to delete {path}")
        except GitError as error:
            said = str(error).removeprefix("error: ")
            undo.succeeds("read-tree", "--reset", "-u", head)
            if not _is_as_before(before, added):
                raise Misuse(f"update: {said}; files are half-written: mend that, then `git reset --hard`") from None
            os.replace(kept / BEFORE, folder / "index")
            shutil.rmtree(kept, ignore_errors=True)
            raise Misuse(f"update: {said}; nothing was changed: mend that, then run it again") from None
        shutil.rmtree(kept, ignore_errors=True)
        git.succeeds("update-index", "-q", "--unmerged", "--refresh")


def _is_as_before(before: Git, added: set[str]) -> bool:
    try:
        return not _changed(before) and not any(_is_file(before.root, path) for path in added)
    except GitError:
        return False


def _is_file(root: Path, path: str) -> bool:
    """Whether a file or a link is at the path itself, not in a folder to which a link leads."""
    place = root / path
    there = os.path.lexists(place) and (place.is_symlink() or not place.is_dir())
    return there and place.parent.resolve() == root.resolve() / PurePosixPath(path).parent


def _stages(unmerged: dict[str, dict[int, str]], length: int) -> bytes:
    """For the index: what is not merged has no entry of its own, and then one for each version."""
    gone = [f"0 {'0' * length}\t{path}\0" for path in unmerged]
    there = [f"{entry} {stage}\t{path}\0" for path, versions in unmerged.items() for stage, entry in versions.items()]
    return os.fsencode("".join(gone + there))


def _of_tree(git: Git, tree: str, paths: set[str]) -> bytes:
    """For the index: these paths of a tree."""
    listed = parts(git.bytes("ls-tree", "-r", "-z", "--full-tree", tree))
    return os.fsencode("".join(f"{entry}\0" for entry in listed if entry.partition("\t")[2] in paths))


def _replace_index(folder: Path, index: Path) -> None:
    """In one rename, with the lock that every git respects."""
    lock = folder / "index.lock"
    with lock.open("xb") as file:
        try:
            file.write(index.read_bytes())
            file.flush()
            os.replace(lock, folder / "index")
        except OSError:
            lock.unlink(missing_ok=True)
            raise


def _free(git: Git, added: set[str]) -> None:
    """Check that no file of a person is in the way of a new one: git itself writes over files that it ignores.

    Raises:
        Misuse: one is, with its path.
    """
    known = set(parts(git.bytes("ls-files", "-z")))
    for path in sorted(added):
        for place in (path, *(parent.as_posix() for parent in PurePosixPath(path).parents)):
            if place in known:
                continue
            for file in _files(git.root, place, deep=place == path):
                if file not in known:
                    raise Misuse(
                        f"{file}: is in the way of a file of the release, and git does not know it; move it away or"
                        " commit it"
                    )


def _files(root: Path, place: str, deep: bool) -> Iterator[str]:
    """The file at ``place``; if that is a folder, the files in it where ``deep`` asks for them."""
    if _is_file(root, place):
        yield place
    elif deep:
        for folder, folders, files in os.walk(root / place):
            for name in (*files, *(name for name in folders if Path(folder, name).is_symlink())):
                yield Path(folder, name).relative_to(root).as_posix()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and the signals of a terminal or a service that ends: git must not be stopped while it writes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP
    before = {each: signal.signal(each, signal.SIG_IGN) for each in map(signal.Signals.__getitem__, names)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
