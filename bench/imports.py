"""How fast leads come in from a large CSV file, in how much memory, and how fast a campaign to all of them is expanded.

`python -m bench.imports --rows 1000000 [--json]`. Over HTTP, as the command line does it: upload, then follow the import. The
seconds are those from the first byte of the upload to the end of the import. `peak_mb` is the highest proportional set size of
the larger of the two processes that an import passes through, API and worker, sampled four times a second. The expansion counts
from the start of the campaign to the moment when all its messages stand in the ledger; 15 devices send meanwhile.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from bench.scene import MEGABYTE, Scene, count, open_scene, start_campaign, wait_online
from siaran.embedded.app import api_url
from siaran.models import User

DEVICES = 15
EMAIL = "bench@example.com"
SAMPLE_SECONDS = 0.25
LIMIT_SECONDS = 1_200.0
EVERY_DUPLICATE = 33
EVERY_INVALID = 50
"""Together 5 % of the rows."""

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured; memory in megabytes."""

    rows: int
    seconds: float
    peak_mb: float
    expansion_seconds: float
    upload_seconds: float
    leads: int
    api_mb: float
    worker_mb: float


class Peak:
    """The highest proportional set size of the API and of the worker."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.megabytes = {"api": 0.0, "worker": 0.0}

    async def watch(self) -> None:
        """Sample for ever."""
        while True:
            for name in self.megabytes:
                pid = self._scene.stack.supervisor.pid(name)
                if pid is not None:
                    size = await asyncio.to_thread(_size_of, pid)
                    self.megabytes[name] = max(self.megabytes[name], round(size, 1))
            await asyncio.sleep(SAMPLE_SECONDS)


def _size_of(pid: int) -> float:
    try:
        return psutil.Process(pid).memory_full_info().pss / MEGABYTE
    except psutil.NoSuchProcess:
        return 0.0


def write_file(path: Path, rows: int) -> int:
    """A file with so many rows, 3 % of them duplicates and 2 % without a valid phone; returns how many leads it makes."""
    leads = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("name,phone,niche,target_status,additional_note\n")
        for number in range(rows):
            phone = f"+60 11-{number // 10_000:04d} {number % 10_000:04d}"
            if number % EVERY_INVALID == 0:
                phone = "tiada"
            elif number % EVERY_DUPLICATE == 1 and number > EVERY_DUPLICATE:
                phone = "+60 11-0000 0003"
            else:
                leads += 1
            file.write(f'Lead {number},{phone},"BENCH,TAG{number % 20}",prospect,Met at fair {number % 100}\n')
    return leads


@asynccontextmanager
async def open_client(scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    """A new user, logged in."""
    async with httpx.AsyncClient(base_url=api_url(scene.stack), timeout=None, trust_env=False) as client:
        account = {"fullname": "Bench", "email": EMAIL, "password": "correct horse battery"}
        answer = await client.post("/api/register", json=account)
        answer.raise_for_status()
        client.headers["X-Auth-Token"] = answer.json()["token"]
        client.cookies.clear()
        yield client


async def ask(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:
    """The results of a request that has to succeed."""
    answer = await client.request(method, path, **options)
    if not answer.is_success:
        raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
    return answer.json()["results"]


async def import_file(client: httpx.AsyncClient, path: Path) -> tuple[dict[str, Any], float, float]:
    """Upload a file and wait for its end; returns the import, and the seconds of the upload and of everything."""
    began = time.monotonic()
    with path.open("rb") as file:
        row = await ask(client, "POST", "/api/leads/imports", files={"file": (path.name, file, "text/csv")})
    uploaded = time.monotonic() - began
    while row["status"] in {"queued", "running"}:
        await asyncio.sleep(SAMPLE_SECONDS)
        row = await ask(client, "GET", f"/api/leads/imports/{row['id']}")
    return row, uploaded, time.monotonic() - began


async def expand(scene: Scene, leads: int) -> float:
    """Start a campaign to all leads; returns the seconds until its audience stands in the ledger."""
    async with scene.sessions() as session:
        user_id = (await session.execute(select(User.id).where(User.email == EMAIL))).scalar_one()
    began = time.monotonic()
    campaign = await start_campaign(scene, user_id, gap_seconds=(10, 30))
    expanded = "SELECT count(*) FROM campaigns WHERE id = :campaign AND expanded_at IS NOT NULL"
    while not await count(scene, expanded, campaign=campaign):
        await asyncio.sleep(0.1)
    seconds = time.monotonic() - began
    written = await count(scene, "SELECT expanded FROM campaigns WHERE id = :campaign", campaign=campaign)
    if written != leads:
        raise RuntimeError(f"{written:,} messages for {leads:,} leads")
    return seconds


async def measure(rows: int) -> Figures:
    """One run from an empty folder to the figures."""
    with tempfile.TemporaryDirectory(prefix="siaran-bench-") as folder:
        path = Path(folder) / "leads.csv"
        with console.status(f"writing a file of {rows:,} rows"):
            leads = await asyncio.to_thread(write_file, path, rows)
        async with asyncio.timeout(LIMIT_SECONDS), open_scene() as scene, open_client(scene) as client:
            with console.status(f"linking {DEVICES} devices"):
                for number in range(DEVICES):
                    added = await ask(client, "POST", "/api/devices", json={"name": f"Device {number}"})
                    await ask(client, "POST", f"/api/devices/{added['device']['id']}/link/simulate")
                await wait_online(scene, DEVICES)
            peak = Peak(scene)
            watching = asyncio.create_task(peak.watch())
            with console.status(f"importing {path.stat().st_size / MEGABYTE:.0f} MB"):
                row, uploaded, seconds = await import_file(client, path)
            watching.cancel()
            if (row["status"], row["rows_done"], row["new"]) != ("done", rows, leads):
                raise RuntimeError(f"the import ended otherwise than it should: {row}")
            with console.status("expanding the audience of a campaign to all of them"):
                expansion = await expand(scene, leads)
            return Figures(
                rows=rows,
                seconds=round(seconds, 1),
                peak_mb=max(peak.megabytes.values()),
                expansion_seconds=round(expansion, 1),
                upload_seconds=round(uploaded, 1),
                leads=leads,
                api_mb=peak.megabytes["api"],
                worker_mb=peak.megabytes["worker"],
            )


def main(
    rows: Annotated[int, typer.Option(min=1_000, max=4_000_000)] = 1_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
) -> None:
    """Measure an import and the expansion of an audience."""
    figures = asdict(uvloop.run(measure(rows)))
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    if as_json:
        print(json.dumps({name: figures[name] for name in ("rows", "seconds", "peak_mb", "expansion_seconds")}))


if __name__ == "__main__":
    typer.run(main)
