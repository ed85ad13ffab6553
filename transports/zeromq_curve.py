"""CURVE on ZeroMQ sockets: keys on both ends, and the one who decides at a listener's door.

libzmq asks the handler of its authentication protocol (ZAP, RFC 27) at every handshake, over a socket of the context
that the listener's sockets live in. What the handler answers as user id, here the dialler's public key, comes with
every message of that connection, and is what the transport tells as `peer`.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import zmq
from zmq.utils import z85

from amusd_mp.transport import Credentials, KeyPair, is_key

logger = logging.getLogger(__name__)

ZAP_ADDRESS: Final = "inproc://zeromq.zap.01"
VERSION: Final = b"1.0"
DOMAIN: Final = b"amusd-mp"
REMEMBERED: Final = 256
"""Unknown keys told in the log, each once: a line for the operator, not one for each of a stranger's attempts."""

UNKNOWN_KEY: Final = "unknown_key"


def new_keys() -> KeyPair:
    """Return a new key pair, from the system's randomness."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def public_key(secret: str) -> str:
    """Return the public half of a secret key."""
    return zmq.curve_public(secret.encode()).decode()


def secure_listening(socket: zmq.Socket[bytes], credentials: Credentials) -> None:
    """Let a socket that will bind take CURVE connections only, each one judged by the door."""
    socket.curve_server = True
    socket.curve_secretkey = credentials.own.secret.encode()
    socket.zap_domain = DOMAIN  # with a domain, libzmq refuses everybody while no handler answers


def secure_dialling(socket: zmq.Socket[bytes], credentials: Credentials) -> None:
    """Let a socket that will connect prove its key, and insist on the listener's."""
    socket.curve_publickey = credentials.own.public.encode()
    socket.curve_secretkey = credentials.own.secret.encode()
    socket.curve_serverkey = credentials.server.encode()


class Door:
    """Answers ZAP requests: 200 for a key that is admitted, 400 for any other and for everything malformed."""

    def __init__(self, name: str, credentials: Credentials, denied: Counter[str]) -> None:
        self._name = name
        self._admits = credentials.admits
        self._denied = denied
        self._told: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<Door of {self._name}, {self._denied[UNKNOWN_KEY]} turned away>"

    def answer(self, frames: list[bytes]) -> list[bytes]:
        """Return the reply to one request (version, its id, domain, address, routing id, mechanism, public key)."""
        number = frames[1] if len(frames) > 1 else b""
        key = self._key(frames)
        if key is not None and self._admits is not None and self._admits(key):
            return [VERSION, number, b"200", b"OK", key.encode(), b""]
        self._denied[UNKNOWN_KEY] += 1
        self._tell(key, frames[3] if len(frames) > 3 else b"")
        return [VERSION, number, b"400", b"this key is not on the allow-list", b"", b""]

    @staticmethod
    def _key(frames: list[bytes]) -> str | None:
        if len(frames) != 7 or frames[0] != VERSION or frames[5] != b"CURVE" or len(frames[6]) != 32:
            return None
        key: str = z85.encode(frames[6]).decode()
        return key if is_key(key) else None

    def _tell(self, key: str | None, address: bytes) -> None:
        if key is not None and key not in self._told and len(self._told) < REMEMBERED:
            self._told[key] = None
            logger.warning(
                "refused a connection from %s: its key %s is not on the allow-list",
                address.decode(errors="replace").removeprefix("::ffff:") or "this host",
                key,
            )
