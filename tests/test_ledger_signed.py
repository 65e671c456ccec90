"""Risk: who may push can write an event under another's name, although the team wants each one signed."""

import shutil
import subprocess

import pytest

from conveyor.core.errors import Misuse
from conveyor.core.files import to_json
from conveyor.core.project import Project
from conveyor.gate.looks import Sight
from conveyor.ledger import fsck
from conveyor.ledger.events import path_of, read
from conveyor.ledger.signatures import SIGNERS


def key(place, name: str) -> tuple[str, str]:
    """A new pair of keys: the private and the public text."""
    file = place.folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file], check=True)
    return file.read_text(), file.with_suffix(".pub").read_text()


@pytest.fixture
def team(place, monkeypatch):
    """A repository whose reviewed parameters want signatures from event 3 on; the workflows have the key."""
    place.promote("first")
    private, public = key(place, "key")
    signers = place.project.path / SIGNERS
    signers.parent.mkdir(parents=True, exist_ok=True)
    signers.write_text(f"# the workflows\nledger {public}")
    place.project.set_param("ledger.signed_from", 3)
    monkeypatch.setenv("LEDGER_KEY", private)
    return place


def test_each_event_is_signed_and_git_agrees(team):
    ledger = team.promote("second", push=True)
    assert team.open().number == 4
    git = ["-c", f"gpg.ssh.allowedSignersFile={team.project.path / SIGNERS}", "verify-commit"]
    for commit in (ledger.head, f"{ledger.head}~1"):
        assert 'Good "git" signature for ledger' in team.project.git(*git, commit).stderr


def test_an_event_that_is_not_signed_is_refused_and_one_before_them_is_not(team):
    ledger = team.open()
    assert ledger.number == 2
    team.forge(team.forged(ledger))
    with pytest.raises(
        Misuse, match=f"^ledger: {path_of(3)} is not signed; the last sound commit is {ledger.head[:12]}"
    ):
        team.open()


def test_without_signatures_who_may_push_can_put_a_model_live_under_anothers_name_and_the_readme_says_so(place):
    place.promote("first")
    ledger = place.promote("second")
    first = ledger.events[0]
    told = {name: getattr(first, name) for name in ("key", "digest", "commit", "data_sha256", "model")}
    for kind, identity in (("accepted", "1" * 32), ("live", "2" * 32)):
        event = {**told, "type": kind, "by": "Ada", "id": identity}
        [file] = (content for name, content in place.forged(ledger, **event).items() if name.startswith("events/"))
        after = read(file)
        commit = place.forge({path_of(after.number): file, "champion.json": to_json(ledger.summary(after)).encode()})
        if kind == "live":
            place.project.git("tag", f"champion/{after.number:06d}", commit)
        ledger = place.open()
    assert (place.open().champion().key, place.open().events[-1].by) == (place.key("first"), "Ada")
    said = "Anyone with write access can change production, unless the ledger has a [key](docs/ledger.md#who-may-write)"
    assert said in (place.project.path / "README.md").read_text()
    page = (place.project.path / "docs/ledger.md").read_text().split("## Who may write\n")[1]
    assert page.startswith("\nAnyone with write access can write an event under another name, and production follows.")


def test_a_key_that_no_review_has_let_in_writes_nothing(team, monkeypatch):
    monkeypatch.setenv("LEDGER_KEY", key(team, "another")[0])
    before = team.refs()
    message = f"^ledger: the event is signed by a key that {SIGNERS} does not name: LEDGER_KEY is not the key of"
    with pytest.raises(Misuse, match=message):
        team.promote("second", push=True)
    assert team.refs() == before


def test_an_event_that_such_a_key_has_signed_is_refused_by_readers(team):
    team.promote("second", push=True)
    file = team.project.path / SIGNERS
    file.write_text(f"ledger {key(team, 'another')[1]}")
    with pytest.raises(Misuse, match=f"^ledger: {path_of(3)} is signed by a key that {SIGNERS} does not name"):
        team.open()


