"""What a benchmark is to measure, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.records import Answer
from amusd_mp.bench.writers import Task


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    cold:          every contender computes every prompt itself, instead of finding it computed; so with several at once
    fixed:         alternating's k that is measured in full (the paper's is 5); None: none
    sweep:         k of which the best is measured in full, too, found on `sweep_prompts` of the prompts
    lookahead:     of the asynchronous contender; None: the deployment's
    peers:         what transformers does with the same models, for each of so many threads (`peer.KINDS`)
    delay_ms:      for the record; the deployment already has it in the address that the draft dials
    """

    name: str
    prompts: Sequence[BenchPrompt]
    task: Task
    repeats: int = 3
    warm_up: int = 1
    concurrency: int = 1
    cold: bool = False
    fixed: int | None = 5
    sweep: tuple[int, ...] = (1, 2, 3, 5, 8)
    sweep_prompts: int = 8
    lookahead: int | None = None
    peers: tuple[str, ...] = ()
    peer_threads: tuple[int, ...] = (1,)
    delay_ms: float = 0.0
    timeline: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def blocks(self) -> bool:
        """True if a contender does all prompts before the next has its turn."""
        return self.cold or self.concurrency > 1

    def settings(self) -> dict[str, Any]:
        """Return what a summary tells of it."""
        return {
            **asdict(self.task),
            "prompts": len(self.prompts),
            "repeats": self.repeats,
            "warm_up": self.warm_up,
            "concurrency": self.concurrency,
            "cold": self.blocks,
            "sweep_prompts": min(self.sweep_prompts, len(self.prompts)),
            "delay_ms": self.delay_ms,
            "peers": list(self.peers),
            "peer_threads": list(self.peer_threads) if self.peers else [],
        }


class Progress(Protocol):
    """Told how far a benchmark is."""

    def phase(self, what: str, answers: int) -> None:
        """A part begins that will take so many answers."""

    def answered(self, answer: Answer) -> None:
        """One of them is there."""
