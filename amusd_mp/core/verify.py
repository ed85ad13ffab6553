"""The verify side as a state machine: take what arrives, say what to compute, take the result, say what changed.

`plan` and `apply` bracket one device step; between them requests and windows may arrive at any time. A step pins what
it uses (rule V6): its result is matched by sequence, one closed meanwhile gets nothing from it, and its row is free
only afterwards. Prompts are fed in chunks, in steps of their own that take turns with decode steps, so a long prompt
never stalls the sequences being decoded for longer than one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from amusd_mp.core.choosing import Chooser, Part
from amusd_mp.core.messages import Committed, Draft, Finish, Window
from amusd_mp.core.overlap import OverlapMeter
from amusd_mp.core.params import Strategy
from amusd_mp.core.policy import Policy
from amusd_mp.core.proposal import Proposal
from amusd_mp.core.rows import RowPool
from amusd_mp.core.step import PREFILL_CHUNK, Block, Picked, Step, StepResult
from amusd_mp.core.tempo import Tempo
from amusd_mp.core.verify_sequence import VerifySequence


@dataclass(frozen=True, slots=True)
class InFlight:
    """The step the device is running."""

    step: Step
    parts: tuple[Part, ...]
    began: float
    idle_since: float
    prefill: bool


class VerifyCore:
    """Every live sequence of one verify node with `rows` cache rows, over a vocabulary of `vocabulary` ids.

    `padding`: what an empty place of its model's step takes (`core.sharing`).
    """

    def __init__(self, rows: int, vocabulary: int, *, padding: float = 0.0) -> None:
        self.vocabulary = vocabulary
        self.live: dict[str, VerifySequence] = {}
        self.overlap = OverlapMeter()
        self.policy = Policy(padding)
        self.wake_at: float | None = None  # when `plan` wants to be called again although nothing arrived
        self.steps = 0
        self.busy = 0.0
        self._rows = RowPool(rows)
        self._tempos: dict[str, Tempo] = {}
        self._chooser = Chooser(self.policy, self._tempos)
        self._overlap_at_open: dict[str, float] = {}
        self._in_flight: InFlight | None = None
        self._prefilled_last = False
        self._idle_since = 0.0  # end of the last step
        self._arrived = 0.0  # when a sequence was last admitted

    def __repr__(self) -> str:
        return f"<VerifyCore {len(self.live)} live, {len(self._rows)} rows free, step {self.steps}>"

    # ------------------------------------------------------------------------------------------ sequences

    @property
    def room(self) -> bool:
        """True if one more sequence can be admitted."""
        return len(self._rows) > 0

    @property
    def free_rows(self) -> int:
        """Cache rows that no sequence holds."""
        return len(self._rows)

    def open(self, sequence: VerifySequence) -> None:
        """Give an admitted sequence its row. The caller checked `room`."""
        sequence.row, sequence.fed = self._rows.take(sequence.ids)
        sequence.tally.cached = sequence.fed
        sequence.committed_at = self._arrived = sequence.opened
        sequence.tally.degraded = not self._tempos
        self.live[sequence.name] = sequence
        self._overlap_at_open[sequence.name] = self.overlap.total

    def close(self, name: str, finish: Finish, now: float) -> Committed | None:
        """End a live sequence and return its last publication, None if it is not live."""
        sequence = self.live.get(name)
        if sequence is None:
            return None
        self._finish(sequence, finish, now)
        sequence.version += 1
        sequence.rejected = ()
        return sequence.committed()

    def _finish(self, sequence: VerifySequence, finish: Finish, now: float) -> None:
        both = self.overlap.total - self._overlap_at_open.pop(sequence.name)
        wall = now - sequence.opened
        sequence.close(finish, now, min(1.0, both / wall) if wall > 0 else 0.0)
        del self.live[sequence.name]
        self.policy.changed()
        if not self._pinned(sequence):
            self._free(sequence)

    def _pinned(self, sequence: VerifySequence) -> bool:
        return self._in_flight is not None and any(part.sequence is sequence for part in self._in_flight.parts)

    def _free(self, sequence: VerifySequence) -> None:
        if sequence.row is not None:
            self._rows.give(sequence.row, sequence.ids[: sequence.fed])
            sequence.row = None

    # ------------------------------------------------------------------------------------------ drafts

    @property
    def drafts(self) -> tuple[str, ...]:
        """Lives of the drafts that are joined."""
        return tuple(self._tempos)

    def join_draft(self, draft: str) -> None:
        """Count a draft as present from now on. Idempotent."""
        self._tempos.setdefault(draft, Tempo())

    def drop_draft(self, draft: str) -> None:
        """Forget a draft and everything it proposed; verification goes on without it."""
        if self._tempos.pop(draft, None) is None:
            return
        for sequence in self.live.values():
            sequence.proposals.drop(draft)
            sequence.tally.degraded |= not self._tempos

    def propose(self, draft: str, number: int, message: Draft, now: float) -> int:
        """Take the windows of a joined draft, read at `now`. Return how many are news for a live sequence."""
        tempo = self._tempos.get(draft)
        if tempo is None:
            return 0
        arrived = tempo.clock.arrived(message.sent, now)
        self.overlap.draft_step(tempo.worked(message.seconds), arrived)
        return sum(self._consider(draft, number, window, tempo, arrived) for window in message.windows)

    def _consider(self, draft: str, number: int, window: Window, tempo: Tempo, arrived: float) -> bool:
        sequence = self.live.get(window.sequence)
        if sequence is None or window.base > sequence.length:
            return False
        if any(token >= self.vocabulary for token in window.tokens):
            return False
        held = sequence.proposals.by_draft.get(draft)
        arrived = tempo.grown(held, window, arrived)
        before = replace(held) if held is not None else None
        record = tempo.records[sequence.params.temperature > 0]
        if not sequence.proposals.put(draft, number, window, arrived, tempo.acceptance, record):
            return False
        if before is not None and window.drafted > before.window.drafted:
            tempo.arrived(before, window, sequence.commits, arrived)
        return True

    def acceptance_of(self, draft: str) -> float | None:
        """Return the mean running acceptance of a draft over the live sequences, None if it proposed nothing."""
        found = [s.proposals.by_draft[draft].acceptance for s in self.live.values() if draft in s.proposals.by_draft]
        return sum(found) / len(found) if found else None

    def rescued_of(self, draft: str) -> float | None:
        """Return how often, where a draft's first guess was wrong, another one was right, in greedy requests."""
        tempo = self._tempos.get(draft)
        return tempo.records[False].rescued if tempo is not None else None

    # ------------------------------------------------------------------------------------------ steps

    def plan(self, now: float) -> Step | None:
        """Return the next step, None while one is in flight or when there is nothing to do yet (see `wake_at`)."""
        self.wake_at = None
        if self._in_flight is not None:
            return None
        prefilling = [s for s in self.live.values() if s.prefilling]
        if prefilling and not (self._prefilled_last and len(prefilling) < len(self.live)):
            return self._prefill(prefilling, now)
        parts, self.wake_at = self._chooser.choose([s for s in self.live.values() if not s.prefilling], now)
        if parts:
            return self._begin([part.sequence.block(part.proposal) for part in parts], parts, now, prefill=False)
        return self._prefill(prefilling, now) if prefilling else None

    def apply(self, result: StepResult, now: float) -> list[VerifySequence]:
        """Take the result of the step in flight and return the sequences that changed, ready to publish."""
        flight = self._in_flight
        if flight is None or flight.step.number != result.number:
            raise ValueError(f"result of step {result.number}, but {flight} is in flight")
        self._in_flight = None
        self.busy += result.seconds
        self.overlap.verify_step(max(flight.began, now - result.seconds), now)
        outputs = sum(part.sequence.outputs for part in flight.parts)
        changed: list[VerifySequence] = []
        for part, block, picked in zip(flight.parts, flight.step.blocks, result.picked, strict=True):
            if part.sequence.finish is not None:
                self._free(part.sequence)
            elif self._commit(part, block, picked, now):
                changed.append(part.sequence)
        if not flight.prefill:
            self._learn(flight, sum(part.sequence.outputs for part in flight.parts) - outputs, now)
        self._idle_since = now
        return changed

    def _learn(self, flight: InFlight, tokens: int, now: float) -> None:
        """Tell the policy what a decode step cost, and what it yielded where the policy has chosen for every row."""
        scored = [len(block.tokens) - 1 for block in flight.step.blocks]
        chosen = all(part.sequence.speculation.strategy is Strategy.AMUSD for part in flight.parts)
        if chosen:
            self.policy.price.observe(len(scored), tokens, max(now - flight.began, now - flight.idle_since))
        only_caught_up = any(scored) and not any(part.proposal.size for part in flight.parts)
        if not only_caught_up:
            self.policy.took(scored, now - flight.began, chosen)

    def _commit(self, part: Part, block: Block, picked: Picked, now: float) -> bool:
        sequence, proposal = part.sequence, part.proposal
        sequence.fed = block.start + len(block.tokens) - proposal.size
        if not picked.tokens:
            return False
        outcome, finish = sequence.commit(proposal, picked)
        sequence.fed += min(outcome.accepted, sequence.fresh)
        sequence.version += 1
        sequence.committed_at = now
        sequence.commits.add(sequence.version, now)
        evidence = sequence.proposals.by_draft.get(proposal.draft)
        if evidence is not None and proposal.size:
            evidence.judge(proposal, outcome, sequence.ids[sequence.length - sequence.fresh :])
            self._tempos[proposal.draft].judge(evidence.acceptance)
        if finish is not None:
            self._finish(sequence, finish, now)
        return True

    def _begin(self, blocks: list[Block], parts: list[Part], now: float, prefill: bool) -> Step:
        self.steps += 1
        step = Step(self.steps, tuple(blocks))
        self._in_flight = InFlight(step, tuple(parts), now, max(self._idle_since, self._arrived), prefill)
        self._prefilled_last = prefill
        return step

    def _prefill(self, waiting: list[VerifySequence], now: float) -> Step:
        """Feed the next chunk of the oldest waiting sequence, and of those behind it that are no longer than it."""
        size = min(PREFILL_CHUNK, waiting[0].length - waiting[0].fed)
        together = [s for s in waiting if min(PREFILL_CHUNK, s.length - s.fed) <= size][: max(1, PREFILL_CHUNK // size)]
        blocks = [sequence.chunk(PREFILL_CHUNK) for sequence in together]
        return self._begin(blocks, [Part(s, Proposal()) for s in together], now, prefill=True)
