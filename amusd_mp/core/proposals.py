"""What drafts have proposed for one sequence, and how much of it can be expected to be accepted.

A window counts only where it continues the committed tokens (`core.guesses`); publisher numbers filter out what is
older than the window already held. What comes out is a `Proposal`: the draft's own way on and what it guessed beside
it, with the chance of each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from amusd_mp.core.calibration import PRIOR, Record, odds
from amusd_mp.core.guesses import ROOT, Guesses, guesses_beyond, reach
from amusd_mp.core.messages import Window
from amusd_mp.core.proposal import Aside, Outcome, Proposal

PRIOR_WEIGHT = 4
"""How many judged tokens the first expectation is worth: a bad draft must be found out within a few steps."""

SMOOTHING = 0.05


@dataclass(slots=True)
class Evidence:
    """The newest window of one draft for one sequence, and how well this draft's guesses have done on it."""

    number: int
    window: Window
    arrived: float
    acceptance: float
    record: Record
    judged: int = 0
    broken_at: float | None = None  # when a commit contradicted its own way, until a window agrees again
    missed: bool = False  # a token it should have sent did not come in time; no waiting until its next window

    def gap(self, length: int) -> int:
        """Return how many of `length` committed tokens an uncontradicted window does not reach."""
        if self.broken_at is not None:
            return 0  # it starts over from a commit
        return max(0, length - self.window.base - reach(self.window))

    def full_at(self, version: int) -> bool:
        """Return True if this draft's lead grows no more before the commit after `version`."""
        return self.window.full and self.window.version == version

    def propose(self, draft: str, guesses: Guesses, least: float = 0.0) -> Proposal:
        """Return the proposal that these guesses of the window are, without what is accepted with less than `least`."""
        window, record = self.window, self.record
        before = [1.0]  # the chance that all before it are accepted, for each of the chain and the one after it
        chances: list[float] = []
        for at in guesses.chain:
            chance = record.chain.chance(window.confidence[at]) if window.confidence else self.acceptance
            if before[-1] * chance < least:
                break
            chances.append(chance)
            before.append(before[-1] * chance)
        chain = guesses.chain[: len(chances)]
        confidence = tuple([window.confidence[at] for at in chain]) if window.confidence else ()
        return Proposal(
            draft,
            tuple([window.tokens[at] for at in chain]),
            tuple(chances),
            confidence,
            self.acceptance,
            tuple(self._beside(guesses, before, least)) if confidence else (),
            cut=len(chain) < len(guesses.chain),
        )

    def _beside(self, guesses: Guesses, before: Sequence[float], least: float) -> Iterator[Aside]:
        """Yield what stands beside the chain, each behind what it follows.

        `before` are the chances that the chain is accepted down to each of its tokens, and to its end.
        """
        window, record = self.window, self.record
        found: dict[int, Aside] = {}  # by index in the window
        left: dict[int, float] = {}  # by index of a first choice: the chance that it is wrong, and none of those told
        for guess in guesses.beside:
            behind = found.get(guess.behind)
            if behind is not None:
                arrives = behind.worth
            elif guess.behind == ROOT and guess.depth + 1 < len(before):
                arrives = before[guess.depth]
            else:
                continue  # what it follows was left out
            share = window.confidence[guess.first]
            chance = record.chain.chance(share)
            first = guess.first == guess.at
            if first:
                worth = arrives * chance
            else:
                share = odds(window.confidence[guess.at], share)
                wrong = arrives * (1 - chance)
                others = left.get(guess.first, wrong)
                worth = min(others, wrong * record.beside.chance(share))
                left[guess.first] = others - worth
            if worth >= least:
                aside = found[guess.at] = Aside(guess.depth, window.tokens[guess.at], worth, share, behind, first)
                yield aside

    def judge(self, proposal: Proposal, outcome: Outcome, own: Sequence[int]) -> None:
        """Learn from one verify step. A rejection ends the evidence: what follows it was never comparable.

        `own`: the tokens that the step committed, the verify model's own.
        """
        accepted = outcome.accepted
        for at in range(min(len(proposal.tokens), accepted + 1, len(own))):
            self.judged += 1
            rate = max(SMOOTHING, 1 / (PRIOR_WEIGHT + self.judged))
            self.acceptance += rate * ((at < accepted) - self.acceptance)
            if proposal.confidence:
                self.record.chain.judge(proposal.confidence[at], at < accepted)
        if accepted < min(len(proposal.tokens), len(own)):
            there = (*proposal.beside, *proposal.unscored)
            others = [each for each in there if each.behind is None and each.depth == accepted]
            if there:  # else it tells none at all, as for alternating requests
                self.record.wrong([(each.share, each.token == own[accepted]) for each in others])
        for aside in outcome.aside:
            if aside.depth + 1 < len(own):
                self._judge_behind([each for each in proposal.beside if each.behind is aside], own[aside.depth + 1])

    def _judge_behind(self, there: Sequence[Aside], own: int) -> None:
        """Learn from one place off the chain where the verify model wrote `own`."""
        first = next((each for each in there if each.first), None)
        if first is None:
            return
        self.record.chain.judge(first.share, first.token == own)
        if first.token != own and len(there) > 1:
            self.record.wrong([(each.share, each.token == own) for each in there if not each.first])


