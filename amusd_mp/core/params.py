"""What a request asks for: sampling, stopping and speculation. Names and meanings as in vLLM."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Strategy(StrEnum):
    """How draft and verify share the work of one sequence. The text is the same under all three."""

    AUTOREGRESSIVE = "autoregressive"  # the verify model alone
    ALTERNATING = "alternating"  # synchronous speculation: draft k, wait, verify, wait
    AMUSD = "amusd"  # both all the time


@dataclass(frozen=True, slots=True)
class Speculation:
    """How far the draft may run ahead (`lookahead`, tokens beyond the committed ones), and how the two take turns.

    Under `alternating`, `lookahead` is the k of one round.
    """

    strategy: Strategy = Strategy.AMUSD
    lookahead: int = 16


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """One request's parameters, complete: the client fills in every default, and draws the seed.

    `temperature` 0 is greedy. `top_k` 0 and `top_p` 1 are off. `max_tokens` None means up to the context length.
    `logprobs` None is off; n asks for the n best alternatives of the verify model beside each token's own.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
