"""A timeline as a trace for https://ui.perfetto.dev (or chrome://tracing): the JSON form that both read.

A process for each role with a lane for the device, one for messages and one for the time between steps; flow arrows
lead from the draft step that completed a window to the verify step that used it. Times are microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from amusd_mp.bench.timeline import Fate, Timeline

PROCESSES: Final = {"draft": 1, "verify": 2}
LANES: Final = {"compute": 1, "network": 2, "wait": 3}


def trace(timelines: dict[str, Timeline], title: str) -> str:
    """Return the trace of several timelines, by their labels, one after the other on one time axis."""
    events: list[dict[str, Any]] = []
    for name, process in PROCESSES.items():
        events.append({"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}})
        events += [
            {"ph": "M", "name": "thread_name", "pid": process, "tid": lane, "args": {"name": what}}
            for what, lane in LANES.items()
        ]
    began = min((timeline.began for timeline in timelines.values()), default=0.0)
    for label, timeline in timelines.items():
        events += _events(label, timeline, began)
    offsets = {
        label: {"seconds": timeline.offset.seconds, "error": timeline.offset.error}
        for label, timeline in timelines.items()
    }
    about = {"title": title, "clock_offsets": offsets}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}) + "\n"


def _events(label: str, timeline: Timeline, zero: float) -> Iterator[dict[str, Any]]:
    def span(process: str, lane: str, name: str, began: float, ended: float, **facts: Any) -> dict[str, Any]:
        return {
            "ph": "X",
            "name": name,
            "cat": label,
            "pid": PROCESSES[process],
            "tid": LANES[lane],
            "ts": 1e6 * (began - zero),
            "dur": max(0.0, 1e6 * (ended - began)),
            "args": {"strategy": label, **facts},
        }

    for node, steps in (("draft", timeline.draft), ("verify", timeline.verify)):
        for before, after in pairwise(steps):
            if after.began > before.ended:
                yield span(node, "wait", "wait", before.ended, after.began)
    for step, fate in zip(timeline.draft, timeline.fates, strict=True):
        entry = step.entries[0]
        text = entry.text or ("other ways" if fate is Fate.PREPARED else "guess")
        facts = {"fate": fate, "start": entry.start, "fed": entry.fed, "beside": entry.beside}
        yield span("draft", "compute", text, step.began, step.ended, **facts)
        if step.heard:
            yield span("verify", "network", "window", step.ended, max(step.ended, step.heard), position=entry.start)
    for step in timeline.verify:
        entry = step.entries[0]
        name = f"verify {entry.accepted}/{entry.proposed}" if entry.proposed else "verify alone"
        facts = {"proposed": entry.proposed, "accepted": entry.accepted, "emitted": entry.emitted, "start": entry.start}
        yield span("verify", "compute", name, step.began, step.ended, **facts)
    for number, flow in enumerate(timeline.flows):
        sent, used = timeline.draft[flow.draft], timeline.verify[flow.verify]
        same = {"name": "window", "cat": label, "id": f"{label} {number}"}
        yield {**same, "ph": "s", "pid": 1, "tid": 1, "ts": 1e6 * (sent.ended - zero) - 1}
        yield {**same, "ph": "f", "bp": "e", "pid": 2, "tid": 1, "ts": 1e6 * (used.began - zero) + 1}
