"""What drafts have proposed for one sequence, and how much of it can be expected to be accepted.

A window counts only where it continues the committed tokens (`core.guesses`); publisher numbers filter out what is
older than the window already held. What comes out is the longest chain and the tokens beside it, with the chance of
each; nothing here decides how much of it is used (`core.policy` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import mul

from amusd_mp.core.calibration import PRIOR, Record, odds
from amusd_mp.core.guesses import Guesses, guesses_beyond, reach
from amusd_mp.core.messages import Window

PRIOR_WEIGHT = 4
"""How many judged tokens the first expectation is worth: a bad draft must be found out within a few steps."""

SMOOTHING = 0.05


@dataclass(frozen=True, slots=True)
class Sibling:
    """A token that may stand in the place of the chain's token `depth`. What a window has behind it is not scored yet.

    odds:   percent, the draft's own share for it of what it left to others than the chain's
    worth:  the chance that it is accepted: all before it are right, the chain's token is wrong, and this one is right
    """

    depth: int
    token: int
    odds: int
    worth: float


@dataclass(frozen=True)
class Proposal:
    """What to verify next, and whose it is ("" and () when there is none): a chain, and siblings of its tokens.

        committed ── a ── b ── c      tokens   (a, b, c)
                  └─ y      └─ z      siblings (depth 0, y), (depth 2, z)

    The step scores them in this order, a, b, c, y, z, and so the verify model's own tokens come back as: the one after
    the committed, after a, after b, after c, after y, after z. Where y is right and a wrong, the first is y, and the
    fifth goes out with it.

    chances:    for each token of the chain, the chance that it is accepted if all before it are
    confidence: the draft's own, in percent, () if it does not tell
    acceptance: the chance to expect of tokens that this draft has yet to send
    siblings:   what may stand in the place of the chain's tokens, and of the one after them
    unscored:   siblings that the step does not score; what becomes of them is learned all the same
    cut:        more of the chain is there, and was left out as too unlikely
    """

    draft: str = ""
    tokens: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()
    confidence: tuple[int, ...] = ()
    acceptance: float = 0.0
    siblings: tuple[Sibling, ...] = ()
    unscored: tuple[Sibling, ...] = ()
    cut: bool = False

    @property
    def size(self) -> int:
        """Tokens to verify."""
        return len(self.tokens) + len(self.siblings)

    @property
    def reach(self) -> int:
        """Positions for which there is a guess."""
        return max((len(self.tokens), *(sibling.depth + 1 for sibling in self.siblings)))

    def worths(self) -> list[float]:
        """Return the chance of each token to be accepted, the likeliest first."""
        return [worth for worth, _, _ in self._ranked]

    def tip(self) -> int:
        """Return how many of the likeliest tokens have the whole chain among them."""
        last = next((at for at, (_, _, sibling) in enumerate(reversed(self._ranked)) if sibling is None), self.size)
        return self.size - last

    def within(self, usable: int, room: int) -> Proposal:
        """Return what may be committed where `usable` proposals may, and what fits in `room` slots."""
        if len(self.tokens) <= usable and self.size <= room and not self.siblings:
            return self
        siblings = tuple(sibling for sibling in self.siblings if sibling.depth < usable)
        chain = min(len(self.tokens), usable)
        return self._of(chain, siblings[: max(0, room - chain)])

    def likeliest(self, k: int) -> Proposal:
        """Return the k tokens most likely to be accepted: never one without those before it."""
        if self.size <= k:
            return self
        taken = self._ranked[:k]
        return self._of(
            sum(sibling is None for _, _, sibling in taken),
            tuple(sibling for _, _, sibling in taken if sibling is not None),
        )

    def chain(self, k: int) -> Proposal:
        """Return the first k tokens of the chain alone."""
        return self._of(min(k, len(self.tokens)), ())

    def _of(self, k: int, siblings: tuple[Sibling, ...]) -> Proposal:
        kept = {(sibling.depth, sibling.token) for sibling in siblings}
        rest = [sibling for sibling in (*self.siblings, *self.unscored) if (sibling.depth, sibling.token) not in kept]
        return Proposal(
            self.draft,
            self.tokens[:k],
            self.chances[:k],
            self.confidence[:k],
            self.acceptance,
            siblings,
            tuple([sibling for sibling in rest if sibling.depth < k]),
            self.cut,
        )

    @cached_property
    def _ranked(self) -> list[tuple[float, int, Sibling | None]]:
        """Return (chance, depth, None or the sibling) of all tokens, the likeliest first, a parent before its child."""
        ranked: list[tuple[float, int, Sibling | None]] = [
            (survival, depth, None) for depth, survival in enumerate(accumulate(self.chances, mul))
        ]
        if self.siblings:
            ranked += [(sibling.worth, sibling.depth, sibling) for sibling in self.siblings]
            ranked.sort(key=_by_chance)
        return ranked


def _by_chance(ranked: tuple[float, int, Sibling | None]) -> tuple[float, int, bool]:
    worth, depth, sibling = ranked
    return -worth, depth, sibling is not None


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
        tokens = tuple([window.tokens[at] for at in chain])
        confidence = tuple([window.confidence[at] for at in chain]) if window.confidence else ()
        siblings: list[Sibling] = []
        if confidence:
            for depth, at in guesses.siblings:
                if depth >= len(chain):
                    break  # they come in order of depth
                wrong = before[depth] - before[depth + 1]
                if wrong < least:
                    continue
                share = odds(window.confidence[at], confidence[depth])
                worth = wrong * record.beside.chance(share)
                if worth >= least:
                    siblings.append(Sibling(depth, window.tokens[at], share, worth))
        cut = len(chain) < len(guesses.chain)
        return Proposal(draft, tokens, tuple(chances), confidence, self.acceptance, tuple(siblings), cut=cut)

    def judge(self, proposal: Proposal, accepted: int, own: int | None) -> None:
        """Learn from one verify step. A rejection ends the evidence: what follows it was never comparable.

        accepted: tokens of the chain
        own:      the verify model's token behind those, None where it is not known
        """
        for at in range(min(len(proposal.tokens), accepted + 1)):
            self.judged += 1
            rate = max(SMOOTHING, 1 / (PRIOR_WEIGHT + self.judged))
            self.acceptance += rate * ((at < accepted) - self.acceptance)
            if proposal.confidence:
                self.record.chain.judge(proposal.confidence[at], at < accepted)
        if accepted < len(proposal.tokens) and own is not None:
            beside = [each for each in (*proposal.siblings, *proposal.unscored) if each.depth == accepted]
            self.record.wrong([(sibling.odds, sibling.token == own) for sibling in beside])


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
