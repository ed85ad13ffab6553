"""Key files: made once, for their owner's eyes alone, and refused when others could have read them.

A file holds one party's secret key and, for convenience, the public one that others need. It is written with its final
mode from its first moment on, and never over another file.
"""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Final

from amusd_mp import transport
from amusd_mp.errors import ConfigError
from amusd_mp.transport import Credentials, KeyPair, TransportOptions, is_key

MODE: Final = 0o600
KEYS_OF: Final = "tcp://"
"""The transport whose kind of keys files hold; `ipc` has the same."""

LARGEST: Final = 4096
"""Bytes of a key file that are read; one of ours has about 250."""

HEADER: Final = "# A secret key of AMUSD-MP. Whoever can read this file is this party: keep it here, with mode 0600.\n"


def create(path: Path) -> KeyPair:
    """Make a key pair and write it to a new file that only its owner can read. Raises ConfigError, never overwrites."""
    pair = transport.find(KEYS_OF).new_keys()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    except FileExistsError:
        raise ConfigError(f"{path} exists, and is not overwritten; choose another name", source=str(path)) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", source=str(path)) from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f'{HEADER}public = "{pair.public}"\nsecret = "{pair.secret}"\n')
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}", source=str(path)) from None
    return pair


def read(path: Path) -> KeyPair:
    """Return the keys of a file. Raises ConfigError if it is none, or if others than its owner may read it."""
    where = str(path)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(LARGEST)
    except OSError as error:
        hint = f"; make one with `amusd-mp keys new {path}`" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"the key file {path} cannot be read: {error.strerror}{hint}", source=where) from None
    if mode & ~MODE:
        raise ConfigError(
            f"the key file {path} has mode {mode:04o}, so others may have its secret; if nobody can have read it, run"
            f" `chmod 600 {path}`, else make a new key",
            source=where,
        )
    try:
        table = tomllib.loads(content.decode("ascii"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        table = {}
    secret, public = table.get("secret"), table.get("public")
    if not (isinstance(secret, str) and isinstance(public, str) and is_key(secret) and is_key(public)):
        raise ConfigError(f"{path} is no key file of `amusd-mp keys new`", source=where)
    if transport.find(KEYS_OF).public_key(secret) != public:
        raise ConfigError(f"{path}: its public key does not belong to its secret one; make a new key", source=where)
    return KeyPair(public, secret)


def for_dialling(key: str | Path | None, server_key: str | None) -> TransportOptions | None:
    """Return what a dialler with this key file, pinning this public key, opens its end with; None without either.

    Raises ConfigError if one of the two is missing or unusable.
    """
    if key is None and server_key is None:
        return None
    if server_key is None:
        raise ConfigError(
            "a key file is given, and not whom to trust; give the verify node's public key (server_key, --server-key)"
        )
    if not is_key(server_key):
        raise ConfigError(f"server_key: {server_key!r} is no public key; it has 40 characters, as `keys new` prints it")
    if key is None:
        raise ConfigError(
            "server_key is given, and no key of our own; give its file (key, --key, or client_key in a deployment)"
        )
    return TransportOptions(credentials=Credentials(read(Path(key)), server_key))
