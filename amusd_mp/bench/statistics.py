"""Medians with their spread, and speed-ups with a paired bootstrap interval.

What is drawn again is prompts, each with all its repeats and under both contenders: repeats of one prompt tell less
than as many prompts do, and what disturbs a prompt disturbs both. The draws come from a fixed seed, so the same records
give the same interval.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median, quantiles
from typing import Final

DRAWS: Final = 2000
LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, quartiles and number of values."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its bootstrap interval at `LEVEL`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Time and tokens of one prompt under one contender, over its repeats."""

    seconds: float
    tokens: int

    @property
    def per_token(self) -> float:
        return self.seconds / self.tokens


Pair = tuple[Cost, Cost]
"""The same prompt under the baseline and under the contender."""


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values have no median")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Spread(median(values), low, high, len(values))


def total_speed_up(pairs: Sequence[Pair]) -> float:
    """Return the baseline's total time per token over the contender's: long responses weigh more."""
    base, other = ((sum(c.seconds for c in side), sum(c.tokens for c in side)) for side in zip(*pairs, strict=True))
    return float((base[0] / base[1]) / (other[0] / other[1]))


def mean_speed_up(pairs: Sequence[Pair]) -> float:
    """Return the mean over prompts of the ratio of times per token: every prompt weighs the same."""
    return mean(base.per_token / other.per_token for base, other in pairs)


def bootstrap(pairs: Sequence[Pair], statistic: Callable[[Sequence[Pair]], float], seed: int = 0) -> Interval:
    """Return the statistic of all pairs, and the interval of its values over prompts drawn again with replacement."""
    chance = random.Random(seed)
    drawn = sorted(statistic(chance.choices(pairs, k=len(pairs))) for _ in range(DRAWS))
    tail = round((1 - LEVEL) / 2 * DRAWS)
    return Interval(statistic(pairs), drawn[tail], drawn[-1 - tail])
