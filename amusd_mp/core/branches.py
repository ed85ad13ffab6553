"""What a draft prepares for the case that its lead is wrong: guesses behind the runners-up beside it.

    committed ── a ── b ── c ──     the lead
              └─ y      └─ z ── p ── q ──     a branch: what follows z, if c is wrong and z right

The verify node may score it with the rest, and commit what is right of it in the step that refuses c. When a commit
takes such a way, the rest of the branch becomes the lead, and the verify node has held it all along: after a rejection
nobody waits for a message to the draft, a step there and a message back. A branch's tokens are not kept in the cache.
Each step that makes it longer feeds it anew, beside the lead, as a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from amusd_mp.core.limits import LOOKAHEAD_MAX, WINDOW_TREE

LEAST_BRANCH: Final = 0.02
"""Chance of being used below which nothing is prepared."""

AT_ONCE: Final = 4
"""Branches that one step makes longer at most."""

RUNNERS_UP: Final = 2
"""Next best tokens told with each guess: of the bundled pair's wrong guesses the second best is right in 43 of 100, the
third in 12, the fourth in 7 (greedy, 48 prompts)."""

BRANCHED: Final = WINDOW_TREE // (1 + RUNNERS_UP) - LOOKAHEAD_MAX
"""Tokens of all branches of a sequence at most: they, the longest lead, and runners-up beside each fit in a window."""

Beside = tuple[tuple[int, int], ...]
"""Ids of the next best tokens in one place, and the draft's share for each in percent."""


@dataclass(slots=True, eq=False)
class Branch:
    """What may follow `token`, a runner-up at the absolute `position`.

    survival: the chance that all of it is accepted where the runner-up is
    """

    position: int
    token: int
    tokens: list[int] = field(default_factory=list)
    confidence: list[int] = field(default_factory=list)  # percent
    runners_up: list[Beside] = field(default_factory=list)
    survival: float = 1.0

    def add(self, token: int, confidence: int, runners_up: Beside, chance: float) -> None:
        """Make it one token longer; `chance` is what its confidence is worth."""
        self.tokens.append(token)
        self.confidence.append(confidence)
        self.runners_up.append(runners_up)
        self.survival *= chance

    def write(self, tokens: list[int], parents: list[int], confidence: list[int]) -> None:
        """Append its tokens to a tree that ends with its runner-up, then those beside them."""
        root = len(tokens) - 1
        places = range(root, root + len(self.tokens))  # of what each of them follows
        tokens += self.tokens
        parents += places
        confidence += self.confidence
        for place, beside in zip(places, self.runners_up, strict=True):
            for other, share in beside:
                tokens.append(other)
                parents.append(place)
                confidence.append(share)

    @property
    def last(self) -> int:
        """The token that the next guess follows."""
        return self.tokens[-1] if self.tokens else self.token

    @property
    def end(self) -> int:
        """The position behind it."""
        return self.position + 1 + len(self.tokens)

    def beyond(self, known: Sequence[int]) -> tuple[list[int], list[int], list[Beside]]:
        """Return what it has behind `known`, which follow the runner-up, with all that is told of it."""
        at = len(known) if self.tokens[: len(known)] == list(known) else len(self.tokens)
        return self.tokens[at:], self.confidence[at:], self.runners_up[at:]


@dataclass(frozen=True, slots=True)
class Offer:
    """A guess that could be made behind a branch, and the chance that it is used."""

    worth: float
    branch: Branch