def test_an_unsigned_champion_gets_no_witness_from_the_repair(team, monkeypatch):
    """Somebody who may push adds a ``live`` to a model on its way."""
    ledger = team.open(push=True)
    accepted = ledger.accept(team.bundle("second"), 2, "promote", "")
    told = {name: getattr(accepted, name) for name in ("key", "digest", "commit", "data_sha256")}
    team.forge(team.forged(ledger, type="live", **told))
    with pytest.raises(Misuse, match=f"^ledger: {path_of(4)} is not signed"):
        team.open()
    with pytest.raises(Misuse, match="^fsck: 1 damage in the ledger"):
        fsck.run(Project(team.project.path, push=True), repair=True)
    assert "refs/tags/champion/000004" not in team.refs()


def test_the_signature_of_another_commit_is_refused(team):
    ledger = team.open(push=True)
    ledger.note(team.bundle("second"), 2, "keep", "no", Sight(holdout="rows"))
    git = team.project.git
    forged = git("cat-file", "commit", "ledger").stdout.replace("000003 kept", "000003 live")
    (team.folder / "commit").write_text(forged)
    commit = git("hash-object", "-t", "commit", "-w", str(team.folder / "commit")).stdout.strip()
    assert commit != ledger.head
    git("update-ref", "refs/heads/ledger", commit)
    with pytest.raises(Misuse, match=f"^ledger: {path_of(3)} has a signature that does not fit"):
        team.open()


def test_one_without_the_key_is_told_who_writes(team, monkeypatch):
    monkeypatch.delenv("LEDGER_KEY")
    message = "^ledger: events from 3 on are signed, and LEDGER_KEY is not given: the workflows write this ledger"
    with pytest.raises(Misuse, match=message):
        team.promote("second", push=True)
    assert team.open().number == 2


@pytest.mark.parametrize(
    "text, message",
    [
        ("", f"{SIGNERS}: names no key, and ledger.signed_from of params.yaml wants one"),
        ("# nobody\n", f"{SIGNERS}: names no key, .*"),
        (
            "ledger ssh-rsa AAAA\n",
            f"{SIGNERS}:1: no ssh-ed25519 key; write it as: ledger ssh-ed25519 AAAA..., without options",
        ),
        ("\nledger ssh-ed25519 AAA*\n", f"{SIGNERS}:2: no ssh-ed25519 key; .*"),
        ('ledger valid-before="20200101" ssh-ed25519 AAAA\n', f"{SIGNERS}:1: no ssh-ed25519 key; .*, without options"),
        (None, f"{SIGNERS}: missing; `git checkout {SIGNERS}` brings it back"),
    ],
)
def test_a_wrong_file_of_signers_is_named(team, text, message):
    file = team.project.path / SIGNERS
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(Misuse, match=f"^{message}$"):
        team.open()


def test_a_wrong_key_is_named_and_not_shown(team, monkeypatch):
    monkeypatch.setenv("LEDGER_KEY", "secret words")
    with pytest.raises(Misuse, match="^LEDGER_KEY: no private key; `make github-setup LEDGER_KEY=1` makes one$"):
        team.open(push=True)


def test_another_signer_is_let_in_by_review_and_old_events_are_verified_again(team, monkeypatch):
    team.promote("second", push=True)
    private, public = key(team, "another")
    file = team.project.path / SIGNERS
    file.write_text(f"{file.read_text()}ledger {public}")
    monkeypatch.setenv("LEDGER_KEY", private)
    team.promote("third", push=True)
    assert team.open().number == 6
    file.write_text(f"ledger {public}")
    with pytest.raises(Misuse, match=f"^ledger: {path_of(3)} is signed by a key that"):
        team.open()


def test_a_clone_that_has_verified_everything_refuses_an_unsigned_event_at_origin(team):
    bare = team.remote()
    refs = ("ledger", "refs/tags/champion/*:refs/tags/champion/*", "refs/models/*:refs/models/*")
    team.project.git("push", "--quiet", "origin", *refs)
    ledger = team.open(push=True)
    assert ledger.number == 2
    team.forge(team.forged(ledger))
    team.project.git("push", "--quiet", str(bare), "ledger")
    with pytest.raises(Misuse, match=f"^ledger: {path_of(3)} is not signed"):
        team.open()


def test_the_key_is_a_private_file_outside_the_repository(team):
    file = team.open(push=True).store.key.file
    assert file.stat().st_mode & 0o777 == 0o600 and team.project.path not in file.parents
    shutil.rmtree(file.parent)
