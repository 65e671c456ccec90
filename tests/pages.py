"""What pages show: ledgers of any length as states, looks at production, and live losses; nothing is read from disk."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from conveyor.deploy.monitor import Look
from conveyor.ledger.events import Event
from conveyor.ledger.state import State
from conveyor.watch import page, site
from conveyor.watch.alarm import watch
from conveyor.watch.loss import Blocks

TODAY = "2026-08-30T05:17:00Z"
RUN = "https://github.com/your-team/late-flights/actions/runs/7"
BETTER = "shown to be better: roc_auc 0.7123 against 0.7001, gain +0.0122 [+0.0031, +0.0213] on 3000 rows"
FIRST = "no champion yet and every floor holds: roc_auc 0.6912 on 3000 rows"
COUNTS = ("predictions: 20,000; with a label: 18,000; without: 2,000", "labels without a prediction: 3")
HOSTILE = '<script>alert(1)</script> | `x` **y** [click](javascript:alert(1)) {{ 7 * 7 }} "><img src=x onerror=y>'


def event(number: int, kind: str, key: str = "a", hours: float = 1.0, **more) -> Event:
    """The event of that number, so many hours after the one before it."""
    time = (datetime(2026, 1, 1) + timedelta(hours=hours * number)).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = {"commit": "c" * 40, "data_sha256": "d" * 64, "run": RUN, "by": "Ada", "outcome": "promote"}
    given |= {"schema": 1, "number": number, "type": kind, "time": time, "key": (key * 64)[:64], "digest": "b" * 64}
    return Event.model_validate(given | {"reason": BETTER} | more)


def state(*events: Event) -> State:
    made = State()
    for each in events:
        made.add(each)
    return made


def champions(count: int, hours: float = 200.0, **more) -> State:
    """A ledger of so many champions, each with a model of its own, and a verdict that kept each."""
    found: list[Event] = []
    for place in range(count):
        key, why = f"{place:04x}", {"outcome": "bootstrap", "reason": FIRST} if place == 0 else {}
        for kind, told in (("accepted", why), ("live", why), ("kept", {"outcome": "keep"})):
            owner = key if kind != "kept" else f"{place:04x}f"
            found.append(event(len(found) + 1, kind, owner, hours, **told | more))
    return state(*found)


def measured(rise: float = 0.0, live: int = 90, holdout: int = 37, seed: int = 1) -> page.Measured:
    """The loss of so many days from June on, of which the second half is higher by ``rise``."""
    draw = np.random.default_rng(seed)
    promised, losses = (draw.gamma(30, 0.02, count) for count in (holdout, live))
    losses[live // 2 :] += rise
    numbers = np.arange(20_600, 20_600 + live)
    return page.Measured(
        "log_loss", "day", 0.05, Blocks(losses, numbers, np.full(live, 120)), watch(promised, losses, numbers)
    )


def given(of: State, found: page.Measured | None = None, line: str = "its log_loss is told", **more) -> page.Given:
    """What the page of `monitor` is made from."""
    told = {"state": found and found.seen.state, "line": line, "measured": found, "counts": COUNTS if found else ()}
    return page.Given("late-flights", Look(of, more.pop("damages", ()), TODAY, more.pop("died", ())), **told | more)


def written(of: site.Site, folder: Path) -> Path:
    """The site in a folder, as `run` writes it."""
    for name, text in site.pages(of):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


class Seen(HTMLParser):
    """Text, tags and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.links, self.text, self.labels, self.inside = [], [], "", [], ""
        self.feed(text)
        self.words = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [found["href"]] if tag == "a" else []
        self.labels += [found["aria-label"]] if tag == "svg" else []
        self.inside = tag

    def handle_endtag(self, tag):
        self.text += " " if tag in ("td", "th", "dt", "dd", "small", "span") else ""

    def handle_data(self, data):
        self.text += "" if self.inside == "style" else data


def dead(folder: Path) -> Iterator[str]:
    """The links of the pages in a folder that lead to no file there."""
    for path in sorted(folder.rglob("*.html")):
        for link in Seen(path.read_text(encoding="utf-8")).links:
            if not link.startswith("https://"):
                target = (path.parent / unquote(link)).resolve()
                if not (target.is_file() and target.is_relative_to(folder.resolve())):
                    yield f"{path.relative_to(folder)}: {link}"
