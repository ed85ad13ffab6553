"""Windows of guesses as trees, and what a verify node makes of them."""

from __future__ import annotations

from typing import Any

from amusd_mp.core.messages import Window
from amusd_mp.core.proposal import Proposal
from amusd_mp.core.proposals import ProposalStore
from amusd_mp.core.step import Picked


def draft(base: int, tokens: list[int], parents: list[int] | None = None, **fields: Any) -> Window:
    return Window(
        "s", 0, base, tuple(tokens), tuple(parents) if parents is not None else None, **fields
    )  # fmt: skip


def judge(store: ProposalStore, proposal: Proposal, *own: int) -> None:
    """Let the verify model write `own`, behind the chain and behind what is beside it alike."""
    picks = [own[depth] if depth < len(own) else 0 for depth in range(len(proposal.tokens) + 1)]
    picks += [own[each.depth + 1] if each.depth + 1 < len(own) else 0 for each in proposal.beside]
    store.by_draft[proposal.draft].judge(proposal, proposal.outcome(Picked(tuple(picks))), own)


def told(confidence: int = 60, beside: int = 30) -> Window:
    """A chain 5 6 7 behind one committed token, with 15 beside the first and 17, 27 beside the third."""
    return draft(
        1, [5, 6, 7, 15, 17, 27], [-1, 0, 1, -1, 1, 1],
        confidence=(confidence, confidence, confidence, beside, beside, 1),
    )  # fmt: skip


def proposed(window: Window, committed: list[int]) -> Proposal:
    store = ProposalStore()
    store.put("d", 1, window, now=0)
    return store.best(committed, committed_at=0)


def branched(beside: int = 30) -> Window:
    """The same with 16 17 behind 15, and 26 beside that 16."""
    return draft(
        1, [5, 6, 7, 15, 16, 17, 26, 17, 27], [-1, 0, 1, -1, 3, 4, 3, 1, 1],
        confidence=(60, 60, 60, beside, 60, 60, beside, beside, 1),
    )  # fmt: skip
