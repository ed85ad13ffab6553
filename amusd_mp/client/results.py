"""What the client hands out: chunks while text is being written, and the whole result at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from amusd_mp.core.messages import Counts, Finish, Origin
from amusd_mp.core.step import TokenLogprob


@dataclass(frozen=True, slots=True)
class Token:
    """One decided token. `origin` tells who made it; `origin.drafted` is True for the draft node's.

    text:           what the output's text gained with it: "" while a character is unfinished or a stop string possible
    rejected:       drafted ids that the verify model refused, at positions from this token's on
    rejected_text:  what they would have read, if the request asked with `show_rejected`

    Rejections are news of the moment: where a lost message was repaired later, they are missing.
    """

    id: int
    origin: Origin
    logprob: TokenLogprob | None = None
    text: str = ""
    rejected: tuple[int, ...] = ()
    rejected_text: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What was decided since the chunk before. Joined, the texts are the whole text and the tokens the whole output.

    A chunk may have tokens and no text (an unfinished character, a possible stop string) or text and no tokens.
    """

    text: str
    tokens: tuple[Token, ...]

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of the tokens."""
        return tuple(token.id for token in self.tokens)

    @property
    def rejected(self) -> tuple[int, ...]:
        """Drafted ids that the verify model refused in favour of tokens of this chunk."""
        return tuple(rejected for token in self.tokens for rejected in token.rejected)

    @property
    def drafted(self) -> tuple[bool, ...]:
        """For each token, whether the draft node made it."""
        return tuple(token.origin.drafted for token in self.tokens)


@dataclass(frozen=True, slots=True)
class SpeculativeDecoding:
    """Numbers of one response by the field's definitions, in vLLM's shape, and ours after them.

    mean_acceptance_length:    tokens per speculative step, 1 + accepted / steps
    draft_acceptance_rate:     accepted draft tokens / positions for which there was a guess
    acceptance_histogram:      [j] = speculative steps that accepted exactly j draft tokens
    num_draft_tokens:          those positions: the verified tokens of a chain; a tree has several for one
    drafted:                   tokens that the draft made; `wasted` are those beyond `num_draft_tokens`
    overlap:                   share of the response's time in which both devices computed
    degraded:                  no draft was joined for part of the time
    """

    mean_acceptance_length: float | None
    draft_acceptance_rate: float | None
    acceptance_histogram: tuple[int, ...]
    num_spec_steps: int
    num_accepted_draft_tokens: int
    num_draft_tokens: int
    drafted: int
    wasted: int
    rollbacks: int
    overlap: float
    degraded: bool

    @classmethod
    def of(cls, counts: Counts) -> SpeculativeDecoding:
        """Return the numbers that a sequence's final counts imply; None where nothing was measured."""
        return cls(
            mean_acceptance_length=1 + counts.accepted / counts.steps if counts.steps else None,
            draft_acceptance_rate=counts.accepted / counts.proposed if counts.proposed else None,
            acceptance_histogram=counts.histogram,
            num_spec_steps=counts.steps,
            num_accepted_draft_tokens=counts.accepted,
            num_draft_tokens=counts.proposed,
            drafted=counts.drafted,
            wasted=counts.drafted - counts.proposed,
            rollbacks=counts.rollbacks,
            overlap=counts.overlap,
            degraded=counts.degraded,
        )


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """One finished response.

    finish_reason:        stop or length
    stats:                counts of the verify node, cut exactly at the stop; `stats.seconds` is its own wall time
    time_to_first_token:  seconds from submitting to the first token's arrival here
    seconds:              seconds from submitting to the end's arrival here
    resubmissions:        how often another life of the verify node had to go on with it; of what earlier lives counted,
                          `stats` holds what their tokens tell, while its times are the last life's
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: Finish
    prompt_tokens: int
    seed: int
    stats: Counts
    time_to_first_token: float
    seconds: float
    resubmissions: int = 0

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of the output."""
        return tuple(token.id for token in self.tokens)

    @property
    def speculative_decoding(self) -> SpeculativeDecoding:
        """How speculation went."""
        return SpeculativeDecoding.of(self.stats)

    @property
    def tokens_per_second(self) -> float:
        """Output tokens per second of the whole response, the prompt's time included."""
        return len(self.tokens) / self.seconds if self.seconds > 0 else 0.0


def with_earlier(counts: Counts, tokens: Sequence[Token]) -> Counts:
    """Return a life's final counts with what the `tokens` of earlier lives tell of the steps that made them.

    What an earlier life guessed in vain counts as far as it was told (`Token.rejected`), and at least as one token for
    each that was recovered.
    """
    if not tokens:
        return counts
    histogram: Counter[int] = Counter(dict(enumerate(counts.histogram)))
    steps = proposed = accepted = alone = rollbacks = run = 0
    for index, token in enumerate(tokens):
        match token.origin:
            case Origin.ACCEPTED:
                run += 1
                if index + 1 < len(tokens):
                    continue  # its step goes on
            case Origin.ALONE:
                alone += 1
                continue
            case Origin.RECOVERED:
                proposed += max(1, len(token.rejected))
                rollbacks += 1
        histogram[run] += 1
        steps, proposed, accepted, run = steps + 1, proposed + run, accepted + run, 0
    return replace(
        counts,
        steps=counts.steps + steps,
        proposed=counts.proposed + proposed,
        accepted=counts.accepted + accepted,
        histogram=tuple(histogram[j] for j in range(max(histogram, default=-1) + 1)),
        drafted=counts.drafted + proposed,
        rollbacks=counts.rollbacks + rollbacks,
        alone=counts.alone + alone,
    )
