"""Which verify node a command talks to, and reaching it with an error that says what was tried.

The first of these wins: `--url`, the verify node of `--config`, the environment's AMUSD_MP_URL, the demo deployment
where it runs, and where a verify node listens by default. Knows no message; the client does the talking.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from amusd_mp.errors import ConfigError, NotReady, OperationalError, TransportError, UsageError

if TYPE_CHECKING:
    from amusd_mp.client.client import Client
    from amusd_mp.config.deployment import Keys

VARIABLE: Final = "AMUSD_MP_URL"

Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="The verify node's address.", show_default=False)]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Take the address from a deployment file (TOML).", show_default=False),
]
ConnectTimeout = Annotated[float, typer.Option("--connect-timeout", min=0.1, help="Seconds connecting may take.")]


KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key", envvar="AMUSD_MP_KEY", help="Our secret key's file, for encrypted nodes.", show_default=False
    ),
]
ServerKey = Annotated[
    str | None,
    typer.Option(
        "--server-key",
        metavar="KEY",
        envvar="AMUSD_MP_SERVER_KEY",
        help="The verify node's public key, to insist on.",
        show_default=False,
    ),
]


def no_keys() -> Keys:
    """Return the keys of a plain connection."""
    return {"key": None, "server_key": None}


@dataclass(frozen=True, slots=True)
class Address:
    """Where to dial and with which keys; `why` completes the sentence "an address which ..."."""

    url: str
    why: str
    keys: Keys = field(default_factory=no_keys)


def find(
    url: str | None,
    config: Path | None,
    key: Path | None = None,
    server_key: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Address:
    """Return the address to dial. `key` and `server_key`, where given, are taken instead of the file's.

    Raises UsageError, and ConfigError for a file that names no address.
    """
    found = _find(url, config, environ)
    keys: Keys = {
        "key": str(key) if key is not None else found.keys["key"],
        "server_key": server_key or found.keys["server_key"],
    }
    return replace(found, keys=keys)


def _find(url: str | None, config: Path | None, environ: Mapping[str, str]) -> Address:
    if url is not None and config is not None:
        raise UsageError("give --url or --config, not both")
    if url is not None:
        return Address(url, "comes from --url")
    if config is not None:
        return _of_file(config)
    if environ.get(VARIABLE):
        return Address(environ[VARIABLE], f"comes from {VARIABLE}")
    from amusd_mp.config.schema import DEFAULT_LISTEN

    demo = _running_demo()
    if demo is not None:
        return Address(demo, "is the demo deployment's, which runs")
    return Address(DEFAULT_LISTEN, f"is the default: no --url, --config or {VARIABLE}, and the demo does not run")


@asynccontextmanager
async def reach(
    address: Address, timeout: float, role: Literal["client", "observer"] = "client"
) -> AsyncIterator[Client]:
    """Connect within `timeout` seconds. Raises OperationalError saying what was tried and why that."""
    from amusd_mp.client.client import connect

    connected = False
    try:
        async with connect(address.url, timeout=timeout, role=role, **address.keys) as client:
            connected = True
            yield client
    except (TransportError, NotReady) as error:
        if connected:
            raise
        raise OperationalError(
            f"{error} (tried {address.url}, which {address.why}); start nodes with `amusd-mp up FILE`,"
            f" or say where others are with --url, --config or {VARIABLE}"
        ) from error


def _of_file(config: Path) -> Address:
    from amusd_mp.config import load_deployment

    deployment = load_deployment(config)
    name = deployment.verify()
    if deployment.has_free_port(name):
        raise ConfigError(
            f"{config}: nodes.{name} takes a free port, which only its ready line tells; give it with --url",
            key=f"nodes.{name}.listen",
        )
    return Address(deployment.url_for(name), f"comes from {config}", deployment.keys())


def _running_demo() -> str | None:
    """Return the demo deployment's address if something listens there."""
    from amusd_mp.cli.ready_made import ready_made
    from amusd_mp.config import load_deployment, urls

    try:
        with ready_made("demo.toml") as file:
            deployment = load_deployment(file)
            url = deployment.url_for(deployment.verify())
    except ConfigError:  # the environment overrides keys of some other deployment
        return None
    if not url.startswith(urls.IPC) or not hasattr(socket, "AF_UNIX"):
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(url.removeprefix(urls.IPC))
        except OSError:  # nobody ran it here, or the file outlived its owner
            return None
    return url
