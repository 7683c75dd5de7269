"""A running product as tests use it: users who are steered through the API, and the account of what became of messages."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.service import RPCError

from siaran.attempt_keys import secret_of
from siaran.contracts import device_workflow_id
from siaran.db import SessionMaker, open_database
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.gateway.simulated_record import Transmission
from siaran.reconciliation import LedgerRow, Reconciliation, ledger_rows, reconcile
from siaran.settings import Settings
from siaran.temporal import connect
from tests.ledger.driver import assert_counters_match

ADMINISTRATOR = {"email": "admin@whatsapp.com", "password": "changeme123"}
PASSWORD = "correct horse battery"
NO_CAP = 1_000_000
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 120
"""Far above what anything here takes, since the machine may be busy with something else."""

OVER = {"sent", "failed", "cancelled"}

_numbers = count(1)

_HOST = text("""
    SELECT h.id, h.pid FROM user_devices d JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL
    WHERE d.id = :device AND d.status = 'online'
""")
_RETIRE_CAMPAIGNS = text("""
    UPDATE campaigns SET status = 'cancelled' WHERE user_id = :user AND status IN ('scheduled', 'sending', 'waiting', 'paused')
""")
_RETIRE_DEVICES = text("""
    UPDATE user_devices SET is_active = false, host_id = NULL, status = 'offline' WHERE user_id = :user
""")


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways into a running product."""

    settings: Settings
    sessions: SessionMaker
    network: SimulatedNetwork
    temporal: Client
    http: httpx.AsyncClient


@asynccontextmanager
async def open_ways(settings: Settings) -> AsyncIterator[Ways]:
    """Connect to the product whose addresses the settings hold."""
    assert settings.network_url is not None
    async with (
        open_database(settings) as sessions,
        SimulatedNetwork(settings.network_url.get_secret_value()) as network,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=30, trust_env=False) as http,
    ):
        yield Ways(settings, sessions, network, await connect(settings), http)


@dataclass(slots=True)
class Marketer:
    """A user who has logged in, with linked devices, and the phones that each campaign is to write to."""

    stage: "Stage"
    id: UUID
    token: str
    devices: list[UUID] = field(default_factory=list)
    recipients: dict[int, list[str]] = field(default_factory=dict)

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """The results of a request that has to succeed."""
        answer = await self.stage.ways.http.request(method, path, headers={"X-Auth-Token": self.token}, **options)
        assert answer.is_success, answer.text
        return answer.json()["results"]

    async def add_device(self) -> UUID:
        """A linked device without caps."""
        caps = {"max_per_minute": NO_CAP, "max_per_hour": NO_CAP, "max_per_day": NO_CAP}
        added = await self.ask("POST", "/api/devices", json={"name": f"Device {len(self.devices)}", **caps})
        device = UUID(added["device"]["id"])
        await self.ask("POST", f"/api/devices/{device}/link/simulate")
        self.devices.append(device)
        return device

    async def send(self, leads: int, *, gap: tuple[int, int] = (0, 1), owner: UUID | None = None, **fields: Any) -> int:
        """Start a campaign to so many new leads, who belong to no device or to `owner`; returns its id."""
        number = next(_numbers)
        niche = f"NICHE{number}"
        phones = [f"6012{2_000_000 + next(_numbers)}" for _ in range(leads)]
        rows = "".join(f"Lead,+{phone},{niche}\n" for phone in phones)
        where = f"/api/devices/{owner}/leads/import" if owner else "/api/leads/import"
        report = await self.ask("POST", where, files={"file": ("leads.csv", "name,phone,niche\n" + rows)})
        assert report["success"] == leads, report
        wanted = {"title": f"Promo {number}", "niche": niche, "target_status": "prospect", "message": "Hi {{name}}"}
        delays = {"min_delay_seconds": gap[0], "max_delay_seconds": gap[1]}
        campaign: int = (await self.ask("POST", "/api/campaigns", json={**wanted, **delays, "send_now": True, **fields}))["id"]
        self.recipients[campaign] = phones
        return campaign

    async def hurry(self, campaign: int) -> None:
        """Take the gaps out of a campaign under way, where the rest of it has nothing to show."""
        await self.ask("PUT", f"/api/campaigns/{campaign}", json={"min_delay_seconds": 0, "max_delay_seconds": 0})

    async def change(self, campaign: int, what: str) -> Any:
        """Pause, resume or cancel a campaign, or retry what failed of it."""
        return await self.ask("POST", f"/api/campaigns/{campaign}/{what}")


