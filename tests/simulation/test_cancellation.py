"""Rule: wherever a cancellation strikes, nothing is left: no sequence, no cache row, no task, and others are served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from amusd_mp.client.client import connect
from amusd_mp.core import limits
from amusd_mp.core.messages import Cancel, Cancelled, Renew, Renewed, client_topic
from amusd_mp.core.params import Speculation
from amusd_mp.errors import OperationalError
from amusd_mp.session.link import KEEPALIVE, Link
from amusd_mp.session.sender import Sender
from amusd_mp.tasks import task_group
from amusd_mp.testing.cluster import InProcessCluster, deployment
from amusd_mp.testing.simulation.interruption import Interruption
from amusd_mp.testing.simulation.loop import run
from amusd_mp.testing.simulation.model import SimulatedModel, StepCost, Tokens
from amusd_mp.testing.simulation.network import Network, Weather
from amusd_mp.testing.simulation.surroundings import VirtualRuntime
from amusd_mp.testing.stub import Stub

ROWS = 3
TRUTH = Tokens(seed=5)
PROMPT = tuple(range(20))
SOON = 3 * limits.BEAT
"""Seconds in which a client that can still talk has its sequences cancelled; without that it would take a lease."""


def make(drafts: int = 1) -> InProcessCluster:
    models = {
        "truth": lambda: Stub.of(SimulatedModel(TRUTH, StepCost(0.01), ROWS)),
        "guess": lambda: Stub.of(SimulatedModel(Tokens(5, 0.7, dice=3), StepCost(0.004), ROWS)),
    }
    nodes = deployment("truth", ["guess"] * drafts, url="inproc://cancellation", speculation=Speculation(lookahead=4))
    return InProcessCluster(nodes, models, runtime=VirtualRuntime("cancellation"))


def held(cluster: InProcessCluster) -> str:
    found = []
    for name, node in cluster.nodes.items():
        core: Any = node._core  # type: ignore[attr-defined]
        sequences = core.live if hasattr(core, "live") else core.sequences
        if sequences or core.free_rows != ROWS:
            found.append(f"{name}: {list(sequences)}, {core.free_rows} of {ROWS} rows free")
    return "; ".join(found)


async def uses_everything(cluster: InProcessCluster) -> None:
    """Do what an application does with a client: stream, leave, wait for whole answers, several at once, ask."""
    async with connect(cluster.url, runtime=VirtualRuntime("user")) as client:
        with contextlib.suppress(TimeoutError):  # where it is the draft that is struck
            await client.wait_for_draft(timeout=1.0)
        async with client.stream(PROMPT, max_tokens=6) as stream:
            async for chunk in stream:
                assert chunk.token_ids
        async with client.stream(PROMPT, max_tokens=100, timeout=9.0) as stream:
            await anext(stream)
        result = await client.generate(PROMPT, max_tokens=5, strategy="alternating")
        assert list(result.token_ids) == TRUTH.write(PROMPT, 5)
        await client.sample(PROMPT, 2, max_tokens=3)
        await client.status()


async def uses_it_next(cluster: InProcessCluster, seed: str = "next user") -> None:
    async with connect(cluster.url, runtime=VirtualRuntime(seed)) as client:
        result = await client.generate(PROMPT, max_tokens=4, timeout=9.0)
    assert list(result.token_ids) == TRUTH.write(PROMPT, 4)


async def restart(cluster: InProcessCluster) -> None:
    """Start what was struck again, as a supervisor would."""
    for name in ("verify", "draft-0"):
        if name not in cluster.nodes:
            await cluster.start(name)


def play(interruption: Interruption) -> None:
    """Run a user whom the interruption may strike, then another one, and see that nothing is left."""
    network = Network("cancellation", Weather(delay=(0.001, 0.001)))

    async def story() -> None:
        async with make() as cluster:
            user = asyncio.create_task(uses_everything(cluster), name="user")
            await asyncio.wait([user], timeout=30.0)
            assert user.done(), "the user's task does not end"
            if interruption.meant(user) or interruption.victim == "user":
                assert user.cancelled() or not interruption.struck, "the user's task swallowed its cancellation"
            if not user.cancelled():
                error = user.exception()
                # who is not meant may see an operation fail, and that by a typed error
                assert error is None or isinstance(error, OperationalError), repr(error)
            await restart(cluster)
            async with asyncio.timeout(SOON if user.cancelled() else limits.LEASE + limits.LIVENESS + SOON):
                while held(cluster):  # noqa: ASYNC110  # nodes tell nobody that they let go
                    await asyncio.sleep(limits.BEAT / 4)
            try:
                await uses_it_next(cluster)
            except OperationalError:  # it was this one who saw the node being struck
                await restart(cluster)
                await uses_it_next(cluster, "the one after")
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with interruption, network.open(), network.being("all"):
        run(story())


def play_session(interruption: Interruption) -> None:
    """Run a link alone against a verify node: the session layer without a client around it."""
    network = Network("cancellation", Weather(delay=(0.001, 0.001)))

    async def converses(link: Link) -> None:
        """Do all that a link can do, its background included."""
        try:
            async with task_group() as tasks:
                background = tasks.create_task(link.run(), name="link runs")
                await link.open(5.0)
                life = link.verify
                for number in range(2):
                    await link.call(Cancel(f"unknown-{number}", life), Cancelled)
                await link.call(Renew(life, ("unknown-0",)), Renewed)
                await asyncio.sleep(1.5 * KEEPALIVE)  # a hello by itself
                background.cancel()
        finally:
            await link.close()

    def make_link(url: str, name: str) -> Link:
        ignore: Any = lambda *_: None  # noqa: E731
        runtime = VirtualRuntime(name)
        sender = Sender(name, runtime.new_id())
        topics = (client_topic(sender.incarnation),)
        return Link(url, sender, runtime, role="client", prefixes=topics, on_publication=ignore, on_lost=ignore)

    async def story() -> None:
        async with make(drafts=0) as cluster:
            link = make_link(cluster.url, "one")
            user = asyncio.create_task(converses(link), name="session")
            await asyncio.wait([user], timeout=30.0)
            assert user.done(), "the session does not end"
            if interruption.struck:
                assert user.cancelled(), "the session swallowed its cancellation"
            else:
                user.result()
            assert not link._introduction.waiting
            assert not held(cluster)
            await converses(make_link(cluster.url, "two"))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with interruption, network.open(), network.being("all"):
        run(story())


def at_every_await(task: str, play: Callable[[Interruption], None] = play, **how: Any) -> None:
    """Strike at each await of a task, one play for each."""
    whole = Interruption(task, **how)
    play(whole)
    assert whole.steps > 2
    struck = 0
    for at in range(1, whole.steps + 1):
        interruption = Interruption(task, at, **how)
        try:
            play(interruption)
        except BaseException as error:
            error.add_note(f"at await {at} of {whole.steps} of {task}, {how}")
            raise
        struck += interruption.struck
    assert struck > whole.steps / 3  # the rest comes after the end of whom it is meant for


@pytest.mark.parametrize("late", [False, True], ids=["while it waits", "as what it waits for comes"])
@pytest.mark.parametrize(
    "task",
    [
        "user",  # all of the client's interface
        "sample *",  # what the client starts on its own
        "inproc://cancellation answer",  # what answers requests at the verify node
        "draft-0",
        "verify",
    ],
)
def test_a_cancellation_at_every_await_leaves_nothing(task: str, late: bool) -> None:
    at_every_await(task, late=late)


@pytest.mark.parametrize("late", [False, True], ids=["while it waits", "as what it waits for comes"])
def test_a_session_that_is_cancelled_at_any_await_leaves_nothing(late: bool) -> None:
    at_every_await("session", play_session, late=late)


def test_a_session_that_is_cancelled_while_its_link_is_anywhere_leaves_nothing() -> None:
    for parts in ("link runs", "client listens", "client greets", "client watches"):
        at_every_await(parts, play_session, victim="session")


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ("client-*", "user"),  # the client's background: listening, renewing, cancelling
        ("client *", "user"),  # its link: hearing, greeting, watching
        ("draft-0 *", "draft-0"),
        ("draft *", "draft-0"),  # its link
        ("verify *", "verify"),
    ],
)
def test_a_whole_that_is_cancelled_while_its_parts_are_anywhere_leaves_nothing(parts: str, whole: str) -> None:
    at_every_await(parts, victim=whole)
