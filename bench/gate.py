"""How often the gate is right: thousands of decisions about data that are drawn with a known truth.

    make bench-gate                          # all of them, which takes its time
    .venv/bin/python bench/gate.py 0.02 2000 # a fiftieth of those about at most 2 000 rows

Writes docs/gate.md (the tables) and docs/gate.svg (the picture) when all decisions are made, build/bench/gate.json
always. Decisions are drawn from fixed seeds, so that a second run finds the same.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
from product import ROOT
from worlds import World, even, one_large, series, within

from conveyor.core.params import Gate, Guards
from conveyor.core.tasks import METRICS as METRICS_OF
from conveyor.gate.decide import compare, decide
from conveyor.gate.metrics import METRICS, at, value

CONFIDENCE, GUARDS = 0.95, 0.99
SAME = 1.0  # what a model does not see of the signal; both models of a neutral change have it
RESAMPLED = ("average_precision", "balanced_accuracy", "precision", "recall", "f1", "rmse", "r2")
MANY = 4_000  # decisions of a row that has a bound
SAMPLE = ROOT / "<<cookiecutter.project>>" / "data" / "flights.csv.gz"
UNEVEN = one_large(0.3, 50)
WORLDS = {
    "balanced": World(),
    "1 % positive": World(share=0.01),
    "3 classes": World(task="multiclass"),
    "numbers": World(task="regression"),
    "groups of ten": World(shared=within(even(10), 0.8), groups=even(10)),
    "days of 100 rows, alike by .3": World(shared=within(even(100), 0.3), groups=even(100)),
    "one group of 30 %, alike by .3": World(shared=within(UNEVEN, 0.3), groups=UNEVEN),
    "one group of 30 %, alike by .8": World(shared=within(UNEVEN, 0.8), groups=UNEVEN),
    "numbers, one group of 30 %": World("regression", shared=within(UNEVEN, 0.3), groups=UNEVEN),
    "hours, AR(.9), by days": World(shared=series(0.9), groups=even(24)),
    "hours, AR(.98), by days": World(shared=series(0.98), groups=even(24)),
    "20 rows a step, AR(.7)": World(shared=series(0.7, 20), groups=even(20)),
    "20 rows a step, AR(.7), half their own": World(shared=series(0.7, 20, 0.5), groups=even(20)),
    "days of 50 rows, AR(.9)": World("regression", shared=series(0.9, 50, 0.5), groups=even(50)),
    "days of 50 rows, AR(.8) of weekdays": World("regression", shared=series(0.8, 50, 0.5, 7), groups=even(50)),
    "hours, AR(.9), each row alone": World(shared=series(0.9)),
    "lognormal numbers": World("regression", tail="lognormal"),
    "numbers of t(3)": World("regression", tail="t3"),
    "small gains, rare losses": World("regression", tail="rare loss"),
    "all but separated": World(apart=8.0),
}


@dataclass(frozen=True)
class Case:
    """Decisions of one kind.

    Attributes:
        table: the table of docs/gate.md that shows them.
        kind: a name of WORLDS, or "flights".
        rows, metric: of one decision.
        better: how much less noise the challenger has than the champion; 0: they are equally good.
        tries: how many decisions.
        margin: which gain the rule asks for: "none", "truth" (the real gain), "loss" (not inferior by the real loss).
        segment: how much more noise the challenger has in a tenth of the rows, which is guarded; None: no such tenth.
        promised: whether the gate promises its bound there.
    """

    table: str
    kind: str
    rows: int
    metric: str
    better: float = 0.0
    tries: int = MANY
    margin: str = "none"
    segment: float | None = None
    promised: bool = True

    @property
    def task(self) -> str:
        return "binary" if self.kind == "flights" else WORLDS[self.kind].task


def cases() -> list[Case]:
    """All decisions, a table after the other."""
    every = {
        "balanced": tuple(name for name, tasks in METRICS_OF.items() if "binary" in tasks),
        "1 % positive": ("roc_auc", "average_precision", "log_loss", "f1"),
        "3 classes": ("log_loss", "accuracy", "f1"),
        "numbers": ("rmse", "mae", "r2"),
        "groups of ten": ("roc_auc", "average_precision", "log_loss", "f1"),
    }
    made = [
        Case("equal", kind, rows, metric)
        for kind, metrics in every.items()
        for few in (200, 2000)
        for metric in metrics
        for rows in [min(few, 500) if metric in RESAMPLED else few]
    ]
    made += [Case("equal", kind, 20_000, metrics[0]) for kind, metrics in every.items()]
    for kind in WORLDS:
        if "day" in kind or "30 %" in kind or "20 rows" in kind or "alone" in kind:
            rows = 20_000 if "20 rows" in kind else 3700 if "100 rows" in kind else 2000
            metrics = ("mae",) if WORLDS[kind].task == "regression" else ("log_loss", "roc_auc")
            made += [Case("together", kind, rows, m, promised="alone" not in kind) for m in metrics]
    made += [Case("together", "flights", 0, metric) for metric in ("log_loss", "roc_auc")]
    made += [
        Case("tails", kind, rows, metric)
        for kind in ("lognormal numbers", "numbers of t(3)")
        for rows in (100, 200, 500)
        for metric in ("rmse", "r2", "mae")
    ]
    made += [Case("tails", "small gains, rare losses", rows, "mae") for rows in (200, 500, 2000)]
    for kind, rows, metric, better in (
        ("balanced", 2000, "roc_auc", 0.15),
        ("balanced", 2000, "log_loss", 0.15),
        ("numbers", 500, "mae", 0.2),
        ("lognormal numbers", 200, "rmse", 0.2),
        ("lognormal numbers", 500, "rmse", 0.2),
    ):
        made += [Case("boundary", kind, rows, metric, better, margin="truth")]
        made += [Case("boundary", kind, rows, metric, -better, margin="loss")]
    made += [
        Case("segments", "balanced", rows, "roc_auc", better, 400, segment=harmed, promised=False)
        for rows in (2000, 5000, 20_000)
        for better, harmed in ((0.25, 0.6), (0.25, None))
    ]
    made += [
        Case("power", "balanced", rows, "roc_auc", better, 400)
        for rows in (500, 2000, 8000)
        for better in (-0.3, -0.15, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
    ]
    return made


def draw(generator: np.random.Generator, case: Case, rows: int | None = None):
    """Labels, predictions of champion and challenger, groups or None, and segments (n,)."""
    n = rows or case.rows
    if case.kind == "flights":
        return flights(generator)
    y, (champion, challenger), groups = WORLDS[case.kind].draw(generator, n, (SAME, SAME * (1 - case.better)))
    segments = generator.integers(0, 5, n).astype(str)
    if case.segment is not None:
        tenth = slice(0, n // 10)
        noises = SAME, SAME * (1 + case.segment)
        y[tenth], (champion[tenth], challenger[tenth]), _ = WORLDS[case.kind].draw(generator, n // 10, noises)
    if case.table == "segments":
        segments = np.where(np.arange(n) < n // 10, "a tenth", "the rest")
    return y, (champion, challenger), groups, segments


@cache
def _departures() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions of two models and the day of each departure of the sample's holdout.

    The models are forests of two seeds: equally good, and as like as two models of a team are.
    """
    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier

    frame = pd.read_csv(SAMPLE, parse_dates=["scheduled"])
    frame = frame.sort_values("scheduled", kind="stable")
    known = frame.drop(columns=["late", "scheduled", "flight"])
    codes = pd.get_dummies(known, dtype=float).fillna(-1).to_numpy()
    y = (frame["late"] == frame["late"].max()).astype(np.int64).to_numpy()
    old = int(0.5 * len(y))
    said = [
        RandomForestClassifier(60, min_samples_leaf=10, random_state=seed, n_jobs=1)
        .fit(codes[:old], y[:old])
        .predict_proba(codes[old:])[:, 1]
        for seed in (1, 2)
    ]
    days = np.unique(frame["scheduled"].dt.floor("D").to_numpy()[old:], return_inverse=True)[1]
    return y[old:], said[0], said[1], days


