"""Ownership of an `ipc://` path: its length, its directory, and the lock that makes a second listener fail.

ZeroMQ binds over an existing socket file without a word, stealing the path from a living listener. So a listener first
takes an exclusive `flock` on `PATH.lock`, which the kernel releases when the process dies, however it dies. Whoever
holds it may remove socket files that a dead listener left. Files are the user's own: directories 0700, sockets 0600.
Nothing is put into a directory, and no socket is dialled or attached to, that somebody else may have made to be found
there; ZeroMQ's own reconnections look at nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Final

from amusd_mp.errors import AddressError

PATH_BYTES: Final = 107
"""Bytes of a Unix socket path on Linux (sun_path is 108 with its zero byte); other systems have a few less."""

PUB: Final = ".pub"
SUB: Final = ".sub"
LOCK: Final = ".lock"
SOCKETS: Final = ("", PUB, SUB)


def parse(url: str) -> str:
    """Return the path of an ipc URL. Raises AddressError if it is not absolute or too long."""
    path = url.removeprefix("ipc://")
    if path == url or not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise AddressError(f"{url!r} is not ipc:///absolute/path, for example ipc:///tmp/amusd/verify", address=url)
    longest = len(os.fsencode(path)) + max(map(len, SOCKETS))
    if longest > PATH_BYTES:
        raise AddressError(
            f"{url!r}: with its suffix {PUB} the path has {longest} bytes, and a socket path at most {PATH_BYTES}; "
            "choose a shorter directory, for example under /tmp",
            address=url,
        )
    return path


def check_socket(path: str, url: str) -> None:
    """Raise AddressError if there is a socket and it is another user's: anybody could pose as the listener."""
    try:
        owner = _stranger(path)
    except OSError:  # there is none, or none that this user can reach
        return
    if owner is not None:
        raise AddressError(
            f"{url!r}: {path} belongs to user {owner}, who is neither this user nor root; run both ends as one user,"
            " or choose another path",
            address=url,
        )


class PathLock:
    """Exclusive ownership of a path and its siblings, from construction to `release`."""

    def __init__(self, path: str, url: str) -> None:
        """Create the directory, take the lock and remove dead sockets. Raises AddressError if any of it fails."""
        self.path = path
        self._url = url
        self._fd: int | None = None
        try:
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_folder(os.path.dirname(path))
            self._fd = self._lock()
            for suffix in SOCKETS:
                self._remove_dead(path + suffix)
        except AddressError:
            self._let_go()
            raise
        except OSError as error:
            self._let_go()
            raise AddressError(
                f"{url!r}: {error.filename or path}: {error.strerror}; choose a path this user can write", address=url
            ) from error

    def protect(self) -> None:
        """Let nobody but this user connect to the bound sockets."""
        for suffix in SOCKETS:
            os.chmod(self.path + suffix, 0o600)

    def release(self) -> None:
        """Remove the files and give the path up. Idempotent."""
        if self._fd is None:
            return
        for suffix in (*SOCKETS, LOCK):  # the lock file last: until then the path is ours
            with contextlib.suppress(OSError):  # gone with its directory, or ZeroMQ removed it on closing
                os.unlink(self.path + suffix)
        self._let_go()

    def _check_folder(self, folder: str) -> None:
        """Raise AddressError for a directory in which others could put their own files in place of ours."""
        owner, mode = _stranger(folder), os.stat(folder).st_mode
        if owner is not None:
            wrong = f"belongs to user {owner}, who is neither this user nor root"
        elif mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            wrong = f"can be written by everybody (run `chmod o-w {folder}` if nobody needs that)"
        else:
            return
        raise AddressError(
            f"{self._url!r}: the directory {folder} {wrong}; choose one of this user's own", address=self._url
        )

    def _lock(self) -> int:
        while True:
            fd = os.open(self.path + LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(fd, self.path + LOCK):
                    return fd
            except BlockingIOError:
                os.close(fd)
                raise self._taken("a listener") from None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # its owner removed it while we opened it: lock the new one

    def _remove_dead(self, path: str) -> None:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise AddressError(
                f"{self._url!r}: {path} exists and is not a socket; choose another path", address=self._url
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
            except BlockingIOError:
                pass  # a listener with a full backlog: alive
        raise self._taken("another program")

    def _taken(self, owner: str) -> AddressError:
        return AddressError(
            f"{self._url!r} is taken: {owner} uses {self.path}; stop it or choose another path", address=self._url
        )

    def _let_go(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __repr__(self) -> str:
        return f"<PathLock {self.path} {'released' if self._fd is None else 'held'}>"


def _stranger(path: str) -> int | None:
    """Return whose a file is, or a link to it, if neither this user's nor root's. Raises OSError."""
    owners = (os.lstat(path).st_uid, os.stat(path).st_uid)
    return next((owner for owner in owners if owner not in (os.geteuid(), 0)), None)


def _same_file(fd: int, path: str) -> bool:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    held = os.fstat(fd)
    return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)
