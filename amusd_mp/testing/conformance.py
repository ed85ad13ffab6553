"""What every transport must do, as a test class to inherit: for our own transports and for yours.

    from amusd_mp.testing.conformance import TransportConformance

    class TestMyTransport(TransportConformance):
        def url(self) -> str:
            return "mine://" + ...   # a fresh address on every call, which can be listened on again after a close

It needs pytest and pytest-asyncio, and the transport registered as an entry point of the group
`amusd_mp.transports`, because it is opened by URL like any other. Override `free_url` where the scheme can choose an
address by itself (port 0). The class knows no transport; what it tests is the
contract in `amusd_mp.transport`, and nothing that contract leaves open.
"""

from __future__ import annotations

from amusd_mp.testing.conformance_life import LifeConformance
from amusd_mp.testing.conformance_publish import PublishConformance
from amusd_mp.testing.conformance_request import RequestConformance
from amusd_mp.testing.conformance_tools import AGAIN, DEADLINE, SOON, answered, connected, echo, live, take

__all__ = ["AGAIN", "DEADLINE", "SOON", "TransportConformance", "answered", "connected", "echo", "live", "take"]


class TransportConformance(RequestConformance, PublishConformance, LifeConformance):
    """The whole suite. Inherit it, define `url`, and run pytest."""
