"""The alarm on live loss: has the loss of the live model risen, at a stated number of false alarms a year?

Pure functions of numbers: no files, no git. The observation is the mean loss of one block, the unit of the gate.

The alarm compares the live blocks from some block on with all blocks before it, those of the holdout first. It needs no
bound of the holdout's mean: the luck of the holdout is in the comparison.

- Each live block gets a rank among all blocks so far. If blocks are exchangeable and no two are equal, these ranks are
  independent and uniform, whatever the losses are distributed like: O. Barndorff-Nielsen, "On the limit behaviour of
  extreme order statistics", Annals of Mathematical Statistics 34 (1963); V. Vovk, I. Nouretdinov and A. Gammerman,
  "Testing exchangeability on-line" (ICML 2003). The score of a rank is the mean of a standard normal number in the part
  of its range that the rank stands for. By Jensen's inequality its exponential moments are at most those of the normal.
- For each start of a change the scores are weighted as in R. Brown, J. Durbin and J. Evans, "Techniques for testing the
  constancy of regression relationships over time", JRSS B 37 (1975): a rise of the mean by d standard deviations moves
  the weighted sum of k blocks after n by d v, where v = n k / (n + k) is its variance. The likelihood ratio, averaged
  over d > 0 with a half normal prior, is an e-value of this start.
- Their sum M over all starts is an e-detector of Shiryaev and Roberts: M minus the number of blocks is a
  supermartingale, so the chance that M reaches n / budget within the n blocks of a year is at most the budget:
  J. Shin, A. Ramdas and A. Rinaldo, "E-detectors", New England Journal of Statistics in Data Science 2 (2024).

``tolerance`` is taken off the blocks after the start before they are compared with those before it, and a start counts
only while the mean since then is above that of the holdout by more than ``tolerance``: what was better for a while may
be as promised again. Both can only make the evidence smaller. Equal blocks share the mean of their places.

Where blocks resemble their neighbours, they are not exchangeable. The scores after a start are divided by the root of
the inflation of the variance that the gate estimates from the blocks before it. No theorem covers this; docs/watch.md
of the template measures it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from conveyor.gate.spread import ENDS, FEWEST, Floats, Spread, from_left_out, serial

State = Literal["calm", "alarm", "insufficient"]
RISE = 0.5  # scale of the prior of a rise, in standard deviations of a block
AFRESH = 7  # blocks after which correlation is estimated again
DAYS = (7, 28, 91)  # of the windows that are reported
CONFIDENCE = 0.95  # of each bound of their intervals


@dataclass(frozen=True)
class Window:
    """The mean loss of the blocks of some days.

    Attributes:
        days: the last so many; None: all of the holdout.
        blocks: how many blocks they have.
        mean: of their losses; each block counts once.
        low, high: bounds that each hold with 95 %, by the gate's interval; None with fewer than ten blocks, or if the
            blocks are too much alike.
    """

    days: int | None
    blocks: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Watch:
    """What the live blocks show.

    Attributes:
        state: "alarm" from the first alarm on. "insufficient": there would be no alarm yet, even if the live blocks
            were all alike and worse than each block of the holdout. Else "calm".
        evidence: the largest so far, as a decimal logarithm.
        threshold: the evidence from which on there is an alarm.
        alarmed: the number of the block of the first alarm; None without one.
        started: the number of the block at which the change most likely began; None without an alarm.
        visible: the permanent rise, in units of the loss, that about half of such streams would have shown by now if
            it had begun with the first live block; None without an error of the holdout's mean.
        inflated: how many times the variance of a mean is that of independent blocks, by the blocks of the holdout.
        promised: the holdout.
        recent: the last 7, 28 and 91 days.
    """

    state: State
    evidence: float
    threshold: float
    alarmed: int | None
    started: int | None
    visible: float | None
    inflated: float
    promised: Window
    recent: tuple[Window, ...]


def watch(
    holdout: Floats,
    live: Floats,
    blocks: NDArray[np.int64],
    *,
    year: int = 365,
    budget: float = 0.05,
    tolerance: float = 0.01,
    scale: Literal["loss", "any"] = "loss",
) -> Watch:
    """Whether the mean loss of the live blocks has risen above that of the holdout by more than ``tolerance``.

    The answer to a block does not depend on later ones, so it does not matter how often one looks.

    Args:
        holdout: the mean loss of each block of the holdout (h,), in the order of time, of the same model.
        live: the mean loss of each live block (n,).
        blocks: the numbers of the live blocks (n,), ascending; blocks without labels are left out.
        year: how many blocks a year has.
        budget: the chance of a false alarm within a year, in (0, 1).
        tolerance: a rise up to this, in units of the loss, is no change.
        scale: "any": the numbers are differences of losses of two models on the same rows, which may be negative. Where
            a hard day costs both of them, the difference shows much smaller rises.

    Raises:
        ValueError: a loss is negative or not finite, blocks are not in order, a number is out of its range.
    """
    holdout, live, blocks = _checked(holdout, live, blocks, -np.inf if scale == "any" else 0.0)
    if not (0 < budget < 1 and year >= 1 and 0 <= tolerance < np.inf):
        raise ValueError(f"budget is in (0, 1), year at least 1, tolerance at least 0: {budget}, {year}, {tolerance}")
    threshold = float(np.log10(year / budget))
    promise = _spread(holdout)
    state: State = "insufficient"
    top, alarmed, started = -np.inf, None, None
    if len(holdout) >= FEWEST and len(live):
        inflated = inflations(holdout, live)
        shown, starts = evidence(holdout, live, inflated, tolerance)
        top = float(shown.max())
        if top >= threshold:
            at = int(np.argmax(shown >= threshold))
            state, alarmed, started = "alarm", int(blocks[at]), int(blocks[starts[at]])
        else:
            h, n = len(holdout), len(live)
            best = evidence(np.arange(float(h)), np.full(n, float(h)), inflated, 0.0)[0].max()
            state = "calm" if best >= threshold else "insufficient"
    return Watch(
        state=state,
        evidence=top,
        threshold=threshold,
        alarmed=alarmed,
        started=started,
        visible=_visible(promise, len(live), threshold, tolerance),
        inflated=float(promise.inflated),
        promised=_window(None, holdout, scale),
        recent=tuple(_window(days, live[blocks > blocks[-1] - days * year / 365], scale) for days in DAYS if len(live)),
    )


def evidence(holdout: Floats, live: Floats, inflated: Floats, tolerance: float) -> tuple[Floats, NDArray[np.int64]]:
    """The e-detector after each live block, and the start that has most of it.

    Args:
        holdout: losses (..., h); each row of the leading axes is a stream of its own.
        live: losses (..., n).
        inflated: of each start: how many times the variance of a mean is that of independent blocks (..., n).
        tolerance: what is taken off the blocks from the start on.

    Returns:
        Decimal logarithms (..., n), and places among the live blocks (..., n).
    """
    h, n = holdout.shape[-1], live.shape[-1]
    lowered, promised = live - tolerance, holdout.mean(axis=-1, keepdims=True) + tolerance
    below, equal = np.zeros(live.shape, dtype=np.int64), np.ones(live.shape, dtype=np.int64)
    for block in np.moveaxis(holdout, -1, 0)[..., None]:
        below += block < lowered
        equal += block == lowered
    for start in range(n - 1):
        below[..., start + 1 :] += live[..., start, None] < live[..., start + 1 :]
        equal[..., start + 1 :] += live[..., start, None] == live[..., start + 1 :]
    summed, most = np.full(live.shape, -np.inf), np.full(live.shape, -np.inf)
    starts = np.zeros(live.shape, dtype=np.int64)
    for start in range(n):
        since = slice(start, None)
        blocks = h + np.arange(start, n) + 1  # so far, each of which has a rank
        scores = _scores(below[..., since], equal[..., since], blocks) / np.sqrt(blocks * (blocks - 1.0))
        inflation = inflated[..., start, None]
        moved = (h + start) * np.cumsum(scores, axis=-1) / np.sqrt(inflation)
        after = blocks - (h + start)
        one = _ratio(moved, (h + start) * after / blocks)
        one[np.cumsum(live[..., since], axis=-1) <= promised * after] = -np.inf
        summed[..., since] = np.logaddexp(summed[..., since], one)
        more = one > most[..., since]
        most[..., since] = np.where(more, one, most[..., since])
        starts[..., since] = np.where(more, start, starts[..., since])
        # The next start comes after this block, which is then compared without the tolerance taken off it.
        later = slice(start + 1, None)
        below[..., later] += (live[..., start, None] < lowered[..., later]) * 1 - (
            live[..., start, None] < live[..., later]
        )
        equal[..., later] += (live[..., start, None] == lowered[..., later]) * 1 - (
            live[..., start, None] == live[..., later]
        )
    return summed / np.log(10), starts


def inflations(holdout: Floats, live: Floats) -> Floats:
    """How many times the variance of a mean is that of independent blocks, by all blocks before each start (n,)."""
    losses, made = np.concatenate([holdout, live]), np.ones(len(live))
    for start in range(0, len(live), AFRESH):
        made[start : start + AFRESH] = serial(_normal(losses[: len(holdout) + start]))[1]
    return made


def _scores(below: NDArray[np.int64], equal: NDArray[np.int64], count: NDArray[np.int64]) -> Floats:
    """The mean of a standard normal number in the part of its range that a rank stands for.

    Args:
        below: how many blocks are below this one.
        equal: how many are equal, with itself.
        count: of all blocks.
    """
    from scipy.special import ndtri

    low, high = (np.exp(-0.5 * ndtri(each / count) ** 2) for each in (below, below + equal))
    made: Floats = (low - high) * count / (equal * np.sqrt(2 * np.pi))
    return made


def _ratio(moved: Floats, variance: Floats) -> Floats:
    """The logarithm of the likelihood ratio of sums with such a variance, over a half normal prior of the rise."""
    from scipy.special import log_ndtr

    spread = 1 + RISE**2 * variance
    made: Floats = (
        np.log(2) - np.log(spread) / 2 + (RISE * moved) ** 2 / (2 * spread) + log_ndtr(RISE * moved / np.sqrt(spread))
    )
    return made


def _normal(losses: Floats) -> Floats:
    """Normal scores of losses (n,), which a few huge ones do not decide; zeros if all are equal."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores: Floats = ndtri((rankdata(losses) - 0.5) / len(losses))
    scores -= scores.mean()
    return scores


