"""What benches play on: an embedded stack with Siaran's processes, users, linked devices, leads and campaigns, made in bulk."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import psutil
from sqlalchemy import insert, text
from temporalio.client import Client

from siaran.contracts import CampaignInput
from siaran.db import SessionMaker, open_database
from siaran.embedded.app import start_app
from siaran.embedded.options import StackOptions
from siaran.embedded.stack import EmbeddedStack
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.models import Campaign, CampaignStatus, Device, Lane, Lead, User
from siaran.settings import Settings
from siaran.temporal import connect, nudge_campaign

MEGABYTE = 1_000_000
LINKS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Scene:
    """A running stack and the ways into it."""

    stack: EmbeddedStack
    settings: Settings
    sessions: SessionMaker
    network: SimulatedNetwork
    client: Client


@dataclass(frozen=True, slots=True)
class Cast:
    """One user with linked devices."""

    user_id: UUID
    devices: list[UUID]


@asynccontextmanager
async def open_scene(environment: Mapping[str, str] | None = None) -> AsyncIterator[Scene]:
    """Start everything on free ports in a temporary folder; all of it is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="siaran-bench-") as folder:
        settings = Settings(data_dir=Path(folder) / "data", server="bench")
        async with EmbeddedStack(settings, StackOptions().with_free_ports(), app_ports=("api_port",)) as stack:
            await start_app(stack, {"SIARAN_SERVER": "bench", **(environment or {})})
            url = stack.settings.network_url
            if url is None:
                raise RuntimeError("the embedded stack has no simulated network")
            async with (
                open_database(stack.settings) as sessions,
                SimulatedNetwork(url.get_secret_value()) as network,
            ):
                yield Scene(stack, stack.settings, sessions, network, await connect(stack.settings))


async def add_cast(scene: Scene, devices: int, **caps: int) -> Cast:
    """A user with so many linked devices; `caps` are columns of `user_devices`."""
    cast = Cast(uuid4(), [uuid4() for _ in range(devices)])
    async with scene.sessions.begin() as session:
        await session.execute(
            insert(User).values(
                id=cast.user_id,
                email=f"{cast.user_id}@example.com",
                full_name="Bench",
                password_hash="!",
                timezone="Asia/Kuala_Lumpur",
                country="MY",
            )
        )
    gate = asyncio.Semaphore(LINKS_AT_ONCE)

    async def link(device_id: UUID) -> dict[str, object]:
        async with gate:
            linked = await scene.network.link(device_id, f"601{device_id.int % 10**9:09d}")
        return {
            "id": device_id,
            "user_id": cast.user_id,
            "device_name": f"device {device_id}",
            "phone": linked.phone,
            "jid": linked.jid,
            "link_generation": linked.link_generation,
            **caps,
        }

    rows = await asyncio.gather(*(link(device_id) for device_id in cast.devices))
    async with scene.sessions.begin() as session:
        await session.execute(insert(Device), rows)
        await session.execute(insert(Lane), [{"device_id": row["id"], "user_id": cast.user_id} for row in rows])
    return cast


async def add_leads(scene: Scene, user_id: UUID, count: int, *, prefix: str = "6011") -> list[str]:
    """So many leads of a user, all prospects of one niche; returns their phones."""
    phones = [f"{prefix}{number:08d}" for number in range(count)]
    async with scene.sessions.begin() as session:
        for start in range(0, count, 5000):
            await session.execute(
                insert(Lead),
                [
                    {"user_id": user_id, "name": f"Lead {phone[-5:]}", "phone": phone, "niche": "BENCH", "niches": ["BENCH"]}
                    for phone in phones[start : start + 5000]
                ],
            )
    return phones


async def start_campaign(scene: Scene, user_id: UUID, *, gap_seconds: tuple[int, int]) -> int:
    """A campaign to all leads of a user, under way at once; returns its id."""
    now = datetime.now(UTC)
    async with scene.sessions.begin() as session:
        campaign = Campaign(
            user_id=user_id,
            title="Bench",
            niche="BENCH",
            target_status="prospect",
            message="Hello {{name|friend}}",
            campaign_date=now.date(),
            scheduled_time=now.time(),
            scheduled_at=now,
            min_delay_seconds=gap_seconds[0],
            max_delay_seconds=gap_seconds[1],
            status=CampaignStatus.SCHEDULED,
        )
        session.add(campaign)
    await nudge_campaign(scene.client, CampaignInput(campaign.id, user_id))
    return campaign.id


async def wait_online(scene: Scene, devices: int, *, seconds: float = 180) -> None:
    """Wait until so many devices are online; raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while await count(scene, "SELECT count(*) FROM user_devices WHERE status = 'online'") < devices:
            await asyncio.sleep(0.5)


async def count(scene: Scene, query: str, **values: object) -> int:
    """The one number that a query yields."""
    async with scene.sessions() as session:
        number: int = (await session.execute(text(query), values)).scalar_one()
        return number


def processes(scene: Scene) -> dict[str, list[psutil.Process]]:
    """The stack's processes with their children, by `app`, `postgres`, `temporal`, `valkey` and `network`."""
    found: dict[str, list[psutil.Process]] = {}
    for state in scene.stack.supervisor.states():
        if state.pid is None:
            continue
        group = "app" if state.name.split("-")[0] in {"api", "worker", "fleet"} else state.name
        try:
            process = psutil.Process(state.pid)
            found.setdefault(group, []).extend([process, *process.children(recursive=True)])
        except psutil.NoSuchProcess:
            continue
    return found


def memory_mb(group: list[psutil.Process]) -> float:
    """Proportional set size of processes together: shared pages count once."""
    total = 0
    for process in group:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return round(total / MEGABYTE, 1)


def cpu_seconds(groups: dict[str, list[psutil.Process]]) -> dict[str, float]:
    """User and system time of each group's processes since they began."""
    seconds = {}
    for name, group in groups.items():
        times = [process.cpu_times() for process in group if process.is_running()]
        seconds[name] = sum(time.user + time.system for time in times)
    return seconds
