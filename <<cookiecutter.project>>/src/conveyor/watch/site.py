"""The verb `site`: the ledger as static pages, which need no script, no server and no network."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from conveyor.core.files import read_json, write_text
from conveyor.core.project import Project, now
from conveyor.deploy.monitor import days_since
from conveyor.ledger.events import Event
from conveyor.ledger.history import OF_NO_MODEL
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.state import State
from conveyor.report import sections, timeline
from conveyor.report.sections import Fact, Head, Section
from conveyor.report.wording import MEANING, Json, counted
from conveyor.watch.lives import Life, lives, moment, sure, words
from conveyor.watch.monitor import looked
from conveyor.watch.verdicts import Numbers, numbers

PAGE = 200  # rows of a table
NEWEST = 50  # champions on the first page
RUN = re.compile(r"(https://[\w.-]+/[\w.-]+/[\w.-]+)/actions/runs/\d+")
MONITORED = {"created": str, "line": str}
ACTS = {  # what an event means to a reader who does not know the ledger
    "accepted": "the gate accepted it",
    "live": "it went live",
    "confirmed": "later rows confirmed it",
    "aborted": "it did not come to serve",
    "kept": "the gate kept the champion",
    "blocked": "the gate blocked it",
    "approved": "a person approved it",
    "rolled_back": "a person went back to it",
    "quarantined": "a person banned it",
    "released": "it became a version",
    "pruned": "bytes of old models were deleted",
    "migrated": "the ledger changed its layout",
}


@dataclass(frozen=True)
class Site:
    """What the site shows.

    Attributes:
        title: the name of the project.
        state: of the ledger.
        today: when it is made, UTC.
        monitored: build/monitor.json; None: there is none.
        watched: whether there is a page of `monitor`.
    """

    title: str
    state: State
    today: str
    monitored: Json | None = None
    watched: bool = False

    @cached_property
    def lives(self) -> list[Life]:
        """The champions in order."""
        return lives(self.state.lived)

    @cached_property
    def chains(self) -> dict[str, list[Event]]:
        """The events of each model, by key, in order."""
        found: dict[str, list[Event]] = {}
        for event in self.state.events:
            if event.type not in OF_NO_MODEL:
                found.setdefault(event.key, []).append(event)
        return found

    def numbers(self, event: Event) -> Numbers | None:
        """What was measured of a champion when it was accepted for this time, or for an earlier one."""
        before = (each for each in reversed(self.chains[event.key]) if each.number <= event.number)
        return next((found for each in before if each.type in ("live", "accepted") and (found := numbers(each))), None)

    def address(self, event: Event) -> str:
        """The page of events that has this one."""
        return _paged("events", (self.state.number - event.number) // PAGE)


def run(project: Project, live: bool = False) -> str:
    """Write build/site from the ledger, and from the files of `monitor` if they are there.

    Args:
        live: look at the live loss first, as `monitor` does, but without its issue.

    Raises:
        Misuse: the ledger or build/monitor.json is damaged or cannot be read; with ``live`` as `monitor`.
    """
    if live:
        looked(project)
    build, ledger = project.build, ledger_of(project)
    told, watched = build / "monitor.json", build / "monitor.html"
    monitored = read_json(told, "monitor", MONITORED) if told.is_file() else None
    site = Site(project.name, ledger, now(), monitored, watched.is_file())
    build.mkdir(parents=True, exist_ok=True)
    fresh, place = Path(tempfile.mkdtemp(dir=build, prefix=".site-")), build / "site"
    try:
        count = 0
        for name, text in pages(site):
            write_text(fresh / name, text)
            count += 1
        if site.watched:
            shutil.copyfile(watched, fresh / "monitor.html")
        fresh.chmod(0o755)
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    said = f"model {ledger.lived[-1].key[:12]} is live" if ledger.lived else "nothing is live"
    return f"{counted(count, 'page')} of {counted(ledger.number, 'event')}, {said}: build/site/index.html"


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """The pages by name."""
    yield "index.html", index(site)
    yield from _tables(site, "lives", "What was live at a date?", _lives_rows(site), LIVES)
    yield from _tables(site, "events", "All events", [_event_row(site, e) for e in reversed(site.state.events)], EVENTS)
    for life in site.lives:
        yield _champion(life.event), champion(site, life)


LIVES = ("From, UTC", "To, UTC", "…Champion")
EVENTS = ("Event", "When and who", "…Model and why")


def _champion(event: Event) -> str:
    return f"champion/{event.number:06d}.html"


def _paged(name: str, page: int) -> str:
    return f"{name}-{page + 1}.html" if page else f"{name}.html"


def _head(
    site: Site, here: str, badge: str, headline: str, sentence: str, tone: str, facts: Sequence[Fact] = ()
) -> Head:
    """The head of each page, with links to the others."""
    up = "../" * here.count("/")
    names = [("Now", "index.html"), ("What was live at a date?", "lives.html"), ("All events", "events.html")]
    names += [("Live loss", "monitor.html")] * site.watched
    links = tuple((text, "" if name == here else up + name) for text, name in names)
    when = f"{words(site.today)} UTC"
    eyebrow, made = f"{site.title} · ledger · {when}", f"Made by make site at {when}."
    return Head(f"{site.title}: {headline}", eyebrow, tone, badge, headline, sentence, made, tuple(facts), links)


def _ended(text: str) -> str:
    """A sentence; a person may have ended it."""
    return f"{text.rstrip('.')}."


# The first page


def index(site: Site) -> str:
    """What is live now, the champions over time, the verdicts, and the last look at the live loss."""
    made = [over_time(site), verdicts(site), alarms(site)]
    return sections.document(_now(site), [section for section in made if section])


def _now(site: Site) -> Head:
    if not site.lives:
        what = "No model has become champion yet."
        return _head(site, "index.html", "nothing is live", "Nothing is live", what, "even")
    live = site.lives[-1].event
    age = days_since(live.time, site.today)
    since = f"champion/{live.number:06d}, since {words(live.time)} UTC"
    facts = [Fact("Live", live.key[:12], since), Fact("Age", counted(age, "day"), f"by {live.by}")]
    if found := site.numbers(live):
        facts.append(Fact(found.metric, f"{found.value:.4f}", found.told[1]))
    facts.append(Fact("Champions", f"{len(site.lives):,}", f"of {counted(site.state.number, 'event')}"))
    sentence = live.reason
    if waiting := site.state.pending():
        sentence += f". On its way: model {waiting.key[:12]}, event {waiting.number} ({waiting.type})"
    return _head(site, "index.html", "live", f"Model {live.key[:12]} is live", _ended(sentence), "good", facts)


def over_time(site: Site) -> Section | None:
    """The champions: a picture of the newest, and a table with the metric of each."""
    if not site.lives:
        return None
    shown = site.lives[-timeline.MARKS :]
    measured = [(life, site.numbers(life.event)) for life in shown]
    gains = [
        timeline.Gain(moment(life.event.time), found.gain, found.low, found.high)
        for life, found in measured
        if found and found.gain is not None and found.low is not None and found.high is not None
    ]
    label = (
        f"{counted(len(shown), 'champion')} from {words(shown[0].event.time)} until now; the newest {shown[-1].label}"
    )
    drawn = timeline.lived([life.period(site.today) for life in shown], gains, label)
    caption = "Shaded and plain stretches are champions, by event and key."
    if gains:
        caption += (
            " A dot is the gain over the champion before it, as the gate measured it on rows that neither had seen; the"
            " bar is its interval, and green where that lies above zero."
        )
    if len(shown) < len(site.lives):
        caption += f" Shown are the newest {len(shown)} of {len(site.lives):,}."
    rows = []
    for life in site.lives[: -NEWEST - 1 : -1]:
        event, found = life.event, site.numbers(life.event)
        name = sections.joined(sections.link(f"#{event.number}", _champion(event)), sections.small(event.key[:12]))
        told = sections.joined(found.told[0], sections.small(found.told[1])) if found else event.reason
        rows.append((name, _span(life), told))
    body = sections.joined(
        sections.figure("Champions over time", *drawn, caption),
        sections.table(["Event", "Live, UTC", "…Metric, or the reason"], rows),
    )
    if len(site.lives) > NEWEST:
        more = sections.link(f"All {len(site.lives):,} champions", "lives.html")
        body = sections.joined(body, sections.note(more))
    return Section("champions", "Which model was live when?", body)


def _span(life: Life) -> Markup:
    start, end = life.times()
    return sections.lines(sections.kept(start), sections.kept(f"to {end}"), sure(life.event))


def verdicts(site: Site) -> Section | None:
    """How often each outcome of the gate was."""
    judged = [event for event in site.state.events if event.type in ("accepted", "kept", "blocked")]
    if not judged:
        return None
    last = {event.outcome: event for event in judged}
    rows = []
    for outcome, count in Counter(event.outcome for event in judged).most_common():
        event = last[outcome]
        link = sections.link(f"event {event.number}", site.address(event))
        when = sections.joined(sections.kept(words(event.time)), sections.small(link))
        rows.append(
            (sections.joined(outcome, sections.small(MEANING.get(outcome, ("", "", ""))[1])), f"{count:,}", when)
        )
    return Section(
        "verdicts", "What did the gate say?", sections.table(["Outcome", "#Verdicts", "Last one, UTC"], rows)
    )


def alarms(site: Site) -> Section:
    """What the last look at the live loss found."""
    title, told = "Has the live loss risen?", site.monitored
    if told is None:
        return Section("alarms", title, sections.note("Not known here: make monitor was not run before make site."))
    lines = [f"{words(told['created'])} UTC: {told['line'] or 'nothing was live'}"]
    for name, what in (("started", "The change most likely began at"), ("alarmed", "There was an alarm at")):
        lines += [f"{what} {words(str(told[name]))} UTC"] if told.get(name) else []
    champion = site.state.champion()
    if champion and told.get("event") not in (None, champion.event):
        lines.append(f"That look was at champion/{told['event']:06d}; another model is live since")
    body = sections.items(lines)
    if site.watched:
        body = sections.joined(body, sections.note(sections.link("The live loss over time", "monitor.html")))
    return Section("alarms", title, body)


# One champion


def champion(site: Site, life: Life) -> str:
    """The page of one champion: its events, and what was live before and after it."""
    event, here = life.event, _champion(life.event)
    start, end = life.times()
    tone, badge = ("even", "was live") if life.after else ("good", "live")
    facts = [Fact("From", start, "UTC"), Fact("To", end, "UTC" if life.after else "it is live")]
    if found := site.numbers(event):
        facts.append(Fact(found.metric, f"{found.value:.4f}", found.told[1]))
    head = _head(site, here, badge, f"Model {event.key[:12]}", _ended(event.reason), tone, facts)
    return sections.document(head, [origin(event), chain(site, event), around(life)])


def origin(event: Event) -> Section:
    """From what the model was made, by digests, and where its files are."""
    home = RUN.fullmatch(event.run or "")
    commit = sections.web(sections.code(event.commit), f"{home[1]}/commit/{event.commit}" if home else None)
    rows: list[tuple[str, sections.Text]] = [
        ("Key", sections.code(event.key)),
        ("Digest", sections.code(event.digest)),
        ("Commit", commit),
        ("Data", sections.code(event.data_sha256)),
    ]
    if event.run:
        rows.append(("Run", sections.web(event.run, event.run)))
    text = (
        "The run keeps report, Data Docs and model as artifacts while GitHub keeps them. A version has the model card."
    )
    return Section("origin", "What is it made of?", sections.joined(sections.pairs(rows), sections.note(text)))


def chain(site: Site, event: Event) -> Section:
    """The newest events of this model."""
    own = site.chains[event.key]
    rows = [_event_row(site, each, "../") for each in own[: -PAGE - 1 : -1]]
    title = (
        "What happened to it?" if len(own) <= PAGE else f"What happened to it? The newest {PAGE} of {len(own):,} events"
    )
    return Section("events", title, sections.table(list(EVENTS), rows))


def around(life: Life) -> Section:
    """The champions before and after."""
    lines: list[sections.Text] = []
    for name, other in (("Before it", life.before), ("After it", life.after)):
        told: sections.Text = "none"
        if other:
            told = sections.link(f"#{other.number} {other.key[:12]}", f"../{_champion(other)}")
        lines.append(Markup("{}: {}").format(name, told))
    return Section("around", "What was live before and after it?", sections.items(lines))


# All of them


def _event_row(site: Site, event: Event, up: str = "") -> tuple[Markup, Markup, Markup]:
    lived = f"{up}{_champion(event)}" if event.type == "live" else None
    name = sections.joined(sections.link(f"#{event.number}", lived), sections.small(event.type.replace("_", " ")))
    who = sections.joined(sections.kept(words(event.time)), sections.small(event.by), sections.small(sure(event)))
    model: sections.Text = "" if event.type in OF_NO_MODEL else sections.code(event.key[:12])
    told = [model, f" {ACTS[event.type]}", sections.small(event.reason)]
    if event.replaces:
        told.append(sections.small(f"in place of {event.replaces[:12]}"))
    home = RUN.fullmatch(event.run or "")
    if event.tag:
        told.append(
            sections.small(sections.web(event.tag, f"{home[1]}/releases/tag/{quote(event.tag)}" if home else None))
        )
    if event.run:
        told.append(sections.small(sections.web("the run, with its report" if home else event.run, event.run)))
    return name, who, sections.joined(*told)


def _lives_rows(site: Site) -> list[tuple[Markup, Markup, Markup]]:
    rows = []
    for life in reversed(site.lives):
        start, end = life.times()
        name = sections.link(f"#{life.event.number} {life.event.key[:12]}", _champion(life.event))
        rows.append((sections.kept(start), sections.kept(end), sections.joined(name, sections.small(sure(life.event)))))
    if site.lives:
        rows.append(
            (sections.kept("before"), sections.kept(words(site.lives[0].event.time)), sections.shown("nothing"))
        )
    return rows


def _tables(
    site: Site, name: str, title: str, rows: Sequence[Sequence[Markup]], columns: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """A table over as many pages as it needs, the newest rows first."""
    parts = [rows[at : at + PAGE] for at in range(0, len(rows), PAGE)] or [()]
    for page, part in enumerate(parts):
        here, links = _paged(name, page), []
        for other, some in enumerate(parts):
            text = f"page {other + 1}"
            if name == "lives" and len(parts) > 1:
                text += f": {'the first ones' if other == len(parts) - 1 else f'from {some[-1][0].striptags()[:10]}'}"
            links.append(sections.link(text, None if other == page else _paged(name, other)))
        body = sections.table(list(columns), part) if part else sections.note("There is none yet.")
        if len(parts) > 1:
            body = sections.joined(sections.note(Markup(" · ").join(links)), body)
        told = f"{counted(len(rows), 'row')}, the newest first. All times are in UTC."
        head = _head(site, here, "ledger", title, told, "even")
        yield here, sections.document(head, [Section(name, f"Page {page + 1} of {len(parts)}", body)])
