"""A template with two releases, as a repository of its own: what is here as v0.1.0, and a made v0.2.0 after it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, once

PRODUCT = "<<cookiecutter.project>>"
OLD, NEW = "v0.1.0", "v0.2.0"
NEWS = """# Changelog

## Unreleased

- Not out yet.

## 0.2.0

- `deploy.keep` is called `deploy.keep_releases`; `deploy.pause_seconds` is new.

## 0.1.0

- The first one.
"""


@pytest.fixture(scope="session")
def template(shared):
    """A template with two releases, which no test changes."""
    return once(shared, "released", make)


def git(place: Path, *words: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def pack(place: Path) -> None:
    """Put the objects of a repository that is made once into one file: copies and fetches of it take less time."""
    git(place, "repack", "-adq")
    git(place, "prune-packed", "--quiet")


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} is in {file} {text.count(old)} times"
    file.write_text(text.replace(old, new), encoding="utf-8")


def make(place: Path) -> None:
    """Make the repository in the folder ``place``."""
    names = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "bench/")):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    git(place, "init", "--quiet", "--initial-branch=main")
    _commit(place, OLD)
    _change(place)
    _commit(place, NEW)
    git(place, "tag", "v0.3.0rc1")  # none of the releases
    git(place, "tag", "nightly")
    pack(place)


def _commit(place: Path, tag: str) -> None:
    version = {"VERSION": tag[1:], "PYTHONPATH": str(place / PRODUCT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "tools/seal.py"], cwd=place, check=True, env=os.environ | version)
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", tag)
    git(place, "tag", tag)


def _change(place: Path) -> None:
    """What is new: machinery, a workflow, a parameter that is new and one that has another name, a lock, prose."""
    (place / "CHANGELOG.md").write_text(NEWS)
    product = place / PRODUCT
    params = product / "src/conveyor/core/params.py"
    edit(params, "    keep: int =", "    pause_seconds: float = Field(default=0.0, ge=0)\n    keep_releases: int =")
    edit(product / "src/conveyor/deploy/rollout.py", "self.rule.keep :", "self.rule.keep_releases :")
    migrations = product / "src/conveyor/core/migrations.py"
    edit(migrations, "...] = ()", '...] = (Renamed("0.2.0", "deploy.keep", "keep_releases"),)')
    edit(
        product / "params.yaml",
        "  keep: 3                     # releases",
        "  pause_seconds: 0.0          # between two replicas\n  keep_releases: 3            # releases",
    )
    (product / "src/conveyor/gate/added.py").write_text('"""Nothing yet."""\n')
    (product / "container/kubernetes/base/disruption-budget.yaml").unlink()
    edit(product / "container/kubernetes/base/kustomization.yaml", "  - disruption-budget.yaml\n", "")
    caddyfile = product / "container/Caddyfile"
    caddyfile.write_text(caddyfile.read_text() + "# The end.\n")
    edit(product / ".github/workflows/ci.yml", "timeout-minutes: 20", "timeout-minutes: 25")
    deliver = product / ".github/workflows/deliver.yml"
    deliver.write_text(
        deliver.read_text().replace("# Is the model of main live?", "# Is the model of main live? Look here.", 1)
    )
    makefile = product / "Makefile"
    edit(makefile, "\nclean:  ##", "\ntidy: clean\n\nclean:  ##")
    lock = product / "requirements/dev.txt"
    last = re.findall(r"(?m)^\S+==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", lock.read_text())[-1]
    edit(lock, last, last.replace("sha256:", "sha256:0000", 1))


def adopt(project: Path, template: Path) -> None:
    """Tell a repository that its template lies at ``template``, as its owner would."""
    answers = project / ".copier-answers.yml"
    answers.write_text(
        re.sub(r"(?m)^_src_path: .*$", lambda _: f"_src_path: {json.dumps(str(template))}", answers.read_text())
    )
    git(project, "commit", "--quiet", "--all", "--message", "Where the template lies")
