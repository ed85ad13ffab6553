"""Rule: a device that hangs is noticed, and a process that stood still is no hung device."""

from __future__ import annotations

import pytest

from amusd_mp.core.limits import BEAT, STEP_LIMIT
from amusd_mp.errors import NodeFailed
from amusd_mp.session.device_watch import DeviceWatch


class Watched:
    """A watch that is looked at once a beat, and its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.watch = DeviceWatch("verify", lambda: self.now)

    def live(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += BEAT
            self.watch.look(step=7)


def test_a_step_that_takes_longer_than_any_may_is_told_with_its_number() -> None:
    bench = Watched()
    bench.live(2 * STEP_LIMIT)  # between steps nothing hangs
    bench.watch.begin()
    bench.live(STEP_LIMIT - 1)
    assert bench.watch.age == STEP_LIMIT - 1
    with pytest.raises(NodeFailed, match=r"has not answered for 60 s in step 7; it hangs"):
        bench.live(2)


def test_a_step_that_ends_is_none_however_long_the_next_begins_later() -> None:
    bench = Watched()
    bench.watch.begin()
    bench.live(STEP_LIMIT - 1)
    bench.watch.end()
    assert bench.watch.age == 0.0
    bench.live(STEP_LIMIT)
    assert bench.watch.begin() == bench.now


def test_what_this_process_stood_still_is_not_the_devices() -> None:
    bench = Watched()
    bench.live(1)
    bench.watch.begin()
    bench.live(5)
    bench.now += 10 * STEP_LIMIT  # stopped in the middle of the step, and continued
    bench.watch.look(step=7)
    assert bench.watch.age == pytest.approx(5)
    bench.watch.end()
    bench.live(1)
    bench.now += BEAT / 2
    bench.watch.begin()  # after the last look, and then stopped
    bench.now += STEP_LIMIT
    bench.watch.look(step=7)
    assert bench.watch.age == 0.0
    bench.live(STEP_LIMIT - 1)
    with pytest.raises(NodeFailed, match="hangs"):
        bench.live(2)
