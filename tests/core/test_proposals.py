"""Content decides what a window is worth: exactly the guesses that continue the committed tokens count."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from windows import branched, draft, judge, proposed, told

from amusd_mp.core.calibration import Record, odds
from amusd_mp.core.guesses import Guesses, guesses_beyond, reach
from amusd_mp.core.messages import Window
from amusd_mp.core.proposal import Proposal
from amusd_mp.core.proposals import ProposalStore

small_tokens = st.lists(st.integers(0, 2), max_size=12)


def guessed(committed: list[int], base: int, tokens: list[int], parents: list[int] | None) -> list[int] | None:
    """The tokens of the path that a window is worth."""
    found = guesses_beyond(committed, draft(base, tokens, parents))
    return found if found is None else [tokens[at] for at in found.chain]


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


@given(committed=st.lists(st.integers(0, 2), max_size=4), base=st.integers(0, 5), data=st.data())
def test_a_tree_gives_the_drafts_own_way_on_from_where_the_committed_tokens_lead(
    committed: list[int], base: int, data: st.DataObject
) -> None:
    drawn = data.draw(st.lists(st.tuples(st.integers(-1, 10), st.integers(0, 2)), max_size=12))
    parents = [min(parent, i - 1) for i, (parent, _) in enumerate(drawn)]
    tokens: list[int] = []
    for i, (_, token) in enumerate(drawn):
        twin = any(parents[j] == parents[i] and tokens[j] == token for j in range(i))
        tokens.append(10 + i if twin else token)
    lines: list[list[int]] = []  # every node's ids from position 0
    for parent, token in zip(parents, tokens, strict=True):
        lines.append([*(lines[parent] if parent >= 0 else committed[:base]), token])
    node = next((i for i, line in enumerate(lines) if line == committed), -1 if base == len(committed) else None)
    own: list[int] = []
    while node is not None:
        node = next((i for i, parent in enumerate(parents) if parent == node), None)
        own += [] if node is None else [tokens[node]]
    assert (guessed(committed, base, tokens, parents) or []) == own


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
        judge(store, Proposal("bad", (5, 6, 7)), 9)
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
        judge(store, Proposal("d", (5, 6, 7, 8)), 9)
    assert store.by_draft["d"].acceptance < 0.15


def test_confidence_is_worth_what_became_of_it() -> None:
    """Both tokens of every window were sent as sure as each other says; the first is always right, the second never."""
    store, record = ProposalStore(), Record()
    store.put("d", 1, draft(1, [5, 6], confidence=(95, 20)), now=0, record=record)
    for _ in range(50):
        judge(store, store.best([1], 0), 5, 9)
    sure, unsure = store.best([1], 0).chances
    assert sure > 0.9
    assert unsure < 0.1
    other = ProposalStore()
    other.put("d", 1, draft(1, [7, 8], confidence=(20, 99)), now=0, record=record)
    assert other.best([1], 0).chances == (unsure, sure), "what was learned holds for the draft's other sequences"


def test_a_draft_that_tells_no_confidence_is_judged_by_its_running_acceptance() -> None:
    store = ProposalStore()
    store.put("d", 1, draft(1, [5, 6]), now=0, acceptance=0.6)
    assert store.best([1], 0).chances == (0.6, 0.6)


def test_what_a_draft_prepares_beside_its_lead_is_not_what_was_missed() -> None:
    store = ProposalStore()
    store.put("d", 1, draft(1, [5, 15], [-1, -1], drafted=1), now=0)
    store.mark_missed()
    assert store.put("d", 2, draft(1, [5, 15, 6], [-1, -1, 1], drafted=1, prepared=1), now=0)
    assert store.all_missed
    assert store.by_draft["d"].missed
    assert store.put("d", 3, draft(1, [5, 6, 15, 6], [-1, 0, -1, 2], drafted=2, prepared=1), now=0)
    assert not store.all_missed
    assert not store.by_draft["d"].missed


def test_what_stands_beside_the_chain_is_proposed_with_its_depth() -> None:
    proposal = proposed(told(), [1])
    assert proposal.tokens == (5, 6, 7)
    assert [(other.depth, other.token) for other in proposal.beside] == [(0, 15), (2, 17), (2, 27)]
    behind = proposed(told(), [1, 5, 6])
    assert behind.tokens == (7,)
    assert [(other.depth, other.token) for other in behind.beside] == [(0, 17), (0, 27)]


def test_a_window_whose_chain_is_contradicted_proposes_nothing_although_another_of_its_tokens_was_right() -> None:
    assert guesses_beyond([1, 15], told()) is None, "its draft starts over"
    assert guesses_beyond([1, 15, 3], told()) is None
    assert guesses_beyond([1, 5, 6, 17], told()) is None
    assert guesses_beyond([1, 5, 6, 7], told()) == Guesses(), "the end of its chain"
    assert reach(told()) == 3


def test_what_follows_a_token_beside_the_chain_is_proposed_behind_it() -> None:
    proposal = proposed(branched(), [1])
    assert proposal.tokens == (5, 6, 7)
    found = [(each.depth, each.token, each.behind and each.behind.token) for each in proposal.beside]
    assert found == [(0, 15, None), (2, 17, None), (2, 27, None), (1, 16, 15), (1, 26, 15), (2, 17, 16)]
    assert list(proposal.parents(0)) == [0, 2, 2, 4, 4, 7]
    only = proposed(branched(), [1, 15])
    assert (only.tokens, [(each.depth, each.token) for each in only.beside]) == ((16, 17), [(0, 26)])


def test_a_token_behind_one_beside_the_chain_is_worth_less_than_that_by_its_own_chance() -> None:
    proposal, record = proposed(branched(), [1]), Record()
    by_token = {(each.depth, each.token): each for each in proposal.beside}
    chance = record.chain.chance(60)
    assert by_token[1, 16].worth == by_token[0, 15].worth * chance
    assert by_token[2, 17].worth < by_token[1, 16].worth
    assert by_token[1, 26].worth == by_token[0, 15].worth * (1 - chance) * record.beside.chance(odds(30, 60))
    store = ProposalStore()
    store.put("d", 1, branched(), now=0)
    pruned = store.best([1], 0, least=by_token[0, 15].worth)
    assert [each.token for each in pruned.beside] == [15], "and what follows one left out is left out"


def test_what_stands_behind_a_runner_up_is_learned_from_where_the_verify_model_comes_by() -> None:
    """In bins of their own: a first choice behind 15 that is never right, and a token beside that which always is."""
    window = replace(branched(), confidence=(60, 60, 60, 30, 85, 60, 14, 30, 1))
    store, record = ProposalStore(), Record()
    store.put("d", 1, window, now=0, record=record)
    for _ in range(60):
        judge(store, store.best([1], 0), 15, 26, 9)
    assert record.chain.chance(85) < 0.1
    assert record.beside.chance(odds(14, 85)) > 0.8


def test_all_that_may_stand_in_one_place_is_worth_no_more_than_the_chance_that_the_first_choice_is_wrong() -> None:
    many = draft(1, [5, *range(100, 150)], [-1] * 51, confidence=(60, *[40] * 50))
    proposal = proposed(many, [1])
    assert sum(proposal.worths()) <= 1.0 + 1e-9


def test_of_twins_in_a_tree_the_first_counts() -> None:
    twins = draft(1, [5, 5, 6, 7], [-1, -1, 1, 0])
    assert guessed([1], 1, [5, 5, 6, 7], [-1, -1, 1, 0]) == [5, 7]
    assert guesses_beyond([1], twins) == Guesses((0, 3))
    assert reach(twins) == 2


def test_what_is_hardly_ever_accepted_is_left_out_and_said_to_be_there() -> None:
    store = ProposalStore()
    store.put("d", 1, told(), now=0)
    whole = store.best([1], 0)
    assert not whole.cut
    part = store.best([1], 0, least=whole.worths()[1])
    assert part.tokens == whole.tokens[:2]
    assert part.worths() == whole.worths()[:2]
    assert part.cut
    assert part.within(usable=9, room=9).cut
    assert store.best([1], 0, least=1.0).size == 0


def test_what_stood_beside_a_wrong_token_is_learned_also_where_it_was_not_scored() -> None:
    store, record = ProposalStore(), Record()
    store.put("d", 1, told(), now=0, record=record)
    for _ in range(60):
        judge(store, store.best([1], 0).chain(3), 5, 6, 17)
    chances = {other.token: record.beside.chance(other.share) for other in store.best([1], 0).beside}
    assert chances[17] > 0.8
    assert chances[27] < 0.15
    assert record.rescued > 0.6
    before = record.rescued
    store.put("d", 2, draft(1, [5, 6, 7], confidence=(60, 60, 60)), now=0)
    judge(store, store.best([1], 0), 5, 6, 17)
    assert record.rescued == before, "a window that tells nothing of others says nothing of them"


def test_a_second_contradiction_counts_from_the_commit_that_made_it() -> None:
    """Between two looks the draft built on one commit and was contradicted by the next."""
    store = ProposalStore()
    store.put("d", 1, replace(draft(1, [5]), version=1), now=0)
    assert store.best([1, 9], committed_at=7).tokens == ()
    assert store.by_draft["d"].broken_at == 7
    store.put("d", 2, replace(draft(2, [6]), version=2), now=8)
    assert store.best([1, 9, 9], committed_at=9).tokens == ()
    assert store.by_draft["d"].broken_at == 9
