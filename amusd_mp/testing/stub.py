"""A model without weights: the next token is a hash of all tokens before it, and the cache is a list of ids.

It checks what a real cache cannot say: that a step starts within what its row holds, that rows are not shared, and that
the tokens it continues are exactly those that were fed. A draft that agrees with it most of the time is another stub.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

from amusd_mp.core.model import Fingerprint, Model, ModelCard, Tokenizer
from amusd_mp.core.step import Block, Picked, Step, StepResult

Rule = Callable[[Sequence[int]], int]
"""A deterministic next token for a prefix."""


def hash_rule(vocabulary: int, salt: int = 0) -> Rule:
    """Return a rule whose tokens look random but depend on the whole prefix."""

    def rule(ids: Sequence[int]) -> int:
        return crc32(b"".join(i.to_bytes(4, "little") for i in ids), salt) % vocabulary

    return rule


def agreeing_rule(truth: Rule, share: float, vocabulary: int, salt: int = 1) -> Rule:
    """Return a rule that gives the true token for about `share` of all prefixes, and another one for the rest."""

    def rule(ids: Sequence[int]) -> int:
        token = truth(ids)
        dice = crc32(b"".join(i.to_bytes(4, "little") for i in ids), salt)
        return token if dice % 1000 < share * 1000 else (token + 1 + dice % (vocabulary - 1)) % vocabulary

    return rule


def decode_alone(rule: Rule, prompt: Sequence[int], tokens: int) -> list[int]:
    """Return what the rule writes after a prompt, one token at a time: the reference for every test."""
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(rule(ids))
    return ids[len(prompt) :]


class StubModel:
    """Implements `core.model.Model` for one rule. `seconds` is what it claims each step takes.

    `second` names the runner-up of each token; without it there is none.
    """

    def __init__(
        self,
        rule: Rule,
        rows: int,
        vocabulary: int,
        max_length: int = 1 << 20,
        seconds: float = 0.0,
        second: Rule | None = None,
    ) -> None:
        self._second = second
        self.cache: list[list[int]] = [[] for _ in range(rows)]
        self.steps: list[Step] = []
        self._rule = rule
        self._seconds = seconds
        self._card = ModelCard(
            name="stub",
            fingerprint=Fingerprint(vocabulary, "stub", ()),
            max_length=max_length,
            eos_ids=(),
            parameters=0,
            device="cpu",
            dtype="none",
            attention="none",
        )

    @property
    def card(self) -> ModelCard:
        return self._card

    @property
    def padding(self) -> float:
        return 0.0

    @property
    def rows(self) -> int:
        return len(self.cache)

    def run(self, step: Step) -> StepResult:
        rows = [block.row for block in step.blocks]
        if len(set(rows)) != len(rows):
            raise ValueError(f"step {step.number} uses a row twice: {rows}")
        self.steps.append(step)
        picked = tuple(self._feed(block, step.runners_up) for block in step.blocks)
        return StepResult(step.number, picked, self._seconds)

    def _feed(self, block: Block, runners_up: int) -> Picked:
        held = self.cache[block.row]
        if block.start > len(held):
            raise ValueError(f"{block.sequence}: fed at {block.start}, but row {block.row} holds {len(held)}")
        del held[block.start :]
        first = len(block.tokens) - block.picks
        lines = [[*held, *block.line(at)] for at in range(first, len(block.tokens))]
        held.extend(block.tokens[: block.chained])
        picks = tuple(self._rule(line) for line in lines)
        if not runners_up or self._second is None:
            return Picked(picks)
        others = tuple(((self._second(line), 0.3),) for line in lines)
        return Picked(picks, None, (0.6,) * len(picks), others)

    def close(self) -> None:
        self.cache.clear()


class StubDetokenizer:
    """Writes every token as one letter of the alphabet, so texts can be compared by eye."""

    def feed(self, token: int) -> str:
        return chr(ord("a") + token % 26)

    def flush(self) -> str:
        return ""


class StubTokenizer:
    """Reads a character as the id that is its code point, folded into the vocabulary; writes ids as letters."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(ord(character) % self._vocabulary for character in text)

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        return self.encode("".join(f"{role}: {content}\n" for role, content in messages))

    def decode(self, ids: Sequence[int]) -> str:
        writer = StubDetokenizer()
        return "".join(writer.feed(token) for token in ids)

    def detokenizer(self, prompt: Sequence[int]) -> StubDetokenizer:
        return StubDetokenizer()


@dataclass(frozen=True, slots=True)
class Stub:
    """A stub model with its tokenizer: what a node's `load_model` returns in place of a real model."""

    model: Model
    tokenizer: Tokenizer

    @classmethod
    def of(cls, model: Model) -> Stub:
        """Return a model with the stub tokenizer of its vocabulary."""
        return cls(model, StubTokenizer(model.card.fingerprint.vocabulary))