def flights(generator: np.random.Generator):
    """Forty real days, drawn whole; on each either model may be the champion, so that neither is better."""
    y, one, other, days = _departures()
    drawn = generator.integers(0, days.max() + 1, 40)
    rows = [np.flatnonzero(days == day) for day in drawn]
    groups = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    swapped = (generator.random(len(rows)) < 0.5)[groups]
    rows = np.concatenate(rows)
    champion = np.where(swapped, one[rows], other[rows])
    challenger = np.where(swapped, other[rows], one[rows])
    return y[rows], (champion, challenger), groups, generator.integers(0, 5, len(rows)).astype(str)


def truth(case: Case) -> float:
    """The gain that the challenger really has, from four million rows."""
    if not case.better:
        return 0.0
    generator, metric = np.random.default_rng(1), at(METRICS[case.metric], 0.5)
    y, (champion, challenger), *_ = draw(generator, replace(case, segment=None, table=""), 4_000_000)
    gain = value(metric, y, challenger) - value(metric, y, champion)
    return gain if metric.higher_is_better else -gain


def guarded(case: Case) -> bool:
    """Whether five segments are guarded and, where rows are independent, the calibration.

    Each resample of a guard takes time, so that some rows do without.
    """
    closed = case.metric not in RESAMPLED or (case.metric in ("f1", "rmse") and case.rows == 200)
    first = case.rows == 200 or (case.rows == 2000 and case.metric in ("roc_auc", "mae"))
    return case.table == "together" or (case.table == "equal" and closed and first)


