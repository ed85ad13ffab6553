"""`amusd-mp top`: what the nodes do, in a terminal, as it happens. Asks the verify node itself; needs no gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from amusd_mp.cli.address import ConfigFile, KeyFile, ServerKey, Url

if TYPE_CHECKING:
    from amusd_mp.cli.dashboard import History
    from amusd_mp.client.client import Client

PERIOD: Final = 0.2  # seconds between pictures


def command(
    url: Url = None,
    config: ConfigFile = None,
    key: KeyFile = None,
    server_key: ServerKey = None,
    window: Annotated[float, typer.Option(min=0.05, help="Seconds the lanes show.")] = 2.0,
    frames: Annotated[int, typer.Option(min=0, help="End after so many pictures; 0: at Ctrl-C.")] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds connecting may take.")] = 5.0,
) -> None:
    """Watch both devices compute: lanes, speed, acceptance. Ctrl-C ends it."""
    from amusd_mp.cli.address import find, reach
    from amusd_mp.cli.loop import run

    address = find(url, config, key, server_key)

    async def watch() -> None:
        async with reach(address, timeout, "observer") as client:
            await show(client, window, frames)

    run(watch())


async def show(client: Client, window: float, frames: int) -> None:
    """Draw until enough pictures were drawn."""
    import asyncio
    from itertools import count

    from rich.console import Console
    from rich.live import Live

    from amusd_mp.cli.dashboard import History, frame
    from amusd_mp.core.messages import StatusReport
    from amusd_mp.errors import OperationalError
    from amusd_mp.tasks import task_group

    history, console, loop = History(), Console(), asyncio.get_running_loop()

    async def ask() -> StatusReport | None:
        try:
            return await client.status(timeout=1.0) if client.alive else None
        except OperationalError:
            return None

    async with task_group() as tasks:
        collecting = tasks.create_task(collect(client, history), name="collects steps")
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            ahead = 0.0  # what this clock must be moved by to be the verify node's
            for number in count(1):
                await asyncio.sleep(PERIOD)
                newest, here = history.end, loop.time()
                if newest:
                    ahead = newest - here if newest - here > ahead or not ahead else ahead
                status = await ask()
                picture = frame(history, status, here + ahead, width=console.width, window=window)
                live.update(picture, refresh=True)
                if number == frames:
                    break
        collecting.cancel()


async def collect(client: Client, history: History) -> None:
    """Take every step in, through all lives of the verify node."""
    import asyncio

    from amusd_mp.errors import OperationalError

    while True:
        try:
            async with client.watch() as steps:
                async for step in steps:
                    history.take(step)
                return  # the client is closed
        except OperationalError:
            await asyncio.sleep(PERIOD)
