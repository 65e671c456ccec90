"""Risk: the champion is lost, or is another model than the events say."""

import os
import shutil
import subprocess
import sys

import pytest
from ledgers import SCRIPT, kinds

from conveyor.core.errors import Misuse, Refused
from conveyor.gate.looks import Sight
from conveyor.ledger import history as history_module
from conveyor.ledger.events import Moved
from conveyor.ledger.journal import POINTS


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
    assert files == ["champion.json", "events/0000/000001.json", "events/0000/000002.json"]


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
    with pytest.raises(Refused, match=r"^promote: overtaken: champion/000002 comes from commit \w{12}, which is newer"):
        ledger.accept(place.bundle("second"), ledger.number, "promote", "")
    assert place.refs() == before


def test_an_older_commit_is_overtaken_by_a_verdict_about_a_newer_one_too(place):
    """Deliveries run beside each other: the newer one may have kept the champion, and deployed its code."""
    ledger = place.promote("first")
    place.project.git("commit", "--allow-empty", "-m", "newer")
    ledger = place.open()
    ledger.note(place.bundle("second"), ledger.number, "keep", "not better", Sight(holdout="rows"))
    place.project.git("checkout", "--quiet", "--detach", "HEAD~1")
    before = place.refs()
    with pytest.raises(
        Refused, match=r"^promote: overtaken: event 3 \(kept\) comes from commit \w{12}, which is newer"
    ):
        place.open().accept(place.bundle("third"), 3, "promote", "")
    assert place.refs() == before
    place.project.git("checkout", "--quiet", "-")
    assert place.open().accept(place.bundle("third"), 3, "promote", "").number == 4


def test_a_model_trained_before_is_restored_not_trained(place, tmp_path):
    ledger = place.promote("first")
    assert ledger.restore(place.bundle("first").key, tmp_path / "candidate")
    assert (tmp_path / "candidate" / "model.skops").read_bytes() == place.bundle("first").files["model.skops"]
    assert not ledger.restore("0" * 64, tmp_path / "other") and not (tmp_path / "other").exists()


def test_a_repository_with_longer_hashes_has_a_ledger_too(place, tmp_path):
    root = tmp_path / "long"
    place.project.run("git", "init", "--quiet", "--object-format=sha256", str(root))
    shutil.copyfile(place.project.path / "params.yaml", root / "params.yaml")
    place.project.run("git", "-C", str(root), "add", ".")
    place.project.git("-C", str(root), "commit", "--quiet", "--message", "first")
    place.promote("first", root)
    assert place.promote("second", root).champion().key == place.key("second")


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
    with pytest.raises(Misuse, match=r"is commit \w{12}, event 1 says \w{12}; `make fsck` says what"):
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
    assert history_module.events(ledger, False).count("\n") == 1 + 3
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


@pytest.mark.parametrize(("outcome", "kind"), [("keep", "kept"), ("block", "blocked")])
def test_a_verdict_that_moves_nothing_is_on_record_once_for_its_rows_and_its_champion(place, outcome, kind):
    ledger = place.promote("first")
    for rows in ("rows", "rows", "other rows", "rows"):
        sight = Sight(holdout=rows, rows=7)
        ledger.note(place.bundle("second"), ledger.number, outcome, "not better", sight)
    assert kinds(ledger) == ["accepted", "live", kind, kind] and ledger.champion().key == place.key("first")
    assert f"refs/models/{place.key('second')}" not in place.refs()
    with pytest.raises(Moved):
        ledger.note(place.bundle("third"), ledger.number - 1, outcome, "not better", Sight(holdout="rows"))
    # Another champion is another comparison.
    ledger = place.promote("third")
    ledger.note(place.bundle("second"), ledger.number, outcome, "not better", Sight(holdout="rows", rows=7))
    assert kinds(place.open())[-1] == kind
    assert [seen.against for seen in ledger.history().looks] == [place.key("first")] * 3 + [place.key("third")]


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
        # A roll-back that was written is what was meant: the next run ends it, and does not go back once more.
        assert ended.returncode == 0, ended.stderr
        assert kinds(ledger).count("rolled_back") == 1
        assert ledger.champion().key == place.key("first") and ledger.quarantine_of(place.key("second"))
    assert len(ledger.events) == len({event.number for event in ledger.events})


def test_a_roll_back_that_a_quarantine_of_its_model_ends_quarantines_nothing_else(place):
    place.promote("first")
    ledger = place.promote("second")
    ledger.roll_back(None, "it is slow")
    place.act("quarantine", place.open(), 1, "bad labels")
    again = place.open()
    assert again.pending() is None and again.champion().key == place.key("second")
    assert again.quarantine_of(place.key("second")) is None
    assert again.quarantine_of(place.key("first")).reason == "bad labels"


def test_a_roll_back_that_is_overtaken_by_another_quarantines_nothing(place):
    for name in ("first", "second", "third"):
        ledger = place.promote(name)
    ledger.roll_back(4, "it is slow")
    again = ledger.roll_back(2, "farther")
    ledger.abort(again, "it does not become healthy")
    assert [ledger.quarantine_of(place.key(name)) for name in ("first", "second", "third")] == [None] * 3