def rule_of(case: Case, real: float) -> Gate:
    """The rule of a case; where the models are equally good, the guards have no margin."""
    margin = {"none": 0.0, "truth": max(real, 0.0), "loss": max(-real, 0.0)}[case.margin]
    guards = Guards(
        confidence=GUARDS,
        segments=("segment",) if guarded(case) or case.table == "segments" else (),
        segment_margin=0.02 if case.table == "segments" else 0,
        calibration_margin=0 if guarded(case) and case.table != "together" else None,
        min_rows=100 if case.table == "segments" else 40,
        doubt=0.1 if case.table == "segments" else 0,
    )
    wanted = "non_inferior" if case.margin == "loss" else "superior"
    return Gate(metric=case.metric, promote_when=wanted, margin=margin, confidence=CONFIDENCE, guards=guards)


def decide_many(case: Case) -> dict:
    """One row of a table."""
    import pandas as pd

    higher, began = METRICS[case.metric].higher_is_better, time.monotonic()
    real = truth(case)
    rule = rule_of(case, real)
    counts = dict.fromkeys(("promote", "keep", "block"), 0)
    holds = intervals = point = rows = 0
    for number in range(case.tries):
        seed = crc32(f"{case.table} {case.kind} {case.metric} {case.better} {case.segment}".encode())
        generator = np.random.default_rng([number, case.rows, seed])
        y, (champion, challenger), groups, segments = draw(generator, case)
        parts = pd.DataFrame({"segment": segments}) if rule.guards.segments else None
        made = decide(y, champion, challenger, rule, None, case.task, groups, parts, every_metric=False)
        counts[made.outcome] += 1
        rows += len(y)
        [m] = made.metrics
        if m.gain_low is not None:
            intervals += 1
            holds += m.gain_low <= real <= m.gain_high
        if m.champion is not None:
            point += m.challenger >= m.champion if higher else m.challenger <= m.champion
    return {
        **asdict(case),
        "rows": rows // max(case.tries, 1),
        "guarded": guarded(case),
        "gain": real,
        **counts,
        "coverage": holds / intervals if intervals else None,
        "intervals": intervals,
        "new >= old": point,
        "seconds": time.monotonic() - began,
    }


def error_of(level: float, tries: int) -> float:
    """The Monte-Carlo error of a share."""
    return float(np.sqrt(level * (1 - level) / tries))


def kept(count: int, tries: int, level: float, errors: float = 4) -> bool:
    """Whether a count is no more than the level allows, within so many Monte-Carlo errors.

    Four, because a hundred counts are looked at: one of them is beyond three by chance alone every few runs.
    """
    return count / tries <= level + errors * error_of(level, tries)


def broken(rows: list[dict]) -> list[dict]:
    """The rows in which the gate is wrong more often than it promises."""
    found = []
    for row in rows:
        if row["promised"] and row["table"] in ("equal", "together", "tails", "boundary"):
            wrong = not kept(row["promote"], row["tries"], 1 - CONFIDENCE)
            harmless = row["table"] != "boundary"
            if wrong or (harmless and not kept(row["block"], row["tries"], 1 - GUARDS)):
                found.append(row)
    return found


