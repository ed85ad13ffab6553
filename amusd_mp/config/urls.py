"""URLs as a deployment file writes them: folders filled in, loopback told from the rest, wildcards recognised.

Knows the two built-in schemes that a file can name across processes, `tcp` and `ipc`, and a gateway's `http`; any other
is left as it stands, for the transport of that name to judge.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

IPC: Final = "ipc://"
HTTP: Final = "http://"

WITH_PORT: Final = ("tcp", "http")
"""Schemes of URLs that are a host and a port."""

RUNTIME: Final = "{runtime}"
"""In an ipc path: this user's own folder for sockets, so that several people share a host without meeting."""

IPC_BYTES: Final = 103
"""Longest path in an ipc URL: that of a Unix socket may have 107 bytes, and the longest name made of it adds 4."""


def runtime_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return this user's folder for sockets: XDG_RUNTIME_DIR, else a short one under the temporary folder."""
    given = environ.get("XDG_RUNTIME_DIR")
    if given:
        return Path(given) / "amusd-mp"
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"amusd-mp-{user}"


def resolve(url: str, folder: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Return `url` with `{runtime}` filled in and a relative ipc path made absolute, from `folder`.

    Raises ValueError for a URL without scheme, a tcp URL without a usable port, or an ipc path over the system's limit.
    """
    if "://" not in url:
        raise ValueError(f"{url!r} is not a URL; write for example tcp://127.0.0.1:5601 or ipc://verify.sock")
    if url.startswith(IPC):
        return _resolve_ipc(url, folder, environ)
    if urlsplit(url).scheme in WITH_PORT:
        _check_port(url)
    return url


def _resolve_ipc(url: str, folder: Path, environ: Mapping[str, str]) -> str:
    path = url.removeprefix(IPC).replace(RUNTIME, str(runtime_folder(environ)))
    if not path:
        raise ValueError(f"{url!r} names no path; write for example ipc://verify.sock")
    path = os.path.normpath(folder / path)
    if len(os.fsencode(path)) > IPC_BYTES:
        raise ValueError(
            f"the socket path {path} has {len(os.fsencode(path))} bytes and may have {IPC_BYTES};"
            f" write {IPC}{RUNTIME}/NAME.sock for a short one"
        )
    return IPC + path


def _check_port(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from None
    if not host or port is None or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is not {urlsplit(url).scheme}://HOST:PORT")


def host_of(url: str) -> str | None:
    """Return the host of a tcp or http URL; None for every other scheme."""
    parts = urlsplit(url)
    return parts.hostname if parts.scheme in WITH_PORT else None


def has_free_port(url: str) -> bool:
    """True if the real port is known only after binding (port 0)."""
    parts = urlsplit(url)
    return parts.scheme in WITH_PORT and parts.port == 0


def is_wildcard(host: str) -> bool:
    """True for a host that means every interface."""
    return host in ("*", "0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    """True if only this machine reaches the host. A name other than localhost does not count, whatever it means."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def with_host(url: str, host: str) -> str:
    """Return a tcp or http URL with another host."""
    shown = f"[{host}]" if ":" in host else host
    return f"{urlsplit(url).scheme}://{shown}:{urlsplit(url).port}"
