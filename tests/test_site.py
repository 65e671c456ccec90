"""Risk: a page about production says what the ledger or the alarm does not, or the text of a person is code in it."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from pages import BETTER, COUNTS, HOSTILE, RUN, TODAY, Seen, champions, dead, event, given, measured, state, written

from conveyor.core.params import Gate
from conveyor.core.project import Project
from conveyor.gate.decide import decide
from conveyor.ledger import history
from conveyor.ledger.damage import Damage
from conveyor.ledger.events import KINDS
from conveyor.ledger.state import State
from conveyor.report import timeline
from conveyor.watch import page, site
from conveyor.watch.lives import lives
from conveyor.watch.verdicts import numbers

# The page of `monitor`


def test_a_calm_loss_is_shown_beside_what_was_promised():
    found = measured()
    seen = Seen(page.page(given(champions(3), found)))
    assert found.seen.state == "calm" and "The live loss is not shown to be higher than promised" in seen.words
    for window in (found.seen.promised, *found.seen.recent):
        assert f"{window.mean:.4g}" in seen.words
    assert f"{found.seen.promised.low:.4g} to {found.seen.promised.high:.4g}" in seen.words
    assert all(count in seen.words for count in COUNTS)
    assert len(seen.labels) == 2 and len(set(seen.labels)) == 1, "one for wide screens, one for narrow ones"
    assert f"of 90 blocks from 2026-05-27 to 2026-08-24, between {found.live.loss.min():.4g} and" in seen.labels[0]
    assert seen.labels[0].endswith("; no alarm")
    assert "solid red line" not in seen.words


def test_an_alarm_is_shown_with_the_begin_of_the_change_and_its_block():
    found = measured(0.3)
    text = page.page(given(champions(3), found, "its log_loss has risen"))
    started, alarmed = (found.begins(number) for number in (found.seen.started, found.seen.alarmed))
    assert found.seen.state == "alarm" and started < alarmed
    seen = Seen(text)
    assert "The live loss has risen" in seen.words
    assert f"the block of the alarm ({alarmed:%Y-%m-%d %H:%M})" in seen.words
    assert f"most likely began ({started:%Y-%m-%d %H:%M})" in seen.words
    assert seen.labels[0].endswith(f"; alarm at {alarmed:%Y-%m-%d %H:%M}")
    # Both lines, in both pictures.
    calm = page.page(given(champions(3), measured()))
    assert [each.count("stroke: var(--bad)") for each in (text, calm)] == [4, 0]
    told = page.record(given(champions(3), found))
    assert (told["state"], told["started"], told["alarmed"]) == (
        "alarm",
        f"{started:%Y-%m-%dT%H:%M:%SZ}",
        f"{alarmed:%Y-%m-%dT%H:%M:%SZ}",
    )


def test_where_too_little_is_known_no_bounds_and_no_number_are_claimed():
    found = measured(live=4, holdout=8)
    seen = Seen(page.page(given(champions(1), found)))
    assert "Too little is known yet to tell" in seen.words and "too few blocks" in seen.words
    assert "inf" not in seen.words.split() and "nan" not in seen.words.lower()
    assert json.loads(json.dumps(page.record(given(champions(1), found)), allow_nan=False))["evidence"] is None


def test_where_the_loss_is_not_known_the_page_says_why_and_what_is_live_and_since_when():
    why = "serve.log: is null, so no prediction is kept"
    of = champions(2)
    seen = Seen(page.page(given(of, line=f"its live loss is not known: {why}")))
    live = of.lived[-1]
    assert "svg" not in seen.tags and "The live loss is not known" in seen.words and why in seen.words
    assert live.key[:12] in seen.words and "live for 199 days" in seen.words


def test_nothing_live_and_a_damaged_ledger_are_told_apart():
    assert "Nothing is live" in Seen(page.page(given(State(), line=""))).words
    harm = Damage("event 3 is gone", "bring it back", (), stops=True)
    seen = Seen(page.page(given(champions(2), line="", damages=[harm])))
    assert "The ledger is damaged" in seen.words and "event 3 is gone" in seen.words
    assert champions(2).lived[-1].key[:12] not in seen.words
    assert page.record(given(champions(2), line="", damages=[harm]))["key"] is None


def test_what_others_wrote_is_text_on_the_page():
    of = state(event(1, "accepted"), event(2, "live", reason=HOSTILE, by=HOSTILE))
    text = page.page(given(of, measured(), HOSTILE, died=[HOSTILE], counts=(HOSTILE,)))
    seen = Seen(text)
    assert seen.words.count(HOSTILE) >= 4 and not {"script", "img"} & set(seen.tags)
    assert all(link.startswith("https://github.com/") for link in seen.links)


def test_a_section_knows_no_other_and_the_page_is_their_list(monkeypatch):
    one = given(champions(1), measured())
    added = page.Section("moved", "What moved?", page.sections.note("nothing"))
    monkeypatch.setattr(page, "SECTIONS", (lambda it: None, page.counts, lambda it: added))
    seen = Seen(page.page(one))
    assert seen.tags.count("section") == 2 and "What moved? nothing" in seen.words and "svg" not in seen.tags


def test_the_running_mean_is_of_the_values_before_and_many_points_are_means():
    values = np.arange(10.0)
    assert timeline.running(values, 3).tolist() == [0, 0.5, 1, 2, 3, 4, 5, 6, 7, 8]
    assert timeline.thinned(values, 4)[0] == 3 and timeline.thinned(values, 4)[1].tolist() == [1, 4, 7, 9]
    assert timeline.thinned(values)[1] is values


def test_any_stretch_of_time_gets_dates_at_its_axis():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for minutes in np.geomspace(1, 20 * 365 * 24 * 60, 60):
        period = timeline.Period(start, start + timedelta(minutes=float(minutes)), "#2 aaaaaaa")
        for drawn in timeline.lived([period], [], "one champion"):
            assert drawn.count("<text") >= 2, minutes


@pytest.mark.parametrize("count", [1, 2, 12, 50, 200])
def test_the_newest_champion_is_named_in_a_picture_of_many(count):
    periods = [life.period(TODAY) for life in lives(champions(count, hours=5400 / (3 * count)).lived)]
    for drawn in timeline.lived(periods, [], "champions"):
        assert f">{periods[-1].label}</text>" in drawn


# The numbers of a verdict


@pytest.mark.parametrize("champion", [True, False], ids=["compared", "first"])
def test_the_numbers_are_those_that_the_gate_wrote(champion):
    draw = np.random.default_rng(7)
    y = draw.integers(0, 2, 2000)
    ours, theirs = (np.clip(0.5 * y + draw.normal(0.25, noise, 2000), 0.01, 0.99) for noise in (0.2, 0.6))
    rule = Gate(metric="roc_auc", promote_when="superior", margin=0.001, confidence=0.95)
    made = decide(y, theirs if champion else None, ours, rule, None)
    found = numbers(event(1, "accepted", outcome=made.outcome, reason=made.reason))
    [gate] = [metric for metric in made.metrics if metric.name == "roc_auc"]
    assert (found.metric, found.rows) == ("roc_auc", 2000)
    told = [found.value, found.champion, found.gain, found.low, found.high]
    wanted = [gate.challenger, gate.champion, gate.gain, gate.gain_low, gate.gain_high]
    if champion:
        assert told == pytest.approx(wanted, abs=5e-5)
    else:
        assert told == [pytest.approx(gate.challenger, abs=5e-5), None, None, None, None]


@pytest.mark.parametrize(
    ("kind", "outcome", "reason"),
    [
        ("live", "rollback", BETTER),
        ("approved", "incomparable", BETTER),
        ("quarantined", "quarantine", BETTER),
        ("accepted", "promote", "better"),
        ("kept", "keep", "the two models predict the same on 40 rows"),
    ],
)
def test_of_what_a_person_wrote_or_of_no_numbers_none_are_made(kind, outcome, reason):
    assert numbers(event(1, kind, outcome=outcome, reason=reason)) is None


# The site


def of(ledger: State, **more) -> site.Site:
    return site.Site("late-flights", ledger, TODAY, **more)


def test_an_empty_ledger_is_one_line_on_each_page(tmp_path):
    folder = written(of(State()), tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["events.html", "index.html", "lives.html"]
    assert "No model has become champion yet." in Seen((folder / "index.html").read_text()).words
    assert "There is none yet." in Seen((folder / "events.html").read_text()).words
    assert not list(dead(folder))


def test_of_one_event_nothing_is_live(tmp_path):
    folder = written(of(state(event(1, "accepted"))), tmp_path)
    assert "Nothing is live" in Seen((folder / "index.html").read_text()).words
    assert "the gate accepted it" in Seen((folder / "events.html").read_text()).words
    assert not list(dead(folder))


def test_the_first_page_tells_what_is_live_each_champion_and_each_outcome(tmp_path):
    ledger = champions(5)
    folder = written(of(ledger), tmp_path)
    seen = Seen((folder / "index.html").read_text())
    live = ledger.lived[-1]
    assert f"Model {live.key[:12]} is live" in seen.words and "the first champion, on 3,000 rows" in seen.words
    assert "against 0.7001, gain +0.0122 [+0.0031 to +0.0213], on 3,000 rows" in seen.words
    for each in ledger.lived:
        assert f"#{each.number} {each.key[:12]}" in seen.words
    assert "keep The champion stays 5" in seen.words and "promote The challenger wins 4" in seen.words
    assert "make monitor was not run" in seen.words
    assert not list(dead(folder))


def test_a_champion_has_its_chain_its_origin_and_its_neighbours(tmp_path):
    first, second = champions(2).events[:3], event(4, "accepted", "b")
    back = {"outcome": "rollback", "reason": "bad mornings", "by": "Grace"}
    ledger = state(*first, second, event(5, "live", "b"), event(6, "rolled_back", "0000", replaces="b" * 64, **back))
    ledger.add(event(7, "live", "0000", **back))
    ledger.add(event(8, "released", "0000", tag="v1.0.0", outcome="release", reason="v1.0.0 is an image"))
    folder = written(of(ledger), tmp_path)
    seen = Seen((folder / "champion/000007.html").read_text())
    for words in (
        "it is live",
        "bad mornings",
        "Grace",
        f"in place of {'b' * 12}",
        "a person went back to it",
        "d" * 64,
    ):
        assert words in seen.words, words
    assert "0.6912" in seen.words, "what was measured when it was accepted for the first time"
    assert "Before it: #5 bbbbbbbbbbbb After it: none" in seen.words
    home = RUN.partition("/actions/")[0]
    assert {RUN, f"{home}/commit/{'c' * 40}", f"{home}/releases/tag/v1.0.0"} <= set(seen.links)
    assert "After it: #7" in Seen((folder / "champion/000005.html").read_text()).words
    assert not list(dead(folder))


def test_the_table_of_times_has_the_champion_of_any_date():
    ledger = champions(4)
    rows = [[" ".join(cell.striptags().split()) for cell in row] for row in site._lives_rows(of(ledger))]
    whole = SimpleNamespace(lived=ledger.lived, events=ledger.events)
    for hours in (0, 399, 400, 401, 1000, 1600, 5000):
        then = event(1, "kept", hours=hours).time
        found, _ = history._at(whole, then)
        shown = then.replace("T", " ").removesuffix("Z")
        [row] = [row for row in rows if (row[0] == "before" or row[0] <= shown) and (row[1] == "now" or shown < row[1])]
        assert row[2] == (f"#{found.number} {found.key[:12]}" if found else "nothing"), then
    assert [life.after for life in lives(ledger.lived)][-1] is None


def test_a_clock_that_was_wrong_is_told_beside_its_time():
    late = event(2, "live", schema=2, id="1" * 32, clock="2025-12-31T00:00:00Z")
    ledger = state(event(1, "accepted", schema=2, id="2" * 32), late)
    [(_, text), *_] = [pair for pair in site.pages(of(ledger)) if pair[0] == "lives.html"]
    assert "not sure: its writer's clock said 2025-12-31 00:00:00" in Seen(text).words


@pytest.mark.parametrize("run", ["javascript:alert(1)", "data:text/html,x", HOSTILE, "//evil.example/x"])
def test_what_a_person_wrote_is_text_on_every_page(tmp_path, run):
    ledger = state(event(1, "accepted", by=HOSTILE, reason=HOSTILE, run=run))
    ledger.add(event(2, "live", by=HOSTILE, reason=HOSTILE, run=run))
    ledger.add(event(3, "released", by=HOSTILE, reason=HOSTILE, run=run, tag=HOSTILE))
    told = {"created": TODAY, "line": HOSTILE, "started": HOSTILE, "event": 2}
    folder = written(of(ledger, monitored=told), tmp_path)
    for name in ("index.html", "events.html", "champion/000002.html"):
        seen = Seen((folder / name).read_text())
        assert HOSTILE in seen.words and not {"script", "img"} & set(seen.tags), name
    assert not list(dead(folder))


def test_the_last_look_at_the_loss_is_told_and_that_another_model_is_live_since():
    told = {"created": TODAY, "line": "its log_loss has risen", "event": 2, "alarmed": "2026-03-07T00:00:00Z"}
    words = {number: Seen(site.index(of(champions(number), monitored=told, watched=True))).words for number in (1, 2)}
    assert all(
        "its log_loss has risen" in text and "an alarm at 2026-03-07 00:00:00" in text for text in words.values()
    )
    assert ["another model is live since" in words[number] for number in (1, 2)] == [False, True]


def test_ten_thousand_events_take_ten_times_as_long_as_a_thousand(tmp_path):
    took = {}
    for count in (334, 3334):  # champions, of three events each
        ledger, began = champions(count, hours=1), time.monotonic()
        names = [name for name, _ in site.pages(of(ledger))]
        took[count] = time.monotonic() - began
        assert len(set(names)) == len(names) == 1 + count + -(-3 * count // 200) + -(-(count + 1) // 200)
    assert took[3334] < 10 * 3 * took[334], took


def test_pages_of_200_rows_lead_to_each_other(tmp_path):
    ledger = champions(210, hours=1)
    folder = written(of(ledger), tmp_path)
    assert not list(dead(folder))
    assert [path.name for path in sorted(folder.glob("events*"))] == [
        "events-2.html",
        "events-3.html",
        "events-4.html",
        "events.html",
    ]
    shown = Seen((folder / "events-4.html").read_text()).words
    assert "Page 4 of 4" in shown and "#1 accepted" in shown and "#630" not in shown
    assert of(ledger).address(ledger.events[0]) == "events-4.html"
    assert of(ledger).address(ledger.events[-1]) == "events.html"
    assert f"from {ledger.lived[10].time[:10]}" in Seen((folder / "lives.html").read_text()).words


# The verbs


def test_the_site_is_whole_or_the_one_before(place, monkeypatch):
    place.promote("first")
    root = place.project.path
    project = Project(root)
    assert site.run(project) == f"4 pages of 2 events, model {place.key('first')[:12]} is live: build/site/index.html"
    assert "monitor.html" not in {path.name for path in (root / "build/site").iterdir()}
    (root / "build/monitor.html").write_text("the page of monitor")
    (root / "build/site/old.html").write_text("of before")
    site.run(project)
    files = {path.relative_to(root / "build/site").as_posix() for path in (root / "build/site").rglob("*.html")}
    assert files == {"index.html", "events.html", "lives.html", "monitor.html", "champion/000002.html"}
    assert not list(dead(root / "build/site"))

    def stopped(of):
        yield "index.html", "half"
        raise KeyboardInterrupt

    monkeypatch.setattr(site, "pages", stopped)
    with pytest.raises(KeyboardInterrupt):
        site.run(project)
    assert "half" not in (root / "build/site/index.html").read_text()
    assert not list((root / "build").glob(".site-*"))


def test_the_site_makes_the_page_of_monitor_anew_where_that_is_asked_for(bootstrapped):
    bootstrapped.cli("site")
    assert not (bootstrapped.path / "build/monitor.html").exists()
    told = f'RUN={sys.executable} -c "import sys; print(sys.argv[1:])"'
    assert bootstrapped.make("-s", "site", told, LIVE="1").stdout == "['site', '--live']\n"
    assert bootstrapped.make("-s", "site", told).stdout == "['site']\n"
    bootstrapped.cli("site", "--live")
    page = (bootstrapped.path / "build/site/monitor.html").read_text()
    assert page == (bootstrapped.path / "build/monitor.html").read_text() and "The live loss is not known" in page
    assert "its live loss is not known" in (bootstrapped.path / "build/site/index.html").read_text()


def test_monitor_writes_its_page_also_of_a_ledger_that_is_damaged(bootstrapped, one_line):
    bootstrapped.cli("monitor")
    text = (bootstrapped.path / "build/monitor.html").read_text()
    [*_, live] = json.loads(bootstrapped.cli("history", "--json").stdout)
    assert live["key"][:12] in text and "not known" in text
    told = json.loads((bootstrapped.path / "build/monitor.json").read_text())
    assert (told["event"], told["state"]) == (2, None)
    assert "4 pages of 2 events" in bootstrapped.cli("site").stdout
    assert (bootstrapped.path / "build/site/monitor.html").read_text() == text
    bootstrapped.git("update-ref", "-d", "refs/heads/ledger")
    assert bootstrapped.cli("monitor", check=False).returncode == 2
    assert "The ledger is damaged" in (bootstrapped.path / "build/monitor.html").read_text()
    one_line(bootstrapped.cli("site", check=False), 2, "ledger: this repository has the witness .*")


def test_every_kind_of_event_is_explained():
    assert set(site.ACTS) == set(KINDS)
