"""One benchmark from its first process to its last file.

Nodes are started, or reached where they already run; contenders are made from the plan; the sweep finds alternating's
best k; everything is measured in turn, compared, written. It prints nothing: `Progress` is told how far it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from amusd_mp.bench import summary
from amusd_mp.bench.curves import acceptance
from amusd_mp.bench.differences import Difference, differences, margin
from amusd_mp.bench.folder import RunFolder
from amusd_mp.bench.measuring import Measurement, spaced
from amusd_mp.bench.peer import assisted
from amusd_mp.bench.placing import beside
from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.records import Answer, together
from amusd_mp.bench.watching import Recorder
from amusd_mp.bench.writers import NodeWriter, Task, Writer, as_text, has_template
from amusd_mp.config import Deployment
from amusd_mp.config.write import tables_of, to_toml
from amusd_mp.core.params import Strategy
from amusd_mp.errors import OperationalError
from amusd_mp.launcher.cluster import LocalCluster

if TYPE_CHECKING:
    from amusd_mp.client.client import Client
    from amusd_mp.core.messages import StatusReport

ROUNDS_PROMPTS: Final = 4
"""Prompts answered without anybody watching, at least, before the framework's time per round is read."""

MOST_ANSWERS: Final = 32
"""And at most."""

PRIMED: Final = 8
"""Tokens of the answer that has a prompt computed: enough for the draft to have begun with it, too."""

DRAFT_TIMEOUT: Final = 60.0
"""Seconds until a draft must have joined; nodes that are started here are ready by then."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    fixed:         alternating's k that is measured in full (the paper's is 5); None: none
    sweep:         k of which the best is measured in full, too, found on `sweep_prompts` of the prompts
    lookahead:     of the asynchronous contender; None: the deployment's
    peer_threads:  a contender with transformers' assisted generation for each number of threads
    delay_ms:      for the record; the deployment already has it in the address that the draft dials
    """

    name: str
    prompts: Sequence[BenchPrompt]
    task: Task
    repeats: int = 3
    warm_up: int = 1
    concurrency: int = 1
    fixed: int | None = 5
    sweep: tuple[int, ...] = (1, 2, 3, 5, 8)
    sweep_prompts: int = 8
    lookahead: int | None = None
    peer_threads: tuple[int, ...] = ()
    delay_ms: float = 0.0
    timeline: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


class Progress(Protocol):
    """Told how far a benchmark is."""

    def phase(self, what: str, answers: int) -> None:
        """A part begins that will take so many answers."""

    def answered(self, answer: Answer) -> None:
        """One of them is there."""


