"""A TCP address as written in a URL: `tcp://host:port`, the host a name, an IP address or a wildcard.

Names are resolved here, before ZeroMQ sees them, because ZeroMQ connects to a name that does not exist without a word.
Where a name has addresses of both families, IPv4 is taken: listeners bind one address, and that is the likelier one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
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

    @property
    def is_name(self) -> bool:
        """Whether the host has to be resolved."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return not self.is_wildcard
        return False

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
    if not address.is_name:
        return address
    try:
        async with asyncio.timeout(RESOLVE):
            return replace(address, host=await _ask(address))
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


def _ask(address: TcpAddress) -> asyncio.Future[str]:
    """Have the system's resolver asked for an IP address; the future raises OSError or UnicodeError.

    On a daemon thread of its own: nothing can interrupt a resolver, and no loop that ends must wait for it.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()

    def settle(answer: str | Exception) -> None:
        if found.done():
            return  # given up
        if isinstance(answer, Exception):
            found.set_exception(answer)
        else:
            found.set_result(answer)

    def look_up() -> None:
        answer: str | Exception
        try:
            answer = _first(address)
        except Exception as error:
            answer = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, answer)

    threading.Thread(target=look_up, name=f"resolve {address.host}", daemon=True).start()
    return found


def _first(address: TcpAddress) -> str:
    """Return the address to use of those that the host has."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])
