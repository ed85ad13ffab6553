"""What the framework itself costs at the verify node: the time of a round that nobody computed or waited in.

A round goes from one decision to the next. Taken from it are the device's seconds and the time spent waiting on purpose
(for a draft's token, or for work at all); what is left are messages, the loop, the thread's hand-over and the core. Who
waits until the last of several messages is there loses nothing by reading the others meanwhile, so a wait goes from the
decision to wait to the message that ended it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

KEPT: Final = 256
"""Rounds remembered: enough for a 95 % quantile, few enough that it tells of now."""


class RoundMeter:
    """Remembers the last rounds, in seconds. Fed with times, asked for quantiles."""

    def __init__(self) -> None:
        self._rounds: deque[float] = deque(maxlen=KEPT)
        self._decided: float | None = None
        self._elsewhere = 0.0  # seconds of this round that are not the framework's
        self._woken: float | None = None  # when the last wait was interrupted, of a round that waits

    def __repr__(self) -> str:
        return f"<RoundMeter {len(self._rounds)} rounds>"

    def __len__(self) -> int:
        return len(self._rounds)

    def decided(self, now: float) -> None:
        """A step begins, so the round before it is over."""
        if self._decided is not None:
            self._rounds.append(max(0.0, now - self._decided - self._elsewhere))
        self._decided, self._elsewhere, self._woken = now, 0.0, None

    def computed(self, seconds: float) -> None:
        """The device took so long."""
        self._elsewhere += seconds

    def waited(self, began: float, ended: float) -> None:
        """The node waited on purpose; where it had been woken before and went on waiting, all the time since then."""
        self._elsewhere += ended - (began if self._woken is None else self._woken)
        self._woken = ended

    def quantile(self, share: float) -> float:
        """Return the round below which `share` of the remembered ones lie, 0 before there are any."""
        ordered = sorted(self._rounds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
