"""`amusd-mp node NAME`: run exactly one node in this process. What schedulers, and the launcher, start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amusd_mp.cli.options import Config, Debug, DrainTimeout, Format, Host, Sets
from amusd_mp.log import LogFormat


def command(
    name: Annotated[str, typer.Argument(help="The node's name in the file.", show_default=False)],
    config: Config,
    sets: Sets = None,
    model: Annotated[str | None, typer.Option(help="Override the node's model.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="Override the node's device.", show_default=False)] = None,
    host: Host = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the ready line to this file, too.", show_default=False)
    ] = None,
    drain_timeout: DrainTimeout = 30.0,
    exit_with_stdin: Annotated[
        bool, typer.Option("--exit-with-stdin", help="End when standard input ends: no orphan of a killed parent.")
    ] = False,
    log_format: Format = LogFormat.AUTO,
    debug: Debug = False,
) -> None:
    """Run one node: a JSON line on standard output when ready, exit 0 after a drain (Ctrl-C or SIGTERM)."""
    from amusd_mp.cli.targets import check_target
    from amusd_mp.config import Deployment, load_deployment
    from amusd_mp.errors import ConfigError
    from amusd_mp.node.lifecycle import run_process

    def read() -> Deployment:
        check_target("--ready-file", ready_file, replaced=True)
        flags = {f"nodes.{name}.model": model, f"nodes.{name}.device": device}
        deployment = load_deployment(config, sets or (), flags=flags)
        placed = deployment.node(name).host
        if host is not None and placed is not None and host.lower() != placed.lower():
            raise ConfigError(f"{config}: nodes.{name} is placed on host {placed}, not on {host}", key="host")
        return deployment

    run_process(
        name,
        read,
        ready_file=ready_file,
        drain_timeout=drain_timeout,
        log_format=log_format,
        debug=debug,
        exit_with_stdin=exit_with_stdin,
    )
