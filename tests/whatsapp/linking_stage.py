"""What tests of linking run on: the API over HTTP, a fleet that links, and people who are logged in."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import select

from cli.linking import read_events
from siaran.db import SessionMaker
from siaran.gateway.session_files import list_sessions
from siaran.models import Device, Pairing, PairingStatus, Unlinking
from siaran.settings import Settings
from tests.waiting import eventually
from tests.whatsapp_server.harness import WhatsApp
from worker.pairings import Pairings

PASSWORD = "correct horse battery"
PATIENCE_SECONDS = 40.0


class Following:
    """A page that follows a device's linking: every event so far."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def named(self, name: str) -> list[dict[str, Any]]:
        """What all events of a name told."""
        return [told for kind, told in self.events if kind == name]

    async def reach(self, name: str, count: int = 1, *, within: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """The event of a name, as soon as there are so many of them."""
        await eventually(lambda: len(self.named(name)) >= count, within=within)
        return self.named(name)[count - 1]


class Person:
    """Somebody who is logged in."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def add_device(self, name: str = "Front desk") -> UUID:
        answer = await self.http.post("/api/devices", json={"name": name, "transport": "whatsapp"})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["results"]["device"]["id"])

    async def device(self, device_id: UUID) -> dict[str, Any]:
        return dict((await self.http.get(f"/api/devices/{device_id}")).json()["results"])

    async def begin(self, device_id: UUID) -> dict[str, Any]:
        answer = await self.http.get("/app/login", params={"deviceId": str(device_id)})
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["results"])

    @asynccontextmanager
    async def following(self, device_id: UUID) -> AsyncIterator[Following]:
        """Follow the linking of a device, as its page does, until the end of the block."""
        page = Following()
        task = asyncio.create_task(self._follow(device_id, page))
        try:
            yield page
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self, device_id: UUID, page: Following) -> None:
        rest = b""
        async with self.http.stream("GET", f"/api/devices/{device_id}/link/events") as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for piece in answer.aiter_bytes():
                whole, _, rest = (rest + piece).rpartition(b"\n\n")
                page.events += read_events([whole + b"\n\n"])


class LinkingStage:
    """The API and a fleet's part that links, on the loopback server."""

    def __init__(self, settings: Settings, sessions: SessionMaker, whatsapp: WhatsApp, url: str) -> None:
        self.settings = settings
        self.sessions = sessions
        self.whatsapp = whatsapp
        self.url = url
        self.people: list[httpx.AsyncClient] = []
        self._stop = asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    async def register(self, email: str = "aisyah@example.com") -> Person:
        http = httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_SECONDS, trust_env=False)
        self.people.append(http)
        body = {"fullname": "Aisyah", "email": email, "password": PASSWORD}
        assert (await http.post("/register", json=body)).status_code == 201
        return Person(http)

    def start_fleet(self) -> None:
        """Run the fleet's part, its processes on the loopback server."""
        self._stop.clear()
        self._run = asyncio.create_task(Pairings(self.settings, self.sessions, self._environment()).run(self._stop))

    async def stop_fleet(self) -> None:
        self._stop.set()
        if self._run is not None:
            await self._run
            self._run = None

    def _environment(self) -> dict[str, str]:
        assert self.settings.database_url is not None
        assert self.settings.redis_url is not None
        return {
            **os.environ,
            **self.whatsapp.environment,
            "DB_URI": self.settings.database_url.get_secret_value(),
            "REDIS_URL": self.settings.redis_url.get_secret_value(),
            "SIARAN_DATA_DIR": str(self.settings.data_dir),
            "SIARAN_SERVER": self.settings.server,
            "APP_OS": "Siaran tests",
        }

    async def pairing(self, device_id: UUID) -> Pairing:
        """A device's newest linking."""
        query = select(Pairing).where(Pairing.device_id == device_id).order_by(Pairing.created_at.desc()).limit(1)
        async with self.sessions() as session:
            return (await session.execute(query)).scalar_one()

    async def row(self, device_id: UUID) -> Device:
        async with self.sessions() as session:
            return await session.get_one(Device, device_id)

    async def unlinkings(self, device_id: UUID) -> list[Unlinking]:
        async with self.sessions() as session:
            return list(await session.scalars(select(Unlinking).where(Unlinking.device_id == device_id)))

    async def ends_as(self, device_id: UUID, status: PairingStatus, *, within: float = PATIENCE_SECONDS) -> Pairing:
        """A device's newest linking once it is over."""

        async def is_over() -> bool:
            return (await self.pairing(device_id)).ended_at is not None

        await eventually(is_over, within=within)
        pairing = await self.pairing(device_id)
        assert (pairing.status, pairing.error_message) == (status, pairing.error_message)
        return pairing

    async def link(self, person: Person, device_id: UUID, number: str) -> str:
        """Link a device by QR code; returns its address on the server."""
        await person.begin(device_id)
        async with person.following(device_id) as page:
            jid = str(await self.whatsapp.scan(qr=(await page.reach("code"))["code"], number=number))
            await page.reach("linked")
        return jid

    async def linked_jids(self) -> set[str]:
        """Every device that the server knows as linked."""
        return set((await self.whatsapp.status())["logins"])

    async def forgets(self, jid: str, *, within: float = PATIENCE_SECONDS) -> None:
        """Return once the server knows a device no more."""

        async def is_gone() -> bool:
            return jid not in await self.linked_jids()

        await eventually(is_gone, within=within)

    async def keeps_no_session(self, device_id: UUID, *, within: float = PATIENCE_SECONDS) -> None:
        """Return once there is no session file of a device."""
        await eventually(lambda: device_id not in self.sessions_kept(), within=within)

    def sessions_kept(self) -> dict[UUID, int]:
        """The generations of the session files, by device."""
        return dict(list_sessions(self.settings.session_folder))
