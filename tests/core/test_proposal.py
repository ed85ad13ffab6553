"""A step scores the likeliest of a tree, and its outcome is the one way that the verify model takes through that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from windows import branched, proposed, told

from amusd_mp.core.messages import Origin, Window
from amusd_mp.core.proposal import Proposal
from amusd_mp.core.step import Picked


def outcome(*own: int, doubtful: tuple[int, ...] = ()) -> tuple[tuple[int, ...], tuple[int, ...], int, Origin]:
    """Which tokens of `branched` are accepted off the chain, which picks are committed, what the last one is.

    `own`: the verify model's own tokens after the committed one, 5, 6, 7, 15, 17, 27, 16, 26, and the second 17.
    """
    found = proposed(branched(), [1]).outcome(Picked(own, doubtful=frozenset(doubtful)))
    return tuple(each.token for each in found.aside), found.picks, found.guessed, found.origin


def test_the_way_that_the_verify_model_takes_is_followed_through_the_tree() -> None:
    assert outcome(5, 6, 7, 8, 0, 0, 0, 0, 0, 0) == ((), (0, 1, 2, 3), 3, Origin.BONUS)
    assert outcome(5, 6, 9, 0, 0, 0, 0, 0, 0, 0) == ((), (0, 1, 2), 3, Origin.RECOVERED)
    assert outcome(5, 6, 17, 0, 0, 3, 0, 0, 0, 0) == ((17,), (0, 1, 2, 5), 3, Origin.BONUS)
    assert outcome(15, 0, 0, 0, 9, 0, 0, 0, 0, 0) == ((15,), (0, 4), 3, Origin.RECOVERED)
    assert outcome(15, 0, 0, 0, 26, 0, 0, 0, 9, 0) == ((15, 26), (0, 4, 8), 3, Origin.BONUS)
    assert outcome(15, 0, 0, 0, 16, 0, 0, 17, 0, 4) == ((15, 16, 17), (0, 4, 7, 9), 3, Origin.BONUS)
    assert outcome(9, 0, 0, 0, 16, 0, 0, 17, 0, 4) == ((), (0,), 3, Origin.RECOVERED)


def test_guesses_beside_the_way_that_was_taken_do_not_count() -> None:
    """The chain ends before the branch does, and is accepted to its end."""
    deep = replace(proposed(branched(), [1]).likeliest(9), tokens=(5,), chances=(0.5,), confidence=(60,))
    deep = replace(deep, beside=tuple(each for each in deep.beside if each.depth != 2 or each.behind is not None))
    assert [each.depth for each in deep.beside] == [0, 1, 1, 2]
    assert deep.outcome(Picked((5, 8, 0, 0, 0, 0))).guessed == 1
    assert deep.outcome(Picked((5, 8, 0, 0, 0, 0))).origin is Origin.BONUS
    assert deep.outcome(Picked((15, 0, 9, 0, 0, 0))).guessed == 2
    assert Proposal().outcome(Picked((8,))).guessed == 0
    assert Proposal().outcome(Picked((8,))).origin is Origin.ALONE


def test_a_close_call_off_the_chain_ends_the_way_before_it() -> None:
    assert outcome(15, 0, 0, 0, 16, 0, 0, 17, 0, 4, doubtful=(9,)) == ((15, 16), (0, 4, 7), 3, Origin.RECOVERED)
    assert outcome(15, 0, 0, 0, 16, 0, 0, 17, 0, 4, doubtful=(4,)) == ((), (0,), 3, Origin.RECOVERED)


@pytest.mark.parametrize("window", [told(confidence=20, beside=70), branched(beside=35)])
def test_the_likeliest_tokens_never_lack_those_before_them(window: Window) -> None:
    proposal = proposed(window, [1])
    worths = proposal.worths()
    assert worths == sorted(worths, reverse=True)
    assert sum(worths) < 3
    for k in range(proposal.size + 1):
        part = proposal.likeliest(k)
        assert part.size == k
        assert part.tokens == proposal.tokens[: len(part.tokens)]
        assert all(other.behind in (None, *part.beside[:at]) for at, other in enumerate(part.beside))
        assert all(other.depth <= len(part.tokens) for other in part.beside if other.behind is None)
    for k in range(1, proposal.size + 1):
        whole = len(proposal.likeliest(k).tokens) == 3
        assert whole == (k >= proposal.tip()), "the tip is the first k with the whole chain"


def test_what_cannot_be_committed_or_does_not_fit_is_left_out() -> None:
    proposal = proposed(told(), [1])
    assert proposal.within(usable=2, room=9).tokens == (5, 6)
    assert [other.token for other in proposal.within(usable=2, room=9).beside] == [15]
    assert proposal.within(usable=3, room=4).size == 4
    assert proposal.within(usable=0, room=9).size == 0
    assert proposal.chain(2) == replace(proposal, tokens=(5, 6), chances=proposal.chances[:2],
        confidence=proposal.confidence[:2], beside=(), unscored=(proposal.beside[0],))  # fmt: skip
