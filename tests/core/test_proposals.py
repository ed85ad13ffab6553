"""Content decides what a window is worth: exactly the guesses that continue the committed tokens count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amusd_mp.core.messages import Window
from amusd_mp.core.proposals import ProposalStore, path_beyond

small_tokens = st.lists(st.integers(0, 2), max_size=12)


def draft(base: int, tokens: list[int], parents: list[int] | None = None, **fields: int) -> Window:
    return Window(
        "s", 0, base, tuple(tokens), tuple(parents) if parents is not None else None, **fields  # type: ignore[arg-type]
    )  # fmt: skip


@given(committed=small_tokens, base=st.integers(0, 14), tokens=small_tokens)
def test_a_chain_counts_where_it_runs_through_the_committed_tokens(
    committed: list[int], base: int, tokens: list[int]
) -> None:
    path = path_beyond(committed, base, tokens, None)
    whole = committed[:base] + tokens
    if base <= len(committed) and whole[: len(committed)] == committed[: len(whole)]:
        assert path == whole[len(committed) :]
    else:
        assert path is None


@given(committed=small_tokens, base=st.integers(0, 12), tokens=small_tokens)
def test_a_chain_written_as_a_tree_gives_the_same_path(committed: list[int], base: int, tokens: list[int]) -> None:
    parents = list(range(-1, len(tokens) - 1))
    assert path_beyond(committed, base, tokens, parents) == path_beyond(committed, base, tokens, None)


@given(committed=small_tokens, base=st.integers(0, 12), data=st.data())
def test_a_tree_gives_its_longest_branch_through_the_committed_tokens(
    committed: list[int], base: int, data: st.DataObject
) -> None:
    tokens = data.draw(small_tokens)
    parents = [data.draw(st.integers(-1, i - 1)) for i in range(len(tokens))]
    siblings = {(parent, token) for parent, token in zip(parents, tokens, strict=True)}
    if len(siblings) < len(tokens):
        return  # twins make two answers right
    path = path_beyond(committed, base, tokens, parents)
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
        store.by_draft["bad"].judge(proposed=3, accepted=0)
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
        store.by_draft["d"].judge(proposed=4, accepted=0)
    assert store.by_draft["d"].acceptance < 0.15
