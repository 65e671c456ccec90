"""Risk: a ledger of the layout before is lost, rewritten, or not read.

tests/before/flat.bundle was written by the last version with all events in one folder; tests/before/README.md says how.
"""

import json

import pytest
from ledgers import REFS, kinds

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.gate.looks import Sight
from conveyor.ledger import fsck

HEAD = "d7e86baaa7f0a2b14236e175c94321a814eb7eaa"
KINDS = [
    *("accepted", "live", "accepted", "live", "kept", "approved", "accepted", "live", "rolled_back", "live"),
    *("accepted", "aborted", "quarantined", "accepted", "live", "accepted", "live", "pruned", "released"),
]


def test_it_is_read_where_it_lies_and_nothing_is_written(old):
    before = old.refs()
    ledger = old.open()
    assert kinds(ledger) == KINDS and ledger.champion().key == old.key("seventh")
    assert ledger.quarantine_of(old.key("first")) and ledger.released_as("v1.0.0")
    assert ledger.bundle(ledger.champion()).files["model.skops"].endswith(b"seventh")
    assert fsck.damages(Project(old.project.path))[1] == [] and old.refs() == before


@pytest.mark.parametrize("remote", [False, True], ids=["local", "at origin"])
def test_the_next_writer_goes_on_in_the_new_layout_and_writes_nothing_old_again(old, remote):
    if remote:
        old.remote()
        old.project.git("push", "--quiet", "origin", *REFS)
        old.project.git("branch", "--quiet", "-D", "ledger")
    tags = {ref: at for ref, at in old.refs().items() if "champion" in ref}
    for name in ("eighth", "ninth"):
        ledger = old.promote(name, push=True)
    assert kinds(ledger) == [*KINDS, "migrated", "accepted", "live", "accepted", "live"]
    assert (ledger.events[19].before, ledger.events[19].number) == (HEAD, 20)
    git = old.project.git
    assert git("rev-parse", f"{ledger.head}~5").stdout.strip() == HEAD
    names = git("ls-tree", "-r", "--name-only", ledger.head).stdout.split()
    assert names == ["champion.json", *(f"events/0000/{number:06d}.json" for number in range(20, 25))]
    reader = old.open(old.clone("colleague")) if remote else old.open()
    again = old.open(reader.project.root)  # from the record of what was verified
    assert [e.number for e in again.events] == list(range(1, 25)) == [e.number for e in reader.events]
    assert fsck.damages(Project(reader.project.root))[1] == []
    there = old.refs(old.folder / "remote.git") if remote else old.refs()
    assert tags.items() <= there.items()


def test_one_goes_back_to_a_champion_of_before(old):
    said = old.act("rollback", old.open(), None, "it is slow")
    assert f"is model {old.key('sixth')[:12]} again" in said
    ledger = old.open()
    assert kinds(ledger)[19:] == ["migrated", "rolled_back", "live"]
    assert ledger.bundle(ledger.champion()).files["model.skops"].endswith(b"sixth")


def test_a_writer_that_was_stopped_behind_the_migration_is_followed_by_the_next(old):
    ledger = old.open()
    ledger.note(old.bundle("eighth"), ledger.number, "keep", "no", Sight(holdout="rows"))
    old.project.git("update-ref", "refs/heads/ledger", "refs/heads/ledger~1")
    assert kinds(old.open())[19:] == ["migrated"]
    assert kinds(old.promote("eighth"))[19:] == ["migrated", "accepted", "live"]


def rewritten(old, number: int, **changes) -> None:
    """One more event of the old layout, whose commit also writes an older one again."""
    value = json.loads(old.project.git("show", f"ledger:events/{number:06d}.json").stdout) | changes
    last = json.loads(old.project.git("show", "ledger:events/000019.json").stdout)
    more = json.dumps({**last, "number": 20, "type": "kept"}).encode()
    again = json.dumps(value).encode()
    old.forge({f"events/{number:06d}.json": again, "events/000020.json": more, "champion.json": b"{}"})


def test_an_old_event_that_was_rewritten_is_named_with_both_commits(old):
    wrote = old.project.git("rev-parse", "ledger~16").stdout.strip()
    rewritten(old, 3, by="somebody else")
    message = rf"^ledger: commit \w{{12}} rewrites events/000003.json, which commit {wrote[:12]} wrote"
    with pytest.raises(Misuse, match=message):
        old.open()


def test_an_old_event_that_a_newer_writer_wrote_with_more_empty_keys_is_not_called_rewritten(old):
    rewritten(old, 3, clock=None, keys=[])
    assert old.open().number == 20


def test_the_layout_of_before_does_not_come_back(old):
    assert old.promote("eighth").number == 22
    last = json.loads(old.project.git("show", "ledger~3:events/000019.json").stdout)
    files = {"events/000023.json": json.dumps({**last, "number": 23, "type": "kept"}).encode(), "champion.json": b"{}"}
    old.forge(files)
    with pytest.raises(Misuse, match=r"^ledger: commit \w{12} adds events/000023.json; the last sound"):
        old.open()
