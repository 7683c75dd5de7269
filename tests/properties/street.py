"""A whole product in one process for several users: the API, a worker, a device host, and who gives it devices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from httpx import ASGITransport, AsyncClient
from redis.asyncio import Redis
from temporalio.client import Client

from activities.resources import Resources
from api.app import create_app
from siaran import lane_standing
from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.models import TransportKind
from siaran.settings import Settings
from tests.api.conftest import BASE_URL
from worker import connections, queues
from worker.__main__ import work
from worker.host import Host
from worker.lease import begin_lease
from worker.placement import place_devices, waiting_devices

HURRY = {"failover_after_seconds": 0.5, "receipt_wait_seconds": 0.8}
"""Settings with which what takes a minute elsewhere takes a second."""


class Street:
    """What the users of an example share."""

    def __init__(self, resources: Resources, network: SimulatedNetwork, api: AsyncClient) -> None:
        self.settings = resources.settings
        self.sessions = resources.sessions
        self.network = network
        self.api = api


@asynccontextmanager
async def open_street(settings: Settings, sessions: SessionMaker, redis: Redis, client: Client) -> AsyncIterator[Street]:
    """Everything runs until the block ends."""
    settings = settings.model_copy(update=HURRY)
    resources = Resources(settings, sessions, redis, client, system_clock)
    app = create_app(settings)
    assert settings.network_url is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "RECONCILE_SECONDS", 0.2)
        patch.setattr(connections, "RETRY_AFTER", timedelta(seconds=0.2))
        patch.setattr(connections, "RETRY_LIMIT", timedelta(seconds=1))
        patch.setattr(queues, "RECONCILE_SECONDS", 0.5)
        patch.setattr(lane_standing, "LOOK_AGAIN", timedelta(seconds=1))
        patch.setattr(lane_standing, "LOOK_RARELY", timedelta(seconds=1))
        async with (
            SimulatedNetwork(settings.network_url.get_secret_value()) as network,
            app.router.lifespan_context(app),
            AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as api,
            work(resources),
            _hosted(resources),
        ):
            yield Street(resources, network, api)


@asynccontextmanager
async def _hosted(resources: Resources) -> AsyncIterator[None]:
    """One host that is given every device there is."""
    settings = resources.settings
    assert settings.network_url is not None
    stop = asyncio.Event()
    host_id = await begin_lease(resources.sessions, settings.server, TransportKind.SIMULATED, 1_000)
    host = Host(
        host_id,
        settings=settings,
        sessions=resources.sessions,
        redis=resources.redis,
        client=resources.client,
        transport=SimulatedTransport(settings.network_url.get_secret_value()),
        clock=system_clock,
    )
    running = asyncio.create_task(host.run(stop))
    placing = asyncio.create_task(_place_devices(resources.sessions, host_id))
    try:
        yield
    finally:
        placing.cancel()
        with suppress(asyncio.CancelledError):
            await placing
        stop.set()
        await running


async def _place_devices(sessions: SessionMaker, host_id: int) -> None:
    """What a fleet does with devices that no host has."""
    while True:
        async with sessions.begin() as session:
            waiting = [device for device, _ in await waiting_devices(session, TransportKind.SIMULATED)]
            await place_devices(session, TransportKind.SIMULATED, host_id, waiting, 1_000)
        await asyncio.sleep(0.2)
