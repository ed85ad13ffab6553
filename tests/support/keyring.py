"""Keys for tests: one folder with key files and an allow-list, and the ends and deployments made from them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from amusd_mp.config import Deployment, SecurityConfig
from amusd_mp.security import keys
from amusd_mp.testing.cluster import deployment
from amusd_mp.transport import Credentials, KeyPair, TransportOptions, find


def new_keys() -> KeyPair:
    return find("tcp://").new_keys()


def dialling(own: KeyPair, server: KeyPair) -> TransportOptions:
    """What somebody with these keys dials this server with."""
    return TransportOptions(credentials=Credentials(own, server.public))


ROLES = {"draft": ("draft",), "client": ("client", "other"), "observer": ("observer",)}


class Keyring:
    """Parties "verify", "draft", "client", "other" (a client, too), "observer", and "stranger", who is not allowed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pairs: dict[str, KeyPair] = {}
        for name in ("verify", "draft", "client", "other", "observer", "stranger"):
            self.pairs[name] = keys.create(self.file(name))
        self.allow(*(name for names in ROLES.values() for name in names))

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    @property
    def list(self) -> Path:
        return self.folder / "allow.toml"

    def allow(self, *names: str) -> None:
        """Write the allow-list anew, with these parties alone; readers see the old one or the new one."""
        lines: list[str] = []
        for role, members in ROLES.items():
            lines.append(f"[{role}]")
            lines += [f'{name} = "{self.pairs[name].public}"' for name in members if name in names]
        fresh = self.list.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(fresh, self.list)

    def made(self, url: str) -> Deployment:
        """A verify node "verify" at `url` and a draft "draft-0" of stub models, both with their keys."""
        plain = deployment("truth", ["guess"], url=url)
        owned = {"verify": "verify", "draft-0": "draft"}
        nodes = {
            name: node.model_copy(update={"key": str(self.file(owned[name]))}) for name, node in plain.nodes.items()
        }
        security = SecurityConfig(
            server_key=self.pairs["verify"].public, allow=str(self.list), client_key=str(self.file("client"))
        )
        return replace(plain, nodes=nodes, security=security)
