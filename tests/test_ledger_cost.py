"""Risk: the longer a ledger becomes, the more a command asks of git and of origin."""

import json
import subprocess
from contextlib import contextmanager

import pytest
from test_ledger_signed import key

from conveyor.core.files import to_json
from conveyor.ledger import reading
from conveyor.ledger.events import MOST_NUMBER, path_of
from conveyor.ledger.signatures import SIGNERS

MOST = 12  # processes of git for one read


@contextmanager
def processes(place, monkeypatch):
    """The processes of git that are started meanwhile, without those that git itself starts."""
    log, found = place.folder / "trace", []
    log.unlink(missing_ok=True)
    with monkeypatch.context() as here:
        here.setenv("GIT_TRACE2_EVENT", str(log))
        yield found
    for each in map(json.loads, log.read_text().splitlines()):
        if each["event"] == "start" and "/" not in each["sid"]:
            found.append(" ".join(each["argv"]))


def reads(place, root, monkeypatch) -> tuple[int, int]:
    """How many events a read finds, and its processes."""
    with processes(place, monkeypatch) as started:
        number = place.open(root).number
    return number, len(started)


@pytest.mark.parametrize("signed", [False, True], ids=["plain", "signed"])
@pytest.mark.parametrize("how", [[], ["--depth=1"], ["--single-branch"]], ids=["whole", "shallow", "single branch"])
def test_a_read_takes_at_most_twelve_processes_whatever_it_finds(place, monkeypatch, signed, how):
    place.remote()
    if signed:
        private, public = key(place, "key")
        (place.project.path / SIGNERS).parent.mkdir(parents=True, exist_ok=True)
        (place.project.path / SIGNERS).write_text(f"ledger {public}")
        place.project.set_param("ledger.signed_from", 1)
        place.project.git("add", "--all")
        place.project.git("commit", "--quiet", "--message", "Events are signed")
        place.project.git("push", "--quiet", "origin", "main")
        monkeypatch.setenv("LEDGER_KEY", private)
    place.promote("first", push=True)
    clone = place.folder / "clone"
    place.project.git("clone", "--quiet", *how, f"file://{place.folder / 'remote.git'}", str(clone))
    first = reads(place, clone, monkeypatch)
    place.promote("second", push=True)
    found = [first, reads(place, clone, monkeypatch), reads(place, clone, monkeypatch)]
    assert [number for number, _ in found] == [2, 4, 4]
    assert all(count <= MOST for _, count in found), found


def test_so_does_one_behind_the_layout_of_before(old, monkeypatch):
    old.remote()
    old.project.git("push", "--quiet", "origin", "ledger", "refs/tags/champion/*", "refs/models/*")
    old.promote("eighth", push=True)
    clone = old.clone("colleague", "file://")
    old.open(clone)
    old.promote("ninth", push=True)
    number, count = reads(old, clone, monkeypatch)
    assert number == 24 and count <= MOST


def test_so_does_one_whose_champion_is_far_behind_the_last_one_that_was_seen(place, monkeypatch):
    """The witness of a champion hundreds of events later is asked for in the same fetch."""
    place.remote()
    place.promote("first", push=True)
    clone = place.clone("colleague", "file://")
    place.open(clone)
    ledger, bare = place.open(push=True), place.folder / "remote.git"
    last, lines = ledger.events[-1], []
    state, head = ledger.copy(), ledger.head
    for number in range(3, 403):
        told = {"number": number, "id": f"{number:032x}", "type": "kept", "holdout": None, "model": None}
        event = type(last).model_validate({**last.model_dump(by_alias=True), **told})
        state.add(event)
        lines += [f"commit refs/heads/ledger\ncommitter ledger <ledger@invalid> {number} +0000\n{data('x')}"]
        lines += [f"from {head}\n"] if number == 3 else []
        for path, text in ((path_of(number), event.stored()), ("champion.json", to_json(state.summary()))):
            lines += [f"M 100644 inline {path}\n{data(text)}"]
    subprocess.run(["git", "fast-import", "--quiet"], cwd=bare, input="".join(lines).encode(), check=True)
    place.promote("second", push=True)
    number, count = reads(place, clone, monkeypatch)
    assert number == 404 and count <= MOST
    assert place.open(clone).champion().key == place.key("second")


def data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"


@pytest.mark.parametrize("number", [0, 2, 99, 100, 12_345, 99_999, 100_000, 999_999])
def test_the_beginnings_hold_each_number_from_that_hundred_on_and_none_before(number):
    beginnings = reading.from_hundred(number)
    assert len(beginnings) <= 37
    for other in {*range(0, 1000, 7), *range(0, MOST_NUMBER, 997), number, number // 100 * 100, MOST_NUMBER - 1}:
        holding = [each for each in beginnings if f"{other:06d}".startswith(each)]
        assert len(holding) == (other >= number // 100 * 100), other


def test_accepting_and_making_live_asks_origin_for_the_refs_of_one_model(place, monkeypatch):
    """Origin has hundreds of models: what it lists is seen in the packets."""
    bare = place.remote()
    place.promote("first", push=True)
    place.promote("second", push=True)
    head = place.refs(bare)["refs/heads/main"]
    strange = [f"refs/models/{place.key(str(number))}" for number in range(300)]
    lines = "".join(f"create {ref} {head}\n" for ref in strange)
    subprocess.run(["git", "update-ref", "--stdin"], cwd=bare, input=lines.encode(), check=True)
    clone = place.clone("colleague", "file://")
    place.open(clone)
    packets = place.folder / "packets"
    monkeypatch.setenv("GIT_TRACE_PACKET", str(packets))
    ledger = place.open(clone, push=True)
    accepted = ledger.accept(place.bundle("third"), ledger.number, "promote", "it is better")
    ledger.live(accepted)
    # What origin tells a reader. A push is told all refs: git's protocol for pushes has no names to ask for.
    told = [line for line in packets.read_text(errors="replace").splitlines() if "upload-pack> " in line]
    assert any(place.key("third") in line for line in told)
    assert not [line for line in told if strange[0] in line or place.key("first") in line]
    assert place.open(clone).number == 6
    ledger.store.stored()  # lists all, as `prune` does: it would have been seen
    assert strange[0] in packets.read_text(errors="replace")
