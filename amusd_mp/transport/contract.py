"""The transport contract: bytes only, the weakest promise every network can keep.

A transport is a class found by URL scheme through the entry-point group `amusd_mp.transports`. It knows nothing of
messages, sequences or retries; reliability is written once, above it. The verify node *listens*; draft nodes and
clients only *dial*. One URL is configured per deployment: the listener's. A dialler first has the request verb alone;
the listener's other endpoints (opaque strings, `Listener.endpoints`) reach it inside the first reply, and
`Dialer.attach` opens publish and subscribe from them.

| verb        | promised                                                        | not promised                    |
|-------------|-----------------------------------------------------------------|---------------------------------|
| `publish`   | synchronous, never blocks, never raises for slow/absent readers | delivery, order over reconnects |
| `subscribe` | bounded inbox, overflow dropped and counted, cancel-safe `get`  | history                         |
| `request`   | one reply or one typed error within the deadline, cancel-safe   | exactly-once                    |
| `serve`     | one reply per request, an exception becomes an error reply      | deduplication                   |

Every transport must pass `amusd_mp.testing.conformance`; `inbox` and `handlers` hold the two parts that are the same in
all of them. An end belongs to the event loop it was opened on and is used from its thread alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType, TracebackType
from typing import Self

from amusd_mp.errors import AddressError, TransportClosed
from amusd_mp.transport.credentials import Credentials, KeyPair

Handler = Callable[[bytes, "str | None"], Awaitable[bytes]]
"""Answers one request: (payload, peer identity) -> reply payload."""

ENTRY_POINT_GROUP = "amusd_mp.transports"


@dataclass(frozen=True, slots=True)
class Received:
    """One publication. `peer` is the sender's authenticated identity, None where the transport has none."""

    topic: str
    payload: bytes
    peer: str | None = None


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Limits every transport keeps. Larger payloads are refused locally (ValueError) and dropped when they arrive."""

    max_topic: int = 120  # bytes
    max_publication: int = 64 * 1024  # bytes
    max_request: int = 512 * 1024  # bytes, request and reply alike
    inbox: int = 4096  # publications one subscription holds before it drops the newest
    linger: float = 0.5  # seconds that close may spend on what is still unsent
    credentials: Credentials | None = None  # absent: no encryption, and every peer is None


def check_publication(topic: str, payload: bytes, options: TransportOptions) -> bytes:
    """Return the topic in UTF-8. Raises ValueError for a topic or payload over its limit."""
    name = check_prefix(topic, options)
    if len(payload) > options.max_publication:
        raise ValueError(
            f"the publication on {topic!r} has {len(payload)} bytes; the limit is {options.max_publication}"
        )
    return name


def check_prefix(prefix: str, options: TransportOptions) -> bytes:
    """Return the topic or prefix in UTF-8. Raises ValueError if it is over the limit or cannot be encoded."""
    name = prefix.encode()
    if len(name) > options.max_topic:
        raise ValueError(f"topic {prefix[:40]!r}... has {len(name)} bytes; the limit is {options.max_topic}")
    return name


def check_request(payload: bytes, options: TransportOptions) -> None:
    """Raise ValueError for a request over the limit."""
    if len(payload) > options.max_request:
        raise ValueError(f"the request has {len(payload)} bytes; the limit is {options.max_request}")


class Subscription(ABC):
    """A live interest in one topic prefix. Cancelling a pending `get` loses no message."""

    dropped: int
    """Publications lost because the inbox was full."""

    @abstractmethod
    async def get(self) -> Received:
        """Return the next publication. Raises TransportClosed once closed and empty."""

    @abstractmethod
    def get_nowait(self) -> Received | None:
        """Return the next publication that is already here, or None."""

    @abstractmethod
    def close(self) -> None:
        """End the interest. Idempotent; wakes a pending `get` with TransportClosed."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        try:
            return await self.get()
        except TransportClosed:
            raise StopAsyncIteration from None


