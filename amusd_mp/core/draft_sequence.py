"""One sequence at a draft node: what is committed, what is guessed beyond it, and what the cache row holds.

`ids` is the committed tokens followed by the guesses (the lead); the cache row holds exactly `ids[:fed]`. Commits reach
`replica` at any time; `reconcile` moves the working state to them between steps (rule D3), so a result always belongs
to the state that asked for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final

from amusd_mp.core.calibration import LEAST_WORTH, Calibration
from amusd_mp.core.messages import Window
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.replica import Replica

RUNNERS_UP: Final = 2
"""Next best tokens told with each guess: of the bundled pair's wrong guesses the second best is right in 43 of 100, the
third in 12, the fourth in 7 (greedy, 48 prompts)."""

LEAST_SHARE: Final = 2
"""Percent of probability below which a runner-up is not worth its place in a message."""


@dataclass(slots=True, eq=False)
class DraftSequence:
    """`end_ids` are the tokens after which guessing is pointless; `max_length` is the draft model's own.

    `calibration` says what this draft's confidence is worth, and learns it from what is committed.
    """

    name: str
    params: GenerationParams
    speculation: Speculation
    replica: Replica
    max_length: int
    end_ids: Collection[int]
    calibration: Calibration = field(default_factory=Calibration)
    ids: list[int] = field(default_factory=list)
    confidence: list[int] = field(default_factory=list)  # percent, of the lead's tokens
    runners_up: list[tuple[tuple[int, int], ...]] = field(default_factory=list)  # ids and percent beside each of them
    committed: int = 0  # how many of `ids` are committed
    version: int = 0
    fed: int = 0
    row: int | None = None
    drafted: int = 0
    rollbacks: int = 0
    resumed_at: float = 0.0  # when the first guess was made after it last stopped or started over
    stopped: bool = True
    survival: float = 1.0  # chance that the whole lead is accepted, as far as confidence tells
    closed: bool = False

    @property
    def lead(self) -> int:
        """Guessed tokens beyond the committed ones."""
        return len(self.ids) - self.committed

    def reconcile(self) -> None:
        """Move to the newest commit: keep the lead where it agrees, jump forward, or roll back to the exact point."""
        known = self.replica.tokens
        if len(known) == self.committed:
            self.version = self.replica.version
            return
        c, most = self.committed, min(len(self.ids), len(known))
        while c < most and self.ids[c] == known[c]:
            c += 1
        self._judge(c - self.committed, wrong=c < most)
        del self.confidence[: len(known) - self.committed]
        del self.runners_up[: len(known) - self.committed]
        if c < len(known):
            self.rollbacks += c < len(self.ids)
            self.stopped = True
            self.confidence.clear()
            self.runners_up.clear()
            del self.ids[c:]
            self.ids.extend(known[c:])
            self.fed = min(self.fed, c)
        self.committed = len(known)
        self.version = self.replica.version
        self.survival = prod(map(self.calibration.chance, self.confidence))
        self.stopped |= not self.wanting

    def _judge(self, right: int, wrong: bool) -> None:
        """Learn from the lead's first tokens: so many were right, and the one behind them was wrong or is not known."""
        for at, confidence in enumerate(self.confidence[: right + wrong]):
            self.calibration.judge(confidence, at < right)

    @property
    def wanting(self) -> bool:
        """True while another guess could still be used.

        Not behind a lead that will hardly be accepted as far as it goes; an alternating verify node wants its k.
        """
        limit = min(self.committed + self.speculation.lookahead, self.max_length)
        if self.params.max_tokens is not None:  # the verify model's own token is the last one
            limit = min(limit, self.replica.prompt_length + self.params.max_tokens - 1)
        if self.speculation.strategy is Strategy.AUTOREGRESSIVE or len(self.ids) >= limit:
            return False
        if self.survival < LEAST_WORTH and self.speculation.strategy is Strategy.AMUSD:
            return False
        return not (self.lead and self.ids[-1] in self.end_ids)

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
        self.ids.append(token)
        if confidence is not None:
            self.confidence.append(_percent(confidence))
            self.survival *= self.calibration.chance(self.confidence[-1])
            told = ((other, _percent(share)) for other, share in runners_up)
            self.runners_up.append(tuple(each for each in told if each[1] >= LEAST_SHARE) if self.branching else ())
        self.drafted += 1
        self.stopped = not self.wanting

    def window(self) -> Window:
        """Return the whole lead, to be published: the chain of guesses, then the runners-up beside it."""
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
        )


def _percent(share: float) -> int:
    return round(100 * min(1.0, share))
