"""Risk: the champion is lost, overwritten, or believed when it was tampered with."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest


@pytest.fixture
def place(product, project, tmp_path):
    """A repository, and functions that open its ledger and make bundles: real git, real bytes, no training."""
    return Place(product, project, tmp_path)


class Place:
    def __init__(self, product, project, folder: Path) -> None:
        self.product, self.project, self.folder = product, project, folder

    def open(self, root: Path | None = None, push: bool = False):
        return self.product.project.Project(root or self.project.path, push=push).ledger

    def bundle(self, name: str):
        path = self.folder / "bundles" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "model.skops").write_bytes(b"\x00\xff\r\n" + name.encode() * 1000)
        (path / "lineage.json").write_text(json.dumps({"key": sha256(name.encode()).hexdigest()}))
        return self.product.bundle.Bundle(path)

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
    with pytest.raises(place.product.ledger.Moved):
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
    with pytest.raises(
        place.product.errors.Refused, match=r"^promote: champion/000002 comes from commit \w{12}, which is newer"
    ):
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
    with pytest.raises(place.product.ledger.Moved):
        two.accept(place.bundle("second"), 0, "bootstrap", "")
    assert f"refs/models/{place.bundle('second').key}" not in place.refs(bare)
    two.read()
    assert two.pending().key == place.bundle("first").key


def test_two_real_processes_race_and_exactly_one_event_is_written(place):
    bare = place.remote()
    place.bundle("a"), place.bundle("b")
    script = (
        "import sys; from pathlib import Path; from importlib import import_module as m; p = sys.argv[1];"
        "ledger = m(p + '.project').Project(Path(sys.argv[2]), push=True).ledger; print('ready', flush=True); input();"
        "b = m(p + '.bundle').Bundle(Path(sys.argv[3])); moved = m(p + '.ledger').Moved\n"
        "try: ledger.accept(b, 0, 'bootstrap', ''); print('won')\n"
        "except moved: print('moved')"
    )
    source = str(place.project.path / "src")
    racers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                script,
                place.project.package,
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
    with pytest.raises(
        place.product.errors.Misuse, match="^ledger: origin did not take the event: .*nothing was changed$"
    ):
        ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    assert place.refs(bare) == before


def test_a_remote_that_is_gone_is_an_error_and_not_a_fresh_start(place):
    place.project.git("remote", "add", "origin", str(place.folder / "nowhere.git"))
    with pytest.raises(
        place.product.errors.Misuse, match="^ledger: origin cannot be read: .*check the remote and your access$"
    ):
        place.open()


def test_the_token_of_a_workflow_reaches_git_and_no_file(place, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "secret-token")
    monkeypatch.setenv("GITHUB_SERVER_URL", "http://127.0.0.1:9")
    ledger = place.open()
    ledger.git.variables.update(ledger._credentials())
    sent = ledger.git("config", "--get-urlmatch", "http.extraheader", "http://127.0.0.1:9/owner/repo")
    assert sent == "AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0LXRva2Vu"
    with pytest.raises(place.product.git.GitError):  # and no other host sees it
        ledger.git("config", "--get-urlmatch", "http.extraheader", "http://127.0.0.2:9/owner/repo")
    assert b"secret-token" not in (place.project.path / ".git" / "config").read_bytes()


# Damage: each is an error that names the file or ref, and never "no champion"

DAMAGE = {
    "truncated": (b'{"schema": 1, "num', "events/000002.json is no JSON object"),
    "empty": (b"", "events/000002.json is no JSON object"),
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
    with pytest.raises(place.product.errors.Misuse, match=f"^ledger: {message}"):
        place.open()


def test_a_gap_between_events_is_named(place):
    place.promote("first")
    place.rewrite("events/000001.json", None)
    with pytest.raises(place.product.errors.Misuse, match=r"^ledger: events/00000\d.json is missing|says it is event"):
        place.open()


def test_an_edited_champion_file_is_named(place):
    place.promote("first")
    place.rewrite("champion.json", b'{"schema": 1, "event": 2, "champion": null}')
    with pytest.raises(place.product.errors.Misuse, match="^ledger: champion.json does not follow from the events"):
        place.open()


def test_a_deleted_branch_is_an_error_while_its_witness_stands(place):
    place.promote("first")
    place.project.git("update-ref", "-d", "refs/heads/ledger")
    with pytest.raises(place.product.errors.Misuse, match="has the tag champion/000002 but no branch `ledger`"):
        place.open()


def test_a_branch_that_was_set_back_is_an_error(place):
    place.promote("first")
    back = place.project.git("rev-parse", "refs/heads/ledger").stdout.strip()
    place.promote("second")
    place.project.git("update-ref", "refs/heads/ledger", back)
    with pytest.raises(place.product.errors.Misuse, match="by events is champion/000002, by tags champion/000004"):
        place.open()


def test_a_deleted_witness_is_an_error(place):
    place.promote("first")
    place.project.git("tag", "--delete", "champion/000002")
    with pytest.raises(place.product.errors.Misuse, match="by events is champion/000002, by tags None"):
        place.open()


def test_missing_model_bytes_are_named(place):
    ledger = place.promote("first")
    ref = f"refs/models/{place.bundle('first').key}"
    place.project.git("update-ref", "-d", ref)
    with pytest.raises(place.product.errors.Misuse, match=f"^ledger: {ref} is missing, the model of an event"):
        ledger.bundle(ledger.champion())


def test_other_model_bytes_under_its_name_are_refused(place):
    ledger = place.promote("first")
    place.promote("second")
    first, second = (f"refs/models/{place.bundle(name).key}" for name in ("first", "second"))
    place.project.git("update-ref", first, second)
    champion = next(event.champion for event in ledger.events)
    with pytest.raises(place.product.errors.Misuse, match=f"^ledger: {first} has digest .* its event says"):
        ledger.bundle(champion)
    assert not (place.project.path / "build" / "champion").exists()
