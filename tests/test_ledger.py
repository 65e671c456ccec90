"""Risk: the champion is lost, overwritten, or believed when it was tampered with."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from conveyor.core import git as git_module
from conveyor.core.errors import Misuse, Refused
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.deploy import rollback
from conveyor.ledger import history as history_module
from conveyor.ledger import ledger as ledger_module
from conveyor.ledger.events import Moved
from conveyor.ledger.ledger import POINTS, ledger_of
from conveyor.model.bundle import Bundle


@pytest.fixture
def place(project, tmp_path):
    """A repository, and functions that open its ledger and make bundles: real git, real bytes, no training."""
    return Place(project, tmp_path)


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

    def clone(self, name: str) -> Path:
        path = self.folder / name
        self.project.git("clone", "--quiet", str(self.folder / "remote.git"), str(path))
        return path

    def refs(self, root: Path | None = None) -> dict[str, str]:
        listed = subprocess.check_output(
            ["git", "for-each-ref", "--format=%(refname) %(objectname)"], cwd=root or self.project.path, text=True
        )
        return dict(line.split() for line in listed.splitlines())

    def rewrite(self, file: str, content: bytes | None) -> None:
        """Tamper: put a commit on the branch ledger in which ``file`` has other bytes, or is gone."""
        git = self.project.git
        index = {"GIT_INDEX_FILE": str(self.folder / "index")}
        self.project.run("git", "read-tree", "refs/heads/ledger", env=index)
        if content is None:
            self.project.run("git", "update-index", "--force-remove", file, env=index)
        else:
            (self.folder / "content").write_bytes(content)
            blob = git("hash-object", "-w", str(self.folder / "content")).stdout.strip()
            self.project.run("git", "update-index", "--add", "--cacheinfo", f"100644,{blob},{file}", env=index)
        tree = self.project.run("git", "write-tree", env=index).stdout.strip()
        commit = git("commit-tree", tree, "-p", "refs/heads/ledger", "-m", "tampered").stdout.strip()
        git("update-ref", "refs/heads/ledger", commit)


def test_a_new_ledger_has_no_champion(place):
    ledger = place.open()
    assert (ledger.number, ledger.champion(), ledger.pending()) == (0, None, None)


def test_a_promotion_writes_two_events_the_bytes_and_a_witness(place):
    ledger = place.promote("first")
    assert [(event.number, event.type) for event in ledger.events] == [(1, "accepted"), (2, "live")]
    bundle = place.bundle("first")
    assert (ledger.champion().key, ledger.champion().digest) == (bundle.key, bundle.digest)
    refs = place.refs()
    assert set(refs) == {
        "refs/heads/main",
        "refs/heads/ledger",
        f"refs/models/{bundle.key}",
        "refs/tags/champion/000002",
    }
    assert refs["refs/tags/champion/000002"] == refs["refs/heads/ledger"]
    files = place.project.git("ls-tree", "-r", "--name-only", "refs/heads/ledger").stdout.split()
    assert files == ["champion.json", "events/000001.json", "events/000002.json"]


def test_stored_bytes_come_back_unchanged(place):
    # Also under a configuration that would convert line ends.
    place.project.git("config", "core.autocrlf", "true")
    ledger = place.promote("first")
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files


def test_ledger_commits_need_no_identity_and_no_key(place):
    place.project.git("config", "commit.gpgsign", "true")
    place.project.git("config", "user.useConfigOnly", "true")
    place.promote("first")
    author = place.project.git("log", "-1", "--format=%an <%ae> %cn", "refs/heads/ledger").stdout.strip()
    assert author == "ledger <ledger@invalid> ledger"


def test_the_working_tree_is_not_touched(place):
    place.promote("first")
    assert place.project.git("status", "--porcelain").stdout == ""
    assert place.project.git("rev-parse", "--abbrev-ref", "HEAD").stdout.strip() == "main"


def test_a_decision_about_an_older_ledger_is_not_carried_out(place):
    stale = place.open()
    place.promote("first")
    before = place.refs()
    with pytest.raises(Moved):
        stale.accept(place.bundle("second"), 0, "promote", "")
    assert place.refs() == before


def test_what_an_interrupted_run_left_accepted_is_settled(place):
    ledger = place.open()
    ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    again = place.open()
    assert again.champion() is None and again.pending().number == 1
    again.settle()
    assert again.champion().key == place.bundle("first").key and again.pending() is None


def test_an_older_commit_does_not_replace_the_champion_of_a_newer_one(place):
    place.project.git("commit", "--allow-empty", "-m", "newer")
    place.promote("first")
    place.project.git("checkout", "--quiet", "--detach", "HEAD~1")
    before = place.refs()
    ledger = place.open()
    with pytest.raises(Refused, match=r"^promote: champion/000002 comes from commit \w{12}, which is newer"):
        ledger.accept(place.bundle("second"), ledger.number, "promote", "")
    assert place.refs() == before


def test_a_model_trained_before_is_restored_not_trained(place, tmp_path):
    ledger = place.promote("first")
    assert ledger.restore(place.bundle("first").key, tmp_path / "candidate")
    assert (tmp_path / "candidate" / "model.skops").read_bytes() == place.bundle("first").files["model.skops"]
    assert not ledger.restore("0" * 64, tmp_path / "other") and not (tmp_path / "other").exists()


# With a remote


def test_with_a_remote_everything_is_pushed_and_nothing_stays_local_only(place):
    bare = place.remote()
    place.promote("first", push=True)
    remote = place.refs(bare)
    assert {"refs/heads/ledger", "refs/tags/champion/000002", f"refs/models/{place.bundle('first').key}"} < set(remote)
    assert "refs/heads/ledger" not in place.refs()


def test_another_clone_reads_the_champion_and_its_bytes(place):
    place.remote()
    place.promote("first", push=True)
    ledger = place.open(place.clone("colleague"))
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files


def test_a_champion_whose_commit_origin_has_dropped_can_be_followed(place):
    """The first champion was made on a laptop, from a commit that was amended before it was pushed."""
    place.promote("first")
    place.project.git("commit", "--amend", "--message", "amended", "--allow-empty")
    place.remote()
    place.project.git("push", "--quiet", "origin", "ledger", "refs/tags/champion/*", "refs/models/*")
    bare = place.folder / "remote.git"
    for word in (["reflog", "expire", "--expire=now", "--all"], ["gc", "--quiet", "--prune=now"]):
        place.project.run("git", "--git-dir", str(bare), *word)
    assert place.promote("second", place.clone("colleague"), push=True).champion().key == place.key("second")


def test_a_repository_with_longer_hashes_has_a_ledger_too(place, tmp_path):
    root = tmp_path / "long"
    place.project.run("git", "init", "--quiet", "--object-format=sha256", str(root))
    shutil.copyfile(place.project.path / "params.yaml", root / "params.yaml")
    place.project.run("git", "-C", str(root), "add", ".")
    place.project.git("-C", str(root), "commit", "--quiet", "--message", "first")
    place.promote("first", root)
    assert place.promote("second", root).champion().key == place.key("second")


def test_a_shallow_clone_can_write_the_next_event(place):
    place.remote()
    place.promote("first", push=True)
    shallow = place.folder / "shallow"
    place.project.git("clone", "--quiet", "--depth=1", f"file://{place.folder / 'remote.git'}", str(shallow))
    assert place.promote("second", shallow, push=True).number == 4


def test_without_push_a_clone_with_a_remote_cannot_write(place):
    place.remote()
    assert not place.open().writable and place.open(push=True).writable


def test_of_two_writers_one_wins_and_the_other_is_told_so(place):
    bare = place.remote()
    one, two = (place.open(place.clone(name), push=True) for name in ("one", "two"))
    one.accept(place.bundle("first"), 0, "bootstrap", "")
    with pytest.raises(Moved):
        two.accept(place.bundle("second"), 0, "bootstrap", "")
    assert f"refs/models/{place.bundle('second').key}" not in place.refs(bare)
    two.read()
    assert two.pending().key == place.bundle("first").key


# A process that opens the ledger of a repository to write a bundle.
WRITER = """import sys
from pathlib import Path
from conveyor.core.project import Project
from conveyor.ledger.events import Moved
from conveyor.ledger.ledger import ledger_of
from conveyor.model.bundle import Bundle
ledger, bundle = ledger_of(Project(Path(sys.argv[1]), push=True)), Bundle(Path(sys.argv[2]))
"""


def test_two_real_processes_race_and_exactly_one_event_is_written(place):
    bare = place.remote()
    place.bundle("a"), place.bundle("b")
    script = (
        f"{WRITER}print('ready', flush=True); input()\n"
        "try: ledger.accept(bundle, 0, 'bootstrap', ''); print('won')\n"
        "except Moved: print('moved')"
    )
    source = str(place.project.path / "src")
    racers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                script,
                place.clone(f"racer-{name}"),
                place.folder / "bundles" / name,
            ],
            env={**os.environ, "PYTHONPATH": source},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    assert [racer.stdout.readline().strip() for racer in racers] == ["ready", "ready"]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [racer.communicate(timeout=120)[0].strip() for racer in racers]
    assert sorted(results) == ["moved", "won"]
    winner = place.bundle("ab"[results.index("won")])
    assert [ref for ref in place.refs(bare) if "models" in ref] == [f"refs/models/{winner.key}"]


def test_a_remote_that_refuses_the_push_is_named_and_nothing_is_written(place):
    bare = place.remote()
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho branch is protected >&2\nexit 1\n")
    hook.chmod(0o755)
    ledger, before = place.open(push=True), place.refs(bare)
    with pytest.raises(Misuse, match="^ledger: origin did not take the event: .*nothing was changed$"):
        ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    assert place.refs(bare) == before


def test_a_remote_that_is_gone_is_an_error_and_not_a_fresh_start(place):
    place.project.git("remote", "add", "origin", str(place.folder / "nowhere.git"))
    with pytest.raises(Misuse, match="^ledger: origin cannot be read: .*check the remote and your access$"):
        place.open()


def test_the_token_of_a_workflow_reaches_git_and_no_file(place, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "secret-token")
    monkeypatch.setenv("GITHUB_SERVER_URL", "http://127.0.0.1:9")
    ledger = place.open()
    ledger.store.git.variables.update(ledger.store.credentials())
    sent = ledger.store.git("config", "--get-urlmatch", "http.extraheader", "http://127.0.0.1:9/owner/repo")
    assert sent == "AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0LXRva2Vu"
    with pytest.raises(GitError):  # and no other host sees it
        ledger.store.git("config", "--get-urlmatch", "http.extraheader", "http://127.0.0.2:9/owner/repo")
    assert b"secret-token" not in (place.project.path / ".git" / "config").read_bytes()


# Damage: each is an error that names the file or ref, and never "no champion"

DAMAGE = {
    "truncated": (b'{"schema": 1, "num', "events/000002.json is no JSON object"),
    "empty": (b"", "events/000002.json is no JSON object"),
    "too deep": (b"[" * 100_000 + b"]" * 100_000, "events/000002.json is no JSON object"),
    "not text": (b"\xff\xfe\x00", "events/000002.json is no JSON object"),
    "a list": (b"[]", "events/000002.json is no JSON object"),
    "from the future": (b'{"schema": 2}', "events/000002.json has schema 2, this code knows 1; update the code"),
    "a key gone": (b'{"schema": 1}', r"events/000002.json is damaged \(key number\)"),
    "missing": (None, "champion.json does not follow from the events"),
}


@pytest.mark.parametrize("content, message", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_event_is_named(place, content, message):
    place.promote("first")
    place.rewrite("events/000002.json", content)
    with pytest.raises(Misuse, match=f"^ledger: {message}"):
        place.open()


def test_a_gap_between_events_is_named(place):
    place.promote("first")
    place.rewrite("events/000001.json", None)
    with pytest.raises(Misuse, match=r"^ledger: events/00000\d.json is missing|says it is event"):
        place.open()


def test_an_edited_champion_file_is_named(place):
    place.promote("first")
    place.rewrite("champion.json", b'{"schema": 1, "event": 2, "champion": null}')
    with pytest.raises(Misuse, match="^ledger: champion.json does not follow from the events"):
        place.open()


def test_a_deleted_branch_is_an_error_while_its_witness_stands(place):
    place.promote("first")
    place.project.git("update-ref", "-d", "refs/heads/ledger")
    with pytest.raises(Misuse, match="has the tag champion/000002 but no branch `ledger`"):
        place.open()


def test_a_branch_that_was_set_back_is_an_error(place):
    place.promote("first")
    back = place.project.git("rev-parse", "refs/heads/ledger").stdout.strip()
    place.promote("second")
    place.project.git("update-ref", "refs/heads/ledger", back)
    with pytest.raises(Misuse, match="by events is champion/000002, by tags champion/000004"):
        place.open()


def test_a_deleted_witness_is_an_error(place):
    place.promote("first")
    place.project.git("tag", "--delete", "champion/000002")
    with pytest.raises(Misuse, match="by events is champion/000002, by tags None"):
        place.open()


def test_an_event_that_was_written_over_is_an_error(place):
    """Only who did it is changed: the events follow from each other as before."""
    place.promote("first")
    event = json.loads(place.project.git("show", "refs/heads/ledger:events/000002.json").stdout)
    place.rewrite("events/000002.json", json.dumps({**event, "by": "somebody else"}).encode())
    with pytest.raises(Misuse, match="^ledger: 3 commits for 2 events, so one was written over"):
        place.open()


def test_a_witness_that_stands_elsewhere_is_an_error(place):
    place.promote("first")
    place.project.git("tag", "--force", "champion/000002", "main")
    with pytest.raises(Misuse, match="the tag champion/000002 is not at the commit of its event"):
        place.open()


def state_of(place) -> tuple[dict[str, str], dict[str, bytes]]:
    """All refs, and all files of git but its log of them."""
    folder = place.project.path / ".git"
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return place.refs(), {name: path.read_bytes() for name, path in files.items() if not name.startswith("logs/")}


def test_a_reader_of_a_local_ledger_writes_nothing_whatever_a_killed_git_has_left(place):
    place.promote("first")
    place.promote("second")
    place.project.git("update-ref", "refs/heads/ledger", "refs/heads/ledger~1")
    before = state_of(place)
    ledger = place.open()
    assert ledger.champion().key == place.key("first") and ledger.pending().key == place.key("second")
    assert state_of(place) == before


@pytest.mark.parametrize("done", range(3))
def test_a_git_that_was_killed_after_any_ref_of_a_transaction_is_finished_by_the_next_writer(place, done):
    """Bytes, witness, branch: git writes them one after another, in this order."""
    place.promote("first")
    ledger = place.open()
    before = place.refs()
    ledger.accept(place.bundle("second"), ledger.number, "promote", "")
    accepted = place.refs()
    ledger.live(ledger.events[-1])
    live = place.refs()
    tag, model = "refs/tags/champion/000004", f"refs/models/{place.key('second')}"
    git = place.project.git
    if done == 0:  # of the first transaction: the bytes and no event
        git("update-ref", "refs/heads/ledger", before["refs/heads/ledger"])
        git("update-ref", "-d", tag)
    elif done == 1:  # nothing of the second one
        git("update-ref", "refs/heads/ledger", accepted["refs/heads/ledger"])
        git("update-ref", "-d", tag)
    else:  # the witness of the second one
        git("update-ref", "refs/heads/ledger", accepted["refs/heads/ledger"])
    assert place.open().champion().key == place.key("first") and place.refs()[model] == live[model]
    script = (
        f"{WRITER}for _ in range(3):\n"
        "    try:\n"
        "        ledger.settle()\n"
        "        if ledger.champion().key != bundle.key:\n"
        "            ledger.live(ledger.accept(bundle, ledger.number, 'promote', ''))\n"
        "        break\n"
        "    except Moved: ledger.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(place.project.path / "src")}
    words = [sys.executable, "-c", script, place.project.path, place.bundle("second").path]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    ledger = place.open()
    assert ledger.champion().key == place.key("second") and ledger.pending() is None
    assert [event.key for event in ledger.events if event.type == "live"][0] == place.key("first")


def test_readers_and_a_writer_of_a_local_ledger_do_each_other_no_harm(place):
    """Three readers read all the time while ten champions are written."""
    place.promote("first")
    reader = (
        "import sys\nfrom pathlib import Path\nfrom conveyor.core.project import Project\n"
        "from conveyor.ledger.ledger import Ledger\nstop, last, reads = Path(sys.argv[2]), 0, 0\n"
        "while not stop.exists():\n"
        "    number = Ledger(Project(Path(sys.argv[1]))).number\n"
        "    assert number >= last, (number, last)\n"
        "    last, reads = number, reads + 1\n"
        "print(reads, last)\n"
    )
    stop = place.folder / "stop"
    environment = {**os.environ, "PYTHONPATH": str(place.project.path / "src")}
    words = [sys.executable, "-c", reader, place.project.path, stop]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen(words, env=environment, **pipes) for _ in range(3)]
    ledger = place.open()
    try:
        for number in range(10):
            ledger.accept(place.bundle("abcdefghij"[number]), ledger.number, "promote", "")
            ledger.live(ledger.events[-1])
    finally:
        stop.touch()
        ended = [(each.communicate(timeout=120), each.returncode) for each in readers]
    for (said, complaint), code in ended:
        assert code == 0, complaint
        assert int(said.split()[0]) > 3, "it has read while the writer wrote"
    assert place.open().number == 22 and kinds(place.open()).count("live") == 11


def test_two_writers_of_a_local_ledger_lose_nothing_and_one_that_was_killed_holds_no_lock(place):
    place.promote("first")
    script = (
        f"{WRITER}while True:\n"
        "    try:\n"
        "        ledger.settle()\n"
        "        if any(event.key == bundle.key for event in ledger.events): break\n"
        "        ledger.live(ledger.accept(bundle, ledger.number, 'promote', ''))\n"
        "        break\n"
        "    except Moved: ledger.read()\n"
    )
    hold = (
        "import os, signal, sys\nfrom filelock import FileLock\nFileLock(sys.argv[1]).acquire()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    lock = place.project.path / ".git/conveyor-ledger.lock"
    assert subprocess.run([sys.executable, "-c", hold, lock]).returncode == -9 and lock.exists()
    environment = {**os.environ, "PYTHONPATH": str(place.project.path / "src")}
    writers = [
        subprocess.Popen([sys.executable, "-c", script, place.project.path, place.bundle(name).path], env=environment)
        for name in "ab"
    ]
    assert [writer.wait(180) for writer in writers] == [0, 0]
    ledger = place.open()
    assert {e.key for e in ledger.events if e.type == "live"} >= {place.key("a"), place.key("b")}


def test_a_lock_that_a_killed_git_left_is_named(place):
    place.promote("first")
    lock = place.project.path / ".git" / "refs" / "heads" / "ledger.lock"
    lock.touch()
    before, ledger = place.refs(), place.open()
    message = r"^ledger: this repository did not take the event: .*ledger.lock': File exists.*; delete that .lock file"
    with pytest.raises(Misuse, match=message):
        ledger.accept(place.bundle("second"), ledger.number, "promote", "")
    assert place.refs() == before
    lock.unlink()
    place.promote("second")


def test_missing_model_bytes_are_named(place):
    ledger = place.promote("first")
    ref = f"refs/models/{place.bundle('first').key}"
    place.project.git("update-ref", "-d", ref)
    with pytest.raises(Misuse, match=f"^ledger: {ref} is missing, the model of an event"):
        ledger.bundle(ledger.champion())


def test_other_model_bytes_under_its_name_are_refused(place):
    ledger = place.promote("first")
    place.promote("second")
    first, second = (f"refs/models/{place.bundle(name).key}" for name in ("first", "second"))
    place.project.git("update-ref", first, second)
    champion = next(event.champion for event in ledger.events)
    with pytest.raises(Misuse, match=f"^ledger: {first} has digest .* its event says"):
        ledger.bundle(champion)
    assert not (place.project.path / "build" / "champion").exists()


# What a person does: roll back, quarantine, approve, prune


def kinds(ledger) -> list[str]:
    return [event.type for event in ledger.events]


def test_a_roll_back_makes_the_model_before_champion_and_quarantines_the_one_it_leaves(place):
    place.promote("first")
    ledger = place.promote("second")
    assert place.act("rollback", ledger, None, "it is slow") == (
        f"champion/000006 is model {place.key('first')[:12]} again; {place.key('second')[:12]} is quarantined"
    )
    again = place.open()
    assert kinds(again)[4:] == ["rolled_back", "live"] and again.champion().key == place.key("first")
    assert again.quarantine_of(place.key("second")).reason == "it is slow"
    before = place.refs()
    with pytest.raises(Refused, match=r"^promote: model \w{12} was rolled back by .* it is slow"):
        again.accept(place.bundle("second"), again.number, "promote", "")
    assert place.refs() == before


def test_a_second_roll_back_goes_further_back_and_not_to_the_quarantined(place):
    for name in ("first", "second", "third"):
        ledger = place.promote(name)
    place.act("rollback", ledger, None, "bad")
    assert ledger.champion().key == place.key("second")
    place.act("rollback", ledger, None, "bad too")
    assert ledger.champion().key == place.key("first")
    with pytest.raises(Misuse, match="^rollback: there was no other champion that is not quarantined"):
        place.act("rollback", ledger, None, "and this")


def test_a_roll_back_of_a_roll_back_names_its_event_and_lifts_the_quarantine(place):
    place.promote("first")
    ledger = place.promote("second")
    place.act("rollback", ledger, None, "by mistake")
    place.act("rollback", ledger, 4, "it was not the model")
    assert ledger.champion().key == place.key("second") and ledger.quarantine_of(place.key("second")) is None
    assert ledger.quarantine_of(place.key("first"))


@pytest.mark.parametrize(
    "to, because, message",
    [
        (9, "why", "rollback: event 9 made no champion; `make history` lists those that did"),
        (1, "why", "rollback: event 1 made no champion; .*"),
        (4, "why", "rollback: event 4 made the model champion that is it now; name another"),
        (2, " ", 'rollback: needs a reason for the record; give one: make rollback BECAUSE="..."'),
    ],
)
def test_a_roll_back_that_makes_no_sense_is_named_and_changes_nothing(place, to, because, message):
    place.promote("first")
    ledger = place.promote("second")
    before = place.refs()
    with pytest.raises(Misuse, match=f"^{message}$"):
        place.act("rollback", ledger, to, because)
    assert place.refs() == before


def test_a_roll_back_to_bytes_that_are_damaged_is_refused_before_anything_is_written(place):
    place.promote("first")
    ledger = place.promote("second")
    place.project.git("update-ref", f"refs/models/{place.key('first')}", f"refs/models/{place.key('second')}")
    before = place.refs()
    with pytest.raises(Misuse, match="has digest .*, its event says .*; restore that ref"):
        place.act("rollback", ledger, None, "why")
    assert place.refs() == before


def test_a_roll_back_overtakes_a_model_on_its_way_and_its_run_is_told(place):
    place.promote("first")
    place.promote("second")
    slow = place.open()
    accepted = slow.accept(place.bundle("third"), slow.number, "promote", "")
    place.act("rollback", place.open(), None, "now")
    with pytest.raises(Moved):
        slow.live(accepted)
    ledger = place.open()
    assert kinds(ledger)[4:] == ["accepted", "rolled_back", "live"] and ledger.pending() is None
    assert ledger.champion().key == place.key("first")


def test_what_is_accepted_can_be_aborted_and_the_champion_stays(place):
    ledger = place.promote("first")
    accepted = ledger.accept(place.bundle("second"), ledger.number, "promote", "")
    ledger.abort(accepted, "never became healthy")
    ledger = place.open()
    assert kinds(ledger) == ["accepted", "live", "accepted", "aborted"] and ledger.pending() is None
    assert ledger.champion().key == place.key("first")
    # Its bytes are there already: the next attempt does not write them again.
    place.promote("second")
    assert place.open().champion().key == place.key("second")


def test_an_approval_holds_for_the_very_bytes_and_until_there_is_another_champion(place):
    ledger = place.promote("first")
    ledger.approve(place.bundle("second"), ledger.number, "another question,\nasked by the team")
    ledger = place.open()
    assert ledger.champion().key == place.key("first") and ledger.pending() is None
    assert ledger.approval_of(place.bundle("second")).number == 3 and ledger.approval_of(place.bundle("third")) is None
    assert ledger.restore(place.key("second"), place.folder / "candidate")  # its bytes are kept with the approval
    assert history_module.events(ledger, False).count("\n") == 3
    place.promote("second")
    assert place.open().approval_of(place.bundle("second")) is None


def test_a_quarantined_model_is_not_accepted_and_the_champion_cannot_be_quarantined(place):
    place.promote("first")
    ledger = place.promote("second")
    place.act("quarantine", ledger, 1, "it was trained on wrong labels")
    with pytest.raises(Refused, match="was put under quarantine by .* wrong labels"):
        ledger.accept(place.bundle("first"), ledger.number, "promote", "")
    with pytest.raises(Misuse, match="^quarantine: the model of event 4 is champion"):
        place.act("quarantine", ledger, 4, "no")
    with pytest.raises(Misuse, match="^quarantine: there is no event 44"):
        place.act("quarantine", ledger, 44, "no")


def test_pruning_deletes_old_bytes_and_never_those_of_the_champion_or_the_one_before(place):
    for name in ("a", "b", "c", "d"):
        ledger = place.promote(name)
    events = kinds(ledger)
    assert place.act("prune", ledger, 1) == "deleted the bytes of 2 models"
    assert {ref for ref in place.refs() if "models" in ref} == {f"refs/models/{place.key(name)}" for name in "cd"}
    ledger = place.open()
    assert kinds(ledger) == [*events, "pruned"] and ledger.champion().key == place.key("d")
    assert place.act("prune", ledger, 2) == "nothing to delete"
    with pytest.raises(Misuse, match="^rollback: the bytes of event 2 were deleted by `prune`"):
        place.act("rollback", ledger, 2, "why")
    assert not ledger.restore(place.key("a"), place.folder / "candidate")  # it has to be trained again
    assert place.promote("a").champion().key == place.key("a")


def test_pruning_at_origin_deletes_the_refs_there_with_the_event(place):
    bare = place.remote()
    for name in ("a", "b", "c"):
        ledger = place.promote(name, push=True)
    place.act("prune", ledger, 2)
    assert {ref for ref in place.refs(bare) if "models" in ref} == {f"refs/models/{place.key(name)}" for name in "bc"}
    assert kinds(place.open(place.clone("colleague")))[-1] == "pruned"


def test_a_kept_verdict_is_on_record_once_and_counts_as_a_decision_on_its_holdout(place):
    ledger = place.promote("first")
    for _ in range(2):
        ledger.note_kept(place.bundle("second"), ledger.number, "keep", "not better", "rows")
    assert kinds(ledger) == ["accepted", "live", "kept"] and ledger.champion().key == place.key("first")
    ledger.note_kept(place.bundle("third"), ledger.number, "keep", "not better", "rows")
    assert [ledger.decisions(*given) for given in (("rows", ""), ("rows", place.key("third")), ("none", ""))] == [
        2,
        1,
        0,
    ]
    assert f"refs/models/{place.key('second')}" not in place.refs()


def test_history_says_what_was_live_at_a_time(place, monkeypatch):
    times = iter(("2026-03-01T08:00:00Z", "2026-03-01T08:05:00Z"))
    monkeypatch.setattr(ledger_module, "now", lambda: next(times))
    ledger = place.promote("first")
    history = history_module
    assert history.live_at(ledger, "2026-03-01T08:04:59", False) == "nothing was live then\n"
    for then in ("2026-03-01T08:05", " 2026-03-01 ", "2026-03-01T09:05+01:00", "2027-01-01"):
        assert history.live_at(ledger, then, False).startswith("000002  2026-03-01T08:05:00Z  live"), then
    told = json.loads(history.live_at(ledger, "2026-03-01", True))
    assert (told["at"], told["live"]["number"]) == ("2026-03-01T23:59:59Z", 2)
    assert json.loads(history.live_at(ledger, "2025-01-01", True)) == {"at": "2025-01-01T23:59:59Z", "live": None}
    for then in ("yesterday", "0001-01-01T00:00+14:00"):
        with pytest.raises(Misuse, match=f"^history: '{re.escape(then)}' is no time; write 2026"):
            history.live_at(ledger, then, False)


# Clones that have seen another life of the ledger


def test_a_clone_that_has_other_bytes_under_a_name_fetches_those_of_origin(place):
    """A laptop made its first champion before it had an origin, and origin then made one from the same inputs."""
    place.promote("first")
    place.project.git("update-ref", f"refs/models/{place.key('second')}", f"refs/models/{place.key('first')}")
    place.remote()
    place.project.git("--git-dir", str(place.folder / "remote.git"), "update-ref", "-d", "refs/heads/ledger")
    place.project.git("--git-dir", str(place.folder / "remote.git"), "tag", "-d", "champion/000002")
    place.promote("second", place.clone("colleague"), push=True)
    ledger = place.open()
    assert ledger.bundle(ledger.champion()).files == place.bundle("second").files


def test_the_ledger_of_a_laptop_moves_to_a_new_origin_with_the_command_that_the_error_names(place):
    place.promote("first")
    bare = place.folder / "new.git"
    place.project.run("git", "init", "--quiet", "--bare", str(bare))
    place.project.git("remote", "add", "origin", str(bare))
    place.project.git("push", "--quiet", "origin", "main", "ledger")
    with pytest.raises(Misuse, match="by tags None; restore the branch") as error:
        place.open()
    command = str(error.value).split("`")[3]
    assert command == "git push origin ledger 'refs/tags/champion/*' 'refs/models/*'"
    place.project.run("sh", "-c", command)
    ledger = place.open()
    place.project.git("update-ref", "-d", f"refs/models/{place.key('first')}")
    assert ledger.bundle(ledger.champion()).files == place.bundle("first").files


def test_a_branch_of_somebody_elses_is_not_taken_for_a_damaged_ledger(place):
    place.project.git("branch", "ledger")
    place.project.git("tag", "champion/v1")
    with pytest.raises(Misuse, match="^ledger: the branch `ledger` .* holds no events: not ours"):
        place.open()
    place.project.git("branch", "-m", "ledger", "accounts")
    assert place.promote("first").champion()


def test_the_ledger_of_a_repository_in_a_subdirectory_is_found(place):
    inner = place.project.path / "models" / "late"
    inner.mkdir(parents=True)
    (inner / "params.yaml").write_bytes((place.project.path / "params.yaml").read_bytes())
    ledger = place.open(inner)
    ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    again = place.open(inner)
    assert again.bundle(again.pending().champion).files == place.bundle("first").files


# Interruptions: the code lists the points at which a run can be stopped, each is tried


SCRIPT = """import os, signal, sys
from pathlib import Path
from conveyor.core.project import Project
from conveyor.deploy.rollback import rollback
from conveyor.ledger import ledger
from conveyor.model.bundle import Bundle
root, name, bundle, point = sys.argv[1:]
ledger.reached = lambda here: os.kill(os.getpid(), signal.SIGKILL) if here == point else None
project = Project(Path(root), push=True)
if name == 'rollback':
    rollback(project, None, 'why')
