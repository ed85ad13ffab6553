"""Rule: a step costs what such steps took, an untried one what its like did; one reading moves little."""

from __future__ import annotations

import pytest

from amusd_mp.core.costs import Curve, StepCosts


def test_step_costs_are_interpolated_between_what_was_measured() -> None:
    costs = StepCosts()
    assert costs.estimate(1, 0) is None
    costs.observe(1, 0, 0.010)
    costs.observe(1, 4, 0.014)
    assert costs.estimate(1, 2) == pytest.approx(0.012)
    assert costs.estimate(1, 8) == pytest.approx(0.014 * Curve.GROWTH**4)
    for _ in range(30):
        costs.observe(1, 4, 0.018)
    assert costs.estimate(1, 4) == pytest.approx(0.018, rel=0.01)
    assert costs.estimate(3, 4) == pytest.approx(0.018, rel=0.01), "the nearest number of rows stands in"
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
    costs.observe(2, 3, 0.013)
    assert costs.estimate(2, 0) == pytest.approx(0.013 / Curve.GROWTH**3)
    assert costs.estimate(2, 3) == 0.013
