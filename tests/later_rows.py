"""Rows that come after a champion's data, with labels that make one model better, for tests of several files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import ROOT

from conveyor.core.project import Project
from conveyor.data import formats
from conveyor.ledger.ledger import ledger_of
from conveyor.model.bundle import Bundle
from conveyor.model.scoring import of_own_bundle

SAMPLE = ROOT / "<<cookiecutter.project>>" / "data" / "flights.csv.gz"
LATER = ROOT / "tools" / "flights-july-december.csv.gz"
DATA = "data/flights.csv.gz"
KEY = ["scheduled", "carrier", "flight", "origin"]


def answered(project, log: Path, rows: pd.DataFrame) -> None:
    """Writes the log of these rows, with ``time``, ``model`` and ``prediction``, and labels.csv with their labels."""
    log.mkdir(exist_ok=True)
    keys = rows[KEY].assign(scheduled=rows["scheduled"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_dict("records")
    times = rows["time"].dt.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    told = [
        {"id": f"{n:032x}", "request": None, "row": 1, "time": t, "model": m, "features": key, "prediction": p}
        for n, (t, m, key, p) in enumerate(zip(times, rows["model"], keys, rows["prediction"], strict=True))
    ]
    (log / "predictions-1.jsonl").write_text("".join(json.dumps(each) + "\n" for each in told))
    rows[[*KEY, "late"]].to_csv(project.path / "labels.csv", index=False)


def predicted(project) -> pd.DataFrame:
    """The flights of the second half of 2013 as the champion has answered them."""
    here = Project(project.path)
    champion = ledger_of(here).champion()
    rows = formats.read({"": LATER.read_bytes()}, "flights", (), ())
    with of_own_bundle(here, ledger_of(here).bundle(champion), rows) as scored:
        rows["prediction"] = scored.predictions
    return rows.assign(time=rows["scheduled"], model=champion.key)


def comes(project, days: int, better: str = "new", since: int = 0) -> None:
    """Adds the rows of so many days to the data. Their labels are those that one champion predicts, with some noise.

    Args:
        better: which champion that is, the "new" or the "old" one.
        since: the first day of them that has rows.
    """
    here = Project(project.path)
    ledger = ledger_of(here)
    live = ledger.lived[-1 if better == "new" else 0]
    rows = formats.read({"": LATER.read_bytes()}, "flights", (), ())
    begin = pd.Timestamp("2013-07-01T00:00Z")
    rows = rows[rows["scheduled"].between(begin + pd.Timedelta(days=since), begin + pd.Timedelta(days=days))]
    with of_own_bundle(here, ledger.bundle(live.champion, f"of-{better}"), rows) as scored:
        p = scored.predictions
    rows["late"] = ((p > np.median(p)) ^ (np.random.default_rng(3).random(len(p)) < 0.1)).astype(int)
    rows["scheduled"] = rows["scheduled"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    known = pd.read_csv(project.path / DATA, dtype=str, keep_default_na=False)
    both = pd.concat([known, rows.astype(object).where(rows.notna(), "").astype(str)])
    both.to_csv(project.path / DATA, index=False)
    project.cli("data-lock")


def departures(days: int, changed_after: int | None = None) -> pd.DataFrame:
    """Flights of so many days, as text. Who leaves late in the day is late, but for some noise.

    Args:
        changed_after: the days from which on it is the other way round; None: it never changes.
    """
    rows = pd.read_csv(SAMPLE, dtype=str, keep_default_na=False)
    day = pd.to_datetime(rows["scheduled"]).dt.floor("D")
    since = (day - day.min()).dt.days.to_numpy()
    minute = pd.to_numeric(rows["departure_minute"]).to_numpy()
    late = (minute > np.median(minute)) ^ (np.random.default_rng(4).random(len(rows)) < 0.2)
    if changed_after is not None:
        late = late ^ (since >= changed_after)
    return rows.assign(late=late.astype(int).astype(str))[since < days]


def champion_of(project, days: int) -> None:
    """The project's data are the departures of so many days, and a model of them is the first champion."""
    departures(days).to_csv(project.path / DATA, index=False, compression={"method": "gzip"})
    project.cli("data-lock")
    project.git("commit", "--quiet", "--all", "--message", f"{days} days")
    for step in ("validate", "train"):
        project.cli(step)
    here = Project(project.path, push=True)
    ledger = ledger_of(here)
    ledger.live(ledger.accept(Bundle(here.build / "candidate"), 0, "bootstrap", "for this test"))
