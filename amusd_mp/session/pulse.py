"""What one side may believe of the other's life, from when it was last heard of.

    UNKNOWN ─► ALIVE ─► SILENT ─► LOST         SILENT and LOST ─► ALIVE when it is greeted again
                 └────────────────► LOST        where silence is not borne, or its death was seen

Silence alone cannot tell a dead peer from a cut link. So silence is borne for `patience` seconds, and a peer counts as
lost before that only on evidence: nobody listens at its address any more, or another life answers there. It knows no
clock and no message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from amusd_mp.core.limits import BEAT, LIVENESS

STOOD = 4 * BEAT
"""Seconds between two looks from which on this process itself must have stood still; that is no silence."""


@dataclass(slots=True)
class Standstill:
    """For how long this process itself stood still: stopped, or its machine paused."""

    looked: float | None = None

    def look(self, now: float) -> float:
        """Return how many seconds since the last look nothing of this process ran; to be called every beat."""
        since, self.looked = (0.0 if self.looked is None else now - self.looked), now
        return since if since > STOOD else 0.0


class State(Enum):
    """See the module's docstring for the transitions."""

    UNKNOWN = "unknown"  # never greeted
    ALIVE = "alive"
    SILENT = "silent"  # beyond the liveness time, within patience
    LOST = "lost"


@dataclass(slots=True)
class Pulse:
    """One peer. Times in seconds of one monotonic clock; a `patience` of the liveness time bears no silence."""

    patience: float = LIVENESS
    state: State = State.UNKNOWN
    heard: float = 0.0
    standstill: Standstill = field(default_factory=Standstill)

    def greeted(self, now: float) -> None:
        """It answered and is heard of."""
        self.heard, self.state = now, State.ALIVE

    def silence(self, now: float) -> float:
        """Return for how long it has not been heard of."""
        return now - self.heard

    def look(self, now: float) -> bool:
        """Notice silence; to be called every beat. Return whether the state changed, to SILENT or to LOST."""
        self.heard = min(now, self.heard + self.standstill.look(now))  # it may have been heard since
        if self.state is State.ALIVE and self.silence(now) > LIVENESS:
            self.state = State.SILENT if self.patience > LIVENESS else State.LOST
            return True
        if self.state is State.SILENT and self.silence(now) > self.patience:
            self.state = State.LOST
            return True
        return False

    def lose(self) -> bool:
        """Its death was seen. Return whether that is news."""
        news = self.state in (State.ALIVE, State.SILENT)
        if news:
            self.state = State.LOST
        return news