else:
    known = ledger.ledger_of(project)
    known.settle()
    known.live(known.accept(Bundle(Path(bundle)), known.number, 'promote', ''))
"""


@pytest.mark.parametrize("remote", [False, True], ids=["local", "at origin"])
@pytest.mark.parametrize("number", range(6))
def test_a_run_that_is_killed_at_a_point_is_settled_by_the_next_one(place, number, remote):
    assert len(POINTS) == 6
    point = POINTS[number]
    verb = "rollback" if "rolled_back" in point else "promote"
    if remote:
        place.remote()
    place.promote("first", push=remote)
    place.promote("second", push=remote)
    bundle = place.bundle("third").path
    words = [sys.executable, "-c", SCRIPT, str(place.project.path), verb, str(bundle)]
    environment = {**os.environ, "PYTHONPATH": str(place.project.path / "src")}
    killed = subprocess.run([*words, point], env=environment, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    ledger = place.open(push=remote)  # it can be read, whatever the point
    assert len([event for event in ledger.events if event.type == "live"]) in (2, 3)
    ended = subprocess.run([*words, "none"], env=environment, capture_output=True, text=True)
    ledger = place.open(push=remote)
    assert ledger.pending() is None
    if verb == "promote":
        assert ended.returncode == 0, ended.stderr
        assert ledger.champion().key == place.key("third")
    else:
        # A roll-back that was written is what was meant: the next run ends it, and then there is no other to go to.
        assert (ended.returncode == 0) == (point == "before rolled_back"), ended.stderr
        assert ledger.champion().key == place.key("first") and ledger.quarantine_of(place.key("second"))
    assert len(ledger.events) == len({event.number for event in ledger.events})


def test_three_writers_at_once_lose_nothing(place):
    """Each tries until it is in: three champions one after another, none lost, no number twice."""
    place.remote()
    script = (
        f"{WRITER}while True:\n"
        "    try:\n"
        "        ledger.settle()\n"
        "        if any(event.key == bundle.key for event in ledger.events): break\n"  # another writer settled it
        "        ledger.live(ledger.accept(bundle, ledger.number, 'promote', ''))\n"
        "        break\n"
        "    except Moved: ledger.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(place.project.path / "src")}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, place.clone(f"w{name}"), place.bundle(name).path],
            env=environment,
        )
        for name in "abc"
    ]
    assert [writer.wait(180) for writer in writers] == [0, 0, 0]
    ledger = place.open()
    assert sorted(e.key for e in ledger.events if e.type == "accepted") == sorted(place.key(name) for name in "abc")
    assert ledger.pending() is None and kinds(ledger).count("live") >= 3


def test_a_remote_that_stops_answering_is_waited_for_within_bounds(place, monkeypatch):
    monkeypatch.setattr(git_module, "SECONDS", 2)
    monkeypatch.setenv("GIT_SSH_COMMAND", "sh -c 'sleep 300'")
    place.project.git("remote", "add", "origin", "ssh://127.0.0.1/nowhere")
    began = time.monotonic()
    with pytest.raises(Misuse, match="^ledger: origin cannot be read: .* did not answer within 2 sec"):
        place.open()
    assert time.monotonic() - began < 20
