"""Risk: what a power cut, a graft or a partial clone leaves of a ledger is read as another ledger, or as none."""

import json
import re

import pytest
from filelock import FileLock
from ledgers import kinds

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.gate.looks import Sight
from conveyor.ledger import fsck, store

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
def test_a_broken_record_of_what_was_verified_is_forgotten_as_it_is_told(place, content):
    for number in range(25):  # so many that it is noted how far they were verified
        place.promote(f"local {number}")
    record = place.project.path / ".git/refs/conveyor/verified/2-here"
    record.write_bytes(content)
    with pytest.raises(Misuse, match="^ledger: refs/conveyor/verified/2-here .*; `[^`]*` forgets it$") as error:
        place.open()
    mended(place, str(error.value))
    assert not record.exists() and place.open().number == 50


@left
@pytest.mark.parametrize("which", ["witness", "bytes"])
def test_a_broken_witness_and_broken_bytes_are_put_back_as_it_is_told(place, content, which):
    place.promote("first")
    place.promote("second")
    ref = {"witness": "refs/tags/champion/000002", "bytes": f"refs/models/{place.key('first')}"}[which]
    before = place.refs()
    (place.project.path / ".git" / ref).write_bytes(content)
    with pytest.raises(Misuse, match=f"^ledger: {ref} .*` and `make fsck REPAIR=1` put it back$") as error:
        place.open()
    mended(place, str(error.value))
    assert "sound" in fsck.run(Project(place.project.path), repair=True)
    assert place.refs() == before


@pytest.mark.parametrize("remote", [False, True], ids=["local", "at origin"])
@pytest.mark.parametrize("name", ["", ":model.skops"], ids=["the commit", "a file"])
def test_bytes_whose_objects_are_damaged_are_listed(place, remote, name):
    """Whoever needs them is sent to `make fsck`, which must not call the ledger sound."""
    place.remote() if remote else None
    place.promote("first", push=True)
    ledger = place.promote("second", push=True)
    commit = ledger.stored(place.key("second")).model
    lost = place.project.git("rev-parse", f"{commit}{name}").stdout.strip()
    file = place.project.path / ".git/objects" / lost[:2] / lost[2:]
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(Misuse, match="`make fsck` says how$"):
        ledger.bundle(ledger.champion())
    if remote and not name:  # git does not even fetch then
        with pytest.raises(Misuse, match="; make a fresh clone$"):
            told(place)
        return
    [line] = told(place)
    assert line.startswith(f"refs/models/{place.key('second')} is damaged here: ")
    assert line.endswith("make a fresh clone" if remote else '"Back up and restore"')
    if remote:
        other = place.open(place.clone("fresh"))
        assert other.bundle(other.champion()).files == place.bundle("second").files


def test_an_origin_that_has_lost_an_object_is_told_as_such(place):
    bare = place.remote()
    head = place.promote("first", push=True).head
    (bare / "objects" / head[:2] / head[2:]).unlink()
    tree = place.project.git("rev-parse", f"{head}^{{tree}}").stdout.strip()
    place.project.run("git", "--git-dir", str(bare), "fetch", "--quiet", str(place.project.path), head)
    (bare / "objects" / tree[:2] / tree[2:]).unlink()
    clone = place.folder / "colleague"
    words = ("clone", "--quiet", "--single-branch", "--no-tags", f"file://{bare}", str(clone))
    place.project.git(*words)
    with pytest.raises(Misuse, match="on the remote side.*; `git fsck` there says what is lost$"):
        place.open(clone)


def test_a_last_event_whose_commit_is_lost_is_told_with_what_is_left_of_the_branch(place):
    before = place.promote("first").head
    ledger = place.open()
    ledger.note(place.bundle("second"), 2, "keep", "no", Sight(holdout="rows", rows=7))
    (place.project.path / ".git/objects" / ledger.head[:2] / ledger.head[2:]).unlink()
    with pytest.raises(
        Misuse, match="^ledger: refs/heads/ledger names an object that is missing; .* and this clone has$"
    ):
        place.open()
    mended(place, told(place)[0])
    assert place.open().head == before


def test_a_process_that_holds_the_lock_is_named_and_not_called_a_matter_of_access(place, monkeypatch):
    place.remote()
    monkeypatch.setattr(store, "WAIT", 0.1)
    with (
        FileLock(place.project.path / ".git/conveyor-ledger.lock"),
        pytest.raises(Misuse, match="another process fetches the ledger for more than .*; wait for it, or end it$"),
    ):
        place.open()


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
