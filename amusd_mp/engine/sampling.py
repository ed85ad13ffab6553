"""The one place where logits become tokens: the model's own next token for every wanted position.

Both nodes choose by one rule: the entry whose processed score plus the shared noise at (seed, position, entry) is
largest, which is an exact sample of the processed distribution (Gumbel-max; design in docs/sampling.md). A greedy
request has neither temperature nor noise. What a row gets depends on its own logits, history, position and seed, never
on the other rows or on how positions are cut into blocks. Steps of greedy requests alone take a short way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import torch
from torch import Tensor

from amusd_mp.core.step import Picked, TokenLogprob
from amusd_mp.engine.noise import noisy_argmax
from amusd_mp.engine.processors import adjust, adjusts, narrow
from amusd_mp.engine.wanted import Wanted

CLOSE: Final = {torch.float32: 1e-3, torch.float64: 1e-6}
CLOSE_16: Final = 0.25
"""Lead of the best logit over the next, as a share of their standard deviation, up to which a choice is a close call.

Another shape of the pass moves a logit by up to 3e-6 of it (float32) or 0.05 (16 bits, also the default here). What
rounds is the arithmetic inside, so the type is that of the weights: some models return float32 logits of 16-bit ones.
"""


def choose(
    logits: Tensor,
    wanted: Sequence[Wanted],
    vocabulary: int,
    eos_ids: Collection[int] = (),
    confidence: bool = False,
    runners_up: int = 0,
    weights: Collection[torch.dtype] = (),
) -> list[Picked]:
    """Return one `Picked` per block.

    logits:     [n, padded vocabulary], n = all wanted positions, block after block
    vocabulary: ids from here on are padding of the model's table and never chosen
    eos_ids:    the model's own, which a request with min_tokens may not choose too early
    confidence: tell the probability of each chosen token, too: after processing, before noise. It is a draft that wants
                to know, whose choices are guesses anyway: none is marked doubtful
    runners_up: and with that, where the largest logit decides, so many of the next best
    weights:    types of the model's weights; with the logits' own they say what is a close call

    Ties go to the lowest id. One copy to the host per call, two where a request wants log probabilities.
    """
    raw = logits[:, :vocabulary]
    if all(_greedy(want) for want in wanted):
        # The first of equals, so the lowest id. Unlike argmax, max over a dimension is fast on a CPU too.
        scores, chosen = raw, raw.max(dim=-1).indices
    else:
        if raw.device.type == "mps":  # it has no float64, in which the noise is defined
            raw = raw.cpu()
        scores, chosen = _processed(raw, wanted, eos_ids)
    shares: list[float] = []
    others: list[tuple[tuple[int, float], ...]] = []
    doubts = [frozenset[int]()] * len(wanted)
    ids: list[int]
    if runners_up and all(want.params.plain for want in wanted):
        ids, shares, others = _with_runners_up(raw, chosen, runners_up)
    elif confidence:
        ids, shares = _with_shares(scores, chosen)
    else:
        ids, doubts = _with_doubts(raw, chosen, wanted, {raw.dtype, *weights})
    opinions = _opinions(raw, chosen, wanted)
    picked, at = [], 0
    for want, doubtful in zip(wanted, doubts, strict=True):
        to = at + want.block.picks
        logprobs = None if want.params.logprobs is None else tuple(opinions[row] for row in range(at, to))
        picked.append(Picked(tuple(ids[at:to]), logprobs, tuple(shares[at:to]), tuple(others[at:to]), doubtful))
        at = to
    return picked


def _greedy(want: Wanted) -> bool:
    """True if the largest logit decides."""
    return not want.block.picks or (want.params.temperature == 0 and not adjusts(want))


def _with_shares(scores: Tensor, chosen: Tensor) -> tuple[list[int], list[float]]:
    """Return the chosen ids and the probability of each, in one copy: ids are exact in float32 up to 2^24."""
    own = scores.gather(-1, chosen[:, None])[:, 0].float()
    share = (own - scores.float().logsumexp(dim=-1)).exp_()
    ids, shares = torch.stack((chosen.float(), share)).tolist()
    return [int(token) for token in ids], shares


def _with_runners_up(
    raw: Tensor, chosen: Tensor, count: int
) -> tuple[list[int], list[float], list[tuple[tuple[int, float], ...]]]:
    """Return the chosen ids, the probability of each, and the `count` next best with theirs, in one copy."""
    best = raw.float().topk(min(count + 1, raw.shape[1]))
    shares = (best.values - raw.float().logsumexp(dim=-1, keepdim=True)).exp_()
    table: list[list[float]] = torch.cat((chosen[:, None].float(), best.indices.float(), shares), dim=-1).tolist()
    ids, own, others = [], [], []
    for first, *rest in table:
        half = len(rest) // 2
        # Of equal logits `topk` may have named another one first: its share is the same.
        ids.append(int(first))
        own.append(rest[half])
        others.append(tuple((int(i), s) for i, s in zip(rest[:half], rest[half:], strict=True) if i != first)[:count])
    return ids, own, others


def _with_doubts(
    raw: Tensor, chosen: Tensor, wanted: Sequence[Wanted], types: Collection[torch.dtype]
) -> tuple[list[int], list[frozenset[int]]]:
    """Return the chosen ids and, by block, which picks off a tree's leading chain are close calls, in one copy.

    Where more than logits bears, all of those picks are. The coarsest of the `types` says what is close.
    """
    beside: list[range] = []  # the picks off the chain, by block
    rows: list[int] = []  # those that their lead decides on
    at = 0
    for want in wanted:
        block = want.block
        beside.append(range(max(0, block.chained - len(block.tokens) + block.picks), block.picks))
        if want.params.plain:
            rows += [at + pick for pick in beside[-1]]
        at += block.picks
    told = chosen
    if rows:
        scores = raw[rows].float()
        best = scores.topk(2).values
        lead = (best[:, 0] - best[:, 1]) / scores.std(dim=-1)
        told = torch.cat((chosen, lead <= max(CLOSE.get(each, CLOSE_16) for each in types)))  # bools among int64: 0, 1
    ids: list[int] = told.tolist()
    close = iter(ids[at:])
    doubts = [
        frozenset([pick for pick in picks if not want.params.plain or next(close)])
        for picks, want in zip(beside, wanted, strict=True)
    ]
    return ids[:at], doubts


def _processed(raw: Tensor, wanted: Sequence[Wanted], eos_ids: Collection[int]) -> tuple[Tensor, Tensor]:
    """Return scores and the chosen id of every row where at least one request is more than the largest logit."""
    scores = raw.to(torch.float32, copy=True)
    rows: list[int] = []  # those that chance decides
    seeds: list[int] = []
    positions: list[int] = []
    at = 0
    for want in wanted:
        picks, params = want.block.picks, want.params
        if picks and adjusts(want):
            adjust(scores[at : at + picks], want, eos_ids)
        if picks and params.temperature > 0:
            narrow(scores[at : at + picks], params)
            rows += range(at, at + picks)
            seeds += [params.seed] * picks
            positions += want.positions()
        at += picks
    if len(rows) == len(scores):
        return scores, noisy_argmax(scores, seeds, positions)
    chosen = scores.max(dim=-1).indices
    if rows:
        chosen[rows] = noisy_argmax(scores[rows], seeds, positions)
    return scores, chosen


def _opinions(raw: Tensor, chosen: Tensor, wanted: Sequence[Wanted]) -> dict[int, TokenLogprob]:
    """Return what the model thinks of the chosen tokens, by row: before penalties, temperature and filters."""
    rows: list[int] = []
    sizes: list[int] = []
    at = 0
    for want in wanted:
        if want.params.logprobs is not None:
            rows += range(at, at + want.block.picks)
            sizes += [want.params.logprobs] * want.block.picks
        at += want.block.picks
    if not rows:
        return {}
    logprobs = raw[rows].float().log_softmax(-1)
    best = logprobs.topk(min(max(sizes), raw.shape[1]))
    # Ids are exact in float32 up to 2^24, so that everything leaves the device in one copy.
    columns = (logprobs.gather(-1, chosen[rows][:, None]), best.values, best.indices.float())
    table: list[list[float]] = torch.cat(columns, dim=-1).tolist()
    found: dict[int, TokenLogprob] = {}
    for row, size, (own, *rest) in zip(rows, sizes, table, strict=True):
        half = len(rest) // 2
        top = sorted(((int(token), value) for value, token in zip(rest[:half], rest[half:], strict=True)), key=_order)
        found[row] = TokenLogprob(own, tuple(top[:size]))
    return found


def _order(entry: tuple[int, float]) -> tuple[float, int]:
    """Best first, the lowest id first of equals."""
    return -entry[1], entry[0]
