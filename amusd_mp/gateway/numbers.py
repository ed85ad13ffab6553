"""The numbers of one response: usage as OpenAI counts it, and what speculation did, in vLLM's shape and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest

from amusd_mp.client.results import GenerationResult, SpeculativeDecoding
from amusd_mp.core.messages import Counts


def usage(results: Sequence[GenerationResult], n: int) -> dict[str, object]:
    """Return tokens over all choices; each prompt counts once, however many of the `n` choices it has."""
    prompt = sum(result.prompt_tokens for result in results[::n])
    completion = sum(len(result.tokens) for result in results)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(result.stats.cached for result in results[::n])},
    }


def total(counts: Sequence[Counts]) -> Counts:
    """Return the counts of several sequences together; overlap is weighted by time."""
    seconds = sum(each.seconds for each in counts)
    return Counts(
        prompt_tokens=sum(each.prompt_tokens for each in counts),
        output_tokens=sum(each.output_tokens for each in counts),
        steps=sum(each.steps for each in counts),
        proposed=sum(each.proposed for each in counts),
        accepted=sum(each.accepted for each in counts),
        histogram=tuple(sum(column) for column in zip_longest(*(each.histogram for each in counts), fillvalue=0)),
        drafted=sum(each.drafted for each in counts),
        rollbacks=sum(each.rollbacks for each in counts),
        alone=sum(each.alone for each in counts),
        cached=sum(each.cached for each in counts),
        seconds=seconds,
        overlap=sum(each.overlap * each.seconds for each in counts) / seconds if seconds else 0.0,
        degraded=any(each.degraded for each in counts),
    )


def speculative_decoding(counts: Counts) -> dict[str, object]:
    """Return the object of one response."""
    return asdict(SpeculativeDecoding.of(counts))


def metrics(results: Sequence[GenerationResult]) -> dict[str, object]:
    """Return the `metrics` object of a response."""
    return {"speculative_decoding": speculative_decoding(total([result.stats for result in results]))}
