"""What a verify node says of itself when it is asked for its status, gathered from the parts that know."""

from __future__ import annotations

from amusd_mp.core.messages import StatusReport
from amusd_mp.core.model import Loaded
from amusd_mp.core.rounds import RoundMeter
from amusd_mp.core.verify import VerifyCore
from amusd_mp.desk import Desk
from amusd_mp.session.hub import Hub
from amusd_mp.session.packages import packages


def report(
    hub: Hub, desk: Desk, core: VerifyCore, loaded: Loaded, rounds: RoundMeter, began: float, now: float
) -> StatusReport:
    """Return the status of the node behind `hub`, which `began` and is asked `now`, in seconds of one clock."""
    model = loaded.model
    return StatusReport(
        node=hub.sender.node,
        state=hub.state,
        uptime=now - began,
        model=model.card,
        sequences=len(core.live),
        max_sequences=model.rows,
        finished=desk.finished,
        output_tokens=desk.output_tokens + sum(sequence.generated for sequence in core.live.values()),
        steps=core.steps,
        busy=core.busy,
        degraded=not core.drafts,
        drafts=tuple(
            peer.status(now, core.acceptance_of(peer.life), core.rescued_of(peer.life))
            for peer in hub.roster.drafts
            if peer.joined
        ),
        counters=hub.counted(),
        packages=packages(),
        rounds=len(rounds),
        round_p50=rounds.quantile(0.5),
        round_p95=rounds.quantile(0.95),
    )