def cost() -> dict[str, float]:
    """Seconds of CPU for a decision about two million rows with all metrics, five segments and calibration."""
    import pandas as pd

    took = {}
    for kind, metric in (("balanced", "roc_auc"), ("numbers", "rmse")):
        generator = np.random.default_rng(1)
        case = Case("cost", kind, 2_000_000, metric)
        y, (champion, challenger), groups, segments = draw(generator, case)
        guards = Guards(confidence=GUARDS, segments=("segment",))
        rule = Gate(metric=metric, promote_when="superior", margin=0, confidence=CONFIDENCE, guards=guards)
        began = time.process_time()
        frame = pd.DataFrame({"segment": segments})
        decide(y, champion, challenger, rule, None, case.task, groups, frame)
        took[kind] = time.process_time() - began
    return took


OWN = [  # data, rows and metric of the intervals of one model alone
    ("balanced", 200, "roc_auc"),
    ("balanced", 200, "accuracy"),
    ("balanced", 200, "f1"),
    ("all but separated", 2000, "roc_auc"),
    ("hours, AR(.9), by days", 2000, "log_loss"),
    ("one group of 30 %, alike by .3", 2000, "roc_auc"),
    ("numbers", 200, "rmse"),
    ("numbers of t(3)", 200, "rmse"),
    ("lognormal numbers", 200, "rmse"),
    ("lognormal numbers", 200, "mae"),
]


def own(kind: str, rows: int, name: str, tries: int) -> dict:
    """How often the interval of one model's metric, from so many rows, holds what four million rows measure."""
    metric, world = at(METRICS[name], 0.5), WORLDS[kind]
    rule = Gate(metric=name, promote_when="superior", margin=0, confidence=CONFIDENCE, guards=Guards())
    y, (said, _), _ = world.draw(np.random.default_rng(1), 4_000_000, (SAME, SAME))
    real = value(metric, y, said)
    below = above = told = 0
    for number in range(tries):
        seed = crc32(f"own {kind} {name}".encode())
        y, (said, _), groups = world.draw(np.random.default_rng([number, rows, seed]), rows, (SAME, SAME))
        made = compare(name, y, None, said, rule, groups)
        if made.challenger_low is not None:
            told += 1
            below += made.challenger_high < real
            above += made.challenger_low > real
    return {"kind": kind, "rows": rows, "metric": name, "real": real, "told": told, "below": below, "above": above}


def author(tries: int) -> dict:
    """An author who adds up noise by the gains that 200 pull requests reported: promoted how often, and how much worse.

    Each pull request adds noise of its own to the champion's answers; the last one adds the sum of all noises, weighted
    by their reported gains. So it knows the luck of the rows, and nothing else.
    """
    from scipy.special import expit, logit

    rule = Gate(
        metric="log_loss",
        promote_when="superior",
        margin=0,
        confidence=CONFIDENCE,
        guards=Guards(calibration_margin=None),
    )
    metric, rows, requests = METRICS["log_loss"], 2000, 200
    promoted, reported, real = 0, [], []
    for number in range(tries):
        generator = np.random.default_rng([number, rows, requests])
        fresh = 20 * rows  # rows that come later tell the real gain
        y, (champion, _), _ = WORLDS["balanced"].draw(generator, rows + fresh, (SAME, SAME))
        noises, said = generator.normal(size=(requests, len(y))).astype(np.float32), logit(champion)
        judged, later = slice(0, rows), slice(rows, None)
        losses = [metric.function(y[judged], expit(said[judged] + 0.1 * noise[judged])).mean() for noise in noises]
        gains = metric.function(y[judged], champion[judged]).mean() - np.array(losses)
        weights = gains - gains.mean()
        mixed = weights @ noises / np.sqrt(np.sum(weights**2))
        challenger = expit(said + 0.3 * mixed)
        made = decide(y[judged], champion[judged], challenger[judged], rule, every_metric=False)
        promoted += made.outcome == "promote"
        reported.append(made.metrics[0].gain)
        real.append(value(metric, y[later], champion[later]) - value(metric, y[later], challenger[later]))
    return {"tries": tries, "promoted": promoted, "reported": float(np.mean(reported)), "real": float(np.mean(real))}


