"""When a draft tells its leads: at once while the verify node may be waiting for them, else when it can use them.

Every message takes the receiver's core from the device that it feeds: on one core of a virtual machine, 17 windows in
a step of 31 ms made it 3 ms longer (11 %), although only the last was of use. A verify node that has something to
score is in a step, and no step is shorter than the shortest it has lately made. So the first tokens after a commit are
told one by one, because the verify node may be waiting for each; then nothing until that step may be nearly over; then
each again, and what completes a lead always; so is, by the node, what is untold when there is nothing more to guess.
Each message says all leads.
"""

from __future__ import annotations

from typing import Final

PROMPT: Final = 6
"""Tokens of a lead that are told one by one: about as many as are waited for where a token costs a tenth of a step."""

SHARE: Final = 0.75
"""Part of the shortest step that passes in silence: early enough for the last token before its end to arrive."""

LONGER: Final = 1 / 16
SHORTER: Final = 1 / 2
"""How fast the shortest step is forgotten, and learned."""


class Telling:
    """Times are the draft's own clock; a *round* is any number that changes with each of its steps."""

    def __init__(self) -> None:
        self._shortest: float | None = None
        self._committed: float | None = None
        self._round: int | None = None

    def commit(self, now: float, round_: int) -> None:
        """Hear a commit; those of one round are one step's."""
        if round_ == self._round:
            return
        if self._committed is not None:
            took = now - self._committed
            known = took if self._shortest is None else self._shortest
            self._shortest = known + (SHORTER if took < known else LONGER) * (took - known)
        self._committed, self._round = now, round_

    def pause(self) -> None:
        """Nothing is being written: the time to the next commit is no step's."""
        self._committed = None

    def due(self, shortest_lead: int, complete: bool, now: float) -> bool:
        """Return whether to tell. `complete`: a lead became full, so nothing more comes of it."""
        if complete or shortest_lead <= PROMPT or self._committed is None or self._shortest is None:
            return True
        return now >= self._committed + SHARE * self._shortest
