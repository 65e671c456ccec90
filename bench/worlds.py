"""Data with a known truth, in which a gate can be wrong: what is drawn, and what two models say about it.

Both models see the same signal through noise of their own and say what follows from what they see. So they are equally
good where the noise is the same, and calibrated. What one row shares with others is shared by labels and noises alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]


@dataclass(frozen=True)
class World:
    """One way of drawing rows.

    Attributes:
        task: binary, multiclass or regression.
        shared: standard normal numbers (n,) that rows share with others; called once for each quantity.
        share: of the positive class.
        apart: how far the signal of the positive class lies from the other one's, in its standard deviations.
        groups: the group of each row (n,), or None.
        tail: what a regression's target is made of: normal, lognormal or t3. "rare loss": the challenger gains a
            little in most rows, and loses as much in one of thirty as it gains in the others.
    """

    task: str = "binary"
    shared: Draw | None = None
    share: float = 0.5
    groups: Callable[[int], NDArray[np.int64]] | None = None
    tail: str = "normal"
    apart: float = 1.5

    def draw(self, generator: np.random.Generator, n: int, noises: tuple[float, float]):
        """Labels, the predictions of champion and challenger, and groups or None."""
        normal = self.shared or (lambda generator, n: generator.normal(size=n))
        groups = self.groups(n) if self.groups else None
        if self.task == "regression":
            return *self._numbers(generator, n, noises, normal), groups
        if self.task == "multiclass":
            return *self._classes(generator, n, noises), groups
        from scipy.special import expit, ndtr

        y = (ndtr(normal(generator, n)) < self.share).astype(np.int64)
        y[:2] = 0, 1  # of one class alone nothing can be computed: that is another question
        signal = self.apart * y + normal(generator, n)
        odds = np.log(self.share / (1 - self.share))
        said = []
        for noise in noises:
            seen = signal + noise * normal(generator, n)
            said.append(expit(odds + self.apart * (seen - self.apart / 2) / (1 + noise**2)))
        return y, said, groups

    def _numbers(self, generator, n, noises, normal):
        if self.tail == "rare loss":
            return np.zeros(n), [np.ones(n), 1 - np.where(generator.random(n) < 1 / 30, -29 / 30, 1 / 30)]
        seen, rest = normal(generator, n), generator.standard_t(3, n) if self.tail == "t3" else normal(generator, n)
        said = [(seen + noise * normal(generator, n)) / (1 + noise**2) for noise in noises]
        if self.tail != "lognormal":
            return seen + rest, said
        # The mean of a lognormal number, given what the model sees.
        return np.exp(seen + rest), [
            np.exp(each + (1 + noise**2 / (1 + noise**2)) / 2) for each, noise in zip(said, noises, strict=True)
        ]

    def _classes(self, generator, n, noises):
        y = generator.integers(0, 3, n)
        signal = 1.5 * np.eye(3)[y] + generator.normal(size=(n, 3))
        said = []
        for noise in noises:
            logits = 1.5 * (signal + noise * generator.normal(size=(n, 3))) / (1 + noise**2)
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            said.append(odds / odds.sum(axis=1, keepdims=True))
        return y, said


def within(groups: Callable[[int], NDArray[np.int64]], share: float) -> Draw:
    """Normal numbers of which ``share`` of the variance is common to a group."""

    def draw(generator: np.random.Generator, n: int) -> Floats:
        member = groups(n)
        common = generator.normal(size=int(member.max()) + 1)[member]
        return np.sqrt(share) * common + np.sqrt(1 - share) * generator.normal(size=n)

    return draw


def series(correlation: float, rows: int = 1, share: float = 1.0, lag: int = 1) -> Draw:
    """Normal numbers along time: each step's is correlated with that ``lag`` steps before, and shared by ``rows``."""

    def draw(generator: np.random.Generator, n: int) -> Floats:
        from scipy.signal import lfilter

        steps = -(-n // rows)
        steady = np.sqrt(1 - correlation**2)
        warm = 200 * lag
        path = lfilter([steady], [1, *(lag - 1) * [0], -correlation], generator.normal(size=steps + warm))[warm:]
        common = path.repeat(rows)[:n]
        return np.sqrt(share) * common + np.sqrt(1 - share) * generator.normal(size=n)

    return draw


def even(size: int) -> Callable[[int], NDArray[np.int64]]:
    """Groups of so many rows."""
    return lambda n: np.arange(n) // size


def one_large(share: float, groups: int) -> Callable[[int], NDArray[np.int64]]:
    """One group holds ``share`` of the rows, the others the rest in equal parts."""

    def member(n: int) -> NDArray[np.int64]:
        large = int(n * share)
        return np.concatenate([np.zeros(large, dtype=np.int64), 1 + np.arange(n - large) * (groups - 1) // (n - large)])

    return member
