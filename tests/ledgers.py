"""A repository with a ledger, real git and small bundles: nothing is trained."""

import json
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from conveyor.core.files import to_json
from conveyor.core.project import Project
from conveyor.deploy import rollback
from conveyor.ledger.events import Event, path_of
from conveyor.ledger.journal import repeated
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.store import BRANCH
from conveyor.model.bundle import Bundle


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


@pytest.fixture
def place(project, tmp_path):
    """A repository, and functions that open its ledger and make bundles: real git, real bytes, no training."""
    return Place(project, tmp_path)


REFS = ("refs/heads/ledger:refs/heads/ledger", "refs/models/*:refs/models/*", "refs/tags/*:refs/tags/*")


@pytest.fixture
def old(place):
    """A repository whose ledger is in the layout of schema 1; tests/before/README.md says how it was made."""
    kept = place.folder / "flat.bundle"
    shutil.copyfile(Path(__file__).with_name("before") / "flat.bundle", kept)
    place.project.git("fetch", "--quiet", "--no-tags", str(kept), *REFS)
    return place


class Place:
    def __init__(self, project, folder: Path) -> None:
        self.project, self.folder = project, folder

    def open(self, root: Path | None = None, push: bool = False):
        return ledger_of(Project(root or self.project.path, push=push))

    def bundle(self, name: str):
        path = self.folder / "bundles" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "model.skops").write_bytes(b"\x00\xff\r\n" + name.encode() * 1000)
        (path / "lineage.json").write_text(json.dumps({"key": sha256(name.encode()).hexdigest()}))
        return Bundle(path)

    @staticmethod
    def key(name: str) -> str:
        return sha256(name.encode()).hexdigest()

    def act(self, verb: str, ledger, *given) -> str:
        """What a person does through the verb of that name."""
        ledger.project.push = True
        ledger.project.__dict__["ledger"] = ledger
        said = getattr(rollback, verb)(ledger.project, *given)
        return said.removesuffix("; not mirrored, for there is no MLFLOW_TRACKING_URI and no mlruns/mlflow.db")

    def promote(self, name: str, root: Path | None = None, push: bool = False):
        """``accepted`` and ``live`` for a bundle of that name; returns the ledger."""
        ledger = self.open(root, push)
        ledger.accept(self.bundle(name), ledger.number, "promote", f"{name} is better")
        ledger.live(ledger.events[-1])
        return ledger

    def remote(self) -> Path:
        """A bare remote with main, set as origin."""
        bare = self.folder / "remote.git"
        self.project.git("clone", "--quiet", "--bare", str(self.project.path), str(bare))
        self.project.git("remote", "add", "origin", str(bare))
        return bare

    def clone(self, name: str, how: str = "") -> Path:
        """A clone of the remote; with how="file://" it has only what git's protocol brings."""
        path = self.folder / name
        self.project.git("clone", "--quiet", f"{how}{self.folder / 'remote.git'}", str(path))
        return path

    def git_that(self, monkeypatch, script: str) -> None:
        """From now on `git` is a shell script, in which ``real`` is git itself."""
        folder = self.folder / "faulty"
        folder.mkdir(exist_ok=True)
        real = shutil.which("git", path=os.environ["PATH"].removeprefix(f"{folder}:"))
        (folder / "git").write_text(f'#!/bin/bash\nreal() {{ \'{real}\' "$@"; }}\n{script}\nreal "$@"\n')
        (folder / "git").chmod(0o755)
        if str(folder) not in os.environ["PATH"]:
            monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def refs(self, root: Path | None = None) -> dict[str, str]:
        listed = subprocess.check_output(
            ["git", "for-each-ref", "--format=%(refname) %(objectname)"], cwd=root or self.project.path, text=True
        )
        return dict(line.split() for line in listed.splitlines())

    def forge(
        self,
        files: dict[str, bytes | tuple[str, str] | None],
        parents: tuple[str, ...] = (BRANCH,),
        root: Path | None = None,
    ) -> str:
        """Put a commit on the branch ledger that changes these files as its writer would not; returns its id.

        Args:
            files: the bytes of each, or its mode and object; None removes it.
            parents: of the commit.
            root: the repository in which it is made; this one by default.
        """
        root = root or self.project.path
        env = {"GIT_INDEX_FILE": str(self.folder / "index")}

        def git(*words: str, given: bytes | None = None) -> str:
            identity = ["-c", "user.name=Eve", "-c", "user.email=eve@example.org"]
            done = subprocess.run(
                ["git", *identity, *words], cwd=root, input=given, env=environment(**env), capture_output=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.decode().strip()

        git("read-tree", BRANCH)
        for name, content in files.items():
            if content is None:
                git("update-index", "--force-remove", name)
                continue
            if isinstance(content, bytes):
                content = ("100644", git("hash-object", "-w", "--stdin", given=content))
            git("update-index", "--add", "--cacheinfo", f"{content[0]},{content[1]},{name}")
        words = [word for parent in parents for word in ("-p", parent)]
        commit = git("commit-tree", git("write-tree"), *words, "-m", "forged")
        git("update-ref", BRANCH, commit)
        return commit

    def forged(self, ledger, **changes) -> dict[str, bytes]:
        """The files of one more event, right but for these changes of it."""
        last = ledger.events[-1]
        about = {**repeated(last), "schema": 2, "number": last.number + 1, "id": "0" * 32, "type": "kept"}
        event = Event.model_validate({**about, "time": last.time, "by": "Eve", "outcome": "keep"})
        value = json.loads(event.stored()) | changes
        content = json.dumps({name: each for name, each in value.items() if each is not None}).encode()
        return {path_of(event.number): content, "champion.json": to_json(ledger.summary(event)).encode()}


# A process that opens the ledger of a repository to write a bundle.
WRITER = """import sys
from pathlib import Path
from conveyor.core.project import Project
from conveyor.gate.looks import Sight
from conveyor.ledger.events import Moved
from conveyor.ledger.ledger import ledger_of
from conveyor.model.bundle import Bundle
ledger, bundle = ledger_of(Project(Path(sys.argv[1]), push=True)), Bundle(Path(sys.argv[2]))
"""


def kinds(ledger) -> list[str]:
    return [event.type for event in ledger.events]


def state_of(place) -> tuple[dict[str, str], dict[str, bytes]]:
    """All refs, and all files of git but its log of them."""
    folder = place.project.path / ".git"
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return place.refs(), {name: path.read_bytes() for name, path in files.items() if not name.startswith("logs/")}


SCRIPT = """import os, signal, sys
from pathlib import Path
from conveyor.core.project import Project
from conveyor.deploy.rollback import rollback
from conveyor.ledger import journal, ledger
from conveyor.model.bundle import Bundle
root, name, bundle, point = sys.argv[1:]
journal.reached = lambda here: os.kill(os.getpid(), signal.SIGKILL) if here == point else None
project = Project(Path(root), push=True)
if name == 'rollback':
    rollback(project, None, 'why')
else:
    known = ledger.ledger_of(project)
    known.settle()
    known.live(known.accept(Bundle(Path(bundle)), known.number, 'promote', ''))
"""
