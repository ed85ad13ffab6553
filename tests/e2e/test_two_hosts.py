"""Rule: two hosts, one file on both, joined by a link that may fail: the text is the verify model's own, and comes.

Verify and draft node in network namespaces of their own; a client in either.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
import streaming
from exactness import Reference, prompts
from streaming import WHOLE, Ending
from system import resident

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

TEXTS = prompts(2)
TOKENS, LONG = 48, 300
DEADLINE = 60.0
CUT = 3.0
"""Seconds the link is down: more than the liveness time, less than a lease."""

URL = "tcp://10.97.43.1:5601"

FILE = """
[nodes.verify]
role = "verify"
model = "bundled:verify"
dtype = "float32"
threads = 1
host = "gpu-a"
listen = "tcp://10.97.43.1:5601"

[nodes.draft]
role = "draft"
model = "bundled:draft"
dtype = "float32"
threads = 1
host = "gpu-b"
dial = "verify"

[security]
insecure = true
"""

CLIENT = """
import asyncio, json, sys, amusd_mp
async def main():
    url, tokens, texts = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    async with amusd_mp.connect(url) as client:
        await client.wait_for_draft()
        for text in texts:
            accepted = 0
            while not accepted:  # however busy this machine is, the draft's guesses come in time once
                result = await client.generate(text, max_tokens=tokens, timeout=60)
                accepted = result.stats.accepted
                print(json.dumps([text, result.token_ids]), flush=True)
asyncio.run(main())
"""

AT_REST = """
import asyncio, sys, amusd_mp
async def main():
    async with amusd_mp.connect(sys.argv[1]) as client:
        while (await client.status()).sequences:
            await asyncio.sleep(0.1)
asyncio.run(main())
"""

DRAIN = """
import asyncio, sys, amusd_mp
async def main():
    async with amusd_mp.connect(sys.argv[1]) as client:
        await client.drain()
asyncio.run(main())
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, str]]:
    """Two namespaces, "gpu-a" at 10.97.43.1 and "gpu-b" at 10.97.43.2: host -> namespace."""
    names = {host: f"amusd-{host}-{os.getpid()}" for host in ("gpu-a", "gpu-b")}
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (iproute2)")
    try:
        try:
            for name in names.values():
                ip("netns", "add", name)
            a, b = names.values()
            ip("link", "add", "amusd0", "netns", a, "type", "veth", "peer", "name", "amusd0", "netns", b)
            for number, name in enumerate(names.values(), 1):
                ip("-n", name, "addr", "add", f"10.97.43.{number}/24", "dev", "amusd0")
                ip("-n", name, "link", "set", "amusd0", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed here: {error.stderr.decode().strip()}")
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10, check=False)


async def on(host: str, *command: str, stdin: int | None = None) -> asyncio.subprocess.Process:
    """Start a command in a namespace."""
    return await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", host, sys.executable, *command),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(
    hosts: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, asyncio.subprocess.Process]]:
    """Both nodes, ready, each on its host."""
    file = tmp_path_factory.mktemp("two-hosts") / "two-hosts.toml"
    file.write_text(FILE, "utf-8")
    nodes: dict[str, asyncio.subprocess.Process] = {}
    try:
        for name, host in (("verify", "gpu-a"), ("draft", "gpu-b")):
            command = ("-m", "amusd_mp", "node", name, "--config", str(file), "--host", host, "--exit-with-stdin")
            nodes[name] = await on(hosts[host], *command, stdin=asyncio.subprocess.PIPE)
        async with asyncio.timeout(DEADLINE):
            for process in nodes.values():
                assert process.stdout is not None
                assert json.loads(await process.stdout.readline())["event"] == "ready"
        yield nodes
    finally:
        for process in nodes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_either_host_gets_the_text_with_the_drafts_help(
    hosts: dict[str, str], nodes: dict[str, asyncio.subprocess.Process], reference: Reference
) -> None:
    expected = dict(zip(TEXTS, await asyncio.to_thread(reference.answers, TEXTS, TOKENS), strict=True))
    for host in hosts.values():
        client = await on(host, "-c", CLIENT, URL, str(TOKENS), *TEXTS)
        out, said = await asyncio.wait_for(client.communicate(), DEADLINE)
        assert client.returncode == 0, said.decode()
        for line in out.splitlines():
            text, got = json.loads(line)
            assert reference.differs(text, expected[text], tuple(got)) in (None, "tie")


# ------------------------------------------------------------------------------------------ the link fails


def memory(nodes: dict[str, asyncio.subprocess.Process]) -> dict[str, float]:
    """Return each process's memory in MiB."""
    return {name: resident(process.pid) for name, process in nodes.items()}


async def cut(host: str) -> None:
    """Take the link down for CUT seconds."""
    ip("-n", host, "link", "set", "amusd0", "down")
    try:
        await asyncio.sleep(CUT)
    finally:
        ip("-n", host, "link", "set", "amusd0", "up")


@asynccontextmanager
async def reader(host: str, reference: Reference) -> AsyncIterator[Callable[[], Awaitable[Ending]]]:
    """A client on a host that streams without a pause; yields what waits for its next ending, and checks it."""
    asks = [{"prompt": text, "options": {"max_tokens": LONG}} for text in TEXTS]
    expected = await asyncio.to_thread(reference.answers, TEXTS, LONG)
    process = await on(host, streaming.__file__, URL, "1", json.dumps(asks))
    assert process.stdout is not None

    async def ending() -> Ending:
        async with asyncio.timeout(DEADLINE):
            fields = json.loads(await process.stdout.readline())
        found = Ending(**{**fields, "ids": tuple(fields["ids"])})
        if not found.ids and found.outcome in ("RequestTimeout", "Unreachable"):
            return found  # cut off before it was a response, on a machine that is slow to connect again
        assert found.outcome == WHOLE, found  # nothing else: no error that none may have, no stream without an end
        assert reference.differs(TEXTS[found.ask], expected[found.ask], found.ids) in (None, "tie")
        return found

    try:
        yield ending
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.communicate(), DEADLINE)  # what it still streamed ends, too
        finally:
            if process.returncode is None:
                process.kill()


async def test_a_link_that_fails_for_a_while_costs_the_drafts_help_and_no_response(
    hosts: dict[str, str], nodes: dict[str, asyncio.subprocess.Process], reference: Reference
) -> None:
    async with reader(hosts["gpu-a"], reference) as beside, reader(hosts["gpu-b"], reference) as beyond:
        while not (await beside()).accepted:
            pass
        await beyond()
        before = memory(nodes)
        await cut(hosts["gpu-b"])
        while (await beyond()).waited < CUT / 2:  # the response in whose middle it was came whole
            pass
        while not (await beside()).accepted:  # the draft is back
            pass
    resting = await on(hosts["gpu-a"], "-c", AT_REST, URL)
    _, said = await asyncio.wait_for(resting.communicate(), DEADLINE)
    assert resting.returncode == 0, said.decode()
    after = memory(nodes)
    assert all(after[name] <= 1.1 * before[name] + 16 for name in before), (before, after)


async def test_both_nodes_end_with_0_when_asked(
    hosts: dict[str, str], nodes: dict[str, asyncio.subprocess.Process]
) -> None:
    nodes["draft"].terminate()
    await (await on(hosts["gpu-b"], "-c", DRAIN, URL)).communicate()
    for process in nodes.values():
        _, said = await asyncio.wait_for(process.communicate(), DEADLINE)
        assert process.returncode == 0, said.decode()
