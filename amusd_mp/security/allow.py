"""The allow-list: which public keys may connect, and as what. A file, read again when it changes.

    [draft]                # may publish windows, and read
    gpu-b = "PUBLIC KEY"
    [client]               # may submit, cancel and drain, and read
    laptop = "PUBLIC KEY"
    [observer]             # may only read: status and topics
    dashboard = "PUBLIC KEY"

The names are for people: log lines and refusals say them. A key that stands in several tables has all those roles.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from amusd_mp.errors import ConfigError
from amusd_mp.transport import is_key

log = logging.getLogger(__name__)

ROLES: Final = ("draft", "client", "observer")
PERIOD: Final = 0.5
"""Seconds between looks at the file. A change counts once two looks saw the same: an editor may still be writing."""

LARGEST: Final = 1 << 20
"""Bytes of an allow-list: over ten thousand keys."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who holds a key."""

    name: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class AllowList:
    """Public key -> party."""

    parties: Mapping[str, Party] = field(default_factory=dict)

    def roles(self, key: str | None) -> frozenset[str]:
        """Return what a key may be; nothing for an unknown one."""
        party = self.parties.get(key) if key is not None else None
        return party.roles if party is not None else frozenset()

    def lost(self, after: AllowList) -> frozenset[str]:
        """Return the keys that may do less under `after`."""
        return frozenset(key for key, party in self.parties.items() if party.roles - after.roles(key))


def read(path: Path) -> AllowList:
    """Return the list of a file. Raises ConfigError naming what is wrong with it."""
    where = str(path)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"the allow-list {path} cannot be read: {error.strerror}", source=where) from None
    if mode & stat.S_IWOTH:
        raise ConfigError(f"the allow-list {path} can be written by anybody; run `chmod o-w {path}`", source=where)
    try:
        if len(content) > LARGEST:
            raise ValueError(f"it has over {LARGEST} bytes")
        return parse(tomllib.loads(content.decode("utf-8")))
    except (ValueError, RecursionError) as error:  # what is no TOML or no UTF-8 is a ValueError, too
        raise ConfigError(f"the allow-list {path}: {error}", source=where) from None


def parse(tables: Mapping[str, object]) -> AllowList:
    """Return the list that a file's tables give. Raises ValueError."""
    names: dict[str, str] = {}
    roles: dict[str, frozenset[str]] = {}
    for role, table in tables.items():
        if role not in ROLES or not isinstance(table, Mapping):
            raise ValueError(f"{role!r} is no role; write tables {', '.join(f'[{each}]' for each in ROLES)}")
        for name, key in table.items():
            if not isinstance(key, str) or not is_key(key):
                raise ValueError(
                    f"{role}.{name}: {key!r} is no public key; it has 40 characters, as `amusd-mp keys new` prints it"
                )
            names.setdefault(key, name)
            roles[key] = roles.get(key, frozenset()) | {role}
    return AllowList({key: Party(names[key], roles[key]) for key in roles})


Changed = Callable[[frozenset[str]], Awaitable[None]]
"""Told which keys may do less than before, after the new list is in force."""


class AllowFile:
    """A file's list as it is now. A change for the worse (unreadable, no TOML) leaves the last good one in force."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises ConfigError."""
        self.path = path
        self._seen = signature(path)
        self.now = read(path)

    def __repr__(self) -> str:
        return f"<AllowFile {self.path}, {len(self.now.parties)} keys>"

    async def watch(self, on_change: Changed) -> None:
        """Look at the file again and again, until cancelled."""
        known = before = self._seen
        while True:
            await asyncio.sleep(PERIOD)
            found = await asyncio.to_thread(signature, self.path)
            if found != known and found == before:
                known = found
                await self._reload(on_change)
            before = found

    async def _reload(self, on_change: Changed) -> None:
        try:
            after = await asyncio.to_thread(read, self.path)
        except ConfigError as error:
            log.error("%s; the list as it was stays in force", error)
            return
        before, self.now = self.now, after
        lost = before.lost(after)
        who = ", ".join(sorted(ascii(before.parties[key].name)[1:-1] for key in lost)) or "nobody"
        log.info("the allow-list was read again: %d keys; lost a role: %s", len(after.parties), who)
        await on_change(lost)


def signature(path: Path) -> tuple[int, int, int, int] | None:
    """Return what tells one state of a file from the next; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
