"""`tcp://host:port`: ZeroMQ over TCP, between processes and hosts.

A listener binds three ports. Told a port P it takes P for requests, P+1 for what it publishes and P+2 for what
diallers publish, so a firewall can be opened beforehand; told port 0 it takes three free ones. A dialler needs the
first alone: the listener's `endpoints` name the others, and the dialler reaches them at the host it dialled, whatever
host stands there. So tunnels, address translation and a listener bound to every interface need no second address. A
name that was dialled is resolved again while nobody answers: the listener may have moved.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping

import zmq

from amusd_mp.errors import AddressError
from amusd_mp.transport import Dialer, KeyPair, Listener, Transport, TransportOptions

from .tcp_address import TcpAddress, parse, resolve
from .zeromq_curve import new_keys, public_key
from .zeromq_dialer import ZeromqDialer
from .zeromq_listener import ZeromqListener

PURPOSES = {
    zmq.ROUTER: "requests",
    zmq.PUB: "the listener's publications, on its port + 1",
    zmq.SUB: "the diallers' publications, on its port + 2",
}


class TcpTransport(Transport):
    """ZeroMQ over TCP."""

    scheme = "tcp"
    authenticates = True

    def new_keys(self) -> KeyPair:
        return new_keys()

    def public_key(self, secret: str) -> str:
        return public_key(secret)

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        address = await resolve(parse(url))
        if address.port > 65533:
            raise AddressError(f"{url!r}: a listener takes three ports, so the first is at most 65533", address=url)
        listener = ZeromqListener(url, options)
        try:
            control = _bind(listener, zmq.ROUTER, address, 0, url)
            pub = _bind(listener, zmq.PUB, address, 1, url)
            sub = _bind(listener, zmq.SUB, address, 2, url)
        except BaseException:
            await asyncio.shield(listener.close())
            raise
        listener.url = str(control)
        listener.endpoints = {"pub": str(pub), "sub": str(sub)}
        return listener

    async def dial(self, url: str, options: TransportOptions) -> Dialer:
        written = parse(url)
        if written.is_wildcard or written.port == 0:
            raise AddressError(
                f"{url!r} can be listened on, not dialled; write the listener's own host and port", address=url
            )

        async def look() -> str:
            return str(await resolve(written))

        def locate(address: str, endpoints: Mapping[str, str]) -> tuple[str, str]:
            at = parse(address).at
            return str(at(_port(endpoints, "pub", url))), str(at(_port(endpoints, "sub", url)))

        return ZeromqDialer(url, await look(), locate, options, look if written.is_name else None)


def _bind(listener: ZeromqListener, kind: zmq.SocketType, first: TcpAddress, offset: int, url: str) -> TcpAddress:
    """Bind one of the three, and return its address with the real port. Raises AddressError."""
    address = first.at(first.port + offset) if first.port else first
    try:
        bound = listener.bind(kind, str(address))
    except zmq.ZMQError as error:
        place = f"{address} ({PURPOSES[kind]} of {url})"
        if error.errno == errno.EADDRINUSE:
            text = f"{place} is taken; stop the program that listens there, or choose another port"
        elif error.errno == errno.EADDRNOTAVAIL:
            text = f"{place} is not an address of this machine; listen on one that is, or on tcp://0.0.0.0:{first.port}"
        elif error.errno == errno.EACCES:
            text = f"{place} may not be bound by this user; choose a port above 1023"
        else:
            text = f"{place} cannot be bound: {error.strerror}"
        raise AddressError(text, address=str(address)) from error
    return address.at(int(bound.rpartition(":")[2]))


def _port(endpoints: Mapping[str, str], name: str, url: str) -> int:
    """Return the port of one endpoint. Raises AddressError for endpoints this scheme cannot read."""
    if name not in endpoints:
        raise AddressError(f"the listener at {url} names no {name!r} endpoint, only {sorted(endpoints)}", address=url)
    return parse(endpoints[name]).port
