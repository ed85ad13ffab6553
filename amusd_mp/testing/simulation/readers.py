"""The clients of a scenario: they connect, ask, read at their pace, leave, are cancelled, crash and come back.

What each is handed goes to the watch, and so does how each request ended: in bounded time, and with a reason.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final

from amusd_mp import errors
from amusd_mp.client.admission import BARREN, PAUSE_MAX
from amusd_mp.client.client import Client, connect
from amusd_mp.client.results import GenerationResult
from amusd_mp.client.stream import Stream
from amusd_mp.core import limits
from amusd_mp.testing.simulation.chronicle import Chronicle
from amusd_mp.testing.simulation.network import Network
from amusd_mp.testing.simulation.scenario import Ask, ClientPlan, Scenario
from amusd_mp.testing.simulation.surroundings import VirtualRuntime
from amusd_mp.testing.simulation.watch import Breach

CONNECT: Final = 6.0
RECONNECTS: Final = 5
"""A client tries this often to connect before it gives up."""

NOTICED: Final = limits.LIVENESS + 3 * limits.BEAT
"""Seconds of silence after which a dialler knows: it looks every beat, and its last news may have been on its way."""

SILENT: Final = limits.LEASE + 6.0
"""Seconds without a chunk, and without a hanging device, after which a stream counts as one that will not end.

