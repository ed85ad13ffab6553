"""How much to verify next, and whether to wait for more: the rule that keeps the verify model from ever losing.

With T(k) the measured time of a step that scores k proposals per row, a the running acceptance of a row's draft and

    E(k) = 1 + a + a^2 + ... + a^k

the tokens such a step yields on average, the step uses the k (up to what is valid) with the best rate

    sum over rows of E(min(k, valid)) / T(k)

and waits for one more draft token, expected after w, only if that raises the rate: E(k+1) / (T(k+1) + w). A deadline is
fixed once per step, when the device falls idle. The floor is k = 0, the verify model alone, for every draft and every
network. Pure: time is an argument, and nothing here knows a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amusd_mp.core.proposals import expected_accepted

PROBE_EVERY = 32
"""Steps without using the proposals at hand after which one is tried, to notice that a draft has become good."""


@dataclass(frozen=True, slots=True)
class RowView:
    """What the policy sees of one sequence.

    valid:      proposals at hand; usable: how many of them one step could commit at most
    acceptance: running probability that a proposal is accepted
    next_in:    seconds until one more is expected, None if none is to be waited for
    idle:       steps since proposals were last tried
    """

    valid: int
    usable: int
    acceptance: float
    next_in: float | None = None
    idle: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Proposals to use per row, or (`wait_until` set) the time to ask again unless something arrives before.

    `missed`: the deadline passed before what was waited for came.
    """

    ks: tuple[int, ...]
    wait_until: float | None = None
    missed: bool = False


class StepCosts:
    """Measured seconds of a step by (rows, k), each a running mean; what was never measured is inferred."""

    SMOOTHING = 0.1
    GROWTH = 0.03  # assumed cost of one more token per row before it is measured: about what a block costs here

    def __init__(self) -> None:
        self._seconds: dict[int, dict[int, float]] = {}

    def observe(self, rows: int, k: int, seconds: float) -> None:
        """Learn one step. A first reading counts as it is; an outlier moves the mean by no more than double."""
        seconds = max(seconds, 1e-6)  # in virtual time a step may take none
        row = self._seconds.setdefault(rows, {})
        known = row.get(k)
        if known is None:
            row[k] = seconds
        else:
            row[k] = known + self.SMOOTHING * (min(seconds, 2 * known) - known)

    def estimate(self, rows: int, k: int) -> float | None:
        """Return the expected seconds, or None before anything was measured."""
        if not self._seconds:
            return None
        nearest = min(self._seconds, key=lambda r: (abs(r - rows), r))
        row = self._seconds[nearest]
        if k in row:
            return row[k]
        below = max((j for j in row if j < k), default=None)
        above = min((j for j in row if j > k), default=None)
        if below is not None and above is not None:
            share = (k - below) / (above - below)
            return row[below] + share * (row[above] - row[below])
        if below is not None:
            return row[below] * (1 + self.GROWTH * (k - below))
        assert above is not None
        return row[above] / (1 + self.GROWTH * (above - k))


class Policy:
    """Chooses k and waiting for one step over several rows; remembers step costs and the deadline of the idle time."""

    def __init__(self) -> None:
        self.costs = StepCosts()
        self._deadline: float | None = None

    def observe(self, rows: int, k: int, seconds: float) -> None:
        """Learn what a decode step took, from the decision to the next possible one, in seconds."""
        self.costs.observe(rows, k, seconds)

    def decide(self, rows: Sequence[RowView], now: float, may_wait: bool = True) -> Decision:
        """Return what to use of each row now, or until when to wait for one more token."""
        if not any(row.usable for row in rows) or self.costs.estimate(len(rows), 0) is None:
            return self._go(tuple(min(row.valid, row.usable) for row in rows))
        if any(row.idle >= PROBE_EVERY and row.valid and row.usable for row in rows):
            return self._go(tuple(min(row.valid, row.usable, 2) if row.idle >= PROBE_EVERY else 0 for row in rows))
        k, rate = self._best(rows)
        wait = self._worth_waiting(rows, k, rate) if may_wait else None
        if wait is not None and self._deadline is None:
            self._deadline = now + wait
        if wait is not None and self._deadline is not None and now < self._deadline:
            return Decision((), self._deadline)
        return self._go(tuple(min(k, row.valid, row.usable) for row in rows), missed=wait is not None)

    def _go(self, ks: tuple[int, ...], missed: bool = False) -> Decision:
        self._deadline = None
        return Decision(ks, missed=missed)

    def _rate(self, rows: Sequence[RowView], k: int, wait: float, more: int) -> float:
        """Expected tokens per second of a step with up to k proposals a row, `more` of them still to arrive."""
        seconds = self.costs.estimate(len(rows), k)
        assert seconds is not None
        tokens = 0.0
        for row in rows:
            coming = more if row.next_in is not None and row.next_in <= wait else 0
            tokens += 1 + expected_accepted(row.acceptance, min(k, row.valid + coming, row.usable))
        return tokens / (seconds + wait)

    def _best(self, rows: Sequence[RowView]) -> tuple[int, float]:
        most = max(min(row.valid, row.usable) for row in rows)
        rates = [self._rate(rows, k, 0.0, 0) for k in range(most + 1)]
        best = max(range(most + 1), key=lambda k: rates[k])
        return best, rates[best]

    def _worth_waiting(self, rows: Sequence[RowView], k: int, rate: float) -> float | None:
        """Return the longest wait that could pay for one more token per row, None if the expected one does not pay."""
        waits = [row.next_in for row in rows if row.next_in is not None and row.valid < row.usable and row.valid <= k]
        if not waits:
            return None
        soonest = max(0.0, min(waits))
        if self._rate(rows, k + 1, soonest, 1) <= rate:
            return None
        now_seconds, more_seconds = self.costs.estimate(len(rows), k), self.costs.estimate(len(rows), k + 1)
        assert now_seconds is not None
        assert more_seconds is not None
        tokens_now = sum(1 + expected_accepted(row.acceptance, min(k, row.valid, row.usable)) for row in rows)
        tokens_more = sum(
            1 + expected_accepted(row.acceptance, min(k + 1, row.valid + (row.next_in is not None), row.usable))
            for row in rows
        )
        return max(0.0, tokens_more / tokens_now * now_seconds - more_seconds)
