"""Rule: a device that hangs while the loop lives ends its node, non-zero, and whoever waited for it is told.

The nodes are the real ones in processes of their own, by way of roles that give them a model whose device thread stops
answering after some steps, and a limit on a step's age that a test can wait for.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import amusd_mp
from amusd_mp.errors import NodeFailed, SequenceLost
from amusd_mp.launcher.cluster import LocalCluster

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as the other tests of processes")

DEADLINE = 30.0
VOCABULARY = 97

ROLES = f"""
import threading
from dataclasses import replace

from amusd_mp.core import limits
from amusd_mp.nodes.draft import DraftNode
from amusd_mp.nodes.verify import VerifyNode
from amusd_mp.testing.stub import Stub, StubModel, hash_rule


class Hanging(StubModel):
    def run(self, step):
        if step.number >= self.hangs_at:
            threading.Event().wait()
        return super().run(step)


def with_model(context, hangs_at):
    model = Hanging(hash_rule({VOCABULARY}), 4, {VOCABULARY}, 1 << 20)
    model.hangs_at = hangs_at
    if hangs_at < 1 << 30:
        limits.STEP_LIMIT = 0.5
    return replace(context, load_model=lambda spec, progress: Stub.of(model))


class HungVerify(VerifyNode):
    def __init__(self, context):
        super().__init__(with_model(context, 5))


class StubVerify(VerifyNode):
    def __init__(self, context):
        super().__init__(with_model(context, 1 << 30))


class HungDraft(DraftNode):
    def __init__(self, context):
        super().__init__(with_model(context, 5))
"""


@pytest.fixture(autouse=True)
def roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the roles for the child processes of a test."""
    site = tmp_path / "site"
    info = site / "hanging-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "hanging_nodes.py").write_text(ROLES)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1.0\n")
    lines = [f"{role} = hanging_nodes:{name}" for role, name in NAMES.items()]
    (info / "entry_points.txt").write_text("[amusd_mp.nodes]\n" + "\n".join(lines) + "\n")
    monkeypatch.setenv("PYTHONPATH", str(site))


NAMES = {"hung-verify": "HungVerify", "stub-verify": "StubVerify", "hung-draft": "HungDraft"}
SERVER = {"role": "hung-verify", "model": "stub", "listen": "tcp://127.0.0.1:0"}


async def failure(cluster: LocalCluster) -> NodeFailed:
    """Wait until a node has failed by itself, and return what the launcher raises for it."""
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(NodeFailed) as caught:
            await cluster._launcher.wait()
    return caught.value


async def test_a_hung_verify_node_tells_its_clients_and_ends_with_1() -> None:
    async with LocalCluster({"nodes": {"server": SERVER}}) as cluster:
        url = cluster.nodes["server"].url
        assert url is not None
        async with amusd_mp.connect(url) as client:
            with pytest.raises(SequenceLost) as caught:
                await client.generate("hello", max_tokens=100, timeout=DEADLINE)
            assert len(caught.value.token_ids) == 4  # one of each step before the hang
        failed = await failure(cluster)
        assert (failed.node, failed.exit_code) == ("server", 1)
        assert "the device has not answered for" in str(failed)


async def test_a_hung_draft_ends_with_1_and_no_client_sees_an_error() -> None:
    nodes = {
        "server": {**SERVER, "role": "stub-verify"},
        "guest": {"role": "hung-draft", "model": "stub", "dial": "server"},
    }
    async with LocalCluster({"nodes": nodes}) as cluster:
        url = cluster.nodes["server"].url
        assert url is not None
        async with amusd_mp.connect(url) as client:
            await client.wait_for_draft(DEADLINE)
            async with client.stream("hello", strategy="alternating") as stream:
                await anext(stream)
                async with asyncio.timeout(DEADLINE):
                    while "guest" in cluster.nodes:
                        await anext(stream)
            result = await client.generate("hello", max_tokens=20, timeout=DEADLINE)
            assert len(result.token_ids) == 20
        failed = await failure(cluster)
        assert (failed.node, failed.exit_code) == ("guest", 1)
        assert "the device has not answered for" in str(failed)
