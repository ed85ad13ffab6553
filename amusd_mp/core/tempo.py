"""How fast one draft's tokens arrive at the verify node: the period of its tokens, and its turnaround after a commit.

Learned from arrivals alone, so the network is in it. The policy asks when the next usable token is to be expected.
"""

from __future__ import annotations

SMOOTHING = 0.2


class Tempo:
    """Running means, in seconds, over every sequence of one draft (it drafts for all of them in the same steps)."""

    def __init__(self) -> None:
        self.period: float | None = None  # between tokens of one sequence while it extends its lead
        self.turnaround: float | None = None  # from a commit that took its lead to its first token after
        self._last: dict[str, float] = {}

    def arrived(self, sequence: str, fresh: int, committed_at: float, now: float) -> None:
        """Learn from a window with `fresh` new tokens."""
        last = self._last.get(sequence)
        self._last[sequence] = now
        if last is None:
            return
        if last >= committed_at:
            self.period = _mean(self.period, (now - last) / fresh)
        else:
            self.turnaround = _mean(self.turnaround, now - committed_at)

    def forget(self, sequence: str) -> None:
        """Drop what was kept for one sequence."""
        self._last.pop(sequence, None)

    def next_in(self, leading: bool, arrived: float, committed_at: float, now: float) -> float | None:
        """Return seconds until the next token of a sequence, at least 0, None while unknown.

        `leading`: its newest window is still valid, so one more token extends it; else it starts over from the commit.
        """
        if leading:
            return None if self.period is None else max(0.0, arrived + self.period - now)
        return None if self.turnaround is None else max(0.0, committed_at + self.turnaround - now)


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
