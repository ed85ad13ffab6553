"""Rule: a line in the log while there is something to do, and none otherwise."""

from __future__ import annotations

import asyncio
import logging

import pytest
from stubs import until

from amusd_mp.gateway.exposition import Family, Histogram, Sample, exposition
from amusd_mp.gateway.metrics import Metrics, per_position
from amusd_mp.gateway.reporting import report
from amusd_mp.gateway.upstream import Upstream
from amusd_mp.runtime import Runtime

PERIOD = 0.01


async def test_a_line_says_how_fast_it_goes_and_silence_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    metrics, upstream = Metrics(), Upstream("tcp://127.0.0.1:1", Runtime())
    with caplog.at_level(logging.INFO, "amusd_mp.gateway.reporting"):
        reporting = asyncio.create_task(report(metrics, upstream, PERIOD))
        await asyncio.sleep(5 * PERIOD)
        assert not caplog.records
        account = metrics.request()
        account.tokens(3)
        metrics.sums.update(spec_decode_num_draft_tokens=4, spec_decode_num_accepted_tokens=3)
        await until(lambda: bool(caplog.records), "a line")
        account.end()
        account.end("failed")  # too late to matter
        reporting.cancel()
    assert "tokens/s" in caplog.records[0].getMessage()
    assert "acceptance 75%" in caplog.records[0].getMessage()
    assert metrics.running == 0
    assert not metrics.ended


def test_positions_are_counted_from_how_many_accepted_exactly_so_many() -> None:
    assert per_position([5, 3, 0, 2]) == [5, 2, 2]
    assert per_position([4]) == []
    assert per_position([]) == []


def test_the_text_format_escapes_and_leaves_out_what_is_empty() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.add(1.0)
    histogram.add(5.0, 2)
    odd = Family("odd", "gauge", "Odd.", [Sample(1, (("node", 'a"b\\c\nd'),))])
    text = exposition([odd, Family("none", "gauge", "None.", []), histogram.family("h", "H.")])
    assert 'amusd_mp_odd{node="a\\"b\\\\c\\nd"} 1.0' in text
    assert "none" not in text
    assert 'amusd_mp_h_bucket{le="1"} 1.0\namusd_mp_h_bucket{le="2"} 1.0\namusd_mp_h_bucket{le="+Inf"} 3.0\n' in text
    assert "amusd_mp_h_sum 11.0\namusd_mp_h_count 3.0\n" in text
