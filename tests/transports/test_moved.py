"""Rule: who dialled a name finds its listener where the name leads by now, and stays where it was if that is none."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from ports import free_ports
from stubs import until

from amusd_mp.testing.conformance import answered, echo, live
from amusd_mp.transport import dial, listen

NAME = "verify.test"
HOSTS = ("127.0.0.1", "127.0.0.2")


def has_two_loopbacks() -> bool:
    try:
        with socket.socket() as probe:
            probe.bind((HOSTS[1], 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_two_loopbacks(), reason="this machine has one loopback address")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Where NAME leads; without an entry it does not resolve. Diallers look again at once."""
    known = {NAME: HOSTS[0]}
    lookup = socket.getaddrinfo

    def look(host: Any, *rest: Any, **named: Any) -> Any:
        if host == NAME and NAME not in known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return lookup(known.get(host, host), *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look)
    monkeypatch.setattr("amusd_mp.transports.zeromq_dialer.LOOK", 0.02)
    return known


async def test_a_listener_is_found_at_its_names_other_address_and_back(names: dict[str, str]) -> None:
    """Attached once: where the listener says the same of its endpoints, nobody above has a reason to attach again."""
    port = free_ports()
    async with await dial(f"tcp://{NAME}:{port}") as dialer:
        reader = dialer.subscribe("v/")
        for number, host in enumerate((*HOSTS, HOSTS[0])):
            names[NAME] = host
            async with await listen(f"tcp://{host}:{port}") as listener:
                listener.serve(echo)
                inbox = listener.subscribe("d/")
                assert await answered(dialer, host.encode()) == host.encode()
                if not number:
                    await dialer.attach({name: url.replace(host, "*") for name, url in listener.endpoints.items()})
                await live(listener, reader, "v/")
                await live(dialer, inbox, "d/")


async def test_a_name_that_leads_nowhere_for_a_while_is_no_loss(names: dict[str, str]) -> None:
    port = free_ports()
    async with await dial(f"tcp://{NAME}:{port}") as dialer:
        del names[NAME]
        for payload in (b"first", b"second"):
            async with await listen(f"tcp://{HOSTS[0]}:{port}") as listener:
                listener.serve(echo)
                assert await answered(dialer, payload) == payload


async def test_whether_anybody_listens_is_asked_where_the_name_leads_by_now(names: dict[str, str]) -> None:
    port = free_ports()
    with socket.create_server((HOSTS[0], port)):  # somebody else has the address now
        async with await dial(f"tcp://{NAME}:{port}") as dialer:
            assert not await dialer.vacant()
            names[NAME] = HOSTS[1]
            await until(dialer.vacant)
