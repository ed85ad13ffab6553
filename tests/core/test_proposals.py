"""Content decides what a window is worth: exactly the guesses that continue the committed tokens count."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from amusd_mp.core.calibration import Calibration
from amusd_mp.core.messages import Window
from amusd_mp.core.proposals import Proposal, ProposalStore, path_beyond

small_tokens = st.lists(st.integers(0, 2), max_size=12)


def draft(base: int, tokens: list[int], parents: list[int] | None = None, **fields: Any) -> Window:
    return Window(
        "s", 0, base, tuple(tokens), tuple(parents) if parents is not None else None, **fields
    )  # fmt: skip


def guessed(committed: list[int], base: int, tokens: list[int], parents: list[int] | None) -> list[int] | None:
    """The tokens of the path that a window is worth."""
    path = path_beyond(committed, base, tokens, parents)
    return path if path is None else [tokens[at] for at in path]


@given(committed=small_tokens, base=st.integers(0, 14), tokens=small_tokens)
def test_a_chain_counts_where_it_runs_through_the_committed_tokens(
    committed: list[int], base: int, tokens: list[int]
) -> None:
    path = guessed(committed, base, tokens, None)
    whole = committed[:base] + tokens
    if base <= len(committed) and whole[: len(committed)] == committed[: len(whole)]:
        assert path == whole[len(committed) :]
    else:
        assert path is None


@given(committed=small_tokens, base=st.integers(0, 12), tokens=small_tokens)
def test_a_chain_written_as_a_tree_gives_the_same_path(committed: list[int], base: int, tokens: list[int]) -> None:
    parents = list(range(-1, len(tokens) - 1))
    assert guessed(committed, base, tokens, parents) == guessed(committed, base, tokens, None)


@given(committed=small_tokens, base=st.integers(0, 12), data=st.data())
def test_a_tree_gives_its_longest_branch_through_the_committed_tokens(
    committed: list[int], base: int, data: st.DataObject
) -> None:
    tokens = data.draw(small_tokens)
    parents = [data.draw(st.integers(-1, i - 1)) for i in range(len(tokens))]
    siblings = {(parent, token) for parent, token in zip(parents, tokens, strict=True)}
    if len(siblings) < len(tokens):
        return  # twins make two answers right
    path = guessed(committed, base, tokens, parents)
    branches = []
    for i in range(len(tokens)):
        branch, node = [], i
        while node >= 0:
            branch.append(tokens[node])
            node = parents[node]
        branches.append(committed[:base] + branch[::-1])
    fitting = [b[len(committed) :] for b in branches if base <= len(committed) and b[: len(committed)] == committed]
    assert len(path or []) == max((len(b) for b in fitting), default=0)
    assert not path or path in fitting


def test_an_older_window_never_replaces_a_newer_one() -> None:
    store = ProposalStore()
    assert store.put("d", 5, draft(2, [7, 8]), now=0)
    assert not store.put("d", 4, draft(2, [9]), now=1)
    assert not store.put("d", 5, draft(2, [9]), now=1)
    assert store.best([1, 2], 0).tokens == (7, 8)


def test_the_draft_with_more_tokens_to_expect_wins_and_a_dropped_one_does_not_count() -> None:
    store = ProposalStore()
    store.put("good", 1, draft(1, [5, 6], drafted=2), now=0)
    store.put("bad", 1, draft(1, [5, 6, 7], drafted=3), now=0)
    for _ in range(50):
        store.by_draft["bad"].judge(Proposal("bad", (5, 6, 7)), accepted=0)
    assert store.best([1], 0).draft == "good"
    store.drop("good")
    assert store.best([1], 0).draft == "bad"
    assert store.drafted == 5


def test_full_counts_only_for_the_commit_it_builds_on() -> None:
    store = ProposalStore()
    store.put("d", 1, Window("s", version=3, base=1, tokens=(5,), full=True), now=0)
    assert store.by_draft["d"].full_at(3)
    assert not store.by_draft["d"].full_at(4)


def test_a_contradicted_draft_is_noted_with_the_time_of_the_commit_until_it_agrees_again() -> None:
    store = ProposalStore()
    store.put("d", 1, draft(1, [5, 6]), now=0)
    assert store.best([1, 9], committed_at=7).tokens == ()
    assert store.best([1, 9, 9], committed_at=8).tokens == ()
    assert store.by_draft["d"].broken_at == 7
    store.put("d", 2, draft(2, [9, 4]), now=9)
    assert store.best([1, 9, 9], committed_at=8).tokens == (4,)
    assert store.by_draft["d"].broken_at is None


def test_a_window_that_ends_early_leaves_a_gap() -> None:
    store = ProposalStore()
    store.put("d", 1, draft(1, [5]), now=0)
    assert store.best([1, 5, 6, 7], committed_at=1).tokens == ()
    assert store.by_draft["d"].gap(4) == 2


def test_a_bad_draft_is_found_out_within_a_few_steps() -> None:
    store = ProposalStore()
    store.put("d", 1, draft(1, [5]), now=0)
    for _ in range(20):
        store.by_draft["d"].judge(Proposal("d", (5, 6, 7, 8)), accepted=0)
    assert store.by_draft["d"].acceptance < 0.15


def test_confidence_is_worth_what_became_of_it() -> None:
    """Both tokens of every window were sent as sure as each other says; the first is always right, the second never."""
    store, calibration = ProposalStore(), Calibration()
    store.put("d", 1, draft(1, [5, 6], confidence=(95, 20)), now=0, calibration=calibration)
    for _ in range(50):
        proposal = store.best([1], 0)
        store.by_draft["d"].judge(proposal, accepted=1)
    sure, unsure = store.best([1], 0).chances
    assert sure > 0.9
    assert unsure < 0.1
    other = ProposalStore()
    other.put("d", 1, draft(1, [7, 8], confidence=(20, 99)), now=0, calibration=calibration)
    assert other.best([1], 0).chances == (unsure, sure), "what was learned holds for the draft's other sequences"


def test_a_draft_that_tells_no_confidence_is_judged_by_its_running_acceptance() -> None:
    store = ProposalStore()
    store.put("d", 1, draft(1, [5, 6]), now=0, acceptance=0.6)
    assert store.best([1], 0).chances == (0.6, 0.6)
