"""Real nodes behind an attacker, and a client that streams through it all the while.

What must hold is checked here, for the short siege of every test run and the long one of `make soak` alike: the same
processes live, nobody logs an error, no exception escapes, memory does not grow, and every text is exact.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from exactness import Reference, deployment, prompts
from system import resident

import amusd_mp
import amusd_mp.errors
from amusd_mp import Client, LocalCluster
from amusd_mp.log import Event

TEXTS = prompts(4)[:4]
TOKENS = 40
DEADLINE = 120.0
BATCH = 500
LANES = ("requests", "windows", "subscriptions", "publications")


class Siege:
    """A verify node, and behind an attacker a draft node and a client. `sent` counts hostile messages by lane."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.sent = dict.fromkeys(LANES, 0)
        self.answers: dict[str, int] = {}
        self.texts = 0
        self.ties = 0
        self.interrupted = 0
        self.wrong: list[str] = []
        self._events: list[Event] = []
        self._escaped: list[str] = []
        self._stack = AsyncExitStack()
        self._reference = Reference()
        self._kept = Path(tempfile.gettempdir()) / f"amusd-mp-fuzz-{os.getpid()}-{seed}.json"

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        self._expected = self._reference.answers(TEXTS, TOKENS)
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: self._escaped.append(str(about)))
        try:
            self.verify = await enter(LocalCluster(deployment(None), on_event=self._events.append))
            url = await self._start_attacker(self.verify.url)
            behind: dict[str, Any] = deployment("bundled:draft")
            draft = {**behind["nodes"]["draft"], "dial": url}
            self.draft = await enter(LocalCluster({"nodes": {"draft": draft}}, on_event=self._events.append))
            self.client: Client = await enter(amusd_mp.connect(url, timeout=DEADLINE))
            self.watcher: Client = await enter(self.verify.connect(timeout=DEADLINE))
            await self.watcher.wait_for_draft(DEADLINE)
            self.pids = self._pids()
            self._streaming = asyncio.create_task(self._stream(), name="streams")
            self._stack.push_async_callback(self._stop)
            await self._recorded()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *about: object) -> None:
        await self._stack.aclose()

    def _pids(self) -> dict[str, int]:
        return {name: node.pid for cluster in (self.verify, self.draft) for name, node in cluster.nodes.items()}

    async def _start_attacker(self, url: str) -> str:
        options = json.dumps({"url": url, "seed": self.seed})
        script = Path(__file__).with_name("attacker.py")
        self._attacker = await asyncio.create_subprocess_exec(
            *(sys.executable, str(script), options), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )

        async def end() -> None:
            if self._attacker.returncode is None:
                self._attacker.kill()
            await self._attacker.wait()

        self._stack.push_async_callback(end)
        return str((await self._read())["url"])

    async def _read(self) -> dict[str, Any]:
        assert self._attacker.stdout is not None
        async with asyncio.timeout(DEADLINE):
            line = await self._attacker.stdout.readline()
        assert line, "the attacker ended"
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    async def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._attacker.stdin is not None
        self._attacker.stdin.write(json.dumps(order).encode() + b"\n")
        return await self._read()

    async def _recorded(self) -> None:
        """Wait until there is something of every kind to make hostile messages from."""
        async with asyncio.timeout(DEADLINE):
            while True:
                kept = await self._order({"lane": "records"})
                if min(kept.get(kind, 0) for kind in ("requests", "drafts", "publications")) >= 20:
                    return
                await asyncio.sleep(0.1)

    # ------------------------------------------------------------------------------------------ the client

    async def _stream(self) -> None:
        """Generate without a pause, and compare."""
        while True:
            at = self.texts % len(TEXTS)
            try:
                result = await self.client.generate(TEXTS[at], max_tokens=TOKENS, timeout=DEADLINE)
            except amusd_mp.errors.OperationalError:  # the way through may be slow to answer under all this
                self.interrupted += 1
                continue
            found = self._reference.differs(TEXTS[at], self._expected[at], result.token_ids)
            self.texts += 1
            self.ties += found == "tie"
            if found not in (None, "tie"):
                self.wrong.append(str(found))

    async def _stop(self) -> None:
        self._streaming.cancel()
        await asyncio.wait({self._streaming})

    # ------------------------------------------------------------------------------------------ the attack

    async def attack(self, lane: str, count: int) -> None:
        """Send so many hostile messages, and check everything after each batch."""
        left = count
        while left > 0:
            figures = await self._order({"lane": lane, "count": min(BATCH, left)})
            left -= BATCH
            self.sent[lane] += figures.get("sent", 0)
            for name, figure in figures.items():
                if isinstance(figure, int):
                    self.answers[f"{lane}.{name}"] = self.answers.get(f"{lane}.{name}", 0) + figure
            try:
                await self._check(figures)
            except (AssertionError, amusd_mp.AmusdError, TimeoutError) as error:
                await self._order({"lane": "keep", "file": str(self._kept)})
                error.add_note(f"seed {self.seed}, lane {lane}; its payloads are in {self._kept}")
                raise

    async def replay(self, lane: str, file: str) -> None:
        """Send again what a failed run kept."""
        await self._check(await self._order({"lane": lane, "replay": file}))

    async def _check(self, figures: dict[str, Any]) -> None:
        assert "failed" not in figures, figures
        assert figures.get("answers", 0) == figures.get("framed", 0), figures
        if self._streaming.done():
            self._streaming.result()
        assert not self.wrong, self.wrong
        assert not self._escaped, self._escaped
        assert not (bad := [e for e in self._events if e.fatal or e.level in ("error", "critical")]), bad[:5]
        await self.watcher.status(DEADLINE)
        assert self._pids() == self.pids

    async def counters(self) -> dict[str, int]:
        """Return what the verify node has counted."""
        return dict((await self.watcher.status(DEADLINE)).counters)

    async def another_text(self) -> None:
        """Wait until one more whole response was read."""
        before = self.texts
        async with asyncio.timeout(DEADLINE):
            while self.texts < before + 2 and not self._streaming.done():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await self._check({})

    async def storm(self, counts: Mapping[str, int], rounds: int = 1) -> None:
        """Attack all lanes in turn, so many messages each, then see that texts still come."""
        for turn in range(rounds):
            for lane, count in counts.items():
                await self.attack(lane, count * (turn + 1) // rounds - count * turn // rounds)
        await self.another_text()

    def memory(self) -> dict[str, float]:
        """Return the MiB that each process holds; "client" is this one."""
        return {**{name: resident(pid) for name, pid in self.pids.items()}, "client": resident()}
