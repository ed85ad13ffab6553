"""A TCP address as written in a URL: `tcp://host:port`, the host a name, an IP address or a wildcard.

Names are resolved here, before ZeroMQ sees them, because ZeroMQ connects to a name that does not exist without a word.
Where a name has addresses of both families, IPv4 is taken: listeners bind one address, and that is the likelier one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass, replace
from typing import Final

from amusd_mp.errors import AddressError

RESOLVE: Final = 5.0
"""Seconds a name may take to resolve; a resolver with a dead first server answers by then."""

WILDCARDS: Final = ("*", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Host without brackets, and port; `str()` is the URL, which is also what ZeroMQ binds and connects."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether this means every address of the machine."""
        return self.host in WILDCARDS

    def at(self, port: int) -> TcpAddress:
        """Return the same host with another port."""
        return replace(self, port=port)


def parse(url: str) -> TcpAddress:
    """Read a URL. Raises AddressError saying what is wrong with it."""
    rest = url.removeprefix("tcp://")
    host, colon, port = rest.rpartition(":")
    if rest == url or not colon or not host or any(char in rest for char in "/?#@ "):
        raise AddressError(f"{url!r} is not tcp://host:port, for example tcp://127.0.0.1:5601", address=url)
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise AddressError(f"{url!r}: write an IPv6 address in brackets, for example tcp://[::1]:5601", address=url)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise AddressError(f"{url!r}: {port!r} is not a port; ports are 0 to 65535", address=url)
    return TcpAddress(host.strip("[]"), int(port))


async def resolve(address: TcpAddress) -> TcpAddress:
    """Return the address with a numeric host. Raises AddressError naming a host that does not resolve."""
    if address.is_wildcard or _is_numeric(address.host):
        return address
    try:
        async with asyncio.timeout(RESOLVE):
            found = await asyncio.get_running_loop().getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
    except TimeoutError:
        raise AddressError(
            f"{address.host!r} in {address} was not resolved within {RESOLVE:g} s; write its IP address, or check DNS",
            address=str(address),
        ) from None
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a valid name"
        raise AddressError(
            f"{address.host!r} in {address} does not resolve ({reason}); check the name, or write its IP address",
            address=str(address),
        ) from error
    ordered = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return replace(address, host=str(ordered[0][4][0]))


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
