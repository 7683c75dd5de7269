"""What linked accounts cost, and how soon all of them are back: the real client in real hosts, on a loopback WhatsApp server.

`python -m bench.sessions --devices 100 [--json]`. Memory is the proportional set size of the hosts' processes, in which what
they share counts once; it and their descriptors are shared out over the devices. Then every process of Siaran is killed and all
are started again: the reconnecting ends when every device is online. PostgreSQL, Valkey and Temporal go on meanwhile.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

import psutil
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from bench.scene import Scene, count, memory_mb, open_scene, wait_online
from siaran.embedded.app import start_app
from siaran.models import Device, Lane, TransportKind, User
from tests.whatsapp.adapter import Account, link_accounts
from tests.whatsapp_server.harness import WhatsApp, run_whatsapp

LINKED_AT_ONCE = 25
"""Accounts that one process links, one after another, before it is replaced."""

SETTLE_SECONDS = 10.0
"""How long the hosts idle before they are measured."""

ONLINE_LIMIT_SECONDS = 600.0

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured; megabytes are millions of bytes."""

    devices: int
    mb_per_device: float
    fds_per_device: float
    reconnect_seconds: float


async def measure(devices: int, capacity: int) -> Figures:
    """Link accounts, let hosts connect them, look at what that takes, and kill everything once."""
    with tempfile.TemporaryDirectory(prefix="siaran-") as folder:
        sessions = Path(folder) / "sessions"
        async with run_whatsapp(Path(folder)) as whatsapp:
            environment = whatsapp.environment | {"SESSION_DIR": str(sessions), "SIARAN_HOST_CAPACITY": str(capacity)}
            with console.status(f"linking {devices} accounts"):
                accounts = await _link(whatsapp, sessions, devices)
            async with open_scene(environment) as scene:
                with console.status("connecting them"):
                    await _add_devices(scene, accounts)
                    await wait_online(scene, devices, seconds=ONLINE_LIMIT_SECONDS)
                await asyncio.sleep(SETTLE_SECONDS)
                hosts = _hosts(scene)
                memory = memory_mb(hosts)
                descriptors = sum(host.num_fds() for host in hosts)
                console.print(f"{len(hosts)} hosts, {memory:.0f} MB, {descriptors} descriptors")
                with console.status("killing everything, until all are back"):
                    seconds = await _restart(scene, environment, devices)
    return Figures(devices, round(memory / devices, 2), round(descriptors / devices, 2), round(seconds, 1))


async def _link(whatsapp: WhatsApp, folder: Path, devices: int) -> list[Account]:
    accounts: list[Account] = []
    while len(accounts) < devices:
        accounts += await link_accounts(whatsapp, folder, min(LINKED_AT_ONCE, devices - len(accounts)))
    return accounts


async def _add_devices(scene: Scene, accounts: Sequence[Account]) -> None:
    """One user with a device for each account."""
    user_id = uuid4()
    user = {"id": user_id, "email": "bench@example.com", "full_name": "Bench", "password_hash": "!"}
    rows = [
        {
            "id": UUID(account.device_id),
            "user_id": user_id,
            "device_name": account.device_id,
            "phone": account.number,
            "jid": account.jid,
            "link_generation": 1,
            "transport": TransportKind.WHATSAPP,
        }
        for account in accounts
    ]
    async with scene.sessions.begin() as session:
        await session.execute(insert(User).values(timezone="Asia/Kuala_Lumpur", country="MY", **user))
        await session.execute(insert(Device), rows)
        await session.execute(insert(Lane), [{"device_id": row["id"], "user_id": user_id} for row in rows])


def _hosts(scene: Scene) -> list[psutil.Process]:
    fleet = scene.stack.supervisor.pid("fleet")
    children = psutil.Process(fleet).children() if fleet is not None else []
    return [child for child in children if "worker.host" in child.cmdline()]


async def _restart(scene: Scene, environment: dict[str, str], devices: int) -> float:
    """Kill all of Siaran's processes, start them again; seconds from then until every device is online at a new host."""
    hosts, latest = _hosts(scene), await count(scene, "SELECT max(id) FROM hosts")
    for name in ("fleet", "worker", "api"):
        await scene.stack.supervisor.stop(name, at_once=True)
    await asyncio.to_thread(psutil.wait_procs, hosts, timeout=30)
    began = time.monotonic()
    await start_app(scene.stack, {"SIARAN_SERVER": "bench", **environment})
    query = "SELECT count(*) FROM user_devices WHERE status = 'online' AND host_id > :latest"
    async with asyncio.timeout(ONLINE_LIMIT_SECONDS):
        while await count(scene, query, latest=latest) < devices:
            await asyncio.sleep(0.1)
    return time.monotonic() - began


def main(
    devices: Annotated[int, typer.Option(min=1, max=2000)] = 100,
    capacity: Annotated[int, typer.Option(min=1, max=100, help="Devices of one host.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
) -> None:
    """Measure what linked accounts cost, and how soon all are back after everything was killed."""
    figures = asdict(uvloop.run(measure(devices, capacity)))
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    if as_json:
        print(json.dumps(figures))


if __name__ == "__main__":
    typer.run(main)
