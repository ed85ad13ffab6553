"""Words that several messages use: where a token came from, why a sequence ended, how a node is, what it all cost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Origin(StrEnum):
    """Where a committed token came from; one letter each, so that a window of tokens carries a string of origins."""

    ACCEPTED = "a"  # the draft guessed it and the verify model agreed
    RECOVERED = "r"  # the verify model's own token at the first difference
    BONUS = "b"  # the verify model's own token after every guess was accepted
    ALONE = "-"  # there was no guess (prefill's token, no draft, or none in time)

    @property
    def drafted(self) -> bool:
        """True if the draft node made this token."""
        return self is Origin.ACCEPTED


class Finish(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"  # end-of-sequence token, stop token or stop string
    LENGTH = "length"  # max_tokens or the context length
    CANCELLED = "cancelled"  # its client asked, or its lease ran out
    ERROR = "error"  # the verify node could not go on


class NodeState(StrEnum):
    """Life of a node, told in every beat."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Counts:
    """What one sequence cost, by the field's definitions; final once it is finished, cut at its stop.

    steps:      speculative verify steps (those with at least one proposal; the prefill's token is none)
    proposed:   positions for which a verify step had scored a guess: of its draft's own way, or of the way it took
    accepted:   of those, the ones emitted
    histogram:  histogram[j] = speculative steps that accepted exactly j draft tokens
    drafted:    tokens the draft made for this sequence, as it told; the rest of them, drafted - proposed, were wasted
    rollbacks:  times the draft had to take tokens back
    alone:      tokens emitted without any proposal
    cached:     prompt tokens that were not computed again
    seconds:    from admission to finish
    overlap:    share of that time in which both devices computed
    degraded:   no draft was joined for part of the time
    """

    prompt_tokens: int
    output_tokens: int = 0
    steps: int = 0
    proposed: int = 0
    accepted: int = 0
    histogram: tuple[int, ...] = ()
    drafted: int = 0
    rollbacks: int = 0
    alone: int = 0
    cached: int = 0
    seconds: float = 0.0
    overlap: float = 0.0
    degraded: bool = False
