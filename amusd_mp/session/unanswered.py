"""Why an introduction came to nothing, in words for whoever dialled."""

from __future__ import annotations

from amusd_mp.errors import NotReady, RequestTimeout, TransportError


class Deaf(RequestTimeout):
    """The verify node answers, but what it publishes does not arrive."""

    def __init__(self, url: str, endpoints: tuple[tuple[str, str], ...]) -> None:
        super().__init__(
            f"{url} answers requests, but its publications do not arrive "
            f"(endpoints {dict(endpoints)}); is a firewall between?",
            address=url,
        )


def explain(error: TransportError | NotReady, url: str, timeout: float) -> Exception:
    """Return the error of `timeout` seconds of tries of which `error` ended the last."""
    if isinstance(error, NotReady):
        return NotReady(f"{error}; it was not ready within {timeout:g} s")
    if isinstance(error, Deaf):
        return error
    return type(error)(
        f"no verify node answers at {url} within {timeout:g} s; is it running, and is this its address?", address=url
    )