HEADS: dict[str, tuple[str, str]] = {
    "equal": (
        "Equally good models, independent rows",
        "A gate should promote one of two equally good models in at most 5 % of the decisions, and block it in at most"
        " 1 %. `new >= old` promotes half of them. The interval of 90 % should hold the truth in 90 %. With fewer than"
        " ten rows of a class there is no interval and no promotion. Guards of rows with `guarded` are stricter than"
        " in a new repository: five segments and calibration, without a margin.",
    ),
    "together": (
        "Equally good models, rows that belong together",
        "Rows of one group, day or step share what the models do not see. `flights` are real departures: forty whole"
        " days are drawn, and on each day one of two forests is the challenger by chance. The last rows of the table"
        " show what happens without a unit (`gate.block: row`): there the gate promises nothing.",
    ),
    "tails": (
        "Equally good models, heavy tails",
        "Few rows carry most of the error. Promotion then needs the evidence without them, too. In the last rows of the"
        " table the challenger is a little better in most rows, and much worse in one of thirty.",
    ),
    "boundary": (
        "At the boundary",
        "The challenger is better by exactly the margin that `superior` asks for, or worse by exactly the margin that"
        " `non_inferior` allows: promoted in at most 5 %.",
    ),
    "segments": (
        "A tenth of the rows pays",
        "The challenger is better overall. In a guarded tenth of the rows it is much worse, or as much better as"
        " elsewhere. `guards.doubt` trades one against the other.",
    ),
    "power": ("Power", "Balanced classes, judged by ROC AUC."),
}


def label(row: dict) -> tuple[str, str]:
    """The names of data and metric in the tables."""
    name = row["kind"] + (f", {row['segment']:g} more noise in a tenth" if row["segment"] else "")
    name += ", guarded" if row["guarded"] and row["table"] == "equal" else ""
    asked = {"none": "", "truth": ", superior by that", "loss": ", not inferior by that"}[row["margin"]]
    return name, row["metric"] + asked


