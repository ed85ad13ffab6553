"""What `check` looks at beyond the file itself: roles, models, devices, cores and names, on this machine.

Loads no model library: a hub model is looked up in the cache folder, GPUs are asked of the driver's own tool. What
cannot be known here (another host's devices) is left out; what is only likely to fail is a note, not a problem.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from amusd_mp.cli.serve import REMEDY, missing
from amusd_mp.config import Deployment, NodeConfig, urls
from amusd_mp.config.schema import GATEWAY, VERIFY
from amusd_mp.core.model import SIMULATED
from amusd_mp.errors import ConfigError, ModelError
from amusd_mp.node import known_roles
from amusd_mp.node.binding import VISIBLE, allowed_cores, visible_device
from amusd_mp.security.guard import Guard
from amusd_mp.security.keys import for_dialling
from amusd_mp.transport.contract import ENTRY_POINT_GROUP, scheme_of

NVIDIA_SMI_TIMEOUT: Final = 10.0


@dataclass(slots=True)
class Findings:
    """Problems fail the check; notes only inform."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def summary(deployment: Deployment) -> Iterator[str]:
    """Yield a deployment as lines for a person."""
    yield f"file         {deployment.where}"
    rule = deployment.speculation
    yield f"speculation  {rule.strategy.value}, lookahead {rule.lookahead}"
    if deployment.security.insecure:
        yield "security     insecure: whoever reaches a port may use it, and can read along"
    if deployment.security.server_key:
        yield f"security     encrypted; the verify node's key is {deployment.security.server_key}"
    for name, node in deployment.nodes.items():
        where = f" on {node.host}" if node.host else ""
        model = f", {node.model} ({node.dtype}) at {node.device}" if node.model else ""
        yield f"{name:<12} {node.role}{model}{where}"
        if node.listen:
            dialled = deployment.url_for(name)
            yield f"{'':<12} listens on {node.listen}" + (f", dialled as {dialled}" if dialled != node.listen else "")
        if node.dial:
            yield f"{'':<12} dials {deployment.dial_url(name)}"


def inspect(deployment: Deployment, host: str | None) -> Findings:
    """Return what is wrong with a valid deployment on this machine, or on `host`."""
    found = Findings()
    local: tuple[str, ...] = ()
    try:
        local = deployment.local_nodes(host)
    except ConfigError as error:
        if host is not None:
            found.problems.append(str(error))
        else:
            found.notes.append(f"{error}; devices and models were not checked")
    for name, node in deployment.nodes.items():
        if node.role not in known_roles():
            found.problems.append(
                f"nodes.{name}.role: no node has the role {node.role!r}; installed: {', '.join(known_roles())}"
            )
        _look_at_urls(name, node, deployment, name in local, found)
        if name in local:
            _look_at_keys(name, deployment, found)
            _look_at_device(name, node, found)
            if node.model is not None:
                _look_at_model(name, node, found)
            if node.role == GATEWAY and (packages := missing()):
                found.problems.append(f"nodes.{name}: a gateway needs {', '.join(packages)}; {REMEDY}")
    return found


def _look_at_urls(name: str, node: NodeConfig, deployment: Deployment, local: bool, found: Findings) -> None:
    schemes = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    dialled = deployment.dial_url(name) if node.dial else None
    for key, url in (("listen", node.listen), ("address", node.address), ("dial", dialled)):
        if url is None:
            continue
        spoken = node.role == GATEWAY and key != "dial" and url.startswith(urls.HTTP)  # to callers, not between nodes
        if (scheme := scheme_of(url)) not in schemes and not spoken:
            found.problems.append(
                f"nodes.{name}.{key}: no transport for {scheme!r} in {url!r}; installed: {', '.join(sorted(schemes))}"
            )
        host = urls.host_of(url)
        if local and key != "address" and host is not None and not urls.is_wildcard(host) and not _resolves(host):
            found.problems.append(f"nodes.{name}.{key}: the name {host!r} does not resolve on this machine")


def _look_at_keys(name: str, deployment: Deployment, found: Findings) -> None:
    """Read what a local node will read: a verify node its key and the allow-list, others what they dial with."""
    if deployment.security.server_key is None:
        return
    try:
        if deployment.node(name).role == VERIFY:
            Guard.of(deployment, name)
        else:
            for_dialling(**deployment.keys(name))
    except ConfigError as error:
        found.problems.append(str(error))


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _look_at_device(name: str, node: NodeConfig, found: Findings) -> None:
    allowed = allowed_cores()
    absent = sorted(set(node.cores or ()) - (allowed or set(node.cores or ())))
    if absent:
        cores = ", ".join(map(str, sorted(allowed or ())))
        found.problems.append(f"nodes.{name}.cores: no core {', '.join(map(str, absent))}; there are {cores}")
    if node.device == "mps" and sys.platform != "darwin":
        found.problems.append(f"nodes.{name}.device: mps is Apple's; this is {sys.platform}")
    if node.device.startswith("cuda:"):
        number = int(node.device.removeprefix("cuda:"))
        gpus = list_gpus()
        if number >= len(gpus):
            found.problems.append(
                f"nodes.{name}.device: no {node.device}; nvidia-smi shows {len(gpus)} GPU(s) on this machine"
            )
        elif VISIBLE in os.environ:
            try:
                visible_device(name, number, os.environ[VISIBLE])
            except ConfigError as error:
                found.problems.append(str(error))


def list_gpus() -> list[str]:
    """Return a line per GPU from nvidia-smi, nothing where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _look_at_model(name: str, node: NodeConfig, found: Findings) -> None:
    from amusd_mp.engine.source import resolve

    model, key = node.model or "", f"nodes.{name}.model"
    if model.startswith(SIMULATED):
        _look_at_simulated(name, node, found)
        return
    try:
        source = resolve(model)
    except ModelError as error:
        found.problems.append(f"{key}: {error}")
        return
    if source.local or _cached(source.where, node.revision):
        return
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        found.problems.append(
            f"{key}: {source.where} is not in the cache and HF_HUB_OFFLINE is set; hf download {source.where}"
        )
    else:
        found.notes.append(
            f"{key}: {source.where} is not in the cache; the first start downloads it (hf download {source.where})"
        )


def _look_at_simulated(name: str, node: NodeConfig, found: Findings) -> None:
    from amusd_mp.testing.simulation.source import parse

    try:
        parse(node.model or "")
    except ModelError as error:
        found.problems.append(f"nodes.{name}: {error}")
    if node.pad_layers:
        found.problems.append(f"nodes.{name}.pad_layers: a simulated model has no layers; raise its step_ms instead")


def _cached(model: str, revision: str | None) -> bool:
    """True if the hub's cache folder holds the model's configuration, in the layout that the hub's client documents."""
    cache = os.environ.get("HF_HUB_CACHE") or os.path.join(
        os.environ.get("HF_HOME")
        or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"),
        "hub",
    )
    folder = Path(cache) / f"models--{model.replace('/', '--')}"
    revision = revision or "main"
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return (folder / "snapshots" / commit / "config.json").is_file()
