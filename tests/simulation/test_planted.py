"""Rule: a bug in the code under simulation does not survive a thousand seeds; each one planted here is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from amusd_mp.core.draft_sequence import DraftSequence
from amusd_mp.core.ledger import Ledger
from amusd_mp.core.proposals import ProposalStore
from amusd_mp.testing.simulation import run_seed

MOST = 1000
"""Seeds a bug may survive."""

FIRST = {"resurrected_sequence": 330}
"""Where to begin, 0 for all others: from there this one is found within a dozen, from 0 at seed 340."""

Patch = Callable[[pytest.MonkeyPatch], None]


def stale_window(patch: pytest.MonkeyPatch) -> None:
    """A draft's late window replaces the newer one that is held."""
    put = ProposalStore.put
    later = count(1 << 40)

    def accept(store: ProposalStore, draft: str, number: int, *rest: Any) -> bool:
        kept = put(store, draft, next(later), *rest)
        store.by_draft[draft].number = number
        return kept

    patch.setattr(ProposalStore, "put", accept)


def off_by_one_rollback(patch: pytest.MonkeyPatch) -> None:
    """A rollback keeps one cache entry too many."""
    reconcile = DraftSequence.reconcile

    def keep_one_more(sequence: DraftSequence) -> bool:
        before = sequence.fed
        moved = reconcile(sequence)
        if sequence.fed < before and sequence.fed + 1 < len(sequence.ids):  # something must be left to feed
            sequence.fed += 1
        return moved

    patch.setattr(DraftSequence, "reconcile", keep_one_more)


def lost_final_commit(patch: pytest.MonkeyPatch) -> None:
    """What has ended is forgotten with the next beat, so nobody can ask for a last commit that was lost."""
    expired = Ledger.expired

    def forget(ledger: Ledger, now: float) -> list[str]:
        for name in [name for name, entry in ledger.entries.items() if entry.sequence.finish is not None]:
            del ledger.entries[name]
        return expired(ledger, now)

    patch.setattr(Ledger, "expired", forget)


def resurrected_sequence(patch: pytest.MonkeyPatch) -> None:
    """A cancellation that overtook its submit is not remembered."""
    patch.setattr(Ledger, "bury", lambda *_: None)


def double_submit(patch: pytest.MonkeyPatch) -> None:
    """A submit that was sent again runs again."""
    patch.setattr(Ledger, "recall", lambda *_: None)


BUGS: dict[Patch, str] = {
    stale_window: "replaced window",
    off_by_one_rollback: "its row should hold",
    lost_final_commit: "nothing had happened|opened a second time",  # a late copy of its submit finds nothing, too
    resurrected_sequence: "opened after it was cancelled",
    double_submit: "opened a second time",
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    found = next((run for run in map(run_seed, range(FIRST.get(bug.__name__, 0), MOST)) if run.breach), None)
    assert found is not None, f"{bug.__doc__} It was not noticed in {MOST} seeds."
    assert re.search(BUGS[bug], found.breach), found.breach
