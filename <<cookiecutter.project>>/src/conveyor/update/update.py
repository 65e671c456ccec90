"""`make update`: bring this repository to a newer release of its template."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conveyor.core import params, seal
from conveyor.core.errors import Misuse, one_line
from conveyor.core.files import sha256, write_text
from conveyor.core.git import Git
from conveyor.core.migrations import renamed
from conveyor.core.project import read_pyproject
from conveyor.core.venv import holding
from conveyor.core.yaml_file import read_yaml
from conveyor.update import template, tree
from conveyor.update.merge import Conflict, Merged, merge

LOCK = "requirements/update.txt"
SECONDS = 300


def run(root: Path, to: str) -> str:
    """Merge the newest release, or the one named ``to``, into the working tree; nothing is committed.

    Raises:
        Misuse: an update cannot begin in the tree, the machinery differs from its seal, or the template cannot be read.
    """
    if os.name == "nt":
        raise Misuse("update: the template holds names that Windows does not allow; run it in WSL")
    template.forget_callers_git()
    git = Git(root)
    tree.check(git)
    _no_link(root / "params.yaml")
    owned = seal.owned(read_pyproject(root))
    seal.check(root, owned)
    origin = template.origin(root)
    print(f"update    asking {origin.address} for its releases")
    known = template.releases(origin, git)
    target = _target(origin, known, to)
    if target is None:
        return f"{origin.release} is here; the newest release is {known[-1]}"
    print(f"update    {origin.release} -> {target}: rendering both with your answers (about half a minute)")
    with tempfile.TemporaryDirectory() as folder:
        scratch, both = Path(folder), [origin.release, target]
        bare = template.fetched(git, origin, both, scratch / "git")
        write_text(root / "build/update.md", template.changelog(bare, target, origin.release) + "\n")
        python = holding(
            _environment(root, root / LOCK),
            root / LOCK,
            f"setup     installing {LOCK} for it (once; some seconds, or minutes)",
        )
        with ThreadPoolExecutor() as pool:
            rendered = [pool.submit(_rendered, python, bare, tag, origin, scratch / tag) for tag in both]
            old, new = (each.result() for each in rendered)
        new_code = _new_code(root, new)
        replaced = [*sorted(seal.read(root)[1].keys() - set(owned)), seal.PLACE]
        (scratch / "merge").mkdir()
        merged = merge(root, old, new, replaced, target, new_code, scratch / "merge")
        _tell(merged, target, sorted(origin.answers.keys() - read_yaml(new / template.ANSWERS).keys()), owned)
        if "params.yaml" not in (conflict.path for conflict in merged.conflicts):
            try:
                new_code(root, "--check")
            except Misuse as error:
                print(f"update    look at it: {error}")
    machinery = sum(path in replaced or path.startswith("src/conveyor/") for path in merged.changed)
    count = len(merged.conflicts)
    told = f"; conflicts: {count}, fix them first" if count else ", no conflict"
    return f"{target}: machinery {machinery}, other files {len(merged.changed) - machinery}{told}"


def _no_link(path: Path) -> None:
    if path.is_symlink():
        raise Misuse(
            f"{path.name}: is a link, and an update renames keys in it; put the file itself here and commit it"
        )


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
    given = json.dumps(origin.answers, ensure_ascii=False, default=str)
    data.write_bytes(given.encode(errors="surrogatepass"))
    words = [python, "-m", "copier", "copy", "--quiet", "--defaults", "--data-file", str(data), str(source)]
    made = place / "made"
    done = _done([*words, str(made)], place)
    if done.returncode:
        said = _last_line(done.stderr)
        if key := next((key for key, value in origin.answers.items() if _names(said, key, value)), None):
            raise Misuse(f"{template.ANSWERS}: {key}: release {tag} does not take it: {said}; correct it and commit")
        raise Misuse(f"{origin.address}: release {tag} cannot be rendered: {said}")
    return made


def _names(said: str, key: str, value: object) -> bool:
    """Whether copier's error is about this answer. It names the question, but of a list it shows the value alone."""
    listed = isinstance(value, list | dict) and f"Could not convert {value} " in said
    return f"question '{key}'" in said or f'question "{key}"' in said or f"Invalid choice for '{key}'" in said or listed


def _environment(root: Path, lock: Path) -> Path:
    return root / "build/environments" / sha256(lock.read_bytes())[:16]


def _new_code(root: Path, new: Path) -> Callable[..., None]:
    """``migrate`` of the new release, as a function of the folder and its options: only it knows its names.

    It runs with the libraries that are here, and where it needs others with those of its own lock.
    """
    variables = {**os.environ, "PYTHONPATH": str(new / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    pythons = [sys.executable]

    def call(place: Path, *options: str) -> None:
        words = [pythons[-1], "-m", "conveyor", "migrate", *options]
        done = _done(words, place, variables)
        if done.returncode and b"ModuleNotFoundError" in done.stderr and len(pythons) == 1:
            lock, told = (
                new / "requirements/dev.txt",
                "update    the release needs other libraries: installing its lock",
            )
            pythons.append(holding(_environment(root, lock), lock, f"{told} (about a minute)"))
            call(place, *options)
        elif done.returncode:
            raise Misuse(_last_line(done.stderr).removeprefix("error: "))

    return call


def _done(words: list[str], place: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(words, cwd=place, env=env, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise Misuse(f"update: {words[2]} did not end within {SECONDS} seconds; run it again") from None


def _last_line(text: bytes) -> str:
    return (text.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]


def migrate(path: Path, check: bool) -> None:
    """Give the keys of params.yaml the names of this version; with ``check`` only read it.

    Raises:
        Misuse: it is missing, a link, or no YAML; or, with ``check``, this version does not take it.
    """
    if check:
        params.load(path)
        return
    _no_link(path)
    read_yaml(path)
    text = path.read_bytes().decode("utf-8")
    if (new := renamed(text)) != text:
        path.write_bytes(new.encode())  # with its mode


def _tell(merged: Merged, target: str, gone: list[str], owned: list[str]) -> None:
    """Say what is left to do."""
    for name in gone:
        print(f"update    {template.ANSWERS}: {target} does not ask for {name!r}; look at what depends on it")
    for conflict in merged.conflicts:
        print(f"update    conflict in {one_line(conflict.path)}: {_advice(conflict, owned)}")
    print(f"update    build/update.md says what is new in {target}")
    print("update    next: `git diff HEAD`, `make setup check test`, commit; `git reset --hard` undoes it")


def _advice(conflict: Conflict, owned: list[str]) -> str:
    theirs = f"`git checkout --theirs -- {one_line(shlex.quote(conflict.path))}`"
    if conflict.link:
        return f"one version is a link, and yours stays; {theirs} takes that of the release; then `git add`"
    if conflict.path.startswith("requirements/") and conflict.path.endswith(".txt") and 3 in conflict.stages:
        return "it is now that of the release; `make lock`, then `git add`"
    if conflict.marked:
        return "both versions are marked in it; fix it, then `git add`"
    if conflict.stages == {1}:
        return "both sides gave it another name; `git rm` it"
    if 2 not in conflict.stages:
        return "it is not in your repository, and the release changes it; `git rm` it, or `git add` to take it"
    if 3 not in conflict.stages and conflict.path in owned:
        return (
            "you changed it, and the release does not have it; `git rm` it, or `git add` it and `git mv` it into a"
            " folder of yours; remove it from `owned` in pyproject.toml"
        )
    if 3 not in conflict.stages:
        return "you changed it, and the release does not have it; `git add` to keep it, or `git rm` it"
    return f"it is yours now; {theirs} takes that of the release; then `git add`"
