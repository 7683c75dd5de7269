"""Fixtures of the activities' tests: the ledger, the simulated network without delays, and what a worker's activities share."""

from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from redis.asyncio import Redis
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.resources import Resources
from siaran.db import SessionMaker
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.settings import Settings
from tests.factories import NOW
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


class HandClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    """Stands at `NOW`."""
    return HandClock()


@pytest.fixture
def resources(settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client, clock: HandClock) -> Resources:
    """What the activities of a worker share."""
    return Resources(settings, sessions, redis, temporal_client, clock)


@pytest.fixture
def environment() -> ActivityEnvironment:
    """Runs activities as a worker does."""
    return ActivityEnvironment()
