"""Asynchronous multi-device speculative decoding, as message-passing nodes.

    async with amusd_mp.connect("tcp://10.0.0.1:5601") as client:
        result = await client.generate("The capital of France is", max_tokens=32)

What an application needs stands in `__all__` and is imported when it is first used; importing the package loads
nothing. To write a transport or a node role, see `amusd_mp.transport` and `amusd_mp.node`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amusd_mp.client.client import Client, connect
    from amusd_mp.client.results import Chunk, GenerationResult, SpeculativeDecoding, Token
    from amusd_mp.client.stream import Stream
    from amusd_mp.core.messages import Finish, Origin
    from amusd_mp.core.params import Strategy
    from amusd_mp.errors import (
        AccessDenied,
        AmusdError,
        Busy,
        ConfigError,
        GenerationTimeout,
        ModelError,
        NodeFailed,
        NotReady,
        OperationalError,
        ProtocolError,
        RequestError,
        SequenceLost,
        TransportError,
        UsageError,
    )
    from amusd_mp.launcher.cluster import LocalCluster

__version__ = "0.1.0"

_HOMES = {
    "amusd_mp.client.client": ("Client", "connect"),
    "amusd_mp.launcher.cluster": ("LocalCluster",),
    "amusd_mp.core.messages": ("Finish", "Origin"),
    "amusd_mp.core.params": ("Strategy",),
    "amusd_mp.errors": (
        "AccessDenied",
        "AmusdError",
        "Busy",
        "ConfigError",
        "GenerationTimeout",
        "ModelError",
        "NodeFailed",
        "NotReady",
        "OperationalError",
        "ProtocolError",
        "RequestError",
        "SequenceLost",
        "TransportError",
        "UsageError",
    ),
    "amusd_mp.client.results": ("Chunk", "GenerationResult", "SpeculativeDecoding", "Token"),
    "amusd_mp.client.stream": ("Stream",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AccessDenied",
    "AmusdError",
    "Busy",
    "Chunk",
    "Client",
    "ConfigError",
    "Finish",
    "GenerationResult",
    "GenerationTimeout",
    "LocalCluster",
    "ModelError",
    "NodeFailed",
    "NotReady",
    "OperationalError",
    "Origin",
    "ProtocolError",
    "RequestError",
    "SequenceLost",
    "SpeculativeDecoding",
    "Strategy",
    "Stream",
    "Token",
    "TransportError",
    "UsageError",
    "connect",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
