"""The noise of coupled sampling on tensors, and the arg-max under it: exact, and without most of the work.

The definition is `amusd_mp.core.noise`. Here its integers live in int64, whose products wrap where 64-bit words do, so
they are the same bits on every device; only the logarithms may differ in the last place. The noise is bounded, so an
entry too far below the best score cannot win whatever its noise: leaving it out changes nothing. It knows logits and
seeds, no request; a device without float64 (mps) is not served, the caller moves its scores to the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from amusd_mp.core.noise import HIGHEST, KEY_STEPS, LOWEST, MASK, MULTIPLIERS, ROUNDS, key_words

SLACK: Final = 1e-6
"""Added to the bound on the noise: more than float64 rounding of a score of any size that float32 resolves."""

CHUNK: Final = 32768
"""Entries computed at once on a CPU: their int64 words (256 KiB each) stay in its cache. Twice as fast as 1 M."""

LARGE: Final = 16384
"""Vocabulary from which a second look at the best entry pays: its noise narrows the cut by about 3 nats."""

Word = int | Tensor
"""A 32-bit word: one for all entries, or an int64 tensor that broadcasts with them."""


def words(tokens: Tensor, positions: Tensor, key: tuple[Word, Word]) -> Tensor:
    """Return the first output word of Philox4x32-10 for counter (token, position, 0, 0), int64 in 0 .. 2^32 - 1.

    tokens, positions: int64, broadcasting. The counter's two zero words and the three unused output words leave 16 of
    20 products to compute. High halves that are about to be masked anyway are not masked twice.
    """
    m0, m1 = MULTIPLIERS
    k0, k1 = key
    left = tokens * m0
    c0: Tensor = positions ^ k0
    c1: Tensor | None = None  # the word is 0 after the first round
    c2 = ((left >> 32) ^ k1).bitwise_and_(MASK)
    for _ in range(ROUNDS - 2):
        k0, k1 = k0 + KEY_STEPS[0] & MASK, k1 + KEY_STEPS[1] & MASK
        right, lower, left = c2 * m1, left, c0 * m0
        high = right >> 32
        if c1 is not None:
            high ^= c1
        c2 = ((left >> 32) ^ lower ^ k1).bitwise_and_(MASK)
        high ^= k0
        c0, c1 = high.bitwise_and_(MASK), right
    assert c1 is not None
    k0 = k0 + KEY_STEPS[0] & MASK
    right = c2 * m1 >> 32
    right ^= c1
    right ^= k0
    return right.bitwise_and_(MASK)


def gumbel(tokens: Tensor, positions: Tensor, key: tuple[Word, Word]) -> Tensor:
    """Return the noise as float64, in the broadcast shape of the arguments."""
    u = words(tokens, positions, key).double().add_(0.5).mul_(2.0**-32)
    return u.log_().neg_().log_().neg_()


def noisy_argmax(scores: Tensor, seeds: Sequence[int], positions: Sequence[int]) -> Tensor:
    """Return per row the id whose score plus noise is largest, int64 [n]; ties go to the lowest id.

    scores:  float32 or float64 [n, vocabulary]: log probabilities up to a constant per row, -inf where excluded
    seeds, positions: of each row
    """
    device = scores.device
    at = torch.tensor(positions, device=device)
    key: tuple[Word, Word]
    if len(set(seeds)) == 1:
        key = key_words(seeds[0])
    else:
        pairs = torch.tensor([key_words(seed) for seed in seeds], device=device)
        key = pairs[:, 0], pairs[:, 1]
    if device.type == "cpu":
        return _argmax_of_few(scores, at, key)
    # Elsewhere reading back how many candidates there are would cost more than computing all of them.
    tokens = torch.arange(scores.shape[1], device=device)
    noise = gumbel(tokens, at[:, None], (_rows(key[0], (slice(None), None)), _rows(key[1], (slice(None), None))))
    return noise.add_(scores).max(dim=-1).indices


def _argmax_of_few(scores: Tensor, at: Tensor, key: tuple[Word, Word]) -> Tensor:
    """The same, computing noise only for entries that could win."""
    best, first = scores.max(dim=-1)
    floor = best.double() + (LOWEST - HIGHEST)
    if scores.shape[1] >= LARGE:
        floor = best + gumbel(first, at, key) - HIGHEST
    # Rounded down on the way back to the scores' type, so that no entry on the edge is lost.
    edge = torch.nextafter((floor - SLACK).to(scores.dtype), torch.tensor(-torch.inf, dtype=scores.dtype))
    rows, tokens = (scores >= edge[:, None]).nonzero(as_tuple=True)
    total = scores[rows, tokens].double()
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        row = rows[part]
        total[part] += gumbel(tokens[part], at[row], (_rows(key[0], row), _rows(key[1], row)))
    field = torch.full(scores.shape, -torch.inf, dtype=torch.float64)
    field[rows, tokens] = total
    # The first of equals, so the lowest id. Unlike argmax, max over a dimension is fast on a CPU too.
    return field.max(dim=-1).indices


def _rows(word: Word, index: object) -> Word:
    return word[index] if isinstance(word, Tensor) else word  # type: ignore[index]
