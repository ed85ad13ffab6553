"""What a request asks for: sampling, stopping and speculation. Names and meanings as in vLLM."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from amusd_mp.core.limits import PARAMETER_IDS

SHOWN = 100
"""Characters of a refused value that an error repeats."""


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

    @property
    def plain(self) -> bool:
        """True if each token is the model's largest logit, and nothing else bears on it."""
        return (
            self.temperature == 0
            and not self.min_tokens
            and not self.logit_bias
            and (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) == (0.0, 0.0, 1.0)
        )


def problem(params: GenerationParams, vocabulary: int) -> tuple[str, str] | None:
    """Return the first parameter that no request may have, and why; None if all are fine."""
    rules: tuple[tuple[str, bool, str], ...] = (
        ("max_tokens", params.max_tokens is not None and params.max_tokens < 1, "must be at least 1"),
        ("min_tokens", params.min_tokens < 0, "must not be negative"),
        (
            "min_tokens",
            params.max_tokens is not None and params.min_tokens > params.max_tokens,
            f"must not exceed max_tokens ({params.max_tokens})",
        ),
        ("temperature", not 0 <= params.temperature <= 100, "must lie between 0 and 100"),
        ("top_p", not 0 < params.top_p <= 1, "must lie in (0, 1]"),
        ("top_k", params.top_k < 0, "must be 0 (off) or positive"),
        ("min_p", not 0 <= params.min_p <= 1, "must lie between 0 and 1"),
        ("presence_penalty", not -2 <= params.presence_penalty <= 2, "must lie between -2 and 2"),
        ("frequency_penalty", not -2 <= params.frequency_penalty <= 2, "must lie between -2 and 2"),
        ("repetition_penalty", not 0 < params.repetition_penalty <= 100, "must lie in (0, 100]"),
        ("stop", any(not stop for stop in params.stop), "must not hold an empty string"),
        ("stop_token_ids", len(params.stop_token_ids) > PARAMETER_IDS, f"must hold at most {PARAMETER_IDS} ids"),
        ("logit_bias", len(params.logit_bias) > PARAMETER_IDS, f"must map at most {PARAMETER_IDS} ids"),
        (
            "stop_token_ids",
            any(not 0 <= token < vocabulary for token in params.stop_token_ids),
            f"must hold ids below the vocabulary's {vocabulary}",
        ),
        (
            "logit_bias",
            any(not 0 <= token < vocabulary or not -100 <= bias <= 100 for token, bias in params.logit_bias),
            f"must map ids below the vocabulary's {vocabulary} to values between -100 and 100",
        ),
    )
    return next(((name, f"{name}={_short(getattr(params, name))} {why}") for name, wrong, why in rules if wrong), None)


def _short(value: object) -> str:
    """Return how a value reads, the beginning of a long one: a list of ids may be longer than an answer may be."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
