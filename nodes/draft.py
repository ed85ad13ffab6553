"""The draft node: the small model, guessing ahead of the verify node for as long as it lives.

One loop: reconcile with every commit that arrived, guess one token further for every sequence whose lead is not full
and behind what else may come, publish it all. It only dials, never waits for the network between steps, and is
forgotten without harm. What is committed it knows from its follower; the device has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from amusd_mp.core import limits
from amusd_mp.core.draft import DraftCore, shared_out
from amusd_mp.core.effort import toll
from amusd_mp.core.messages import (
    VERIFY_TOPICS,
    Beat,
    Committed,
    Draft,
    Envelope,
    NodeState,
    Opened,
    Welcome,
    draft_topic,
)
from amusd_mp.core.model import Loaded
from amusd_mp.core.telling import Telling
from amusd_mp.follower import Follower
from amusd_mp.node import Node, NodeContext
from amusd_mp.runtime import OnProgress
from amusd_mp.security.keys import for_dialling
from amusd_mp.session.device_watch import DeviceWatch
from amusd_mp.session.link import Link
from amusd_mp.session.quiet import Quiet
from amusd_mp.session.sender import Sender
from amusd_mp.session.trace import Tracer
from amusd_mp.session.unanswered import PASSING
from amusd_mp.tasks import task_group

log = logging.getLogger(__name__)

ASK_AGAIN = 10.0  # seconds between log lines while no verify node answers


class DraftNode(Node):
    """Guesses. See `amusd_mp.node.Node` for the life of a node."""

    def __init__(self, context: NodeContext) -> None:
        super().__init__(context)
        self._runtime = context.runtime
        self._sender = Sender(context.name, self._runtime.new_id())
        self._topic = draft_topic(self._sender.incarnation)
        self._device = self._runtime.executor(f"{context.name}-device")
        self._loaded: Loaded | None = None
        self._link: Link | None = None
        self._core = DraftCore(rows=0, max_length=0, eos_ids=())
        self._follower: Follower | None = None
        self._work = asyncio.Event()
        self._drained = asyncio.Event()
        self._device_watch = DeviceWatch(context.name, self._runtime.now)
        self._telling = Telling()
        self._tracer = Tracer("draft", self._runtime.now)

    # ------------------------------------------------------------------------------------------ life

    async def open(self) -> dict[str, object]:
        self._link = self._make_link()
        await self._link.dial()
        return {"dial": self._link.url, "incarnation": self._sender.incarnation}

    async def load(self, progress: OnProgress) -> None:
        context = self.context
        self._loaded = await self._device.run(lambda: context.load_model(context.config.spec(), progress))
        model = self._loaded.model
        self._core = DraftCore(
            model.rows,
            model.card.max_length,
            model.card.eos_ids,
            temperature=context.config.draft_temperature,
            padding=model.padding,
        )
        assert self._link is not None
        self._follower = Follower(self._core, self._link, model.card.fingerprint.vocabulary, self._work.set)
        self._link.card = model.card

    async def serve(self) -> None:
        assert self._link is not None
        assert self._follower is not None
        async with task_group() as tasks:
            running = [
                tasks.create_task(work(), name=f"{self.context.name} {name}")
                for name, work in (
                    ("link", self._link.run),
                    ("guesses", self._guess),
                    ("joins", self._join),
                    ("fetches", self._follower.run),
                    ("beats", self._beat),
                )
            ]
            await self._drained.wait()
            for task in running:
                task.cancel()

    def drain(self) -> None:
        self._drained.set()

    async def close(self) -> None:
        if self._link is not None:
            await self._link.close()
        self._device.close()

    def _make_link(self) -> Link:
        return Link(
            self.context.deployment.dial_url(self.context.name),
            self._sender,
            self._runtime,
            role="draft",
            follows=True,
            prefixes=(VERIFY_TOPICS,),
            on_publication=self._hear,
            on_lost=self._lost,
            options=for_dialling(**self.context.deployment.keys(self.context.name)),
        )

    # ------------------------------------------------------------------------------------------ the loop

    async def _guess(self) -> None:
        """Plan, run, publish, for ever."""
        assert self._loaded is not None
        assert self._link is not None
        model, core, link = self._loaded.model, self._core, self._link
        with Quiet(link) as quiet:
            while True:
                step = core.plan()
                if step is None:
                    if core.news:
                        self._publish()  # what it was too early to tell
                    if not core.sequences:
                        self._telling.pause()
                    self._work.clear()
                    quiet.rest()  # what it hears may be work
                    await self._work.wait()
                    continue
                begun = self._tracer.begin(step)
                self._device_watch.begin()
                quiet.begin()
                result = await self._device.run(partial(model.run, step))
                self._device_watch.end()
                quiet.end()
                now = self._runtime.now()
                told = core.apply(result, now)
                if told and self._telling.due(core.shortest, core.completed, now):
                    self._publish()
                if begun is not None:
                    link.publish(self._topic, self._tracer.drafted(begun, result, core.parts))

    def _publish(self) -> None:
        """Tell every lead. What is too much for one message goes by topics of their own: on each, the last says all."""
        assert self._link is not None
        self._core.news = False
        for number, part in enumerate(shared_out(self._core.windows())):
            topic = f"{self._topic}/{number}" if number else self._topic
            self._link.publish(topic, Draft(self._link.verify, part, self._core.busy, self._runtime.now()))

    async def _join(self) -> None:
        """Find the verify node, however long it takes; only a refusal ends the node."""
        assert self._link is not None
        while True:
            try:
                welcome = await self._link.open(ASK_AGAIN)
                break
            except PASSING as error:
                log.warning("still waiting: %s", error)
        log.info("joined %s at %s", welcome.model.name, self._link.url)
        assert self._loaded is not None
        self._meet(welcome)
        reach = self._loaded.model.card.max_length
        if welcome.model.max_length > reach:
            log.warning(
                "sequences beyond %d tokens go on without this draft: %s takes %d; raise this node's max_length",
                reach,
                welcome.model.name,
                welcome.model.max_length,
            )

    def _meet(self, welcome: Welcome) -> None:
        """Take note of the verify node's device."""
        assert self._loaded is not None
        self._core.toll = toll(self._loaded.model.card.device, welcome.model.device)

    async def _beat(self) -> None:
        """Say that we live, and say every lead again: a lost window must not stall both sides."""
        assert self._link is not None
        while True:
            self._device_watch.look(self._core.steps)
            if self._link.alive:
                beat = Beat(
                    NodeState.READY, steps=self._core.steps, step_age=self._device_watch.age, busy=self._core.busy
                )
                self._link.publish(self._topic, beat)
                self._publish()
            await asyncio.sleep(limits.BEAT)

    # ------------------------------------------------------------------------------------------ what arrives

    def _hear(self, envelope: Envelope) -> None:
        assert self._follower is not None
        match envelope.body:
            case Committed() as window:
                if self._follower.commit(window):
                    self._telling.commit(self._runtime.now(), self._core.steps)
            case Opened(sequence=name):
                self._follower.want(name)
            case Beat() as beat:
                self._follower.compare(beat)
                if beat.watched:
                    self._tracer.watch()
            case _:
                pass

    def _lost(self, welcome: Welcome | None) -> None:
        assert self._follower is not None
        self._follower.forget_all()
        if welcome is not None:
            self._meet(welcome)
