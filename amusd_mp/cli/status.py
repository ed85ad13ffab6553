"""`amusd-mp status`: how the verify node and its drafts are, asked of the verify node itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from amusd_mp.cli.address import ConfigFile, KeyFile, ServerKey, Url

if TYPE_CHECKING:
    from amusd_mp.core.messages import StatusReport


def command(
    url: Url = None,
    config: ConfigFile = None,
    key: KeyFile = None,
    server_key: ServerKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until an answer must be there.")] = 5.0,
) -> None:
    """Show the verify node, its drafts and its counters. Exit code 1 if nobody answers."""
    import json
    from dataclasses import asdict

    from amusd_mp.cli.address import find, reach
    from amusd_mp.cli.loop import run

    address = find(url, config, key, server_key)

    async def ask() -> StatusReport:
        async with reach(address, timeout, "observer") as client:
            return await client.status(timeout)

    report = run(ask())
    if as_json:
        typer.echo(json.dumps({"url": address.url, **asdict(report)}))
        return
    for line in lines(address.url, report):
        typer.echo(line)


def lines(url: str, report: StatusReport) -> Iterator[str]:
    """Yield a status report as lines for a person."""
    from amusd_mp.cli.columns import columns

    card = report.model
    load = f"{report.sequences} of {report.max_sequences} sequences"
    share = f", device busy {report.busy / report.uptime:.0%} of the time" if report.uptime > 0 else ""
    rows = [
        (report.node, f"{report.state.value} at {url}, up {report.uptime:.0f} s"),
        ("model", f"{card.name}, {card.parameters / 1e6:.1f} M parameters, {card.dtype} on {card.device}"),
        ("context", f"{card.max_length} tokens, {card.attention} attention"),
        ("load", load + share),
        ("so far", f"{report.finished} responses, {report.output_tokens} tokens, {report.steps} steps"),
        ("packages", ", ".join(f"{name} {version}" for name, version in report.packages)),
        ("counters", ", ".join(f"{name} {count}" for name, count in report.counters) or "none"),
    ]
    yield from columns(rows)
    yield ""
    if not report.drafts:
        yield "no draft has joined: the verify node works alone"
        return
    table = [("draft", "model", "device", "windows", "acceptance", "heard")]
    for draft in report.drafts:
        acceptance = "-" if draft.acceptance is None else f"{draft.acceptance:.0%}"
        heard = f"{draft.age:.1f} s ago"
        table.append((draft.node, draft.model, draft.device, str(draft.windows), acceptance, heard))
    yield from columns(table, numeric=(3, 4, 5))
