"""What drafts have proposed for one sequence: a tree of guesses per draft, judged by content alone.

A window counts only where its tokens after `base` run through the committed tokens (rule V2); publisher numbers filter
out what is older than the window already held. Paths beyond the committed tokens come out; nothing here decides how
much of a path is used (`core.policy` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from amusd_mp.core.calibration import PRIOR, Calibration
from amusd_mp.core.messages import Window

ROOT = -1

PRIOR_WEIGHT = 4
"""How many judged tokens the first expectation is worth: a bad draft must be found out within a few steps."""

SMOOTHING = 0.05


def path_beyond(
    committed: Sequence[int], base: int, tokens: Sequence[int], parents: Sequence[int] | None
) -> list[int] | None:
    """Return the longest guess of a window that continues `committed`, as indices into its tokens.

    None is a window that contradicts `committed`, [] one that agrees as far as it goes, but ends at or before the last
    committed token. `committed` holds every id from position 0. Of paths of equal length the one proposed first wins.
    """
    length = len(committed)
    if base > length:
        return None
    if parents is None:
        known = length - base
        for i in range(min(known, len(tokens))):
            if tokens[i] != committed[base + i]:
                return None
        return list(range(known, len(tokens)))
    node = ROOT
    children: dict[int, list[int]] = {}
    for i, parent in enumerate(parents):
        children.setdefault(parent, []).append(i)
    for position in range(base, length):
        found = next((i for i in children.get(node, ()) if tokens[i] == committed[position]), None)
        if found is None:
            return [] if node not in children else None
        node = found
    return _deepest(node, parents)


def _deepest(node: int, parents: Sequence[int]) -> list[int]:
    """Return the indices below `node` along the longest branch. One pass: a parent comes before its children."""
    depth = {node: 0}
    best = node
    for i, parent in enumerate(parents):
        if i != node and parent in depth:
            depth[i] = depth[parent] + 1
            if depth[i] > depth[best]:
                best = i
    path: list[int] = []
    while best != node:
        path.append(best)
        best = parents[best]
    return path[::-1]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The best path to verify next, and whose it is ("" and () when there is none).

    chances:    for each token, the chance that it is accepted if all before it are
    confidence: the draft's own, in percent, () if it does not tell
    acceptance: the chance to expect of tokens that this draft has yet to send
    """

    draft: str = ""
    tokens: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()
    confidence: tuple[int, ...] = ()
    acceptance: float = 0.0

    def cut(self, k: int) -> Proposal:
        """Return the first k tokens of this proposal."""
        if len(self.tokens) <= k:
            return self
        return replace(self, tokens=self.tokens[:k], chances=self.chances[:k], confidence=self.confidence[:k])


@dataclass(slots=True)
class Evidence:
    """The newest window of one draft for one sequence, and how well this draft's guesses have done on it."""

    number: int
    window: Window
    arrived: float
    acceptance: float
    calibration: Calibration
    judged: int = 0
    broken_at: float | None = None  # when a commit contradicted its guesses, until a window agrees again
    missed: bool = False  # a token it should have sent did not come in time; no waiting until its next window

    def gap(self, length: int) -> int:
        """Return how many of `length` committed tokens an uncontradicted window does not reach."""
        if self.broken_at is not None:
            return 0  # it starts over from a commit
        return max(0, length - self.window.base - len(self.window.tokens))

    def full_at(self, version: int) -> bool:
        """Return True if this draft sends nothing more before the commit after `version`."""
        return self.window.full and self.window.version == version

    def propose(self, draft: str, path: Sequence[int]) -> Proposal:
        """Return the proposal that the tokens at these indices of the window are."""
        window = self.window
        tokens = tuple(window.tokens[at] for at in path)
        if not window.confidence:
            return Proposal(draft, tokens, (self.acceptance,) * len(path), (), self.acceptance)
        confidence = tuple(window.confidence[at] for at in path)
        chances = tuple(self.calibration.chance(each) for each in confidence)
        return Proposal(draft, tokens, chances, confidence, self.acceptance)

    def judge(self, proposal: Proposal, accepted: int) -> None:
        """Learn from one verify step. A rejection ends the evidence: what follows it was never comparable."""
        for at in range(min(len(proposal.tokens), accepted + 1)):
            self.judged += 1
            rate = max(SMOOTHING, 1 / (PRIOR_WEIGHT + self.judged))
            self.acceptance += rate * ((at < accepted) - self.acceptance)
            if proposal.confidence:
                self.calibration.judge(proposal.confidence[at], at < accepted)


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
        calibration: Calibration | None = None,
    ) -> bool:
        """Keep a window unless a newer one of the same draft is held. Return whether it was kept.

        `acceptance` is what to expect of a draft that is new to this sequence, `calibration` what it has shown on all.
        """
        held = self.by_draft.get(draft)
        if held is not None and window == held.window:
            held.number = max(number, held.number)  # said again, and no news
            return False
        if held is None or number > held.number:
            self.all_missed = False
        if held is None:
            self.by_draft[draft] = Evidence(number, window, now, acceptance, calibration or Calibration())
            return True
        if number <= held.number:
            return False
        held.number, held.window, held.arrived, held.missed = number, window, now, False
        return True

    def drop(self, draft: str) -> None:
        """Forget the guesses of a draft that left; its work stays counted."""
        left = self.by_draft.pop(draft, None)
        if left is not None:
            self._left_drafted += left.window.drafted
            self._left_rollbacks += left.window.rollbacks

    def best(self, committed: Sequence[int], committed_at: float) -> Proposal:
        """Return the path of which most tokens can be expected to be accepted.

        Notes on the way which drafts the newest commit, made at `committed_at`, contradicts.
        """
        best, value = Proposal(), 0.0
        for draft, evidence in self.by_draft.items():
            window = evidence.window
            path = path_beyond(committed, window.base, window.tokens, window.parents)
            if path is None:
                if evidence.broken_at is None:
                    evidence.broken_at = committed_at
                continue
            evidence.broken_at = None
            if not path:
                continue
            proposal = evidence.propose(draft, path)
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
        """Tokens drafted for this sequence, over all drafts, as far as they told."""
        return self._left_drafted + sum(evidence.window.drafted for evidence in self.by_draft.values())

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
