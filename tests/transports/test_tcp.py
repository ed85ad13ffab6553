"""tcp: conformance, and what is special about ports, names and families."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from ports import free_ports

from amusd_mp.errors import AddressError, Unreachable
from amusd_mp.testing.conformance import DEADLINE, SOON, TransportConformance, echo, live
from amusd_mp.transport import dial, listen


class TestTcp(TransportConformance):
    def url(self) -> str:
        return f"tcp://127.0.0.1:{free_ports()}"

    def free_url(self) -> str:
        return "tcp://127.0.0.1:0"


async def test_an_explicit_port_takes_the_two_after_it() -> None:
    port = free_ports()
    async with await listen(f"tcp://127.0.0.1:{port}") as listener:
        assert listener.url == f"tcp://127.0.0.1:{port}"
        assert listener.endpoints == {"pub": f"tcp://127.0.0.1:{port + 1}", "sub": f"tcp://127.0.0.1:{port + 2}"}


@pytest.mark.parametrize(("offset", "purpose"), [(0, "requests"), (1, "port \\+ 1"), (2, "port \\+ 2")])
async def test_the_error_names_which_of_the_three_ports_is_taken(offset: int, purpose: str) -> None:
    port = free_ports()
    named = f"127.0.0.1:{port + offset} .*{purpose}.* is taken"
    with socket.create_server(("127.0.0.1", port + offset)), pytest.raises(AddressError, match=named):
        await listen(f"tcp://127.0.0.1:{port}")
    async with await listen(f"tcp://127.0.0.1:{port}") as listener:  # nothing of the failed attempt is left
        assert listener.endpoints


@pytest.mark.parametrize(
    "url",
    [
        "tcp://", "tcp://127.0.0.1", "tcp://:5601", "tcp://127.0.0.1:x", "tcp://127.0.0.1:70000", "tcp://::1:5601",
        "tcp://[::1:5601", "tcp://a b:1", "tcp://127.0.0.1:5601/path", "tcp://user@127.0.0.1:5601", "tcp://h:\u0663",
    ],
)  # fmt: skip
async def test_a_malformed_address_is_refused_by_both_ends(url: str) -> None:
    for opening in (listen, dial):
        with pytest.raises(AddressError) as caught:
            await opening(url)
        assert caught.value.address == url


@pytest.mark.parametrize("url", ["tcp://0.0.0.0:5601", "tcp://*:5601", "tcp://[::]:5601", "tcp://127.0.0.1:0"])
async def test_a_wildcard_cannot_be_dialled(url: str) -> None:
    with pytest.raises(AddressError, match="listened on, not dialled"):
        await dial(url)


async def test_a_name_that_does_not_resolve_is_named() -> None:
    with pytest.raises(AddressError, match=r"no-such-host\.invalid"):
        await dial("tcp://no-such-host.invalid:5601")


async def test_a_foreign_address_cannot_be_listened_on() -> None:
    with pytest.raises(AddressError, match="not an address of this machine"):
        await listen("tcp://192.0.2.1:0")


async def test_ports_past_the_end_are_refused() -> None:
    with pytest.raises(AddressError, match="65533"):
        await listen("tcp://127.0.0.1:65534")


async def test_localhost_is_the_same_for_both_ends() -> None:
    async with await listen("tcp://localhost:0") as listener:
        listener.serve(echo)
        port = listener.url.rpartition(":")[2]
        async with await dial(f"tcp://localhost:{port}") as dialer:
            assert await dialer.request(b"home", DEADLINE) == b"home"


async def test_the_error_of_a_silent_address_names_it() -> None:
    port = free_ports()
    async with await dial(f"tcp://127.0.0.1:{port}") as dialer:
        with pytest.raises(Unreachable, match=f"tcp://127.0.0.1:{port}"):
            await dialer.request(b"", SOON)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_ipv6_literals_work_throughout() -> None:
    async with await listen("tcp://[::1]:0") as listener, await dial(listener.url) as dialer:
        assert listener.url.startswith("tcp://[::1]:")
        listener.serve(echo)
        assert await dialer.request(b"six", DEADLINE) == b"six"
        await dialer.attach(listener.endpoints)
        reader = dialer.subscribe("v/")
        await live(listener, reader, "v/")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "*"])
async def test_the_other_endpoints_are_reached_at_the_host_that_was_dialled(host: str) -> None:
    """Whatever host stands in them, so a tunnel needs no second address. Bound on loopback; only the text differs."""
    async with await listen("tcp://127.0.0.1:0") as listener, await dial(listener.url) as dialer:
        told = {name: url.replace("127.0.0.1", host) for name, url in listener.endpoints.items()}
        await dialer.attach(told)
        reader = dialer.subscribe("v/")
        await live(listener, reader, "v/")


def test_a_resolver_that_hangs_keeps_no_loop_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    go, asked, answered = threading.Event(), threading.Event(), threading.Event()

    def hang(*about: Any, **named: Any) -> Any:
        asked.set()
        go.wait(DEADLINE)
        answered.set()
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr("amusd_mp.transports.tcp_address.RESOLVE", 0.05)
    try:
        with pytest.raises(AddressError, match=r"'slow\.test' .* was not resolved within 0\.05 s"):
            asyncio.run(dial("tcp://slow.test:5601"))
        assert asked.is_set()
        assert not answered.is_set()
    finally:
        go.set()
