"""One sequence at a draft node: what is committed, what is guessed beyond it, and what the cache row holds.

`ids` is the committed tokens followed by the guesses (the lead); the cache row holds exactly `ids[:fed]`. Commits reach
`replica` at any time; `reconcile` moves the working state to them between steps (rule D3), so a result always belongs
to the state that asked for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from amusd_mp.core.messages import Window
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.replica import Replica


@dataclass(slots=True, eq=False)
class DraftSequence:
    """`end_ids` are the tokens after which guessing is pointless; `max_length` is the draft model's own."""

    name: str
    params: GenerationParams
    speculation: Speculation
    replica: Replica
    max_length: int
    end_ids: Collection[int]
    ids: list[int] = field(default_factory=list)
    confidence: list[int] = field(default_factory=list)  # percent, of the lead's tokens
    committed: int = 0  # how many of `ids` are committed
    version: int = 0
    fed: int = 0
    row: int | None = None
    drafted: int = 0
    rollbacks: int = 0
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
        del self.confidence[: len(known) - self.committed]
        if c < len(known):
            self.rollbacks += c < len(self.ids)
            self.confidence.clear()
            del self.ids[c:]
            self.ids.extend(known[c:])
            self.fed = min(self.fed, c)
        self.committed = len(known)
        self.version = self.replica.version

    @property
    def wanting(self) -> bool:
        """True while another guess could still be used."""
        limit = min(self.committed + self.speculation.lookahead, self.max_length)
        if self.params.max_tokens is not None:  # the verify model's own token is the last one
            limit = min(limit, self.replica.prompt_length + self.params.max_tokens - 1)
        if self.speculation.strategy is Strategy.AUTOREGRESSIVE or len(self.ids) >= limit:
            return False
        return not (self.lead and self.ids[-1] in self.end_ids)

    @property
    def worth_sending(self) -> bool:
        """True if the lead should be published: always, but under alternating speculation only as a whole round."""
        if not self.lead:
            return False
        return self.speculation.strategy is not Strategy.ALTERNATING or not self.wanting

    def guess(self, token: int, confidence: float | None = None) -> None:
        """Extend the lead by one token, of which the model is so sure (0 to 1; None: it does not tell)."""
        self.ids.append(token)
        if confidence is not None:
            self.confidence.append(round(100 * min(1.0, confidence)))
        self.drafted += 1

    def window(self) -> Window:
        """Return the whole lead, to be published."""
        return Window(
            sequence=self.name,
            version=self.version,
            base=self.committed,
            tokens=tuple(self.ids[self.committed :]),
            confidence=tuple(self.confidence) if len(self.confidence) == self.lead else (),
            full=not self.wanting,
            drafted=self.drafted,
            rollbacks=self.rollbacks,
        )
