"""What a request asks of the client: prompts, options, and one stream per choice."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import cast

from amusd_mp.client.options import Messages, Options, Prompt
from amusd_mp.core.model import ModelCard
from amusd_mp.gateway.schema import ChatRequest, CompletionRequest, Generation, Message

SEEDS = 1 << 64
_AS_THEY_STAND = ("top_p", "top_k", "min_p", "repetition_penalty", "strategy", "lookahead")


@dataclass(frozen=True, slots=True)
class Asked:
    """One choice: a prompt, or messages in the options, and the seed that is its own."""

    index: int
    prompt: Prompt | None
    options: Options


def asked(body: CompletionRequest | ChatRequest, card: ModelCard, timeout: float) -> list[Asked]:
    """Return the choices a request asks for. Sample j of a prompt uses seed + j, as `Client.sample` does."""
    seed = secrets.randbits(64) if body.seed is None else body.seed
    options = _options(body, card, timeout)
    prompts: list[Prompt | None] = [None] if isinstance(body, ChatRequest) else list(_prompts(body))
    return [
        Asked(i * body.n + j, prompt, {**options, "seed": (seed + j) % SEEDS})
        for i, prompt in enumerate(prompts)
        for j in range(body.n)
    ]


def turns(messages: list[Message]) -> Messages:
    """Return a conversation as the client takes it. A developer is what a system used to be."""
    return [{"role": "system" if m.role == "developer" else m.role, "content": m.text} for m in messages]


def _prompts(body: CompletionRequest) -> list[Prompt]:
    given = body.prompt
    if isinstance(given, str) or isinstance(given[0], int):
        return [cast(Prompt, given)]
    return list(cast("list[Prompt]", given))


def _options(body: Generation, card: ModelCard, timeout: float) -> Options:
    options: Options = {
        "stop": body.stop,
        "stop_token_ids": body.stop_token_ids,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logit_bias": {int(token): bias for token, bias in body.logit_bias.items()},
        "min_tokens": body.min_tokens,
        "ignore_eos": body.ignore_eos,
        "timeout": timeout,
    }
    given = {name: getattr(body, name) for name in _AS_THEY_STAND if getattr(body, name) is not None}
    options.update(cast(Options, given))
    if body.temperature is not None:
        options["temperature"] = body.temperature
    elif "temperature" not in dict(card.defaults):
        options["temperature"] = 1.0  # what OpenAI's clients expect of a server they do not tell
    if isinstance(body, ChatRequest):
        options["messages"] = turns(body.messages)
        options["max_tokens"] = body.max_completion_tokens or body.max_tokens
        options["logprobs"] = (body.top_logprobs or 0) if body.logprobs else None
    elif isinstance(body, CompletionRequest):
        options["max_tokens"] = body.max_tokens
        options["logprobs"] = body.logprobs
    return options
