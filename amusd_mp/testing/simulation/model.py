"""An engine without a model: tokens by a hash of everything before them, and steps that cost virtual seconds.

The true token of a prefix is a hash of the whole prefix, so one token fed wrongly changes all that follow. A draft
agrees with it on a share of all prefixes, independently. The cache is a list of ids per row, kept as a real one would
be: a step that does not begin within what its row holds is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from amusd_mp.core.model import Fingerprint, ModelCard
from amusd_mp.core.step import Block, Picked, Step, StepResult

VOCABULARY = 997

OWN_SHARE = 0.6
OTHER_SHARE = 0.3
"""What a simulated draft says of its choice and its runner-up: always the same, so nothing can be read there."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds of one forward pass: `base`, and `per_token` for every token after a row's first one, of the longest row.

    `shake` draws a factor for each step; None is none.
    """

    base: float
    per_token: float = 0.0
    shake: Callable[[], float] | None = None

    def of(self, step: Step) -> float:
        """Return what this step takes."""
        longest = max(len(block.tokens) for block in step.blocks)
        seconds = self.base + self.per_token * (longest - 1)
        return seconds if self.shake is None else seconds * self.shake()


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a model writes: the truth of `seed`, on a share `agrees` of all prefixes, something else on the rest."""

    seed: int
    agrees: float = 1.0
    dice: int = 0  # which prefixes those are
    second: float = 0.0  # on which share of the prefixes where it is wrong its runner-up is right; 0: it names none

    def after(self, prefix: int) -> int:
        """Return the token that follows the prefix of this running hash."""
        mixed = crc32(prefix.to_bytes(4, "little"), self.seed)
        truth = mixed % VOCABULARY
        if self.agrees >= 1.0:
            return truth
        thrown = crc32(mixed.to_bytes(4, "big"), self.dice + 1)
        if thrown % 100_003 < self.agrees * 100_003:
            return truth
        return (truth + 1 + thrown % (VOCABULARY - 1)) % VOCABULARY

    def at(self, ids: Sequence[int], prefix: int) -> int:
        """Return the token that follows `ids`, whose running hash is `prefix`."""
        return self.after(prefix)

    @property
    def has_second(self) -> bool:
        """True if it has a runner-up to name."""
        return self.second > 0

    def runner_up(self, ids: Sequence[int], prefix: int) -> int:
        """Return the token that it would have written otherwise."""
        mixed = crc32(prefix.to_bytes(4, "little"), self.seed)
        truth = mixed % VOCABULARY
        wrong = self.at(ids, prefix) != truth
        return truth if wrong and self._second_is_right(ids, mixed) else (truth + VOCABULARY - 1) % VOCABULARY

    def _second_is_right(self, ids: Sequence[int], mixed: int) -> bool:
        return crc32(mixed.to_bytes(4, "big"), self.dice + 2) % 100_003 < self.second * 100_003

    def write(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """Return what this model alone writes after a prompt."""
        prefix, out = 0, []
        for token in prompt:
            prefix = extend(prefix, token)
        for _ in range(tokens):
            out.append(self.after(prefix))
            prefix = extend(prefix, out[-1])
        return out


@dataclass(frozen=True, slots=True)
class Recorded(Tokens):
    """A draft that is right where a real one was: `guessed[n][i]` tells token i of the response to prompt n.

    It is 1 where the draft's first choice was right, 2 where its second was, else 0. A prompt of `head` tokens ends
    with its n. Beyond what was recorded, recording begins again.
    """

    guessed: Sequence[Sequence[int]] = ()
    head: int = 0

    def at(self, ids: Sequence[int], prefix: int) -> int:
        truth = self.after(prefix)
        return truth if self._right(ids) == 1 else (truth + 1) % VOCABULARY

    def _second_is_right(self, ids: Sequence[int], mixed: int) -> bool:
        return self._right(ids) == 2

    @property
    def has_second(self) -> bool:
        return any(2 in each for each in self.guessed)

    def _right(self, ids: Sequence[int]) -> int:
        if len(ids) < self.head:
            return 1
        recorded = self.guessed[ids[self.head - 1]]
        return recorded[(len(ids) - self.head) % len(recorded)]


def extend(prefix: int, token: int) -> int:
    """Return the running hash with one more token."""
    return crc32(token.to_bytes(4, "little"), prefix)


@dataclass(slots=True)
class Row:
    """One cache row: the ids fed, and the running hash after each."""

    ids: list[int] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)


class SimulatedModel:
    """Implements `core.model.Model`. `on_step` is told each step and what it costs, before its result is known.

    `device` is what it calls itself: nodes on two of kind "cpu" take it that they share memory.
    """

    def __init__(
        self,
        tokens: Tokens,
        cost: StepCost,
        rows: int,
        *,
        max_length: int = 1 << 20,
        device: str = "simulated",
        on_step: Callable[[Step, float], float] | None = None,
    ) -> None:
        self.cache = [Row() for _ in range(rows)]
        self.seconds = 0.0  # all steps together
        self._tokens = tokens
        self._cost = cost
        self._on_step = on_step
        self._card = ModelCard(
            name="simulated",
            fingerprint=Fingerprint(VOCABULARY, "simulated", ()),
            max_length=max_length,
            eos_ids=(),
            parameters=0,
            device=device,
            dtype="none",
            attention="none",
        )

    @property
    def card(self) -> ModelCard:
        return self._card

    @property
    def padding(self) -> float:
        return 1.0  # its steps take what the longest row takes

    @property
    def rows(self) -> int:
        return len(self.cache)

    def run(self, step: Step) -> StepResult:
        rows = [block.row for block in step.blocks]
        if len(set(rows)) != len(rows):
            raise ValueError(f"step {step.number} uses a row twice: {rows}")
        seconds = self._cost.of(step)
        if self._on_step is not None:
            seconds = self._on_step(step, seconds)
        self.seconds += seconds
        picked = tuple(self._feed(block, step.runners_up) for block in step.blocks)
        return StepResult(step.number, picked, seconds)

    def _feed(self, block: Block, runners_up: int) -> Picked:
        row = self.cache[block.row]
        if block.start > len(row.ids):
            raise ValueError(f"{block.sequence}: fed at {block.start}, but row {block.row} holds {len(row.ids)}")
        del row.ids[block.start :], row.hashes[block.start :]
        before = row.hashes[-1] if row.hashes else 0
        first, chained = len(block.tokens) - block.picks, block.chained
        hashes: list[int] = []
        picks: list[int] = []
        others: list[tuple[tuple[int, float], ...]] = []
        for i, token in enumerate(block.tokens):
            up = i - 1 if block.parents is None else block.parents[i]
            hashes.append(extend(hashes[up] if up >= 0 else before, token))
            if i < chained:
                row.ids.append(token)
                row.hashes.append(hashes[i])
            if i >= first:
                ids = row.ids if i < chained else [*row.ids[: block.start], *block.line(i)]
                picks.append(self._tokens.at(ids, hashes[i]))
                if runners_up and self._tokens.has_second:
                    others.append(((self._tokens.runner_up(ids, hashes[i]), OTHER_SHARE),))
        if not others:
            return Picked(tuple(picks))
        return Picked(tuple(picks), None, (OWN_SHARE,) * len(picks), tuple(others))

    def close(self) -> None:
        self.cache.clear()
