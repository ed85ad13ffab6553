"""One forward pass, as the core asks for it and as the engine answers it.

A `Step` holds one `Block` per sequence: the tokens to feed into that sequence's cache row and for how many of them the
model's next token is wanted. `Block.start` is the whole of rollback: the cache entries before it stay, those from it on
are overwritten. Core and engine share these types and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from amusd_mp.core.params import GenerationParams

PREFILL_CHUNK: Final = 256
"""Most prompt tokens of one sequence in one step: 0.1 to 0.2 s of a 25 M model on one core, far less on a GPU."""


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens to feed for one sequence.

    row:            the cache row that belongs to the sequence
    start:          absolute position of the first token; entries before it are kept, all others forgotten
    tokens:         the ids to feed, at least one
    picks:          for how many of the *last* tokens the next token is wanted (0: a chunk of a prompt, nothing wanted)
    params:         the request's parameters; the sampling rule reads them
    prompt_length:  where output begins, for rules that depend on it
    parents:        None for a chain; else for each token the index in `tokens` of its parent, -1 for the cached prefix.
                    The position of a token is `start` + its depth.
    """

    sequence: str
    row: int
    start: int
    tokens: tuple[int, ...]
    picks: int
    params: GenerationParams
    prompt_length: int
    parents: tuple[int, ...] | None = None

    @property
    def chained(self) -> int:
        """How many tokens it begins with that each follow the one before them: all of a chain."""
        if self.parents is None:
            return len(self.tokens)
        return next((at for at, parent in enumerate(self.parents) if parent != at - 1), len(self.tokens))

    def line(self, at: int) -> tuple[int, ...]:
        """Return the tokens from the cached prefix down to the one at index `at`, itself included."""
        if self.parents is None:
            return self.tokens[: at + 1]
        path: list[int] = []
        while at >= 0:
            path.append(self.tokens[at])
            at = self.parents[at]
        return tuple(path[::-1])


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The verify model's own opinion of one emitted token: its natural log probability, and the best alternatives."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Picked:
    """The engine's answer for one block: the model's own next token after each wanted token, oldest first.

    `logprobs` is aligned with `tokens` where the request asked for log probabilities, else None; `confidence` is where
    the step asked for it: the share of probability, 0 to 1, that the model itself gives each of these tokens.
    `runners_up` is where the step asked for it, of greedy requests: the next best ids for each token, and their shares.
    `doubtful` are the indices of tokens that a pass of another shape might round to something else: close calls beside
    a tree's leading chain (`engine.sampling`). Such a token may be shown to nobody.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    confidence: tuple[float, ...] = ()
    runners_up: tuple[tuple[tuple[int, float], ...], ...] = ()
    doubtful: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass over some sequences, at most one block each. `number` identifies it until its result is back.

    confidence: tell with each token how sure the model is of it
    runners_up: and with how many of the next best ids it was tempted
    """

    number: int
    blocks: tuple[Block, ...]
    confidence: bool = False
    runners_up: int = 0


@dataclass(frozen=True, slots=True)
class StepResult:
    """One answer per block, in order. `seconds` is what the device took."""

    number: int
    picked: tuple[Picked, ...]
    seconds: float
