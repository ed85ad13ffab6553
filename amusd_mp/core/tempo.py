"""How fast one draft's tokens arrive at the verify node: the period of its tokens, and its turnaround after a commit.

Learned from arrivals alone, so the network is in it. The policy asks when the next usable token is to be expected.
"""

from __future__ import annotations

from collections import deque

from amusd_mp.core.calibration import PRIOR, Record
from amusd_mp.core.guesses import reach
from amusd_mp.core.messages import Window
from amusd_mp.core.proposals import Evidence

SMOOTHING = 0.2
COMMITS_KEPT = 32


class CommitTimes:
    """When the last commits of one sequence were made, by version."""

    def __init__(self) -> None:
        self._times: deque[tuple[int, float]] = deque(maxlen=COMMITS_KEPT)

    def add(self, version: int, now: float) -> None:
        """Remember a commit."""
        self._times.append((version, now))

    def at(self, version: int) -> float | None:
        """Return when `version` was committed, None if that is too long ago."""
        return next((time for each, time in reversed(self._times) if each == version), None)


class ArrivalClock:
    """When messages really arrived, although they are read only between steps.

    A sender stamps its own clock; the smallest difference to ours lately seen is that of a message read at once, so a
    message arrived at its stamp plus that difference, or is being read late.
    """

    KEPT = 64  # messages: long enough to hold one that was read at once, short enough to follow a drifting clock

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=self.KEPT)

    def arrived(self, sent: float, now: float) -> float:
        """Return when a message stamped `sent` and read at `now` arrived, by our clock."""
        self._lags.append(now - sent)
        return min(now, sent + min(self._lags))

    def at(self, sent: float) -> float | None:
        """Return when a message sent at `sent` arrived, had there been one; None while nothing was heard."""
        return sent + min(self._lags) if self._lags and sent else None


class Tempo:
    """Running means, in seconds, over every sequence of one draft (it drafts for all of them in the same steps).

    period:      between two tokens of one sequence while its lead grows
    turnaround:  from a commit to the arrival of the first window that builds on it
    acceptance:  over all its sequences; what to expect of it on a new one
    records:     what became of its guesses, for greedy requests (False) and for sampled ones (True)
    """

    def __init__(self) -> None:
        self.period: float | None = None
        self.turnaround: float | None = None
        self.acceptance = PRIOR
        self.records = {sampled: Record() for sampled in (False, True)}
        self.clock = ArrivalClock()
        self._worked: float | None = None

    def worked(self, total: float) -> float:
        """Return for how long the device has computed since it last told, from its total in seconds."""
        before, self._worked = self._worked, total
        return 0.0 if before is None else max(0.0, total - before)

    @property
    def pace(self) -> float | None:
        """Seconds from one token to the next; of a draft too slow for two between commits, from commit to token."""
        return self.turnaround if self.period is None else self.period

    def grown(self, held: Evidence | None, window: Window, arrived: float) -> float:
        """Return when the newest token of a window's lead arrived, or would have; the window did at `arrived`.

        Since then the draft may have worked beside its lead, which says nothing of when the next token comes.
        """
        if held is not None and (window.version, window.drafted) == (held.window.version, held.window.drafted):
            return held.arrived
        grown = self.clock.at(window.guessed_at)
        if grown is None or (held is not None and window.drafted == held.window.drafted):
            return arrived  # of a lead that begins with what was beside the one before, the next token is under way
        return min(arrived, grown)

    def arrived(self, before: Evidence, window: Window, commits: CommitTimes, now: float) -> None:
        """Learn from a window with news that follows `before`; of several that waited, only the last may be seen."""
        fresh = window.drafted - before.window.drafted
        restarted = window.rollbacks > before.window.rollbacks
        if window.resumed_at == before.window.resumed_at:
            self.period = _mean(self.period, max(0.0, now - before.arrived) / fresh)  # it was under way all the time
            return
        first, later = self.clock.at(window.resumed_at), (reach(window) if restarted else fresh) - 1
        committed = commits.at(window.version)
        if first is None or committed is None or not committed <= first <= now:
            return  # it went on before that commit, or a clock jumped
        self.turnaround = _mean(self.turnaround, first - committed)
        if later > 0 and not (restarted and before.window.parents):  # some of a new lead may have been prepared
            self.period = _mean(self.period, (now - first) / later)

    def judge(self, acceptance: float) -> None:
        """Learn a sequence's running acceptance."""
        self.acceptance += SMOOTHING * (acceptance - self.acceptance)

    def next_in(self, evidence: Evidence, length: int, committed_at: float, now: float) -> float | None:
        """Return seconds until the draft's next usable token, for a sequence of `length` committed ones.

        A draft that was contradicted, or whose lead was full, goes on when it hears of a commit (unless what is left of
        the lead will still hardly be accepted: such a wait is missed); else it is under way. None while unknown, and
        for a token so overdue that nothing is known of it any more.
        """
        if evidence.broken_at is not None or evidence.window.full:
            if self.turnaround is None:
                return None
            began = evidence.broken_at if evidence.broken_at is not None else committed_at
            due, patience = began + self.turnaround, self.turnaround
        else:
            if self.period is None:
                return None
            due, patience = evidence.arrived + self.period * (1 + evidence.gap(length)), self.period
        return None if due < now - 2 * patience else max(0.0, due - now)


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
