"""Rule: a round's framework time is what neither the device nor a wait took of it."""

from __future__ import annotations

from amusd_mp.core.rounds import KEPT, RoundMeter


def test_device_and_waiting_are_taken_from_a_round() -> None:
    meter = RoundMeter()
    assert (len(meter), meter.quantile(0.5)) == (0, 0.0)
    meter.decided(10.0)
    meter.computed(0.5)
    meter.waited(10.5, 10.75)
    meter.decided(11.0)
    assert (len(meter), meter.quantile(0.5), meter.quantile(0.95)) == (1, 0.25, 0.25)


def test_what_is_done_while_something_else_is_waited_for_costs_nothing() -> None:
    meter = RoundMeter()
    meter.decided(10.0)
    meter.waited(10.25, 10.5)
    meter.waited(10.625, 11.0)  # woken at 10.5 by something else
    meter.decided(11.125)  # 0.25 before it waited, 0.125 after
    assert meter.quantile(0.5) == 0.375
    meter.waited(11.25, 11.5)
    meter.decided(11.5)
    assert meter.quantile(0.0) == 0.125, "a round knows nothing of the waits before it"


def test_quantiles_are_of_the_last_rounds() -> None:
    meter = RoundMeter()
    meter.decided(0.0)
    for number in range(1, 2 * KEPT + 1):
        meter.decided(float(number))
    for number in range(KEPT):
        meter.computed(1.0)
        meter.decided(2.0 * KEPT + 1 + number + (1.0 if number >= KEPT // 2 else 0.0))
    assert len(meter) == KEPT
    assert meter.quantile(0.0) == 0.0
    assert meter.quantile(0.999) == 1.0
