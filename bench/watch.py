"""The alarm on live loss: how often it is false in a stable year, and how long it takes to find a rise.

    make bench-watch                         # writes docs/watch.md and docs/watch.svg
    .venv/bin/python bench/watch.py short    # few years, prints the tables; without river its rows are left out

A stream is a holdout and the live days after it, drawn from one world. Each rule sees the same streams. Years are drawn
from fixed seeds, so that a second run finds the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
from gate import error_of, kept
from product import ROOT
from worlds import World, even, within

from conveyor.gate.spread import FEWEST, from_left_out
from conveyor.watch import alarm

BUDGET, TOLERANCE, YEAR = 0.05, 0.01, 365
HOLDOUT, ROWS, CALM = 40, 100, 91  # days of the holdout, rows of a day, stable live days before a rise
YEARS, RISEN, CHUNK = 500, 200, 100  # stable years and years with a rise of each kind, years drawn at once
RIVER = ROOT / "build" / "river" / "bin" / "python"
SAMPLES = (
    ROOT / "<<cookiecutter.project>>" / "data" / "flights.csv.gz",
    ROOT / "tools" / "flights-july-december.csv.gz",
)
OURS = "the alarm"


@dataclass(frozen=True)
class Pool:
    """Rows to draw from, in days (days x rows): the loss, the loss if the label were the other one, the prediction."""

    loss: np.ndarray
    other: np.ndarray
    said: np.ndarray


@dataclass(frozen=True)
class Stream:
    """How a year is drawn.

    Attributes:
        pool: a name of POOLS.
        whole: days of the pool are drawn whole; else each row is drawn alone.
        alike: correlation of the normal numbers of neighbouring days that choose among the days in order of their loss.
        season: amplitude of the yearly season of the mean loss, in nats, which begins at a random day.
        worse: how much more each live row loses, in nats.
        weekend: how much more a row of two days of the week loses, in nats.
        promised: whether the budget is to hold.
    """

    pool: str = "synthetic"
    whole: bool = False
    alike: float = 0.0
    season: float = 0.0
    worse: float = 0.0
    weekend: float = 0.0
    promised: bool = True


STREAMS = {
    "independent rows": Stream(),
    "days of rows that are alike by .1": Stream("days", whole=True),
    "flights, whole days": Stream("flights", whole=True),
    "flights, neighbours alike by .5": Stream("flights", whole=True, alike=0.5),
    "synthetic days, neighbours alike by .3": Stream("days", whole=True, alike=0.3),
    "synthetic days, neighbours alike by .8": Stream("days", whole=True, alike=0.8),
    "independent rows, worse by the tolerance": Stream(worse=TOLERANCE),
    "weekends worse by .03": Stream(weekend=0.03),
    "squared errors of lognormal numbers": Stream("lognormal"),
    "season of amplitude .01": Stream(season=0.01),
    "season of amplitude .05": Stream(season=0.05, promised=False),
}
RISES = (0.03, 0.05, 0.10)
RISE_HEADS = " | ".join(f"+{rise:.2f}: median | 90 % | found" for rise in RISES)
HOLDOUTS = (20, 40, 120)
RISING = ("independent rows", "flights, whole days")


def _binary(world: World) -> Pool:
    y, (said, _), _ = world.draw(np.random.default_rng(1), 4000 * ROWS, (1.0, 1.0))
    return _of_classes(y, said)


def _of_classes(y: np.ndarray, said: np.ndarray) -> Pool:
    said = np.clip(said, 1e-6, 1 - 1e-6)
    both = -np.log(said), -np.log1p(-said)
    parts = np.where(y == 1, *both), np.where(y == 1, *both[::-1]), said
    return Pool(*(part.reshape(-1, ROWS).astype(np.float32) for part in parts))


@cache
def _departures(until: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and days (n,) of the departures of 2013 from ``until`` on, by a forest of those before."""
    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier

    frame = pd.concat([pd.read_csv(path, parse_dates=["scheduled"]) for path in SAMPLES], ignore_index=True)
    frame = frame.sort_values("scheduled", kind="stable")
    codes = pd.get_dummies(frame.drop(columns=["late", "scheduled", "flight"]), dtype=float).fillna(-1).to_numpy()
    y = (frame["late"] == frame["late"].max()).astype(np.int64).to_numpy()
    days = frame["scheduled"].dt.tz_localize(None).to_numpy().astype("datetime64[D]")
    old = days < np.datetime64(until)
    model = RandomForestClassifier(100, min_samples_leaf=10, random_state=1, n_jobs=1).fit(codes[old], y[old])
    return y[~old], model.predict_proba(codes[~old])[:, 1], days[~old]


