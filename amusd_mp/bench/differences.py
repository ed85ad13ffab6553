"""Where two contenders wrote different texts: at which token, and how close the decision was there.

In float32 there is to be none. In lower precision exact ties are common, and a change of rounding (another block size,
another kernel) may turn one; the margin says whether it was one. It is asked of the verify model alone, on the tokens
that both texts share, as the difference of its two best log probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amusd_mp.bench.records import Answer
from amusd_mp.core.params import Strategy

if TYPE_CHECKING:
    from amusd_mp.client.client import Client


@dataclass(frozen=True, slots=True)
class Difference:
    """The first output token in which an answer departs from the baseline's. None: that text ended there."""

    contender: str
    prompt: str
    repeat: int
    turn: int
    position: int
    baseline_token: int | None
    token: int | None


def differences(answers: Mapping[str, Sequence[Answer]], baseline: str) -> Iterator[Difference]:
    """Yield the first difference of every answer from the baseline's of the same prompt and repeat."""
    for label, given in answers.items():
        for own, other in zip(answers[baseline], given, strict=True):
            for number, (a, b) in enumerate(zip(own.turns, other.turns, strict=True)):
                if a.token_ids != b.token_ids:
                    at = departure(a.token_ids, b.token_ids)
                    yield Difference(
                        label, own.prompt, own.repeat, number, at, _at(a.token_ids, at), _at(b.token_ids, at)
                    )
                    break  # what follows answers another text


def departure(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the first index at which two sequences differ; the shorter one's length where it begins the other."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _at(ids: Sequence[int], index: int) -> int | None:
    return ids[index] if index < len(ids) else None


async def margin(client: Client, prompt: Sequence[int], shared: Sequence[int]) -> float | None:
    """Return how far apart the verify model's two best next tokens are after `shared`, in log probability."""
    result = await client.generate(
        [*prompt, *shared], max_tokens=1, temperature=0.0, logprobs=2, strategy=Strategy.AUTOREGRESSIVE, ignore_eos=True
    )
    said = result.tokens[0].logprob
    return abs(said.top[0][1] - said.top[1][1]) if said is not None and len(said.top) > 1 else None
