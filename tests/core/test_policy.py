"""The policy on tables: it takes the k with the best return, waits only while that pays, and never below the floor."""

from __future__ import annotations

from typing import Any

import pytest

from amusd_mp.core.costs import Curve
from amusd_mp.core.policy import CAUTION, PROBE_SHARE, Policy, RowView


def learned(
    verify: float, growth: float = 0.0, rate: float | None = None, rows: int = 1, padding: float = 0.0
) -> Policy:
    """A policy that has measured verify * (1 + growth * k) for k proposals per row and achieves `rate` tokens/s.

    Without a rate it achieves what the verify model does alone.
    """
    policy = Policy(padding)
    for k in range(17):
        for _ in range(Curve.ENOUGH):
            policy.costs.observe(rows, rows * k, verify * (1 + growth * k))
    policy.price.observe(rows, 1000, 1000 / (rate if rate is not None else rows / verify))
    return policy


def view(valid: int, acceptance: float, next_in: float | None = None, usable: int = 16, **more: Any) -> RowView:
    return RowView.of_chain((acceptance,) * valid, usable, acceptance, next_in=next_in, **more)


@pytest.mark.parametrize(
    ("acceptance", "growth", "expected"),
    [
        (0.8, 0.0, 8),  # scoring more costs nothing: all of it
        (0.0, 0.1, 0),  # nothing will be accepted: the verify model alone
        (0.05, 0.1, 0),  # too little to pay for the longer step
        (0.8, 0.1, 8),  # 0.8^8 = 0.17 still above 0.1
        (0.5, 0.1, 3),  # 0.5^3 = 0.125 pays for 0.1, 0.5^4 does not
    ],
)
def test_it_uses_proposals_while_each_pays_for_its_share_of_the_step(
    acceptance: float, growth: float, expected: int
) -> None:
    decision = learned(0.02, growth).decide([view(8, acceptance)], now=0)
    assert decision.ks == (expected,)
    assert decision.wait_until is None


def test_an_expensive_second_is_spent_on_fewer_unlikely_tokens() -> None:
    """The same table, but the pair achieves three times the floor: time is worth more."""
    cheap = learned(0.02, 0.1, rate=50).decide([view(8, 0.7)], now=0)
    dear = learned(0.02, 0.1, rate=150).decide([view(8, 0.7)], now=0)
    assert dear.ks < cheap.ks


@pytest.mark.parametrize("padding", [0.0, 0.4, 1.0])
def test_what_more_proposals_cost_is_found_out_however_dear_they_seem(padding: float) -> None:
    """Steps of one to eight rows without proposals tell of dear tokens; those of proposals are nearly free."""
    policy = Policy(padding)
    for rows in range(1, 9):
        for _ in range(10):
            policy.costs.observe(rows, 0, 0.010 + 0.005 * rows)
    views = [view(6, 0.7) for _ in range(8)]
    for _ in range(100):
        scored = sum(policy.decide(views, now=0).ks)
        policy.costs.observe(8, scored, 0.050 + 0.0001 * scored)
        policy.price.observe(8, 20, 0.055)
    assert scored == 48


def test_more_than_pays_is_tried_less_and_less() -> None:
    policy = learned(0.02, 0.1)
    for number, growth in enumerate((0.8, 0.9)):
        for _ in range(100):
            policy.costs.observe(1, 9 + number, 0.02 * (1 + growth))
    used = []
    for _ in range(1000):
        (k,) = policy.decide([view(12, 0.5)], now=0).ks
        policy.costs.observe(1, k, 0.02 * (1 + 0.1 * k))
        used.append(k)
    assert set(used) == {0, 3, 4}
    assert 1000 - used.count(3) <= 2 * 4


def test_it_waits_for_a_token_that_pays_and_goes_when_the_deadline_has_passed() -> None:
    policy = learned(0.020)
    waiting = policy.decide([view(0, 0.8, next_in=0.002)], now=1.0)
    assert waiting.wait_until == pytest.approx(1.0 + CAUTION * 0.8 * 0.020)
    again = policy.decide([view(0, 0.8, next_in=0.0)], now=1.010)
    assert again.wait_until == waiting.wait_until, "an overdue token must not look imminent for ever"
    gone = policy.decide([view(0, 0.8, next_in=0.0)], now=1.015)
    assert gone.ks == (0,)
    assert gone.missed


def test_a_token_that_arrives_starts_the_next_wait_afresh() -> None:
    policy = learned(0.020)
    policy.decide([view(0, 0.8, next_in=0.002)], now=1.0)
    after = policy.decide([view(1, 0.8, next_in=0.002)], now=1.002)
    assert after.wait_until == pytest.approx(1.002 + 0.8 * CAUTION * 0.8 * 0.020)


@pytest.mark.parametrize(
    ("acceptance", "next_in"),
    [(0.8, 0.017), (0.1, 0.003), (0.8, None), (0.0, 0.0)],
    ids=["too late", "too unlikely", "unknown", "hopeless"],
)
def test_it_does_not_wait_for_what_does_not_pay(acceptance: float, next_in: float | None) -> None:
    assert learned(0.020).decide([view(0, acceptance, next_in)], now=0).ks == (0,)


