"""Nodes on stubs, and clients of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from stubs import Cluster

from amusd_mp import Client


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with cluster.client() as client:
        await client.wait_for_draft()
        yield client


@pytest_asyncio.fixture
async def alone() -> AsyncIterator[Client]:
    """A client of a verify node without a draft."""
    async with Cluster(0) as cluster, cluster.client() as client:
        yield client
