"""Rule: a step costs what such steps took, an untried one what its like did; one reading moves little."""

from __future__ import annotations

from itertools import pairwise

import pytest

from amusd_mp.core.costs import CostLine, Curve, StepCosts


def test_step_costs_are_interpolated_between_what_was_measured() -> None:
    costs = StepCosts()
    assert costs.estimate(1, 0) is None
    costs.observe(1, 0, 0.010)
    costs.observe(1, 4, 0.014)
    assert costs.estimate(1, 2) == pytest.approx(0.012)
    assert costs.estimate(1, 8) == pytest.approx(0.014 * (1 + 9 * CostLine.GROWTH) / (1 + 5 * CostLine.GROWTH))
    for _ in range(30):
        costs.observe(1, 4, 0.018)
    assert costs.estimate(1, 4) == pytest.approx(0.018, rel=0.01)
    assert costs.estimate(3, 12) == pytest.approx(0.0195, rel=0.02), "fifteen tokens for five, at what is assumed"
    for _ in range(100):
        costs.observe(1, 4, 0.030)
    assert costs.estimate(1, 4) == pytest.approx(0.030, rel=0.01)


def test_one_outlier_moves_a_cost_little() -> None:
    costs = StepCosts()
    costs.observe(1, 0, 0.010)
    costs.observe(1, 0, 60.0)
    assert costs.estimate(1, 0) == pytest.approx(0.0125)
    for _ in range(20):
        costs.observe(1, 8, 0.020)
    costs.observe(1, 9, 60.0)
    assert costs.estimate(1, 9) == pytest.approx(0.022, rel=0.05), "the first of its kind counts among its neighbours"


def test_what_is_well_known_follows_within_a_few_readings_and_news_at_once() -> None:
    costs = StepCosts()
    for _ in range(30):
        costs.observe(1, 0, 0.010)
    assert costs.estimate(1, 0) == pytest.approx(0.010)
    for _ in range(Curve.LATE):
        costs.observe(1, 0, 0.014)
        costs.estimate(1, 0)
    assert 0.012 < (costs.estimate(1, 0) or 0.0) < 0.014
    costs.observe(1, 2, 0.030)
    assert costs.estimate(1, 2) == pytest.approx(0.030)


def test_a_rare_k_is_judged_by_those_around_it() -> None:
    costs = StepCosts()
    for k, seconds in ((0, 0.010), (2, 0.012), (4, 0.014)):
        for _ in range(20):
            costs.observe(1, k, seconds)
    costs.observe(1, 3, 0.018)
    estimate = costs.estimate(1, 3)
    assert estimate is not None
    assert 0.0125 < estimate < 0.014, "one odd reading among forty of its neighbours"
    for _ in range(Curve.ENOUGH):
        costs.observe(1, 3, 0.018)
    assert costs.estimate(1, 3) == pytest.approx(0.018), "and enough of them speak for themselves"


def test_what_was_measured_alone_is_told_without_the_rest() -> None:
    costs = StepCosts()
    costs.observe(2, 6, 0.013)
    assert costs.estimate(2, 0) == pytest.approx(0.013 * (1 + 2 * CostLine.GROWTH) / (1 + 8 * CostLine.GROWTH))
    assert costs.estimate(2, 6) == 0.013


def cost_of(tokens: int) -> float:
    """Return what a token costs that is not free: a step of 20 ms, and 1 ms for each."""
    return 0.020 + 0.001 * tokens


def test_what_tokens_cost_in_one_row_says_what_other_rows_cost() -> None:
    costs = StepCosts()
    for _ in range(10):
        for k in range(1, 9):
            costs.observe(1, k, cost_of(1 + k))
    assert costs.estimate(8, 0) == pytest.approx(cost_of(8), rel=0.05)
    for _ in range(10):
        costs.observe(8, 32, 1.1 * cost_of(40))
    assert costs.estimate(8, 0) == pytest.approx(cost_of(8), rel=0.15), "eight without proposals are not lost sight of"
    assert costs.estimate(4, 12) == pytest.approx(cost_of(16), rel=0.1)


def test_proposals_that_are_not_as_many_for_each_row_lie_between() -> None:
    costs = StepCosts()
    for _ in range(10):
        for proposals in (0, 4, 8):
            costs.observe(4, proposals, 0.020 + 0.001 * proposals)
    assert costs.estimate(4, 6) == pytest.approx(0.026)
    assert costs.upto(4, 8) == pytest.approx([0.020 + 0.001 * proposals for proposals in range(9)], rel=0.02)
    costs.observe(4, 1, 0.025)
    assert costs.estimate(4, 0) == 0.020, "a step with any proposal says nothing of one without"


def test_what_any_proposal_costs_by_itself_is_learned() -> None:
    costs = StepCosts()
    for _ in range(20):
        costs.observe(8, 0, 0.045)
        costs.observe(8, 2, 0.052)
    assert costs.estimate(8, 2) == pytest.approx(0.052, rel=0.05)
    assert costs.estimate(8, 0) == 0.045


def test_tokens_that_cost_nothing_never_cost_less_than_nothing() -> None:
    costs = StepCosts()
    for _ in range(10):
        for k in range(1, 9):
            costs.observe(1, k, 0.020 - 0.001 * k)
    assert costs.estimate(8, 8) == pytest.approx(costs.estimate(8, 0))


def measured_at(costs: StepCosts, steps: int, k: int, else_k: int) -> list[int]:
    """Return which steps of eight rows have k proposals each because that is due; all others have `else_k`."""
    at = []
    for step in range(steps):
        due = costs.due(8, k)
        costs.observe(8, 8 * (k if due else else_k), 0.060)
        if due:
            at.append(step)
    return at


def test_a_step_without_proposals_is_measured_before_it_is_compared_with_and_ever_more_rarely_after() -> None:
    costs = StepCosts()
    costs.observe(1, 0, 0.020)
    assert not costs.due(1, 0)
    assert not costs.due(8, 0), "first what there is"
    costs.observe(8, 32, 0.060)
    assert costs.due(8, 0), "no estimate stands in for it, nor do other rows"
    at = measured_at(costs, steps=1200, k=0, else_k=4)
    assert at[:5] == [0, 5, 22, 87, 344]
    assert [b - a for a, b in pairwise(at[4:])] == [257, 257, 257]


def test_that_costs_no_more_after_a_year_without_a_draft() -> None:
    costs = StepCosts()
    for _ in range(10):
        costs.observe(1, 0, 0.030)
    costs._curves[1]._readings[0] = 10**9  # a power of it could not be computed
    assert not costs.due(1, 0)


def test_what_has_never_been_tried_is_due_after_a_few_steps_and_ever_more_rarely_after() -> None:
    costs = StepCosts()
    assert not costs.due(8, 1), "first what there is"
    assert measured_at(costs, steps=700, k=3, else_k=2) == [4, 21, 86, 343, 600]
