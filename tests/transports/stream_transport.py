"""A transport a stranger might write: `stream://host:port`, length-prefixed messages over one asyncio TCP connection.

It uses nothing of ours but the contract and its two helpers, and is found through an entry point like any other. One
connection carries everything; each frame is length, kind, number, topic length, topic, payload. Interest is filtered
by the reader. A full connection loses publications and keeps requests waiting.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

from amusd_mp.errors import AddressError, RemoteError, RequestTimeout, TransportClosed, TransportError, Unreachable
from amusd_mp.transport import (
    Dialer,
    Endpoint,
    Handler,
    Listener,
    Received,
    Subscription,
    Transport,
    TransportOptions,
    check_prefix,
    check_publication,
    check_request,
)
from amusd_mp.transport.handlers import Handlers
from amusd_mp.transport.inbox import Inbox

HEAD = struct.Struct(">IcQH")  # payload length, kind, number, topic length
QUESTION, REPLY, ERROR, PUBLICATION = b"Q", b"R", b"E", b"P"
BACKLOG = 16 * 1024 * 1024  # bytes unsent on a connection beyond which publications are lost
RETRY = 0.02  # seconds between attempts to connect


async def read(reader: asyncio.StreamReader, longest: int) -> tuple[bytes, int, bytes, bytes]:
    """Return the next frame. Raises OSError or EOFError when the connection is over, also for a frame too long."""
    size, kind, number, topic_size = HEAD.unpack(await reader.readexactly(HEAD.size))
    if size > longest:
        raise ConnectionAbortedError(f"a frame of {size} bytes")
    topic = await reader.readexactly(topic_size)
    return kind, number, topic, await reader.readexactly(size)


def write(writer: asyncio.StreamWriter, kind: bytes, number: int, topic: bytes, payload: bytes) -> None:
    if not writer.is_closing():
        writer.write(HEAD.pack(len(payload), kind, number, len(topic)) + topic + payload)


class StreamEndpoint(Endpoint):
    def __init__(self, url: str, options: TransportOptions) -> None:
        self.url = url
        self.options = options
        self.closed = False
        self.inboxes: list[Inbox] = []
        self.writers: set[asyncio.StreamWriter] = set()

    def publish(self, topic: str, payload: bytes) -> None:
        name = check_publication(topic, payload, self.options)
        self.check_open()
        for writer in self.writers:
            if writer.transport.get_write_buffer_size() < BACKLOG:
                write(writer, PUBLICATION, 0, name, payload)

    def subscribe(self, prefix: str) -> Subscription:
        check_prefix(prefix, self.options)
        self.check_open()
        inbox = Inbox(prefix, self.options.inbox, self.inboxes.remove)
        self.inboxes.append(inbox)
        return inbox

    def deliver(self, topic: bytes, payload: bytes) -> None:
        if len(topic) > self.options.max_topic or len(payload) > self.options.max_publication:
            self.refused += 1
            return
        message = Received(topic.decode(), payload)
        for inbox in self.inboxes:
            if message.topic.startswith(inbox.prefix):
                inbox.push(message)

    @property
    def longest(self) -> int:
        return 2 * max(self.options.max_request, self.options.max_publication)

    def check_open(self) -> None:
        if self.closed:
            raise TransportClosed(f"{self.url} is closed", address=self.url)

    def end(self) -> None:
        self.closed = True
        for inbox in list(self.inboxes):
            inbox.close()
        for writer in self.writers:
            writer.transport.abort()


class StreamListener(StreamEndpoint, Listener):
    endpoints: Mapping[str, str]
    server: asyncio.Server

    def __init__(self, url: str, options: TransportOptions) -> None:
        super().__init__(url, options)
        self.handlers = Handlers(url, options.max_request, self.on_room)
        self.room = asyncio.Event()
        self.connections: set[asyncio.Task[None]] = set()

    def serve(self, handler: Handler) -> None:
        self.handlers.install(handler)

    def on_room(self) -> None:
        self.room.set()

    async def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self.closed:
            writer.transport.abort()
            return
        self.connections.add(task)
        self.writers.add(writer)
        try:
            while True:
                kind, number, topic, payload = await read(reader, self.longest)
                if kind == PUBLICATION:
                    self.deliver(topic, payload)
                elif len(payload) > self.options.max_request:
                    write(writer, ERROR, number, b"", b"the request is too long")
                else:
                    while not self.handlers.ready:
                        self.room.clear()
                        await self.room.wait()
                    self.handlers.start(payload, None, partial(self.reply, writer, number))
        except (OSError, EOFError):
            self.refused += 0  # the dialler is gone, or was cut off; it may come again
        finally:
            self.writers.discard(writer)
            self.connections.discard(task)
            writer.transport.abort()

    def reply(self, writer: asyncio.StreamWriter, number: int, payload: bytes, failed: bool) -> None:
        write(writer, ERROR if failed else REPLY, number, b"", payload)

    async def close(self) -> None:
        self.end()
        self.server.close()
        await self.handlers.close()
        tasks = set(self.connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes an aborted connection's socket in its next round


class StreamDialer(StreamEndpoint, Dialer):
    def __init__(self, url: str, host: str, port: int, options: TransportOptions) -> None:
        super().__init__(url, options)
        self.host, self.port = host, port
        self.attached = False
        self.number = 0
        self.pending: dict[int, asyncio.Future[bytes]] = {}
        self.unsent: dict[int, bytes] = {}
        self.link: asyncio.StreamWriter | None = None
        self.task = asyncio.get_running_loop().create_task(self.run(), name=f"{url} connection")

    async def run(self) -> None:
        while True:
            try:
                reader, self.link = await asyncio.open_connection(self.host, self.port)
            except OSError:
                await asyncio.sleep(RETRY)
                continue
            try:
                if self.attached:
                    self.writers.add(self.link)
                for number in list(self.unsent):
                    write(self.link, QUESTION, number, b"", self.unsent.pop(number))
                while True:
                    self.take(*await read(reader, self.longest))
            except (OSError, EOFError):
                await asyncio.sleep(RETRY)
            finally:
                self.writers.discard(self.link)
                self.link.transport.abort()
                self.link = None

    def take(self, kind: bytes, number: int, topic: bytes, payload: bytes) -> None:
        if kind == PUBLICATION:
            if self.attached:
                self.deliver(topic, payload)
            return
        future = self.pending.get(number)
        if future is None or future.done():
            return
        if kind == ERROR:
            future.set_exception(RemoteError(payload.decode(errors="replace"), address=self.url))
        else:
            future.set_result(payload)

    async def request(self, payload: bytes, timeout: float) -> bytes:
        check_request(payload, self.options)
        self.check_open()
        self.number += 1
        number = self.number
        future = self.pending[number] = asyncio.get_running_loop().create_future()
        if self.link is None:
            self.unsent[number] = payload
        else:
            write(self.link, QUESTION, number, b"", payload)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            error: type[TransportError] = Unreachable if number in self.unsent else RequestTimeout
            raise error(f"nobody answers at {self.url} within {timeout:g} s", address=self.url) from None
        finally:
            del self.pending[number]
            self.unsent.pop(number, None)

    async def attach(self, endpoints: Mapping[str, str]) -> None:
        self.check_open()
        if endpoints.get("stream") != "same":
            raise AddressError(f"{dict(endpoints)} are not endpoints of a stream listener", address=self.url)
        self.attached = True
        if self.link is not None:
            self.writers.add(self.link)

    async def close(self) -> None:
        self.end()
        for future in self.pending.values():
            if not future.done():
                future.set_exception(TransportClosed(f"{self.url} was closed", address=self.url))
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes an aborted connection's socket in its next round


class StreamTransport(Transport):
    scheme = "stream"

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        parts = urlsplit(url)
        listener = StreamListener(url, options)
        try:
            listener.server = await asyncio.start_server(listener.on_connection, parts.hostname, parts.port)
        except OSError as error:
            raise AddressError(f"{url} is taken: {error.strerror}", address=url) from error
        host, port = listener.server.sockets[0].getsockname()[:2]
        listener.url = f"stream://{host}:{port}"
        listener.endpoints = {"stream": "same"}
        return listener

    async def dial(self, url: str, options: TransportOptions) -> Dialer:
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise AddressError(f"{url} is not stream://host:port", address=url)
        return StreamDialer(url, parts.hostname, parts.port, options)
