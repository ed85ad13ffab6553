"""The noise of coupled sampling, written to be read: what every other implementation must equal.

g(seed, position, token) is Gumbel(0, 1) noise and a pure function, so two nodes that never talk about it agree on it.
It is Philox4x32-10, keyed by the seed, counting (token, position); the definition of the generator is section 4.3 of
"Parallel random numbers: as easy as 1, 2, 3" (Salmon, Moraes, Dror, Shaw, SC 2011). The first output word x gives
u = (x + 1/2) / 2^32, never 0 and never 1, and g = -log(-log u). It knows no tensors: `amusd_mp.engine.noise` does.
"""

from __future__ import annotations

from math import log, log1p
from typing import Final

MASK: Final = 0xFFFFFFFF
MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)  # added to the key words between rounds
ROUNDS: Final = 10

LOWEST: Final = -log(33 * log(2))
"""The smallest noise there is, at u = 2^-33: -3.13."""

HIGHEST: Final = -log(-log1p(-(2.0**-33)))
"""The largest noise there is, at u = 1 - 2^-33: 22.87. Between two tokens it decides at most HIGHEST - LOWEST."""


def key_words(seed: int) -> tuple[int, int]:
    """Return the generator's key: low and high word of a 64-bit seed."""
    return seed & MASK, seed >> 32 & MASK


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the four output words of Philox4x32-10. All words are below 2^32."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        left, right = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = right >> 32 ^ c1 ^ k0, right & MASK, left >> 32 ^ c3 ^ k1, left & MASK
        k0, k1 = k0 + KEY_STEPS[0] & MASK, k1 + KEY_STEPS[1] & MASK
    return c0, c1, c2, c3


def gumbel(seed: int, position: int, token: int) -> float:
    """Return the noise of vocabulary entry `token` at the absolute `position` of a request with this seed."""
    word = philox((token, position, 0, 0), key_words(seed))[0]
    return -log(-log((word + 0.5) / 2**32))
