"""Rule: two hosts, one file on both: verify and draft in network namespaces of their own, joined by a link."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from exactness import Reference, prompts

TEXTS = prompts(2)
TOKENS = 48
DEADLINE = 60.0

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
            result = await client.generate(text, max_tokens=tokens, timeout=60)
            print(json.dumps([result.token_ids, result.stats.accepted]), flush=True)
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


@pytest.fixture
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


@pytest.mark.slow
async def test_two_hosts_from_one_file(hosts: dict[str, str], tmp_path: Path) -> None:
    reference = Reference()
    expected = await asyncio.to_thread(reference.answers, TEXTS, TOKENS)
    file = tmp_path / "two-hosts.toml"
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
        for host in hosts.values():
            client = await on(host, "-c", CLIENT, "tcp://10.97.43.1:5601", str(TOKENS), *TEXTS)
            out, said = await asyncio.wait_for(client.communicate(), DEADLINE)
            assert client.returncode == 0, said.decode()
            accepted = 0
            for text, ids, line in zip(TEXTS, expected, out.splitlines(), strict=True):
                got, helped = json.loads(line)
                assert reference.differs(text, ids, tuple(got)) in (None, "tie")
                accepted += helped
            assert accepted > 0
        nodes["draft"].terminate()
        await (await on(hosts["gpu-b"], "-c", DRAIN, "tcp://10.97.43.1:5601")).communicate()
        for process in nodes.values():
            _, said = await asyncio.wait_for(process.communicate(), DEADLINE)
            assert process.returncode == 0, said.decode()
    finally:
        for process in nodes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()
