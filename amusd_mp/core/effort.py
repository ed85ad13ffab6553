"""When a draft rests: guesses that nobody uses take memory bandwidth, a core and messages from the verify node.

A draft that is always wrong, or always too late, sees it in the commits: each token tells whether it was a proposal. So
after many rounds in which none was, it guesses in one round of a few, which is enough for the verify node's probes to
notice when it becomes good. With a draft slower than the verify model, on two cores of one machine, working in one
round of eight turned 0.95x of the verify model alone into 0.99x; one of sixteen was not told apart from that.
"""

from __future__ import annotations

from typing import Final

PATIENCE_ROUNDS: Final = 32
"""Rounds without an accepted proposal after which it rests: twice as many as the verify node takes to try one."""

FRESH: Final = 4
"""Rounds that it works, at least, after a new sequence has come."""

ONE_IN: Final = 16
"""Of so many rounds it then works in one."""

TOLL: Final = 0.1
"""Part of its seconds that a draft on a CPU is taken to cost a verify model on one: memory and caches may be shared."""


def toll(ours: str, theirs: str) -> float:
    """Return what a draft's steps take from the verify model's, as part of their seconds, by the devices' names."""
    return TOLL if ours == theirs == "cpu" else 0.0


class Effort:
    """Fed with what happens, asked before each step."""

    def __init__(self) -> None:
        self._in_vain = 0  # rounds since a proposal was accepted

    def __repr__(self) -> str:
        return f"<Effort {'resting' if self.resting else 'working'} after {self._in_vain} rounds in vain>"

    @property
    def resting(self) -> bool:
        """True in a round that is not worth its guesses."""
        return self._in_vain > PATIENCE_ROUNDS and self._in_vain % ONE_IN != 0

    def round(self, used: bool) -> None:
        """Commits were heard since the last step; `used`: some of their tokens had been proposed."""
        self._in_vain = 0 if used else self._in_vain + 1

    def fresh(self) -> None:
        """Another sequence has come, for which it may be better."""
        self._in_vain = min(self._in_vain, PATIENCE_ROUNDS - FRESH)
