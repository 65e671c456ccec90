"""The last act of the demo: a model is live, the world changes, an alarm says so, and a retrained model replaces it.

The flights are those of the sample, in a repository of its own. Their real labels drift too little to be seen in eight
weeks: so a label says here whether a flight leaves late in the day, and from a day on whether it flies far; a fifth of
the labels is wrong.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

DATA, LOG = "data/flights.csv.gz", "build/log"
KNOWN, CHANGED, END = 60, 66, 118  # days: of the first champion's data, until the change, in all
COUNT = 100  # flights of a day


def rows_of(file: Path) -> pd.DataFrame:
    """The flights of the first days, as text, with labels of the two worlds."""
    rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    time = pd.to_datetime(rows["scheduled"])
    rows["day"] = (time.dt.floor("D") - time.min().floor("D")).dt.days
    minute, distance = (pd.to_numeric(rows[name]).to_numpy() for name in ("departure_minute", "distance"))
    before, after = minute > np.median(minute), distance > np.median(distance)
    wrong = np.random.default_rng(7).random(len(rows)) < 0.2
    rows["late"] = (np.where(rows["day"] >= CHANGED, after, before) ^ wrong).astype(int).astype(str)
    return rows[rows["day"] < END].groupby("day").head(COUNT)


def logged(rows: pd.DataFrame, predicted: Path, key: str, log: Path) -> None:
    """Write the log that a service would have written, by what the champion has predicted."""
    said = pd.read_csv(predicted)["prediction"]
    log.mkdir(parents=True, exist_ok=True)
    with (log / "predictions-demo.jsonl").open("w", encoding="utf-8") as out:
        for place, (row, prediction) in enumerate(zip(rows.to_dict("records"), said, strict=True)):
            features = {name: _typed(value) for name, value in row.items() if name not in ("late", "day")}
            told = {"id": f"{place:032x}", "request": None, "row": 1, "time": row["scheduled"], "model": key}
            out.write(json.dumps({**told, "features": features, "prediction": float(prediction)}) + "\n")


def _typed(text: str) -> object:
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else text or None


def play(repo: Path, git: Callable[..., str], environment: dict[str, str]) -> str:
    """The act, in a repository as generated; returns how it went, in words."""

    def told(expected: str, *words: str) -> str:
        """What a verb says, which must hold ``expected``."""
        done = subprocess.run(
            ["make", "--no-print-directory", *words],
            cwd=repo,
            env={**environment, "PREDICTION_LOG": f"file://{repo / LOG}"},
            capture_output=True,
            text=True,
        )
        print(done.stdout + done.stderr, end="")
        if done.returncode or expected not in done.stdout:
            sys.exit(f"error: `make {' '.join(words)}` should say {expected!r}")
        return done.stdout

    rows = rows_of(repo / DATA)
    known, live = (part.drop(columns="day") for part in (rows[rows["day"] < KNOWN], rows[rows["day"] >= KNOWN]))
    (repo / DATA).write_bytes(gzip.compress(known.to_csv(index=False).encode(), mtime=0))
    live.to_csv(repo / "live.csv", index=False)
    params = (repo / "params.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("source: null ", "source: {command: cat live.csv} "),
        ("retrain: null ", "retrain: propose "),
        ("labels: null ", "labels: live.csv "),
    ):
        params = params.replace(old, new)
    (repo / "params.yaml").write_text(params, encoding="utf-8")
    told("pinned", "data-lock")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--message", f"{KNOWN} days of flights")
    print(f"\na champion of {KNOWN} days:")
    told("bootstrap", "pipeline")
    key = json.loads(git(repo, "show", "ledger:champion.json"))["champion"]["key"]
    print(f"\nit is live for {END - KNOWN} days; from day {CHANGED - KNOWN} on labels follow another rule:")
    told("rows", "predict", "IN=live.csv", "OUT=build/answers.csv")
    logged(live, repo / "build" / "answers.csv", key, repo / LOG)
    told("has risen", "monitor")
    print("\na challenger learns the newer rows:")
    told("makes a pull request of the rows", "retrain")
    git(repo, "commit", "--quiet", "--all", "--message", "newer rows")
    said = told("promote", "pipeline")
    told("build/site", "site")
    champion = re.findall(r"champion/\d+", said)[-1]
    return f"an alarm, and {champion} in its place"
