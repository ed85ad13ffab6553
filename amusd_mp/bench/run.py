"""One benchmark from its first process to its last file.

Nodes are started, or reached where they already run; contenders are made from the plan; the sweep finds alternating's
best k; everything is measured in turn, compared, written. It prints nothing: `Progress` is told how far it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from amusd_mp.bench import summary
from amusd_mp.bench.curves import acceptance
from amusd_mp.bench.differences import Difference, differences, margin
from amusd_mp.bench.folder import RunFolder
from amusd_mp.bench.measuring import Measurement, Work, spaced
from amusd_mp.bench.peer import peers_of
from amusd_mp.bench.placing import beside, cores_for_peer
from amusd_mp.bench.plan import Plan, Progress
from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.records import Answer, together
from amusd_mp.bench.watching import Recorder
from amusd_mp.bench.writers import NodeWriter, Writer, has_template, prompt_ids
from amusd_mp.config import Deployment
from amusd_mp.config.write import tables_of, to_toml
from amusd_mp.core.params import Strategy
from amusd_mp.errors import OperationalError, UsageError
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
        cores = cores_for_peer(self._deployment)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(reached(self._deployment, url))
            self._plan = replace(self._plan, task=replace(self._plan.task, chat=await has_template(client)))
            await self._refuse_long(client)
            try:
                status = await client.wait_for_draft(DRAFT_TIMEOUT)
            except TimeoutError as error:
                raise OperationalError(
                    f"no draft has joined {client.model.name} within {DRAFT_TIMEOUT:g} s, so there is nothing to "
                    "compare; is there a draft node, and do the models fit together?"
                ) from error
            peers = await peers_of(stack, client, self._deployment, self._plan, cores)
            found = await self._measured(client, status, peers)
        self._folder.text("acceptance.svg", acceptance(found["rows"], f"{self._plan.name}: {status.model.name}"))
        self._folder.json("summary.json", found)
        return found

    async def _refuse_long(self, client: Client) -> None:
        """Raise UsageError for prompts that leave no room for an answer, before hours are spent on the others."""
        task, room = self._plan.task, client.model.max_length
        for prompt in self._plan.prompts:
            tokens = len(await prompt_ids(client, task, prompt, [*prompt.before, ("user", prompt.turns[0])]))
            if tokens >= room:
                raise UsageError(
                    f"prompt {prompt.id} has {tokens} tokens, and {client.model.name} takes {room} with its answer; "
                    "leave it out, or raise max_length of the nodes"
                )

    async def _measured(self, client: Client, status: StatusReport, peers: Sequence[Writer]) -> dict[str, Any]:
        """Measure all contenders and return the summary; it is on disk before what only explains it is looked for."""
        plan = self._plan
        alone = NodeWriter(client, plan.task, Strategy.AUTOREGRESSIVE)
        main = NodeWriter(client, plan.task, Strategy.AMUSD, plan.lookahead)
        sweep = [NodeWriter(client, plan.task, Strategy.ALTERNATING, k) for k in plan.sweep]
        fixed = [] if plan.fixed is None else [NodeWriter(client, plan.task, Strategy.ALTERNATING, plan.fixed)]
        await self._warm_up([alone, main, *fixed, *sweep, *peers])
        swept = await self._sweep(sweep, main)
        best = [each for each in sweep if swept and each.lookahead == swept[0]["k"] and each.lookahead != plan.fixed]
        nodes = [alone, *fixed, *best, main]
        writers: list[Writer] = [*nodes, *peers]
        recorder = Recorder(client, nodes, plan.repeats * len(plan.prompts)) if plan.timeline else None
        measurement = Measurement(
            writers,
            plan.prompts,
            plan.repeats,
            plan.concurrency,
            prime=None if plan.blocks else lambda prompt: self._before(main, prompt, recorder),
            meter=lambda: done_by(client),
            on_answer=lambda answer: self._keep(answer, status.model.name),
        )
        self._progress.phase("measuring", measurement.total)
        await measurement.run()
        other = list(differences(measurement.answers, alone.label))
        found: dict[str, Any] = {
            "format": 1,
            "name": plan.name,
            "baseline": alone.label,
            "main": main.label,
            "models": {"verify": asdict(status.model), "drafts": [asdict(each) for each in status.drafts]},
            "settings": {**plan.settings(), "lookahead": client.speculation.lookahead},
            "environment": dict(plan.environment),
            **summary.results(
                measurement.answers, measurement.walls, alone.label, main.label, mixed=plan.concurrency > 1
            ),
            "verify_device": {label: asdict(work) for label, work in measurement.work.items() if work.steps},
            "agreement": self._agreement(measurement, [*fixed, *best], main),
            "sweep": sorted(swept, key=lambda each: int(each["k"])),
            "different": {label: sum(each.contender == label for each in other) for label in measurement.answers},
            "differences": [{**asdict(each), "margin": None} for each in other],
        }
        self._folder.json("summary.json", found)
        found["rescued"] = max((each.rescued or 0.0 for each in (await client.status()).drafts), default=0.0)
        own = measurement.answers[alone.label]
        found["differences"] = [await self._explained(client, each, own) for each in other]
        found["framework"] = await self._framework(client, main)
        if recorder is not None:
            found["steps"] = await self._recorded(recorder, status)
        return found

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

    async def _sweep(self, writers: Sequence[NodeWriter], main: NodeWriter) -> list[dict[str, float]]:
        """Return each k with its time per token on some prompts, the best first."""
        if not writers:
            return []
        some = spaced(self._plan.prompts, self._plan.sweep_prompts)
        trial = Measurement(
            writers,
            some,
            1,
            self._plan.concurrency,
            prime=None if self._plan.blocks else lambda prompt: self._before(main, prompt, None),
            on_answer=self._progress.answered,
        )
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

    def _keep(self, answer: Answer, model: str) -> None:
        self._folder.answer(answer, f"{model}, {answer.contender}")
        self._progress.answered(answer)

    async def _explained(self, client: Client, found: Difference, own: Sequence[Answer]) -> dict[str, Any]:
        """Return a difference with the margin of the decision there; None for a later turn, whose prompt differs."""
        answer = next(each for each in own if (each.prompt, each.repeat) == (found.prompt, found.repeat))
        prompt = next(each for each in self._plan.prompts if each.id == found.prompt)
        close: float | None = None
        if found.turn == 0 and self._plan.task.temperature == 0:
            ids = await prompt_ids(client, self._plan.task, prompt, [*prompt.before, ("user", prompt.turns[0])])
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


async def done_by(client: Client) -> Work:
    """Return what the verify node's device has done so far."""
    status = await client.status()
    return Work(status.steps, status.busy)


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
