"""One forward pass, as the core asks for it and as the engine answers it.

A `Step` holds one `Block` per sequence: the tokens to feed into that sequence's cache row and for how many of them the
model's next token is wanted. `Block.start` is the whole of rollback: the cache entries before it stay, those from it on
are overwritten. Core and engine share these types and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from amusd_mp.core.params import GenerationParams


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
    """

    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    confidence: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass over some sequences, at most one block each. `number` identifies it until its result is back.

    confidence: tell with each token how sure the model is of it
    """

    number: int
    blocks: tuple[Block, ...]
    confidence: bool = False


@dataclass(frozen=True, slots=True)
class StepResult:
    """One answer per block, in order. `seconds` is what the device took."""

    number: int
    picked: tuple[Picked, ...]
    seconds: float
