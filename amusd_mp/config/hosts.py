"""Is this machine the host that a file names? Answered by names and addresses, never guessed.

Three answers: yes, no, or not settled (the name says nothing here). A file in which nothing is settled needs `--host`.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from typing import Protocol

from amusd_mp.errors import ConfigError


class Machine(Protocol):
    """What this machine is called and which addresses are its own."""

    def names(self) -> frozenset[str]:
        """Return its names in lower case."""

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """Return what a name or address resolves to, nothing if it does not."""

    def owns(self, address: str) -> bool:
        """True if the address belongs to this machine."""


class ThisMachine:
    """The real one."""

    def names(self) -> frozenset[str]:
        name = socket.gethostname().lower()
        return frozenset({name, name.partition(".")[0], socket.getfqdn().lower(), "localhost"})

    def addresses_of(self, name: str) -> tuple[str, ...]:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        except OSError:
            return ()
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))

    def owns(self, address: str) -> bool:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))  # the system binds only what is its own
            return True
        return False


def is_here(host: str, machine: Machine) -> bool | None:
    """Return whether `host` is this machine; None if its name says nothing here."""
    if host.lower() in machine.names():
        return True
    addresses = machine.addresses_of(host)
    if not addresses:
        return None
    return any(machine.owns(address) for address in addresses)


def choose(hosts: Iterable[str], wanted: str | None, machine: Machine) -> frozenset[str]:
    """Return those of a file's hosts that are this machine.

    `wanted` is `--host`. Raises ConfigError naming the hosts when neither it nor names and addresses settle it.
    """
    hosts = tuple(dict.fromkeys(hosts))
    listed = ", ".join(hosts) or "none"
    if wanted is not None:
        here = frozenset(host for host in hosts if host.lower() == wanted.lower())
        if not here and hosts:
            raise ConfigError(f"--host {wanted}: no node is placed there; hosts of this file: {listed}", key="host")
        return here
    answers = {host: is_here(host, machine) for host in hosts}
    here = frozenset(host for host, answer in answers.items() if answer)
    if not here and None in answers.values():
        raise ConfigError(
            f"cannot tell which host this machine ({', '.join(sorted(machine.names() - {'localhost'}))}) is;"
            f" say --host NAME with one of: {listed}",
            key="host",
        )
    return here
