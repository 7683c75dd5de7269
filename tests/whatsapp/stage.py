"""Siaran's own processes with real accounts, as tests use them: a worker, a fleet and its hosts, and the loopback server."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client

from siaran.attempt_keys import secret_of
from siaran.cache import open_redis
from siaran.db import SessionMaker, open_database
from siaran.gateway.interface import MessageType
from siaran.gateway.session_files import has_session
from siaran.gateway.simulated_record import Transmission
from siaran.lanes import wake_lanes
from siaran.models import Device, DeviceStatus, TransportKind, User
from siaran.processes import spawn
from siaran.reconciliation import ledger_rows, reconcile
from siaran.settings import Settings
from siaran.temporal import connect
from tests.factories import add_campaign, add_device, add_messages, add_user, new_phone
from tests.ledger.driver import assert_counters_match
from tests.whatsapp.adapter import Account, link_accounts
from tests.whatsapp_server.harness import ROOT, WhatsApp

PATIENCE_SECONDS = 60
SWEPT_SECONDS = 180
"""How long a campaign may take whose host was killed: what nobody was told of is found by the sweep."""

LOOK_SECONDS = 0.05
CAPS: dict[str, Any] = {"max_per_minute": 100_000, "max_per_hour": 100_000, "max_per_day": 100_000}

_HOST = text("""
    SELECT h.id, h.pid FROM user_devices d JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL WHERE d.id = :device
""")
_RETIRE = text("""
    UPDATE user_devices SET is_active = false, host_id = NULL, status = 'offline' WHERE user_id = :user
""")


class Product:
    """The processes of one test session; `environment` is what they are started with."""

    def __init__(
        self, settings: Settings, sessions: SessionMaker, redis: Redis, client: Client, environment: Mapping[str, str]
    ) -> None:
        self.settings = settings
        self.sessions = sessions
        self.redis = redis
        self.client = client
        self.environment = environment
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, module: str) -> None:
        """Start one of Siaran's processes."""
        command = [sys.executable, "-m", module]
        log = self.settings.data_dir / f"{module}.log"
        self._processes[module] = await spawn(command, environment=self.environment, log_path=log, cwd=ROOT)

    async def kill(self, module: str) -> None:
        """SIGKILL a process, and wait until it and the hosts that it started are gone."""
        process = self._processes.pop(module)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        await process.wait()
        await asyncio.to_thread(psutil.wait_procs, children, timeout=10)

    async def stop(self) -> None:
        """End everything as a crash would."""
        for module in list(self._processes):
            await self.kill(module)


@asynccontextmanager
async def run_product(settings: Settings, environment: Mapping[str, str]) -> AsyncIterator[Product]:
    """A worker and a fleet, until the end of the block."""
    async with open_database(settings) as sessions, open_redis(settings) as redis:
        product = Product(settings, sessions, redis, await connect(settings), os.environ | environment)
        try:
            await product.start("worker")
            await product.start("worker.fleet")
            yield product
        finally:
            await product.stop()


class Owner:
    """A user with devices that are linked to accounts; `devices` maps each to its account."""

    def __init__(self, stage: "Stage", user: User) -> None:
        self.stage = stage
        self.user = user
        self.devices: dict[UUID, Account] = {}
        self.recipients: dict[int, list[str]] = {}

    async def link(self, accounts: Sequence[Account]) -> list[UUID]:
        """Give the user devices for these accounts; the fleet then places them."""
        async with self.stage.product.sessions.begin() as session:
            for account in accounts:
                await add_device(
                    session,
                    self.user,
                    id=UUID(account.device_id),
                    phone=account.number,
                    jid=account.jid,
                    transport=TransportKind.WHATSAPP,
                    **CAPS,
                )
        linked = [UUID(account.device_id) for account in accounts]
        self.devices.update(zip(linked, accounts, strict=True))
        return linked

    async def send(self, messages: int, *, gap: tuple[int, int] = (0, 0), devices: Sequence[UUID] = ()) -> int:
        """Start a campaign of so many messages, spread over the devices; returns its id."""
        chosen = list(devices or self.devices)
        phones = [new_phone() for _ in range(messages)]
        async with self.stage.product.sessions.begin() as session:
            delays = {"min_delay_seconds": gap[0], "max_delay_seconds": gap[1]}
            campaign = await add_campaign(session, self.user, scheduled_at=datetime.now(UTC), **delays)
            for number, device in enumerate(chosen):
                row = await session.get_one(Device, device)
                await add_messages(session, campaign, row, phones[number :: len(chosen)])
        self.recipients[campaign.id] = phones
        await wake_lanes(self.stage.product.sessions, self.stage.product.client, self.stage.product.redis, chosen)
        return campaign.id

    def number(self, device: UUID) -> str:
        """The phone number of a device's account."""
        return self.devices[device].number


