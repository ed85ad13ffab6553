"""The listening end of every relation: introduces diallers, answers their requests, hears their publications.

A dialler exists once its `hello` was taken; who is who, in which life, is the roster's. What a retired or unknown life
sends is counted and dropped. Whatever bytes arrive, the hub lives on. It knows no sequence: requests other than `hello`
go to the owner, publications of known peers likewise.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from amusd_mp import transport
from amusd_mp.codec import DecodeError, OtherProtocol, UnknownType, decode, holds_all
from amusd_mp.core import limits
from amusd_mp.core.ledger import Refusal
from amusd_mp.core.messages import (
    DRAFT_TOPICS,
    Barrier,
    Envelope,
    ErrorCode,
    ErrorReply,
    Hello,
    Message,
    NodeState,
    Reply,
    StatusRequest,
    Submit,
    Welcome,
)
from amusd_mp.core.model import ModelCard
from amusd_mp.core.params import Speculation
from amusd_mp.errors import AmusdError
from amusd_mp.runtime import Runtime
from amusd_mp.security.allow import ROLES
from amusd_mp.security.guard import Guard
from amusd_mp.session.packages import packages
from amusd_mp.session.peer import Peer
from amusd_mp.session.refusals import to_reply, unreadable
from amusd_mp.session.roster import Roster
from amusd_mp.session.sender import Sender

log = logging.getLogger(__name__)

OnRequest = Callable[[Envelope], Awaitable[Reply]]
OnPublication = Callable[[Peer, Envelope], None]
Approve = Callable[[Hello], None]
"""Raises Refusal or an AmusdError if this dialler may not join."""


class Hub:
    """Everything the verify node hears and says. `card` is None until its model is loaded."""

    def __init__(
        self,
        listener: transport.Listener,
        sender: Sender,
        runtime: Runtime,
        *,
        speculation: Speculation,
        approve: Approve,
        on_request: OnRequest,
        on_publication: OnPublication,
        on_leave: Callable[[Peer], None],
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard or Guard()
        self.listener = listener
        self.sender = sender
        self.state = NodeState.LOADING
        self.card: ModelCard | None = None
        self.roster = Roster(on_leave)
        self.counters: Counter[str] = Counter()
        self._runtime = runtime
        self._speculation = speculation
        self._approve = approve
        self._on_request = on_request
        self._on_publication = on_publication
        self._subscription = listener.subscribe(DRAFT_TOPICS)

    def __repr__(self) -> str:
        return f"<Hub {self.listener.url} {self.state} {self.roster!r}>"

    def open(self) -> None:
        """Begin to answer requests."""
        self.listener.serve(self._answer)

    async def listen(self) -> None:
        """Hear publications until cancelled or closed."""
        async for received in self._subscription:
            self._hear(received)

    def hold(self) -> None:
        """Hear nothing until `release`; requests are answered all the same."""
        self.listener.hold()

    def catch_up(self) -> None:
        """Hear at once everything that has arrived, and go on holding."""
        self.listener.catch_up()
        self._hear_waiting()

    def release(self) -> None:
        """Hear again, at once, everything that has arrived."""
        self.listener.release()
        self._hear_waiting()

    def _hear_waiting(self) -> None:
        """Hear what is in the inbox; of messages that say all that those before them said, the last alone."""
        waiting: list[transport.Received] = []
        while (received := self._subscription.get_nowait()) is not None:
            waiting.append(received)
        last = {(each.peer, each.topic): at for at, each in enumerate(waiting) if holds_all(each.payload)}
        for at, each in enumerate(waiting):
            if at < last.get((each.peer, each.topic), 0) and holds_all(each.payload):
                self.counters["superseded"] += 1
            else:
                self._hear(each)

    def publish(self, topic: str, body: Message) -> None:
        """Say something to whoever subscribes. What is too long to be said is counted, and left to the next digest."""
        payload = self.sender.seal(body)
        if len(payload) > limits.PUBLICATION_BYTES:
            self.counters["unsaid"] += 1
            return
        self.listener.publish(topic, payload)

    def counted(self) -> tuple[tuple[str, int], ...]:
        """Return what was refused or lost so far, by reason.

        "frames" are those that were no message at all, "denied_..." connections that did not come about.
        """
        denied = {f"denied_{reason}": count for reason, count in self.listener.denied.items()}
        lost = {"frames": self.listener.refused, "dropped": self._subscription.dropped}
        return tuple(sorted({**self.counters, **denied, **lost}.items()))

    def forget_silent(self, now: float) -> None:
        """Let go of peers that have been silent for too long; to be called every beat."""
        self.roster.forget_silent(now)

    def forget_keys(self, keys: frozenset[str]) -> None:
        """Let go of everybody who came with one of these keys."""
        self.roster.forget_keys(keys)

    # ------------------------------------------------------------------------------------------ publications

    def _hear(self, received: transport.Received) -> None:
        if not self._guard.may_draft(received.peer):
            self.counters["forbidden_publication"] += 1
            return
        try:
            envelope = decode(received.payload)
        except DecodeError as error:
            self.counters["unknown_type" if isinstance(error, UnknownType) else "malformed"] += 1
            return
        peer = self.roster.find(envelope.incarnation, received.peer)
        if peer is None or peer.role != "draft" or peer.node != envelope.node:
            self.counters["stranger"] += 1
            return
        peer.heard = self._runtime.now()
        peer.joined = True
        self._on_publication(peer, envelope)

    # ------------------------------------------------------------------------------------------ requests

    async def _answer(self, payload: bytes, identity: str | None) -> bytes:
        return self.sender.seal(await self._reply(payload, identity))

    async def _reply(self, payload: bytes, key: str | None) -> Message:
        try:
            envelope = decode(payload)
        except OtherProtocol as error:
            self.counters["other_protocol"] += 1
            return ErrorReply(ErrorCode.PROTOCOL, str(error), ours=str(limits.PROTOCOL), theirs=str(error.theirs))
        except DecodeError as error:
            self.counters["malformed"] += 1
            return unreadable(error)
        try:
            self._guard.check(envelope, key)
            if isinstance(envelope.body, Hello):
                return self._welcome(envelope, envelope.body, key)
            self._check_life(envelope, key)
            if (peer := self.roster.find(envelope.incarnation, key)) is not None:
                peer.asked(self._runtime.now())
            if isinstance(envelope.body, Submit):
                self._guard.submitted(envelope.body.sequence, key)
            return await self._on_request(envelope)
        except Refusal as refusal:
            self.counters[f"refused_{refusal.reply.code.value}"] += 1
            return refusal.reply
        except AmusdError as error:
            reply = to_reply(error)
            self.counters[f"refused_{reply.code.value}"] += 1
            return reply
        except Exception as error:
            log.exception("request %s from %s failed", type(envelope.body).__name__, envelope.node)
            return to_reply(error)

    def _check_life(self, envelope: Envelope, key: str | None) -> None:
        meant = getattr(envelope.body, "verify", self.sender.incarnation)
        if isinstance(envelope.body, StatusRequest) and not meant:
            return
        if meant != self.sender.incarnation:
            raise Refusal(ErrorCode.RESTARTED, f"{self.sender.node} was restarted: life {meant} is gone")
        self.roster.check(envelope, key)

    def _welcome(self, envelope: Envelope, hello: Hello, key: str | None) -> Welcome:
        lowest, highest = hello.protocols
        if not lowest <= limits.PROTOCOL <= highest:
            raise Refusal(
                ErrorCode.PROTOCOL,
                f"{envelope.node} speaks protocols {lowest} to {highest}, {self.sender.node} speaks {limits.PROTOCOL}",
                ours=str(limits.PROTOCOL),
                theirs=f"{lowest}-{highest}",
            )
        if hello.role not in ROLES:
            raise Refusal(ErrorCode.FORBIDDEN, f"no role {hello.role!r} here; known: {', '.join(ROLES)}")
        self.roster.check(envelope, key)
        if self.card is None:
            raise Refusal(ErrorCode.NOT_READY, f"{self.sender.node} is loading its model", retry_after=limits.BEAT)
        self._approve(hello)
        self.roster.greet(envelope, hello, key, self._runtime.now())
        if hello.nonce and hello.topic:
            self.publish(hello.topic, Barrier(hello.nonce))
        return Welcome(
            protocol=limits.PROTOCOL,
            state=self.state,
            beat=limits.BEAT,
            liveness=limits.LIVENESS,
            lease=limits.LEASE,
            model=self.card,
            speculation=self._speculation,
            endpoints=tuple(self.listener.endpoints.items()),
            packages=packages(),
        )