def _flights() -> Pool:
    """Days of April to June, by a forest of January to March; ROWS are drawn from each."""
    y, said, days = _departures("2013-04-01")
    generator = np.random.default_rng(1)
    spring = np.arange("2013-04-01", "2013-07-01", dtype="datetime64[D]")
    rows = np.concatenate([generator.choice(np.flatnonzero(days == day), ROWS) for day in spring])
    return _of_classes(y[rows], said[rows])


def year_2013() -> list[str]:
    """The section about a forest that is live from July on: what the alarm says at the end of each month."""
    y, said, days = _departures("2013-05-26")
    said = np.clip(said, 1e-6, 1 - 1e-6)
    numbers, day = np.unique(days, return_inverse=True)
    begin = int(np.searchsorted(numbers, np.datetime64("2013-07-01")))

    def by_day(said: np.ndarray) -> np.ndarray:
        return np.bincount(day, np.where(y == 1, -np.log(said), -np.log1p(-said))) / np.bincount(day)

    loss, table = by_day(said), []
    for end in [*np.flatnonzero(np.diff(numbers.astype("datetime64[M]").astype(int))) + 1, len(numbers)]:
        if end <= begin:
            continue
        found = alarm.watch(loss[:begin], loss[begin:end], numbers[begin:end].astype(np.int64), tolerance=TOLERANCE)
        recent = found.recent[1]
        bounds = "no interval" if recent.low is None else f"{recent.low:.3f} to {recent.high:.3f}"
        table.append(
            f"| {numbers[end - 1]} | {found.state} | {found.evidence:.1f} of {found.threshold:.1f} |"
            f" {found.promised.mean:.3f} | {recent.mean:.3f} ({bounds}) | +{found.visible:.2f} | {found.inflated:.1f} |"
        )
    # The same days less what a forecast loses there that is the same for all rows: of the days of the holdout.
    gained = loss - by_day(np.full(len(y), y[day < begin].mean()))
    paired = alarm.watch(
        gained[:begin], gained[begin:], numbers[begin:].astype(np.int64), tolerance=TOLERANCE, scale="any"
    )
    return [
        "## The flights of 2013",
        "",
        "A forest learns from January to 25 May, the days to the end of June are its holdout, and it is live from July"
        " on. `visible` is the rise since the first live day that the alarm would show by then in about half of such"
        " streams; `inflated`: how many times the variance of the mean of the holdout is that of independent days.",
        "",
        "| until | state | evidence | promised | last 28 days | visible | inflated |",
        "|---|---|--:|--:|--:|--:|--:|",
        *table,
        "",
        "Weather moves the loss of whole days, so these days cannot show a small rise. It also moves the loss of a"
        " constant forecast, which predicts the same for each row. If that loss is subtracted (`scale` of `watch`,"
        " which `make monitor` does not use yet), the deviation of a day of"
        f" the holdout falls from {loss[:begin].std():.3f} to {gained[:begin].std():.3f}, and the rise that is visible"
        f" by the end of the year from +{found.visible:.2f} to +{paired.visible:.2f}. It is then {paired.state}, with"
        f" evidence {paired.evidence:.1f} of {paired.threshold:.1f}: the forest gains {-gained[:begin].mean():.3f} on"
        f" that forecast in the holdout, and {-gained[begin:].mean():.3f} live.",
    ]


def _lognormal() -> Pool:
    y, (said, _), _ = World("regression", tail="lognormal").draw(np.random.default_rng(1), 4000 * ROWS, (1.0, 1.0))
    parts = (y - said) ** 2, (y - said) ** 2, said
    return Pool(*(part.reshape(-1, ROWS).astype(np.float32) for part in parts))


