"""How often the gate is right: thousands of decisions about data that are drawn with a known truth.

    make bench-gate                          # all of them, which takes its time
    .venv/bin/python bench/gate.py 0.1 2000  # a tenth of those about at most 2 000 rows

Writes docs/gate.md (the tables) and docs/gate.svg (the picture) when all decisions are made, build/bench/gate.json
always. Decisions are drawn from fixed seeds, so that a second run finds the same.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from product import ROOT

from conveyor.core.params import Gate, Guards
from conveyor.core.tasks import METRICS as METRICS_OF
from conveyor.gate import intervals as conveyor_intervals
from conveyor.gate.decide import decide
from conveyor.gate.intervals import by_bootstrap
from conveyor.gate.metrics import METRICS, value

CONFIDENCE, GUARDS = 0.95, 0.99
SAME = 1.0  # standard deviation of what a model does not see of the signal; both models of a neutral change have it
GROUP = 10  # rows of a group, where rows belong together


@dataclass(frozen=True)
class Case:
    """Decisions of one kind: data of ``rows`` rows, judged by ``metric``; ``better`` is how much less noise sees the
    challenger than the champion (0: they are equally good)."""

    kind: str
    rows: int
    metric: str
    better: float
    tries: int

    @property
    def task(self) -> str:
        return {"3 classes": "multiclass", "numbers": "regression"}.get(self.kind, "binary")


def cases() -> list[Case]:
    """Equal models first, then the curve of power."""
    metrics = {
        "balanced": ("roc_auc", "average_precision", "log_loss", "brier", "accuracy", "f1"),
        "1 % positive": ("roc_auc", "average_precision", "log_loss", "f1"),
        "3 classes": ("log_loss", "accuracy", "f1"),
        "numbers": ("rmse", "mae", "r2"),
        "groups of ten": ("roc_auc", "average_precision", "log_loss", "f1"),
    }
    tries = {200: 600, 2000: 500, 20_000: 60}
    equal = [Case(kind, rows, m, 0, tries[rows]) for kind, those in metrics.items() for rows in tries for m in those]
    equal += [Case("balanced", 100_000, m, 0, 20) for m in ("roc_auc", "average_precision")]
    equal += [Case(kind, 100_000, those[0], 0, 20) for kind, those in metrics.items() if kind != "balanced"]
    power = [
        Case("balanced", rows, "roc_auc", better, 200)
        for rows in (500, 2000, 8000)
        for better in (-0.3, -0.15, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
    ]
    return equal + power


def draw(generator: np.random.Generator, case: Case, rows: int | None = None):
    """Labels, predictions of champion and challenger, and groups or None.

    Both models see the same signal through noise of their own, and say what follows from what they see: they are
    perfectly calibrated, and equally good where the noise is the same.
    """
    n = rows or case.rows
    noises = (SAME, SAME * (1 - case.better))

    def normal(*more: int):
        if case.kind != "groups of ten":
            return generator.normal(size=(n, *more))
        shared = generator.normal(size=(-(-n // GROUP), *more)).repeat(GROUP, axis=0)[:n]
        return np.sqrt(0.8) * shared + np.sqrt(0.2) * generator.normal(size=(n, *more))

    groups = np.arange(n) // GROUP if case.kind == "groups of ten" else None
    if case.task == "regression":
        seen = normal()
        y = seen + normal()
        return y, [(seen + noise * normal()) / (1 + noise**2) for noise in noises], groups
    if case.task == "multiclass":
        y = generator.integers(0, 3, n)
        signal = 1.5 * np.eye(3)[y] + normal(3)
        logits = [1.5 * (signal + noise * normal(3)) / (1 + noise**2) for noise in noises]
        odds = [np.exp(each - each.max(axis=1, keepdims=True)) for each in logits]
        return y, [each / each.sum(axis=1, keepdims=True) for each in odds], groups
    share = 0.01 if case.kind == "1 % positive" else 0.5
    draws = generator.random(n) if groups is None else generator.random(-(-n // GROUP)).repeat(GROUP)[:n]
    y = (draws < share).astype(np.int64)
    y[:2] = 0, 1  # of one class alone nothing can be computed: that is another question
    signal = 1.5 * y + normal()
    said = []
    for noise in noises:
        logit = np.log(share / (1 - share)) + (1.5 * (signal + noise * normal()) - 1.125) / (1 + noise**2)
        said.append(1 / (1 + np.exp(-logit)))
    return y, said, groups


def truth(case: Case) -> float:
    """The gain that the challenger really has, from four million rows."""
    if not case.better:
        return 0.0
    generator, metric = np.random.default_rng(1), METRICS[case.metric]
    y, (champion, challenger), _ = draw(generator, case, 4_000_000)
    gain = value(metric, y, challenger) - value(metric, y, champion)
    return gain if metric.higher_is_better else -gain


def decide_many(case: Case) -> dict:
    """One row of the table."""
    import pandas as pd

    guards = Guards(confidence=GUARDS, segment_margin=0, calibration_margin=0, min_rows=40)
    rule = Gate(metric=case.metric, promote_when="superior", margin=0, confidence=CONFIDENCE, guards=guards)
    higher, began = METRICS[case.metric].higher_is_better, time.monotonic()
    real = truth(case)
    counts = dict.fromkeys(("promote", "keep", "block"), 0)
    holds = intervals = point = 0
    for number in range(case.tries):
        generator = np.random.default_rng([number, case.rows, crc32(f"{case.kind} {case.metric}".encode())])
        y, (champion, challenger), groups = draw(generator, case)
        segments = pd.DataFrame({"segment": generator.integers(0, 5, len(y)).astype(str)})
        made = decide(y, champion, challenger, rule, None, case.task, groups, segments, every_metric=False)
        counts[made.outcome] += 1
        [m] = made.metrics
        if m.gain_low is not None:
            intervals += 1
            holds += m.gain_low <= real <= m.gain_high
        if m.champion is not None:
            point += m.challenger >= m.champion if higher else m.challenger <= m.champion
    return {
        **asdict(case),
        "gain": real,
        **counts,
        "coverage": holds / intervals if intervals else None,
        "intervals": intervals,
        "new >= old": point,
        "seconds": time.monotonic() - began,
    }


def within(count: int, tries: int, level: float) -> bool:
    """Whether a count is no more than the level allows, within four standard deviations of Monte-Carlo error.

    Four, because a hundred counts are looked at: one of them is beyond three by chance alone every few runs.
    """
    return count / tries <= level + 4 * np.sqrt(level * (1 - level) / tries)


def slowest() -> dict:
    """10 000 resamples of 100 000 rows for each metric that is resampled: seconds, and the most memory it took."""
    import resource

    conveyor_intervals.RESAMPLES = conveyor_intervals.AT_LEAST = 10_000
    took = {}
    for name, metric in METRICS.items():
        if metric.way is by_bootstrap:
            kind = "numbers" if "regression" in METRICS_OF[name] else "balanced"
            y, models, _ = draw(np.random.default_rng(1), Case(kind, 100_000, name, 0, 1))
            before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
            metric.way(metric.function, y, models, None)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            took[name] = {"seconds": time.monotonic() - began, "megabytes": grown / 1024}
    return took


def tables(rows: list[dict], resampled: dict, command: str) -> str:
    """docs/gate.md."""

    def share(count: int, row: dict) -> str:
        return f"{100 * count / row['tries']:.1f} %"

    text = [
        "# How often the gate is right",
        "",
        f"Made by `{command}` from {sum(row['tries'] for row in rows):,} decisions about data with a known truth. The"
        f" rule is `superior` with margin 0, confidence {CONFIDENCE} and all guards on (five segments, calibration;"
        f" confidence {GUARDS}): it is stricter than the rule of a new repository.",
        "",
        "![Share of decisions that promote, by the gain that the challenger really has](gate.svg)",
        "",
        "## Equally good models",
        "",
        "A gate should promote one of two equally good models in at most 5 % of the decisions, and block it in at most"
        " 1 %. `new >= old` promotes half of them. The interval of 90 % should hold the truth in 90 %. If a class"
        " has fewer than ten rows, there is no interval and no promotion.",
        "",
        "| data | rows | metric | decisions | promoted | blocked | `new >= old` promotes | interval holds the truth |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for row in (row for row in rows if not row["better"]):
        covered = "no interval" if not row["intervals"] else f"{100 * row['coverage']:.1f} %"
        text.append(
            f"| {row['kind']} | {row['rows']:,} | {row['metric']} | {row['tries']:,} | {share(row['promote'], row)} |"
            f" {share(row['block'], row)} | {share(row['new >= old'], row)} | {covered} |"
        )
    text += [
        "",
        "## Power",
        "",
        "Balanced classes, judged by ROC AUC.",
        "",
        "| rows | real gain | promoted | kept | blocked | `new >= old` promotes |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for row in (row for row in rows if row["better"]):
        text.append(
            f"| {row['rows']:,} | {row['gain']:+.3f} | {share(row['promote'], row)} | {share(row['keep'], row)} |"
            f" {share(row['block'], row)} | {share(row['new >= old'], row)} |"
        )
    text += [
        "",
        "## Cost",
        "",
        "10 000 resamples (the gate draws 2 000) of two models on 100 000 rows, on one core of the machine that made"
        " this page. Other metrics have closed forms. Memory is the growth of the process: its bound is"
        " `intervals.CHUNK`, not the rows times the resamples.",
        "",
        "| metric | seconds | memory |",
        "|---|--:|--:|",
        *(f"| {name} | {of['seconds']:.0f} | {of['megabytes']:.0f} MB |" for name, of in resampled.items()),
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
    shown = [row for row in rows if (row["kind"], row["metric"]) == ("balanced", "roc_auc")]
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
    todo = [Case(**{**asdict(c), "tries": max(20, int(c.tries * part))}) for c in cases() if c.rows <= most]
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    made = {}
    with ProcessPoolExecutor() as pool:
        waiting = {pool.submit(decide_many, case): case for case in sorted(todo, key=lambda c: -c.rows * c.tries)}
        for number, future in enumerate(as_completed(waiting), 1):
            case, row = waiting[future], future.result()
            made[case] = row
            print(
                f"{number:3} of {len(todo)}  {case.kind:<13} {case.rows:>7,} rows  {case.metric:<17}"
                f" gain {row['gain']:+.3f}  promoted {row['promote']}, blocked {row['block']} of {case.tries}"
                f"  ({row['seconds']:.0f} s)",
                flush=True,
            )
    rows, resampled = [made[case] for case in todo], slowest() if most >= 100_000 else {}
    place = ROOT / "build" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    (place / "gate.json").write_text(json.dumps({"rows": rows, "resampled": resampled}, indent=1))
    text = tables(rows, resampled, "make bench-gate")
    if part == 1 and most >= 100_000:
        (ROOT / "docs" / "gate.md").write_text(text)
        picture(rows, ROOT / "docs" / "gate.svg")
    print(text)
    equal = [row for row in rows if not row["better"]]
    wrong = [r for r in equal if not within(r["promote"], r["tries"], 1 - CONFIDENCE)]
    wrong += [r for r in equal if not within(r["block"], r["tries"], 1 - GUARDS)]
    for row in wrong:
        print(f"too often: {row}", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*(float(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else ())
