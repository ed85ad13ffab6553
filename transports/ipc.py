"""`ipc:///path`: ZeroMQ over Unix sockets, between processes of one user on one host.

A listener binds the path for requests, `path.pub` for what it publishes and `path.sub` for what diallers publish, and
holds `path.lock` while it lives. A dialler derives the siblings from the path it dialled, which may differ from the
listener's own where a directory is mounted elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import zmq

from amusd_mp.errors import AddressError
from amusd_mp.transport import Dialer, KeyPair, Listener, Transport, TransportOptions

from .ipc_path import PUB, SUB, PathLock, check_socket, parse
from .zeromq_curve import new_keys, public_key
from .zeromq_dialer import ZeromqDialer
from .zeromq_listener import ZeromqListener


class IpcTransport(Transport):
    """ZeroMQ over Unix sockets."""

    scheme = "ipc"
    authenticates = True

    def new_keys(self) -> KeyPair:
        return new_keys()

    def public_key(self, secret: str) -> str:
        return public_key(secret)

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        lock = PathLock(parse(url), url)
        listener = _IpcListener(url, options, lock)
        try:
            listener.bind(zmq.ROUTER, url)
            listener.bind(zmq.PUB, url + PUB)
            listener.bind(zmq.SUB, url + SUB)
            lock.protect()
        except (zmq.ZMQError, OSError) as error:
            await asyncio.shield(listener.close())
            raise AddressError(
                f"{url!r} cannot be bound: {error.strerror}; choose another path", address=url
            ) from error
        listener.endpoints = {"pub": url + PUB, "sub": url + SUB}
        return listener

    async def dial(self, url: str, options: TransportOptions) -> Dialer:
        path = parse(url)
        check_socket(path, url)

        def locate(address: str, endpoints: Mapping[str, str]) -> tuple[str, str]:
            check_socket(path, url)
            for name, suffix in (("pub", PUB), ("sub", SUB)):
                if not endpoints.get(name, "").endswith(suffix):
                    raise AddressError(
                        f"the listener at {url} names no ipc {name!r} endpoint: {endpoints}", address=url
                    )
                check_socket(path + suffix, url)
            return address + PUB, address + SUB

        return ZeromqDialer(url, url, locate, options)


class _IpcListener(ZeromqListener):
    """A listener that gives its path up once its sockets are closed."""

    def __init__(self, url: str, options: TransportOptions, lock: PathLock) -> None:
        super().__init__(url, options)
        self._lock = lock

    async def readmit(self) -> None:
        await super().readmit()
        if not self._closed:
            self._lock.protect()

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            self._lock.release()
