"""One sequence at a draft node: what is committed, what is guessed beyond it, and what the cache row holds.

`ids` is the committed tokens followed by the guesses (the lead); the cache row holds exactly `ids[:fed]`. `branches`
are guesses for the case that the lead is wrong, and no part of either. Commits reach `replica` at any time; `reconcile`
moves the working state to them between steps (rule D3), so a result always belongs to the state that asked for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final

from amusd_mp.core.branches import AT_ONCE, BRANCHED, LEAST_BRANCH, Beside, Branch, Offer
from amusd_mp.core.calibration import LEAST_WORTH, Record, odds
from amusd_mp.core.messages import Window
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.replica import Replica
from amusd_mp.core.step import PREFILL_CHUNK, Block

LEAST_SHARE: Final = 2
"""Percent of probability below which a runner-up is not worth its place in a message."""


@dataclass(slots=True, eq=False)
class DraftSequence:
    """`end_ids` are the tokens after which guessing is pointless; `max_length` is the draft model's own.

    `record` says what this draft's confidence is worth, and learns it from what is committed.
    """

    name: str
    params: GenerationParams
    speculation: Speculation
    replica: Replica
    max_length: int
    end_ids: Collection[int]
    record: Record = field(default_factory=Record)
    ids: list[int] = field(default_factory=list)
    confidence: list[int] = field(default_factory=list)  # percent, of the lead's tokens
    runners_up: list[Beside] = field(default_factory=list)  # beside each of them
    branches: dict[tuple[int, int], Branch] = field(default_factory=dict)  # by position and token of the runner-up
    committed: int = 0  # how many of `ids` are committed
    version: int = 0
    fed: int = 0
    row: int | None = None
    drafted: int = 0
    prepared: int = 0  # guesses behind runners-up
    rollbacks: int = 0
    resumed_at: float = 0.0  # when the first guess was made after it last stopped or started over
    guessed_at: float = 0.0  # when its newest was made
    stopped: bool = True
    survival: float = 1.0  # chance that the whole lead is accepted, as far as confidence tells
    closed: bool = False

    @property
    def lead(self) -> int:
        """Guessed tokens beyond the committed ones."""
        return len(self.ids) - self.committed

    def reconcile(self) -> bool:
        """Move to the newest commit: keep the lead where it agrees, jump forward, or roll back to the exact point.

        Return whether there was one.
        """
        known = self.replica.tokens
        if len(known) == self.committed:
            self.version = self.replica.version
            return False
        c, most = self.committed, min(len(self.ids), len(known))
        while c < most and self.ids[c] == known[c]:
            c += 1
        self._judge(c - self.committed, known[c] if c < most else None)
        if c < len(known):
            self._start_over(c, known)
        else:
            del self.confidence[: len(known) - self.committed]
            del self.runners_up[: len(known) - self.committed]
            self.branches = {at: branch for at, branch in self.branches.items() if branch.position >= c}
        self.committed = len(known)
        self.version = self.replica.version
        self.survival = prod(map(self.record.chain.chance, self.confidence))
        self.stopped |= not self.wanting
        return True

    def _start_over(self, c: int, known: Sequence[int]) -> None:
        """Go on from `known`, which leave the lead at position `c`, with what a branch holds behind them."""
        taken = self.branches.get((c, known[c]), Branch(c, known[c]))
        ahead, self.confidence, self.runners_up = taken.beyond(known[c + 1 :])
        self.rollbacks += c < len(self.ids)
        self.stopped = True
        self.ids[c:] = [*known[c:], *ahead]
        self.branches = {}
        self.fed = min(self.fed, c)

    def _judge(self, right: int, own: int | None) -> None:
        """Learn from the lead's first tokens: so many were right; where `own` is told, it came in place of the next."""
        for at, confidence in enumerate(self.confidence[: right + (own is not None)]):
            self.record.chain.judge(confidence, at < right)
        if own is not None and right < len(self.runners_up):
            chosen, beside = self.confidence[right], self.runners_up[right]
            self.record.wrong([(odds(share, chosen), token == own) for token, share in beside])

    @property
    def wanting(self) -> bool:
        """True while another guess could still be used.

        Not behind a lead that will hardly be accepted as far as it goes; an alternating verify node wants its k.
        """
        if self.speculation.strategy is Strategy.AUTOREGRESSIVE or len(self.ids) >= self._limit:
            return False
        if self.survival < LEAST_WORTH and self.speculation.strategy is Strategy.AMUSD:
            return False
        return not (self.lead and self.ids[-1] in self.end_ids)

    @property
    def _limit(self) -> int:
        """The length beyond which no guess could be used."""
        limit = min(self.committed + self.speculation.lookahead, self.max_length)
        if self.params.max_tokens is not None:  # the verify model's own token is the last one
            limit = min(limit, self.replica.prompt_length + self.params.max_tokens - 1)
        return limit

    @property
    def beyond(self) -> bool:
        """True once this model's context is full: it can guess nothing more for the sequence, and needs no row."""
        return self.committed >= self.max_length

    @property
    def worth_sending(self) -> bool:
        """True if the lead should be published: always, but under alternating speculation only as a whole round."""
        if not self.lead:
            return False
        return self.speculation.strategy is not Strategy.ALTERNATING or not self.wanting

    @property
    def branching(self) -> bool:
        """True if runners-up are of use: the verify node scores trees for greedy requests that do not alternate."""
        return self.params.plain and self.speculation.strategy is Strategy.AMUSD

    def guess(
        self, token: int, now: float, confidence: float | None = None, runners_up: Sequence[tuple[int, float]] = ()
    ) -> None:
        """Extend the lead by one token, of which the model is so sure (0 to 1; None: it does not tell).

        `runners_up` are the next best ids with their own shares, `now` is this node's clock.
        """
        if self.stopped:
            self.resumed_at, self.stopped = now, False
        self.guessed_at = now
        self.ids.append(token)
        if confidence is not None:
            self.confidence.append(_percent(confidence))
            self.survival *= self.record.chain.chance(self.confidence[-1])
            self.runners_up.append(self._beside(runners_up))
        self.drafted += 1
        self.stopped = not self.wanting

    def prepare(self, branch: Branch, token: int, confidence: float, runners_up: Sequence[tuple[int, float]]) -> None:
        """Make a branch one token longer."""
        self.prepared += 1
        self.branches[branch.position, branch.token] = branch
        percent = _percent(confidence)
        branch.add(token, percent, self._beside(runners_up), self.record.chain.chance(percent))

    def _beside(self, runners_up: Sequence[tuple[int, float]]) -> Beside:
        told = ((other, _percent(share)) for other, share in runners_up)
        return tuple(each for each in told if each[1] >= LEAST_SHARE) if self.branching else ()

    def offers(self) -> list[Offer]:
        """Return the branches that could be made longer, in no order."""
        found: list[Offer] = []
        before, limit = 1.0, self._limit
        held = sum(len(branch.tokens) for branch in self.branches.values())
        slots = len(self.ids) + AT_ONCE * (limit - self.committed)  # a tree takes more of them than positions
        if held + AT_ONCE > BRANCHED or slots > self.max_length:
            return found
        for at, (confidence, beside) in enumerate(zip(self.confidence, self.runners_up, strict=False)):
            chance = self.record.chain.chance(confidence)
            wrong = before * (1 - chance)
            before *= chance
            for token, share in beside if wrong >= LEAST_BRANCH else ():
                key = self.committed + at, token
                branch = self.branches.get(key) or Branch(*key)
                worth = wrong * self.record.beside.chance(odds(share, confidence)) * branch.survival
                if worth >= LEAST_BRANCH and branch.end < limit and branch.last not in self.end_ids:
                    found.append(Offer(worth, branch))
        return found

    def block(self, tip: bool, branches: Sequence[Branch] = ()) -> Block:
        """Return what to feed for the guess behind the lead (`tip`), and for one behind each of the branches.

        The lead's part comes first, then each branch from its runner-up on; what follows a branch is the pick of its
        last token. A long prompt comes in chunks, the first without a pick.
        """
        assert self.row is not None
        start, end = self.span(tip, branches)
        if end - start > PREFILL_CHUNK:
            return self._block(start, self.ids[start : start + PREFILL_CHUNK], 0)
        tokens, parents = self.ids[start:end], list(range(-1, end - start - 1))
        for branch in branches:
            parents += [branch.position - 1 - start, *range(len(tokens), len(tokens) + len(branch.tokens))]
            tokens += [branch.token, *branch.tokens]
        chained = all(parent == at - 1 for at, parent in enumerate(parents))
        picks = len(tokens) - (end - start) + tip
        return self._block(start, tokens, picks, None if chained else tuple(parents))

    def span(self, tip: bool, branches: Sequence[Branch]) -> tuple[int, int]:
        """Return the positions of the lead that are fed: those not fed yet, and those that a branch needs before it."""
        start = min((self.fed, *(branch.position for branch in branches)))
        return start, len(self.ids) if tip else max((start, *(branch.position for branch in branches)))

    def _block(self, start: int, tokens: Sequence[int], picks: int, parents: tuple[int, ...] | None = None) -> Block:
        assert self.row is not None
        return Block(
            sequence=self.name,
            row=self.row,
            start=start,
            tokens=tuple(tokens),
            picks=picks,
            params=self.params,
            prompt_length=self.replica.prompt_length,
            parents=parents,
        )

    def window(self) -> Window:
        """Return the whole lead, to be published: the chain of guesses, its branches, and runners-up beside both."""
        tokens, confidence = self.ids[self.committed :], self.confidence
        parents: list[int] | None = None
        if len(confidence) != len(tokens):
            confidence = []
        elif any(self.runners_up):
            parents = list(range(-1, len(tokens) - 1))
            confidence = [*confidence]
            for depth, beside in enumerate(self.runners_up):
                for other, share in beside:
                    tokens.append(other)
                    parents.append(depth - 1)
                    confidence.append(share)
                    branch = self.branches.get((self.committed + depth, other))
                    if branch is not None:
                        branch.write(tokens, parents, confidence)
        return Window(
            sequence=self.name,
            version=self.version,
            base=self.committed,
            tokens=tuple(tokens),
            parents=tuple(parents) if parents is not None else None,
            confidence=tuple(confidence),
            full=not self.wanting,
            drafted=self.drafted,
            rollbacks=self.rollbacks,
            resumed_at=self.resumed_at,
            prepared=self.prepared,
            guessed_at=self.guessed_at,
        )


def _percent(share: float) -> int:
    return round(100 * min(1.0, share))
