"""Rules that span keys or nodes: who dials whom, who may listen where, what a role needs."""

from __future__ import annotations

from collections.abc import Iterator

from amusd_mp.config import urls
from amusd_mp.config.deployment import Deployment
from amusd_mp.config.schema import DEFAULT_HTTP, DRAFT, GATEWAY, VERIFY, NodeConfig, SecurityConfig
from amusd_mp.config.words import nearest

Finding = tuple[tuple[str, ...], str]
"""(key, what is wrong and what to do)."""


def problems_between(deployment: Deployment) -> Iterator[Finding]:
    """Yield everything in which a deployment contradicts itself or its security rule."""
    if not deployment.nodes:
        yield ("nodes",), "the file defines no node; add tables [nodes.NAME]"
    verifiers = deployment.of_role(VERIFY)
    if len(verifiers) > 1:
        yield (
            ("nodes", verifiers[1], "role"),
            f"only one verify node can decide, and {', '.join(verifiers)} all would; use one file for each",
        )
    for name, node in deployment.nodes.items():
        yield from _needs(name, node)
        yield from _listening(name, node, deployment.security)
        yield from _dialling(name, node, deployment)
    yield from _keys(deployment)


def _needs(name: str, node: NodeConfig) -> Iterator[Finding]:
    if node.role in (VERIFY, DRAFT) and node.model is None:
        yield ("nodes", name, "model"), "is missing; write a hub id, a folder or bundled:verify / bundled:draft"
    if node.role in (DRAFT, GATEWAY) and node.dial is None:
        yield ("nodes", name, "dial"), "is missing; write the verify node's name or its URL"
    if node.role == GATEWAY and node.listen is not None and not node.listen.startswith(urls.HTTP):
        yield ("nodes", name, "listen"), f"a gateway speaks HTTP; write for example {DEFAULT_HTTP}, not {node.listen}"
    if node.role in (VERIFY, DRAFT) and (node.listen or "").startswith(urls.HTTP):
        yield ("nodes", name, "listen"), "HTTP is spoken by a node of role gateway; write for example tcp://..."
    if node.api_key is not None and node.api_key_from is not None:
        yield ("nodes", name, "api_key"), "give either api_key or api_key_from"
    if node.role in (VERIFY, DRAFT) and (node.api_key or node.api_key_from):
        yield ("nodes", name, "api_key"), f"belongs to a gateway, and this one's role is {node.role}"
    if node.role in (VERIFY, DRAFT) and node.resubmit:
        yield ("nodes", name, "resubmit"), f"belongs to a gateway, and this one's role is {node.role}"
    if node.role != DRAFT and node.draft_temperature is not None:
        yield ("nodes", name, "draft_temperature"), f"belongs to draft nodes, and this one's role is {node.role}"


def _listening(name: str, node: NodeConfig, security: SecurityConfig) -> Iterator[Finding]:
    if node.listen is None or security.insecure or (security.server_key is not None and node.role != GATEWAY):
        return
    host = urls.host_of(node.listen)
    if host is None or urls.is_loopback(host) or (node.role == GATEWAY and (node.api_key or node.api_key_from)):
        return
    key = "ask for an api_key" if node.role == GATEWAY else "set up keys (SECURITY.md)"
    yield (
        ("nodes", name, "listen"),
        f"{node.listen} is reachable from other machines, and nothing is encrypted; listen on 127.0.0.1,"
        f" {key}, or accept that with insecure = true in [security]",
    )


def _keys(deployment: Deployment) -> Iterator[Finding]:
    """Yield what is missing where some keys are configured: half a lock is none."""
    security = deployment.security
    if security.server_key is None:
        given: list[tuple[str, ...]] = [
            ("security", key) for key in ("allow", "client_key") if getattr(security, key) is not None
        ]
        given += [("nodes", name, "key") for name, node in deployment.nodes.items() if node.key is not None]
        if given:
            key = ".".join(given[0])
            yield (
                ("security", "server_key"),
                f"is missing, and {key} has no effect without it; write the verify node's public key",
            )
        return
    for name, node in deployment.nodes.items():
        if node.role == VERIFY and node.key is None:
            yield ("nodes", name, "key"), f"is missing; make one with `amusd-mp keys new {name}.key`"
        elif node.role in (DRAFT, GATEWAY) and node.key is None and security.client_key is None:
            yield ("nodes", name, "key"), f"is missing, and so is security.client_key; `amusd-mp keys new {name}.key`"
    if deployment.of_role(VERIFY) and security.allow is None:
        yield ("security", "allow"), "is missing; write a file of the public keys that may connect (SECURITY.md)"


def _dialling(name: str, node: NodeConfig, deployment: Deployment) -> Iterator[Finding]:
    key = ("nodes", name, "dial")
    if node.dial is None or "://" in node.dial:
        return
    if node.dial not in deployment.nodes:
        meant = nearest(node.dial, deployment.nodes)
        hint = f"did you mean {meant}?" if meant else f"nodes: {', '.join(deployment.nodes)}"
        yield key, f"no node is named {node.dial!r} (nor is it a URL); {hint}"
        return
    other = deployment.nodes[node.dial]
    if node.dial == name:
        yield key, "a node cannot dial itself"
    elif other.address is None and other.listen is None:
        yield key, f"{node.dial} listens nowhere; give it listen = ..."
    elif other.address is None and other.listen is not None and _apart(node, other):
        if not _reachable(other.listen):
            yield (
                ("nodes", node.dial, "listen"),
                f"{other.listen} cannot be reached from host {node.host}, where {name} runs;"
                " listen on the network, or give the address to dial with address = ...",
            )
        elif urls.has_free_port(other.listen):
            yield ("nodes", node.dial, "listen"), f"port 0 is not known on host {node.host}, where {name} runs"


def _apart(one: NodeConfig, other: NodeConfig) -> bool:
    return one.host is not None and other.host is not None and one.host.lower() != other.host.lower()


def _reachable(url: str) -> bool:
    """False if a URL means something only on the machine that binds it."""
    host = urls.host_of(url)
    if host is None:
        return not url.startswith((urls.IPC, "inproc://"))
    return not urls.is_loopback(host) and not urls.is_wildcard(host)
