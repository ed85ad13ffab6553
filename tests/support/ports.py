"""Ports for listeners that take three."""

from __future__ import annotations

import random
import socket

PORTS = random.Random()


def free_ports() -> int:
    """Return P such that P, P+1 and P+2 are free now, below the range the system hands out by itself."""
    while True:
        first = PORTS.randrange(10_000, 32_000)
        try:
            for port in range(first, first + 3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
