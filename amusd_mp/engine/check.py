"""The load check: is this model, run through rows, masks and cache, the same function as plain forward passes?

It runs ragged rows, a rollback, a tree and one of its branches fed again, as nodes do to go on from it, with any window
narrowed so that short sequences cross it, and compares every logit with transformers' own attention and masks on the
same weights; where blocks are padded or packed by their size, both ways. Models that names in a config do not give away
(odd positions, attention that ignores the mask) fail here. It takes some tens of milliseconds on a small model, and
runs at every load. An exception inside it is a failure too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from amusd_mp.core.model import ModelCard
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Step
from amusd_mp.engine.model import SlotModel, free_tokens
from amusd_mp.errors import ModelError

LIMIT: Final = {torch.float32: 1e-3, torch.float64: 1e-3}
"""Largest error over the spread of the logits. Right models stay below 3e-6 in float32, wrong ones above 0.19."""

LIMIT_LOW: Final = 0.1
"""The same for 16-bit types, where right models stay below 0.05."""

_LENGTH: Final = 24  # slots; the check uses 11
_NARROW: Final = 4  # window and chunk during the check
_PARAMS: Final = GenerationParams()


def check(net: PreTrainedModel, card: ModelCard) -> float:
    """Return error over spread of the logits. Raises ModelError, naming both, when it is too large or the model fails.

    `net` is on its device with its attention set, and is left so.
    """
    limit = LIMIT.get(net.dtype, LIMIT_LOW)
    try:
        with _narrow(net.config), torch.inference_mode():
            errors = [_compare(net, card, pack_above) for pack_above in sorted({0, free_tokens(net.device)})]
            worst = _worst(errors)
    except Exception as error:
        raise ModelError(
            f"{card.name} ({type(net).__name__}) cannot be served: the load check failed with "
            f"{type(error).__name__}: {error}",
            model=card.name,
        ) from error
    if not worst <= limit:  # also when it is NaN
        raise ModelError(
            f"{card.name} ({type(net).__name__}) cannot be served: in the load check its logits are off by {worst:.2g} "
            f"of their spread (at most {limit:g} in {card.dtype}); the model does not fit the slot cache",
            model=card.name,
        )
    return worst


def _compare(net: PreTrainedModel, card: ModelCard, pack_above: int) -> float:
    model = SlotModel(net, replace(card, max_length=_LENGTH), rows=2, pack_above=pack_above)
    draw = torch.Generator().manual_seed(0)
    size = card.fingerprint.vocabulary

    def some(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(min(3, size - 1), size, (count,), generator=draw).tolist())

    first, second, guess, left, right, more = some(4), some(8), some(3), some(2), some(2), some(2)
    tail = some(3)
    runs: list[tuple[Tensor, tuple[int, ...]]] = []

    def feed(*blocks: Block) -> list[Tensor]:
        logits = model.score(Step(0, blocks)).float()
        return list(torch.split(logits, [block.picks for block in blocks]))

    got = feed(_block(0, 0, first), _block(1, 0, second))
    runs += [(got[0], first), (got[1], second)]
    feed(_block(0, 4, guess), _block(1, 8, guess[:1]))  # guesses, all of them taken back by the next step
    got = feed(_block(0, 4, left + right, (-1, 0, -1, 2)), _block(1, 8, tail))
    runs += [(got[0][:2], first + left), (got[0][2:], first + right), (got[1], second + tail)]
    got = feed(_block(0, 4, right + more))
    runs.append((got[0], first + right + more))
    errors: list[float] = []
    with _plain_attention(net):
        for logits, ids in runs:
            fed = torch.tensor((ids,), device=net.device)
            truth = net(input_ids=fed, use_cache=False).logits[0, -len(logits) :].float()
            errors.append(float((logits - truth).abs().max() / truth.std()))
    return _worst(errors)


def _worst(errors: list[float]) -> float:
    """Return the largest error, NaN before all: max() of Python passes over it."""
    return next((error for error in errors if math.isnan(error)), max(errors))


def _block(row: int, start: int, tokens: tuple[int, ...], parents: tuple[int, ...] | None = None) -> Block:
    return Block("load-check", row, start, tokens, len(tokens), _PARAMS, start, parents)


@contextmanager
def _plain_attention(net: PreTrainedModel) -> Iterator[None]:
    """Run with transformers' eager attention: the reference must not share our attention or our masks."""
    ours = net.config._attn_implementation
    net.set_attn_implementation("eager")
    try:
        yield
    finally:
        net.set_attn_implementation(ours)


@contextmanager
def _narrow(config: PreTrainedConfig) -> Iterator[None]:
    """Make windows and chunks of the config so small that the check's short sequences cross them."""
    text = config.get_text_config(decoder=True)
    saved = {}
    for key in ("sliding_window", "attention_chunk_size"):
        width = getattr(text, key, None)
        if isinstance(width, int) and width > _NARROW:
            saved[key] = width
            setattr(text, key, _NARROW)
    try:
        yield
    finally:
        for key, width in saved.items():
            setattr(text, key, width)
