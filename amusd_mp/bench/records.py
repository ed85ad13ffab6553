"""What was measured, response by response, and how a line of `requests.jsonl` reads.

The keys are Spec-Bench's (question_id, category, model_id, choices with turns, decoding_steps, new_tokens, wall_time,
accept_lengths), with ours beside them; its scripts expect one contender in a file, so filter by `contender` first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from amusd_mp.core.messages import Counts, Origin

if TYPE_CHECKING:
    from amusd_mp.client.results import GenerationResult


GUESSED = {Origin.ACCEPTED: "1", Origin.RECOVERED: "0"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One response. Times in seconds, as the client sees them; `first` is the time to the first token.

    `steps` are the tokens that each step of the verify model yielded; empty where that is not known. `agreement` says
    of each token whether the draft had guessed it: "1" it had, "0" something else, "?" nothing, or nobody looked.
    `prompt_seconds` were taken off `seconds` and `first` for a prompt that others find computed.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    seconds: float
    first: float
    steps: tuple[int, ...] = ()
    counts: Counts | None = None
    agreement: str = ""
    prompt_seconds: float = 0.0

    @classmethod
    def of(cls, result: GenerationResult) -> Turn:
        """Return a client's result as a turn."""
        steps = tuple(yields(token.origin for token in result.tokens))
        return cls(
            text=result.text,
            token_ids=result.token_ids,
            prompt_tokens=result.prompt_tokens,
            seconds=result.seconds,
            first=result.time_to_first_token,
            steps=steps,
            agreement="".join(GUESSED.get(token.origin, "?") for token in result.tokens),
            counts=result.stats,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """All turns of one prompt under one contender in one repeat."""

    contender: str
    prompt: str
    category: str
    repeat: int
    turns: tuple[Turn, ...]

    @property
    def seconds(self) -> float:
        return sum(turn.seconds for turn in self.turns)

    @property
    def tokens(self) -> int:
        return sum(len(turn.token_ids) for turn in self.turns)

    @property
    def first(self) -> float:
        """Time to the first token of the first turn."""
        return self.turns[0].first

    def line(self, model: str, at: float) -> dict[str, object]:
        """Return the object of a line of `requests.jsonl`; `at` is seconds since the epoch."""
        choice = {
            "index": self.repeat,
            "turns": [turn.text for turn in self.turns],
            "decoding_steps": [len(turn.steps) for turn in self.turns],
            "new_tokens": [len(turn.token_ids) for turn in self.turns],
            "wall_time": [turn.seconds for turn in self.turns],
            "accept_lengths": [length for turn in self.turns for length in turn.steps],
            "token_ids": [turn.token_ids for turn in self.turns],
            "time_to_first_token": [turn.first for turn in self.turns],
            "prompt_time_taken_off": [turn.prompt_seconds for turn in self.turns],
            "counts": [asdict(turn.counts) if turn.counts else None for turn in self.turns],
        }
        return {
            "question_id": self.prompt,
            "category": self.category,
            "model_id": model,
            "contender": self.contender,
            "repeat": self.repeat,
            "choices": [choice],
            "tstamp": at,
        }


def yields(origins: Iterator[Origin]) -> Iterator[int]:
    """Yield the tokens of each step: accepted ones, up to and with the verify model's own; a stop may cut the last."""
    count = 0
    for origin in origins:
        count += 1
        if origin is not Origin.ACCEPTED:
            yield count
            count = 0
    if count:
        yield count


def together(chain: str, tree: str) -> str:
    """Return what is known of each token's guess, from steps that scored chains and steps that scored others beside.

    "1": the draft's first choice is right. "2": its runner-up is. "x": not the first. "?": unknown. A step that
    refused the first choice tells nothing of others: it may have scored none.
    """
    if len(chain) != len(tree):
        return chain.replace("0", "x")
    return "".join(
        alone if alone == "1" else ("2" if beside == "1" else "x") if alone == "0" else beside.replace("0", "x")
        for alone, beside in zip(chain, tree, strict=True)
    )
