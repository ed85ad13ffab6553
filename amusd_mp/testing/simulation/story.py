"""One scenario, played: a deployment of real nodes, clients that ask, and incidents that happen to all of them.

Nodes live in an `InProcessCluster`, each life of each party as a life on the simulated network. When every client is
done, links are mended and nodes are up again, and then everything must be let go of within a lease: sequences, cache
rows, and, after the end, tasks.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from amusd_mp import errors
from amusd_mp.client.client import Client, connect
from amusd_mp.client.results import GenerationResult
from amusd_mp.client.stream import Stream
from amusd_mp.core import limits
from amusd_mp.core.model import Loaded
from amusd_mp.core.params import Speculation
from amusd_mp.core.step import Step
from amusd_mp.node import Node
from amusd_mp.session.link import ATTEMPT
from amusd_mp.testing.cluster import InProcessCluster, deployment
from amusd_mp.testing.simulation.model import SimulatedModel, StepCost, Tokens
from amusd_mp.testing.simulation.network import Network
from amusd_mp.testing.simulation.scenario import Ask, ClientPlan, Incident, Kind, ModelPlan, Scenario
from amusd_mp.testing.simulation.surroundings import VirtualRuntime
from amusd_mp.testing.simulation.watch import Breach, Watch
from amusd_mp.testing.stub import Stub

Record = tuple[float, str, str, object]
"""(virtual time, who, what, payload or text)."""

CONNECT: Final = 6.0
RECONNECTS: Final = 5
"""A client tries this often to connect before it gives up."""

NOTICED: Final = limits.LIVENESS + 3 * limits.BEAT
"""Seconds of silence after which a dialler knows: it looks every beat, and its last news may have been on its way."""

SILENT: Final = 15.0
"""Seconds without a chunk, and without a hanging device, after which a stream counts as one that will not end."""

ROUNDING: Final = 0.02
"""Seconds a timeout may be overrun: what a request that is sent late is given at least."""

EVERYTHING: Final = 400.0
"""Virtual seconds after which a whole run counts as one that will not end."""


class Nodes(InProcessCluster):
    """A cluster whose nodes are parties of a simulated network."""

    network: Network

    async def start(self, name: str) -> Node:
        with self.network.being(name):
            return await super().start(name)

    def failed(self, name: str) -> Exception | None:
        """Return what a node failed with, if it did, and forget it."""
        return self._failures.pop(name, None)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that explains a lost sequence: what happened to whom, and when."""

    who: str
    began: float
    ended: float


