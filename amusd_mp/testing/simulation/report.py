"""The record of a run as lines a person can read: when, who, what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from amusd_mp.codec import DecodeError, decode
from amusd_mp.core.messages import Beat, Committed, Draft, Hello, Message, Welcome
from amusd_mp.testing.simulation.chronicle import Record
from amusd_mp.testing.simulation.run import Run
from amusd_mp.testing.simulation.scenario import Scenario

SHORT = 60


def lines(scenario: Scenario, run: Run, *, beats: bool = False) -> Iterator[str]:
    """Yield a run from its scenario to its end. `run` must have kept its record. `beats` shows them, too."""
    yield from head(scenario)
    yield ""
    for entry in run.record:
        line = show(entry, beats=beats)
        if line is not None:
            yield line
    yield ""
    yield f"{run.seconds:.3f} virtual seconds, {run.messages} messages, {run.steps} steps, record {run.digest}"
    yield f"BREACH  {run.breach}" if run.breach else "everything held"


def head(scenario: Scenario) -> Iterator[str]:
    """Yield what was drawn."""
    yield f"seed {scenario.seed}{', strict' if scenario.strict else ''}"
    yield f"weather    {scenario.weather}"
    yield f"verify     {scenario.verify}, {scenario.rows} rows, lookahead {scenario.lookahead}"
    for number, lives in enumerate(scenario.drafts):
        yield f"draft-{number}    {scenario.draft_rows} rows, then by life {', '.join(map(repr, lives))}"
    for plan in scenario.clients:
        yield f"{plan.name}   {plan.width} at a time: {', '.join(map(repr, plan.asks))}"
    for each in scenario.incidents:
        yield f"at {each.at:6.3f}  {each.kind.value} {each.who} for {each.lasts:.3f} s"


def show(entry: Record, *, beats: bool) -> str | None:
    """Return one event as a line, None for a beat that is not wanted."""
    when, who, what, content = entry
    text = str(content)
    if isinstance(content, bytes):
        try:
            body = decode(content).body
        except DecodeError as error:
            text = f"unreadable: {error}"
        else:
            if isinstance(body, Beat | Hello | Welcome) and not beats:
                return None
            text = summary(body)
    return f"{when:10.6f}  {who:<10} {what:<16} {text}"


def summary(body: Message) -> str:
    """Return a message in one line: what tells it from others, not its whole content."""
    match body:
        case Committed():
            end = f", ends: {body.finish.value}" if body.finish else ""
            return f"committed {body.sequence[:8]} v{body.version} {body.start}..{body.length} {body.tokens[-4:]}{end}"
        case Draft():
            leads = (f"{w.sequence[:8]} on v{w.version} {w.base}+{len(w.tokens)} {w.tokens[:4]}" for w in body.windows)
            return f"draft {'; '.join(leads)}"
    parts = []
    for each in fields(body):
        value = str(getattr(body, each.name))
        if value and getattr(body, each.name) != each.default:
            parts.append(f"{each.name}={value if len(value) <= SHORT else value[:SHORT] + '...'}")
    return f"{type(body).__name__.lower()} {' '.join(parts)}"