class ProposalStore:
    """The windows of every draft for one sequence."""

    def __init__(self) -> None:
        self.by_draft: dict[str, Evidence] = {}
        self.all_missed = False  # no draft sent what it should have in time, and none has sent a window since
        self._left_drafted = 0
        self._left_rollbacks = 0

    def put(
        self,
        draft: str,
        number: int,
        window: Window,
        now: float,
        acceptance: float = PRIOR,
        record: Record | None = None,
    ) -> bool:
        """Keep a window unless a newer one of the same draft is held. Return whether it was kept.

        `acceptance` is what to expect of a draft that is new to this sequence, `record` what became of its guesses on
        all.
        """
        held = self.by_draft.get(draft)
        if held is not None and window == held.window:
            held.number = max(number, held.number)  # said again, and no news
            return False
        grown = held is None or (window.version, window.drafted) != (held.window.version, held.window.drafted)
        if held is None or (number > held.number and grown):
            self.all_missed = False
        if held is None:
            self.by_draft[draft] = Evidence(number, window, now, acceptance, record or Record())
            return True
        if number <= held.number:
            return False
        if window.version > held.window.version:
            held.broken_at = None  # it heard of a newer commit: if it is contradicted again, then by one still newer
        held.number, held.window, held.arrived = number, window, now
        held.missed &= not grown  # what it prepared beside its lead was not waited for
        return True

    def drop(self, draft: str) -> None:
        """Forget the guesses of a draft that left; its work stays counted."""
        left = self.by_draft.pop(draft, None)
        if left is not None:
            self._left_drafted += left.window.drafted + left.window.prepared
            self._left_rollbacks += left.window.rollbacks

    def best(self, committed: Sequence[int], committed_at: float, least: float = 0.0) -> Proposal:
        """Return the proposal of which most tokens of the chain can be expected to be accepted.

        What is accepted with a chance below `least` is left out. Notes on the way whose lead the newest commit, made at
        `committed_at`, contradicts; what that draft has guessed behind a token beside its lead may go on all the same.
        """
        best, value = Proposal(), 0.0
        for draft, evidence in self.by_draft.items():
            guesses = guesses_beyond(committed, evidence.window)
            if guesses is not None and not guesses.parted:
                evidence.broken_at = None
            elif evidence.broken_at is None:
                evidence.broken_at = committed_at
            if guesses is None or not guesses.chain:
                continue
            proposal = evidence.propose(draft, guesses, least)
            expected = expected_accepted(proposal.chances)
            if expected > value or not best.tokens:
                best, value = proposal, expected
        return best

    def mark_missed(self) -> None:
        """Wait for no draft again until its next window: what it should have sent did not come in time."""
        self.all_missed = True
        for evidence in self.by_draft.values():
            evidence.missed = True

    @property
    def best_acceptance(self) -> float:
        """The acceptance to expect of a token that is still to come, 0 without a draft."""
        return max((evidence.acceptance for evidence in self.by_draft.values()), default=0.0)

    @property
    def drafted(self) -> int:
        """Tokens drafted for this sequence, over all drafts, as far as they told: of leads and behind runners-up."""
        return self._left_drafted + sum(e.window.drafted + e.window.prepared for e in self.by_draft.values())

    @property
    def rollbacks(self) -> int:
        """Rollbacks over all drafts."""
        return self._left_rollbacks + sum(evidence.window.rollbacks for evidence in self.by_draft.values())


def expected_accepted(chances: Sequence[float]) -> float:
    """Return c1 + c1 c2 + c1 c2 c3 + ...: how many guesses survive if each has its chance behind the others."""
    total, survival = 0.0, 1.0
    for chance in chances:
        survival *= chance
        total += survival
    return total
