"""A plain ZeroMQ program needs no framework to talk to a listener, and no bytes it sends can hurt one."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import pytest
import zmq

from amusd_mp.errors import RequestTimeout, Unreachable
from amusd_mp.testing.conformance import DEADLINE, SOON, answered, echo, live, take
from amusd_mp.transport import Listener, TransportOptions, dial, listen

T = TypeVar("T")


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """The context of a program that knows nothing of this project."""
    own: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield own
    own.destroy(linger=0)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with await listen("tcp://127.0.0.1:0", TransportOptions(max_request=5000)) as own:
        yield own


def plain(context: zmq.Context[zmq.Socket[bytes]], kind: zmq.SocketType, address: str) -> zmq.Socket[bytes]:
    peer = context.socket(kind)
    peer.setsockopt(zmq.RCVTIMEO, int(DEADLINE * 1000))
    peer.setsockopt(zmq.SNDTIMEO, int(DEADLINE * 1000))
    peer.setsockopt(zmq.LINGER, 0)
    peer.connect(address)
    return peer


async def aside(call: Callable[[], T]) -> T:
    """Run a blocking peer beside the loop, as another process would."""
    return await asyncio.to_thread(call)


async def test_a_plain_req_reads_the_reply_as_one_message(
    listener: Listener, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    listener.serve(echo)
    peer = plain(context, zmq.REQ, listener.url)

    def talk(payload: bytes) -> list[bytes]:
        peer.send(payload)
        return peer.recv_multipart()

    assert [await aside(lambda p=p: talk(p)) for p in (b"one", b"", b"two")] == [[b"one"], [b""], [b"two"]]


async def test_a_correlating_req_goes_on_after_a_lost_reply(
    listener: Listener, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    release = asyncio.Event()

    async def slow_once(payload: bytes, peer: str | None) -> bytes:
        if payload == b"lost":
            await release.wait()
        return payload

    listener.serve(slow_once)
    peer = context.socket(zmq.REQ)
    peer.setsockopt(zmq.REQ_RELAXED, 1)
    peer.setsockopt(zmq.REQ_CORRELATE, 1)
    peer.setsockopt(zmq.RCVTIMEO, int(DEADLINE * 1000))
    peer.connect(listener.url)

    def talk() -> bytes:
        peer.send(b"lost")
        peer.send(b"kept")
        return peer.recv()

    assert await aside(talk) == b"kept"
    release.set()


async def test_a_plain_req_reads_a_failure_as_text(listener: Listener, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    async def fail(payload: bytes, peer: str | None) -> bytes:
        raise KeyError("nothing here")

    listener.serve(fail)
    peer = plain(context, zmq.REQ, listener.url)

    def talk(payload: bytes) -> list[bytes]:
        peer.send(payload)
        return peer.recv_multipart()

    assert await aside(lambda: talk(b"")) == [b"error: KeyError: 'nothing here'"]
    assert (await aside(lambda: talk(bytes(5001))))[0].startswith(b"error: the request has 5001 bytes")


async def test_a_plain_sub_reads_topic_and_payload(listener: Listener, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    peer = plain(context, zmq.SUB, listener.endpoints["pub"])
    peer.setsockopt(zmq.SUBSCRIBE, b"v/")
    async with asyncio.timeout(DEADLINE):
        while not await aside(lambda: peer.poll(10)):
            listener.publish("v/a", b"payload")
            listener.publish("w/a", b"not asked for")
    assert await aside(peer.recv_multipart) == [b"v/a", b"payload"]


async def test_a_plain_pub_is_heard(listener: Listener, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    inbox = listener.subscribe("d/")
    peer = plain(context, zmq.PUB, listener.endpoints["sub"])
    async with asyncio.timeout(DEADLINE):
        while (message := inbox.get_nowait()) is None:
            peer.send_multipart([b"d/a", b"window"])
            await aside(lambda: peer.poll(5, zmq.POLLIN))
    assert (message.topic, message.payload) == ("d/a", b"window")


def garbage(source: random.Random) -> list[bytes]:
    """Return a random multipart message, often nearly right."""
    pieces = [b"", b"Q", b"Q" + bytes(8), b"R" + bytes(8), b"\xff\xfe", b"d/", b"\x01v/", b"\x00"]
    return [source.choice([*pieces, source.randbytes(source.randrange(300))]) for _ in range(source.randrange(1, 12))]


async def test_garbage_frames_hurt_nobody(listener: Listener, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Every socket gets hundreds of random messages from peers of every kind; a good peer goes on throughout."""
    source = random.Random(7)
    listener.serve(echo)
    inbox = listener.subscribe("good/")
    async with await dial(listener.url) as good:
        await good.attach(listener.endpoints)
        reader = good.subscribe("v/")
        await live(listener, reader, "v/")
        await live(good, inbox, "good/")
        targets = [
            plain(context, zmq.DEALER, listener.url),
            plain(context, zmq.XSUB, listener.endpoints["pub"]),
            plain(context, zmq.XPUB, listener.endpoints["sub"]),
            plain(context, zmq.PUB, listener.endpoints["sub"]),
        ]
        for n in range(200):
            for peer in targets:
                peer.send_multipart(garbage(source), zmq.DONTWAIT)
            assert await good.request(b"%d" % n, DEADLINE) == b"%d" % n
            listener.publish("v/n", b"%d" % n)
            assert (await take(reader)).payload == b"%d" % n
        await live(good, inbox, "good/")
    assert listener.refused > 0


