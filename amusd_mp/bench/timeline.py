"""Steps of both nodes on one clock, and what became of every guess.

Nodes tell their steps while somebody watches. A draft's clock is set against the verify node's by messages in both
directions, as a ping-pong does it: what the draft told arrived after its step had ended, and a step that builds on a
commit began after that commit. Half the difference of the two smallest delays is the offset, half their sum bounds its
error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean
from typing import Any

from amusd_mp.core.messages import StepTrace, TraceEntry

VERIFY = "verify"


class Fate(StrEnum):
    """What became of a draft step's guess."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # verified, and wrong or behind a wrong one
    UNUSED = "unused"  # never verified: rolled back, or the sequence was over
    PROMPT = "prompt"  # the draft's prefill of a prompt, or catching up
    PREPARED = "prepared"  # none behind the lead: the step guessed for the case that the lead is wrong


@dataclass(frozen=True, slots=True)
class Offset:
    """Seconds to add to a draft's clock, and how wrong that may be. `error` None: no way back was seen."""

    seconds: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Flow:
    """A window's way: the draft's step that completed it, and the verify step that used it (indices)."""

    draft: int
    verify: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Steps in order of time, on the verify node's clock, with the fate of every draft step and the flows."""

    verify: tuple[StepTrace, ...]
    draft: tuple[StepTrace, ...]
    fates: tuple[Fate, ...]
    flows: tuple[Flow, ...]
    offset: Offset

    @property
    def began(self) -> float:
        return min(step.began for step in (*self.verify[:1], *self.draft[:1]))

    @property
    def ended(self) -> float:
        return max(step.ended for step in (*self.verify[-1:], *self.draft[-1:]))


def arrange(steps: Sequence[StepTrace], sequence: str) -> Timeline:
    """Return the timeline of one sequence with one draft. Raises ValueError if the verify node told no step of it."""
    mine = [step for step in steps if _entry(step, sequence) is not None]
    verify = sorted((step for step in mine if step.role == VERIFY), key=lambda step: step.began)
    if not verify:
        raise ValueError(f"no step of sequence {sequence} was seen")
    draft = [step for step in mine if step.role != VERIFY]
    offset = clock_offset(verify, draft, sequence)
    draft = sorted(
        (replace(s, began=s.began + offset.seconds, ended=s.ended + offset.seconds) for s in draft),
        key=lambda step: step.began,
    )
    fates, flows = _follow(verify, draft, sequence, offset.error or 0.0)
    return Timeline(tuple(verify), tuple(draft), fates, flows, offset)


def clock_offset(verify: Sequence[StepTrace], draft: Sequence[StepTrace], sequence: str) -> Offset:
    """Return what to add to the draft's clock."""
    there = min((step.heard - step.ended for step in draft if step.heard), default=0.0)
    back = min(_answers(verify, draft, sequence), default=None)
    if back is None:
        return Offset(there, None)
    return Offset((there - back) / 2, (there + back) / 2)


def _answers(verify: Sequence[StepTrace], draft: Sequence[StepTrace], sequence: str) -> Iterator[float]:
    """Yield, for each commit, how long after it (on two clocks) the draft's first step that builds on it began."""
    first: dict[int, StepTrace] = {}
    for step in draft:
        first.setdefault(_need(step, sequence).version, step)
    for step in verify:
        answer = first.get(_need(step, sequence).version)
        if answer is not None:
            yield answer.began - step.ended


def _follow(
    verify: Sequence[StepTrace], draft: Sequence[StepTrace], sequence: str, slack: float
) -> tuple[tuple[Fate, ...], tuple[Flow, ...]]:
    """Return each draft step's fate, and which window each verify step used: the latest guess before it began.

    `slack` is how many seconds the two clocks may differ. Guesses made before one was refused are none any more.
    """
    fates: list[Fate] = []
    guesses: dict[int, list[int]] = {}
    for index, step in enumerate(draft):
        entry = _need(step, sequence)
        fates.append(Fate.PREPARED if _prepared(entry) else Fate.UNUSED if entry.tokens else Fate.PROMPT)
        if not _prepared(entry):
            guesses.setdefault(_end(entry), []).append(index)
    flows: list[Flow] = []
    refused = 0  # the version of the last commit that refused a guess
    for number, step in enumerate(verify):
        entry = _need(step, sequence)
        for ahead in range(1, entry.proposed + 1):
            made = [
                at
                for at in guesses.get(entry.start + ahead, ())
                if draft[at].ended <= step.began + slack and _need(draft[at], sequence).version >= refused
            ]
            if made:
                fates[made[-1]] = Fate.ACCEPTED if ahead <= entry.accepted - entry.beside else Fate.REJECTED
                if ahead == entry.proposed:
                    flows.append(Flow(made[-1], number))
        if entry.beside or entry.proposed > entry.accepted:
            refused = entry.version
    return tuple(fates), tuple(flows)


def _entry(step: StepTrace, sequence: str) -> TraceEntry | None:
    return next((entry for entry in step.entries if entry.sequence == sequence), None)


def _need(step: StepTrace, sequence: str) -> TraceEntry:
    found = _entry(step, sequence)
    assert found is not None
    return found


def _prepared(entry: TraceEntry) -> bool:
    """Return whether a draft step guessed nothing behind the lead."""
    return entry.beside > 0 and not entry.tokens


def _end(entry: TraceEntry) -> int:
    """Return the position behind what was fed: for a draft step, the position of its guess."""
    return entry.start + entry.fed


def figures(timeline: Timeline) -> dict[str, float]:
    """Return the shares of the wall time in which each device, and both, computed."""
    wall = timeline.ended - timeline.began
    both = sum(max(0.0, min(v.ended, d.ended) - max(v.began, d.began)) for v in timeline.verify for d in timeline.draft)
    return {
        "wall_ms": 1e3 * wall,
        "verify_busy": sum(step.ended - step.began for step in timeline.verify) / wall,
        "draft_busy": sum(step.ended - step.began for step in timeline.draft) / wall,
        "overlap": both / wall,
        "clock_offset_us": 1e6 * timeline.offset.seconds,
    }


def step_times(timelines: Sequence[Timeline]) -> dict[str, Any]:
    """Return mean milliseconds of a verify step by its tokens after the first, and of a draft step for one guess.

    `verify_steps` tells how many of each there were. Means, because a step that took longer by chance took it from the
    measurement, too.
    """
    verify: dict[int, list[float]] = {}
    draft: list[float] = []
    for timeline in timelines:
        for step in timeline.verify:
            if len(step.entries) == 1 and (step.entries[0].proposed or step.entries[0].fed == 1):
                verify.setdefault(step.entries[0].fed - 1, []).append(1e3 * (step.ended - step.began))
        draft += [
            1e3 * (step.ended - step.began)
            for step in timeline.draft
            if len(step.entries) == 1
            and step.entries[0].tokens
            and (step.entries[0].fed == 1 or step.entries[0].beside)
        ]
    return {
        "verify_ms": {str(k): fmean(times) for k, times in sorted(verify.items())},
        "verify_steps": {str(k): len(times) for k, times in sorted(verify.items())},
        "draft_ms": fmean(draft) if draft else None,
    }
