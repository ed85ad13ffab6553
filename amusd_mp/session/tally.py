"""How often what went wrong at a dialler, told in its log: a verify node is asked for its counters, a draft is not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

log = logging.getLogger(__name__)

WORDS: Final[Mapping[str, str]] = {
    "malformed": "published what is no message",
    "unknown_type": "published a message of a type that this version does not have",
    "other_life": "published a message of another life than the one that is known",
    "foreign_ids": "sent token ids that this model does not have",
    "unanswered_hello": "did not take a hello",
    "not_fetched": "was asked for a sequence in vain",
    "unsaid": "was not told what is too long for one publication",
}
"""What the other side did, by reason."""

PASSING: Final = ("other_life", "unanswered_hello")
"""Reasons that a restart of the other side brings along."""


class Tally(Counter[str]):
    """Counts by reason. `peer` is the address of the other side."""

    def __init__(self, peer: str) -> None:
        super().__init__()
        self._peer = peer

    def add(self, reason: str, detail: object = "") -> None:
        """Count once more, and say so the first time and at each tenfold of that; as a warning what does not pass."""
        self[reason] += 1
        count = self[reason]
        if count == 10 ** (len(str(count)) - 1):
            told = f": {detail}" if detail else ""
            level = logging.INFO if reason in PASSING else logging.WARNING
            log.log(level, "%s %s%s (%s, %d so far)", self._peer, WORDS[reason], told, reason, count)
