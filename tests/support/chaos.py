"""Faults on real processes while clients stream: what is drawn, what happens to whom, and what must hold afterwards.

A deployment whose nodes are started again when they fail, clients that ask without a pause, half of them as processes
of their own, and a schedule of kills, stops and restarts drawn from a seed. What every response ended with is
kept and compared with the verify model alone. Gaps and durations of the schedule are the faults themselves; nothing is
synchronised by them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import streaming
from exactness import deployment, prompts
from sampled import Alone, Ask, grid
from streaming import BUG, CONTRADICTED, ENDLESS, WHOLE, Ending, stream_on
from system import resident

import amusd_mp
from amusd_mp import LocalCluster
from amusd_mp.launcher.keeper import Backoff

DEADLINE = 120.0
"""Seconds in which what was disturbed must be as before: a node loads anew, and leases run out."""

PARTIES = {"draft": 3, "verify": 3, "client-0": 1, "client-1": 1, "client-2": 1, "client-3": 1}
"""Who may be drawn, and how often."""


class Kind(Enum):
    """What happens to a process."""

    KILL = "SIGKILL"
    STOP = "SIGSTOP, then SIGCONT"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Event:
    """After `gap` seconds something happens to a party; a stop lasts `lasts` seconds."""

    gap: float
    kind: Kind
    who: str
    lasts: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.2f} s" if self.kind is Kind.STOP else ""
        return f"+{self.gap:.2f} s: {self.who} {self.kind.value}{lasts}"


def schedule(seed: int, events: int) -> list[Event]:
    """Return the events of a seed."""
    dice = random.Random(f"chaos {seed}")
    return [
        Event(
            gap=dice.choice((0.0, dice.uniform(0.0, 1.0), dice.uniform(1.0, 6.0))),
            kind=dice.choice(list(Kind)),
            who=dice.choices(list(PARTIES), list(PARTIES.values()))[0],
            lasts=dice.choice((dice.uniform(0.05, 0.5), dice.uniform(0.5, 2.0), dice.uniform(2.0, 5.0))),
        )
        for _ in range(events)
    ]


def asks(tokens: int) -> list[Ask]:
    """Return greedy and sampled requests, with and without every filter and penalty."""
    code, maths = prompts(1)
    greedy = [Ask(text, {"temperature": 0.0, "max_tokens": tokens, "ignore_eos": True}) for text in (code, maths)]
    return greedy + grid([code], tokens)


class Truth:
    """The verify model alone, each request once."""

    def __init__(self, wanted: Sequence[Ask]) -> None:
        self.asks = list(wanted)
        self._alone = Alone()
        self._expected = [self._alone.answer(ask) for ask in self.asks]

    def wrong(self, ending: Ending) -> str | None:
        """Return what is wrong with an ending, None if nothing is."""
        if ending.outcome.startswith((ENDLESS, CONTRADICTED, BUG)):
            return f"request {ending.ask} ended: {ending.outcome}, after {len(ending.ids)} tokens"
        if ending.ask < 0:
            return None
        if ending.outcome == WHOLE:
            found = self._alone.differs(self.asks[ending.ask], ending.ids)
            return None if found == "tie" else found
        expected = self._expected[ending.ask]
        at = next((i for i, (a, b) in enumerate(zip(expected, ending.ids, strict=False)) if a != b), None)
        if len(ending.ids) <= len(expected) and (at is None or self._tie(ending.ask, at)):
            return None
        return f"request {ending.ask} ended with {ending.outcome} and {ending.ids}, no prefix of {expected}"

    def _tie(self, ask: int, at: int) -> bool:
        return self._alone.gap(self.asks[ask], self._expected[ask][:at]) < 1e-4


async def until(check: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask again and again until the answer is true; an unanswered question is a no."""
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(amusd_mp.errors.OperationalError):
                    if await check():
                        return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE:g} s: {what}") from None


