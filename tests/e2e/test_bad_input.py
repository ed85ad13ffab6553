"""Rule: what is wrong with a deployment is one clear line and a non-zero exit, and hurts no node that runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from exactness import deployment

import amusd_mp
from amusd_mp import LocalCluster, TransportError
from amusd_mp.engine.source import BUNDLED
from amusd_mp.errors import AddressError, Unreachable

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[LocalCluster]:
    """A verify node without a draft."""
    async with LocalCluster(deployment(None)) as cluster:
        yield cluster


async def fails(*arguments: str) -> tuple[int, str]:
    """Run a command that has to fail, and return its exit code and what it said last."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "amusd_mp", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"},
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), DEADLINE)
    finally:
        if process.returncode is None:
            process.kill()
    lines = said.decode().strip().splitlines()
    assert not [line for line in lines if line.startswith("Traceback")]
    assert process.returncode is not None
    return process.returncode, lines[-1]


def node(tmp_path: Path, name: str, **keys: object) -> tuple[str, ...]:
    """Return the arguments that start a node of a file with these keys."""
    file = tmp_path / "deployment.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    file.write_text("\n".join([f"[nodes.{name}]", *lines]), "utf-8")
    return "node", name, "--config", str(file)


VERIFY = {"role": "verify", "model": "bundled:verify", "listen": "tcp://127.0.0.1:0"}
DRAFT = {"role": "draft", "model": "bundled:draft"}


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({**VERIFY, "thread": 2}, r"nodes\.verify\.thread.*did you mean nodes\.verify\.threads"),
        ({**VERIFY, "threads": "two"}, r"nodes\.verify\.threads"),
        ({**VERIFY, "dtype": "fp16"}, r"'fp16' is called 'float16' here"),
        ({**VERIFY, "listen": "tcp://0.0.0.0:0"}, "insecure = true"),
        ({**VERIFY, "model": "bundled:nope"}, "no bundled model 'bundled:nope'; there are: bundled:draft"),
        ({**VERIFY, "model": "./nowhere"}, "no folder .*nowhere"),
        ({**VERIFY, "model": "nobody/has-this"}, "hf download nobody/has-this"),
        ({**VERIFY, "device": "cuda:93"}, "sees no CUDA device"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(list(value.items())[-1]),
)
async def test_what_the_file_has_wrong_ends_the_node_with_2(
    tmp_path: Path, keys: dict[str, object], reason: str
) -> None:
    code, said = await fails(*node(tmp_path, "verify", **keys))
    assert code == 2
    assert re.search(reason, said), said


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    code, said = await fails("up", str(tmp_path / "absent.toml"))
    assert code == 2
    assert "absent.toml" in said


async def test_a_name_that_does_not_resolve_is_named(tmp_path: Path) -> None:
    url = "tcp://no-such-host.invalid:5601"
    code, said = await fails(*node(tmp_path, "draft", **DRAFT, dial=url))
    assert code == 1
    assert re.search(r"no-such-host\.invalid.* does not resolve", said), said
    with pytest.raises(AddressError, match=r"no-such-host\.invalid.* does not resolve"):
        async with amusd_mp.connect(url):
            pass


async def test_an_unknown_scheme_is_answered_with_the_known(tmp_path: Path) -> None:
    code, said = await fails(*node(tmp_path, "verify", **{**VERIFY, "listen": "carrier-pigeon://a"}))
    assert code == 1
    assert re.search(r"no transport for 'carrier-pigeon' .*installed: .*inproc, ipc, tcp", said), said


async def test_a_taken_port_is_named(tmp_path: Path, cluster: LocalCluster) -> None:
    code, said = await fails(*node(tmp_path, "verify", **{**VERIFY, "listen": cluster.url}))
    assert code == 1
    assert str(urlsplit(cluster.url).port) in said
    assert "taken" in said or "in use" in said


async def test_nobody_listening_is_told_within_the_deadline() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody else can listen there meanwhile, and this one does not
        port = held.getsockname()[1]
        with pytest.raises(Unreachable, match=rf"no verify node answers at tcp://127.0.0.1:{port} within 0.5 s"):
            async with asyncio.timeout(DEADLINE), amusd_mp.connect(f"tcp://127.0.0.1:{port}", timeout=0.5):
                pass


async def test_somebody_else_listening_is_told_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(TransportError, match=rf"no verify node answers at tcp://127.0.0.1:{port} within 0.5 s"):
            async with amusd_mp.connect(f"tcp://127.0.0.1:{port}", timeout=0.5):
                pass


async def test_a_draft_with_another_tokenizer_is_refused_and_the_verify_node_goes_on(
    tmp_path: Path, cluster: LocalCluster
) -> None:
    other = tmp_path / "other"
    shutil.copytree(BUNDLED / "draft", other)
    content = json.loads((other / "tokenizer.json").read_text("utf-8"))
    table = content["model"]["vocab"]
    first, second = sorted(table, key=table.__getitem__)[1000:1002]
    table[first], table[second] = table[second], table[first]
    (other / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    code, said = await fails(*node(tmp_path, "draft", role="draft", model=str(other), dial=cluster.url))
    assert code == 2
    assert re.search(
        r"cannot draft for bundled:verify: vocabulary_hash is [0-9a-f]{32}, but must be [0-9a-f]{32}; .*tokenizer", said
    ), said
    async with cluster.connect() as client:
        assert (await client.status()).degraded
        assert (await client.generate("def f(", max_tokens=4, timeout=DEADLINE)).tokens
