"""How fast contacts are started on a sequence and queued when all fall due at once, and what they cost while they wait.

`python -m bench.enrollments --contacts 50000 [--json]`. A sequence of two days to all leads of one user on the embedded stack:
`started_per_second` is counted from the nudge until every contact's workflow has been started, enrolling included;
`queued_per_second` from the minute in which all are due until each has its message in the ledger. No device is linked to a
host, so nothing is sent. Memory is the proportional set size of the worker and of Temporal's server once all wait for day 2.
"""

import asyncio
import json
import time as stopwatch
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import text

from bench.scene import Scene, add_cast, add_leads, count, cpu_seconds, memory_mb, open_scene, processes
from siaran.contracts import SequenceInput
from siaran.models import Sequence, SequenceStatus, SequenceStep
from siaran.sequence_signals import nudge_sequence

LIMIT_SECONDS = 3600.0
START_ROOM = 150
"""Starts a second that the due time leaves room for: day 1 begins when all have been started, and not before."""

_STARTED = "SELECT count(*) FROM sequence_contacts WHERE workflow_started_at IS NOT NULL"
_QUEUED = "SELECT count(*) FROM broadcast_messages WHERE sequence_id IS NOT NULL"

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured; memory in megabytes."""

    contacts: int
    started_per_second: float
    queued_per_second: float
    worker_mb: float
    server_mb: float


async def measure(contacts: int) -> Figures:
    """One run from an empty folder to the figures."""
    async with open_scene() as scene:
        # Devices that are linked and never online: what is queued stays queued, and nothing else uses the machine.
        cast = await add_cast(scene, 15)
        async with scene.sessions.begin() as session:
            await session.execute(text("UPDATE user_devices SET transport = 'whatsapp'"))
        with console.status("adding leads"):
            await add_leads(scene, cast.user_id, contacts)
        due_at = (datetime.now(UTC) + timedelta(seconds=60 + contacts / START_ROOM)).replace(second=0, microsecond=0)
        sequence = await _add_sequence(scene, cast.user_id, due_at + timedelta(minutes=1))
        began = stopwatch.monotonic()
        await nudge_sequence(scene.client, SequenceInput(sequence.id, cast.user_id))
        await _follow(scene, "starting", contacts, _STARTED)
        started = stopwatch.monotonic() - began
        _show_cpu(scene, f"started in {started:.0f} s")
        await _wait_until(scene, sequence)
        _show_cpu(scene, "due")
        began = stopwatch.monotonic()
        await _follow(scene, "queueing", contacts, _QUEUED)
        queued = stopwatch.monotonic() - began
        _show_cpu(scene, f"queued in {queued:.0f} s")
        with console.status("letting it come to rest"):
            await asyncio.sleep(20)
        return Figures(
            contacts=contacts,
            started_per_second=round(contacts / started, 1),
            queued_per_second=round(contacts / queued, 1),
            worker_mb=_memory(scene, lambda name: name.split("-")[0] == "worker"),
            server_mb=_memory(scene, lambda name: name == "temporal"),
        )


async def _add_sequence(scene: Scene, user_id: object, due_at: datetime) -> Sequence:
    async with scene.sessions.begin() as session:
        await session.execute(text("UPDATE users SET timezone = 'UTC' WHERE id = :user"), {"user": user_id})
        sequence = Sequence(
            user_id=user_id,
            name="Bench",
            niche="BENCH",
            status=SequenceStatus.ACTIVE,
            resumed_at=datetime.now(UTC),
            time_schedule=time(due_at.hour, due_at.minute),
        )
        session.add(sequence)
        await session.flush()
        for day in (1, 2):
            session.add(SequenceStep(user_id=user_id, sequence_id=sequence.id, day=day, content=f"Day {day}, {{{{name}}}}"))
    return sequence


async def _wait_until(scene: Scene, sequence: Sequence) -> None:
    """Wait for the minute in which all are due; it is over already where starting took longer than expected."""
    async with scene.sessions() as session:
        due_at: datetime = (
            await session.execute(
                text("SELECT min(next_send_at) FROM sequence_contacts WHERE sequence_id = :id"), {"id": sequence.id}
            )
        ).scalar_one()
    with console.status(f"all are due at {due_at:%H:%M} UTC"):
        await asyncio.sleep(max((due_at - datetime.now(UTC)).total_seconds(), 0))


async def _follow(scene: Scene, what: str, contacts: int, query: str) -> None:
    with Progress(console=console) as progress:
        task = progress.add_task(what, total=contacts)
        async with asyncio.timeout(LIMIT_SECONDS):
            while (done := await count(scene, query)) < contacts:
                progress.update(task, completed=done)
                await asyncio.sleep(0.2)


def _memory(scene: Scene, is_wanted: Callable[[str], bool]) -> float:
    """Memory of the processes of the supervisor's children with such names."""
    pids = {state.pid for state in scene.stack.supervisor.states() if state.pid is not None and is_wanted(state.name)}
    groups = processes(scene).values()
    return memory_mb([process for group in groups for process in group if process.pid in pids])


def _show_cpu(scene: Scene, what: str) -> None:
    seconds = cpu_seconds(processes(scene))
    console.print(f"{what}; CPU seconds so far: " + ", ".join(f"{name} {seconds[name]:.0f}" for name in sorted(seconds)))


def main(
    contacts: Annotated[int, typer.Option(min=10, max=200_000)] = 50_000,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
) -> None:
    """Measure starting, queueing and waiting of many contacts in one sequence."""
    figures = asdict(uvloop.run(measure(contacts)))
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    if as_json:
        print(json.dumps(figures))


if __name__ == "__main__":
    typer.run(main)