@dataclass
class Arena:
    """A deployment, its clients (`processes` that faults may hit and `tasks` here), and what came of their requests."""

    cluster: LocalCluster
    asks: list[dict[str, Any]]
    seed: int
    processes: int
    tasks: int
    endings: list[Ending] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    _clients: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _lives: Counter[str] = field(default_factory=Counter)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _readers: set[asyncio.Task[None]] = field(default_factory=set)

    async def play(self, events: Sequence[Event]) -> None:
        """Have everything happen while all clients stream; return when the last is over and each has gone on."""
        async with self._streaming(), asyncio.TaskGroup() as tasks:
            await self.fresh()
            for event in events:
                await asyncio.sleep(event.gap)
                tasks.create_task(self._happen(event), name=str(event))

    async def fresh(self) -> None:
        """Wait until as many more responses as there are clients have come whole."""
        wanted = self.whole + self.processes + self.tasks

        async def enough() -> bool:
            return self.whole >= wanted

        await until(enough, "a whole response for every client")

    @property
    def whole(self) -> int:
        return sum(ending.outcome == WHOLE for ending in self.endings)

    @asynccontextmanager
    async def _streaming(self) -> AsyncIterator[None]:
        """Run all clients; when the block is done, wait for whole responses once more, then end them."""
        tasks: list[asyncio.Task[None]] = []
        try:
            for number in range(self.tasks):
                work = stream_on(
                    self.cluster.url, self._asks_of(number), 1000 * self.seed + number, self.endings.append
                )
                tasks.append(asyncio.create_task(work, name=f"task client {number}"))
            for number in range(self.processes):
                await self._start(f"client-{number}")
            yield
            await self.fresh()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*(self._end(name, signal.SIGTERM) for name in self._clients))
            await asyncio.gather(*tasks, *self._readers, return_exceptions=True)

    def _asks_of(self, number: int) -> list[dict[str, Any]]:
        """Return the requests of a client; every other one has a next life of the verify node go on with them."""
        return [{**ask, "options": {**ask["options"], "resubmit": number % 2 == 1}} for ask in self.asks]

    async def _start(self, name: str) -> None:
        self._lives[name] += 1
        seed = self.seed * 10_000 + int(name[-1]) * 100 + self._lives[name]
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                streaming.__file__,
                self.cluster.url,
                str(seed),
                json.dumps(self._asks_of(int(name[-1]))),
            ),
            stdout=asyncio.subprocess.PIPE,
        )
        self._clients[name] = process
        reader = asyncio.create_task(self._read(process), name=f"{name} is read")
        self._readers.add(reader)

    async def _end(self, name: str, number: signal.Signals) -> None:
        """End a client's process by a signal, and by force if that is not enough."""
        process = self._clients[name]
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(DEADLINE):
                await process.wait()
        except TimeoutError:
            process.kill()
            raise AssertionError(f"{name} does not end within {DEADLINE:g} s of {number.name}") from None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.endswith(b"\n"):  # else it was killed while it spoke
                fields = json.loads(line)
                self.endings.append(Ending(**{**fields, "ids": tuple(fields["ids"])}))

    # ------------------------------------------------------------------------------------------ what happens

    async def _happen(self, event: Event) -> None:
        async with self._locks[event.who]:  # one at a time to one party, as many as will to others
            pid = await self._pid(event.who)
            if event.kind is Kind.STOP:
                os.kill(pid, signal.SIGSTOP)
                try:
                    await asyncio.sleep(event.lasts)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            elif event.who in self._clients:
                await self._end(event.who, signal.SIGKILL if event.kind is Kind.KILL else signal.SIGTERM)
                await self._start(event.who)
            elif event.kind is Kind.KILL:
                os.kill(pid, signal.SIGKILL)
                await self._until_another(event.who, pid)
            else:
                await self.cluster.restart(event.who)
            self.happened[f"{event.who.partition('-')[0]} {event.kind.value}"] += 1

    async def _pid(self, who: str) -> int:
        return self._clients[who].pid if who in self._clients else await self._until_another(who, None)

    async def _until_another(self, name: str, pid: int | None) -> int:
        """Wait until a node is ready in a life other than `pid`, and return that one's."""

        async def another() -> bool:
            return name in self.cluster.nodes and self.cluster.nodes[name].pid != pid

        await until(another, f"the next life of {name}")
        return self.cluster.nodes[name].pid


@asynccontextmanager
async def arena(asks: Sequence[Ask], seed: int, processes: int = 4, tasks: int = 4) -> AsyncIterator[Arena]:
    """Run a pair whose nodes are started again when they fail."""
    nodes: Any = deployment("bundled:draft", max_sequences=processes + tasks, restart="on-failure")
    nodes["nodes"]["draft"]["restart"] = "on-failure"
    wanted = [{"prompt": ask.prompt, "options": ask.options} for ask in asks]
    async with LocalCluster(nodes, backoff=Backoff(first=0.1, factor=1.0)) as cluster:
        yield Arena(cluster, wanted, seed, processes, tasks)


async def at_rest(arena: Arena, rounds: int = 0) -> dict[str, float]:
    """Wait until nothing is held, use every request `rounds` times, wait again; return each process's memory in MiB."""
    async with arena.cluster.connect(timeout=DEADLINE) as client:
        await client.wait_for_draft(DEADLINE)

        async def nothing_held() -> bool:
            return (await client.status()).sequences == 0

        await until(nothing_held, "no sequence held at the verify node")
        for _ in range(rounds):
            await asyncio.gather(*(client.generate(a["prompt"], timeout=DEADLINE, **a["options"]) for a in arena.asks))
        await until(nothing_held, "no sequence held at the verify node")
    found = {name: resident(node.pid) for name, node in arena.cluster.nodes.items()}
    return found | {"clients": resident()}