class Bench:
    """One run of a plan on one deployment, into one folder."""

    def __init__(self, plan: Plan, deployment: Deployment, folder: RunFolder, progress: Progress) -> None:
        self._plan = plan
        self._deployment = deployment
        self._folder = folder
        self._progress = progress

    def __repr__(self) -> str:
        return f"<Bench {self._plan.name} into {self._folder.path}>"

    async def run(self, url: str | None = None) -> dict[str, Any]:
        """Measure, write everything, and return the summary. `url`: nodes that already run. Raises AmusdError."""
        self._folder.text("config.toml", to_toml(tables_of(self._deployment)))
        self._folder.json("environment.json", self._plan.environment)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(reached(self._deployment, url))
            self._plan = replace(self._plan, task=replace(self._plan.task, chat=await has_template(client)))
            try:
                status = await client.wait_for_draft(DRAFT_TIMEOUT)
            except TimeoutError as error:
                raise OperationalError(
                    f"no draft has joined {client.model.name} within {DRAFT_TIMEOUT:g} s, so there is nothing to "
                    "compare; is there a draft node, and do the models fit together?"
                ) from error
            found = await self._measured(client, status, stack)
        self._folder.text("acceptance.svg", acceptance(found["rows"], f"{self._plan.name}: {status.model.name}"))
        self._folder.json("summary.json", found)
        return found

    async def _measured(self, client: Client, status: StatusReport, stack: AsyncExitStack) -> dict[str, Any]:
        plan = self._plan
        alone = NodeWriter(client, plan.task, Strategy.AUTOREGRESSIVE)
        main = NodeWriter(client, plan.task, Strategy.AMUSD, plan.lookahead)
        peers = await assisted(stack, client, self._deployment, plan.task, plan.peer_threads)
        sweep = [NodeWriter(client, plan.task, Strategy.ALTERNATING, k) for k in plan.sweep]
        fixed = [] if plan.fixed is None else [NodeWriter(client, plan.task, Strategy.ALTERNATING, plan.fixed)]
        await self._warm_up([alone, main, *fixed, *sweep, *peers])
        swept = await self._sweep(sweep)
        best = [each for each in sweep if swept and each.lookahead == swept[0]["k"] and each.lookahead != plan.fixed]
        nodes = [alone, *fixed, *best, main]
        writers: list[Writer] = [*nodes, *peers]
        recorder = Recorder(client, nodes, plan.repeats * len(plan.prompts)) if plan.timeline else None
        measurement = Measurement(
            writers,
            plan.prompts,
            plan.repeats,
            plan.concurrency,
            prime=lambda prompt: self._before(main, prompt, recorder),
            on_answer=self._keep,
        )
        self._progress.phase("measuring", measurement.total)
        await measurement.run()
        other = list(differences(measurement.answers, alone.label))
        return {
            "format": 1,
            "name": plan.name,
            "baseline": alone.label,
            "main": main.label,
            "best_alternating": f"{Strategy.ALTERNATING}, k={swept[0]['k']}" if swept else None,
            "models": {"verify": asdict(status.model), "drafts": [asdict(each) for each in status.drafts]},
            "settings": {**self._settings(), "lookahead": client.speculation.lookahead},
            "environment": dict(plan.environment),
            **summary.results(
                measurement.answers, measurement.walls, alone.label, main.label, mixed=plan.concurrency > 1
            ),
            "agreement": self._agreement(measurement, [*fixed, *best], main),
            "rescued": max((each.rescued or 0.0 for each in (await client.status()).drafts), default=0.0),
            "sweep": sorted(swept, key=lambda each: int(each["k"])),
            "different": {label: sum(each.contender == label for each in other) for label in measurement.answers},
            "differences": [await self._explained(client, each, measurement.answers[alone.label]) for each in other],
            "framework": await self._framework(client, main),
            **({} if recorder is None else {"steps": await self._recorded(recorder, status)}),
        }

    async def _recorded(self, recorder: Recorder, status: StatusReport) -> dict[str, Any]:
        """Write trace and pictures, and return the step times and shares behind them."""
        self._progress.phase("drawing the timeline", 0)
        title = f"{self._plan.name}: {status.model.name}"
        files, steps = await recorder.results(self._plan.prompts[0], title)
        for name, content in files.items():
            self._folder.text(name, content)
        return steps

    @staticmethod
    def _agreement(measurement: Measurement, alternating: Sequence[NodeWriter], main: Writer) -> list[str]:
        """Return for each prompt's first response which of its tokens the draft guesses, as was found out."""
        answers = measurement.answers[alternating[0].label] if alternating else []
        chains = {each.prompt: each.turns[0].agreement for each in answers if each.repeat == 0}
        trees = {e.prompt: e.turns[0].agreement for e in measurement.answers[main.label] if e.repeat == 0}
        return [together(told, trees.get(prompt, "")) for prompt, told in chains.items()]

    async def _warm_up(self, writers: Sequence[Writer]) -> None:
        """Answer under every contender, so that no first time is measured."""
        prompts = spaced(self._plan.prompts, self._plan.warm_up)
        self._progress.phase("warming up", len(writers) * len(prompts))
        for prompt in prompts:
            for writer in writers:
                self._progress.answered(await writer.answer(prompt, 0))

    async def _sweep(self, writers: Sequence[NodeWriter]) -> list[dict[str, float]]:
        """Return each k with its time per token on some prompts, the best first."""
        if not writers:
            return []
        some = spaced(self._plan.prompts, self._plan.sweep_prompts)
        trial = Measurement(writers, some, 1, self._plan.concurrency, on_answer=self._progress.answered)
        self._progress.phase("looking for alternating's best k", trial.total)
        await trial.run()
        found: list[dict[str, float]] = []
        for writer in writers:
            tokens = sum(answer.tokens for answer in trial.answers[writer.label])
            assert writer.lookahead is not None
            found.append({"k": writer.lookahead, "ms_per_token": 1e3 * sum(trial.walls[writer.label]) / tokens})
        return sorted(found, key=lambda each: each["ms_per_token"])

    async def _before(self, main: NodeWriter, prompt: BenchPrompt, recorder: Recorder | None) -> None:
        """Between two measured prompts: record if it is time, then have every node compute the next one, for all."""
        if recorder is not None:
            await recorder.between(prompt)
        await main.shortened(PRIMED).answer(replace(prompt, turns=prompt.turns[:1]), 0)

    def _keep(self, answer: Answer) -> None:
        self._folder.answer(answer, f"{self._plan.name}, {answer.contender}")
        self._progress.answered(answer)

    def _settings(self) -> dict[str, Any]:
        plan = self._plan
        return {
            **asdict(plan.task),
            "prompts": len(plan.prompts),
            "repeats": plan.repeats,
            "warm_up": plan.warm_up,
            "concurrency": plan.concurrency,
            "sweep_prompts": min(plan.sweep_prompts, len(plan.prompts)),
            "delay_ms": plan.delay_ms,
            "peer_threads": list(plan.peer_threads),
        }

    async def _explained(self, client: Client, found: Difference, own: Sequence[Answer]) -> dict[str, Any]:
        """Return a difference with the margin of the decision there; None for a later turn, whose prompt differs."""
        answer = next(each for each in own if (each.prompt, each.repeat) == (found.prompt, found.repeat))
        prompt = next(each for each in self._plan.prompts if each.id == found.prompt)
        close: float | None = None
        if found.turn == 0 and self._plan.task.temperature == 0 and (prompt.plain or not self._plan.task.chat):
            said = [*prompt.before, ("user", prompt.turns[0])]
            ids = await client.tokenize(as_text(prompt, said))
            close = await margin(client, ids, answer.turns[0].token_ids[: found.position])
        return {**asdict(found), "margin": close}

    async def _framework(self, client: Client, main: NodeWriter) -> dict[str, Any] | None:
        """Return the framework's own time per verify round, in microseconds, of a few responses without a watcher."""
        some = spaced(self._plan.prompts, ROUNDS_PROMPTS)
        self._progress.phase("framework time", len(some))
        before = (await client.status()).steps
        for at in range(MOST_ANSWERS):
            self._progress.answered(await main.answer(some[at % len(some)], 0))
            status = await client.status()
            if at + 1 >= len(some) and status.steps - before > status.rounds:
                break  # those it remembers are all of these answers
        if not status.rounds:
            return None
        return {"rounds": status.rounds, "p50_us": 1e6 * status.round_p50, "p95_us": 1e6 * status.round_p95}


@asynccontextmanager
async def reached(deployment: Deployment, url: str | None) -> AsyncIterator[Client]:
    """Give a client of the nodes at `url`, or of a deployment that is started here and stopped at the end."""
    if url is not None:
        from amusd_mp.client.client import connect

        async with connect(url, **deployment.keys()) as client:
            yield client
        return
    async with LocalCluster(deployment) as cluster:
        with beside(deployment):
            async with cluster.connect() as client:
                yield client
