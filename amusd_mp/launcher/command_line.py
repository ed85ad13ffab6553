"""The command lines by which a deployment's nodes are started, and the file and environment they read.

As a rule that is the deployment's own file with its own overrides, which is what a person would type. A deployment
made in memory, or changed after it was read, has no such file: its resolved configuration goes to a temporary one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from amusd_mp.config import Deployment, load_deployment, urls
from amusd_mp.config.sources import ENVIRONMENT
from amusd_mp.config.write import tables_of, to_toml
from amusd_mp.errors import ConfigError


class CommandLines:
    """Command lines for the nodes of one deployment. `close` removes the temporary file, if there is one."""

    def __init__(self, deployment: Deployment) -> None:
        self.environ: Mapping[str, str] = os.environ
        self._deployment = deployment
        self._sets = deployment.sets
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if deployment.source is not None and _says(deployment):
            self._file = deployment.source
            return
        self._folder = tempfile.TemporaryDirectory(prefix="amusd-mp-")
        self._file = Path(self._folder.name) / "deployment.toml"
        self._file.write_text(to_toml(tables_of(deployment)), encoding="utf-8")
        self._sets = ()
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith(ENVIRONMENT)}

    def of(self, name: str, drain_timeout: float, bound: Mapping[str, str]) -> tuple[str, ...]:
        """Return the command that runs one node as a child: JSON log lines, and an end when the parent ends.

        `bound` are the URLs that nodes really bound so far, by name.
        """
        overrides = (*self._sets, *self._ports(name, bound))
        return (
            *(sys.executable, "-m", "amusd_mp", "node", name, "--config", str(self._file)),
            *(part for override in overrides for part in ("--set", override)),
            *("--drain-timeout", f"{drain_timeout:g}", "--log-format", "json", "--exit-with-stdin"),
        )

    def _ports(self, name: str, bound: Mapping[str, str]) -> Iterator[str]:
        """Yield what a node has to know about free ports: its own from its last life, and the one it dials."""
        if name in bound and self._deployment.has_free_port(name):
            yield f"nodes.{name}.listen={bound[name]}"
        dialled = self._deployment.dialled(name)
        if dialled is not None and dialled in bound and self._deployment.has_free_port(dialled):
            yield f"nodes.{dialled}.address={from_here(bound[dialled])}"

    def close(self) -> None:
        """Remove what was written. Idempotent."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def from_here(url: str) -> str:
    """Return the URL by which this machine reaches what was bound: a wildcard host becomes loopback."""
    host = urls.host_of(url)
    return urls.with_host(url, "127.0.0.1") if host is not None and urls.is_wildcard(host) else url


def _says(deployment: Deployment) -> bool:
    """True if the deployment's file, read again with its overrides, still gives this deployment."""
    assert deployment.source is not None
    try:
        return load_deployment(deployment.source, deployment.sets) == deployment
    except ConfigError:
        return False
