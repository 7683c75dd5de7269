"""Whether anything is lost or sent twice while every kind of process is killed: the network's record against ledger and input.

`python -m bench.faults --messages 5000 --kills 30 --seed 1 [--json]`. Campaigns run on 60 simulated devices; at random moments,
while messages flow, one of api, worker, fleet, host, Valkey, Temporal and PostgreSQL gets SIGKILL, each kind at least three
times. The network refuses some messages and loses some acknowledgements on top. Exits 0 only if nothing is lost, repeated or
unexplained.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated
from uuid import UUID

import psutil
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from bench.scene import Cast, Scene, add_cast, add_leads, open_scene, start_campaign, wait_online
from siaran.attempt_keys import secret_of
from siaran.models import MessageStatus
from siaran.reconciliation import LedgerRow, Reconciliation, ledger_rows, reconcile

KINDS = ("api", "worker", "fleet", "host", "valkey", "temporal", "postgres")
EACH_AT_LEAST = 3
USERS = 4
DEVICES_PER_USER = 15
SECONDS_PER_KILL = 7.0
PAUSE_SECONDS = (1.0, 6.0)
FLOW_LIMIT_SECONDS = 120.0
END_LIMIT_SECONDS = 900.0
LIFTED = 1_000_000

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run found."""

    messages: int
    kills: int
    lost: int
    duplicates: int
    unaccounted: int
    sent: int
    failed: int
    unknown: int
    seconds: float


def plan_kills(kills: int, rng: random.Random) -> list[str]:
    """Which kind is killed when: each at least three times, the rest and the order drawn."""
    if kills < EACH_AT_LEAST * len(KINDS):
        raise typer.BadParameter(f"at least {EACH_AT_LEAST * len(KINDS)}, so that each kind is killed {EACH_AT_LEAST} times")
    plan = [kind for kind in KINDS for _ in range(EACH_AT_LEAST)]
    plan += rng.choices(KINDS, k=kills - len(plan))
    rng.shuffle(plan)
    return plan


async def run(messages: int, kills: int, seed: int) -> Figures:
    """Start everything, kill what the plan says, wait for the end and compare."""
    rng = random.Random(seed)
    plan = plan_kills(kills, rng)
    environment = {
        "SIARAN_SIMULATED_HOST_CAPACITY": "10",
        "SIARAN_FAILOVER_AFTER_SECONDS": "20",
        "SIARAN_RECEIPT_WAIT_SECONDS": "10",
    }
    began = time.monotonic()
    async with open_scene(environment) as scene:
        await scene.network.configure(
            seed=seed, failure_rate=0.03, ack_loss_rate=0.01, ack_timeout_seconds=5, late_ack=True, delivered_seconds=(0.3, 2)
        )
        casts, expected = await _fill(scene, messages)
        await wait_online(scene, USERS * DEVICES_PER_USER)
        mean_gap = USERS * DEVICES_PER_USER * kills * SECONDS_PER_KILL / messages
        gap = (round(mean_gap * 0.5), max(1, round(mean_gap * 1.5)))
        campaigns = {cast.user_id: await start_campaign(scene, cast.user_id, gap_seconds=gap) for cast in casts}
        for number, kind in enumerate(plan, 1):
            await _wait_for_flow(scene)
            await asyncio.sleep(rng.uniform(*PAUSE_SECONDS))
            killed = await _kill(scene, kind, rng)
            console.print(f"{number:3}/{kills} killed {kind} (pid {killed}), {await scene.network.transmitted()} transmitted")
        with console.status("waiting for the campaigns to end"):
            await _wait_for_end(scene, list(campaigns.values()))
        rows, found = await _compare(scene, casts, campaigns, expected)
        statuses = Counter(row.status for row in rows)
        return Figures(
            messages=messages,
            kills=len(plan),
            lost=len(found.lost),
            duplicates=len(found.duplicates),
            unaccounted=len(found.unaccounted),
            sent=statuses[MessageStatus.SENT] + statuses[MessageStatus.DELIVERED] + statuses[MessageStatus.READ],
            failed=statuses[MessageStatus.FAILED],
            unknown=statuses[MessageStatus.UNKNOWN],
            seconds=round(time.monotonic() - began, 1),
        )


