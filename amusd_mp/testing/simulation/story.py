"""One scenario, played: a deployment of real nodes, clients that ask, and incidents that happen to all of them.

Nodes live in an `InProcessCluster`, each life of each party as a life on the simulated network. When every client is
done, links are mended and nodes are up again, and then everything must be let go of within a lease: sequences, cache
rows, and, after the end, tasks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from amusd_mp import errors
from amusd_mp.core import limits
from amusd_mp.core.model import Loaded
from amusd_mp.core.params import Speculation
from amusd_mp.core.step import Step
from amusd_mp.node import Node
from amusd_mp.testing.cluster import InProcessCluster, deployment
from amusd_mp.testing.simulation.chronicle import Chronicle, Trouble
from amusd_mp.testing.simulation.model import SimulatedModel, StepCost, Tokens
from amusd_mp.testing.simulation.network import Network
from amusd_mp.testing.simulation.readers import NOTICED, Readers
from amusd_mp.testing.simulation.scenario import Incident, Kind, ModelPlan, Scenario
from amusd_mp.testing.simulation.surroundings import VirtualRuntime
from amusd_mp.testing.simulation.watch import Breach, Watch
from amusd_mp.testing.stub import Stub

EVERYTHING: Final = 400.0
"""Virtual seconds after which a whole run counts as one that will not end."""


RESTART: Final = 1.0
"""Virtual seconds after which a node that failed is started again."""


class Nodes(InProcessCluster):
    """A cluster whose nodes are parties of a simulated network."""

    network: Network

    async def start(self, name: str) -> Node:
        with self.network.being(name):
            return await super().start(name)

    def failed(self, name: str) -> Exception | None:
        """Return what a node failed with, if it did, and forget it."""
        return self._failures.pop(name, None)


class Story:
    """Plays one scenario and keeps the record of it."""

    def __init__(self, scenario: Scenario, url: str) -> None:
        self.scenario = scenario
        self.chronicle = Chronicle(Watch(Tokens(scenario.seed)))
        self.steps = 0
        self.incidents: Counter[str] = Counter()
        self._network = Network(f"network {scenario.seed}", scenario.weather, self.chronicle.told)
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
        self._served = False  # every client is done
        self.readers = Readers(scenario, url, self._network, self.chronicle)

    # ------------------------------------------------------------------------------------------ the run

    async def play(self) -> None:
        """Play to the end. Raises Breach, or whatever escaped from the code under test."""
        try:
            async with asyncio.timeout(EVERYTHING):
                with self._network.open():
                    async with self._nodes:
                        supervising = asyncio.create_task(self._supervise(), name="supervisor")
                        try:
                            async with asyncio.TaskGroup() as tasks:
                                tasks.create_task(self._incidents(tasks), name="incidents")
                                for plan in self.scenario.clients:
                                    self.readers.begin(tasks, plan)
                        finally:
                            self._served = True
                            await supervising
                        await self._quiet()
        except TimeoutError:
            raise Breach(f"the run is not over after {EVERYTHING:g} s") from None
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if left:
            raise Breach(f"tasks are left: {', '.join(sorted(left))}")
        if self.chronicle.breaches:
            raise Breach(self.chronicle.breaches[0])

    async def _quiet(self) -> None:
        """Mend everything, and wait until nothing is held any more."""
        self.chronicle.note("world", "is quiet: all clients are done")
        for name in list(self._network.cut):
            self._network.heal(name)
        self._network.change(type(self.scenario.weather)())
        self._hang.clear()
        for name in self._nodes.deployment.nodes:
            await self._up(name)
        patience = limits.LEASE + NOTICED + limits.STEP_LIMIT * self.scenario.hangs
        deadline = self.chronicle.now() + patience
        while held := self._held():
            if self.chronicle.now() > deadline:
                raise Breach(f"still held {patience:.1f} s after everything was quiet: {held}")
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
        self.chronicle.note(who, f"loads a model that agrees on {plan.agrees:.0%}, life {self._lives[who]}")
        shake = (lambda: dice.uniform(1.0 - plan.shaken, 1.0 + plan.shaken)) if plan.shaken else None
        which = self._lives[who] + hash_of(who)
        tokens = Tokens(self.scenario.seed, plan.agrees, which, second=0.4 * (which % 2))
        model: SimulatedModel

        def on_step(step: Step, seconds: float) -> float:
            return self._step(who, model, step, seconds)

        cost = StepCost(plan.step, plan.per_token, shake)
        model = SimulatedModel(tokens, cost, rows, device="cpu", on_step=on_step)
        return Stub.of(model)

    def _step(self, who: str, model: SimulatedModel, step: Step, seconds: float) -> float:
        """Look at a step that begins, and return what it takes."""
        self.steps += 1
        seconds += self._hang.pop(who, 0.0)
        what = ", ".join(f"{b.sequence[:4]} {b.start}+{len(b.tokens)}" for b in step.blocks)
        self.chronicle.note(who, f"computes step {step.number} ({what}) for {seconds * 1e3:.1f} ms")
        core = _core(self._nodes.nodes[who])
        with self.chronicle.looking():
            (self.chronicle.watch.verify_step if who == "verify" else self.chronicle.watch.draft_step)(
                core, model, step
            )
        return seconds

    async def _supervise(self) -> None:
        """Start a node again that ended by itself, as the launcher does; until every client is served."""
        while not self._served:
            await asyncio.sleep(limits.BEAT)
            for name in self._nodes.deployment.nodes:
                if name not in self._nodes.nodes and self._check_failure(name):
                    await asyncio.sleep(RESTART)
                    await self._up(name)

    async def _up(self, name: str) -> None:
        """Start a node if it is not running."""
        if name not in self._nodes.nodes:
            self._check_failure(name)
            self.chronicle.note(name, "starts")
            await self._nodes.start(name)

    def _check_failure(self, name: str) -> bool:
        """Return whether a node failed as nodes may since this was last asked. Raises what it may not fail with."""
        failure = self._nodes.failed(name)
        if failure is None:
            return False
        if not isinstance(failure, errors.NodeFailed):
            raise failure
        self.chronicle.note(name, f"failed: {failure}")
        return True

    # ------------------------------------------------------------------------------------------ incidents

    async def _incidents(self, tasks: asyncio.TaskGroup) -> None:
        for incident in self.scenario.incidents:
            await asyncio.sleep(max(0.0, incident.at - self.chronicle.now()))
            tasks.create_task(self._happen(incident, tasks), name=f"{incident.kind} {incident.who}")

    async def _happen(self, incident: Incident, tasks: asyncio.TaskGroup) -> None:
        who, lasts, began = incident.who, incident.lasts, self.chronicle.now()
        self.chronicle.note(who or "world", f"{incident.kind.value.upper()} for {lasts:.2f} s")
        self.incidents[f"{incident.kind.value} {who.partition('-')[0] or 'everywhere'}"] += 1
        match incident.kind:
            case Kind.CUT:
                whom = list(self.readers.names) + [n for n in self._nodes.deployment.nodes if n != "verify"]
                whom = whom if who == "verify" else [who]
                self.chronicle.trouble.append(Trouble(who, began, began + lasts))
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
                    self.chronicle.trouble.append(Trouble(who, began, began + lasts))
                    life = self._network.stop(who)
                    await asyncio.sleep(lasts)
                    self._network.go_on(life)
            case Kind.HANG:
                self._hang[who] = lasts
                self.chronicle.trouble.append(Trouble(who, began, began + lasts + EVERYTHING))
            case Kind.CRASH if who in self.readers.names:
                await self.readers.crash(who, lasts, tasks)
            case _:
                await self._end_node(who, lasts, crash=incident.kind is Kind.CRASH)

    async def _end_node(self, who: str, lasts: float, crash: bool) -> None:
        if who not in self._nodes.nodes:
            return
        trouble = len(self.chronicle.trouble)
        self.chronicle.trouble.append(Trouble(who, self.chronicle.now(), self.chronicle.now() + EVERYTHING))
        try:
            if crash:
                self._network.crash(who)
                await self._nodes.cut(who)
            else:
                await self._nodes.stop(who)
        except errors.NodeFailed as failure:
            self.chronicle.note(who, f"failed: {failure}")
        await asyncio.sleep(lasts)
        await self._up(who)
        self.chronicle.trouble[trouble] = Trouble(who, self.chronicle.trouble[trouble].began, self.chronicle.now())


def _core(node: Node) -> Any:
    """Return a node's state machine, which nobody but a test looks at."""
    return node._core  # type: ignore[attr-defined]


def hash_of(name: str) -> int:
    """Return a small number for a name, the same in every process."""
    return sum(name.encode())
