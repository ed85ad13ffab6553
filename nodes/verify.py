"""The verify node: the large model, the only authority on tokens, and the one address of a deployment.

One loop: take what is valid now, score it in one forward pass, commit, publish. It never waits for a draft longer than
waiting pays, so drafts may join, leave, hang or lie without changing a token. Requests come through the desk, windows
through the hub; the device has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial

from amusd_mp import transport
from amusd_mp.core import limits
from amusd_mp.core.ledger import Refusal
from amusd_mp.core.messages import (
    BEAT_TOPIC,
    Cancel,
    Committed,
    Draft,
    Drain,
    Draining,
    Envelope,
    ErrorCode,
    Finish,
    Hello,
    NodeState,
    Opened,
    Reply,
    StatusRequest,
    StepTrace,
    Watch,
    Watching,
    sequence_topic,
    trace_topic,
)
from amusd_mp.core.model import Loaded
from amusd_mp.core.rounds import RoundMeter
from amusd_mp.core.verify import VerifyCore
from amusd_mp.core.verify_sequence import VerifySequence
from amusd_mp.desk import Desk
from amusd_mp.node import Node, NodeContext
from amusd_mp.runtime import OnProgress
from amusd_mp.security.guard import Guard
from amusd_mp.session.beats import Beats
from amusd_mp.session.device_watch import DeviceWatch
from amusd_mp.session.fitness import compare
from amusd_mp.session.hub import Hub
from amusd_mp.session.peer import Peer
from amusd_mp.session.quiet import Quiet
from amusd_mp.session.report import report
from amusd_mp.session.sender import Sender
from amusd_mp.session.trace import Tracer, honest
from amusd_mp.tasks import task_group

log = logging.getLogger(__name__)


class VerifyNode(Node):
    """Decides. See `amusd_mp.node.Node` for the life of a node."""

    def __init__(self, context: NodeContext) -> None:
        super().__init__(context)
        self._runtime = context.runtime
        self._sender = Sender(context.name, self._runtime.new_id())
        self._device = self._runtime.executor(f"{context.name}-device")
        self._hub: Hub | None = None
        self._loaded: Loaded | None = None
        self._core = VerifyCore(rows=0, vocabulary=0)
        self._rounds = RoundMeter()
        self._desk: Desk | None = None
        self._work = asyncio.Event()
        self._draining = False
        self._began = 0.0
        self._device_watch = DeviceWatch(context.name, self._runtime.now)
        self._beats = Beats(self._device_watch)
        self._tracer = Tracer("verify", self._runtime.now)
        self._guard = Guard()

    # ------------------------------------------------------------------------------------------ life

    async def open(self) -> dict[str, object]:
        self._began = self._runtime.now()
        self._guard = Guard.of(self.context.deployment, self.context.name)
        listener = await transport.listen(self.context.config.listen or "tcp://127.0.0.1:5601", self._guard.options)
        self._hub = Hub(
            listener,
            self._sender,
            self._runtime,
            speculation=self.context.deployment.speculation,
            approve=self._approve,
            on_request=self._answer,
            on_publication=self._hear,
            on_leave=self._leave,
            guard=self._guard,
        )
        self._hub.open()
        return {"url": listener.url, "endpoints": dict(listener.endpoints), "incarnation": self._sender.incarnation}

    async def load(self, progress: OnProgress) -> None:
        assert self._hub is not None
        context = self.context
        loaded = await self._device.run(lambda: context.load_model(context.config.spec(), progress))
        self._loaded = loaded
        card = loaded.model.card
        self._core = VerifyCore(loaded.model.rows, card.fingerprint.vocabulary, padding=loaded.model.padding)
        self._desk = Desk(
            self._core,
            card,
            loaded.tokenizer,
            self._runtime,
            speculation=context.deployment.speculation,
            publish=self._publish,
            on_work=self._work.set,
        )
        self._desk.draining = self._draining
        self._hub.card = card
        self._hub.state = NodeState.DRAINING if self._draining else NodeState.READY

    async def serve(self) -> None:
        assert self._hub is not None
        try:
            async with task_group() as tasks:
                hearing = tasks.create_task(self._hub.listen(), name=f"{self.context.name} hears")
                beating = tasks.create_task(self._beat(), name=f"{self.context.name} beats")
                guarding = tasks.create_task(self._guard.watch(self._revoke), name=f"{self.context.name} guards")
                await self._compute()
                if self._desk is not None:
                    await self._desk.answer_arriving()
                    await self._desk.linger()
                for task in (hearing, beating, guarding):
                    task.cancel()
        finally:
            self._end_all(Finish.ERROR)  # nothing is left after a drain; after a failure clients must not wait
            self._tell()  # a failure's, too: the last word on every sequence

    def drain(self) -> None:
        self._draining = True
        if self._hub is not None and self._hub.state is NodeState.READY:
            self._hub.state = NodeState.DRAINING
        if self._desk is not None:
            self._desk.draining = True
        self._work.set()

    async def close(self) -> None:
        if self._hub is not None:
            await self._hub.listener.close()
        if self._desk is not None:
            self._desk.close()
        self._device.close()

    # ------------------------------------------------------------------------------------------ the loop

    async def _compute(self) -> None:
        """Plan, run, commit, publish; until a drain is over."""
        assert self._loaded is not None
        assert self._hub is not None
        model, core, now = self._loaded.model, self._core, self._runtime.now
        with Quiet(self._hub) as quiet:
            while core.live or not self._draining:
                step = core.plan(now())
                if step is None:
                    self._work.clear()
                    quiet.rest()  # what it hears may be work
                    await self._rest(core.wake_at)
                    continue
                begun = self._tracer.begin(step, core.live)
                self._rounds.decided(self._device_watch.begin())
                quiet.begin()
                result = await self._device.run(partial(model.run, step))
                self._device_watch.end()
                quiet.end()
                self._rounds.computed(result.seconds)
                for sequence in core.apply(result, now()):
                    self._publish_commit(sequence)
                if begun is not None:
                    self._show(replace(self._tracer.verified(begun), node=self.context.name))

    async def _rest(self, until: float | None) -> None:
        """Sleep until something arrives, or until `until` on the runtime's clock."""
        began = self._runtime.now()
        try:
            async with asyncio.timeout_at(until):
                await self._work.wait()
        except TimeoutError:
            pass
        self._rounds.waited(began, self._runtime.now())

    def _publish_commit(self, sequence: VerifySequence) -> None:
        assert self._desk is not None
        self._publish(sequence, sequence.committed())
        if sequence.finish is not None:
            self._desk.count(sequence)

    def _publish(self, sequence: VerifySequence, message: Opened | Committed) -> None:
        assert self._hub is not None
        self._hub.publish(sequence_topic(sequence.client, sequence.name), message)

    def _show(self, step: StepTrace) -> None:
        """Tell a step to whoever watches."""
        assert self._hub is not None
        self._hub.publish(trace_topic(step.node), step)

    async def _beat(self) -> None:
        """Say that we live, end what nobody renews, let go of the silent, and notice a device that hangs."""
        assert self._hub is not None
        assert self._desk is not None
        while True:
            self._tell()
            for name in self._desk.expire():
                log.info("sequence %s: its client fell silent; ended", name)
            self._hub.forget_silent(self._runtime.now())
            self._device_watch.look(self._core.steps)
            await asyncio.sleep(limits.BEAT)

    def _end_all(self, finish: Finish) -> None:
        if self._desk is not None:
            self._desk.end_all(finish)

    def _tell(self) -> None:
        assert self._hub is not None
        assert self._desk is not None
        for page in self._beats.pages(self._hub.state, self._core, self._desk.ledger, self._tracer.watched):
            self._hub.publish(BEAT_TOPIC, page)

    # ------------------------------------------------------------------------------------------ what arrives

    def _hear(self, peer: Peer, envelope: Envelope) -> None:
        """Take a draft's window or beat; its first one proves that its line to us is live."""
        assert self._hub is not None
        self._core.join_draft(peer.life)
        body = envelope.body
        if isinstance(body, StepTrace):
            self._repeat(peer, body)
        if not isinstance(body, Draft):
            return
        if body.verify != self._sender.incarnation:
            self._hub.counters["other_life"] += 1
        elif useful := self._core.propose(peer.life, envelope.number, body, self._runtime.now()):
            peer.windows += useful
            self._work.set()
        else:
            self._hub.counters["useless_window"] += 1

    def _repeat(self, peer: Peer, step: StepTrace) -> None:
        """Tell a draft's step to whoever watches: clients hear this node alone."""
        if self._desk is None or not self._tracer.watched:
            return
        assert self._hub is not None
        assert self._loaded is not None
        if not honest(step, self._loaded.model.rows):
            self._hub.counters["useless_trace"] += 1
            return
        read = tuple(replace(each, text=self._desk.read(each.sequence, each.tokens)) for each in step.entries)
        self._show(replace(step, role="draft", node=peer.node, heard=self._runtime.now(), entries=read))

    def _leave(self, peer: Peer) -> None:
        if peer.role == "draft":
            self._core.drop_draft(peer.life)
            self._work.set()

    async def _revoke(self, keys: frozenset[str]) -> None:
        """Be done with keys that lost a role: with their sequences, and with their connections."""
        assert self._hub is not None
        assert self._desk is not None
        if not keys:
            return
        self._hub.forget_keys(keys)
        try:
            await self._hub.listener.readmit()  # before the ends below are told: those are nobody's to hear any more
        finally:
            for name in self._guard.disown(keys):
                self._desk.cancel(Cancel(name, self._sender.incarnation))  # one that is still being tokenized, too

    def _approve(self, hello: Hello) -> None:
        """Refuse a draft whose tokens mean something else."""
        assert self._loaded is not None
        if hello.role == "draft":
            if hello.model is None:
                raise Refusal(ErrorCode.INVALID, "a draft must name its model", field="model")
            compare(ours=self._loaded.model.card, theirs=hello.model)

    async def _answer(self, envelope: Envelope) -> Reply:
        """Answer one request of a known protocol and of this life. Raises Refusal."""
        desk, request = self._desk, envelope.body
        if desk is None:
            raise Refusal(ErrorCode.NOT_READY, f"{self.context.name} is loading its model", retry_after=limits.BEAT)
        match request:
            case StatusRequest():
                assert self._hub is not None
                assert self._loaded is not None
                now = self._runtime.now()
                return report(self._hub, desk, self._core, self._loaded, self._rounds, self._began, now)
            case Watch():
                if self._tracer.watch():
                    self._tell()  # drafts need not wait for the next beat
                return Watching(limits.WATCH)
            case Drain():
                self.drain()
                return Draining(len(self._core.live))
            case _:
                return await desk.answer(request)
