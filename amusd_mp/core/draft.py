"""The draft side as a state machine: it keeps guessing while guesses can be used, and follows the commits exactly.

Commits may arrive at any time and only update replicas; `plan` reconciles between steps and says what to compute, so
several commits collapse into one (rule D2). `apply` takes the result and returns what there is to tell of. A sequence
beyond this model's context is parked, not fatal: nothing is computed for it and the verify node goes on alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from amusd_mp.core.branches import RUNNERS_UP
from amusd_mp.core.calibration import Record
from amusd_mp.core.draft_sequence import DraftSequence
from amusd_mp.core.effort import Effort
from amusd_mp.core.limits import LOOKAHEAD_MAX
from amusd_mp.core.messages import Committed, Origin, SyncPage, Window
from amusd_mp.core.params import Strategy
from amusd_mp.core.preparing import TOGETHER, Part, Preparing
from amusd_mp.core.replica import Replica
from amusd_mp.core.rows import RowPool
from amusd_mp.core.step import Block, Picked, Step, StepResult

MESSAGE_TOKENS = 6144
"""Tokens of all windows in one message, at nine bytes with parents and confidence: well within a publication."""

WINDOW_COST = 32
"""What a window's names and counts take, in tokens."""


class DraftCore:
    """Every sequence one draft node guesses for, with `rows` cache rows of `max_length` tokens.

    `temperature` is the draft's own (T_d of coupled sampling); None uses each request's. `padding`: what an
    empty place of its model's step takes (`core.sharing`).
    """

    def __init__(
        self,
        rows: int,
        max_length: int,
        eos_ids: Collection[int],
        temperature: float | None = None,
        *,
        padding: float = 0.0,
    ) -> None:
        self.sequences: dict[str, DraftSequence] = {}
        self.steps = 0
        self.busy = 0.0
        self.news = False  # something was guessed, or a commit learned, that is not published: the owner resets it
        self.completed = False  # whether the last step made a lead full
        self.shortest = LOOKAHEAD_MAX  # of the leads that the last step made longer, tokens
        self.parts: tuple[Part, ...] = ()  # what the last step is for
        self.toll = 0.0  # part of each second of ours by which the verify model's steps become longer
        self._max_length = max_length
        self._eos_ids = frozenset(eos_ids)
        self._temperature = temperature
        self._rows = RowPool(rows)
        self._in_flight: Step | None = None  # the step the device is running; `parts` say whose it is
        self._prefilled_last = False
        self._records = Record(), Record()  # of greedy requests, and of sampled ones
        self._preparing = Preparing(padding)
        self._effort = Effort()
        self._heard: bool | None = None  # whether commits since the last plan had accepted tokens, None without any

    def __repr__(self) -> str:
        return f"<DraftCore {len(self.sequences)} sequences, {len(self._rows)} rows free, step {self.steps}>"

    @property
    def free_rows(self) -> int:
        """Cache rows that no sequence holds."""
        return len(self._rows)

    # ------------------------------------------------------------------------------------------ sequences

    def open(self, page: SyncPage, replica: Replica) -> None:
        """Begin to guess for a sequence whose tokens are all known. Idempotent."""
        if page.sequence in self.sequences or replica.complete:
            return
        params = replace(page.params, logprobs=None)  # those are the verify model's to tell
        if self._temperature is not None and params.temperature > 0:
            params = replace(params, temperature=self._temperature)
        ends = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else self._eos_ids)
        self.sequences[page.sequence] = DraftSequence(
            page.sequence,
            params,
            page.speculation,
            replica,
            self._max_length,
            ends,
            self._records[page.params.temperature > 0],  # the request's own: so the verify node sorts them, too
        )
        self._effort.fresh()

    def commit(self, window: Committed | SyncPage) -> bool:
        """Take a commit in. Return True if something before it is missing and has to be asked for.

        Raises Contradiction when it disagrees with what is known.
        """
        sequence = self.sequences.get(window.sequence)
        if sequence is None:
            return False
        delta = sequence.replica.merge(window)
        if delta.tokens and sequence.speculation.strategy is Strategy.AMUSD:
            self._heard = self._heard or Origin.ACCEPTED.value in delta.origins
        if sequence.replica.complete:
            self.close(window.sequence)
        return delta.gap

    def close(self, name: str) -> None:
        """Stop guessing for a sequence and free its row, after the step in flight if that uses it. Idempotent."""
        sequence = self.sequences.pop(name, None)
        if sequence is None:
            return
        sequence.closed = True
        if self._in_flight is None or all(part.sequence is not sequence for part in self.parts):
            self._free(sequence)

    def close_all(self) -> None:
        """Forget every sequence: the verify node is gone or in another life."""
        for name in list(self.sequences):
            self.close(name)

    def _free(self, sequence: DraftSequence) -> None:
        if sequence.row is not None:
            self._rows.give(sequence.row, sequence.ids[: sequence.fed])
            sequence.row = None

    # ------------------------------------------------------------------------------------------ steps

    def plan(self) -> Step | None:
        """Reconcile with every commit and return the next step.

        None while one is in flight, while every lead is full and nothing beside it likely, and in a round in which it
        rests.
        """
        if self._in_flight is not None:
            return None
        if self._heard is not None:
            self._effort.round(self._heard)
            self._heard = None
        wanting: list[DraftSequence] = []
        for sequence in self.sequences.values():
            self.news |= sequence.reconcile() and sequence.worth_sending
            if sequence.beyond:
                self._free(sequence)
            elif sequence.wanting and self._worth_it(sequence) and self._has_row(sequence):
                wanting.append(sequence)
        short = [s for s in wanting if len(s.ids) - s.fed <= TOGETHER]
        long = [s for s in wanting if len(s.ids) - s.fed > TOGETHER]
        prefill = bool(long) and not (short and self._prefilled_last)
        parts = [Part(sequence, True, sequence.version) for sequence in (long[:1] if prefill else short)]
        if not prefill and not self._effort.resting:
            self._preparing.add(parts, self.sequences.values(), self.toll)
        if not parts:
            return None
        self._prefilled_last = prefill
        self.steps += 1
        blocks = tuple([part.begin() for part in parts])
        others = RUNNERS_UP if any(part.sequence.branching for part in parts) else 0
        self.parts = tuple(parts)
        self._in_flight = Step(self.steps, blocks, confidence=True, runners_up=others)
        return self._in_flight

    def apply(self, result: StepResult, now: float = 0.0) -> list[DraftSequence]:
        """Take the result of the step in flight and return what there is to tell of; `now` is this node's clock."""
        step = self._in_flight
        if step is None or step.number != result.number:
            raise ValueError(f"result of step {result.number}, but {step} is in flight")
        self._in_flight = None
        self.busy += result.seconds
        self._preparing.took([len(block.tokens) for block in step.blocks], result.seconds)
        told: list[DraftSequence] = []
        for part, block, picked in zip(self.parts, step.blocks, result.picked, strict=True):
            if part.sequence.closed:
                self._free(part.sequence)
            elif self._take(part, block, picked, now) and part.sequence.worth_sending:
                told.append(part.sequence)
        longer = [part.sequence for part in self.parts if part.tip and not part.sequence.closed]
        self.completed = any(sequence.stopped for sequence in longer)
        self.shortest = min((sequence.lead for sequence in longer), default=LOOKAHEAD_MAX)
        self.news |= bool(told)
        return told

    @staticmethod
    def _take(part: Part, block: Block, picked: Picked, now: float) -> bool:
        """Take what one sequence got from a step; return whether it guessed anything."""
        sequence = part.sequence
        sequence.fed = block.start + len(block.tokens) - part.beside
        if not picked.tokens:
            return False
        if part.tip:
            others = picked.runners_up[0] if picked.runners_up else ()
            sequence.guess(picked.tokens[0], now, picked.confidence[0] if picked.confidence else None, others)
        at = part.tip - 1
        for branch in part.branches:
            at += 1 + len(branch.tokens)  # what its last token brought
            others = picked.runners_up[at] if picked.runners_up else ()
            sequence.prepare(branch, picked.tokens[at], picked.confidence[at], others)
        return True

    def windows(self) -> list[Window]:
        """Return every lead, to be told after each step and at each beat: a lost one must not stall both sides."""
        return [s.window() for s in self.sequences.values() if s.worth_sending]

    def _worth_it(self, sequence: DraftSequence) -> bool:
        """True unless it rests; an alternating verify node waits for its draft, however bad that is."""
        return not self._effort.resting or sequence.speculation.strategy is not Strategy.AMUSD

    def _has_row(self, sequence: DraftSequence) -> bool:
        if sequence.row is None and len(self._rows) > 0:
            sequence.row, sequence.fed = self._rows.take(sequence.ids)
        return sequence.row is not None


def shared_out(windows: Sequence[Window], tokens: int = MESSAGE_TOKENS) -> Iterator[tuple[Window, ...]]:
    """Cut the windows of one step into messages of at most `tokens` tokens each: nearly always it is one."""
    part: list[Window] = []
    room = tokens
    for window in windows:
        cost = len(window.tokens) + WINDOW_COST
        if part and cost > room:
            yield tuple(part)
            part, room = [], tokens
        part.append(window)
        room -= cost
    if part:
        yield tuple(part)
