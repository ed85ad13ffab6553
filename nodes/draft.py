"""The draft node: the small model, guessing ahead of the verify node for as long as it lives.

One loop: reconcile with every commit that arrived, guess one token further for every sequence whose lead is not full
and behind what else may come, publish it all. It only dials, never waits for the network between steps, and is
forgotten without harm.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from amusd_mp.core import limits
from amusd_mp.core.digest import DigestReader, Known
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
    Sync,
    SyncPage,
    Welcome,
    draft_topic,
)
from amusd_mp.core.model import Loaded
from amusd_mp.core.params import problem
from amusd_mp.core.replica import Contradiction, Replica
from amusd_mp.core.telling import Telling
from amusd_mp.errors import NotReady, OperationalError, ProtocolError, RequestTimeout, Unreachable
from amusd_mp.node import Node, NodeContext
from amusd_mp.runtime import OnProgress
from amusd_mp.security.keys import for_dialling
from amusd_mp.session.device_watch import DeviceWatch
from amusd_mp.session.link import Link
from amusd_mp.session.quiet import Quiet
from amusd_mp.session.sender import Sender
from amusd_mp.session.trace import Tracer
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
        self._digest = DigestReader()
        self._opened_in: dict[str, int] = {}  # sequence -> digest cycle at which it was opened here
        self._wanted: dict[str, None] = {}  # sequences to sync, in order of asking
        self._work = asyncio.Event()
        self._fetch = asyncio.Event()
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
        self._link.card = model.card

    async def serve(self) -> None:
        assert self._link is not None
        async with task_group() as tasks:
            running = [
                tasks.create_task(work(), name=f"{self.context.name} {name}")
                for name, work in (
                    ("link", self._link.run),
                    ("guesses", self._guess),
                    ("joins", self._join),
                    ("fetches", self._fetch_wanted),
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
            except (Unreachable, RequestTimeout, NotReady) as error:
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
        match envelope.body:
            case Committed() as window:
                self._commit(window)
            case Opened(sequence=name):
                self._want(name)
            case Beat() as beat:
                self._compare(beat)
                if beat.watched:
                    self._tracer.watch()
            case _:
                pass

    def _commit(self, window: Committed | SyncPage) -> None:
        if not self._readable(window.tokens):
            return
        self._telling.commit(self._runtime.now(), self._core.steps)
        try:
            if self._core.commit(window):
                self._want(window.sequence)
        except Contradiction as error:
            log.error("%s; starting over with this sequence", error)
            self._forget(window.sequence)
        self._work.set()

    def _readable(self, tokens: tuple[int, ...]) -> bool:
        """Return whether all ids are this model's: others would be the end of its device's context."""
        assert self._loaded is not None
        assert self._link is not None
        readable = max(tokens, default=0) < self._loaded.model.card.fingerprint.vocabulary
        self._link.counters["foreign_ids"] += not readable
        return readable

    def _compare(self, beat: Beat) -> None:
        """Read the digest: fetch what is unknown or lags, drop what is gone."""
        mine = {
            name: Known(sequence.replica.version, sequence.replica.length, self._opened_in.get(name, 0))
            for name, sequence in self._core.sequences.items()
        }
        found = self._digest.read(beat, mine)
        for name in (*found.unknown, *found.behind):
            self._want(name)
        for name in found.gone:
            self._forget(name)
        for entry in beat.digest:
            if entry.done:
                self._forget(entry.sequence)

    def _forget(self, name: str) -> None:
        self._core.close(name)
        self._opened_in.pop(name, None)
        self._wanted.pop(name, None)

    def _lost(self, welcome: Welcome | None) -> None:
        """The verify node is silent or in another life: its sequences mean nothing any more."""
        self._core.close_all()
        self._opened_in.clear()
        self._wanted.clear()
        self._digest = DigestReader()
        if welcome is not None:
            self._meet(welcome)

    # ------------------------------------------------------------------------------------------ fetching

    def _want(self, name: str) -> None:
        if len(self._wanted) < limits.KEPT_SEQUENCES:  # what is left out now stands in the next digest
            self._wanted[name] = None
        self._fetch.set()

    async def _fetch_wanted(self) -> None:
        """Sync what is missing, one sequence after the other."""
        assert self._link is not None
        while True:
            await self._fetch.wait()
            self._fetch.clear()
            while self._wanted:
                name = next(iter(self._wanted))
                del self._wanted[name]
                try:
                    await self._sync(name)
                except OperationalError as error:  # gone, restarted, unreachable: the next digest says what is true
                    log.debug("sequence %s: not fetched: %s", name, error)
                except Contradiction as error:
                    log.error("%s; starting over with this sequence", error)
                    self._forget(name)

    def _check(self, name: str, page: SyncPage) -> None:
        """Raise ProtocolError for a page that no honest verify node sends, before anything of it reaches the device."""
        assert self._loaded is not None
        vocabulary = self._loaded.model.card.fingerprint.vocabulary
        if page.sequence != name or not self._readable(page.tokens) or problem(page.params, vocabulary):
            raise ProtocolError(f"the page of sequence {name} cannot be its own")
        if name not in self._core.sequences and len(self._core.sequences) >= limits.KEPT_SEQUENCES:
            raise ProtocolError(f"over {limits.KEPT_SEQUENCES} sequences at once")

    async def _sync(self, name: str) -> None:
        assert self._link is not None
        life = self._link.verify
        known = self._core.sequences.get(name)
        replica = known.replica if known is not None else None
        while True:
            start = replica.length if replica is not None else 0
            page = await self._link.call(Sync(name, life, start), SyncPage)
            if self._link.verify != life:
                return
            self._check(name, page)
            if replica is None:
                replica = Replica(page.prompt_length)
            news = replica.merge(page)
            if replica.length >= page.length:
                break
            if not news.tokens:
                raise ProtocolError(f"a page of sequence {name} brings nothing, and is not the last")
        self._opened_in.setdefault(name, self._digest.cycle)
        self._core.open(page, replica)
        if replica.complete:
            self._forget(name)
        self._work.set()
