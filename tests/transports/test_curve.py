"""CURVE: who is refused and how that is told, whose messages they are, and how one peer is shut out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from types import MappingProxyType

import pytest
import zmq
from keyring import dialling, new_keys
from ports import free_ports
from stubs import until

from amusd_mp.errors import AccessDenied, AddressError, RequestTimeout, Unreachable
from amusd_mp.testing.conformance import DEADLINE, SOON, TransportConformance, answered, connected, live, take
from amusd_mp.transport import (
    Credentials,
    Dialer,
    KeyPair,
    Listener,
    Transport,
    TransportOptions,
    contract,
    dial,
    find,
    listen,
)

SERVER, KNOWN, OTHER, STRANGER = (new_keys() for _ in range(4))


async def tell(payload: bytes, peer: str | None) -> bytes:
    """Answer with whom the request is from."""
    return str(peer).encode()


class Secured(Transport):
    """tcp whose every end has keys: what the conformance suite opens without knowing of any."""

    scheme = "tcp"
    authenticates = True

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        own = Credentials(SERVER, admits=lambda key: key == KNOWN.public)
        return await self._inner.listen(url, replace(options, credentials=own))

    async def dial(self, url: str, options: TransportOptions) -> Dialer:
        return await self._inner.dial(url, replace(options, credentials=Credentials(KNOWN, SERVER.public)))


class TestConformanceUnderCurve(TransportConformance):
    """The whole suite: keys on both ends change nothing of the contract."""

    transports = MappingProxyType({"tcp": Secured(find("tcp://"))})

    @pytest.fixture(autouse=True)
    def _secured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(contract, "_INSTEAD", ContextVar("secured", default=self.transports))

    def url(self) -> str:
        return f"tcp://127.0.0.1:{free_ports()}"


@dataclass
class Place:
    """A listener and whom it admits, to be changed at will."""

    listener: Listener
    admitted: set[str]


@pytest.fixture(params=["tcp", "ipc"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with TemporaryDirectory(prefix="amusd-") as folder:
        yield "tcp://127.0.0.1:0" if request.param == "tcp" else f"ipc://{folder}/v"


@pytest.fixture
async def place(url: str) -> AsyncIterator[Place]:
    admitted = {KNOWN.public, OTHER.public}
    own = TransportOptions(credentials=Credentials(SERVER, admits=admitted.__contains__))
    async with await listen(url, own) as listener:
        listener.serve(tell)
        yield Place(listener, admitted)


async def joined(place: Place, own: KeyPair) -> Dialer:
    """A dialler with these keys, attached."""
    dialer = await dial(place.listener.url, dialling(own, SERVER))
    assert await dialer.request(b"", DEADLINE) == own.public.encode()
    await dialer.attach(place.listener.endpoints)
    return dialer


@pytest.mark.parametrize(
    ("options", "reason", "counted"),
    [
        (dialling(STRANGER, SERVER), "does not know this end's key .*allow-list", "unknown_key"),
        (dialling(KNOWN, STRANGER), "does not have the key .*another node, or its key was changed", "failed_handshake"),
        (TransportOptions(), "only to holders of a key .*give it a key of its own", "failed_handshake"),
    ],
    ids=["unknown key", "wrong server key", "no key"],
)
async def test_a_refusal_is_told_at_once_and_counted(
    place: Place, options: TransportOptions, reason: str, counted: str
) -> None:
    url = place.listener.url
    async with await dial(url, options) as dialer:
        with pytest.raises(AccessDenied, match=reason) as caught:
            await dialer.request(b"", 2 * DEADLINE)  # the deadline is never met
        assert caught.value.address == url
        assert url in str(caught.value)
        with pytest.raises(AccessDenied):
            await dialer.request(b"", 2 * DEADLINE)
    assert place.listener.denied[counted] >= 1
    async with await joined(place, KNOWN):
        pass  # nobody else is affected


async def test_a_listener_too_busy_for_handshakes_is_not_taken_for_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amusd_mp.transports.zeromq_socket.HANDSHAKE", 100)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\x01" + bytes(31)
    attempts = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.write(greeting)  # what libzmq's own thread does; the rest waits for a loop that is busy elsewhere
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, await dial(url, dialling(KNOWN, SERVER)) as dialer:
        asking = asyncio.ensure_future(dialer.request(b"", 2 * DEADLINE))
        await until(lambda: attempts >= 8 or asking.done())
        assert not asking.done()  # silence proves nothing of the key there
        asking.cancel()
        with pytest.raises((RequestTimeout, Unreachable), match=r"does not answer|did not reply"):
            await dialer.request(b"", 0.5)


async def test_keys_are_not_given_to_a_listener_without_any(url: str) -> None:
    async with await listen(url) as listener, await dial(listener.url, dialling(KNOWN, SERVER)) as dialer:
        listener.serve(tell)
        with pytest.raises(AccessDenied, match="neither encrypts nor proves"):
            await dialer.request(b"", 2 * DEADLINE)


async def test_a_plain_zeromq_socket_gets_nowhere_and_hurts_nobody(place: Place) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        peer = context.socket(zmq.DEALER)
        peer.connect(place.listener.url)
        peer.send_multipart([b"", b"hello"])
        await until(lambda: "failed_handshake" in place.listener.denied)
        assert not peer.poll(0)
        async with await joined(place, KNOWN):
            pass
    finally:
        context.destroy(linger=0)


async def test_requests_and_publications_carry_the_senders_key(place: Place) -> None:
    inbox = place.listener.subscribe("d/")
    async with await joined(place, KNOWN) as one, await joined(place, OTHER) as two:
        await live(one, inbox, "d/")
        await live(two, inbox, "d/")
        one.publish("d/x", b"")
        assert (await take(inbox)).peer == KNOWN.public
        two.publish("d/x", b"")
        assert (await take(inbox)).peer == OTHER.public


async def test_without_keys_nobody_has_an_identity() -> None:
    async with connected("tcp://127.0.0.1:0") as (listener, (dialer,)):
        inbox = listener.subscribe("d/")
        await live(dialer, inbox, "d/")
        dialer.publish("d/x", b"")
        assert (await take(inbox)).peer is None


async def test_readmitting_shuts_out_whoever_lost_admission_and_nobody_else(place: Place) -> None:
    inbox = place.listener.subscribe("d/")
    address = (place.listener.url, place.listener.endpoints)
    async with await joined(place, KNOWN) as one, await joined(place, OTHER) as two:
        readers = {dialer: dialer.subscribe("v/") for dialer in (one, two)}
        for dialer, reader in readers.items():
            await live(dialer, inbox, "d/")
            await live(place.listener, reader, "v/")
        place.admitted.remove(OTHER.public)
        await place.listener.readmit()
        assert (place.listener.url, place.listener.endpoints) == address
        with pytest.raises((RequestTimeout, AccessDenied)):  # lost on the way, or refused
            await two.request(b"", SOON)
        await until(lambda: place.listener.denied.get("unknown_key", 0) > 0)
        with pytest.raises(AccessDenied, match="knows it no more"):
            await two.request(b"", DEADLINE)
        assert await answered(one, b"") == KNOWN.public.encode()
        while inbox.get_nowait() is not None:
            pass
        await live(one, inbox, "d/")
        await live(place.listener, readers[one], "v/")
        while readers[two].get_nowait() is not None:
            pass
        two.publish("d/x", b"not any more")
        place.listener.publish("v/x", b"not for everybody")
        one.publish("d/x", b"still here")
        assert (await take(inbox)).payload == b"still here"
        assert (await take(readers[one])).payload == b"not for everybody"
        assert readers[two].get_nowait() is None

        place.admitted.add(OTHER.public)  # and back: the dialler tries by itself

        async def back() -> bool:
            try:
                return await two.request(b"", DEADLINE) == OTHER.public.encode()
            except AccessDenied:
                return False

        await until(back)


async def test_a_delayed_link_has_the_same_keys(place: Place) -> None:
    async with await dial(f"delay://1/{place.listener.url}", dialling(KNOWN, SERVER)) as dialer:
        assert await dialer.request(b"", DEADLINE) == KNOWN.public.encode()


@pytest.mark.parametrize("url", ["inproc://vault", "delay://1/inproc://vault"])
async def test_a_transport_that_proves_nothing_is_not_opened_with_keys(url: str) -> None:
    with pytest.raises(AddressError, match="proves no keys"):
        await dial(url, dialling(KNOWN, SERVER))


async def test_a_message_of_too_many_frames_is_let_go_and_counted(place: Place) -> None:
    """Also one of so many that reading it would keep the loop from everything else."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    own = KNOWN
    try:
        peers = [(zmq.DEALER, place.listener.url), (zmq.PUB, place.listener.endpoints["sub"])]
        inbox = place.listener.subscribe("")
        async with await joined(place, OTHER) as good:
            for count, (kind, address) in enumerate(peers, start=1):
                peer = context.socket(kind)
                peer.curve_publickey, peer.curve_secretkey = own.public.encode(), own.secret.encode()
                peer.curve_serverkey = SERVER.public.encode()
                peer.connect(address)
                if kind == zmq.PUB:
                    async with asyncio.timeout(DEADLINE):
                        while inbox.get_nowait() is None:
                            peer.send_multipart([b"d/x", b""])
                            await asyncio.sleep(0.005)
                await asyncio.to_thread(peer.send_multipart, [b""] * 20_000)
                async with asyncio.timeout(DEADLINE):
                    while place.listener.refused < count:
                        assert await good.request(b"", DEADLINE) == OTHER.public.encode()
                peer.send_multipart(
                    [b"", b""] if kind == zmq.DEALER else [b"d/last", b""]
                )  # the next one is read again
                if kind == zmq.DEALER:
                    assert await asyncio.to_thread(peer.recv_multipart) == [b"", own.public.encode()]
                else:
                    while (await take(inbox)).topic != "d/last":
                        pass
        assert place.listener.refused == 2
    finally:
        context.destroy(linger=0)


async def test_clients_that_are_gone_at_once_are_not_counted_as_denied(url: str) -> None:
    async with await listen(url) as listener:
        listener.serve(tell)
        for _ in range(20):
            async with await dial(listener.url) as brief:
                await brief.attach(listener.endpoints)
        async with await dial(listener.url) as dialer:
            await dialer.request(b"", DEADLINE)
        assert not listener.denied
