"""Whether anybody listens at an address, asked of the operating system: what ZeroMQ knows and does not tell.

A refused connection is the one certain sign, from afar, that a listener is gone; silence may as well be the network's.
ZeroMQ retries both alike without a word, so this opens and drops a plain connection of its own.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from .tcp_address import parse

ANSWER: Final = 0.5
"""Seconds a refusal may take; without one by then nothing is known."""


async def is_vacant(address: str) -> bool:
    """Return True if a connection to a numeric tcp or an ipc address is refused."""
    target: str | tuple[str, int]
    if address.startswith("ipc://"):
        family, target = socket.AF_UNIX, address.removeprefix("ipc://")
    else:
        where = parse(address)
        family, target = socket.AF_INET6 if ":" in where.host else socket.AF_INET, (where.host, where.port)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            async with asyncio.timeout(ANSWER):
                await asyncio.get_running_loop().sock_connect(probe, target)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:  # no route, or the deadline (a TimeoutError is one): the network's silence
            return False
    return False