POOLS = {
    "synthetic": lambda: _binary(World()),
    "days": lambda: _binary(World(shared=within(even(ROWS), 0.1))),
    "flights": _flights,
    "lognormal": _lognormal,
}


@cache
def pool(name: str) -> Pool:
    """The days of a pool, in the order of their mean loss."""
    made = POOLS[name]()
    order = np.argsort(made.loss.mean(axis=1), kind="stable")
    return Pool(made.loss[order], made.other[order], made.said[order])


def draw(
    generator: np.random.Generator, stream: Stream, years: int, days: int, rise: float, since: int = HOLDOUT + CALM
) -> tuple[np.ndarray, np.ndarray]:
    """Losses and predictions (years x days x rows), with a rise from the day ``since`` on.

    A rise is a change of what the labels mean: a part of the rows has the other label.
    """
    from scipy.signal import lfilter
    from scipy.special import ndtr

    of, shape = pool(stream.pool), (years, days, ROWS)
    if stream.whole:
        steady, warm = np.sqrt(1 - stream.alike**2), 100
        normal = lfilter([steady], [1, -stream.alike], generator.normal(size=(years, days + warm)))[:, warm:]
        drawn = np.minimum((ndtr(normal) * len(of.loss)).astype(np.int64), len(of.loss) - 1)
        loss, other, said = (part[drawn] for part in (of.loss, of.other, of.said))
    else:
        drawn = generator.integers(0, of.loss.size, shape)
        loss, other, said = (part.ravel()[drawn] for part in (of.loss, of.other, of.said))
    if rise:
        share = rise / float((of.other - of.loss).mean())
        loss[:, since:] = np.where(generator.random(loss[:, since:].shape) < share, other[:, since:], loss[:, since:])
    day = np.arange(days)
    if stream.season:
        begins = generator.random((years, 1)) * YEAR
        wave = 1 + stream.season / float(of.loss.mean()) * np.sin(2 * np.pi * (day + begins) / YEAR)
        loss = loss * wave[:, :, None].astype(np.float32)
    if stream.worse:
        loss = loss + np.float32(stream.worse) * (day >= HOLDOUT)[None, :, None]
    if stream.weekend:
        loss = loss + np.float32(stream.weekend) * (day % 7 < 2)[None, :, None]
    return loss, said


# Rules. Each gives, of each year, on which live days there is an alarm (years x live days).


def ours(loss: np.ndarray, said: np.ndarray, holdout: int = HOLDOUT, corrected: bool = True) -> np.ndarray:
    """watch/alarm.py."""
    days = loss.mean(axis=2, dtype=np.float64)
    holdout, live = days[:, :holdout], days[:, holdout:]
    inflated = np.ones_like(live)
    if corrected:
        inflated = np.array([alarm.inflations(*each) for each in zip(holdout, live, strict=True)])
    shown, _ = alarm.evidence(holdout, live, inflated, TOLERANCE)
    return shown >= np.log10(YEAR / BUDGET)


def uncorrected(loss: np.ndarray, said: np.ndarray) -> np.ndarray:
    return ours(loss, said, corrected=False)