async def test_bytes_that_are_not_zeromq_hurt_nobody(listener: Listener) -> None:
    source = random.Random(8)
    listener.serve(echo)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
    async with await dial(listener.url) as good:
        await good.attach(listener.endpoints)
        for address in (listener.url, *listener.endpoints.values()):
            for opening in (b"", b"GET / HTTP/1.1\r\n\r\n", greeting, greeting[:20]):
                for _ in range(5):
                    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as raw:
                        raw.sendall(opening + source.randbytes(source.randrange(2000)))
                assert await good.request(opening, DEADLINE) == opening
        reader = good.subscribe("v/")
        await live(listener, reader, "v/")


async def test_a_dialler_survives_garbage_from_its_listener(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    source = random.Random(9)
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    router.setsockopt(zmq.RCVTIMEO, int(DEADLINE * 1000))
    async with await dial(f"tcp://127.0.0.1:{port}") as dialer:
        for n in range(50):
            request = asyncio.get_running_loop().create_task(dialer.request(b"%d" % n, DEADLINE), name="request")
            frames = await aside(router.recv_multipart)
            for _ in range(5):
                router.send_multipart([frames[0], *garbage(source)])
            router.send_multipart([frames[0], b"R" + frames[1][1:], b"", b"%d" % n])
            assert await request == b"%d" % n
        assert dialer.refused > 0


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a web server does to what it does not understand."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100))
    await writer.drain()
    writer.close()


async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hang up at once, as a proxy with nothing behind it does."""
    writer.close()


async def test_a_port_that_hangs_up_is_told_from_one_that_is_silent() -> None:
    async with await asyncio.start_server(slam, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with await dial(f"tcp://127.0.0.1:{port}") as dialer:
            with pytest.raises(Unreachable, match="something there"):
                await dialer.request(b"hello", SOON)


async def test_a_port_that_did_not_speak_zeromq_is_forgiven_later() -> None:
    async with await asyncio.start_server(web, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with await dial(f"tcp://127.0.0.1:{port}") as dialer:
            # ZeroMQ may take what it reads for its own first version, and then the request counts as sent
            with pytest.raises((Unreachable, RequestTimeout)):
                await dialer.request(b"hello", SOON)
            server.close()
            await server.wait_closed()
            async with await listen(f"tcp://127.0.0.1:{port}") as listener:
                listener.serve(echo)
                assert await answered(dialer, b"hello") == b"hello"


async def test_a_frame_over_the_limit_from_the_listener_does_not_deafen_a_dialler() -> None:
    async with (
        await listen("tcp://127.0.0.1:0") as listener,
        await dial(listener.url, TransportOptions(max_publication=100, max_request=1000)) as dialer,
    ):

        async def verbose(payload: bytes, peer: str | None) -> bytes:
            return bytes(500_000) if payload == b"all" else payload

        listener.serve(verbose)
        await dialer.attach(listener.endpoints)
        reader = dialer.subscribe("v/")
        await live(listener, reader, "v/")
        listener.publish("v/long", bytes(60_000))
        with pytest.raises((RequestTimeout, Unreachable)):
            await dialer.request(b"all", SOON)
        assert await answered(dialer, b"some") == b"some"
        await live(listener, reader, "v/")
