"""What one step verifies of a sequence: a chain of guesses, and what stands beside it, as one tree.

A proposal is immutable and knows the chance of each of its tokens; how much of it is scored is the policy's choice
(`core.policy`), where it comes from is the store's business (`core.proposals`). When the step is over it says which way
the verify model took through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import mul

from amusd_mp.core.messages import Origin
from amusd_mp.core.step import Picked


@dataclass(frozen=True, slots=True, eq=False)
class Aside:
    """A token off the chain, `depth` tokens behind the committed ones.

    behind: the token off the chain that it follows; None: it may stand in the place of the chain's token `depth`
    first:  it is the draft's first choice there
    worth:  the chance that it is accepted: that the verify model takes the way to it
    share:  percent, the draft's own for it: of a first choice its confidence, of others the odds (`calibration.odds`)
    """

    depth: int
    token: int
    worth: float
    share: int = 0
    behind: Aside | None = None
    first: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Which way the verify model took through a proposal.

    accepted: tokens of the chain
    aside:    tokens behind those, off the chain
    guessed:  positions of that way, or of the whole chain, for which there was a guess
    picks:    index of the pick that is each committed token, in order: of all accepted ones, and of the model's own
              next token behind them
    origin:   what that last one is
    """

    accepted: int
    aside: tuple[Aside, ...]
    guessed: int
    picks: tuple[int, ...]
    origin: Origin


@dataclass(frozen=True)
class Proposal:
    """What to verify next, and whose it is ("" and () when there is none): a chain, and tokens beside it.

        committed ── a ── b ── c         tokens  (a, b, c)
                  └─ y ── p └─ z         beside  y at depth 0, p behind y at depth 1, z at depth 2

    The step scores them in this order, a, b, c, y, p, z, and so the verify model's own tokens come back as: the one
    after the committed, after a, after b, after c, after y, after p, after z. Where a is wrong and y right, the first
    is y, the fifth goes out with it, and where that is p, the sixth, too.

    chances:    for each token of the chain, the chance that it is accepted if all before it are
    confidence: the draft's own, in percent, () if it does not tell
    acceptance: the chance to expect of tokens that this draft has yet to send
    beside:     tokens off the chain, each behind the one it follows
    unscored:   those that the step does not score; what becomes of them is learned all the same
    cut:        more of the chain is there, and was left out as too unlikely
    """

    draft: str = ""
    tokens: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()
    confidence: tuple[int, ...] = ()
    acceptance: float = 0.0
    beside: tuple[Aside, ...] = ()
    unscored: tuple[Aside, ...] = ()
    cut: bool = False

    @property
    def size(self) -> int:
        """Tokens to verify."""
        return len(self.tokens) + len(self.beside)

    def parents(self, last: int) -> Iterator[int]:
        """Return the index in the step's block of what each token beside the chain follows.

        `last` is that of the last committed token; the chain follows it, then come these.
        """
        places = {id(aside): at for at, aside in enumerate(self.beside, last + 1 + len(self.tokens))}
        return (last + aside.depth if aside.behind is None else places[id(aside.behind)] for aside in self.beside)

    # ------------------------------------------------------------------------------------------ how much of it

    def worths(self) -> list[float]:
        """Return the chance of each token to be accepted, the likeliest first."""
        return [worth for worth, _, _ in self._ranked]

    def tip(self) -> int:
        """Return how many of the likeliest tokens have the whole chain among them."""
        last = next((at for at, (_, _, aside) in enumerate(reversed(self._ranked)) if aside is None), self.size)
        return self.size - last

    def within(self, usable: int, room: int) -> Proposal:
        """Return what may be committed where `usable` proposals may, and what fits in `room` slots."""
        if len(self.tokens) <= usable and self.size <= room and not self.beside:
            return self
        beside = tuple(aside for aside in self.beside if aside.depth < usable)
        chain = min(len(self.tokens), usable)
        return self._of(chain, beside[: max(0, room - chain)])

    def likeliest(self, k: int) -> Proposal:
        """Return the k tokens most likely to be accepted: never one without those before it."""
        if self.size <= k:
            return self
        taken = self._ranked[:k]
        return self._of(
            sum(aside is None for _, _, aside in taken),
            tuple(aside for _, _, aside in taken if aside is not None),
        )

    def chain(self, k: int) -> Proposal:
        """Return the first k tokens of the chain alone."""
        return self._of(min(k, len(self.tokens)), ())

    def _of(self, k: int, beside: tuple[Aside, ...]) -> Proposal:
        kept = {id(aside) for aside in beside}
        rest = [aside for aside in (*self.beside, *self.unscored) if id(aside) not in kept]
        return Proposal(
            self.draft,
            self.tokens[:k],
            self.chances[:k],
            self.confidence[:k],
            self.acceptance,
            beside,
            tuple([aside for aside in rest if aside.behind is None and aside.depth < k]),
            self.cut,
        )

    @cached_property
    def _ranked(self) -> list[tuple[float, int, Aside | None]]:
        """Return (chance, depth, None or what is beside the chain) of all tokens, the likeliest first.

        None comes before what it follows: that is less deep, and no less likely.
        """
        ranked: list[tuple[float, int, Aside | None]] = [
            (survival, depth, None) for depth, survival in enumerate(accumulate(self.chances, mul))
        ]
        if self.beside:
            ranked += [(aside.worth, aside.depth, aside) for aside in self.beside]
            ranked.sort(key=_by_chance)
        return ranked

    # ------------------------------------------------------------------------------------------ what became of it

    def outcome(self, picked: Picked) -> Outcome:
        """Return the way of the verify model, whose own tokens `picked` are.

        A proposal is accepted while it equals the model's own token there (greedy and coupled sampling alike, no ratio
        test). One beside the chain brings the model's next token along, unless that is a close call.
        """
        pairs = enumerate(zip(self.tokens, picked.tokens, strict=False))
        accepted = next((j for j, (guess, own) in pairs if guess != own), len(self.tokens))
        picks, aside = [*range(accepted + 1)], list[Aside]()
        there: list[tuple[int, Aside]]
        while True:
            there = self._instead(accepted + len(aside), aside[-1] if aside else None)
            own = picked.tokens[picks[-1]]
            at, right = next((found for found in there if found[1].token == own), (-1, None))
            if right is None or at in picked.doubtful:
                break
            picks.append(at)
            aside.append(right)
        way = accepted + len(aside) + bool(there)
        guessed = max(len(self.tokens), way)
        refused = bool(there) or (not aside and accepted < len(self.tokens))
        origin = Origin.RECOVERED if refused else Origin.BONUS if guessed else Origin.ALONE
        return Outcome(accepted, tuple(aside), guessed, tuple(picks), origin)

    def _instead(self, depth: int, behind: Aside | None) -> list[tuple[int, Aside]]:
        """Return what is scored in one place off the chain, each with the index of the pick after it."""
        beside = enumerate(self.beside, len(self.tokens) + 1)
        return [(at, each) for at, each in beside if each.behind is behind and each.depth == depth]


def _by_chance(ranked: tuple[float, int, Aside | None]) -> tuple[float, int, bool]:
    worth, depth, aside = ranked
    return -worth, depth, aside is not None
