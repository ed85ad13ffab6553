"""`amusd-mp serve FILE`: nodes and an HTTP server, in one terminal, until Ctrl-C or a failure.

It is `up` for a file that has a gateway; to one that has none, a gateway in front of the verify node is added.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from amusd_mp.cli.options import Debug, DrainTimeout, File, Format, Host, Sets
from amusd_mp.log import LogFormat

if TYPE_CHECKING:
    from amusd_mp.config import Deployment

NEEDED: Final = ("starlette", "uvicorn", "sse_starlette")
REMEDY: Final = 'pip install "amusd-mp[server]"'
NAME: Final = "gateway"


def command(
    file: File,
    sets: Sets = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where to serve, e.g. http://127.0.0.1:8000.", show_default=False),
    ] = None,
    host: Host = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write a line of JSON here when all are ready.", show_default=False)
    ] = None,
    ready_timeout: Annotated[float, typer.Option(min=1, help="Seconds until all nodes must be ready.")] = 600.0,
    drain_timeout: DrainTimeout = 30.0,
    log_format: Format = LogFormat.AUTO,
    debug: Debug = False,
) -> None:
    """Start the nodes of a file and an OpenAI-compatible HTTP server with a live page in front of them."""
    from amusd_mp.cli.up import run_up
    from amusd_mp.config import load_deployment

    check_installed()
    deployment = with_gateway(load_deployment(file, sets or ()), listen)
    run_up(deployment, host, ready_file, ready_timeout, drain_timeout, log_format, debug)


def missing() -> list[str]:
    """Return which packages of the extra are not installed."""
    from importlib.util import find_spec

    return [name for name in NEEDED if find_spec(name) is None]


def check_installed() -> None:
    """Raise UsageError if the packages of the extra are missing; said before any model is loaded."""
    from amusd_mp.errors import UsageError

    if packages := missing():
        raise UsageError(f"serving needs {', '.join(packages)}; {REMEDY}")


def with_gateway(deployment: Deployment, listen: str | None) -> Deployment:
    """Return the deployment with a gateway at `listen`, if given. Raises ConfigError."""
    from amusd_mp.config import urls
    from amusd_mp.config.rules import problems_between
    from amusd_mp.config.schema import DEFAULT_HTTP, GATEWAY, NodeConfig
    from amusd_mp.errors import ConfigError

    if listen is not None:
        try:
            listen = urls.resolve(listen, Path.cwd())
        except ValueError as error:
            raise ConfigError(f"--listen: {error}", key="listen", source="--listen") from None
    present = deployment.of_role(GATEWAY)
    name = present[0] if present else NAME
    if present and listen is None:
        return deployment
    if present:
        node = deployment.node(name).model_copy(update={"listen": listen, "address": None})
    elif name in deployment.nodes:
        raise ConfigError(f"{deployment.where}: nodes.{name} is no gateway; name it otherwise", key=f"nodes.{name}")
    else:
        verify = deployment.verify()
        node = NodeConfig(role=GATEWAY, dial=verify, listen=listen or DEFAULT_HTTP, host=deployment.node(verify).host)
    changed = replace(deployment, nodes={**deployment.nodes, name: node})
    for key, text in problems_between(changed):
        raise ConfigError(f"--listen: {'.'.join(key)}: {text}" if listen else text, key=".".join(key))
    return changed
