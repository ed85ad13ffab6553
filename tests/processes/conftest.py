"""A node role that this project does not know, installed for child processes by the ordinary door, and ways to run it.

The stranger's behaviour is chosen by its `model` key, and triggered by SIGUSR1, so that a test never waits for time.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

DEADLINE = 30.0
"""Seconds after which a test that waits for a process gives up."""

STRANGER = '''
import asyncio, logging, os, signal, socket, sys, threading
from amusd_mp.errors import AccessDenied, ModelError, NodeFailed
from amusd_mp.node import Node


class StrangerNode(Node):
    """Does what its model is called."""

    async def open(self):
        self.ended, self.told = asyncio.Event(), asyncio.Event()
        config, facts = self.context.config, {"device": self.context.config.device}
        if hasattr(signal, "SIGUSR1"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.trigger)
        if config.listen:
            host, port = config.listen.removeprefix("tcp://").split(":")
            self.socket = socket.create_server((host, int(port)))
            facts["url"] = f"tcp://{host}:{self.socket.getsockname()[1]}"
        if config.dial:
            facts["dials"] = self.context.deployment.dial_url(self.context.name)
        facts["environment"] = {key: os.environ.get(key) for key in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
        facts["cores"] = sorted(os.sched_getaffinity(0))
        facts["torch"] = "torch" in sys.modules
        return facts

    async def load(self, progress):
        model = self.context.config.model
        progress("weights", 0.5)
        if model == "bad":
            raise ModelError("model 'bad' is not here; write another", model=model)
        if model == "broken":
            raise ValueError("a bug\\nof two lines")
        if model == "slow":
            never = threading.Event()
            await self.context.runtime.executor("device").run(never.wait)

    def trigger(self):
        if self.context.config.model == "stuck":
            logging.getLogger("amusd_mp.stranger").warning("stuck")
            threading.Event().wait()
        self.told.set()

    async def serve(self):
        told, ended = asyncio.create_task(self.told.wait()), asyncio.create_task(self.ended.wait())
        await asyncio.wait({told, ended}, return_when=asyncio.FIRST_COMPLETED)
        if told.done() and self.context.config.model == "drains":
            return
        if told.done() and self.context.config.model == "refused":
            raise AccessDenied("its key is refused")
        if told.done():
            raise NodeFailed("the device hangs")
        if self.context.config.model == "fragile":
            raise NodeFailed("broke while draining")

    def drain(self):
        if self.context.config.model != "stubborn":
            self.ended.set()

    async def close(self):
        if self.context.config.listen:
            self.socket.close()
'''


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the role `stranger` for the child processes of a test."""
    site = tmp_path / "site"
    info = site / "stranger-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "stranger_node.py").write_text(STRANGER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[amusd_mp.nodes]\nstranger = stranger_node:StrangerNode\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # the suite's own


class Child:
    """A command of ours as a process, read line by line with a deadline."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[str] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ready(self) -> dict[str, object]:
        """Return the JSON line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            line = await self.process.stdout.readline()
        if not line:
            await self.end()
            raise AssertionError(f"no ready line, but: {self.log}")
        fields = json.loads(line)
        assert isinstance(fields, dict)
        return fields

    async def said(self, part: str) -> str:
        """Wait for a log line that contains `part`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            while line := (await self.process.stderr.readline()).decode():
                self.log.append(line.rstrip("\n"))
                if part in line:
                    return self.log[-1]
        raise AssertionError(f"nobody said {part!r}, but: {self.log}")

    async def end(self) -> int:
        """Wait for the end and return the exit code; `log` is complete then."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            rest = await self.process.stderr.read()
            self.log += rest.decode().splitlines()
            return await self.process.wait()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


Run = Callable[..., "asyncio.Future[Child]"]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Start `amusd-mp ARGUMENTS`; what still runs after the test is killed."""
    children: list[Child] = []

    async def start(*arguments: str | Path) -> Child:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "amusd_mp", *map(str, arguments)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"NO_COLOR": "1"},
        )
        children.append(Child(process))
        return children[-1]

    yield start  # type: ignore[misc]  # a coroutine function, seen as what it returns
    for child in children:
        if child.process.returncode is None:
            child.process.kill()
            await child.process.wait()


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of two strangers, `server` and `guest` who dials it; `keys` are further lines of either table."""

    def write(server: str = "", guest: str = "", listen: str = "tcp://127.0.0.1:0") -> Path:
        file = tmp_path / "pair.toml"
        file.write_text(
            f'[nodes.server]\nrole = "stranger"\nlisten = "{listen}"\n{server}\n'
            f'[nodes.guest]\nrole = "stranger"\ndial = "server"\n{guest}\n'
        )
        return file

    return write


async def gone(pid: int) -> None:
    """Return when a process that is not our child has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(DEADLINE):
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


@pytest.fixture(name="gone")
def gone_fixture() -> Callable[[int], object]:
    """Wait for the end of a process that is not our child."""
    return gone