def tables(rows: list[dict], alone: list[dict], seconds: dict, tuned: dict, command: str) -> str:
    """docs/gate.md."""
    text = [
        "# How often the gate is right",
        "",
        f"Made by `{command}` from {sum(row['tries'] for row in rows):,} decisions about data with a known truth, by"
        f" rules of confidence {CONFIDENCE} (guards: {GUARDS}). ± is the Monte-Carlo error.",
        "",
        "![Share of decisions that promote, by the gain that the challenger really has](gate.svg)",
    ]
    for table, (title, said) in HEADS.items():
        text += [
            "",
            f"## {title}",
            "",
            said,
            "",
            "| data | rows | metric | real gain | decisions | promoted | blocked | `new >= old` | interval holds |",
            "|---|--:|---|--:|--:|--:|--:|--:|--:|",
        ]
        for row in (row for row in rows if row["table"] == table):
            covered = "none" if not row["intervals"] else f"{100 * row['coverage']:.1f} %"
            name, metric = label(row)
            share = row["promote"] / row["tries"]
            text.append(
                f"| {name} | {row['rows']:,} | {metric} | {row['gain']:+.4f} | {row['tries']:,} |"
                f" {100 * share:.1f} ± {100 * error_of(share, row['tries']):.1f} % |"
                f" {100 * row['block'] / row['tries']:.1f} % | {100 * row['new >= old'] / row['tries']:.1f} % |"
                f" {covered} |"
            )
    text += [
        "",
        "## The interval of one model",
        "",
        "90 % of the intervals should hold the truth, which is measured on four million rows. Where a few rare rows"
        " decide the metric, the interval is too short, because most holdouts have no such rows.",
        "",
        "| data | rows | metric | truth | intervals | hold it | are below it | are above it |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for row in alone:
        shares = {name: row[name] / max(row["told"], 1) for name in ("below", "above")}
        holds = 1 - sum(shares.values())
        text.append(
            f"| {row['kind']} | {row['rows']:,} | {row['metric']} | {row['real']:.5f} | {row['told']:,} |"
            f" {100 * holds:.1f} ± {100 * error_of(holds, max(row['told'], 1)):.1f} % |"
            f" {100 * shares['below']:.1f} % | {100 * shares['above']:.1f} % |"
        )
    text += [
        "",
        "## Cost",
        "",
        "Two million rows, all metrics, five segments and calibration, on one core: "
        + ", ".join(f"{kind} {took:.0f} s of CPU" for kind, took in seconds.items())
        + ".",
        "",
        "## Where the gate is right, and where it cannot be",
        "",
        "- Right in these tables: independent rows; groups, even and uneven; forty and more blocks of time, also where"
        " they resemble their neighbours.",
        "- Conservative: few or very uneven groups; heavy tails; a class with few rows; tests after many others.",
        "- Not right: an author who tunes on the gains that pull requests report. Noise that was added up by the"
        f" reports of 200 of them is promoted in {100 * tuned['promoted'] / tuned['tries']:.0f} % of"
        f" {tuned['tries']} trials, with a reported gain of {tuned['reported']:+.4f} and a real one of"
        f" {tuned['real']:+.4f} log loss. Only later rows show this. The comment on a pull request counts its"
        " challengers and warns.",
        "- Not right: rows that belong together where neither `data.group` nor `data.time` says so, or `gate.block` is"
        " `row`.",
        "- Not measured: fewer than forty correlated blocks.",
        "",
    ]
    return "\n".join(text)


def picture(rows: list[dict], path: Path) -> None:
    """The curve of power beside `new >= old`."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "gate", "font.family": "sans-serif"}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    shown = [row for row in rows if row["table"] == "power"]
    for colour, size in zip(("#8fb4e3", "#3f7fd0", "#17457f"), (500, 2000, 8000), strict=True):
        those = sorted((row for row in shown if row["rows"] == size), key=lambda row: row["gain"])
        gains = [row["gain"] for row in those]
        share = [100 * row["promote"] / row["tries"] for row in those]
        axes.plot(gains, share, "o-", color=colour, label=f"the gate, {size:,} rows")
        if size == 2000:
            old = [100 * row["new >= old"] / row["tries"] for row in those]
            axes.plot(gains, old, "s--", color="#999999", label=f"new >= old, {size:,} rows")
    axes.axhline(5, color="#b3322a", linewidth=1, linestyle=":")
    axes.text(axes.get_xlim()[1], 6.5, "5 %", ha="right", color="#b3322a", fontsize=9)
    axes.set_xlabel("real gain in ROC AUC")
    axes.set_title("decisions that promote, %", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


def main(part: float = 1, most: int = 10**6) -> None:
    todo = [replace(c, tries=max(20, int(c.tries * part))) for c in cases() if c.rows <= most]
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    decided: dict[Case, dict] = {}
    place = ROOT / "build" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        waiting = {pool.submit(decide_many, case): case for case in sorted(todo, key=lambda c: -c.rows * c.tries)}
        for number, future in enumerate(as_completed(waiting), 1):
            case, row = waiting[future], future.result()
            decided[case] = row
            (place / "gate.partial.json").write_text(json.dumps(list(decided.values())))
            print(
                f"{number:3} of {len(todo)}  {case.table:<9} {case.kind:<38} {case.rows:>6,} rows  {case.metric:<17}"
                f" gain {row['gain']:+.3f}  promoted {row['promote']}, blocked {row['block']} of {case.tries}"
                f"  ({row['seconds']:.0f} s)",
                flush=True,
            )
        asked = [(kind, rows, name, max(20, int(MANY * part))) for kind, rows, name in OWN if rows <= most]
        alone = list(pool.map(own, *zip(*asked, strict=True)))
    rows, seconds = [decided[case] for case in todo], cost() if most >= 100_000 else {}
    tuned = author(100 if most >= 100_000 else 2)
    (place / "gate.json").write_text(
        json.dumps({"rows": rows, "own": alone, "cost": seconds, "author": tuned}, indent=1)
    )
    text = tables(rows, alone, seconds, tuned, "make bench-gate")
    if part == 1 and most >= 100_000:
        (ROOT / "docs" / "gate.md").write_text(text)
        picture(rows, ROOT / "docs" / "gate.svg")
    print(text)
    wrong = broken(rows)
    for row in wrong:
        print(f"too often: {row}", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*(float(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else ())
