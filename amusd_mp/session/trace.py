"""The record of one device step, made only while somebody watches.

A watcher asks the verify node again and again; the verify node's beats carry the wish on to the drafts, and each node
keeps it for a few seconds. While nobody asks, a step costs one comparison of times. Who watches, and how steps reach
them, is the business of nodes and client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from amusd_mp.core import limits
from amusd_mp.core.messages import StepTrace, TraceEntry
from amusd_mp.core.preparing import Part
from amusd_mp.core.step import Step, StepResult
from amusd_mp.core.verify_sequence import VerifySequence


def honest(step: StepTrace, rows: int) -> bool:
    """Return whether a draft may have made this step, for a verify node with so many rows.

    It has a part in each of some sequences there, and one guess behind the lead of each (`Tracer.drafted`).
    """
    return len(step.entries) <= rows and all(len(each.tokens) <= 1 for each in step.entries)


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that the device is running, and what its sequences had before it (of a verify node alone)."""

    step: Step
    at: float
    before: tuple[tuple[VerifySequence, int, int, int, int], ...] = ()


class Tracer:
    """Says whether one node is watched, and records its steps if so."""

    def __init__(self, role: str, now: Callable[[], float]) -> None:
        self._role = role
        self._now = now
        self._until = float("-inf")

    def __repr__(self) -> str:
        return f"<Tracer {self._role} {'watched' if self.watched else 'unwatched'}>"

    @property
    def watched(self) -> bool:
        """True while steps are worth telling."""
        return self._now() < self._until

    def watch(self) -> bool:
        """Record steps for a while from now on. Return whether that is news."""
        news = not self.watched
        self._until = self._now() + limits.WATCH
        return news

    def begin(self, step: Step, live: Mapping[str, VerifySequence] | None = None) -> Begun | None:
        """Note that a step begins; None while nobody watches. `live` are a verify node's sequences."""
        if not self.watched:
            return None
        before = [live[block.sequence] for block in step.blocks] if live is not None else []
        now = self._now()
        return Begun(step, now, tuple((s, s.outputs, s.tally.proposed, s.tally.accepted, s.carried) for s in before))

    def verified(self, begun: Begun) -> StepTrace:
        """Return a verify node's step, once its result was applied."""
        entries = tuple(
            TraceEntry(
                block.sequence,
                block.start + carried,
                len(block.tokens) - carried,
                proposed=sequence.tally.proposed - proposed,
                accepted=sequence.tally.accepted - accepted,
                emitted=sequence.outputs - outputs,
                beside=min(sequence.carried, sequence.tally.accepted - accepted),
                version=sequence.version,
            )
            for block, (sequence, outputs, proposed, accepted, carried) in zip(
                begun.step.blocks, begun.before, strict=True
            )
        )
        return self._record(begun, entries)

    def drafted(self, begun: Begun, result: StepResult, parts: Sequence[Part]) -> StepTrace:
        """Return a draft node's step; `parts` are what its blocks are for."""
        entries = tuple(
            TraceEntry(
                block.sequence,
                block.start,
                len(block.tokens) - part.beside,
                tokens=picked.tokens[:1] if part.tip else (),
                beside=part.beside,
                version=part.version,
            )
            for block, picked, part in zip(begun.step.blocks, result.picked, parts, strict=True)
        )
        return self._record(begun, entries)

    def _record(self, begun: Begun, entries: tuple[TraceEntry, ...]) -> StepTrace:
        return StepTrace(self._role, begun.step.number, begun.at, self._now(), entries)