def _spread(losses: Floats) -> Spread:
    """The mean of losses of blocks (n,) with the error that the gate would give it."""
    count = len(losses)
    if count < FEWEST:
        return Spread(float(losses.mean()) if count else np.nan, np.inf, 0)
    with np.errstate(over="ignore", invalid="ignore"):  # of huge losses the error is not finite, which is no error
        left = (losses.sum() - losses) / (count - 1)
        return from_left_out(float(losses.mean()), left, np.full(count, 1 / count), count)


def _window(days: int | None, losses: Floats, scale: Literal["loss", "any"]) -> Window:
    spread = _spread(losses)
    low, high = spread.own_interval(CONFIDENCE, ENDS[scale]) or (None, None)
    return Window(days, len(losses), spread.value, low, high)


def _visible(promise: Spread, live: int, threshold: float, tolerance: float) -> float | None:
    """The rise whose sums are expected to reach the threshold, by the normal distribution."""
    if not (promise.known and live):
        return None
    # The error is that of the mean of the holdout: of the difference to a mean of live blocks it is this much more.
    error = promise.error * np.sqrt(1 + promise.units / live)
    return float(tolerance + error * np.sqrt(2 * np.log(10) * threshold))


def _checked(
    holdout: Floats, live: Floats, blocks: NDArray[np.int64], least: float
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    holdout, live = (np.asarray(each, dtype=np.float64) for each in (holdout, live))
    blocks = np.asarray(blocks)
    for name, losses in (("holdout", holdout), ("live", live)):
        if losses.ndim != 1:
            raise ValueError(f"{name}: one loss for each block, not an array of shape {losses.shape}")
        wrong = np.flatnonzero(~(np.isfinite(losses) & (losses >= least)))
        if len(wrong):
            want = "finite, not negative" if least == 0 else "finite"
            raise ValueError(f"{name}: the loss of block {wrong[0]} is {losses[wrong[0]]}; a loss is {want}")
    if blocks.shape != live.shape or blocks.dtype.kind != "i":
        raise ValueError(f"blocks: one whole number for each of {len(live)} live blocks")
    late = np.flatnonzero(np.diff(blocks) <= 0)
    if len(late):
        raise ValueError(
            f"blocks: {blocks[late[0] + 1]} comes after {blocks[late[0]]}; give each once, in ascending order"
        )
    return holdout, live, blocks
