"""`amusd-mp up FILE`: every node placed on this host, in one terminal, until Ctrl-C or a failure."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amusd_mp.cli.options import Debug, DrainTimeout, File, Format, Host, Sets
from amusd_mp.log import LogFormat

if TYPE_CHECKING:
    from amusd_mp.config import Deployment
    from amusd_mp.launcher.keeper import Backoff
    from amusd_mp.launcher.launcher import Launcher
    from amusd_mp.node.signals import StopSignals

logger = logging.getLogger(__name__)


def command(
    file: File,
    sets: Sets = None,
    host: Host = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write a line of JSON here when all are ready.", show_default=False)
    ] = None,
    ready_timeout: Annotated[float, typer.Option(min=1, help="Seconds until all nodes must be ready.")] = 600.0,
    drain_timeout: DrainTimeout = 30.0,
    restart_delay: Annotated[
        float, typer.Option(min=0, help='Seconds before a node with restart = "on-failure" is started again.')
    ] = 1.0,
    restart_delay_max: Annotated[
        float, typer.Option(min=0, help="The delay doubles with each failure in a row, up to this.")
    ] = 30.0,
    log_format: Format = LogFormat.AUTO,
    debug: Debug = False,
) -> None:
    """Start the nodes of a file that run on this host, and stop them all at Ctrl-C or when one fails."""
    from amusd_mp.config import load_deployment
    from amusd_mp.launcher.keeper import Backoff

    backoff = Backoff(first=restart_delay, cap=restart_delay_max)
    deployment = load_deployment(file, sets or ())
    run_up(deployment, host, ready_file, ready_timeout, drain_timeout, log_format, debug, backoff)


def run_up(
    deployment: Deployment,
    host: str | None,
    ready_file: Path | None,
    ready_timeout: float,
    drain_timeout: float,
    log_format: LogFormat,
    debug: bool,
    backoff: Backoff | None = None,
) -> None:
    """Run the nodes of a deployment that are placed on this host, with the flags of `up`."""
    import asyncio
    import os
    import sys

    from amusd_mp.cli.targets import check_target
    from amusd_mp.launcher.launcher import Launcher
    from amusd_mp.log import Event, Renderer, configure, wants_colour
    from amusd_mp.node.signals import StopSignals, exit_at_once

    check_target("--ready-file", ready_file, replaced=True)
    names = deployment.local_nodes(host)
    renderer = Renderer(log_format, wants_colour(sys.stderr, os.environ), width=max(map(len, names)))
    configure("up", renderer, debug=debug)

    def show(event: Event) -> None:
        print(renderer.line(event), file=sys.stderr, flush=True)  # noqa: T201

    launcher = Launcher(
        deployment,
        names,
        on_event=show,
        ready_timeout=ready_timeout,
        drain_timeout=drain_timeout,
        backoff=backoff,
    )

    def at_once(number: int) -> None:
        launcher.kill_all()
        exit_at_once(number)

    with StopSignals(at_once) as signals:
        asyncio.run(keep_up(launcher, signals, ready_file))


async def keep_up(launcher: Launcher, signals: StopSignals, ready_file: Path | None) -> None:
    """Run the nodes until a signal asks for the end, they drain, or one fails. Raises NodeFailed."""
    import asyncio
    import sys

    from amusd_mp.node.lifecycle import announce, forget, wake, write_ready_file

    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    signals.watch(lambda: wake(loop, asked))

    async def work() -> None:
        await launcher.start()
        nodes = {name: {"pid": node.pid, "url": node.url} for name, node in launcher.nodes.items()}
        tell = write_ready_file if sys.stdout.isatty() else announce  # JSON is for programs
        tell({"event": "ready", "nodes": nodes}, ready_file)
        where = ", ".join(f"{name} at {node.url}" for name, node in launcher.nodes.items() if node.url)
        logger.info("all nodes are ready%s; Ctrl-C stops them", f" ({where})" if where else "")
        await launcher.wait()

    forget(ready_file)
    working = asyncio.create_task(work(), name="up")
    asking = asyncio.create_task(asked.wait(), name="up stop")
    try:
        await asyncio.wait({working, asking}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, asking):
            task.cancel()
        await asyncio.wait({working, asking})
        await launcher.stop()
        forget(ready_file)
