"""When a draft tells its leads: at once while the verify node may be waiting for them, else when it can use them.

Every message takes the receiver's core from the device that it feeds: on one core of a virtual machine, 17 windows in
a step of 31 ms made it 3 ms longer (11 %), although only the last was of use. A verify node that has something to
score is in a step, and no step is shorter than the shortest it has lately made. So the first tokens after a commit are
told one by one, because the verify node may be waiting for each; then nothing until that step may be nearly over; then
each again, and what completes a lead always. A draft of whose guesses none was right for long is not waited for: it
tells once a step, so that it is noticed when it gets better. What is not told is not lost: each message says all leads.
"""

from __future__ import annotations

from typing import Final

PROMPT: Final = 6
"""Tokens of a lead that are told one by one: about as many as are waited for where a token costs a tenth of a step."""

SHARE: Final = 0.75
"""Part of the shortest step that passes in silence: early enough for the last token before its end to arrive."""

HOPELESS: Final = 16
"""Rounds without one right guess after which a draft tells once a round. A draft of which one guess in four is right
gets there once in a hundred times, and out of it with the next right one."""

LONGER: Final = 1 / 16
SHORTER: Final = 1 / 2
"""How fast the shortest step is forgotten, and learned."""


class Telling:
    """Times are the draft's own clock; a *round* is any number that changes with each of its steps."""

    def __init__(self) -> None:
        self._shortest: float | None = None
        self._committed: float | None = None
        self._round: int | None = None
        self._right = 0
        self._since_right = 0  # rounds
        self._told = False  # in this round

    def commit(self, now: float, round_: int) -> None:
        """Hear a commit; those of one round are one step's."""
        if round_ == self._round:
            return
        self._since_right += 1
        self._told = False
        if self._committed is not None:
            took = now - self._committed
            known = took if self._shortest is None else self._shortest
            self._shortest = known + (SHORTER if took < known else LONGER) * (took - known)
        self._committed, self._round = now, round_

    def due(self, shortest_lead: int, complete: bool, now: float, right: int) -> bool:
        """Return whether to tell.

        complete: a lead became full, so nothing more comes of it
        right:    how many guesses have been right so far, of all sequences
        """
        if right != self._right:
            self._right, self._since_right = right, 0
        if self._since_right > HOPELESS:
            due = not self._told and (complete or self._late(now))
        else:
            due = complete or shortest_lead <= PROMPT or self._late(now)
        self._told |= due
        return due

    def _late(self, now: float) -> bool:
        """True when the verify node's step may be nearly over, and while nothing is known of its steps."""
        if self._committed is None or self._shortest is None:
            return True
        return now >= self._committed + SHARE * self._shortest
