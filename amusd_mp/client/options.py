"""What a caller may ask of one response, and how that becomes a request's complete parameters.

`Options` is the one list of keyword arguments that `Client.stream`, `generate` and `sample` take. What the caller
leaves out is the model's own default (its `generation_config`), else the plain one; the seed is drawn here, so that it
travels with the request and a resubmitted request continues with the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Final, TypedDict, cast

from amusd_mp.core.messages import ChatMessage
from amusd_mp.core.model import ModelCard
from amusd_mp.core.params import GenerationParams, Speculation, Strategy, problem
from amusd_mp.errors import RequestError

Prompt = str | Sequence[int]
Messages = Sequence[Mapping[str, str]]


class Options(TypedDict, total=False):
    """Keyword arguments of a request. Sampling parameters are named and mean what they do in vLLM.

    messages:           a conversation of {"role", "content"}, put through the verify model's chat template
    max_tokens:         at most this many output tokens; absent: up to the context length
    min_tokens:         no stop before this many
    temperature:        0 is greedy
    top_p, top_k, min_p: cut the distribution; 1, 0 (or -1) and 0 are off
    presence_penalty, frequency_penalty, repetition_penalty: act on what was written, the last one on the prompt too
    logit_bias:         added to the logits, by token id
    seed:               64 bits; absent: drawn, and returned with the result
    stop:               stop strings; nothing of one is ever emitted
    stop_token_ids:     stop after any of these
    ignore_eos:         do not stop at the model's end-of-sequence tokens
    logprobs:           log probabilities of the verify model, with this many alternatives
    strategy, lookahead: how draft and verify share the work of this response; absent: the deployment's
    show_rejected:      have the verify node tell how the draft tokens that it refused would have read
    timeout:            seconds for the whole response; absent: no limit
    resubmit:           when the verify node dies, have its next life go on with the same text: True waits for it for
                        up to a minute each time, a number for so many seconds; absent or False: SequenceLost
    """

    messages: Messages | None
    max_tokens: int | None
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: Mapping[int, float] | None
    seed: int | None
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    logprobs: int | None
    strategy: Strategy | str | None
    lookahead: int | None
    show_rejected: bool
    timeout: float | None
    resubmit: bool | float


RESUBMIT_WITHIN: Final = 60.0
"""Seconds that `resubmit=True` waits for a verify node to be back: it is started again, and loads its model."""

PLAIN = ("max_tokens", "min_tokens", "temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty",
         "repetition_penalty", "ignore_eos", "logprobs")  # fmt: skip
"""Options that are parameters as they stand."""


def to_params(options: Options, card: ModelCard, seed: int) -> GenerationParams:
    """Return complete parameters; `seed` is used if the caller gave none. Raises RequestError naming a bad value."""
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown option {sorted(unknown)[0]!r}; one of {', '.join(Options.__annotations__)}")
    given = cast(Mapping[str, object], options)
    values: dict[str, object] = dict(card.defaults)
    values.update((name, given[name]) for name in PLAIN if name in given)
    stop = options.get("stop", ())
    asked = options.get("seed")
    if "top_k" in options:
        values["top_k"] = max(options["top_k"], 0)
    params = GenerationParams(
        **values,  # type: ignore[arg-type]  # their types are those of Options; values are checked below
        logit_bias=tuple(sorted((options.get("logit_bias") or {}).items())),
        seed=seed if asked is None else asked,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=tuple(options.get("stop_token_ids", ())),
    )
    with suppress(TypeError):  # a value that cannot even be compared: the verify node's answer names its type
        wrong = problem(params, card.fingerprint.vocabulary)
        if wrong is not None:
            raise RequestError(wrong[1], parameter=wrong[0])
    return params


def to_resubmit(asked: bool | float) -> float:
    """Return for how many seconds a next life of the verify node is awaited, 0 for not at all. Raises RequestError."""
    if isinstance(asked, bool):
        return RESUBMIT_WITHIN if asked else 0.0
    if not isinstance(asked, int | float) or not 0 <= asked < inf:
        raise RequestError(
            f"resubmit={asked!r} must be True, False or a number of seconds that is not negative", parameter="resubmit"
        )
    return float(asked)


def to_speculation(options: Options, default: Speculation) -> Speculation | None:
    """Return how this response is to be shared out, None for the deployment's own way."""
    strategy, lookahead = options.get("strategy"), options.get("lookahead")
    if strategy is None and lookahead is None:
        return None
    try:
        chosen = default.strategy if strategy is None else Strategy(strategy)
    except ValueError:
        known = ", ".join(Strategy)
        raise RequestError(f"strategy {strategy!r} is unknown; one of {known}", parameter="strategy") from None
    return Speculation(chosen, default.lookahead if lookahead is None else lookahead)


def to_prompt(
    prompt: Prompt | None, messages: Messages | None
) -> tuple[str | None, tuple[int, ...] | None, tuple[ChatMessage, ...] | None]:
    """Return (text, ids, messages) with exactly one of them set. Raises RequestError otherwise."""
    if (prompt is None) == (messages is None):
        raise RequestError("give either a prompt or messages", parameter="prompt")
    if messages is not None:
        try:
            return None, None, tuple(ChatMessage(message["role"], message["content"]) for message in messages)
        except (KeyError, TypeError):
            raise RequestError(
                'messages must be a list of {"role": ..., "content": ...}', parameter="messages"
            ) from None
    if isinstance(prompt, str):
        return prompt, None, None
    if isinstance(prompt, bytes) or not isinstance(prompt, Iterable):
        raise RequestError(
            f"a prompt is text or token ids, not {type(prompt).__name__}; decode bytes first", parameter="prompt"
        )
    ids = tuple(prompt)
    if not all(isinstance(token, int) and 0 <= token < 1 << 31 for token in ids):
        raise RequestError("token ids must be non-negative integers of 31 bits", parameter="prompt")
    return None, ids, None
