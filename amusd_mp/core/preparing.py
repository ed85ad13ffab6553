"""What a draft's step computes beside its leads: the branches whose next guess makes more of each second.

What a guess is worth is the chance that it is used; a guess more makes a step longer by what was measured.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from amusd_mp.core.branches import AT_ONCE, Branch, Offer
from amusd_mp.core.costs import StepCosts
from amusd_mp.core.draft_sequence import DraftSequence
from amusd_mp.core.sharing import computed
from amusd_mp.core.step import Block

TOGETHER: Final = 32
"""Blocks up to this length share a step; a longer one makes the others wait, and at worst compute padding."""


@dataclass(slots=True, eq=False)
class Part:
    """One sequence's share of a step: a guess behind its lead (`tip`), and one behind each of some branches.

    `version` is the commit that it builds on; `beside` is how many tokens it feeds beside the lead, once it is begun.
    """

    sequence: DraftSequence
    tip: bool
    version: int
    branches: list[Branch] = field(default_factory=list)
    beside: int = 0

    @property
    def size(self) -> int:
        """Tokens that it would feed."""
        start, end = self.sequence.span(self.tip, self.branches)
        return end - start + self._branched

    def begin(self) -> Block:
        """Return its block. What a branch needs anew will be overwritten, so it counts as held no longer."""
        block = self.sequence.block(self.tip, self.branches)
        self.beside = self._branched
        self.sequence.fed = block.start
        return block

    @property
    def small(self) -> bool:
        """True if it may share a step, and so may the next one of its sequence."""
        start, _ = self.sequence.span(self.tip, self.branches)
        return max(self.size, len(self.sequence.ids) - start) <= TOGETHER

    @property
    def _branched(self) -> int:
        return sum(branch.end - branch.position for branch in self.branches)


class Preparing:
    """Chooses the branches of each step, and remembers what steps cost.

    `padding`: what an empty place of the model's step takes (`core.sharing`).
    """

    def __init__(self, padding: float = 0.0) -> None:
        self._padding = padding
        self._costs = StepCosts()

    def took(self, sizes: Sequence[int], seconds: float) -> None:
        """Learn what a step of blocks of so many tokens cost; a long one, of a prompt, tells nothing of others."""
        if max(sizes) <= TOGETHER:
            self._costs.observe(len(sizes), self._more(sizes), seconds)

    def add(self, parts: list[Part], sequences: Collection[DraftSequence], toll: float = 0.0) -> None:
        """Add branches of `sequences` to the parts of a step, and parts for those that have none.

        A device that has nothing else to do takes the likeliest, whatever it costs itself. What it costs the verify
        model is `toll`, as part of the step's seconds, for every sequence; what a guess saves, where it is used, is
        such a step for one.
        """
        idle = not parts
        has_part = {part.sequence.name: part for part in parts}
        offers: list[tuple[Offer, Part]] = []
        for sequence in sequences:
            if sequence.branching and sequence.row is not None and len(sequence.ids) - sequence.fed <= TOGETHER:
                part = has_part.get(sequence.name) or Part(sequence, False, sequence.version)
                offers += [(offer, part) for offer in sequence.offers()]
        worth = sum(part.sequence.survival for part in parts)
        seconds = self._seconds(parts)
        for offer, part in sorted(offers, key=_by_worth)[:AT_ONCE]:
            more = parts if part in parts else [*parts, part]
            part.branches.append(offer.branch)
            longer = self._seconds(more)
            if not part.small or (parts and offer.worth * seconds <= worth * (longer - seconds)):
                part.branches.pop()
                continue
            parts[:] = more
            worth, seconds = worth + offer.worth, longer
        if idle and worth < toll * len(sequences):
            parts.clear()

    def _seconds(self, parts: Sequence[Part]) -> float:
        """Return how long the device is expected to take for a step; 0 for none, and before anything is known."""
        sizes = [part.size for part in parts]
        return self._costs.estimate(len(sizes), self._more(sizes)) or 0.0 if sizes else 0.0

    def _more(self, sizes: Sequence[int]) -> int:
        """Return how many tokens a step of such blocks computes beside one for each."""
        return computed(sizes, self._padding) - len(sizes)


def _by_worth(offered: tuple[Offer, Part]) -> float:
    return -offered[0].worth
