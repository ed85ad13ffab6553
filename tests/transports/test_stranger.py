"""A transport this project does not know enters by its entry point and passes the same suite."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amusd_mp.errors import AddressError
from amusd_mp.testing.conformance import TransportConformance
from amusd_mp.transport import find

PORTS = random.Random()


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the stranger's distribution: its module and the metadata that pip would write."""
    site = tmp_path_factory.mktemp("site")
    source = Path(__file__).with_name("stream_transport.py")
    (site / "stream_transport.py").write_text(source.read_text())
    info = site / "stream_transport-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stream-transport\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[amusd_mp.transports]\nstream = stream_transport:StreamTransport\n")
    sys.path.insert(0, str(site))
    yield
    sys.path.remove(str(site))
    sys.modules.pop("stream_transport", None)


class TestStream(TransportConformance):
    def url(self) -> str:
        while True:
            port = PORTS.randrange(10_000, 32_000)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return f"stream://127.0.0.1:{port}"

    def free_url(self) -> str:
        return "stream://127.0.0.1:0"


def test_an_installed_transport_is_found_by_its_scheme() -> None:
    assert type(find("stream://127.0.0.1:1")).__module__ == "stream_transport"


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(AddressError, match="inproc, ipc, stream, tcp"):
        find("carrier-pigeon://loft")


@pytest.mark.parametrize("url", ["", "127.0.0.1:5601", "://x"])
def test_an_address_without_a_scheme_shows_how_one_looks(url: str) -> None:
    with pytest.raises(AddressError, match=r"tcp://127\.0\.0\.1:5601"):
        find(url)
