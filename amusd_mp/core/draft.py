"""The draft side as a state machine: it keeps guessing while guesses can be used, and follows the commits exactly.

Commits may arrive at any time and only update replicas; `plan` reconciles between steps and says what to compute, so
several commits collapse into one (rule D2). `apply` takes the result and returns the windows to publish. A sequence
beyond this model's context is parked, not fatal: nothing is computed for it and the verify node goes on alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from amusd_mp.core.calibration import Calibration
from amusd_mp.core.draft_sequence import RUNNERS_UP, DraftSequence
from amusd_mp.core.effort import Effort
from amusd_mp.core.messages import Committed, Origin, SyncPage, Window
from amusd_mp.core.params import Strategy
from amusd_mp.core.replica import Replica
from amusd_mp.core.rows import RowPool
from amusd_mp.core.step import PREFILL_CHUNK, Block, Step, StepResult

MESSAGE_TOKENS = 8192
"""Tokens of all windows in one message, at five bytes: well within a publication."""

WINDOW_COST = 32
"""What a window's names and counts take, in tokens."""

TOGETHER = 32
"""Blocks up to this length share a step; a longer one makes the others wait, and at worst compute padding."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """The step the device is running, and the sequences it is for."""

    step: Step
    sequences: tuple[DraftSequence, ...]


class DraftCore:
    """Every sequence one draft node guesses for, with `rows` cache rows of `max_length` tokens.

    `temperature` is the draft's own (T_d of coupled sampling); None uses each request's.
    """

    def __init__(self, rows: int, max_length: int, eos_ids: Collection[int], temperature: float | None = None) -> None:
        self.sequences: dict[str, DraftSequence] = {}
        self.steps = 0
        self.busy = 0.0
        self._max_length = max_length
        self._eos_ids = frozenset(eos_ids)
        self._temperature = temperature
        self._rows = RowPool(rows)
        self._in_flight: InFlight | None = None
        self._prefilled_last = False
        self._calibrations = Calibration(), Calibration()  # of greedy requests, and of sampled ones
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
            self._calibrations[page.params.temperature > 0],  # the request's own: so the verify node sorts them, too
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
        if self._in_flight is None or sequence not in self._in_flight.sequences:
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

        None while one is in flight, while every lead is full, and in a round in which it rests.
        """
        if self._in_flight is not None:
            return None
        if self._heard is not None:
            self._effort.round(self._heard)
            self._heard = None
        wanting: list[DraftSequence] = []
        for sequence in self.sequences.values():
            sequence.reconcile()
            if sequence.beyond:
                self._free(sequence)
            elif sequence.wanting and self._worth_it(sequence) and self._has_row(sequence):
                wanting.append(sequence)
        if not wanting:
            return None
        short = [s for s in wanting if len(s.ids) - s.fed <= TOGETHER]
        long = [s for s in wanting if len(s.ids) - s.fed > TOGETHER]
        prefill = bool(long) and not (short and self._prefilled_last)
        chosen = long[:1] if prefill else short
        self._prefilled_last = prefill
        self.steps += 1
        blocks = tuple(self._block(sequence) for sequence in chosen)
        others = RUNNERS_UP if any(sequence.branching for sequence in chosen) else 0
        step = Step(self.steps, blocks, confidence=True, runners_up=others)
        self._in_flight = InFlight(step, tuple(chosen))
        return step

    def apply(self, result: StepResult, now: float = 0.0) -> list[Window]:
        """Take the result of the step in flight and return the windows to publish; `now` is this node's clock."""
        flight = self._in_flight
        if flight is None or flight.step.number != result.number:
            raise ValueError(f"result of step {result.number}, but {flight} is in flight")
        self._in_flight = None
        self.busy += result.seconds
        windows: list[Window] = []
        for sequence, block, picked in zip(flight.sequences, flight.step.blocks, result.picked, strict=True):
            if sequence.closed:
                self._free(sequence)
                continue
            sequence.fed = block.start + len(block.tokens)
            for at, token in enumerate(picked.tokens):
                sequence.guess(
                    token,
                    now,
                    picked.confidence[at] if picked.confidence else None,
                    picked.runners_up[at] if picked.runners_up else (),
                )
            if picked.tokens and sequence.worth_sending:
                windows.append(sequence.window())
        return windows

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

    @staticmethod
    def _block(sequence: DraftSequence) -> Block:
        assert sequence.row is not None
        end = min(sequence.fed + PREFILL_CHUNK, len(sequence.ids))
        return Block(
            sequence=sequence.name,
            row=sequence.row,
            start=sequence.fed,
            tokens=tuple(sequence.ids[sequence.fed : end]),
            picks=1 if end == len(sequence.ids) else 0,
            params=sequence.params,
            prompt_length=sequence.replica.prompt_length,
        )


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
