"""How much to verify next, and whether to wait for more: the rule that keeps the verify model from ever losing.

With T(m) the measured time of a step that scores m proposals over all its rows, S_i the chance that the i-th likeliest
of all proposals at hand is accepted (of a chain, c_1 c_2 ... with c the chance of each behind those before it) and

    E(m) = rows + S_1 + S_2 + ... + S_m

the tokens such a step yields on average, what is to be maximised is the long-run rate of tokens per second. For a
renewal process the best rate g satisfies max [E - g * time] = 0 (Dinkelbach 1967), so g is the price of a second, and
with g measured as the rate achieved so far

    use the m, up to what is valid, that maximises              E(m)  -  g * T(m)
    wait for the next token, expected after w, only if for some j

        sum over n rows of  S a + ... + S a^j - S a^j h (1 - w/d)   >   g * (w + (j-1) d + T(m + n j) - T(m))

        n  rows whose next token comes first, j tokens to each of them, the period d apart
        S  chance that a row's chain survives, a the running acceptance of its draft: the i-th is accepted with S a^i

What the code adds to that, each in its place: tokens to come count CAUTION times their acceptance, tokens of a draft
that is `gap` tokens behind must guess those right first, a wrong one may be `rescued` by a sibling, and the whole is
weighed by how often waits have paid (`Trust`). Rows of different lengths may cost more than their proposals
(`core.sharing`).

The price counts what a plain comparison of E/T now with E/(T + w) later leaves out: while a step runs, the draft runs
too. So does the term with h = min(1, g d), the worth of one token of lead: who does not wait finds the part 1 - w/d of
a token more in store after the step, which is nothing for a fast draft and everything for one that sets the pace. The
deadline of a wait is fixed when it begins and moves only when a token arrives; so a step waits a/(1-a)/g at
most, and an overdue token does not look imminent for ever. The floor is m = 0, the verify model alone, for every draft
and every network. Pure: time is an argument, and nothing here knows a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any

from amusd_mp.core.costs import StepCosts
from amusd_mp.core.price import Price, Trust
from amusd_mp.core.sharing import best, computed, likeliest

PROBE_EVERY = 16
"""Steps without scoring a proposal after which one is tried; twice as many after each probe in a row."""

PROBE_RARELY = 512

PROBE_TOKENS = 2

PROBE_SHARE = 1 / 8
"""Part of a step that a probe waits beyond twice the time in which a token is expected."""

CAUTION = 0.9
"""Share of its acceptance that a token to come is weighed with: what is at hand has been seen, and near ties go now."""

AHEAD = 8
"""Tokens to come that a wait is weighed with: the first one alone may not pay for a step that scores any at all."""


@dataclass(frozen=True, slots=True)
class RowView:
    """What the policy sees of one sequence.

    worths:     of each proposal at hand, the chance that it is accepted, the likeliest first
    usable:     how many proposals one step could commit at most
    chain:      how many proposals follow each other, for the next to follow
    tip:        how many of the likeliest have all of those among them
    survival:   chance that all of those are accepted
    acceptance: the running chance of proposals to come
    rescued:    and of a sibling of a wrong one of those to be right
    next_in:    seconds until one more is expected, None if none is to be waited for
    period:     seconds between the tokens after that
    gap:        committed tokens that the draft's newest window does not reach yet; it must first guess those right too
    probe:      nothing was scored for so long that it should be tried, to notice that a draft has become good
    """

    worths: tuple[float, ...]
    usable: int
    chain: int
    tip: int
    survival: float
    acceptance: float
    next_in: float | None = None
    period: float | None = None
    gap: int = 0
    rescued: float = 0.0
    probe: bool = False

    @classmethod
    def of_chain(cls, chances: Sequence[float], usable: int, acceptance: float, **more: Any) -> RowView:
        """Return the view of a chain whose tokens are each accepted with such a chance behind those before."""
        worths = tuple(accumulate(chances[:usable], mul))
        return cls(worths, usable, len(worths), len(worths), prod(chances[:usable]), acceptance, **more)

    @property
    def valid(self) -> int:
        """Proposals at hand."""
        return len(self.worths)


@dataclass(frozen=True, slots=True)
class Decision:
    """Proposals to use per row, or (`wait_until` set) the time to ask again unless something arrives before.

    `missed`: the deadline passed before what was waited for came.
    """

    ks: tuple[int, ...]
    wait_until: float | None = None
    missed: bool = False


class Policy:
    """Chooses proposals and waiting for one step of several rows; remembers costs, price, trust and its deadline."""

    def __init__(self, padding: float = 0.0) -> None:
        """`padding`: what an empty place of a step takes (`core.sharing`)."""
        self.costs = StepCosts()
        self.price = Price()
        self.trust = Trust()
        self._padding = padding
        self._deadline: float | None = None
        self._at_hand = 0  # valid proposals over all rows when the deadline was fixed

    def took(self, ks: Sequence[int], seconds: float, chosen: bool = True) -> None:
        """Learn what a step cost that scored so many proposals of each row, from the decision to the next possible one.

        Where this policy has not `chosen` for every row that says little: under another strategy the draft rests
        meanwhile, and a step beside a busy draft takes longer (they may share memory, cores and a network).
        """
        rows, proposals = len(ks), computed(ks, self._padding)
        floor = proposals == 0 and self.costs.due(rows, 0)
        if chosen or floor or self.costs.estimate(rows, proposals) is None:
            self.costs.observe(rows, proposals, seconds)

    def changed(self) -> None:
        """A row has ended: a wait that went on for it is over, and was neither right nor wrong."""
        self._deadline = None

    def decide(self, rows: Sequence[RowView], now: float, all_rows: bool = True) -> Decision:
        """Return what to use of each row now, or until when to wait for one more token.

        Without `all_rows` other sequences have a part in the step: it neither waits nor is made to be measured.
        """
        alone = self.costs.estimate(len(rows), 0)
        if alone is None or not any(row.usable for row in rows):
            return self._go(tuple(row.valid for row in rows))
        if all_rows and self.costs.due(len(rows), 0):
            return self._go((0,) * len(rows))
        price = self.price.of(len(rows), len(rows) / alone)
        worths = [row.worths for row in rows]
        most = computed([row.valid for row in rows], self._padding) + AHEAD * len(rows)
        seconds = self.costs.upto(len(rows), most)
        ks = best(worths, price, seconds, self._padding)
        wait = self._patience(rows, ks, price, seconds) if all_rows else None
        at_hand = sum(row.valid for row in rows)
        if wait is not None:
            if self._deadline is None or at_hand > self._at_hand:
                self._deadline, self._at_hand = now + wait, at_hand
            if now < self._deadline:
                return Decision((), self._deadline)
        missed = self._deadline is not None and now >= self._deadline and at_hand <= self._at_hand
        if self._deadline is not None:
            self.trust.learn(not missed)
        else:
            self.trust.recover()
        if all_rows:
            ks = self._one_more(worths, ks)
        probed = (min(max(k, PROBE_TOKENS * row.probe), row.valid) for k, row in zip(ks, rows, strict=True))
        return self._go(tuple(probed), missed)

    def _go(self, ks: tuple[int, ...], missed: bool = False) -> Decision:
        self._deadline = None
        return Decision(ks, missed=missed)

    def _one_more(self, worths: Sequence[Sequence[float]], ks: list[int]) -> list[int]:
        """Return the same, or about one more for each row where it has not been measured for long what that costs."""
        count = len(ks)
        k = computed(ks, self._padding) // count + 1
        if not self.costs.due(count, k):
            return ks
        if self._padding:
            return [min(k, len(each)) for each in worths]
        return likeliest(worths, k * count) if sum(map(len, worths)) >= k * count else ks

    def _patience(
        self, rows: Sequence[RowView], ks: Sequence[int], price: float, seconds: Sequence[float]
    ) -> float | None:
        """Return the longest wait for the next token that could pay, None if the expected one does not."""
        coming = [
            row
            for row, k in zip(rows, ks, strict=True)
            if row.next_in is not None and row.tip <= k and row.usable > row.chain
        ]
        if not coming:
            return None
        soonest = max(0.0, min(row.next_in for row in coming if row.next_in is not None))
        first = [row for row in coming if (row.next_in or 0.0) <= soonest]
        worth = self._worth(first, ks, soonest, price, seconds)
        if worth > soonest:
            return worth
        better = [replace(row, acceptance=1.0) for row in first if row.probe and not row.valid]
        if better and self._worth(better, ks, soonest, price, seconds) > soonest:
            return 2 * soonest + PROBE_SHARE * seconds[0]  # it would pay if the draft had become good
        return None

    def _worth(
        self, first: Sequence[RowView], ks: Sequence[int], soonest: float, price: float, seconds: Sequence[float]
    ) -> float:
        """Return the seconds that tokens of the rows whose next one comes soonest are worth, beside the `ks` of all."""
        rows, used = len(ks), computed(ks, self._padding)
        more = len(first) + self._padding * (rows - len(first))
        period = min((row.period for row in first if row.period is not None), default=None)
        step = period or 0.0
        lead = max(0.0, 1 - soonest / step) * min(1.0, price / rows * step) if step else 0.0
        worth = 0.0
        for j, tokens in enumerate(_gained(first, 1 if period is None else AHEAD, lead), 1):
            longer = (j - 1) * step + seconds[round(used + j * more)] - seconds[used]
            worth = max(worth, self.trust.share * tokens / price - longer)
        return worth


def _gained(rows: Sequence[RowView], most: int, lead: float) -> Iterator[float]:
    """Yield what 1, 2, ... tokens to come of each row commit on average, less the lead that the last of them costs.

    `lead` is h (1 - w/d) of the formula: tokens of it that are lost with each one waited for.
    """
    tokens = 0.0
    survival = [row.survival * (CAUTION * row.acceptance) ** row.gap for row in rows]
    for j in range(1, most + 1):
        before = [each if row.usable >= row.chain + j else 0.0 for each, row in zip(survival, rows, strict=True)]
        survival = [each * CAUTION * row.acceptance for each, row in zip(before, rows, strict=True)]
        wrong = [all_ - right for all_, right in zip(before, survival, strict=True)]
        tokens += sum(survival) + sum(each * row.rescued for each, row in zip(wrong, rows, strict=True))
        yield tokens - lead * sum(survival)