class Story:
    """Plays one scenario and keeps the record of it."""

    def __init__(self, scenario: Scenario, url: str, watch: Watch | None = None) -> None:
        self.scenario = scenario
        self.record: list[Record] = []
        self.outcomes: Counter[str] = Counter()
        self.watch = watch or Watch(Tokens(scenario.seed))
        self.messages = 0
        self.steps = 0
        self.breaches: list[str] = []
        """In order; kept because the code under test may catch what is raised inside it."""
        self._network = Network(f"network {scenario.seed}", scenario.weather, self._tell)
        self._runtime = VirtualRuntime(f"nodes {scenario.seed}", other=0.002)
        nodes = deployment(
            "truth",
            [f"guess-{number}" for number in range(len(scenario.drafts))],
            url=url,
            speculation=Speculation(lookahead=scenario.lookahead),
        )
        self._nodes = Nodes(nodes, self._models(), runtime=self._runtime)
        self._nodes.network = self._network
        self._lives: Counter[str] = Counter()
        self._hang: dict[str, float] = {}
        self._trouble: list[Trouble] = []
        self._clients: dict[str, asyncio.Task[None]] = {}
        self._left: dict[str, deque[Ask]] = {plan.name: deque(plan.asks) for plan in scenario.clients}
        self._away: set[str] = set()  # clients that crashed and are not back yet

    # ------------------------------------------------------------------------------------------ the run

    async def play(self) -> None:
        """Play to the end. Raises Breach, or whatever escaped from the code under test."""
        try:
            async with asyncio.timeout(EVERYTHING):
                with self._network.open():
                    async with self._nodes:
                        async with asyncio.TaskGroup() as tasks:
                            tasks.create_task(self._incidents(tasks), name="incidents")
                            for plan in self.scenario.clients:
                                self._begin_client(tasks, plan)
                        await self._quiet()
        except TimeoutError:
            raise Breach(f"the run is not over after {EVERYTHING:g} s") from None
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if left:
            raise Breach(f"tasks are left: {', '.join(sorted(left))}")
        if self.breaches:
            raise Breach(self.breaches[0])

    async def _quiet(self) -> None:
        """Mend everything, and wait until nothing is held any more."""
        self.note("world", "is quiet: all clients are done")
        for name in list(self._network.cut):
            self._network.heal(name)
        self._network.change(type(self.scenario.weather)())
        self._hang.clear()
        for name in self._nodes.deployment.nodes:
            await self._up(name)
        deadline = self.now() + limits.LEASE + NOTICED + limits.STEP_LIMIT * any(self._hung(True))
        while held := self._held():
            if self.now() > deadline:
                raise Breach(f"still held {self.now() - deadline + limits.LEASE + NOTICED:.1f} s later: {held}")
            await asyncio.sleep(limits.BEAT)
            for name in self._nodes.deployment.nodes:
                await self._up(name)
        for name in self._nodes.deployment.nodes:
            self._check_failure(name)

    def _held(self) -> str:
        """Return what nodes still hold, "" if nothing."""
        found = []
        for name, node in self._nodes.nodes.items():
            core: Any = _core(node)
            sequences = core.live if hasattr(core, "live") else core.sequences
            rows = self.scenario.rows if name == "verify" else self.scenario.draft_rows
            if sequences or core.free_rows != rows:
                found.append(f"{name} {len(sequences)} sequences, {core.free_rows} of {rows} rows free")
        return "; ".join(found)

    # ------------------------------------------------------------------------------------------ nodes

    def _models(self) -> dict[str, Callable[[], Loaded]]:
        plans = {"guess-" + str(number): plans for number, plans in enumerate(self.scenario.drafts)}
        models: dict[str, Callable[[], Loaded]] = {
            "truth": lambda: self._load("verify", self.scenario.verify, self.scenario.rows)
        }
        for number, (name, lives) in enumerate(plans.items()):
            models[name] = lambda who=f"draft-{number}", lives=lives: self._load(  # type: ignore[misc]
                who, lives[self._lives[who] % len(lives)], self.scenario.draft_rows
            )
        return models

    def _load(self, who: str, plan: ModelPlan, rows: int) -> Loaded:
        dice = self._runtime.random
        self._lives[who] += 1
        self.note(who, f"loads a model that agrees on {plan.agrees:.0%}, life {self._lives[who]}")
        shake = (lambda: dice.uniform(1.0 - plan.shaken, 1.0 + plan.shaken)) if plan.shaken else None
        tokens = Tokens(self.scenario.seed, plan.agrees, dice=self._lives[who] + hash_of(who))
        model: SimulatedModel

        def on_step(step: Step, seconds: float) -> float:
            return self._step(who, model, step, seconds)

        model = SimulatedModel(tokens, StepCost(plan.step, plan.per_token, shake), rows, on_step=on_step)
        return Stub.of(model)

    def _step(self, who: str, model: SimulatedModel, step: Step, seconds: float) -> float:
        """Look at a step that begins, and return what it takes."""
        self.steps += 1
        seconds += self._hang.pop(who, 0.0)
        what = ", ".join(f"{b.sequence[:4]} {b.start}+{len(b.tokens)}" for b in step.blocks)
        self.note(who, f"computes step {step.number} ({what}) for {seconds * 1e3:.1f} ms")
        core = _core(self._nodes.nodes[who])
        with self._breaching():
            (self.watch.verify_step if who == "verify" else self.watch.draft_step)(core, model, step)
        return seconds

    async def _up(self, name: str) -> None:
        """Start a node if it is not running."""
        if name not in self._nodes.nodes:
            self._check_failure(name)
            self.note(name, "starts")
            await self._nodes.start(name)

    def _check_failure(self, name: str) -> None:
        failure = self._nodes.failed(name)
        if failure is None:
            return
        if isinstance(failure, errors.NodeFailed):
            self.note(name, f"failed: {failure}")
        else:
            raise failure

    # ------------------------------------------------------------------------------------------ incidents

    async def _incidents(self, tasks: asyncio.TaskGroup) -> None:
        for incident in self.scenario.incidents:
            await asyncio.sleep(max(0.0, incident.at - self.now()))
            tasks.create_task(self._happen(incident, tasks), name=f"{incident.kind} {incident.who}")

    async def _happen(self, incident: Incident, tasks: asyncio.TaskGroup) -> None:
        who, lasts, began = incident.who, incident.lasts, self.now()
        self.note(who or "world", f"{incident.kind.value.upper()} for {lasts:.2f} s")
        match incident.kind:
            case Kind.CUT:
                whom = list(self._left) + [n for n in self._nodes.deployment.nodes if n != "verify"]
                whom = whom if who == "verify" else [who]
                self._trouble.append(Trouble(who, began, began + lasts))
                for name in whom:
                    self._network.partition(name)
                await asyncio.sleep(lasts)
                for name in whom:
                    self._network.heal(name)
            case Kind.STORM:
                self._network.change(self.scenario.storm)
                await asyncio.sleep(lasts)
                self._network.change(self.scenario.weather)
            case Kind.STOP:
                if who in self._network.lives:
                    self._trouble.append(Trouble(who, began, began + lasts))
                    life = self._network.stop(who)
                    await asyncio.sleep(lasts)
                    self._network.go_on(life)
            case Kind.HANG:
                self._hang[who] = lasts
                self._trouble.append(Trouble(who, began, began + lasts + EVERYTHING))
            case Kind.CRASH if who in self._left:
                await self._crash_client(who, lasts, tasks)
            case _:
                await self._end_node(who, lasts, crash=incident.kind is Kind.CRASH)

    async def _end_node(self, who: str, lasts: float, crash: bool) -> None:
        if who not in self._nodes.nodes:
            return
        trouble = len(self._trouble)
        self._trouble.append(Trouble(who, self.now(), self.now() + EVERYTHING))
        try:
            if crash:
                self._network.crash(who)
                await self._nodes.cut(who)
            else:
                await self._nodes.stop(who)
        except errors.NodeFailed as failure:
            self.note(who, f"failed: {failure}")
        await asyncio.sleep(lasts)
        await self._up(who)
        self._trouble[trouble] = Trouble(who, self._trouble[trouble].began, self.now())

    async def _crash_client(self, who: str, lasts: float, tasks: asyncio.TaskGroup) -> None:
        task = self._clients.get(who)
        if task is None or task.done() or who in self._away:
            return
        self._away.add(who)
        self._network.crash(who)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(lasts)
        self._away.discard(who)
        plan = next(plan for plan in self.scenario.clients if plan.name == who)
        self._begin_client(tasks, plan)

    # ------------------------------------------------------------------------------------------ clients

    def _begin_client(self, tasks: asyncio.TaskGroup, plan: ClientPlan) -> None:
        self._lives[plan.name] += 1
        with self._network.being(plan.name):
            self._clients[plan.name] = tasks.create_task(self._live(plan), name=plan.name)

    async def _live(self, plan: ClientPlan) -> None:
        """Connect and ask for what is left to ask for, again after a refused or lost connection."""
        runtime = VirtualRuntime(f"{plan.name} {self._lives[plan.name]} {self.scenario.seed}")
        for _ in range(RECONNECTS):
            if not self._left[plan.name]:
                return
            try:
                async with connect(self._nodes.url, timeout=CONNECT, runtime=runtime) as client:
                    self.note(plan.name, "is connected")
                    async with asyncio.TaskGroup() as tasks:
                        for _ in range(plan.width):
                            tasks.create_task(self._ask_on(plan.name, client), name=f"{plan.name} asks")
            except errors.OperationalError as error:
                self.note(plan.name, f"is not connected: {type(error).__name__}: {error}")
                await asyncio.sleep(1.0)

    async def _ask_on(self, who: str, client: Client) -> None:
        while self._left[who]:
            ask = self._left[who].popleft()
            await asyncio.sleep(ask.pause)
            began = self.now()
            stream = client.stream(
                ask.prompt,
                max_tokens=ask.max_tokens,
                strategy=ask.strategy,
                lookahead=ask.lookahead,
                timeout=ask.timeout,
            )
            name = stream.submit.sequence
            self.watch.expect(name, ask.prompt, ask.max_tokens)
            self.note(who, f"asks for {name}: {ask!r}")
            try:
                async with asyncio.timeout(ask.cancel_after) as cancelling:
                    outcome = await self._read(stream, ask)
            except TimeoutError:
                if not cancelling.expired():
                    raise
                outcome = "cancelled"
            self.outcomes[outcome] += 1
            self.note(who, f"got {self.watch.requests[name].received} tokens of {name}: {outcome}")
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
                        async with asyncio.timeout(self._patience(ask)) as waiting:
                            chunk = await anext(reader)
                    except StopAsyncIteration:
                        break
                    except TimeoutError:
                        if waiting.expired():
                            raise Breach(f"{name} neither goes on nor ends") from None
                        raise
                    self.watch.received(name, chunk.token_ids, chunk.text)
                    chunks += 1
                    if chunks == ask.leave_after:
                        return "left"
                    await asyncio.sleep(ask.pace)
                self.watch.whole(name)
                _check_counts(name, await stream.result(), ask)
                return "whole"
        except (errors.SequenceLost, errors.GenerationTimeout) as error:
            if isinstance(error, errors.GenerationTimeout) or error.sequence:
                self.watch.carried(name, error.token_ids)
            return type(error).__name__
        except errors.OperationalError as error:
            return type(error).__name__

    def _patience(self, ask: Ask) -> float:
        return SILENT + 2 * limits.STEP_LIMIT * any(self._hung(False))

    def _hung(self, over: bool) -> list[bool]:
        return [i.kind is Kind.HANG and i.lasts > SILENT for i in self.scenario.incidents]

    def _judge(self, who: str, name: str, outcome: str, ask: Ask, began: float) -> None:
        """Check that a request which did not end well has a reason."""
        took = self.now() - began
        reading = ask.pace if outcome != "whole" else EVERYTHING  # all may have come in time and be read slowly
        stood = sum(t.ended - t.began for t in self._trouble if t.who == who)  # it may have been stopped itself
        if ask.timeout is not None and took > ask.timeout + reading + stood + ROUNDING:
            raise Breach(f"{name} took {took:.3f} s, its timeout was {ask.timeout:g} s")
        if outcome in ("whole", "cancelled", "left", "GenerationTimeout", "Busy") or not self.scenario.strict:
            return
        weather = self.scenario.weather
        slow = weather.drop or (weather.reorder and weather.hold > ATTEMPT)  # so no try of a request may get through
        if outcome in ("RequestTimeout", "Unreachable") and (slow or ask.timeout is not None):
            return
        for trouble in self._trouble:
            near = trouble.began <= self.now() and trouble.ended >= began - NOTICED
            if near and trouble.who in ("verify", who):
                return
        raise Breach(f"{name} ended with {outcome}, and nothing had happened to the verify node or to {who}")

    # ------------------------------------------------------------------------------------------ the record

    def now(self) -> float:
        """Return virtual seconds."""
        return asyncio.get_running_loop().time()

    def note(self, who: str, what: str) -> None:
        """Keep something that happened, in words."""
        self.record.append((self.now(), who, "", what))

    def logged(self, who: str, what: str, failed: bool) -> None:
        """Keep a log line of a node or client. An error among them is a breach: nothing here may fail inside."""
        self.record.append((self.now(), who, "logs", what))
        if failed:
            self.breaches.append(f"{who} logs an error: {what}")

    def _tell(self, who: str, what: str, payload: bytes) -> None:
        self.messages += 1
        self.record.append((self.now(), who, what, payload))
        with self._breaching():
            self.watch.told(who, what, payload)

    @contextmanager
    def _breaching(self) -> Iterator[None]:
        try:
            yield
        except Breach as breach:
            self.breaches.append(str(breach))
            raise


def _core(node: Node) -> Any:
    """Return a node's state machine, which nobody but a test looks at."""
    return node._core  # type: ignore[attr-defined]


def _check_counts(name: str, result: GenerationResult, ask: Ask) -> None:
    counts = result.stats
    if counts.output_tokens != ask.max_tokens or counts.prompt_tokens != len(ask.prompt):
        raise Breach(f"{name}: counts {counts} of a request with {ask!r}")
    if sum(counts.histogram) != counts.steps or counts.accepted > counts.proposed or counts.proposed > counts.drafted:
        raise Breach(f"{name}: counts that cannot be: {counts}")


def hash_of(name: str) -> int:
    """Return a small number for a name, the same in every process."""
    return sum(name.encode())