def test_a_gap_makes_the_next_token_less_likely() -> None:
    policy = learned(0.020)
    assert policy.decide([view(0, 0.5, next_in=0.004)], now=0).wait_until is not None
    assert policy.decide([view(0, 0.5, next_in=0.004, gap=3)], now=0).wait_until is None


def test_a_proposal_that_the_draft_is_not_sure_of_ends_what_is_used() -> None:
    sure_then_not = RowView.of_chain((0.9, 0.9, 0.1, 0.9), usable=16, acceptance=0.7)
    assert learned(0.020, growth=0.1).decide([sure_then_not], now=0).ks == (2,)


def test_a_token_that_comes_anyway_is_not_waited_for_where_the_draft_sets_the_pace() -> None:
    """With 50 tokens/s and a token each 18 ms, a token used now is one less in store after the step."""
    policy = learned(0.020)
    soon = policy.decide([view(1, 0.9, next_in=0.009, period=0.018)], now=0)
    same_from_a_fast_draft = learned(0.020).decide([view(1, 0.9, next_in=0.009, period=0.001)], now=0)
    assert soon.wait_until is None
    assert same_from_a_fast_draft.wait_until is not None


def test_one_rows_wait_is_weighed_against_all_rows() -> None:
    """Eight rows pay for the time that one row's next token would take."""
    alone = learned(0.020).decide([view(0, 0.8, next_in=0.004)], now=0)
    together = learned(0.020, rows=8).decide([view(0, 0.8, next_in=0.004)] + [view(3, 0.8)] * 7, now=0)
    assert alone.wait_until is not None
    assert together.wait_until is None


def test_waits_that_never_pay_are_given_up_and_tried_again_later() -> None:
    policy = learned(0.020)
    now, waits = 0.0, []
    for _ in range(200):
        waiting = policy.decide([view(0, 0.5, next_in=0.006)], now)
        waits.append(waiting.wait_until is not None)
        now += 0.020
        if waiting.wait_until is not None:
            policy.decide([view(0, 0.5, next_in=0.006)], now)
    assert 0 < sum(waits) < 40
    assert any(waits[100:])


def test_unused_proposals_are_probed_now_and_then() -> None:
    decision = learned(0.020, growth=0.5).decide([view(4, 0.01, probe=True), view(4, 0.01)], now=0)
    assert decision.ks == (2, 0)


def test_a_probe_waits_for_a_token_that_would_not_pay_but_not_for_long() -> None:
    policy = learned(0.020)
    waiting = policy.decide([view(0, 0.01, next_in=0.010, probe=True)], now=0)
    assert waiting.wait_until == pytest.approx(2 * 0.010 + PROBE_SHARE * 0.020)
    assert policy.decide([view(0, 0.01, next_in=0.0, probe=True)], now=0.041).missed


def test_a_token_so_overdue_that_nothing_is_known_of_it_was_waited_for_in_vain() -> None:
    policy = learned(0.020)
    policy.decide([view(0, 0.01, next_in=0.010, probe=True)], now=0)
    before = policy.trust.share
    assert policy.decide([view(0, 0.01, next_in=None, probe=True)], now=0.041).missed
    assert policy.trust.share < before


def test_it_never_uses_more_than_can_be_committed() -> None:
    assert learned(0.020).decide([view(3, 0.9, usable=3), view(8, 0.9, usable=8)], now=0).ks == (3, 8)


def test_proposals_go_to_the_rows_where_they_are_likelier() -> None:
    """Two sequences whose draft is right and two whose draft is not: a step of four rows pays for the former alone."""
    rows = [view(6, 0.9), view(6, 0.2), view(0, 0.5), view(6, 0.9)]
    ks = learned(0.020, growth=0.4, rows=4).decide(rows, now=0).ks
    assert ks[0] == ks[3] > 2
    assert ks[1:3] == (0, 0)


def test_where_each_row_costs_as_much_as_the_longest_all_go_as_far_as_one() -> None:
    rows = [view(6, 0.9), view(6, 0.3), view(0, 0.5), view(6, 0.9)]
    packed, padded = learned(0.020, growth=0.3, rows=4), learned(0.020, growth=0.3, rows=4, padding=1.0)
    assert packed.decide(rows, now=0).ks == (6, 0, 0, 6)
    assert padded.decide(rows, now=0).ks == (4, 4, 0, 4)


def test_a_row_that_has_nothing_yet_is_waited_for_also_where_others_have() -> None:
    rows = [view(2, 0.9), *[view(0, 0.9, next_in=0.001)] * 3]
    assert learned(0.020, rows=4).decide(rows, now=0).wait_until is not None


def test_before_anything_was_measured_it_takes_what_there_is() -> None:
    assert Policy().decide([view(5, 0.7, next_in=0.001)], now=0).ks == (5,)


def test_a_wait_that_ended_with_its_row_is_neither_missed_nor_right() -> None:
    policy = learned(0.02)
    waiting = policy.decide([view(0, 0.9, next_in=0.001)], now=0)
    assert waiting.wait_until is not None
    policy.changed()
    trust = policy.trust.share
    assert not policy.decide([view(1, 0.9)], now=60).missed
    assert policy.trust.share >= trust
