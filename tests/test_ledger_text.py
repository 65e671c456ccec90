"""Risk: a text or a clock makes the ledger unreadable."""

import json
import re
import sys

import pytest

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.deploy import monitor
from conveyor.gate.looks import Sight
from conveyor.ledger import history as history_module
from conveyor.ledger import journal as journal_module


def test_history_says_what_was_live_at_a_time(place, monkeypatch):
    times = iter(("2026-03-01T08:00:00Z", "2026-03-01T08:05:00Z"))
    monkeypatch.setattr(journal_module, "now", lambda: next(times))
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


def test_history_says_why_a_model_was_blocked_what_it_was_compared_with_and_what_the_change_is_called(
    place, monkeypatch
):
    """A month later the report of the run is gone: the ledger alone must tell."""
    place.promote("first")
    git = place.project.git
    git("commit", "--quiet", "--allow-empty", "--message", "model.py: forgets \x1b[31mthe time of day\n\nand more")
    monkeypatch.setenv("GITHUB_RUN_ID", "77")
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/late")
    ledger = place.open()
    for name, outcome in (("worse", "block"), ("same", "keep")):
        sight = Sight(holdout=name, rows=40, sketch=None, recipe=None)
        ledger.note(place.bundle(name), ledger.number, outcome, f"why {name}", sight)
    ledger = place.promote("second")
    ledger.live(ledger.roll_back(None, "bad mornings", None))
    lines = history_module.events(place.open(), False).splitlines()
    first, compared = place.key("first")[:12], f"compared with champion {place.key('first')[:12]}"
    change = r'"model.py: forgets \x1b[31mthe time of day"'
    run = "https://github.com/team/late/actions/runs/77"
    for number, kind, name in ((3, "blocked    ", "worse"), (4, "kept       ", "same")):
        assert f"  {kind} {place.key(name)[:12]}  " in lines[number]
        assert lines[number].endswith(f": why {name} ({compared}; {change}; {run})")
    assert lines[2].endswith(")") and compared not in lines[1] + lines[2]  # a first champion was compared with nothing
    assert f"  accepted    {place.key('second')[:12]}  " in lines[5] and compared in lines[5]
    [back] = [line for line in lines if "  rolled_back " in line]
    assert f" {first}  " in back and f": bad mornings (in place of {place.key('second')[:12]}; " in back
    # A commit that this clone has not got has no name here.
    bare = {event.commit: "" for event in ledger.events}
    assert history_module.line(ledger, ledger.events[2], bare).endswith(f"({compared}; {run})")


def test_history_names_no_model_where_an_event_is_about_none(place):
    for name in ("first", "second", "third"):
        ledger = place.promote(name)
    place.act("prune", ledger, 2)
    last = history_module.events(place.open(), False).splitlines()[-1]
    assert "  pruned      -             " in last and "deleted those of 1 models" in last
    assert not any(place.key(name)[:12] in last for name in ("first", "second", "third"))


HOSTILE = {
    "escape sequence": "better\x1b[2J\x1b[31m now",
    "control characters": "a\x00b\x07c\x7f",
    "line breaks": "first\nsecond\r\nthird\x85fourth\u2028fifth",
    "marks of direction": "model \u202eevil\u202c",
    "another alphabet": "Überprüft — 検証 ✅ 👩\u200d💻",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_text_is_kept_as_it_is_and_shown_in_one_line_without_control_characters(place, monkeypatch, text):
    monkeypatch.setenv("GITHUB_ACTOR", text.replace("\0", ""))
    ledger = place.promote("first")
    ledger.approve(place.bundle("second"), ledger.number, text)
    again = place.open()
    assert (again.events[-1].reason, again.events[-1].by) == (text, text.replace("\0", ""))
    shown = history_module.events(again, False)
    assert shown.count("\n") == 1 + 3
    assert all(line.replace("\u200d", "").isprintable() for line in shown.split("\n"))
    assert json.loads(history_module.events(again, True))[-1]["reason"] == text


@pytest.mark.parametrize("verb", ["rollback", "quarantine"])
def test_a_reason_that_is_no_utf8_is_one_line_and_nothing_is_written(place, verb):
    place.promote("first")
    ledger = place.promote("second")
    before = place.refs()
    given = {"rollback": (None,), "quarantine": (1,)}[verb]
    with pytest.raises(Misuse, match=f"^{verb}: the reason is no UTF-8 text; write it again in a UTF-8 terminal$"):
        place.act(verb, ledger, *given, b"caf\xe9".decode("utf-8", "surrogateescape"))
    with pytest.raises(Misuse, match=f"^{verb}: the reason has 10001 characters, 10000 are the most; shorten it$"):
        place.act(verb, ledger, *given, "x" * 10_001)
    assert place.refs() == before


def test_a_name_in_latin_1_is_shown_as_far_as_it_can_be_read(place):
    config = place.project.path / ".git" / "config"
    config.write_bytes(config.read_bytes() + b"[user]\n\tname = Ren\xe9e\n")
    ledger = place.promote("first")
    assert ledger.events[-1].by == "Ren\ufffde" and place.open().number == 2


def test_the_command_line_refuses_them_in_one_line(bootstrapped, one_line):
    reason = b"caf\xe9".decode("utf-8", "surrogateescape")
    words = (sys.executable, "-m", "conveyor", "quarantine", "--event", "1", "--because", reason)
    one_line(
        bootstrapped.run(*words, check=False, env={"PYTHONPATH": "src"}), 2, "quarantine: the reason is no UTF-8.*"
    )


def clock(monkeypatch, *times: str) -> None:
    given = iter(times)
    monkeypatch.setattr(journal_module, "now", lambda: next(given))


def test_events_stay_in_order_when_a_clock_jumps_and_history_says_so(place, monkeypatch):
    clock(monkeypatch, "2026-03-01T08:00:00Z", "2026-03-01T08:05:00Z", "2026-02-01T00:00:00Z", "2026-03-02T00:00:00Z")
    place.promote("first")
    ledger = place.promote("second")
    assert [event.time for event in ledger.events] == sorted(event.time for event in ledger.events)
    assert (ledger.events[2].time, ledger.events[2].clock) == ("2026-03-01T08:05:00Z", "2026-02-01T00:00:00Z")
    shown = history_module.events(place.open(), False)
    told = shown.splitlines()[3].partition("second is better (")[2]
    assert told.endswith("; the writer's clock said 2026-02-01T00:00:00Z)")


def test_history_at_a_time_says_when_a_clock_makes_it_unsure(place, monkeypatch):
    clock(monkeypatch, "2026-03-01T08:00:00Z", "2026-03-01T08:05:00Z", "2026-02-01T00:00:00Z", "2026-02-01T00:01:00Z")
    place.promote("first")
    ledger = place.promote("second")
    lines = history_module.live_at(ledger, "2026-03-02", False).splitlines()
    assert lines[0].startswith("000004  2026-03-01T08:05:00Z  live")
    assert lines[1].startswith(
        "not sure: event 4 is of 2026-03-01T08:05:00Z, after the event before it, and its writer"
    )


def test_a_champion_from_the_future_is_told_and_not_counted_backwards(place, monkeypatch):
    monkeypatch.setattr(journal_module, "now", lambda: "2109-12-31T23:59:59Z")
    place.promote("first")
    said = monitor.run(Project(place.project.path))
    expected = (
        "from 2109-12-31T23:59:59Z, which is in the future: the clock of its writer, or of this machine, is wrong"
    )
    assert expected in said and not re.search(r"-\d+ days", said)
    first = (place.project.path / "build/monitor.md").read_text().split("\n")[0]
    assert first.endswith(expected)
