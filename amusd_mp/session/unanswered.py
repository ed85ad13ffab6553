"""Why an introduction came to nothing, in words for whoever dialled, and which failures of it may pass."""

from __future__ import annotations

from typing import Final

from amusd_mp.errors import Busy, NotReady, OperationalError, RemoteError, RequestTimeout, Unreachable

PASSING: Final = (Unreachable, RequestTimeout, RemoteError, NotReady, Busy)
"""Failures of one try that the next may not meet. Whatever else it raises refuses this dialler for good."""


class Deaf(RequestTimeout):
    """The verify node answers, but what it publishes does not arrive."""

    def __init__(self, url: str, endpoints: tuple[tuple[str, str], ...]) -> None:
        super().__init__(
            f"{url} answers requests, but its publications do not arrive "
            f"(endpoints {dict(endpoints)}); is a firewall between?",
            address=url,
        )


def explain(error: OperationalError, url: str, timeout: float) -> Exception:
    """Return the error of `timeout` seconds of tries of which `error`, one of PASSING, ended the last."""
    match error:
        case NotReady():
            return NotReady(f"{error}; it was not ready within {timeout:g} s")
        case RemoteError():
            return RemoteError(f"{error}; no other answer came within {timeout:g} s", address=url)
        case Unreachable() | RequestTimeout() if not isinstance(error, Deaf):
            text = f"no verify node answers at {url} within {timeout:g} s; is it running, and is this its address?"
            return type(error)(text, address=url)
        case _:
            return error
