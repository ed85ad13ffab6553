"""From answers to `summary.json`: a row per contender, and speed-ups in two views with their intervals.

Definitions: a time per token is the whole response's time over its tokens; acceptance is accepted tokens over the
positions for which there was a guess, several guesses of a tree for one position being one; the mean acceptance length
counts steps with a proposal; wasted are drafted tokens beyond one for each such position. Everything is plain data, so
that a report is made from files alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from amusd_mp.bench.records import Answer
from amusd_mp.bench.statistics import Cost, Interval, Pair, Spread, bootstrap, mean_speed_up, spread, total_speed_up


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """How much faster `contender` is than `baseline`: ratio of total times per token, and mean of prompts' ratios."""

    contender: str
    baseline: str
    total: Interval
    mean: Interval


@dataclass(frozen=True, slots=True)
class Row:
    """One contender. Times in milliseconds; None where nothing was measured.

    tokens_per_second:  all tokens over the time of all responses; with several prompts at once over the time of all
                        blocks, so the deployment's rate, and of a category None
    ms_per_token:       of one response
    decode_ms:          between a response's first and last token, per token
    decode_total_ms:    the same over all responses' tokens
    acceptance_rate:    accepted tokens over positions with a guess
    wasted:             drafted tokens beyond one for each such position
    overlap:            share of the responses' time in which both devices computed
    degraded:           responses that had no draft for a while
    prompt_ms:          taken off each response's time for its prompt, as a mean: of peers, which compute it themselves
    """

    contender: str
    responses: int
    tokens: int
    tokens_per_second: float | None
    ms_per_token: Spread
    decode_ms: Spread | None
    decode_total_ms: float | None
    first_ms: Spread
    acceptance_rate: float | None
    mean_acceptance_length: float | None
    histogram: tuple[int, ...]
    drafted: int
    wasted: int
    rollbacks: int
    overlap: float | None
    degraded: int
    prompt_ms: float


def row(label: str, answers: Sequence[Answer], walls: Sequence[float] | None) -> Row:
    """Return one contender's row. `walls`: seconds in which nothing else was done, None if there were none."""
    turns = [turn for answer in answers for turn in answer.turns]
    counts = [turn.counts for turn in turns if turn.counts is not None]
    steps, accepted = sum(c.steps for c in counts), sum(c.accepted for c in counts)
    proposed, drafted = sum(c.proposed for c in counts), sum(c.drafted for c in counts)
    seconds = sum(c.seconds for c in counts)
    long = [(t.seconds - t.first, len(t.token_ids) - 1) for t in turns if len(t.token_ids) > 1 and t.first]
    decode = [1e3 * taken / count for taken, count in long]
    tokens = sum(answer.tokens for answer in answers)
    return Row(
        contender=label,
        responses=len(turns),
        tokens=tokens,
        tokens_per_second=tokens / sum(walls) if walls is not None else None,
        ms_per_token=spread([1e3 * answer.seconds / answer.tokens for answer in answers]),
        decode_ms=spread(decode) if decode else None,
        decode_total_ms=1e3 * sum(taken for taken, _ in long) / sum(count for _, count in long) if long else None,
        first_ms=spread([1e3 * turn.first for turn in turns]),
        acceptance_rate=accepted / proposed if proposed else None,
        mean_acceptance_length=1 + accepted / steps if steps else None,
        histogram=_added([c.histogram for c in counts]),
        drafted=drafted,
        wasted=drafted - proposed,
        rollbacks=sum(c.rollbacks for c in counts),
        overlap=sum(c.overlap * c.seconds for c in counts) / seconds if seconds else None,
        degraded=sum(c.degraded for c in counts),
        prompt_ms=1e3 * sum(turn.prompt_seconds for turn in turns) / len(turns),
    )


def pairs(base: Sequence[Answer], other: Sequence[Answer]) -> list[Pair]:
    """Return each prompt's costs under two contenders, over all repeats."""
    first, second = _costs(base), _costs(other)
    return [(first[prompt], second[prompt]) for prompt in first]


def _costs(answers: Sequence[Answer]) -> dict[str, Cost]:
    found: dict[str, Cost] = {}
    for answer in answers:
        before = found.get(answer.prompt, Cost(0.0, 0))
        found[answer.prompt] = Cost(before.seconds + answer.seconds, before.tokens + answer.tokens)
    return found


def speed_up(label: str, baseline: str, answers: Mapping[str, Sequence[Answer]]) -> SpeedUp:
    """Return how much faster one contender was than another on the same prompts."""
    both = pairs(answers[baseline], answers[label])
    return SpeedUp(label, baseline, bootstrap(both, total_speed_up), bootstrap(both, mean_speed_up))


def compared(labels: Sequence[str], baseline: str, main: str) -> list[tuple[str, str]]:
    """Return which contender is held against which: each against the baseline, and the main one against each."""
    against = [(label, baseline) for label in labels if label != baseline]
    return against + [(main, label) for label in labels if label not in (main, baseline) and main in labels]


def results(
    answers: Mapping[str, Sequence[Answer]],
    walls: Mapping[str, Sequence[float]],
    baseline: str,
    main: str,
    *,
    mixed: bool = False,
) -> dict[str, Any]:
    """Return the rows, the speed-ups, and both again for each category of prompts if there are several.

    `mixed`: several prompts were answered at once, of all categories; only then do `walls`, of all blocks, matter.
    """
    labels = list(answers)
    found: dict[str, Any] = {
        "rows": [
            asdict(row(label, answers[label], walls[label] if mixed else _seconds(answers[label]))) for label in labels
        ],
        "speed_ups": [asdict(speed_up(label, base, answers)) for label, base in compared(labels, baseline, main)],
    }
    categories = list(dict.fromkeys(answer.category for answer in answers[baseline]))
    if len(categories) > 1:
        found["categories"] = {name: _of_category(name, answers, baseline, main, mixed) for name in categories}
    return found


def _of_category(
    name: str, answers: Mapping[str, Sequence[Answer]], baseline: str, main: str, mixed: bool
) -> dict[str, list[dict[str, Any]]]:
    mine = {label: [answer for answer in given if answer.category == name] for label, given in answers.items()}
    return {
        "rows": [asdict(row(label, given, None if mixed else _seconds(given))) for label, given in mine.items()],
        "speed_ups": [asdict(speed_up(label, base, mine)) for label, base in compared(list(mine), baseline, main)],
    }


def _seconds(answers: Sequence[Answer]) -> list[float]:
    return [answer.seconds for answer in answers]


def _added(histograms: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    length = max(map(len, histograms), default=0)
    return tuple(sum(each[at] for each in histograms if at < len(each)) for at in range(length))
