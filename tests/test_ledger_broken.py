"""Risk: what a power cut, a graft or a partial clone leaves of a ledger is read as another ledger, or as none."""

import json
import re

import pytest
from ledgers import kinds

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.ledger import fsck

LEFT = {"empty": b"", "zeros": b"\0" * 41, "cut": b"0123abc", "of a lost object": b"1" * 40 + b"\n"}
left = pytest.mark.parametrize("content", LEFT.values(), ids=LEFT)


def told(place) -> list[str]:
    return [damage.line for damage in fsck.damages(Project(place.project.path))[1]]


def mended(place, line: str) -> None:
    """What the line tells is done."""
    place.project.run("sh", "-c", re.findall("`([^`]*)`", line)[0])


@left
@pytest.mark.parametrize("lived", [True, False], ids=["with a champion", "before the first one"])
def test_a_branch_whose_file_is_broken_is_damage_and_put_back_by_the_command_that_is_told(place, content, lived):
    """git itself passes over it: the ledger would have no events."""
    ledger = place.open()
    waiting = ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    if lived:
        ledger.live(waiting)
        ledger.abort(ledger.accept(place.bundle("second"), 2, "promote", ""), "it does not become healthy")
    (place.project.path / ".git/refs/heads/ledger").write_bytes(content)
    with pytest.raises(Misuse, match="^ledger: refs/heads/ledger (is damaged|names an object that is missing); ") as no:
        place.open()
    assert told(place) == [str(no.value).removeprefix("ledger: ")]
    mended(place, str(no.value))
    assert place.open().head == ledger.head and told(place) == []


def test_one_of_which_git_has_no_log_is_told_with_the_page(place):
    place.promote("first")
    (place.project.path / ".git/logs/refs/heads/ledger").unlink()
    (place.project.path / ".git/refs/heads/ledger").write_bytes(b"")
    with pytest.raises(Misuse, match='^ledger: refs/heads/ledger is damaged; docs/ledger.md, "Back up and restore"$'):
        place.open()


@left
@pytest.mark.parametrize("which", ["witness", "bytes"])
def test_a_broken_witness_and_broken_bytes_are_put_back_as_it_is_told(place, content, which):
    place.promote("first")
    place.promote("second")
    ref = {"witness": "refs/tags/champion/000002", "bytes": f"refs/models/{place.key('first')}"}[which]
    before = place.refs()
    (place.project.path / ".git" / ref).write_bytes(content)
    with pytest.raises(Misuse, match=f"^ledger: {ref} .*, then `make fsck REPAIR=1` puts it back$") as error:
        place.open()
    mended(place, str(error.value))
    assert "sound" in fsck.run(Project(place.project.path), repair=True)
    assert place.refs() == before


@left
def test_a_broken_copy_of_what_origin_has_is_fetched_again(place, content):
    place.remote()
    place.promote("first", push=True)
    place.promote("second", push=True)
    copies = [ref for ref in place.refs() if ref.startswith("refs/conveyor/")]
    assert len(copies) == 6  # the branch, two witnesses, two models, what was verified
    for ref in copies:
        (place.project.path / ".git" / ref).write_bytes(content)
    ledger = place.open()
    assert ledger.number == 4 and told(place) == []
    assert ledger.bundle(ledger.champion()).files == place.bundle("second").files


def test_a_broken_ref_of_somebody_elses_stops_nobody(place):
    place.promote("first")
    (place.project.path / ".git/refs/heads/ledger-of-accounts").write_bytes(b"")
    (place.project.path / ".git/refs/tags/champions").write_bytes(b"")
    assert place.open().number == 2


def test_a_graft_does_not_change_what_the_ledger_was(place):
    place.promote("first")
    ledger = place.promote("second")
    place.project.git("branch", "other", "main")
    other = place.refs()["refs/heads/other"]
    for line in (ledger.head, f"{ledger.head} {other}"):
        (place.project.path / ".git/info").mkdir(exist_ok=True)
        (place.project.path / ".git/info/grafts").write_text(f"{line}\n")
        assert place.open().number == 4
    assert place.promote("third").number == 6 and told(place) == []


@pytest.mark.parametrize("how", ["blob:none", "tree:0"])
def test_a_partial_clone_brings_the_events_at_once(place, monkeypatch, how):
    """git asks origin for each object that such a clone lacks, when it is read, one after another."""
    bare = place.remote()
    place.project.run("git", "--git-dir", str(bare), "config", "uploadpack.allowFilter", "true")
    for name in "abcd":
        place.promote(name, push=True)
    clone, log = place.folder / "partial", place.folder / "trace"
    place.project.git("clone", "--quiet", f"--filter={how}", f"file://{bare}", str(clone))
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(log))
    ledger = place.open(clone)
    started = [" ".join(e["argv"]) for e in map(json.loads, log.read_text().splitlines()) if e["event"] == "start"]
    assert len([words for words in started if " fetch " in words]) == 1, started
    assert kinds(ledger) == ["accepted", "live"] * 4
    assert place.promote("e", clone, push=True).number == 10
    assert ledger.bundle(ledger.champion()).files == place.bundle("d").files
