"""The fleet: one per server; gives linked devices to its hosts, and replaces hosts that died."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psutil
import structlog
import uvloop
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from siaran.db import SessionMaker, open_database
from siaran.gateway.session_files import has_session
from siaran.logging import configure_logging
from siaran.metrics import serve_metrics
from siaran.models import TransportKind
from siaran.processes import spawn
from siaran.settings import Settings, get_settings
from worker.lease import begin_lease, end_host
from worker.pairings import Pairings
from worker.patrol import patrol
from worker.placement import held_devices, place_devices, waiting_devices
from worker.renewal import RENEW

log = structlog.get_logger()

LOOK_SECONDS = 0.5
HEALTHY_SECONDS = 30.0
"""A host that lived this long may be replaced at once; quicker deaths are backed off from."""

YOUNG_SECONDS = 2.0
"""A host that wants to be renewed so soon is given that long a pause, whatever is wrong with it."""

STAGGER_SECONDS = 2.0
"""How long after a host of real accounts the next one is started, as after a restart of the whole server."""

BACK_OFF_LIMIT_SECONDS = 30.0
STOP_SECONDS = 112.0
LONGEST_SEND = timedelta(seconds=90)
"""How long after its lease a foreign host may still be busy with a send that it began in time."""

_ONLY = text("SELECT pg_try_advisory_lock(hashtext(:name))")

_LEFT_BEHIND = text("""
    SELECT id, pid FROM hosts WHERE server = :server AND transport = :transport AND ended_at IS NULL ORDER BY id
""")

_FOREIGN = text("""
    SELECT id FROM hosts
    WHERE server <> :server AND transport = :transport AND ended_at IS NULL
        AND expires_at < now() - CAST(:margin AS interval)
""")


@dataclass(slots=True)
class _Child:
    """A host process of this fleet; `quick_deaths` are those of its devices' hosts, one after another, before it."""

    host_id: int
    process: asyncio.subprocess.Process
    quick_deaths: int = 0
    started_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())


@dataclass(frozen=True, slots=True)
class Group:
    """Devices of a host that is gone, which get a host of their own again once it is time."""

    devices: list[UUID]
    ready_at: float = 0.0
    quick_deaths: int = 0


class Fleet:
    """Keeps enough hosts running for the devices of one transport, and every linked device at one of them.

    Where a host has to be renewed for every device that it gets, the devices of a host that is gone stay together: they wait
    for no room elsewhere, and disturb nobody there.
    """

    def __init__(self, settings: Settings, sessions: SessionMaker, transport: TransportKind = TransportKind.SIMULATED) -> None:
        self._settings = settings
        self._sessions = sessions
        self._transport = transport
        self._is_real = transport is TransportKind.WHATSAPP
        self._capacity = settings.host_capacity if self._is_real else settings.simulated_host_capacity
        self._children: dict[int, _Child] = {}
        self._groups: list[Group] = []
        self._quick_deaths = 0
        self._wait_until = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Look after the hosts until told to stop; then stop them all, each after what it has under way."""
        await self._end_left_behind()
        await patrol(self._look, stop, every_seconds=LOOK_SECONDS, waits="fleet_waits")
        await self._stop_all()

    async def _look(self) -> None:
        await self._bury()
        async with self._sessions() as session:
            values = {"server": self._settings.server, "transport": self._transport.value, "margin": LONGEST_SEND}
            foreign = list((await session.execute(_FOREIGN, values)).scalars())
            waiting = await waiting_devices(session, self._transport)
        for host_id in foreign:
            log.warning("foreign_host_ended", host=host_id)
            await end_host(self._sessions, host_id)
        if waiting or self._groups:
            await self._place([device for device, generation in waiting if self._has_session(device, generation)])

    def _has_session(self, device_id: UUID, link_generation: int) -> bool:
        """Whether a host of this server can connect a device: a real account's keys are in a file."""
        return not self._is_real or has_session(self._settings.session_folder, device_id, link_generation)

    async def _bury(self) -> None:
        """End the hosts whose processes are dead: their devices are free at once, since they were ours to watch."""
        for host_id, child in list(self._children.items()):
            code = child.process.returncode
            if code is None:
                continue
            devices = await end_host(self._sessions, host_id)
            del self._children[host_id]
            if code == RENEW:
                log.info("host_renews", host=host_id, devices=len(devices))
            else:
                log.warning("host_died", host=host_id, exit_code=code, devices=len(devices))
            now = asyncio.get_running_loop().time()
            lived = now - child.started_at
            if self._is_real:
                self._groups += regroup(devices, now, lived, child.quick_deaths, has_crashed=code != RENEW)
            else:
                self._quick_deaths = 0 if lived > HEALTHY_SECONDS else self._quick_deaths + 1
                self._wait_until = now + _back_off(self._quick_deaths)

    async def _place(self, waiting: Sequence[UUID]) -> None:
        """Give devices without a host to hosts with room, starting hosts where there is none."""
        now = asyncio.get_running_loop().time()
        left = await self._place_groups(waiting, now)
        if not left:
            return
        async with self._sessions.begin() as session:
            held = await held_devices(session, self._children)
            for host_id in sorted(self._children, key=lambda host: (held.get(host, 0) if self._is_real else 0, host)):
                free = self._capacity - held.get(host_id, 0)
                if free > 0 and left:
                    left -= set(await place_devices(session, self._transport, host_id, left, free))
        while left and asyncio.get_running_loop().time() >= self._wait_until:
            placed = await self._start_host([device for device in waiting if device in left][: self._capacity])
            if not placed:
                return
            left -= set(placed)
            if self._is_real:  # they connect one after another, too
                self._wait_until = asyncio.get_running_loop().time() + STAGGER_SECONDS

    async def _place_groups(self, waiting: Collection[UUID], now: float) -> set[UUID]:
        """Give groups whose time has come hosts of their own; returns the waiting devices that are in no group."""
        left = set(waiting)
        for group in list(self._groups):
            devices = [device for device in group.devices if device in left]
            left -= set(devices)
            if group.ready_at <= now:
                self._groups.remove(group)
                if devices:
                    await self._start_host(devices, group.quick_deaths)
        return left

    async def _start_host(self, devices: Sequence[UUID], quick_deaths: int = 0) -> list[UUID]:
        """Start a host for these devices; returns those that it was given."""
        host_id = await begin_lease(self._sessions, self._settings.server, self._transport, self._capacity)
        logs = self._settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        process = await spawn(
            [sys.executable, *_arguments(host_id, self._transport)],
            environment=os.environ,
            log_path=logs / "hosts.log",
            cwd=Path.cwd(),
        )
        self._children[host_id] = _Child(host_id, process, quick_deaths)
        async with self._sessions.begin() as session:
            placed = await place_devices(session, self._transport, host_id, devices, self._capacity)
        log.info("host_started", host=host_id, pid=process.pid, transport=self._transport.value, devices=len(placed))
        return placed

    async def _end_left_behind(self) -> None:
        """End the hosts of a fleet of this server that died before: the kernel kills them with it, and we make sure."""
        while True:
            try:
                async with self._sessions() as session:
                    values = {"server": self._settings.server, "transport": self._transport.value}
                    rows = (await session.execute(_LEFT_BEHIND, values)).all()
                for row in rows:
                    await asyncio.to_thread(_end_process, _arguments(row.id, self._transport), row.pid)
                    await end_host(self._sessions, row.id)
            except (SQLAlchemyError, OSError) as error:
                log.warning("fleet_waits", error=type(error).__name__)
                await asyncio.sleep(1)
            else:
                return

    async def _stop_all(self) -> None:
        for child in self._children.values():
            if child.process.returncode is None:
                child.process.send_signal(signal.SIGTERM)
        ends = [asyncio.create_task(child.process.wait()) for child in self._children.values()]
        if ends:
            await asyncio.wait(ends, timeout=STOP_SECONDS)
        for host_id, child in self._children.items():
            if child.process.returncode is None:
                child.process.kill()
                await child.process.wait()
            await end_host(self._sessions, host_id)


