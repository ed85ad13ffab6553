"""A deployment: named nodes, how they speculate, and who is placed where. Frozen; made by `load_deployment`.

It answers what several parts ask in the same way (which URL is dialled, which nodes run here), and starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from amusd_mp.config import hosts, urls
from amusd_mp.config.schema import DRAFT, VERIFY, NodeConfig, SecurityConfig
from amusd_mp.core.params import Speculation
from amusd_mp.errors import ConfigError


class Keys(TypedDict):
    """Whose secret key file to dial with, and the public key to insist on; both None without encryption."""

    key: str | None
    server_key: str | None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One file with everything that overrides it applied.

    source:  the file
    sets:    the `--set` overrides it was read with; whoever starts a node from the file passes them on
    """

    nodes: Mapping[str, NodeConfig]
    speculation: Speculation = field(default_factory=Speculation)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    source: Path | None = None
    sets: tuple[str, ...] = ()

    def node(self, name: str) -> NodeConfig:
        """Return a node's configuration. Raises ConfigError listing the names there are."""
        if name not in self.nodes:
            raise ConfigError(f"{self.where}: no node is named {name!r}; nodes: {', '.join(self.nodes)}", key="nodes")
        return self.nodes[name]

    @property
    def where(self) -> str:
        """The file's name, for messages."""
        return str(self.source) if self.source else "deployment"

    def of_role(self, role: str) -> tuple[str, ...]:
        """Return the names of the nodes of a role."""
        return tuple(name for name, node in self.nodes.items() if node.role == role)

    def verify(self) -> str:
        """Return the name of the verify node. Raises ConfigError if the deployment has none."""
        names = self.of_role(VERIFY)
        if not names:
            raise ConfigError(f'{self.where}: no node has role = "{VERIFY}"', key="nodes")
        return names[0]

    def drafts(self) -> tuple[str, ...]:
        """Return the names of the draft nodes."""
        return self.of_role(DRAFT)

    def url_for(self, name: str) -> str:
        """Return the URL that others dial to reach a node.

        A wildcard in `listen` becomes loopback: without `address`, only this machine can be meant. Raises ConfigError
        for a node that binds nothing. With port 0 the real port is in the node's ready line, not here.
        """
        node = self.node(name)
        if node.address is not None:
            return node.address
        if node.listen is None:
            raise ConfigError(f"{self.where}: nodes.{name} has neither listen nor address", key=f"nodes.{name}.listen")
        host = urls.host_of(node.listen)
        if host is not None and urls.is_wildcard(host):
            return urls.with_host(node.listen, "::1" if host == "::" else "127.0.0.1")
        return node.listen

    def has_free_port(self, name: str) -> bool:
        """True if the URL that others dial is known only once the node has bound it (port 0 and no `address`)."""
        node = self.node(name)
        return node.address is None and node.listen is not None and urls.has_free_port(node.listen)

    def dialled(self, name: str) -> str | None:
        """Return the name of the node of this deployment that a node dials, None if it dials a URL or nobody."""
        dial = self.node(name).dial
        return dial if dial in self.nodes else None

    def dial_url(self, name: str) -> str:
        """Return the URL that a node dials. Raises ConfigError if it dials nobody."""
        node = self.node(name)
        if node.dial is None:
            raise ConfigError(f"{self.where}: nodes.{name} has no dial", key=f"nodes.{name}.dial")
        return self.url_for(node.dial) if node.dial in self.nodes else node.dial

    def keys(self, name: str | None = None) -> Keys:
        """Return the keys that a node dials with, or a program that belongs to no node; arguments of `connect`."""
        own = self.node(name).key if name is not None else None
        return {"key": own or self.security.client_key, "server_key": self.security.server_key}

    def local_nodes(self, host: str | None = None, machine: hosts.Machine | None = None) -> tuple[str, ...]:
        """Return the names of the nodes placed on this machine, or on `host` (the flag `--host`).

        Raises ConfigError when names and addresses do not settle it, or when no node is placed here.
        """
        named = [node.host for node in self.nodes.values() if node.host is not None]
        here = hosts.choose(named, host, machine or hosts.ThisMachine())
        found = tuple(name for name, node in self.nodes.items() if node.host is None or node.host in here)
        if not found:
            raise ConfigError(
                f"{self.where}: no node is placed on this machine; hosts: {', '.join(dict.fromkeys(named))};"
                " say --host NAME if it is one of them",
                key="host",
            )
        return found
