"""What a request does to the scores of a token before it is chosen, in the order of vLLM.

`adjust` (also for greedy requests): ids that may not end the text yet, bias, penalties. `narrow` (only where chance is
asked for): temperature, min-p, top-k, top-p. transformers has most of these too, for a whole batch with one history
length; here each position of a block has its own history, nothing sorts a vocabulary on a CPU, and entries that tie at
an edge stay together, so that the result does not depend on how a device sorts. Both change their scores in place.
"""

from __future__ import annotations

from collections.abc import Collection
from math import log
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from amusd_mp.core.params import GenerationParams
from amusd_mp.engine.wanted import Wanted

FIRST_LOOK: Final = 256
"""Entries in which top-p first looks for its share on a CPU; a share that needs more looks at 16 times as many."""

COLDEST: Final = 1e-30
"""Temperatures below it act like it: there the best score wins anyway, and float32 would run over."""


def adjusts(want: Wanted) -> bool:
    """True if `adjust` would change anything."""
    params = want.params
    return (
        bool(params.logit_bias)
        or _penalizes(params)
        or (params.min_tokens > 0 and want.position(0) - want.block.prompt_length < params.min_tokens)
    )


def adjust(scores: Tensor, want: Wanted, eos_ids: Collection[int]) -> None:
    """Apply min_tokens, logit_bias, repetition, frequency and presence penalty to float32 [picks, vocabulary].

    `eos_ids` are the model's; like vLLM, min_tokens excludes them also where the request ignores them.
    """
    params = want.params
    if params.min_tokens:
        early = [[at] for at, t in enumerate(want.positions()) if t - want.block.prompt_length < params.min_tokens]
        ends = sorted({*params.stop_token_ids, *eos_ids})
        if early and ends:
            scores[early, ends] = -torch.inf
    if params.logit_bias:
        ids, bias = zip(*params.logit_bias, strict=True)
        added = torch.tensor(bias, device=scores.device).expand(len(scores), -1)
        scores.index_add_(1, torch.tensor(ids, device=scores.device), added)
    if _penalizes(params):
        _penalize(scores, want)


def narrow(scores: Tensor, params: GenerationParams) -> None:
    """Apply temperature, min_p, top_k and top_p to float32 [picks, vocabulary]; excluded entries become -inf."""
    scores /= max(params.temperature, COLDEST)
    if params.min_p > 0:
        scores.masked_fill_(scores < scores.amax(-1, keepdim=True) + log(params.min_p), -torch.inf)
    if 0 < params.top_k < scores.shape[1]:
        scores.masked_fill_(scores < scores.topk(params.top_k).values[:, -1:], -torch.inf)
    if params.top_p < 1:
        _top_p(scores, params.top_p)


def _penalizes(params: GenerationParams) -> bool:
    return params.repetition_penalty != 1 or params.frequency_penalty != 0 or params.presence_penalty != 0


def _penalize(scores: Tensor, want: Wanted) -> None:
    """Penalize the ids each position has seen: repetition counts prompt and output, the others the output alone."""
    block, params = want.block, want.params
    ids = torch.tensor([*want.held[: block.start], *block.tokens])
    # On the host, where the ids are.
    known, entry = ids.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    within = torch.zeros(block.picks, len(block.tokens))
    for pick in range(block.picks):
        within[pick, want.within(pick)] = 1.0
    # Counted in float32: exact up to 2^24, and a matrix product of integers is slow on a CPU.
    placed = one_hot(entry[block.start :], len(known)).float()
    seen = (entry[: block.start].bincount(minlength=len(known)) + within @ placed) > 0
    # In a tree a token may stand before its index, but a tree holds no prompt.
    placed[: max(0, block.prompt_length - block.start)] = 0.0
    output = entry[block.prompt_length : block.start].bincount(minlength=len(known)) + within @ placed
    known, seen, output = known.to(scores.device), seen.to(scores.device), output.to(scores.device)
    found = scores[:, known]
    if params.repetition_penalty != 1:
        rate = params.repetition_penalty
        found = torch.where(seen, torch.where(found > 0, found / rate, found * rate), found)
    found -= params.frequency_penalty * output
    found -= params.presence_penalty * (output > 0)
    scores[:, known] = found


def _top_p(scores: Tensor, top_p: float) -> None:
    """Keep the most probable entries up to the first at which their sum reaches `top_p`."""
    chances = scores.softmax(-1)
    size = scores.shape[1]
    edge = chances.new_zeros(len(scores), 1)
    rows = torch.arange(len(scores), device=scores.device)
    # A GPU sorts everything faster than it reports whether less would do.
    look = min(FIRST_LOOK, size) if scores.device.type == "cpu" else size
    while len(rows):
        best = chances[rows].topk(look).values
        total = best.double().cumsum(-1)
        count = (total - best < top_p).sum(-1, keepdim=True).clamp_(min=1)
        edge[rows] = best.gather(-1, count - 1)
        if look == size:
            break
        rows = rows[total[:, -1] < top_p]
        look = min(16 * look, size)
    scores.masked_fill_(chances < edge, -torch.inf)
