"""A user who does whatever comes to mind with campaigns and devices, and then lets everything come to rest."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import select

from siaran.clock import system_clock
from siaran.models import (
    BroadcastMessage,
    Campaign,
    CampaignRetry,
    CampaignStatus,
    Device,
    DeviceStatus,
    Lane,
    LaneState,
    Lead,
    MessageStatus,
    User,
)
from siaran.tenancy import select_owned
from tests.api.conftest import register
from tests.factories import add_lead
from tests.properties.stops import Stops
from tests.properties.street import Street

DEVICES = 3
LEADS = 16
OPEN = (MessageStatus.PENDING, MessageStatus.CLAIMED)
OVER = {CampaignStatus.SENT, CampaignStatus.FAILED, CampaignStatus.CANCELLED}
NICHES = ("EXSTART", "ITADRESS", "EXSTART,ITADRESS", "")
REST_SECONDS = 75
"""How long an example may take to come to rest on a busy machine; mostly it is a few seconds."""

Answer = dict[str, Any]


class Marketer:
    """Acts through the API alone; every choice comes from a seed, so that a history can be repeated, but for its timing."""

    def __init__(self, street: Street, seed: int) -> None:
        self.street = street
        self.seed = seed
        self.random = random.Random(seed)
        self.devices: list[str] = []
        self.deleted: set[str] = set()
        self.campaigns: list[int] = []
        self.stopped = Stops()
        self.opted_out = Stops()
        self.opt_outs: dict[str, int] = {}
        self.story: list[str] = []

    async def move_in(self) -> None:
        """Register, link devices, and have leads."""
        email = f"marketer{self.seed}@example.com"
        self.client: AsyncClient = await register(self.street.api, email=email)
        for number in range(DEVICES):
            body = {"name": f"Device {number}", "max_per_minute": 1000, "max_per_hour": 10_000, "max_per_day": 10_000}
            device = (await self.ask("POST", "/api/devices", body))["device"]
            await self.ask("POST", f"/api/devices/{device['id']}/link/simulate")
            self.devices.append(device["id"])
        async with self.street.sessions.begin() as session:
            self.user = (await session.scalars(select(User).where(User.email == email))).one()
            devices = [UUID(device) for device in self.devices]
            self.leads: list[Lead] = [
                await add_lead(session, self.user, niche=NICHES[number % 3], device_id=devices[number % DEVICES])
                for number in range(LEADS)
            ]

    async def live(self, steps: int) -> None:
        """Do so many things, a little apart."""
        await self.create()
        actions = {
            self.create: 2, self.edit: 2, self.pause: 3, self.resume: 3, self.cancel: 1, self.postpone: 1, self.start: 2,
            self.retry_all: 2, self.retry_device: 2, self.retry_one: 2, self.lose_device: 3, self.restore_device: 2,
            self.ban_device: 1, self.log_out_device: 1, self.delete_device: 1, self.opt_out: 2, self.lift_opt_out: 1,
        }  # fmt: skip
        for _ in range(steps):
            await asyncio.sleep(self.random.uniform(0, 0.6))
            [action] = self.random.choices(list(actions), list(actions.values()))
            await action()

    async def create(self, **fields: Any) -> None:
        low = self.random.choice([0, 0, 1])
        body = {
            "title": f"Promo {len(self.campaigns)}",
            "target_status": "prospect",
            "message": "{Hi|Hello} {{name}}",
            "niche": self.random.choice(NICHES),
            "send_now": True,
            "min_delay_seconds": low,
            "max_delay_seconds": low + self.random.choice([0, 1]),
            "device_strategy": self.random.choice(["balanced", "balanced", "sticky", "owner"]),
            "stop_failed_percent": self.random.choice([0, 0, 60]),
            **fields,
        }
        if len(self.campaigns) < 4:
            self.campaigns.append((await self.ask("POST", "/api/campaigns", body))["id"])

    async def edit(self) -> None:
        changes: list[Answer] = [
            {"message": "Dear {{name}}"},
            {"niche": self.random.choice(NICHES)},
            {"min_delay_seconds": 0, "max_delay_seconds": 1},
        ]
        await self._try("PUT", f"/api/campaigns/{self._campaign()}", self.random.choice(changes))

    async def pause(self) -> None:
        campaign = self._campaign()
        if await self._try("POST", f"/api/campaigns/{campaign}/pause"):
            self.stopped.begin(campaign)

    async def resume(self, campaign: int | None = None) -> None:
        campaign = campaign or self._campaign()
        self.stopped.end(campaign)
        await self._try("POST", f"/api/campaigns/{campaign}/resume")

    async def cancel(self) -> None:
        campaign = self._campaign()
        if await self._try("POST", f"/api/campaigns/{campaign}/cancel"):
            self.stopped.begin(campaign)

    async def postpone(self) -> None:
        campaign = self._campaign()
        tomorrow = (system_clock() + timedelta(days=2)).date().isoformat()
        body = {"campaign_date": tomorrow, "scheduled_time": "09:00"}
        if await self._try("POST", f"/api/campaigns/{campaign}/reschedule", body):
            self.stopped.begin(campaign)

    async def start(self, campaign: int | None = None) -> None:
        campaign = campaign or self._campaign()
        async with self.street.sessions() as session:
            row = await session.get_one(Campaign, campaign)
        if row.status is CampaignStatus.SCHEDULED or row.started_at is None:
            self.stopped.end(campaign)
        await self._try("POST", f"/api/campaigns/{campaign}/start")

    async def retry_all(self) -> None:
        await self._try("POST", f"/api/campaigns/{self._campaign()}/retry-failed")

    async def retry_device(self) -> None:
        await self._try("POST", f"/api/campaigns/{self._campaign()}/device/{self._device()}/retry-failed")

    async def retry_one(self) -> None:
        campaign = self._campaign()
        ended = select_owned(BroadcastMessage, self.user.id).where(
            BroadcastMessage.campaign_id == campaign,
            BroadcastMessage.status.in_([MessageStatus.FAILED, MessageStatus.UNKNOWN]),
        )
        async with self.street.sessions() as session:
            row = (await session.scalars(ended.limit(1))).one_or_none()
        if row is not None:
            await self._try("POST", f"/api/campaigns/{campaign}/messages/{row.id}/retry", {"confirm": True})

    async def lose_device(self) -> None:
        await self._simulate(self._device(), "drop", seconds=self.random.uniform(0.2, 3))

    async def restore_device(self, device: str | None = None) -> None:
        device = device or self._device()
        if not await self._simulate(device, "restore"):
            await self._try("POST", f"/api/devices/{device}/link/simulate")
        await self._try("POST", "/app/reconnect", params={"deviceId": device})

    async def ban_device(self) -> None:
        await self._simulate(self._device(), "ban", seconds=self.random.uniform(0.5, 3))

    async def log_out_device(self) -> None:
        await self._simulate(self._device(), "log_out")

    async def delete_device(self) -> None:
        if not self.deleted:
            device = self._device()
            self.deleted.add(device)
            await self._try("DELETE", f"/api/devices/{device}")

    async def opt_out(self) -> None:
        phone = self.random.choice(self.leads).phone
        if phone not in self.opt_outs and await self._try("POST", "/api/opt-outs", {"phones": [phone]}):
            self.opted_out.begin(phone)
            listed = await self.list_all("/api/opt-outs")
            self.opt_outs[phone] = next(row["id"] for row in listed if row["phone"] == phone)

    async def lift_opt_out(self) -> None:
        if self.opt_outs:
            phone, number = self.opt_outs.popitem()
            self.opted_out.end(phone)
            await self.ask("POST", f"/api/opt-outs/{number}/lift")

    def _campaign(self) -> int:
        return self.random.choice(self.campaigns)

    def _device(self) -> str:
        return self.random.choice([device for device in self.devices if device not in self.deleted])

    async def _simulate(self, device: str, action: str, **how: float) -> bool:
        return await self._try("POST", f"/api/devices/{device}/simulate", {"action": action, **how})

    async def _try(self, method: str, path: str, body: Answer | None = None, **how: Any) -> bool:
        """Ask for something that may be refused; it is never refused with anything but a reason."""
        answer = await self.client.request(method, path, json=body, **how)
        self.story.append(f"{system_clock():%M:%S.%f} {method} {path} {body or ''} -> {answer.status_code}")
        assert answer.status_code < 300 or answer.status_code in {404, 409, 422}, f"{self}: {answer.text}"
        return answer.status_code < 300

    async def ask(self, method: str, path: str, body: Answer | None = None) -> Answer:
        answer = await self.client.request(method, path, json=body)
        assert answer.status_code < 300, f"{self}: {answer.text}"
        results: Answer = answer.json()["results"]
        return results

    async def list_all(self, path: str) -> list[Answer]:
        answer = await self.client.get(path, params={"limit": 500})
        assert answer.status_code == 200, answer.text
        results: list[Answer] = answer.json()["results"]
        return results

    async def come_to_rest(self) -> None:
        """Bring back every device, let every campaign go on, and wait until nothing is left to do."""
        async with asyncio.timeout(REST_SECONDS):
            while open_things := await self.open_things():
                for device in open_things.devices:
                    await self.restore_device(device)
                for campaign in open_things.paused:
                    await self.resume(campaign)
                for campaign in open_things.scheduled:
                    await self.start(campaign)
                await asyncio.sleep(0.5)

    async def open_things(self) -> "OpenThings | None":
        async with self.street.sessions() as session:
            campaigns = list(await session.scalars(select_owned(Campaign, self.user.id)))
            devices = list(await session.scalars(select_owned(Device, self.user.id).where(Device.deleted_at.is_(None))))
            busy = list(await session.scalars(select_owned(Lane, self.user.id).where(Lane.state != LaneState.ASLEEP)))
            retries = list(
                await session.scalars(select_owned(CampaignRetry, self.user.id).where(CampaignRetry.done_at.is_(None)))
            )
        away = [str(device.id) for device in devices if device.status is not DeviceStatus.ONLINE]
        if not (busy or retries or away) and all(campaign.status in OVER for campaign in campaigns):
            return None
        return OpenThings(
            away,
            [campaign.id for campaign in campaigns if campaign.status is CampaignStatus.PAUSED],
            [campaign.id for campaign in campaigns if campaign.status is CampaignStatus.SCHEDULED],
            [f"{lane.device_id} {lane.state}: {lane.waiting_for} until {lane.waiting_until_at}" for lane in busy],
            [f"{campaign.id} {campaign.status}: {campaign.status_reason}" for campaign in campaigns],
        )

    def __str__(self) -> str:
        return "\n".join([f"seed {self.seed}", *self.story])


@dataclass(frozen=True, slots=True)
class OpenThings:
    """What still has to be brought to an end: devices that are away, campaigns that are paused, or not due yet.

    `lanes` and `phases` are for people to read.
    """

    devices: Sequence[str]
    paused: Sequence[int]
    scheduled: Sequence[int]
    lanes: Sequence[str]
    phases: Sequence[str]
