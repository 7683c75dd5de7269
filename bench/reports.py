"""How fast reports and lists are with millions of messages: every one of them over HTTP, for the biggest user and for others.

`python -m bench.reports --messages 10000000 [--data FOLDER] [--json]`. 200 users of 15 devices, 2,000 campaigns, one of them of
a million messages (or half of all, if those are fewer), the rest spread over the others; the same leads as in the campaigns.
One request after the other against a real API process, each twice before it counts. With `--data` the rows are kept in a
folder and used again.
"""

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from api.paging import encode_cursor
from bench.reports_fill import RUNNING_CAMPAIGN, Tenant, count_messages, fill, find_tenants
from siaran.campaign_messages import GROUPS
from siaran.db import make_engine, migrate
from siaran.embedded.app import api_child, api_url
from siaran.embedded.options import StackOptions
from siaran.embedded.stack import EmbeddedStack
from siaran.settings import Settings

AIM_MS = 50.0
OTHERS = 4
"""How many users beside the biggest are asked for."""

WARM_UP = 2
TABLE_WIDTH = 110
console = Console(stderr=True)
Request = tuple[str, dict[str, str]]


@dataclass(slots=True)
class Timings:
    """Milliseconds of the requests to one endpoint, the biggest user's and the others'."""

    biggest: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        """All of them."""
        return self.biggest + self.others


def p95(times: Sequence[float]) -> float:
    """The time that 95 % of the requests stay under."""
    return statistics.quantiles(times, n=20, method="inclusive")[-1] if len(times) > 1 else sum(times)


def requests_of(tenant: Tenant, dice: random.Random) -> Iterator[tuple[str, Request]]:
    """Every report and list that there is, each under a name; `dice` picks devices, campaigns and how deep a page lies."""
    yield from _campaign_lists(tenant, dice)
    yield from _campaign_reports(tenant, dice)
    yield from _lead_lists(tenant, dice)
    yield from _others(tenant, dice)


def _campaign_lists(tenant: Tenant, dice: random.Random) -> Iterator[tuple[str, Request]]:
    yield "campaigns", ("/api/campaigns", {})
    yield "campaigns, one status", ("/api/campaigns", {"status": "sent"})
    yield "campaigns, one niche", ("/api/campaigns", {"niche": "NICHE1"})
    yield "summary, today and tomorrow", ("/api/campaigns/summary", {})
    yield "summary, all", ("/api/campaigns/summary", {"all": "true"})
    yield "summary, a range", ("/api/campaigns/summary", {"from": "2020-01-01", "to": "2099-12-31"})
    yield "one campaign", (f"/api/campaigns/{dice.choice(tenant.campaigns)}", {})


def _campaign_reports(tenant: Tenant, dice: random.Random) -> Iterator[tuple[str, Request]]:
    campaign, device = tenant.campaigns[RUNNING_CAMPAIGN], dice.choice(tenant.devices)
    yield "device report", (f"/api/campaigns/{campaign}/device-report", {})
    for group in GROUPS:
        yield f"leads of a device, {group}", (f"/api/campaigns/{campaign}/device/{device}/leads", {"status": group})
        yield f"leads of a campaign, {group}", (f"/api/campaigns/{campaign}/messages", {"status": group})
    for group in ("all", "pending", "success", "failed"):
        deep = {"status": group, "cursor": encode_cursor((_deep_message(tenant, dice),))}
        yield f"leads of a device, {group}, deep", (f"/api/campaigns/{campaign}/device/{device}/leads", deep)
        yield f"leads of a campaign, {group}, deep", (f"/api/campaigns/{campaign}/messages", deep)
    whole = {"status": "all", "limit": "500"}
    yield "leads of a device, 500 rows", (f"/api/campaigns/{campaign}/device/{device}/leads", whole)
    yield "leads of a campaign, 500 rows", (f"/api/campaigns/{campaign}/messages", whole)


def _deep_message(tenant: Tenant, dice: random.Random) -> int:
    return dice.randint(*tenant.message_ids)


def _lead_lists(tenant: Tenant, dice: random.Random) -> Iterator[tuple[str, Request]]:
    device, number = dice.choice(tenant.devices), dice.randint(1, tenant.leads)
    deep = encode_cursor((dice.randint(*tenant.lead_ids),))
    yield "leads", ("/api/leads", {})
    yield "leads, deep", ("/api/leads", {"cursor": deep})
    yield "leads, 500 rows", ("/api/leads", {"limit": "500"})
    yield "leads, one status", ("/api/leads", {"target_status": "customer"})
    yield "leads, one niche", ("/api/leads", {"niche": f"NICHE{number % 20}"})
    yield "leads, niche and status", ("/api/leads", {"niche": f"NICHE{number % 20}", "target_status": "customer"})
    yield "leads, two niches", ("/api/leads", {"niche": "NICHE1,NICHE2"})
    yield "leads, unknown niche", ("/api/leads", {"niche": "NOBODY"})
    yield "leads, one niche, deep", ("/api/leads", {"niche": f"NICHE{number % 20}", "cursor": deep})
    yield "leads, common name", ("/api/leads", {"search": "siti"})
    yield "leads, rare name", ("/api/leads", {"search": f" {number}"})
    yield "leads, no such name", ("/api/leads", {"search": "zzyzx"})
    yield "leads, phone", ("/api/leads", {"search": f"1{number:08d}"})
    yield "leads of one device", (f"/api/devices/{device}/leads", {})
    yield "leads of one device, a niche", (f"/api/devices/{device}/leads", {"niche": f"NICHE{number % 20}"})
    yield "niches", ("/api/leads/niches", {})
    yield "opt-outs", ("/api/opt-outs", {})
    yield "opt-outs, phone", ("/api/opt-outs", {"search": f"{number:08d}"})