def _arguments(host_id: int, transport: TransportKind) -> list[str]:
    """What a host's process is started with, after the interpreter."""
    return ["-m", "worker.host", "--host-id", str(host_id), "--transport", transport.value]


def _end_process(arguments: Sequence[str], pid: int | None) -> None:
    """Make sure that the process of a host is gone; one that merely got its number is left alone."""
    try:
        process = psutil.Process(pid) if pid else None
        if process is None or process.cmdline()[-len(arguments) :] != list(arguments):
            return
        process.kill()
        process.wait(10)
    except psutil.NoSuchProcess:
        return


def _back_off(quick_deaths: int) -> float:
    """How many seconds the next host waits after so many quick deaths one after another."""
    return min(0.25 * 2 ** (quick_deaths - 1), BACK_OFF_LIMIT_SECONDS) if quick_deaths else 0.0


def regroup(devices: list[UUID], now: float, lived: float, quick_deaths: int, *, has_crashed: bool) -> list[Group]:
    """How the devices of a host that is gone are placed again: together, at once if it only wanted to be renewed.

    Where quick crashes follow each other they are halved: if one of them brings its host down each time, it is soon alone.
    """
    if not devices:
        return []
    if not has_crashed:
        return [Group(devices, now if lived > YOUNG_SECONDS else now + YOUNG_SECONDS)]
    if lived > HEALTHY_SECONDS:
        return [Group(devices, now)]
    middle = (len(devices) + 1) // 2 if quick_deaths else len(devices)
    ready_at = now + _back_off(quick_deaths + 1)
    return [Group(half, ready_at, quick_deaths + 1) for half in (devices[:middle], devices[middle:]) if half]


@asynccontextmanager
async def only_fleet(sessions: SessionMaker, server: str) -> AsyncIterator[None]:
    """Wait until no other fleet of this server runs; a lock on a connection of its own, which ends with this process."""
    async with sessions() as session:
        connection = await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        while not (await connection.execute(_ONLY, {"name": f"fleet:{server}"})).scalar_one():
            log.warning("another_fleet_runs", server=server)
            await asyncio.sleep(1)
        yield


async def run_fleet(settings: Settings) -> None:
    """Run the fleet of this server until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    async with (
        open_database(settings, pool_size=5) as sessions,
        only_fleet(sessions, settings.server),
        asyncio.TaskGroup() as group,
    ):
        for transport in TransportKind:
            group.create_task(Fleet(settings, sessions, transport).run(stop))
        group.create_task(Pairings(settings, sessions).run(stop))


def main() -> None:
    """Keep the device hosts of this server running, and link accounts to its devices."""
    settings = get_settings()
    configure_logging(debug=settings.debug)
    serve_metrics(settings, "fleet")
    uvloop.run(run_fleet(settings))


if __name__ == "__main__":
    main()
