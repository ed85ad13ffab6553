"""The demo's measurement: several strategies on the same prompts in turn, so that whatever disturbs one disturbs all.

In every round each prompt is answered once under each contender, beginning with another one each time. A speed-up is
the median of pairs: the same prompt in the same round, alone and not. Knows a client and no process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from amusd_mp.core.params import Strategy
from amusd_mp.errors import OperationalError

if TYPE_CHECKING:
    from amusd_mp.client.client import Client
    from amusd_mp.client.results import GenerationResult

TIMEOUT: Final = 60.0
"""Seconds one response may take: far more than it needs, so that a demo never hangs."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to answer. `lookahead` None is the deployment's own."""

    label: str
    strategy: Strategy
    lookahead: int | None = None


ALONE: Final = Contender("verify alone", Strategy.AUTOREGRESSIVE)
ALTERNATING: Final = tuple(Contender(f"alternating, k={k}", Strategy.ALTERNATING, k) for k in (2, 3, 5))
ASYNCHRONOUS: Final = Contender("asynchronous", Strategy.AMUSD)
CONTENDERS: Final = (ALONE, *ALTERNATING, ASYNCHRONOUS)


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's numbers: medians over responses; acceptance over all of its steps; None where it has no steps."""

    label: str
    tokens_per_second: float
    speed_up: float
    acceptance_rate: float | None
    mean_acceptance_length: float | None
    overlap: float


@dataclass(slots=True)
class Comparison:
    """All responses, per contender in the same order of rounds and prompts."""

    prompts: Sequence[str]
    max_tokens: int
    results: dict[Contender, list[GenerationResult]] = field(
        default_factory=lambda: {contender: [] for contender in CONTENDERS}
    )

    async def run(self, client: Client, rounds: int, on_response: Callable[[], object] = lambda: None) -> None:
        """Measure. Raises what generating raises."""
        for turn in range(rounds):
            for number, prompt in enumerate(self.prompts):
                first = (turn + number) % len(CONTENDERS)
                for contender in (*CONTENDERS[first:], *CONTENDERS[:first]):
                    self.results[contender].append(await self.answer(client, prompt, contender))
                    on_response()

    async def answer(self, client: Client, prompt: str, contender: Contender) -> GenerationResult:
        """Return one response."""
        return await client.generate(
            prompt,
            max_tokens=self.max_tokens,
            strategy=contender.strategy,
            lookahead=contender.lookahead,
            temperature=0.0,
            timeout=TIMEOUT,
        )

    def check_texts(self) -> None:
        """Raise OperationalError, naming prompt and contender, unless every text is the verify model's own."""
        for contender, results in self.results.items():
            for number, (own, result) in enumerate(zip(self.results[ALONE], results, strict=True)):
                if own.token_ids != result.token_ids or own.text != result.text:
                    prompt = self.prompts[number % len(self.prompts)]
                    same = next(
                        (at for at, (a, b) in enumerate(zip(own.token_ids, result.token_ids, strict=False)) if a != b),
                        min(len(own.tokens), len(result.tokens)),
                    )
                    raise OperationalError(
                        f"{contender.label} wrote another text than the verify model alone, from output token {same} on"
                        f", for the prompt {prompt[:40]!r}; that must not happen, please report it"
                    )

    def rows(self) -> Iterator[Row]:
        """Yield a row per contender."""
        for contender, results in self.results.items():
            counts = [result.stats for result in results]
            steps, accepted = sum(c.steps for c in counts), sum(c.accepted for c in counts)
            proposed = sum(c.proposed for c in counts)
            pairs = zip(self.results[ALONE], results, strict=True)
            yield Row(
                label=contender.label,
                tokens_per_second=median(result.tokens_per_second for result in results),
                speed_up=median(result.tokens_per_second / own.tokens_per_second for own, result in pairs),
                acceptance_rate=accepted / proposed if proposed else None,
                mean_acceptance_length=1 + accepted / steps if steps else None,
                overlap=median(c.overlap for c in counts),
            )


def best_alternating(rows: Sequence[Row]) -> str:
    """Return the label of the fastest alternating row, chosen on these very numbers, which is in its favour."""
    labels = {contender.label for contender in ALTERNATING}
    return max((row for row in rows if row.label in labels), key=lambda row: row.speed_up).label