async def _fill(scene: Scene, messages: int) -> tuple[list[Cast], list[list[str]]]:
    casts, expected = [], []
    for number in range(USERS):
        cast = await add_cast(scene, DEVICES_PER_USER, max_per_minute=LIFTED, max_per_hour=LIFTED, max_per_day=LIFTED)
        share = messages // USERS + (number < messages % USERS)
        casts.append(cast)
        expected.append(await add_leads(scene, cast.user_id, share, prefix=f"601{number}"))
    return casts, expected


async def _wait_for_flow(scene: Scene) -> None:
    """Wait until the network accepts messages again; raises `RuntimeError` when nothing more comes."""
    before = await scene.network.transmitted()
    give_up = time.monotonic() + FLOW_LIMIT_SECONDS
    while await scene.network.transmitted() == before:
        if time.monotonic() > give_up:
            raise RuntimeError("no message flows any more: more messages, or fewer kills, are needed")
        await asyncio.sleep(0.1)


async def _kill(scene: Scene, kind: str, rng: random.Random) -> int:
    """SIGKILL one process of a kind that this run started."""
    while True:
        pids = _hosts(scene) if kind == "host" else [pid for pid in [scene.stack.supervisor.pid(kind)] if pid is not None]
        if pids:
            pid = rng.choice(pids)
            os.kill(pid, signal.SIGKILL)
            return pid
        await asyncio.sleep(0.1)


def _hosts(scene: Scene) -> list[int]:
    fleet = scene.stack.supervisor.pid("fleet")
    try:
        children = psutil.Process(fleet).children() if fleet is not None else []
        return sorted(child.pid for child in children if "worker.host" in child.cmdline())
    except psutil.NoSuchProcess:
        return []


async def _wait_for_end(scene: Scene, campaigns: Sequence[int]) -> None:
    query = text("SELECT count(*) FROM campaigns WHERE id = ANY(:ids) AND status NOT IN ('sent', 'failed')")
    async with asyncio.timeout(END_LIMIT_SECONDS):
        while True:
            try:
                async with scene.sessions() as session:
                    if not (await session.execute(query, {"ids": list(campaigns)})).scalar_one():
                        break
            except (SQLAlchemyError, OSError):
                console.print("PostgreSQL is away")
            await asyncio.sleep(1)
    # Receipts of the last messages are still on their way.
    await asyncio.sleep(5)


async def _compare(
    scene: Scene, casts: Sequence[Cast], campaigns: dict[UUID, int], expected: Sequence[Sequence[str]]
) -> tuple[list[LedgerRow], Reconciliation]:
    transmissions = [transmission async for transmission in scene.network.transmissions()]
    secret = secret_of(scene.settings)
    rows: list[LedgerRow] = []
    async with scene.sessions() as session:
        for cast in casts:
            rows += await ledger_rows(session, cast.user_id, [campaigns[cast.user_id]], secret)
    wanted = [(campaigns[cast.user_id], phone) for cast, phones in zip(casts, expected, strict=True) for phone in phones]
    found = reconcile(wanted, transmissions, rows)
    for contradiction in found.unaccounted[:20]:
        console.print(f"message {contradiction.message_id}: {contradiction.reason}", style="red")
    return rows, found


def main(
    messages: Annotated[int, typer.Option(min=100, max=100_000)] = 5000,
    kills: Annotated[int, typer.Option(min=EACH_AT_LEAST * len(KINDS), max=500)] = 30,
    seed: Annotated[int, typer.Option(help="Draws the order and the moments of the kills.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
) -> None:
    """Kill processes while campaigns run, then account for every message."""
    figures = uvloop.run(run(messages, kills, seed))
    table = Table("figure", "value")
    for name, value in asdict(figures).items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    if as_json:
        print(json.dumps(asdict(figures)))
    raise typer.Exit(1 if figures.lost or figures.duplicates or figures.unaccounted else 0)


if __name__ == "__main__":
    typer.run(main)
