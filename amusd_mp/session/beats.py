"""What a verify node says at every beat: how it is and where its sequences stand, in as many pages as that takes."""

from __future__ import annotations

from collections.abc import Iterator

from amusd_mp.core.digest import pages
from amusd_mp.core.ledger import Ledger
from amusd_mp.core.messages import Beat, NodeState
from amusd_mp.core.verify import VerifyCore
from amusd_mp.session.device_watch import DeviceWatch


class Beats:
    """Numbers its cycles, so that pages of different ones are told apart."""

    def __init__(self, device: DeviceWatch) -> None:
        self._device = device
        self._cycle = 0

    def __repr__(self) -> str:
        return f"<Beats, {self._cycle} cycles told>"

    def pages(self, state: NodeState, core: VerifyCore, ledger: Ledger, watched: bool) -> Iterator[Beat]:
        """Yield the pages of one more cycle. `watched`: drafts shall tell their steps."""
        self._cycle += 1
        cut = pages(ledger.digest())
        for page, entries in enumerate(cut):
            yield Beat(
                state=state,
                steps=core.steps,
                step_age=self._device.age,
                busy=core.busy,
                drafts=len(core.drafts),
                digest=entries,
                page=page,
                pages=len(cut),
                cycle=self._cycle,
                watched=watched,
            )
