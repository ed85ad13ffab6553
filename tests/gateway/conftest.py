"""One server for all tests of the gateway that only ask: the bundled pair, started as a user starts it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

DEADLINE = 60.0
"""Seconds after which a test gives up on a server that is busy with nothing else."""

MODEL = "bundled:verify"

PAIR = """
[nodes.verify]
role = "verify"
model = "bundled:verify"
dtype = "float32"
threads = 1
max_sequences = 8
listen = "tcp://127.0.0.1:0"

[nodes.draft]
role = "draft"
model = "bundled:draft"
dtype = "float32"
threads = 1
dial = "verify"
"""


@dataclass(frozen=True)
class Server:
    """Where the nodes of a running deployment are, the gateway's process, and the log of all."""

    http: str
    verify: str
    pid: int
    log: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`amusd-mp serve FILE`, for a file without a gateway, with its draft joined."""
    file: Path = tmp_path_factory.mktemp("serve") / "pair.toml"
    file.write_text(PAIR)
    command = [sys.executable, "-m", "amusd_mp", "serve", str(file), "--listen", "http://127.0.0.1:0"]
    command += ["--log-format", "json"]
    log = file.with_name("log.jsonl")
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 2 * DEADLINE)[0], "no ready line"
        nodes = json.loads(process.stdout.readline())["nodes"]
        server = Server(nodes["gateway"]["url"], nodes["verify"]["url"], nodes["gateway"]["pid"], log)
        wait_for_draft(server.http)
        yield server
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for_draft(url: str) -> None:
    """Return once `/health` says that nothing is degraded."""
    with httpx.Client(base_url=url, timeout=DEADLINE) as http:
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            answer = http.get("/health")
            if answer.status_code == 200 and not answer.json()["degraded"]:
                return
            time.sleep(0.05)
    raise AssertionError(f"no draft joined: {answer.text}")


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    """Plain HTTP to the server."""
    with httpx.Client(base_url=server.http, timeout=DEADLINE) as client:
        yield client


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Keep the frameworks under test from reporting anything anywhere."""
    quiet = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", "NO_PROXY": "*"}
    before = {name: os.environ.get(name) for name in quiet}
    os.environ.update(quiet)
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
