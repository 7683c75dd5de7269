"""Fixtures of the activities' tests: the ledger, and the simulated network without delays."""

from collections.abc import AsyncIterator

import pytest

from siaran.db import SessionMaker
from siaran.gateway.simulated_network import SimulatedNetwork
from tests.ledger.driver import Ledger


@pytest.fixture
async def ledger(sessions: SessionMaker) -> Ledger:
    """A user and a host with a live lease."""
    ledger = Ledger(sessions)
    await ledger.open()
    return ledger


@pytest.fixture
async def network(network_url: str) -> AsyncIterator[SimulatedNetwork]:
    """The simulated network: messages are acknowledged at once, and no receipt follows unless a test says so."""
    async with SimulatedNetwork(network_url) as network:
        await network.configure(latency_ms=(0, 0), delivered_rate=0, ack_timeout_seconds=0.1)
        yield network