def bets(loss: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Bets against an upper bound of the holdout's mean: half of the budget for the bound, half for the bets.

    The e-detector of Shin, Ramdas and Rinaldo with the bets of I. Waudby-Smith and A. Ramdas, "Estimating means of
    bounded random variables by betting", JRSS B 86 (2024): losses are only known to be above zero.
    """
    days = loss.mean(axis=2, dtype=np.float64)
    holdout, live = days[:, :HOLDOUT], days[:, HOLDOUT:]
    bounds = []
    for each in holdout:
        left = (each.sum() - each) / (HOLDOUT - 1)
        spread = from_left_out(float(each.mean()), left, np.full(HOLDOUT, 1 / HOLDOUT), HOLDOUT)
        found = spread.interval(1 - BUDGET / 2) if HOLDOUT >= FEWEST else None
        bounds.append(found[1] + TOLERANCE if found else np.inf)
    gains = live / np.array(bounds)[:, None] - 1
    sizes = np.array([0.05, 0.1, 0.2, 0.4, 0.7, 1.0])
    summed, shown = np.zeros((len(days), len(sizes))), np.zeros(live.shape, dtype=bool)
    for day, gain in enumerate(gains.T):
        summed = (1 + sizes * gain[:, None]) * (summed + 1)
        shown[:, day] = summed.mean(axis=1) >= YEAR / (BUDGET / 2)
    return shown


def _weeks(values: np.ndarray) -> np.ndarray:
    """Values of each live day (years x days x ...), in weeks (years x weeks x 7 x ...)."""
    weeks = values.shape[1] // 7
    return values[:, : weeks * 7].reshape(len(values), weeks, 7, *values.shape[2:])


def _on_days(weekly: np.ndarray, days: int) -> np.ndarray:
    """What each week shows (years x weeks), on its last day."""
    shown = np.zeros((len(weekly), days), dtype=bool)
    shown[:, 6 : 7 * weekly.shape[1] : 7] = weekly
    return shown


def _welch(loss: np.ndarray, level: float) -> np.ndarray:
    """A one-sided test of each week (years x weeks x numbers) against the numbers of the holdout (years x numbers)."""
    from scipy.special import stdtr

    holdout, live = loss
    one, other = (each.var(axis=-1, ddof=1, dtype=np.float64) / each.shape[-1] for each in (holdout, live))
    one = one[:, None]
    t = (live.mean(axis=-1, dtype=np.float64) - holdout.mean(axis=-1, dtype=np.float64)[:, None]) / np.sqrt(one + other)
    freedom = (one + other) ** 2 / (one**2 / (holdout.shape[-1] - 1) + other**2 / (live.shape[-1] - 1))
    return stdtr(freedom, -t) < level


def _rows(loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    live = _weeks(loss[:, HOLDOUT:])
    return loss[:, :HOLDOUT].reshape(len(loss), -1), live.reshape(*live.shape[:2], -1)


def test_of_rows(loss: np.ndarray, said: np.ndarray, level: float = 0.05) -> np.ndarray:
    return _on_days(_welch(_rows(loss), level), loss.shape[1] - HOLDOUT)


def bonferroni(loss: np.ndarray, said: np.ndarray) -> np.ndarray:
    return test_of_rows(loss, said, 0.05 / 52)


def test_of_days(loss: np.ndarray, said: np.ndarray) -> np.ndarray:
    days = loss.mean(axis=2, dtype=np.float64)
    return _on_days(_welch((days[:, :HOLDOUT], _weeks(days[:, HOLDOUT:])), 0.05), days.shape[1] - HOLDOUT)


def three_deviations(loss: np.ndarray, said: np.ndarray) -> np.ndarray:
    days = loss.mean(axis=2, dtype=np.float64)
    holdout = days[:, :HOLDOUT]
    return days[:, HOLDOUT:] > (holdout.mean(axis=1) + 3 * holdout.std(axis=1))[:, None]


def psi(loss: np.ndarray, said: np.ndarray) -> np.ndarray:
    """The stability index of the prediction by the deciles of the holdout; an empty part counts as half a row."""
    holdout, live = _rows(said)
    shown = np.zeros(live.shape[:2], dtype=bool)
    for year, weeks in enumerate(live):
        edges = np.quantile(holdout[year], np.arange(1, 10) / 10)
        wanted = np.bincount(np.searchsorted(edges, holdout[year]), minlength=10) / holdout.shape[1]
        for week, rows in enumerate(weeks):
            found = np.maximum(np.bincount(np.searchsorted(edges, rows), minlength=10), 0.5) / len(rows)
            shown[year, week] = np.sum((found - wanted) * np.log(found / np.maximum(wanted, 1e-9))) > 0.2
    return _on_days(shown, loss.shape[1] - HOLDOUT)


def kolmogorov(loss: np.ndarray, said: np.ndarray) -> np.ndarray:
    """The test of A. Kolmogorov and N. Smirnov of the prediction, with its asymptotic p-value."""
    from scipy.special import kolmogorov as tail

    holdout, live = _rows(said)
    apart = np.zeros(live.shape[:2])
    for year, weeks in enumerate(live):
        reference = np.sort(holdout[year])
        for week, rows in enumerate(np.sort(weeks, axis=1)):
            points = np.concatenate([reference, rows])
            shares = (np.searchsorted(each, points, side="right") / len(each) for each in (reference, rows))
            apart[year, week] = np.abs(np.subtract(*shares)).max()
    sizes = holdout.shape[1] * live.shape[2] / (holdout.shape[1] + live.shape[2])
    return _on_days(tail(np.sqrt(sizes) * apart) < 0.05, loss.shape[1] - HOLDOUT)


@cache
def _river() -> subprocess.Popen:
    """bench/adwin.py, which ends with this process: to import river takes as long as to run it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([RIVER, ROOT / "bench" / "adwin.py"], **pipes)


def _adwin(numbers: np.ndarray, each_day: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as place:
        given, found = Path(place) / "streams.npy", Path(place) / "found.json"
        np.save(given, numbers)
        river = _river()
        print(given, found, file=river.stdin, flush=True)
        if not river.stdout.readline():
            raise SystemExit("error: bench/adwin.py has ended; what it says is above")
        steps = json.loads(found.read_text())
    shown = np.zeros((len(numbers), numbers.shape[1] // each_day), dtype=bool)
    for year, those in enumerate(steps):
        shown[year, np.array(those, dtype=np.int64) // each_day] = True
    return shown[:, HOLDOUT:]


def adwin_rows(loss: np.ndarray, said: np.ndarray) -> np.ndarray:
    return _adwin(loss.reshape(len(loss), -1), ROWS)


def adwin_days(loss: np.ndarray, said: np.ndarray) -> np.ndarray:
    return _adwin(loss.mean(axis=2), 1)


RULES = {
    OURS: ours,
    "the alarm, neighbours not corrected for": uncorrected,
    "bets against a bound of the holdout": bets,
    "weekly test of rows, 5 %": test_of_rows,
    "weekly test of rows, 5 % / 52": bonferroni,
    "weekly test of day means, 5 %": test_of_days,
    "a day beyond 3 deviations": three_deviations,
    "PSI of the prediction > .2, weekly": psi,
    "KS of the prediction, p < .05, weekly": kolmogorov,
    "ADWIN on rows": adwin_rows,
    "ADWIN on day means": adwin_days,
}
SOURCES = """\
- Bets against a bound: the e-detector with bets on losses that are only known to be above zero, against the upper bound
  of the holdout's mean and the tolerance. Half of the budget is for the bound, half for the bets.
- Weekly tests: Welch's one-sided test of the losses of one week against those of the holdout.
- 3 deviations: the mean of a day is more than three standard deviations of the holdout's days above their mean. This is
  the default threshold of NannyML, by the chunks of its reference (its tutorial on thresholds,
  `StandardDeviationThreshold`).
- PSI: the population stability index by deciles of the holdout. From .1 to .25 is called a moderate change, more a
  large one (N. Siddiqi, "Credit Risk Scorecards", 2006); many tools alarm above .2.
- KS: the two-sample test of Kolmogorov and Smirnov at 5 %, the default of Evidently for numbers up to 1,000 reference
  rows (its page on the data drift algorithm).
- ADWIN: river 0.26.1 with its own settings (`delta` .002, `clock` 32, `grace_period` 10), holdout first; only rises
  count. A. Bifet and R. Gavaldà, "Learning from time-changing data with adaptive windowing" (SDM 2007).
"""


def rules(river: bool) -> list[str]:
    return [name for name in RULES if river or not name.startswith("ADWIN")]


def measure(name: str, chunk: int, years: int, rise: float, names: list[str], calm: int = 0) -> dict[str, list[float]]:
    """The first day with an alarm, of each year: from 1 on, counted from the rise if there is one; inf without any."""
    generator = np.random.default_rng([chunk, crc32(f"{name} {rise}".encode())])
    begins = CALM if rise else 0
    loss, said = draw(generator, STREAMS[name], years, HOLDOUT + begins + YEAR, rise)
    found = {}
    for rule in names:
        shown = RULES[rule](loss, said)[:, begins:]
        found[rule] = np.where(shown.any(axis=1), shown.argmax(axis=1) + 1.0, np.inf).tolist()
    return found


def from_the_first_day(name: str, holdout: int, years: int) -> list[np.ndarray]:
    """The first day with an alarm, of each year (years,), for each rise from the first live day on."""
    found = []
    for rise in RISES:
        generator = np.random.default_rng([holdout, crc32(f"{name} {rise}".encode())])
        shown = ours(*draw(generator, STREAMS[name], years, holdout + YEAR, rise, holdout), holdout)
        found.append(np.where(shown.any(axis=1), shown.argmax(axis=1) + 1.0, np.inf))
    return found


def measured(todo: list[tuple[str, float, int]], names: list[str]) -> dict[tuple[str, float], dict[str, np.ndarray]]:
    """The first days of each stream, rise and rule."""
    jobs = [
        (name, chunk, min(CHUNK, years - begin), rise, names)
        for name, rise, years in todo
        for chunk, begin in enumerate(range(0, years, CHUNK))
    ]
    made: dict[tuple[str, float], dict[str, list[float]]] = {(name, rise): {} for name, rise, _ in todo}
    with ProcessPoolExecutor(2) as workers:
        for done, (job, found) in enumerate(zip(jobs, workers.map(measure, *zip(*jobs, strict=True)), strict=True), 1):
            for rule, days in found.items():
                made[job[0], job[3]].setdefault(rule, []).extend(days)
            print(f"{done} of {len(jobs)}  {job[0]}, rise {job[3]}", file=sys.stderr, flush=True)
    return {key: {rule: np.array(days) for rule, days in each.items()} for key, each in made.items()}


def percent(days: np.ndarray) -> str:
    share = float(np.isfinite(days).mean())
    return f"{100 * share:.1f} ± {100 * error_of(share, len(days)):.1f}"


def delay(days: np.ndarray) -> str:
    """Median and 90 % of the days until the alarm, and the share of years that have one."""
    told = [f"{each:.0f}" if np.isfinite(each) else "–" for each in np.quantile(days, [0.5, 0.9], method="higher")]
    return f"{told[0]} | {told[1]} | {100 * np.isfinite(days).mean():.0f}"


def page(
    found: dict[tuple[str, float], dict[str, np.ndarray]],
    first: dict[tuple[str, int], list[np.ndarray]],
    names: list[str],
) -> str:
    """docs/watch.md."""
    stable = [name for name, rise in found if not rise]
    years = len(found[stable[0], 0.0][OURS])
    risen = max(len(each[OURS]) for (_, rise), each in found.items() if rise)
    text = [
        "# How often the alarm on live loss is false, and how long it takes",
        "",
        f"Made by `make bench-watch` from {years:,} stable years of each kind; ± is the Monte-Carlo error. The alarm"
        f" (`src/conveyor/watch/alarm.py`) has a budget of {100 * BUDGET:.0f} % of the years and a tolerance of"
        f" {TOLERANCE} nats. The holdout of {HOLDOUT} days is drawn with each year; a day has {ROWS} rows.",
        "",
        "![Years with an alarm, by the days since the loss rose](watch.svg)",
        "",
        "## Stable years with an alarm, in percent",
        "",
        f"| rule | {' | '.join(stable)} |",
        f"|---|{'--:|' * len(stable)}",
        *(f"| {rule} | {' | '.join(percent(found[name, 0.0][rule]) for name in stable)} |" for rule in names),
        "",
        "The budget covers each stream but the last: there the loss rises by more than the tolerance each year, and an"
        " alarm is right. The theorem covers days that are exchangeable; it does not cover neighbours that are alike,"
        " weekends and seasons.",
        "",
        "## Days until a rise is found",
        "",
        f"The loss rises for good after {CALM} stable live days: a part of the rows gets the other label, so that no"
        f" prediction changes. The first alarm from then on counts, in {risen:,} years of each kind: median, 90 %, and"
        " the percentage of years with an alarm within a year. A rule that alarms in stable years has short delays by"
        " chance. Where rows are independent, a rule of rows needs fewer days than one of days; where days differ, it"
        " alarms in most years.",
    ]
    for name in dict.fromkeys(name for name, rise in found if rise):
        rises = [rise for each, rise in found if rise and each == name]
        text += [
            "",
            f"### {name[0].upper()}{name[1:]}",
            "",
            f"| rule | {' | '.join(f'+{rise:.2f}: median | 90 % | found' for rise in rises)} |",
            f"|---|{'--:|' * 3 * len(rises)}",
            *(f"| {rule} | {' | '.join(delay(found[name, rise][rule]) for rise in rises)} |" for rule in names),
        ]
    text += [
        "",
        "## A rise from the first live day on",
        "",
        "Here only the holdout shows the loss before the rise. The alarm, by the days of the holdout:",
        "",
        f"| stream | days of the holdout | {RISE_HEADS} |",
        f"|---|--:|{'--:|' * 3 * len(RISES)}",
        *(f"| {name} | {days} | {' | '.join(map(delay, each))} |" for (name, days), each in first.items()),
    ]
    text += ["", *year_2013()]
    return "\n".join([*text, "", "## The other rules", "", SOURCES])


def picture(found: dict[tuple[str, float], dict[str, np.ndarray]], path: Path) -> None:
    """Years with an alarm by the days since a rise, and without any rise."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "watch", "font.family": "sans-serif"}
    from matplotlib import pyplot

    name, rise = RISING[1], RISES[-1]
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for rule, colour in ((OURS, "#17457f"), ("weekly test of rows, 5 %", "#c98a2b"), ("ADWIN on rows", "#7a9a5a")):
        for key, line in (((name, rise), "-"), ((name, 0.0), "--")):
            days = np.sort(found[key][rule])
            share = 100 * np.searchsorted(days, np.arange(YEAR + 1), side="right") / len(days)
            said = f"loss +{rise}" if key[1] else "stable"
            axes.plot(np.arange(YEAR + 1), share, line, color=colour, label=f"{rule}, {said}")
    axes.axhline(100 * BUDGET, color="#b3322a", linewidth=1, linestyle=":")
    axes.text(YEAR, 100 * BUDGET + 1.5, f"{100 * BUDGET:.0f} %", ha="right", color="#b3322a", fontsize=9)
    axes.set_xlabel("days")
    axes.set_title(f"years with an alarm, %: {name}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center right", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


def broken(found: dict[tuple[str, float], dict[str, np.ndarray]]) -> list[str]:
    """The streams in which the alarm is false more often than its budget."""
    return [
        f"{name}: {percent(days[OURS])} % of stable years have an alarm"
        for (name, rise), days in found.items()
        if not rise and STREAMS[name].promised
        if not kept(int(np.isfinite(days[OURS]).sum()), len(days[OURS]), BUDGET, errors=3)
    ]


def main(short: bool = False) -> None:
    names, years, risen = rules(RIVER.exists() or not short), *((20, 20) if short else (YEARS, RISEN))
    streams = ("independent rows", "flights, neighbours alike by .5") if short else STREAMS
    rising = [(RISING[0], RISES[-1])] if short else [(name, rise) for name in RISING for rise in RISES]
    todo = [(name, 0.0, years) for name in streams] + [(name, rise, risen) for name, rise in rising]
    found = measured(todo, names)
    cases = [(name, days, risen) for name in RISING for days in HOLDOUTS if not short]
    with ProcessPoolExecutor(2) as workers:
        made = list(workers.map(from_the_first_day, *zip(*cases, strict=True))) if cases else []
    text = page(found, {case[:2]: each for case, each in zip(cases, made, strict=True)}, names)
    print(text)
    if not short:
        (ROOT / "docs" / "watch.md").write_text(text, encoding="utf-8")
        picture(found, ROOT / "docs" / "watch.svg")
    wrong = broken(found)
    for each in wrong:
        print(f"beyond the budget: {each}", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(short=sys.argv[1:] == ["short"])