A client that hears nothing cannot tell a dead verify node from a cut link, and waits for a lease.
"""

UNLUCKY: Final = 30.0
"""The same where any try of a request may be lost: in the worst weather 6 of 10 are, 27 in a row once in a million."""

ROUNDING: Final = 0.02
"""Seconds a timeout may be overrun: what a request that is sent late is given at least."""


class Readers:
    """Every client of a scenario, all lives of them."""

    def __init__(self, scenario: Scenario, url: str, network: Network, chronicle: Chronicle) -> None:
        self.outcomes: Counter[str] = Counter()
        self.tokens = 0
        self.resubmissions = 0
        self.names = tuple(plan.name for plan in scenario.clients)
        self._scenario = scenario
        self._url = url
        self._network = network
        self._chronicle = chronicle
        self._watch = chronicle.watch
        self._patience = (UNLUCKY if scenario.rough else SILENT) + 2 * limits.STEP_LIMIT * scenario.hangs
        self._lives: Counter[str] = Counter()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._left: dict[str, deque[Ask]] = {plan.name: deque(plan.asks) for plan in scenario.clients}
        self._away: set[str] = set()  # those that crashed and are not back yet

    def begin(self, tasks: asyncio.TaskGroup, plan: ClientPlan) -> None:
        """Begin a life of a client."""
        self._lives[plan.name] += 1
        with self._network.being(plan.name):
            self._tasks[plan.name] = tasks.create_task(self._live(plan), name=plan.name)

    async def _live(self, plan: ClientPlan) -> None:
        """Connect and ask for what is left to ask for, again after a refused or lost connection."""
        runtime = VirtualRuntime(f"{plan.name} {self._lives[plan.name]} {self._scenario.seed}")
        for _ in range(RECONNECTS):
            if not self._left[plan.name]:
                return
            try:
                async with connect(self._url, timeout=CONNECT, runtime=runtime) as client:
                    self._chronicle.note(plan.name, "is connected")
                    async with asyncio.TaskGroup() as tasks:
                        for _ in range(plan.width):
                            tasks.create_task(self._ask_on(plan.name, client), name=f"{plan.name} asks")
            except errors.OperationalError as error:
                self._chronicle.note(plan.name, f"is not connected: {type(error).__name__}: {error}")
                await asyncio.sleep(1.0)

    async def _ask_on(self, who: str, client: Client) -> None:
        while self._left[who]:
            ask = self._left[who].popleft()
            await asyncio.sleep(ask.pause)
            began = self._chronicle.now()
            stream = client.stream(
                ask.prompt,
                max_tokens=ask.max_tokens,
                strategy=ask.strategy,
                lookahead=ask.lookahead,
                timeout=ask.timeout,
                resubmit=ask.resubmit,
            )
            name = stream.submit.sequence
            self._watch.expect(stream.submit, ask.max_tokens, ask.resubmit)
            self._chronicle.note(who, f"asks for {name}: {ask!r}")
            try:
                async with asyncio.timeout(ask.cancel_after) as cancelling:
                    outcome = await self._read(stream, ask)
            except TimeoutError:
                if not cancelling.expired():
                    raise
                outcome = "cancelled"
            self.outcomes[outcome] += 1
            mine = self._watch.requests[name]
            self.tokens += mine.received
            self.resubmissions += stream.resubmissions
            self._chronicle.note(who, f"got {mine.received} tokens of {name}: {outcome}")
            self._judge(who, name, outcome, ask, began)

    async def _read(self, stream: Stream, ask: Ask) -> str:
        """Read one response and return how it ended. Raises TimeoutError only where its task was cancelled."""
        name = stream.submit.sequence
        chunks = 0
        try:
            async with stream:
                reader = aiter(stream)
                while True:
                    try:
                        async with asyncio.timeout(self._patience) as waiting:
                            chunk = await anext(reader)
                    except StopAsyncIteration:
                        break
                    except TimeoutError:
                        if waiting.expired():
                            raise Breach(f"{name} neither goes on nor ends") from None
                        raise
                    self._watch.received(name, chunk.token_ids, chunk.text)
                    chunks += 1
                    if chunks == ask.leave_after:
                        return "left"
                    await asyncio.sleep(ask.pace)
                self._watch.whole(name)
                _check_counts(name, await stream.result(), ask)
                return "whole"
        except (errors.SequenceLost, errors.GenerationTimeout) as error:
            if isinstance(error, errors.GenerationTimeout) or error.sequence:
                self._watch.carried(name, error.token_ids)
            return type(error).__name__
        except errors.OperationalError as error:
            return type(error).__name__

    def _judge(self, who: str, name: str, outcome: str, ask: Ask, began: float) -> None:
        """Check that a request which did not end well has a reason."""
        took = self._chronicle.now() - began
        stood = sum(t.ended - t.began for t in self._chronicle.trouble if t.who == who)  # it may have been stopped
        late = ask.timeout is not None and took > ask.timeout + ask.pace + stood + ROUNDING
        read_slowly = ask.pace and outcome in ("whole", "cancelled", "left")  # it found what it would have waited for
        if late and not read_slowly:
            raise Breach(f"{name} took {took:.3f} s, its timeout was {ask.timeout} s")
        if outcome in ("whole", "cancelled", "left", "GenerationTimeout", "Busy") or not self._scenario.strict:
            return
        if outcome in ("RequestTimeout", "Unreachable") and (self._scenario.rough or ask.timeout is not None):
            return
        near = [
            trouble
            for trouble in self._chronicle.trouble
            if trouble.who in ("verify", who) and trouble.began <= self._chronicle.now()
            if trouble.ended >= began - NOTICED
        ]
        if not near:
            raise Breach(f"{name} ended with {outcome}, and nothing had happened to the verify node or to {who}")
        hurried = ask.timeout is not None and took + PAUSE_MAX >= ask.timeout  # less is left than until the next try
        if (
            outcome == "SequenceLost"
            and ask.resubmit
            and not hurried
            and len(near) < BARREN
            and not self._scenario.rough
        ):
            raise Breach(f"{name} was lost for good, although it was to be resubmitted")

    async def crash(self, who: str, lasts: float, tasks: asyncio.TaskGroup) -> None:
        """Have a client fall silent at once; its next life, `lasts` seconds later, asks for what is left."""
        task = self._tasks.get(who)
        if task is None or task.done() or who in self._away:
            return
        self._away.add(who)
        self._network.crash(who)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(lasts)
        self._away.discard(who)
        self.begin(tasks, next(plan for plan in self._scenario.clients if plan.name == who))


def _check_counts(name: str, result: GenerationResult, ask: Ask) -> None:
    counts = result.stats
    if counts.output_tokens != ask.max_tokens or counts.prompt_tokens != len(ask.prompt):
        raise Breach(f"{name}: counts {counts} of a request with {ask!r}")
    if sum(counts.histogram) != counts.steps or counts.accepted > counts.proposed or counts.proposed > counts.drafted:
        raise Breach(f"{name}: counts that cannot be: {counts}")
