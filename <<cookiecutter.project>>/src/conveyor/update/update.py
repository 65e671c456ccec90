"""`make update`: bring this repository to a newer release of its template."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conveyor.core import seal
from conveyor.core.errors import Misuse
from conveyor.core.files import sha256, write_text
from conveyor.core.git import Git, GitError
from conveyor.core.migrations import renamed
from conveyor.core.project import read_pyproject
from conveyor.core.venv import holding
from conveyor.core.yaml_file import read_yaml
from conveyor.update import template
from conveyor.update.merge import Merged, merge

LOCK = "requirements/update.txt"
SECONDS = 300


def run(root: Path, to: str) -> str:
    """Merge the newest release, or the one named ``to``, into the working tree; nothing is committed.

    Raises:
        Misuse: the tree is not clean, the machinery differs from its seal, or the template cannot be read.
    """
    if os.name == "nt":
        raise Misuse("update: the template holds names that Windows does not allow; run it in WSL")
    git = Git(root)
    _clean(git)
    owned = seal.owned(read_pyproject(root))
    seal.check(root, owned)
    origin = template.origin(root)
    print(f"update    asking {origin.address} for its releases")
    target = _target(origin, template.releases(origin, git), to)
    if target is None:
        return f"{origin.release} is the newest release"
    print(f"update    {origin.release} -> {target}: rendering both with your answers (about half a minute)")
    with tempfile.TemporaryDirectory() as scratch:
        both = [origin.release, target]
        bare = template.fetched(origin, both, Path(scratch, "git"))
        python = holding(root / "build/environments" / sha256((root / LOCK).read_bytes())[:16], root / LOCK, LOCK)
        with ThreadPoolExecutor() as pool:
            rendered = [pool.submit(_rendered, python, bare, tag, origin, Path(scratch, tag)) for tag in both]
            old, new = (each.result() for each in rendered)
        replaced = sorted(seal.read(root)[1].keys() - set(owned))
        try:
            for place in (old, root):
                _migrate(new, place)
            merged = merge(root, old, new, [*replaced, seal.PLACE], target)
        except BaseException:
            git("reset", "--quiet", "--hard", "HEAD")  # it was clean before: nothing else is undone
            raise
        write_text(root / "build/update.md", template.changelog(bare, target, origin.release) + "\n")
    return _told(git, merged, set(replaced), target)


def _clean(git: Git) -> None:
    try:
        inside, head = git("rev-parse", "--show-prefix"), git("rev-parse", "--verify", "--quiet", "HEAD")
    except GitError:
        inside, head = "", ""
    if inside or not head:
        raise Misuse("update: run it in the root of a git repository that has a commit")
    if changes := git("status", "--porcelain").splitlines():
        more = f" and {len(changes) - 1} more" if changes[1:] else ""
        raise Misuse(f"update: {changes[0][3:]}{more}: not committed; commit or stash it first")


def _target(origin: template.Origin, known: list[str], to: str) -> str | None:
    """The release to go to; None where this repository has it."""
    if origin.release not in known:
        raise Misuse(f"{template.ANSWERS}: _commit: {origin.address} has no release {origin.release}")
    target = to or known[-1]
    if target not in known:
        raise Misuse(f"TO: {origin.address} has no release {target!r}; its newest are {', '.join(known[-3:])}")
    if template.order(target) < template.order(origin.release):
        raise Misuse(f"TO: {target} is older than {origin.release}, which is here; `git revert` undoes an update")
    return None if target == origin.release else target


def _rendered(python: str, bare: Git, tag: str, origin: template.Origin, place: Path) -> Path:
    """What a release makes of the answers."""
    source = template.unpacked(bare, tag, place / "template")
    data = place / "answers.json"
    data.write_text(json.dumps(origin.answers), encoding="utf-8")
    words = [python, "-m", "copier", "copy", "--quiet", "--defaults", "--data-file", str(data), str(source)]
    made = place / "made"
    done = subprocess.run([*words, str(made)], capture_output=True, timeout=SECONDS, cwd=place)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Misuse(
            f"{origin.address}: release {tag} cannot be rendered: {said[-1] if said else 'copier says nothing'}"
        )
    return made


def _migrate(new: Path, place: Path) -> None:
    """Let the new release rename what it calls otherwise: only it knows."""
    variables = {**os.environ, "PYTHONPATH": str(new / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "conveyor", "migrate"]
    done = subprocess.run(words, cwd=place, env=variables, capture_output=True, timeout=SECONDS)
    if done.returncode:
        raise Misuse(_last_line(done.stderr).removeprefix("error: "))


def _last_line(text: bytes) -> str:
    return (text.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]


def migrate(path: Path) -> None:
    """Give the keys of params.yaml the names of this version.

    Raises:
        Misuse: it is missing, or no YAML.
    """
    read_yaml(path)
    text = path.read_text(encoding="utf-8")
    if (new := renamed(text)) != text:
        write_text(path, new)


def _told(git: Git, merged: Merged, replaced: set[str], target: str) -> str:
    """What was done, and what is left to do. A lock that clashes is the new release's: it is made again, not merged."""
    locks = [path for path in merged.clashes if path.startswith("requirements/") and path.endswith(".txt")]
    for path in locks:
        git("checkout", "--quiet", "--theirs", "--", path)
    for path in merged.clashes:
        print(
            f"update    clash in {path}"
            + ("; `make lock` makes it anew from requirements/*.in" if path in locks else "")
        )
    machinery = sum(path in replaced or path.startswith("src/conveyor/") for path in merged.changed)
    others = len(merged.changed) - machinery
    print(f"update    build/update.md says what is new in {target}")
    print("update    next: `git diff HEAD`, `make setup check test`, commit; `git reset --hard` undoes it")
    clashes = f", {len(merged.clashes)} clash: mend and `git add` them" if merged.clashes else ", no clash"
    return f"{target}: {machinery} files of the machinery and {others} others changed{clashes}"
