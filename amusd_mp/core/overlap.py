"""How long both devices computed at the same time, measured at the verify node.

A draft tells with every window how long its latest step took; that step ended one message before its arrival, so it
is placed just before it. The verify node's own steps are exact.
"""

from __future__ import annotations

from collections import deque


class OverlapMeter:
    """Accumulates the intersection of two kinds of intervals, each kind arriving roughly in order of time.

    Only the last `keep` intervals of each kind are compared: an interval meets partners that end near it in time.
    """

    def __init__(self, keep: int = 64) -> None:
        self.total = 0.0  # seconds in which both computed, since the beginning
        self._verify: deque[tuple[float, float]] = deque(maxlen=keep)
        self._draft: deque[tuple[float, float]] = deque(maxlen=keep)

    def verify_step(self, began: float, ended: float) -> None:
        """Count one step of the verify device."""
        self.total += _meet((began, ended), self._draft)
        self._verify.append((began, ended))

    def draft_step(self, seconds: float, now: float) -> None:
        """Count one step of a draft device, told by a window that arrived at `now`.

        Drafts may overlap each other: time already covered by an earlier interval is not counted again.
        """
        began = now - seconds
        if self._draft:
            began = max(began, self._draft[-1][1])
        if began < now:
            self.total += _meet((began, now), self._verify)
            self._draft.append((began, now))


def _meet(interval: tuple[float, float], others: deque[tuple[float, float]]) -> float:
    """Return the length of what `interval` shares with any of `others` (which do not overlap each other)."""
    began, ended = interval
    shared = 0.0
    for other_began, other_ended in reversed(others):
        if other_ended <= began:
            break
        shared += max(0.0, min(ended, other_ended) - max(began, other_began))
    return shared
