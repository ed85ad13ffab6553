"""The dialling end of a relation with a verify node: found, introduced, subscribed, and kept alive.

`open` says hello until it is answered, attaches publish and subscribe, and proves that what the verify node publishes
from then on arrives (`introduction`). `run` hears publications, says hello again every now and then (which heals
whatever the other side forgot), and tells its owner of two things: the verify node fell silent, or began another life.
The requests of one life never reach another: each names the incarnation it means. It knows no sequence; what silence
means is `pulse`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from amusd_mp import transport
from amusd_mp.codec import DecodeError, UnknownType, decode
from amusd_mp.core import limits
from amusd_mp.core.messages import (
    BEAT_TOPIC,
    Barrier,
    Beat,
    Envelope,
    ErrorReply,
    Hello,
    Message,
    Welcome,
    client_topic,
)
from amusd_mp.core.model import ModelCard
from amusd_mp.errors import Busy, NotReady, ProtocolError, RemoteError, TransportError
from amusd_mp.runtime import Runtime
from amusd_mp.session.introduction import Introduction
from amusd_mp.session.packages import packages
from amusd_mp.session.pulse import Pulse, State
from amusd_mp.session.refusals import to_error
from amusd_mp.session.sender import Sender
from amusd_mp.session.tally import Tally
from amusd_mp.session.tries import ATTEMPT, BACKOFF, BACKOFF_MAX, Tries
from amusd_mp.session.unanswered import PASSING, explain
from amusd_mp.tasks import task_group

log = logging.getLogger(__name__)

KEEPALIVE = limits.LIVENESS / 2  # seconds between hellos

R = TypeVar("R")
OnPublication = Callable[[Envelope], None]


class Link:
    """One dialler's relation with one verify node. `prefixes` are the topics to hear beside the beats.

    on_publication: every message of the current life, barriers left out
    follows:        only publications are a sign of its life, as for a draft, which lives by them: answers may go on
                    while that line is cut
    on_lost:        the verify node is gone or silent for longer than `patience` seconds (`None`), or began another life
                    (its new Welcome); called once per loss, whose reason is in `loss`
    """

    def __init__(
        self,
        url: str,
        sender: Sender,
        runtime: Runtime,
        *,
        role: str,
        prefixes: Sequence[str],
        on_publication: OnPublication,
        on_lost: Callable[[Welcome | None], None],
        card: ModelCard | None = None,
        follows: bool = False,
        patience: float = limits.LIVENESS,
        options: transport.TransportOptions | None = None,
    ) -> None:
        self.url = url
        self.sender = sender
        self.verify = ""  # incarnation of the verify node, "" before the first hello
        self.welcome: Welcome | None = None
        self.loss = ""
        self.counters = Tally(url)
        self._runtime = runtime
        self._role = role
        self._options = options
        self._follows = follows
        self.card = card
        self._topic = client_topic(sender.incarnation)
        self._prefixes = (*prefixes, BEAT_TOPIC)
        self._on_publication = on_publication
        self._on_lost = on_lost
        self._dialer: transport.Dialer | None = None
        self._subscriptions: list[transport.Subscription] = []
        self._attached: tuple[tuple[str, str], ...] = ()
        self._pulse = Pulse(patience)
        self._tries = Tries(runtime)
        self._introduction = Introduction(url, runtime, self._tries, make=self._hello, ask=self._ask)
        self._knock = asyncio.Event()  # say hello now instead of at the next keepalive

    def __repr__(self) -> str:
        return f"<Link {self._role} to {self.url} life {self.verify or '-'} {'alive' if self.alive else 'lost'}>"

    @property
    def alive(self) -> bool:
        """True while the verify node is heard of."""
        return self._pulse.state is State.ALIVE

    @property
    def lost(self) -> bool:
        """True from when a loss was told until the verify node is greeted again."""
        return self._pulse.state is State.LOST

    # ------------------------------------------------------------------------------------------ opening

    async def dial(self) -> None:
        """Resolve the address and prepare to talk. Raises AddressError."""
        if self._dialer is None:
            self._dialer = await transport.dial(self.url, self._options)
            self._subscriptions = [self._dialer.subscribe(prefix) for prefix in self._prefixes]

    def subscribe(self, prefix: str) -> transport.Subscription:
        """Return a further interest in what the verify node publishes, for the caller to read and close."""
        assert self._dialer is not None
        return self._dialer.subscribe(prefix)

    async def open(self, timeout: float) -> Welcome:
        """Say hello until the verify node is ready and what it publishes arrives here, for at most `timeout` seconds.

        `run` must be running. Raises Unreachable, RequestTimeout, RemoteError, NotReady or Busy when the time is over,
        and at once Mismatch, ProtocolError or AccessDenied when this dialler is refused.
        """
        deadline = self._runtime.now() + timeout
        delay = BACKOFF
        while True:
            try:
                return await self._greet(deadline)
            except PASSING as error:
                pause = delay * self._runtime.random.uniform(0.5, 1.5)
                if self._runtime.now() + pause >= deadline:
                    raise explain(error, self.url, timeout) from error
            await asyncio.sleep(pause)
            delay = min(2 * delay, BACKOFF_MAX)

    async def _greet(self, deadline: float) -> Welcome:
        """Say hello; attach and pass the barrier if this life is new here."""
        await self.dial()
        assert self._dialer is not None
        welcome, life = await self._introduction.hello("", deadline)
        if welcome.endpoints != self._attached:
            await self._dialer.attach(dict(welcome.endpoints))
            self._attached = welcome.endpoints
        changed = life != self.verify
        unproven = changed or not self.alive
        if unproven:
            await self._introduction.until_heard(deadline, self._attached)
        before, self.verify, self.welcome = self.verify, life, welcome
        if unproven or not self._follows:
            self._pulse.greeted(self._runtime.now())
        if before and changed:
            log.info("the verify node at %s began another life", self.url)
            self._tell_lost("began another life", welcome)
        return welcome

    def _hello(self, nonce: str) -> Hello:
        return Hello(
            role=self._role,
            protocols=(limits.PROTOCOL, limits.PROTOCOL),
            model=self.card,
            packages=packages(),
            nonce=nonce,
            topic=self._topic if nonce else "",
        )

    # ------------------------------------------------------------------------------------------ requests

    async def call(self, request: Message, expect: type[R], timeout: float = limits.REQUEST_TIMEOUT) -> R:
        """Send a request, again if it goes unanswered, and return its reply; every request is idempotent.

        `timeout` in seconds covers all tries. Raises what the refusal maps to (`session.refusals`), RequestTimeout or
        Unreachable.
        """
        reply = (await self._tries.until_answered(partial(self._ask, request), timeout)).body
        if not isinstance(reply, expect):
            raise ProtocolError(f"{self.url} answered {type(request).__name__} with {type(reply).__name__}")
        return reply

    async def _ask(self, request: Message, timeout: float) -> Envelope:
        assert self._dialer is not None
        payload = await self._dialer.request(self.sender.seal(request), timeout)
        try:
            envelope = decode(payload)
        except DecodeError as error:
            raise RemoteError(f"{self.url} sent an unreadable reply: {error}", address=self.url) from error
        if isinstance(envelope.body, ErrorReply):
            if self._pulse.state is State.SILENT and envelope.incarnation != self.verify and self._pulse.lose():
                self._tell_lost("began another life")  # one that still loads
            raise to_error(envelope.body, self.url)
        if envelope.incarnation == self.verify and not self._follows:
            self._pulse.heard = self._runtime.now()
        return envelope

    def publish(self, topic: str, body: Message) -> None:
        """Say something to the verify node. Nothing is promised; nothing happens before the first hello.

        What is too long to be said is counted.
        """
        if self._dialer is None:
            return
        payload = self.sender.seal(body)
        if len(payload) > limits.PUBLICATION_BYTES:
            self.counters.add("unsaid")
            return
        self._dialer.publish(topic, payload)

    def knock(self) -> None:
        """Say hello soon: something suggests that the other side changed."""
        self._knock.set()

    def hold(self) -> None:
        """Hear nothing until `release`."""
        if self._dialer is not None:
            self._dialer.hold()

    def catch_up(self) -> None:
        """Hear at once everything that has arrived, and go on holding."""
        if self._dialer is not None:
            self._dialer.catch_up()
        self._hear_waiting()

    def release(self) -> None:
        """Hear again, at once, everything that has arrived."""
        if self._dialer is not None:
            self._dialer.release()
        self._hear_waiting()

    def _hear_waiting(self) -> None:
        for subscription in self._subscriptions:
            while (received := subscription.get_nowait()) is not None:
                self._hear(received)

    # ------------------------------------------------------------------------------------------ running

    async def run(self) -> None:
        """Hear, greet and watch until cancelled.

        Raises AddressError as `dial`, and Mismatch, ProtocolError or AccessDenied when refused for good.
        """
        await self.dial()
        async with task_group() as tasks:
            for subscription in self._subscriptions:
                tasks.create_task(self._listen(subscription), name=f"{self._role} listens")
            tasks.create_task(self._keep_greeting(), name=f"{self._role} greets")
            tasks.create_task(self._watch(), name=f"{self._role} watches")

    async def close(self) -> None:
        """Release the connection. Idempotent."""
        if self._dialer is not None:
            await self._dialer.close()

    async def _listen(self, subscription: transport.Subscription) -> None:
        async for received in subscription:
            self._hear(received)

    def _hear(self, received: transport.Received) -> None:
        try:
            envelope = decode(received.payload)
        except DecodeError as error:
            self.counters.add("unknown_type" if isinstance(error, UnknownType) else "malformed", error)
            return
        body = envelope.body
        if isinstance(body, Barrier):
            self._introduction.heard(body)
            return
        if envelope.incarnation != self.verify:
            self.counters.add("other_life")
            if isinstance(body, Beat) and self.verify:
                self.knock()
            return
        self._pulse.heard = self._runtime.now()
        if not self.alive:
            self.knock()
        self._on_publication(envelope)

    async def _keep_greeting(self) -> None:
        """Renew the relation: at every keepalive, and at once when something looks changed."""
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE):
                    await self._knock.wait()
            except TimeoutError:
                pass
            self._knock.clear()
            if not self.verify:
                continue  # `open` is still at it
            try:
                await self._greet(self._runtime.now() + ATTEMPT)
            except (TransportError, NotReady, Busy) as error:
                self.counters.add("unanswered_hello", error)
                if self._dialer is not None and await self._dialer.vacant() and self._pulse.lose():
                    log.warning("nobody listens at %s any more", self.url)
                    self._tell_lost("is gone: nobody listens there any more")

    async def _watch(self) -> None:
        """Notice silence."""
        while True:
            await asyncio.sleep(limits.BEAT)
            now = self._runtime.now()
            if self._pulse.look(now):
                silence = f"has been silent for {self._pulse.silence(now):.1f} s"
                log.warning("the verify node at %s %s", self.url, silence)
                if self._pulse.state is State.LOST:
                    self._tell_lost(silence)

    def _tell_lost(self, loss: str, welcome: Welcome | None = None) -> None:
        self.loss = loss
        self._on_lost(welcome)