class Endpoint(ABC):
    """What both ends can do: publish, subscribe, close."""

    url: str
    """The control URL: what a listener really bound (port 0 resolved), what a dialler dialled."""

    refused: int = 0
    """Arrivals dropped because they were malformed or over a limit."""

    @abstractmethod
    def publish(self, topic: str, payload: bytes) -> None:
        """Send to whoever subscribes now; whole or not at all. To nobody, on a dialler that is not attached.

        Raises ValueError for a topic or payload over its limit, TransportClosed after close. Nothing else.
        """

    @abstractmethod
    def subscribe(self, prefix: str) -> Subscription:
        """Receive every publication of the other side whose topic starts with `prefix` ("" is everything).

        On a dialler that is not attached it starts to live with `attach`. Nothing tells when it does live, so whoever
        must not miss a message asks for one until it comes. Raises ValueError for a prefix over the topic limit,
        TransportClosed after close.
        """

    def hold(self) -> None:  # noqa: B027  # a hint: doing nothing is a right answer
        """Leave publications with the transport until `release`, at its queue's bound.

        For a node that computes on the core its loop runs on: it reads between steps, and a step is not disturbed. A
        transport for which reading costs nothing may ignore this. Idempotent.
        """

    def catch_up(self) -> None:  # noqa: B027  # as above
        """Take what has arrived by now, and go on holding: it is in the inboxes when this returns."""

    def release(self) -> None:  # noqa: B027  # as above
        """Take publications again. What had arrived is in the inboxes when this returns. Idempotent."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything: tasks, sockets, files. Idempotent. Pending calls end with TransportClosed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Listener(Endpoint):
    """The end with the address. Hears what diallers publish; diallers hear what it publishes."""

    endpoints: Mapping[str, str]
    """Opaque strings for `Dialer.attach`. A wildcard host in one means the host that was dialled."""

    @abstractmethod
    def serve(self, handler: Handler) -> None:
        """Answer requests with `handler` from now on, many at a time. To be called once.

        An exception from the handler becomes a RemoteError at the requester and is logged here; the listener lives on.
        Requests beyond what it answers at once wait with their senders. Raises RuntimeError the second time.
        """

    @property
    def denied(self) -> Mapping[str, int]:
        """Connections refused so far, by reason. Empty where a transport refuses nobody."""
        return MappingProxyType({})

    async def readmit(self) -> None:
        """Drop every connection and listen on at the same addresses: whoever is still admitted comes back by itself.

        What is under way may be lost. Subscriptions, handler and endpoints stay. Raises AddressError if an address
        cannot be had again; the listener is then of no more use. Does nothing where nobody is authenticated.
        """


class Dialer(Endpoint):
    """The end that dials out. It finds a listener that starts later or again on the same URL by itself.

    Also where a name in the URL leads to another address by then. Before `attach` only `request` reaches anyone.
    """

    @abstractmethod
    async def request(self, payload: bytes, timeout: float) -> bytes:
        """Send one request and return its reply. `timeout` in seconds covers connecting too.

        Many may be pending at once. Raises Unreachable (no connection was made), RequestTimeout (connected, no reply),
        RemoteError (the handler failed), TransportClosed, ValueError (payload over the limit), and at once AccessDenied
        (one side refuses the other's key, or its want of one). Cancel-safe: the reply
        of an abandoned request is dropped, never handed to another, and a request no connection took is never sent.
        A peer that dies with the request ends it by the timeout, not sooner.
        """

    @abstractmethod
    async def attach(self, endpoints: Mapping[str, str]) -> None:
        """Open publish and subscribe on the listener's other endpoints. Calling again replaces them, or does nothing.

        Existing subscriptions carry over. Raises AddressError for endpoints it cannot read.
        """

    async def vacant(self) -> bool:
        """Return True if it is certain that nobody listens at the address now, as when a connection is refused.

        False where somebody may, or where a transport cannot tell; silence is no evidence. Takes a second at most.
        """
        return False


class Transport(ABC):
    """One URL scheme. Instances are cheap and hold no connection."""

    scheme: str

    authenticates: bool = False
    """Whether `TransportOptions.credentials` are heeded. Where they are not, an end that has some is not opened."""

    def new_keys(self) -> KeyPair:
        """Return a new key pair for `Credentials`. Raises AddressError where nobody is authenticated."""
        raise AddressError(f"{self.scheme}:// knows no keys")

    def public_key(self, secret: str) -> str:
        """Return the public key that belongs to a secret one. Raises AddressError where nobody is authenticated."""
        raise AddressError(f"{self.scheme}:// knows no keys")

    @abstractmethod
    async def listen(self, url: str, options: TransportOptions) -> Listener:
        """Bind. Raises AddressError naming the address and the remedy (taken, not local, malformed)."""

    @abstractmethod
    async def dial(self, url: str, options: TransportOptions) -> Dialer:
        """Prepare to talk to a listener. It need not be there yet.

        Raises AddressError when the address is malformed or its name does not resolve.
        """


def scheme_of(url: str) -> str:
    """Return the scheme of a transport URL. Raises AddressError if it has none."""
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme:
        raise AddressError(f"{url!r} is not a transport URL; write for example tcp://127.0.0.1:5601", address=url)
    return scheme


_INSTEAD: ContextVar[Mapping[str, Transport]] = ContextVar("transports in use", default=MappingProxyType({}))


@contextmanager
def using(transport: Transport) -> Iterator[None]:
    """Have `transport` open the URLs of its scheme, in this context and in the tasks made in it.

    How a test or a simulation puts its own network under code that knows only URLs.
    """
    token = _INSTEAD.set({**_INSTEAD.get(), transport.scheme: transport})
    try:
        yield
    finally:
        _INSTEAD.reset(token)


def find(url: str) -> Transport:
    """Return the transport for a URL's scheme. Raises AddressError listing the known schemes."""
    scheme = scheme_of(url)
    if scheme in _INSTEAD.get():
        return _INSTEAD.get()[scheme]
    known = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if scheme not in known:
        raise AddressError(
            f"no transport for {scheme!r} in {url!r}; installed: {', '.join(sorted(known))}", address=url
        )
    factory = known[scheme].load()
    transport = factory()
    assert isinstance(transport, Transport)
    return transport


async def listen(url: str, options: TransportOptions | None = None) -> Listener:
    """Bind a URL with the transport of its scheme. Raises AddressError as that does, and for credentials in vain."""
    return await _heeding(url, options).listen(url, options or TransportOptions())


async def dial(url: str, options: TransportOptions | None = None) -> Dialer:
    """Dial a URL with the transport of its scheme. Raises AddressError as that does, and for credentials in vain."""
    return await _heeding(url, options).dial(url, options or TransportOptions())


def _heeding(url: str, options: TransportOptions | None) -> Transport:
    """Return the transport for a URL; one that would ignore the credentials given is refused, not trusted."""
    transport = find(url)
    if options is not None and options.credentials is not None and not transport.authenticates:
        raise AddressError(
            f"{url!r}: {transport.scheme}:// proves no keys, and [security] asks for them; use tcp:// or ipc://, or"
            " remove the keys",
            address=url,
        )
    return transport