def _others(tenant: Tenant, dice: random.Random) -> Iterator[tuple[str, Request]]:
    device = str(dice.choice(tenant.devices))
    for days in ("today", "7", "30", "90"):
        yield f"analytics, {days}", (f"/api/analytics/{days}", {})
    yield "analytics, 90, one device", ("/api/analytics/90", {"device": device})
    yield "analytics, two years", ("/api/analytics/custom", {"start": "2025-12-31", "end": "2027-12-30"})
    yield "devices", ("/api/devices", {})
    yield "workers", ("/api/workers/status", {})
    yield "one worker", (f"/api/workers/device/{device}", {})
    yield "broadcast stats", ("/api/broadcast/stats", {})
    yield "activity", ("/api/activity", {})
    yield "activity, one kind", ("/api/activity", {"kind": "campaign.paused"})
    yield "activity, all of a noun", ("/api/activity", {"kind": "device"})
    yield "activity, one device", ("/api/activity", {"device_id": device})


async def measure(url: str, tenants: Sequence[Tenant], rounds: int) -> dict[str, Timings]:
    """Ask for everything so often; what is answered with anything but 200 raises `RuntimeError`."""
    found: dict[str, Timings] = {}
    dice = random.Random(1)
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        for tenant in (tenants[0], *dice.sample(list(tenants[1:]), OTHERS)):
            is_biggest = tenant is tenants[0]
            headers = {"Authorization": f"Bearer {tenant.token}"}
            for attempt in range(WARM_UP + (rounds * OTHERS if is_biggest else rounds)):
                for name, (path, params) in requests_of(tenant, dice):
                    began = time.perf_counter()
                    answer = await client.get(path, params=params, headers=headers)
                    passed = (time.perf_counter() - began) * 1000
                    if answer.status_code != 200:
                        raise RuntimeError(f"{path} {params}: {answer.status_code} {answer.text[:500]}")
                    if attempt >= WARM_UP:
                        timings = found.setdefault(name, Timings())
                        (timings.biggest if is_biggest else timings.others).append(passed)
    return found


@contextmanager
def folder_of(data: Path | None) -> Iterator[Path]:
    """The folder given, which stays, or one that is gone at the end."""
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="siaran-bench-") as folder:
        yield Path(folder)


@asynccontextmanager
async def open_library(data: Path, messages: int) -> AsyncIterator[tuple[str, list[Tenant]]]:
    """Servers and an API with everything in the database: where the API is, and the users, the biggest first."""
    settings = Settings(data_dir=data / "data", server="bench")
    async with EmbeddedStack(settings, StackOptions().with_free_ports(), app_ports=("api_port",)) as stack:
        await asyncio.to_thread(migrate, stack.settings)
        engine = make_engine(stack.settings)
        try:
            if not await count_messages(engine):
                began = time.monotonic()
                with console.status("filling") as status:
                    await fill(engine, messages, status.update)
                console.print(f"filled in {time.monotonic() - began:.0f} s")
            there = await count_messages(engine)
            tenants = await find_tenants(engine)
            console.print(f"{there:,} messages")
        finally:
            await engine.dispose()
        # Neither worker nor fleet: nothing shall change the rows while they are read.
        await stack.supervisor.start(api_child(stack))
        yield api_url(stack), tenants


async def run(messages: int, rounds: int, data: Path | None) -> tuple[dict[str, Timings], int]:
    """One run from an empty or filled folder to the timings."""
    with folder_of(data) as folder:
        async with open_library(folder, messages) as (url, tenants):
            with console.status("measuring"):
                return await measure(url, tenants, rounds), messages


def show(found: dict[str, Timings]) -> None:
    """A row for each endpoint, slowest first."""
    table = Table("endpoint", "requests", "p50 ms", "p95 ms", "p95 biggest", "p95 others", "max ms")
    for name, timings in sorted(found.items(), key=lambda item: -p95(item[1].all)):
        numbers = (
            statistics.median(timings.all),
            p95(timings.all),
            p95(timings.biggest),
            p95(timings.others),
            max(timings.all),
        )
        style = "red" if p95(timings.all) > AIM_MS else None
        table.add_row(name, str(len(timings.all)), *(f"{number:.1f}" for number in numbers), style=style)
    Console(width=TABLE_WIDTH).print(table)


def main(
    messages: Annotated[int, typer.Option(min=100_000, max=100_000_000)] = 10_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Requests to each endpoint by each of the smaller users.")] = 10,
    data: Annotated[Path | None, typer.Option(help="Keep the rows in this folder, and use those that are there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
) -> None:
    """Measure every report and list."""
    found, filled = uvloop.run(run(messages, rounds, data))
    show(found)
    every = [passed for timings in found.values() for passed in timings.all]
    worst = max(found, key=lambda name: p95(found[name].all))
    console.print(f"p95 of all requests {p95(every):.1f} ms; slowest: {worst}, {p95(found[worst].all):.1f} ms")
    if as_json:
        print(json.dumps({"messages": filled, "p95_ms": round(p95(every), 1)}))


if __name__ == "__main__":
    typer.run(main)
