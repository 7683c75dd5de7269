"""A sequence of seven days whose worker and host are killed at random: nothing is lost, nothing goes out twice."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, time, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import update

from activities.resources import Resources
from siaran.db import SessionMaker
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.models import Device, DeviceStatus, EnrollmentStatus, TransportKind
from siaran.schedule import to_instant
from siaran.settings import Settings
from tests.workflows.house import House
from tests.workflows.skipped_time import BEGIN, ZONE, Days
from tests.workflows.walks import Walks
from worker.lease import begin_lease, end_host

KILLS = 10
SEED = 11
NINE = time(9)
LIMIT_SECONDS = 300
LATE = timedelta(minutes=30)
"""What a kill may cost: the clock is set forward by a minute whenever nothing moves."""


class Processes:
    """A worker and a device host, each of which is replaced as soon as it is killed."""

    def __init__(self, house: House, offset: Path) -> None:
        self._house = house
        self._offset = offset
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self.killed: list[str] = []

    async def start(self, kind: str) -> None:
        """Start one; a host begins a lease of its own and is given all devices, as the fleet would do."""
        extra: list[str] = []
        if kind == "host":
            sessions = self._house.resources.sessions
            host = await begin_lease(sessions, "here", TransportKind.SIMULATED, 100)
            async with sessions.begin() as session:
                await session.execute(update(Device).values(host_id=host, status=DeviceStatus.CONNECTING))
            self._house.ledger.host.id = host
            extra = [str(host)]
        environment = {**os.environ, **variables(self._house.resources.settings)}
        self._running[kind] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.workflows.skipped_process", kind, str(self._offset), *extra, env=environment
        )

    async def kill(self, kind: str) -> None:
        """SIGKILL one and start its successor."""
        process = self._running[kind]
        assert process.returncode is None, f"the {kind} has ended by itself"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        self.killed.append(kind)
        if kind == "host":
            await end_host(self._house.resources.sessions, self._house.ledger.host.id)
        await self.start(kind)

    async def kill_at_random(self, chance: random.Random) -> None:
        """Kill one after the other, at times that have nothing to do with what they are at."""
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(1, 4))
            await self.kill(chance.choice(["worker", "host"]))

    async def close(self) -> None:
        """End both for good."""
        for process in self._running.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


def variables(settings: Settings) -> dict[str, str]:
    """The environment from which a process reads these settings."""
    secret = {name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)}
    return {
        "DB_URI": secret["database_url"],
        "REDIS_URL": secret["redis_url"],
        "SIARAN_NETWORK_URL": secret["network_url"],
        "SIARAN_SECRET": secret["secret"],
        "TEMPORAL_ADDRESS": settings.temporal_address or "",
        "TEMPORAL_NAMESPACE": settings.temporal_namespace,
        "SIARAN_DATA_DIR": str(settings.data_dir),
        "SIARAN_FAILOVER_AFTER_SECONDS": "0.5",
        "SIARAN_RECEIPT_WAIT_SECONDS": "2",
    }


@asynccontextmanager
async def open_killed_house(resources: Resources, days: Days, offset: Path) -> AsyncIterator[tuple[Walks, Processes]]:
    """A house without a worker or host of its own in this process."""
    assert resources.settings.network_url is not None
    async with SimulatedNetwork(resources.settings.network_url.get_secret_value(), clock=days.clock) as network:
        await network.configure(latency_ms=(50, 200), delivered_seconds=(0.05, 0.2), read_rate=0)
        house = House(resources, network)
        await house.open(devices=3, leads=0)
        await house.ledger.change(house.ledger.user, timezone=ZONE)
        house.ledger.user.timezone = ZONE
        processes = Processes(house, offset)
        try:
            for kind in ("worker", "host"):
                await processes.start(kind)
            await house.online()
            yield Walks(house, days), processes
        finally:
            await processes.close()


@pytest.mark.faults
async def test_killing_worker_and_host_at_random_loses_and_repeats_nothing(
    settings: Settings,
    sessions: SessionMaker,
    redis: Redis,
    days: Days,
    offset_file: Path,
) -> None:
    resources = Resources(settings, sessions, redis, days.client, days.clock)
    async with asyncio.timeout(LIMIT_SECONDS), open_killed_house(resources, days, offset_file) as (walks, processes):
        walks.patience = 6
        killer = asyncio.create_task(processes.kill_at_random(random.Random(SEED)))
        sequence = await walks.sequence(dict.fromkeys(range(1, 8), NINE))
        early = await walks.enroll(sequence, 8)
        await walks.until(to_instant(BEGIN + timedelta(days=1), time(8), ZONE))
        late = await walks.enroll(sequence, 8)
        await walks.until()
        await killer

        assert await walks.walks(sequence) == {EnrollmentStatus.COMPLETED: 16}
        assert (await walks.statuses(sequence)).total() == 16 * 7
        assert set(processes.killed) == {"worker", "host"}
        received = await walks.sent(sequence)
        open_ends = await walks.unknown(sequence)
        for number, lead in enumerate([*early, *late]):
            walk = received[lead.phone]
            days_got = [day for day, _ in walk]
            assert days_got == sorted(set(days_got)), "no step twice, and none before the one before it"
            assert {(lead.phone, day) for day in set(range(1, 8)) - set(days_got)} <= open_ends, "a loss is never guessed away"
            for day, at in walk:
                due = datetime.combine(BEGIN + timedelta(days=day - 1 + (number >= len(early))), NINE)
                assert timedelta(0) <= at - due < LATE
