"""One line in the log every ten seconds while there is something to do."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from amusd_mp.gateway.metrics import Metrics
from amusd_mp.gateway.upstream import Upstream

log = logging.getLogger(__name__)

PERIOD: Final = 10.0

COUNTED: Final = ("prompt_tokens", "spec_decode_num_draft_tokens", "spec_decode_num_accepted_tokens")


async def report(metrics: Metrics, upstream: Upstream, period: float = PERIOD) -> None:
    """Log a line per period in which something ran, until cancelled."""
    while True:
        tokens, sums = metrics.output_tokens, dict(metrics.sums)
        await asyncio.sleep(period)
        line = sentence(metrics, upstream, metrics.output_tokens - tokens, sums, period)
        if metrics.output_tokens > tokens or metrics.running:
            log.info("%s", line)


def sentence(metrics: Metrics, upstream: Upstream, tokens: int, before: dict[str, int], period: float) -> str:
    """Return what happened in a period: `tokens` written, and sums that were `before` at its beginning."""
    prompt, verified, accepted = (metrics.sums[name] - before.get(name, 0) for name in COUNTED)
    rate = f", acceptance {accepted / verified:.0%}" if verified else ""
    where = "" if upstream.connected else ", the verify node is silent"
    return (
        f"{tokens / period:.1f} tokens/s, prompts {prompt / period:.1f} tokens/s,"
        f" {upstream.line.running} running, {upstream.line.waiting} waiting{rate}{where}"
    )