class Stage:
    """What one test does on a running product; what it leaves open is ended at the end."""

    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self.marketers: list[Marketer] = []
        self._since: str | None = None

    async def open(self) -> None:
        """From here on everything that the network accepts has to be accounted for."""
        self._since = None
        for transmission in await self.transmissions():
            self._since = transmission.id

    async def close(self) -> None:
        """Take the users' devices off their hosts and end their campaigns."""
        async with self.ways.sessions.begin() as session:
            for marketer in self.marketers:
                await session.execute(_RETIRE_CAMPAIGNS, {"user": marketer.id})
                await session.execute(_RETIRE_DEVICES, {"user": marketer.id})

    async def marketer(self, devices: int) -> Marketer:
        """A new user with so many devices, all online."""
        account = {"fullname": "Aminah", "email": f"aminah{next(_numbers)}@example.com", "password": PASSWORD}
        answer = await self.ways.http.post("/api/register", json=account)
        assert answer.is_success, answer.text
        marketer = Marketer(self, UUID(answer.json()["user"]["id"]), answer.json()["token"])
        self.marketers.append(marketer)
        for _ in range(devices):
            await marketer.add_device()
        await self.until(lambda: self.are_online(marketer.devices))
        return marketer

    async def administrator(self) -> Marketer:
        """The first administrator, logged in."""
        answer = await self.ways.http.post("/api/login", json=ADMINISTRATOR)
        assert answer.is_success, answer.text
        return Marketer(self, UUID(answer.json()["user"]["id"]), answer.json()["token"])

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something in servers that may be away for a while; fails with the state of the campaigns."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await self._holds(condition):  # noqa: ASYNC110 -- servers are asked
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise AssertionError(f"not within {PATIENCE_SECONDS} s; {await self.describe()}") from None

    async def _holds(self, condition: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await condition()
        except (SQLAlchemyError, OSError, RPCError, httpx.TransportError):
            return False

    async def number(self, query: str, **values: object) -> int:
        """The one number that a query yields."""
        async with self.ways.sessions() as session:
            found: int = (await session.execute(text(query), values)).scalar_one()
            return found

    async def are_online(self, devices: Collection[UUID]) -> bool:
        """Whether all of these devices are online."""
        query = "SELECT count(*) FROM user_devices WHERE id = ANY(:devices) AND status = 'online'"
        return await self.number(query, devices=list(devices)) == len(devices)

    async def pending(self, campaign: int, device: UUID | None = None) -> int:
        """How many messages of a campaign, on one device if given, nobody has claimed."""
        query = """
            SELECT count(*) FROM broadcast_messages
            WHERE campaign_id = :campaign AND status = 'pending' AND (CAST(:device AS uuid) IS NULL OR device_id = :device)
        """
        return await self.number(query, campaign=campaign, device=device)

    async def statuses(self, campaign: int) -> Counter[str]:
        """How many messages of a campaign are in which state."""
        query = "SELECT status, count(*) FROM broadcast_messages WHERE campaign_id = :campaign GROUP BY status"
        async with self.ways.sessions() as session:
            return Counter({row.status: row.count for row in await session.execute(text(query), {"campaign": campaign})})

    async def phase(self, campaign: int) -> tuple[str, str]:
        """A campaign's status and its reason."""
        query = "SELECT status, coalesce(status_reason, '') AS reason FROM campaigns WHERE id = :campaign"
        async with self.ways.sessions() as session:
            row = (await session.execute(text(query), {"campaign": campaign})).one()
            return row.status, row.reason

    async def ended(self, *campaigns: int) -> list[str]:
        """Wait until campaigns have ended; returns how."""

        async def are_over() -> bool:
            return all([(await self.phase(campaign))[0] in OVER for campaign in campaigns])

        await self.until(are_over)
        return [(await self.phase(campaign))[0] for campaign in campaigns]

    async def transmissions(self, to: Collection[str] | None = None) -> list[Transmission]:
        """What the network has accepted during this test, from everyone or to some phones."""
        found = [transmission async for transmission in self.ways.network.transmissions(self._since)]
        return found if to is None else [transmission for transmission in found if transmission.to in to]

    async def transmitted(self, more: int) -> None:
        """Wait until the network has accepted so many messages more."""
        enough = await self.ways.network.transmitted() + more

        async def are_there() -> bool:
            return await self.ways.network.transmitted() >= enough

        await self.until(are_there)

    async def host_of(self, device: UUID) -> tuple[int, int]:
        """The id and the process of the host that holds a device."""
        async with self.ways.sessions() as session:
            row = (await session.execute(_HOST, {"device": device})).one()
            return row.id, row.pid

    async def kill_host(self, device: UUID) -> int:
        """SIGKILL the host of a device; returns its id."""
        host, pid = await self.host_of(device)
        os.kill(pid, signal.SIGKILL)
        return host

    async def is_in_slice(self, device: UUID) -> bool:
        """Whether a send activity of the device is under way that has transmitted a message and goes on with others."""
        lane = await self.ways.temporal.get_workflow_handle(device_workflow_id(device)).describe()
        sends = [activity for activity in lane.raw_description.pending_activities if activity.activity_type.name == "send"]
        since = [send.last_started_time.ToDatetime() for send in sends if send.HasField("last_started_time")]
        sent = [
            transmission.at.replace(tzinfo=None)
            for transmission in await self.transmissions()
            if transmission.device_id == device
        ]
        return bool(since) and len([at for at in sent if at > since[0]]) >= 2

    async def account(self) -> tuple[Sequence[LedgerRow], Reconciliation]:
        """Compare the ledger with what the network accepted during this test, and the counters with the ledger."""
        transmissions = await self.transmissions()
        rows: list[LedgerRow] = []
        async with self.ways.sessions() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            await assert_counters_match(session)
            for marketer in self.marketers:
                rows += await ledger_rows(session, marketer.id, marketer.recipients.keys(), secret_of(self.ways.settings))
        wanted = [
            (campaign, phone)
            for marketer in self.marketers
            for campaign, phones in marketer.recipients.items()
            for phone in phones
        ]
        return rows, reconcile(wanted, transmissions, rows)

    async def check(self) -> None:
        """Nothing is lost, nothing repeated, nothing unexplained."""
        _, found = await self.account()
        assert found.is_clean, found

    async def describe(self) -> str:
        """How the campaigns of this test stand, for whoever reads of a failure."""
        try:
            campaigns = [campaign for marketer in self.marketers for campaign in marketer.recipients]
            return "; ".join(
                [f"campaign {one}: {await self.phase(one)}, {dict(await self.statuses(one))}" for one in campaigns]
            )
        except (SQLAlchemyError, OSError) as error:
            return f"and the database is away ({type(error).__name__})"
