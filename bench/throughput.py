"""How much of what many devices could send really goes out: every device at the same rate, caps of hour and day lifted.

`python -m bench.throughput --devices 1000 --rate 20 --minutes 2 [--json]`. Users of 15 devices with one campaign each; latency
of the simulated network 100-400 ms, receipts as the network sends them. Measured from when every device has sent.
"""

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench.scene import (
    Scene,
    add_cast,
    add_leads,
    count,
    cpu_seconds,
    memory_mb,
    open_scene,
    processes,
    start_campaign,
    wait_online,
)

DEVICES_PER_USER = 15
RAMP_LIMIT_SECONDS = 300.0
LIFTED = 1_000_000

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured; rates per minute, memory in megabytes (PSS), CPU over the measured time."""

    devices: int
    offered_per_minute: float
    sent_per_minute: float
    recorded_per_minute: float
    late_p50_ms: float
    late_p99_ms: float
    app_mb: float
    postgres_mb: float
    temporal_mb: float
    valkey_mb: float
    cpu_seconds: float
    ramp_seconds: float


_SENT = "SELECT count(*) FROM message_attempts WHERE outcome = 'sent' AND attempted_at BETWEEN :since AND :until"

# A send is late by what passed since the device's send before it, beyond the gap; a late send moves nothing after it.
_LATE = text("""
    SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY late) AS percentiles, avg(late) AS mean,
        coalesce(sum(late) FILTER (WHERE late > 1000), 0) / sum(late) AS of_seconds FROM (
        SELECT extract(epoch FROM a.attempted_at - lag(a.attempted_at) OVER (PARTITION BY a.device_id ORDER BY a.attempted_at))
            * 1000 - :gap_ms AS late, a.attempted_at
        FROM message_attempts a WHERE a.attempted_at <= :until
    ) gaps WHERE late IS NOT NULL AND attempted_at > :since
""")


async def measure(devices: int, rate: int, minutes: float, send_window: str) -> Figures:
    """One run from an empty folder to the figures."""
    gap = 60 / rate
    environment = {"SEND_WINDOW": send_window}
    async with open_scene(environment) as scene:
        with console.status(f"linking {devices} devices"):
            await _fill(scene, devices, rate, minutes)
            await wait_online(scene, devices)
        began = time.monotonic()
        with console.status("starting the campaigns, until every device has sent"):
            await _start_all(scene, gap)
            await _ramp(scene, devices)
        ramp = time.monotonic() - began
        groups = processes(scene)
        cpu_before = cpu_seconds(groups)
        since = datetime.now(UTC)
        recorded_before = await scene.network.transmitted()
        with console.status(f"measuring for {minutes:g} minutes"):
            await asyncio.sleep(minutes * 60)
        until = datetime.now(UTC)
        recorded = await scene.network.transmitted() - recorded_before
        cpu_after = cpu_seconds(groups)
        memory = {name: memory_mb(group) for name, group in processes(scene).items()}
        sent = await count(
            scene,
            "SELECT count(*) FROM message_attempts WHERE outcome = 'sent' AND attempted_at BETWEEN :a AND :b",
            a=since,
            b=until,
        )
        async with scene.sessions() as session:
            values = {"gap_ms": gap * 1000, "since": since, "until": until}
            row = (await session.execute(_LATE, values)).one()
        late = row.percentiles or [0.0, 0.0]
        if row.percentiles:
            console.print(f"mean lateness {row.mean:.0f} ms; {row.of_seconds:.0%} of it in messages over a second late")
        passed = (until - since) / timedelta(minutes=1)
        for name in sorted(cpu_after):
            console.print(f"{name}: {cpu_after[name] - cpu_before[name]:.0f} CPU s, {memory[name]:.0f} MB")
        return Figures(
            devices=devices,
            offered_per_minute=devices * rate,
            sent_per_minute=round(sent / passed, 1),
            recorded_per_minute=round(recorded / passed, 1),
            late_p50_ms=round(late[0], 1),
            late_p99_ms=round(late[1], 1),
            app_mb=memory["app"],
            postgres_mb=memory["postgres"],
            temporal_mb=memory["temporal"],
            valkey_mb=memory["valkey"],
            cpu_seconds=round(sum(cpu_after.values()) - sum(cpu_before.values()), 1),
            ramp_seconds=round(ramp, 1),
        )


async def _fill(scene: Scene, devices: int, rate: int, minutes: float) -> None:
    caps = {"max_per_minute": rate, "max_per_hour": LIFTED, "max_per_day": LIFTED}
    for first in range(0, devices, DEVICES_PER_USER):
        size = min(DEVICES_PER_USER, devices - first)
        cast = await add_cast(scene, size, **caps)
        # Enough for the ramp, the measured time and a rest, so that no device runs dry.
        await add_leads(scene, cast.user_id, round(size * rate * (minutes + RAMP_LIMIT_SECONDS / 60 + 1)))


async def _start_all(scene: Scene, gap: float) -> None:
    async with scene.sessions() as session:
        users = list((await session.execute(text("SELECT id FROM users WHERE password_hash = '!' ORDER BY id"))).scalars())
    for user_id in users:
        await start_campaign(scene, user_id, gap_seconds=(round(gap), round(gap)))


async def _ramp(scene: Scene, devices: int) -> None:
    give_up = time.monotonic() + RAMP_LIMIT_SECONDS
    while time.monotonic() < give_up:
        if await count(scene, "SELECT count(*) FROM lanes WHERE processed > 0") >= devices:
            return
        await asyncio.sleep(1)
    console.print("not every device has sent within the ramp's limit; measuring all the same", style="yellow")


def main(
    devices: Annotated[int, typer.Option(min=1, max=10_000)] = 1000,
    rate: Annotated[int, typer.Option(min=1, max=60, help="Messages a minute and device; must divide 60.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.1, max=60)] = 2,
    send_window: Annotated[str, typer.Option(help="SEND_WINDOW of the hosts: auto or seconds.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
) -> None:
    """Measure how much of the offered messages goes out."""
    if 60 % rate:
        raise typer.BadParameter("must divide 60, since gaps are whole seconds", param_hint="--rate")
    figures = asdict(uvloop.run(measure(devices, rate, minutes, send_window)))
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    if as_json:
        print(json.dumps(figures))


if __name__ == "__main__":
    typer.run(main)
