"""The tests' side of the transport: links accounts, and drives the transport in a process of its own."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tests.waiting import eventually
from tests.whatsapp_server.harness import Process, WhatsApp, start

_numbers = count(628130000001)
_serial = count()


@dataclass(frozen=True, slots=True)
class Account:
    """A linked account and the device whose session the folder holds."""

    device_id: str
    number: str
    jid: str

    def session(self, folder: Path) -> Path:
        """The session file."""
        return folder / f"{self.device_id}.1.db"


class Adapter(Process):
    """The transport in its own process: the methods of `transport_process.Driver`."""

    folder: Path

    async def wait_for(self, event_type: str, *, within: float = 15.0, **facts: Any) -> dict[str, Any]:
        """The first event of a type with these facts."""
        found: list[dict[str, Any]] = []

        async def reported() -> bool:
            found[:] = [
                event
                for event in await self.events()
                if event["type"] == event_type and all(event[name] == fact for name, fact in facts.items())
            ]
            return bool(found)

        await eventually(reported, within=within)
        return found[0]

    async def wait_for_state(self, account: Account, state: str, detail: str = "", *, within: float = 15.0) -> None:
        """Return once a device has been reported to be in a state."""
        await self.wait_for("StateChanged", within=within, device_id=account.device_id, state=state, detail=detail)

    async def wait_until_online(self, account: Account, *, within: float = 15.0) -> None:
        """Return once a device is online."""

        async def online() -> bool:
            return bool(await self.state(device_id=account.device_id) == "online")

        await eventually(online, within=within)

    async def heard(self, account: Account, kind: str = "Incoming") -> list[dict[str, Any]]:
        """The events of a kind that a device has reported."""
        return [event for event in await self.events() if event["type"] == kind and event["device_id"] == account.device_id]


async def start_adapter(whatsapp: WhatsApp, folder: Path) -> Adapter:
    """A transport for the session files in a folder, which connects nothing yet; the caller kills it."""
    name = f"transport-{next(_serial)}"
    socket, log = whatsapp.folder / f"{name}.socket", whatsapp.folder / f"{name}.log"
    module = "tests.whatsapp.transport_process"
    process = await start(module, socket, [str(folder), str(socket)], os.environ | whatsapp.environment, log)
    adapter = Adapter(process.socket, process.running, process.log)
    adapter.folder = folder
    return adapter


async def link_accounts(whatsapp: WhatsApp, folder: Path, accounts_wanted: int) -> list[Account]:
    """New accounts with a session file each, linked by a process that has ended."""
    linking = await start_adapter(whatsapp, folder)
    accounts = []
    try:
        for _ in range(accounts_wanted):
            device_id, number = str(uuid4()), str(next(_numbers))
            jid = await whatsapp.scan(qr=await linking.begin_link(device_id=device_id), number=number)
            await linking.end_link(device_id=device_id)
            accounts.append(Account(str(UUID(device_id)), number, jid))
    finally:
        await linking.kill()
    return accounts


@asynccontextmanager
async def run_adapter(whatsapp: WhatsApp, folder: Path, accounts_wanted: int) -> AsyncIterator[tuple[Adapter, list[Account]]]:
    """A transport with new accounts, all online; it is killed at the end."""
    accounts = await link_accounts(whatsapp, folder, accounts_wanted)
    adapter = await start_adapter(whatsapp, folder)
    try:
        for account in accounts:
            await adapter.connect(device_id=account.device_id, jid=account.jid)
        yield adapter, accounts
    finally:
        await adapter.kill()


def key_of(name: str) -> str:
    """The idempotency key (hexadecimal) of an attempt that a test names."""
    return hashlib.sha256(name.encode()).hexdigest()
