"""Notice a device that hangs: for how long it has been at its step, asked at every beat.

Seconds in which this process itself stood still (stopped, or its machine paused) are none of the device's. Knows a
clock and no device.
"""

from __future__ import annotations

from collections.abc import Callable

from amusd_mp.core import limits
from amusd_mp.errors import NodeFailed
from amusd_mp.session.pulse import Standstill


class DeviceWatch:
    """One device, of the node called `node`; `now` returns monotonic seconds."""

    def __init__(self, node: str, now: Callable[[], float]) -> None:
        self._node = node
        self._now = now
        self._began: float | None = None
        self._standstill = Standstill()

    def __repr__(self) -> str:
        return f"<DeviceWatch {self._node} {'idle' if self._began is None else f'{self.age:.3f} s'}>"

    def begin(self) -> float:
        """A step begins; return when."""
        self._began = self._now()
        return self._began

    def end(self) -> None:
        """The step is over."""
        self._began = None

    @property
    def age(self) -> float:
        """Seconds that the step has run, 0 without one."""
        return 0.0 if self._began is None else self._now() - self._began

    def look(self, step: int) -> None:
        """Raise NodeFailed if the device is at its `step` for longer than any may take; to be called every beat."""
        now = self._now()
        stood = self._standstill.look(now)
        if self._began is not None:
            self._began = min(now, self._began + stood)  # it may have begun after the last look
        if self.age > limits.STEP_LIMIT:
            raise NodeFailed(
                f"the device has not answered for {self.age:.0f} s in step {step}; it hangs", node=self._node
            )
