"""What one decode step verifies of each sequence, or until when it is worth to wait for more.

Sequences that leave the choice to the policy (`core.policy`) are weighed together, by the best proposal there is for
each; alternating ones wait for their round of proposals to be complete, autoregressive ones for nothing. Reads what
drafts have proposed and how fast they are, and notes of each sequence what was waited for in vain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from amusd_mp.core.calibration import LEAST_WORTH
from amusd_mp.core.limits import LOOKAHEAD_MAX
from amusd_mp.core.params import Strategy
from amusd_mp.core.policy import Policy, RowView
from amusd_mp.core.proposal import Proposal
from amusd_mp.core.tempo import Tempo
from amusd_mp.core.verify_sequence import VerifySequence

ROUNDS_TOKENS = 256
"""Proposals that a step takes of alternating sequences, whose requests chose how many: as a prompt's chunk has."""

PATIENCE = 1.0
"""Seconds after which an alternating step goes without its round of proposals: half the liveness time."""


@dataclass(frozen=True, slots=True)
class Part:
    """One sequence's share of a step: the proposals pinned for it."""

    sequence: VerifySequence
    proposal: Proposal


class Chooser:
    """Chooses by a `policy`, and by the `tempos` of the drafts that are joined, which its owner keeps current."""

    def __init__(self, policy: Policy, tempos: Mapping[str, Tempo]) -> None:
        self._policy = policy
        self._tempos = tempos

    def choose(self, sequences: Sequence[VerifySequence], now: float) -> tuple[list[Part], float | None]:
        """Return what to verify of these sequences, whose prompts are computed, and when to ask again at the latest.

        Without any part waiting pays, or there is nothing to do; without a time only news can change that.
        """
        rounds: list[Part] = []
        open_choice: list[tuple[Part, RowView]] = []
        deadlines: list[float] = []
        room = ROUNDS_TOKENS
        for sequence in sequences:
            usable, chooses = sequence.usable(), sequence.speculation.strategy is not Strategy.ALTERNATING
            least = LEAST_WORTH if chooses and not sequence.probing else 0.0
            proposal = sequence.proposals.best(sequence.ids, sequence.committed_at, least) if usable else Proposal()
            if chooses:
                if sequence.params.plain:
                    proposal = proposal.within(usable, min(sequence.room(), LOOKAHEAD_MAX))
                else:
                    proposal = proposal.chain(usable)  # what is off it could not be used
                open_choice.append((Part(sequence, proposal), self._view(sequence, proposal, usable, now)))
            elif self._awaits_round(sequence, len(proposal.tokens), usable, now):
                deadlines.append(sequence.committed_at + PATIENCE)
            else:
                rounds.append(Part(sequence, proposal.chain(min(usable, room))))
                room -= len(rounds[-1].proposal.tokens)
        if open_choice:
            decision = self._policy.decide([view for _, view in open_choice], now, all_rows=not rounds)
            if decision.wait_until is not None:
                return [], min([decision.wait_until, *deadlines])
            for (part, view), k in zip(open_choice, decision.ks, strict=True):
                part.sequence.tried(k, missed=decision.missed and (view.next_in is not None or view.probe))
                rounds.append(Part(part.sequence, part.proposal.likeliest(k)))
        return rounds, min(deadlines, default=None)

    def _view(self, sequence: VerifySequence, proposal: Proposal, usable: int, now: float) -> RowView:
        chain = len(proposal.tokens)
        extends = usable > chain and not proposal.cut
        next_in, period, gap = self._next_in(sequence, now) if extends else (None, None, 0)
        return RowView(
            worths=tuple(proposal.worths()),
            usable=usable,
            chain=chain,
            tip=proposal.tip(),
            survival=prod(proposal.chances),
            acceptance=proposal.acceptance if chain else sequence.proposals.best_acceptance,
            next_in=next_in,
            period=period,
            gap=gap,
            rescued=max((each.record.rescued for each in sequence.proposals.by_draft.values()), default=0.0),
            probe=sequence.probing,
        )

    def _next_in(self, sequence: VerifySequence, now: float) -> tuple[float | None, float | None, int]:
        """Return in how many seconds the next usable token is expected (None: wait for none), the period, the gap."""
        soonest: float | None = None
        period: float | None = None
        gap = 0
        for draft, evidence in sequence.proposals.by_draft.items():
            if evidence.missed or evidence.full_at(sequence.version):
                continue
            if sequence.probing and evidence.broken_at is not None:
                continue  # wrong a moment ago, so it has not become good: a probe that waited would learn no more
            seconds = self._tempos[draft].next_in(evidence, sequence.length, sequence.committed_at, now)
            if seconds is not None and (soonest is None or seconds < soonest):
                soonest, gap, period = seconds, evidence.gap(sequence.length), self._tempos[draft].pace
        return soonest, period, gap

    def _awaits_round(self, sequence: VerifySequence, valid: int, usable: int, now: float) -> bool:
        """Return whether an alternating sequence should wait for its round of proposals to become complete."""
        store = sequence.proposals
        if valid >= usable or not self._tempos or store.all_missed:
            return False
        if any(evidence.full_at(sequence.version) for evidence in store.by_draft.values()):
            return False
        if now < sequence.committed_at + PATIENCE:
            return True
        store.mark_missed()
        return False