class Stage:
    """What one test does; at its end the devices are taken off their hosts."""

    def __init__(self, product: Product, whatsapp: WhatsApp) -> None:
        self.product = product
        self.whatsapp = whatsapp
        self.owners: list[Owner] = []

    async def owner(self, devices: int) -> Owner:
        """A new user with so many devices, all online."""
        accounts = await self.accounts(devices)
        async with self.product.sessions.begin() as session:
            owner = Owner(self, await add_user(session))
        self.owners.append(owner)
        await owner.link(accounts)
        await self.until(lambda: self.are_online(owner.devices))
        return owner

    async def accounts(self, number: int) -> list[Account]:
        """New linked accounts, whose sessions are where hosts look for them."""
        return await link_accounts(self.whatsapp, self.product.settings.session_folder, number)

    async def close(self) -> None:
        """Take all devices out of use, and wait until no host holds one."""
        async with self.product.sessions.begin() as session:
            for owner in self.owners:
                await session.execute(
                    text("UPDATE campaigns SET status = 'cancelled' WHERE user_id = :u"), {"u": owner.user.id}
                )
                await session.execute(_RETIRE, {"user": owner.user.id})

    # Looking

    async def until(self, condition: Callable[[], Awaitable[bool]], *, within: float = PATIENCE_SECONDS) -> None:
        """Wait for something; fails with how the messages and devices stand."""
        try:
            async with asyncio.timeout(within):
                while not await self._holds(condition):  # noqa: ASYNC110 -- other processes do it
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise AssertionError(f"not within {within} s; {await self.describe()}") from None

    async def _holds(self, condition: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await condition()
        except (SQLAlchemyError, OSError):
            return False

    async def are_online(self, devices: Collection[UUID]) -> bool:
        """Whether all of these devices are online at hosts that live."""
        query = text("""
            SELECT count(*) FROM user_devices d JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL
            WHERE d.id = ANY(:devices) AND d.status = 'online'
        """)
        async with self.product.sessions() as session:
            found: int = (await session.execute(query, {"devices": list(devices)})).scalar_one()
        return found == len(devices)

    async def device(self, device: UUID) -> Device:
        """A device's row."""
        async with self.product.sessions() as session:
            return await session.get_one(Device, device)

    async def reach(self, device: UUID, status: DeviceStatus) -> Device:
        """A device's row, once it has this status."""

        async def is_there() -> bool:
            return (await self.device(device)).status is status

        await self.until(is_there)
        return await self.device(device)

    async def host_of(self, device: UUID) -> tuple[int, int]:
        """The id and the process of the host that holds a device."""
        async with self.product.sessions() as session:
            row = (await session.execute(_HOST, {"device": device})).one()
            return row.id, row.pid

    async def hosts_of(self, devices: Collection[UUID]) -> set[tuple[int, int]]:
        """The hosts that hold some devices."""
        return {await self.host_of(device) for device in devices}

    async def hosts_online(self, devices: Collection[UUID]) -> list[tuple[int, int]]:
        """The hosts at which some of the devices are online, oldest first."""
        query = text("""
            SELECT DISTINCT h.id, h.pid FROM user_devices d JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL
            WHERE d.id = ANY(:devices) AND d.status = 'online' ORDER BY h.id
        """)
        async with self.product.sessions() as session:
            return [(row.id, row.pid) for row in await session.execute(query, {"devices": list(devices)})]

    async def kill_host(self, device: UUID) -> int:
        """SIGKILL the host of a device; returns its id."""
        host, pid = await self.host_of(device)
        os.kill(pid, signal.SIGKILL)
        return host

    def has_session(self, device: UUID) -> bool:
        """Whether the session file of a device is there."""
        return has_session(self.product.settings.session_folder, device, 1)

    async def statuses(self, campaign: int) -> Counter[str]:
        """How many messages of a campaign are in which state."""
        query = text("SELECT status, count(*) AS number FROM broadcast_messages WHERE campaign_id = :campaign GROUP BY status")
        async with self.product.sessions() as session:
            return Counter({row.status: row.number for row in await session.execute(query, {"campaign": campaign})})

    async def hurry(self, campaign: int) -> None:
        """Take the gaps out of a campaign under way, where the rest of it has nothing to show."""
        async with self.product.sessions.begin() as session:
            statement = text("UPDATE campaigns SET min_delay_seconds = 0, max_delay_seconds = 0 WHERE id = :campaign")
            await session.execute(statement, {"campaign": campaign})

    async def ended(self, campaign: int, *, within: float = SWEPT_SECONDS) -> Counter[str]:
        """How many messages of a campaign ended in which state, once all have."""

        async def is_over() -> bool:
            return not {"pending", "claimed"} & (await self.statuses(campaign)).keys()

        await self.until(is_over, within=within)
        return await self.statuses(campaign)

    async def transmitted(self, owner: Owner) -> list[Transmission]:
        """What the server has received of an owner's accounts and not refused, as the simulated network records it."""
        by_number = {account.number: device for device, account in owner.devices.items()}
        return [
            Transmission(
                id=entry.id,
                device_id=by_number[entry.number],
                to=entry.recipient,
                whatsapp_id=entry.id,
                body_sha256="",
                type=MessageType.TEXT,
                key=entry.secret,
                at=datetime.fromtimestamp(entry.received_at, UTC),
            )
            for entry in await self.whatsapp.record()
            if entry.number in by_number and not entry.answer.startswith("refuse")
        ]

    async def more_transmitted(self, owner: Owner, more: int = 1) -> None:
        """Wait until the server has received so many messages more."""
        enough = len(await self.transmitted(owner)) + more

        async def are_there() -> bool:
            return len(await self.transmitted(owner)) >= enough

        await self.until(are_there)

    async def check(self, owner: Owner) -> None:
        """Nothing is lost, nothing repeated, nothing unexplained: the server's record against the ledger and its counters."""
        transmissions = await self.transmitted(owner)
        async with self.product.sessions() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            await assert_counters_match(session)
            secret = secret_of(self.product.settings)
            rows = await ledger_rows(session, owner.user.id, owner.recipients.keys(), secret)
        wanted = [(campaign, phone) for campaign, phones in owner.recipients.items() for phone in phones]
        found = reconcile(wanted, transmissions, rows)
        assert found.is_clean, found

    async def describe(self) -> str:
        """How messages and devices stand, for whoever reads of a failure."""
        told: list[str] = []
        for owner in self.owners:
            told += [f"campaign {one}: {dict(await self.statuses(one))}" for one in owner.recipients]
            rows = [await self.device(device) for device in owner.devices]
            told.append(str(Counter((row.status.value, row.last_error or "", row.host_id) for row in rows)))
        return "; ".join(told)


def logs_of(folder: Path, characters: int = 4000) -> dict[str, str]:
    """The ends of what the processes have logged."""
    paths = sorted([*folder.glob("*.log"), *(folder / "logs").glob("*.log")])
    return {path.name: path.read_text(errors="replace")[-characters:] for path in paths}
