"""One deployment of the bundled pair for all tests of the client-side commands, started as a user starts it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest

from amusd_mp.client.client import Client, connect

T = TypeVar("T")
DEADLINE = 60.0

DEPLOYMENT = """
[nodes.verify]
role = "verify"
model = "bundled:verify"
dtype = "float32"
threads = 1
listen = "tcp://127.0.0.1:0"

[nodes.draft]
role = "draft"
model = "bundled:draft"
dtype = "float32"
threads = 1
dial = "verify"
"""


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without what steers our commands, and with `extra`."""
    steering = {"AMUSD_MP_URL", "NO_COLOR", "FORCE_COLOR"}
    return {**{key: value for key, value in os.environ.items() if key not in steering}, **extra}


def heed_interrupts() -> None:
    """Undo in a child what a shell does to background jobs, which would make Ctrl-C unheard."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "amusd_mp", *arguments]


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command with pipes for text; options are those of Popen."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()}
    return subprocess.Popen(command(*arguments), text=True, preexec_fn=heed_interrupts, **{**pipes, **options})


def run(*arguments: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `extra` are environment variables."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(**extra),
        check=False,
    )


def read_line(pipe: IO[str]) -> str:
    """Return the next line of a process, which must come within the deadline."""
    ready, _, _ = select.select([pipe], [], [], DEADLINE)
    assert ready, "the process said nothing"
    return pipe.readline()


@dataclass(frozen=True)
class Tools:
    """What the tests of commands share, since test modules cannot import each other."""

    url: str

    start = staticmethod(start)
    run = staticmethod(run)
    read_line = staticmethod(read_line)
    environment = staticmethod(environment)
    heed_interrupts = staticmethod(heed_interrupts)
    command = staticmethod(command)

    def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Return what a client of this process says."""

        async def talk() -> T:
            async with asyncio.timeout(DEADLINE), connect(self.url) as client:
                return await question(client)

        return asyncio.run(talk())

    def wait_until_idle(self) -> None:
        """Return once the verify node holds no sequence; fail at the deadline."""

        async def idle(client: Client) -> None:
            while (await client.status()).sequences:
                pass  # a request is a pause by itself

        self.ask(idle)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    """A running deployment, its draft joined, and ways to use it."""
    folder: Path = tmp_path_factory.mktemp("deployment")
    (folder / "pair.toml").write_text(DEPLOYMENT)
    with (folder / "log").open("w") as log, start("up", str(folder / "pair.toml"), stderr=log) as up:
        try:
            assert up.stdout is not None
            line = read_line(up.stdout)
            assert line, (folder / "log").read_text()
            found = Tools(json.loads(line)["nodes"]["verify"]["url"])
            found.ask(lambda client: client.wait_for_draft())
            yield found
        finally:
            up.send_signal(signal.SIGINT)
            try:
                up.wait(DEADLINE)
            finally:
                up.kill()


@pytest.fixture
def nobody() -> Iterator[str]:
    """The URL of a port at which nobody can listen while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def within() -> Callable[[], bool]:
    """Tell whether a generous deadline has not passed yet."""
    end = time.monotonic() + DEADLINE
    return lambda: time.monotonic() < end
