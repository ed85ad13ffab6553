"""Why a handshake with a listener keeps failing, in words: asked of the listener itself.

libzmq tells a dialler only that the other side hung up. But a listener shows the name of its security mechanism in the
first 64 bytes it sends (the greeting of ZMTP 3), before either side decides anything. So one plain connection that
begins to greet tells a listener without encryption from one that wants it, and both from one that has another key than
the pinned one.
"""

from __future__ import annotations

import asyncio
from typing import Final

from amusd_mp.transport import Credentials

from .tcp_address import parse

GREETING: Final = 64
MECHANISM: Final = slice(12, 32)
"""Where a greeting has the mechanism's name, padded with zeros."""

OPENING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00"
"""The first 12 bytes of our own greeting: signature and version. The rest would let the listener hang up on us before
it has shown its own."""

ANSWER: Final = 1.0
"""Seconds a greeting may take: it is the first thing a listener sends."""


async def diagnose(address: str, url: str, credentials: Credentials | None) -> str:
    """Return why the listener at `address` and this end do not come together, "" if that cannot be told.

    `address` is a numeric tcp or an ipc one, `url` what a person wrote for it. Takes two seconds at most.
    """
    theirs = await mechanism_at(address)
    if theirs == "CURVE" and credentials is None:
        return (
            f"{url} talks only to holders of a key it knows, and this end has none; give it a key of its own and the"
            " public key of the node there"
        )
    if theirs == "NULL" and credentials is not None:
        return (
            f"{url} neither encrypts nor proves who it is, and this end insists on the key {credentials.server};"
            " configure keys there, or remove them here if the line may be plain"
        )
    if theirs == "CURVE" and credentials is not None:
        return (
            f"{url} does not have the key {credentials.server} that this end was told to expect: it is another node,"
            " or its key was changed; ask its operator for its public key, and trust no other source"
        )
    return ""


def denial(url: str, credentials: Credentials | None) -> str:
    """Return what it means that the listener's door turned this end away."""
    if credentials is None:
        return f"{url} refuses this end"
    return (
        f"{url} does not know this end's key {credentials.own.public}, or knows it no more; its operator can add it"
        " to the allow-list there"
    )


async def mechanism_at(address: str) -> str | None:
    """Return the name of the security mechanism a ZeroMQ listener greets with, None if nothing greets."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(ANSWER):
            if address.startswith("ipc://"):
                reader, writer = await asyncio.open_unix_connection(address.removeprefix("ipc://"))
            else:
                where = parse(address)
                reader, writer = await asyncio.open_connection(where.host, where.port)
            writer.write(OPENING)
            answer = await reader.readexactly(GREETING)
    except (OSError, asyncio.IncompleteReadError):  # a TimeoutError is an OSError
        return None
    finally:
        if writer is not None:
            writer.transport.abort()
    if answer[0] != 0xFF or answer[9] != 0x7F:
        return None
    return answer[MECHANISM].rstrip(b"\0").decode("ascii", "replace")
