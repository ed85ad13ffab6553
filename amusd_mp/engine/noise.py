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

DEVICE_CHUNK: Final = 1 << 22
"""The same elsewhere: 32 MiB a word, 32 rows of a 128k vocabulary, so that a wide step does not fill the device."""

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
    if device.type != "cpu":
        # There, reading back how many candidates there are would cost more than computing all of them.
        return _of_all(scores, at, key, DEVICE_CHUNK)
    likely = scores >= _edge(scores, at, key)[:, None]
    if 4 * int(likely.sum()) > likely.numel():
        return _of_all(scores, at, key, CHUNK)
    return _of_some(scores, at, key, likely)


def _edge(scores: Tensor, at: Tensor, key: tuple[Word, Word]) -> Tensor:
    """Return per row a score below which no entry can win, whatever its noise."""
    best, first = scores.max(dim=-1)
    floor = best.double() + (LOWEST - HIGHEST)
    if scores.shape[1] >= LARGE:
        floor = best + gumbel(first, at, key) - HIGHEST
    # Rounded down on the way back to the scores' type, so that no entry on the edge is lost.
    return torch.nextafter((floor - SLACK).to(scores.dtype), torch.tensor(-torch.inf, dtype=scores.dtype))


def _of_all(scores: Tensor, at: Tensor, key: tuple[Word, Word], chunk: int) -> Tensor:
    """Return the ids with noise for every entry, computed `chunk` entries at a time."""
    size = scores.shape[1]
    tokens = torch.arange(size, device=scores.device)
    together = max(1, chunk // size)
    found = []
    for start in range(0, len(scores), together):
        part = slice(start, start + together)
        total = scores[part].double()
        column = at[part, None], (_column(key[0], part), _column(key[1], part))
        for left in range(0, size, chunk):
            total[:, left : left + chunk] += gumbel(tokens[left : left + chunk], *column)
        # The first of equals, so the lowest id. Unlike argmax, max over a dimension is fast on a CPU too.
        found.append(total.max(dim=-1).indices)
    return torch.cat(found)


def _of_some(scores: Tensor, at: Tensor, key: tuple[Word, Word], likely: Tensor) -> Tensor:
    """Return the ids with noise for the `likely` entries only."""
    rows, tokens = likely.nonzero(as_tuple=True)
    total = scores[rows, tokens].double()
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        row = rows[part]
        total[part] += gumbel(tokens[part], at[row], (_of_rows(key[0], row), _of_rows(key[1], row)))
    best = total.new_full((len(scores),), -torch.inf).scatter_reduce_(0, rows, total, "amax")
    won = (total == best[rows]).nonzero()[:, 0]
    lowest = tokens.new_zeros(len(scores))  # stays for a row of NaN, which has no likely entry
    return lowest.scatter_reduce_(0, rows[won], tokens[won], "amin", include_self=False)


def _of_rows(word: Word, rows: Tensor) -> Word:
    return word[rows] if isinstance(word, Tensor) else word


def _column(word: Word, part: slice) -> Word:
    return word[part, None] if isinstance(word, Tensor) else word
