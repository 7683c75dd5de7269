"""The fleet: one per server; gives linked devices to its hosts, and replaces hosts that died."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil
import structlog
import uvloop
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.db import SessionMaker, open_database
from siaran.logging import configure_logging
from siaran.metrics import serve_metrics
from siaran.models import TransportKind
from siaran.processes import spawn
from siaran.settings import Settings, get_settings
from worker.lease import begin_lease, end_host

log = structlog.get_logger()

LOOK_SECONDS = 0.5
HEALTHY_SECONDS = 30.0
"""A host that lived this long may be replaced at once; quicker deaths are backed off from."""

BACK_OFF_LIMIT_SECONDS = 30.0
STOP_SECONDS = 100.0
LONGEST_SEND = timedelta(seconds=90)
"""How long after its lease a foreign host may still be busy with a send that it began in time."""

_ONLY = text("SELECT pg_try_advisory_lock(hashtext(:name))")

_UNPLACED = text("""
    SELECT count(*) FROM user_devices
    WHERE host_id IS NULL AND jid IS NOT NULL AND transport = :transport AND is_active AND deleted_at IS NULL
        AND status NOT IN ('banned', 'logged_out')
""")

# A device that has never been online counts as away from now on: until it has had time to connect, its messages stay.
_PLACE = text("""
    WITH placed AS MATERIALIZED (
        SELECT id FROM user_devices
        WHERE host_id IS NULL AND jid IS NOT NULL AND transport = :transport AND is_active AND deleted_at IS NULL
            AND status NOT IN ('banned', 'logged_out')
        ORDER BY user_id, id LIMIT :free
        FOR UPDATE SKIP LOCKED
    )
    UPDATE user_devices d SET
        host_id = :host, status = 'connecting', offline_since_at = coalesce(d.offline_since_at, now()), updated_at = now()
    FROM placed WHERE d.id = placed.id AND d.host_id IS NULL
    RETURNING d.id
""")

_HELD = text("""
    SELECT host_id, count(*) AS devices FROM user_devices WHERE host_id = ANY(CAST(:hosts AS bigint[])) GROUP BY host_id
""")

_LEFT_BEHIND = text("SELECT id, pid FROM hosts WHERE server = :server AND ended_at IS NULL ORDER BY id")

_FOREIGN = text("""
    SELECT id FROM hosts WHERE server <> :server AND ended_at IS NULL AND expires_at < now() - CAST(:margin AS interval)
""")


@dataclass(slots=True)
class _Child:
    """A host process of this fleet."""

    host_id: int
    process: asyncio.subprocess.Process
    started_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())


class Fleet:
    """Keeps enough hosts running for the devices of one transport, and every linked device at one of them."""

    def __init__(self, settings: Settings, sessions: SessionMaker, transport: TransportKind = TransportKind.SIMULATED) -> None:
        self._settings = settings
        self._sessions = sessions
        self._transport = transport
        simulated = transport is TransportKind.SIMULATED
        self._capacity = settings.simulated_host_capacity if simulated else settings.host_capacity
        self._children: dict[int, _Child] = {}
        self._quick_deaths = 0
        self._wait_until = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Look after the hosts until told to stop; then stop them all, each after what it has under way."""
        await self._end_left_behind()
        while not stop.is_set():
            try:
                await self._look()
            except (SQLAlchemyError, OSError) as error:
                log.warning("fleet_waits", error=type(error).__name__)
            try:
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue
        await self._stop_all()

    async def _look(self) -> None:
        await self._bury()
        async with self._sessions() as session:
            margin = {"server": self._settings.server, "margin": LONGEST_SEND}
            foreign = list((await session.execute(_FOREIGN, margin)).scalars())
            unplaced = (await session.execute(_UNPLACED, {"transport": self._transport.value})).scalar_one()
        for host_id in foreign:
            log.warning("foreign_host_ended", host=host_id)
            await end_host(self._sessions, host_id)
        if unplaced:
            await self._place(unplaced)

    async def _bury(self) -> None:
        """End the hosts whose processes are dead: their devices are free at once, since they were ours to watch."""
        for host_id, child in list(self._children.items()):
            code = child.process.returncode
            if code is None:
                continue
            released = await end_host(self._sessions, host_id)
            del self._children[host_id]
            log.warning("host_died", host=host_id, exit_code=code, devices=released)
            now = asyncio.get_running_loop().time()
            self._quick_deaths = 0 if now - child.started_at > HEALTHY_SECONDS else self._quick_deaths + 1
            delay = min(0.25 * 2 ** (self._quick_deaths - 1), BACK_OFF_LIMIT_SECONDS) if self._quick_deaths else 0.0
            self._wait_until = now + delay

    async def _place(self, unplaced: int) -> None:
        """Give devices without a host to hosts with room, starting hosts where there is none."""
        async with self._sessions.begin() as session:
            held = await self._held(session)
            for host_id in sorted(self._children):
                free = self._capacity - held.get(host_id, 0)
                if free > 0 and unplaced > 0:
                    unplaced -= await self._fill(session, host_id, free)
        while unplaced > 0 and asyncio.get_running_loop().time() >= self._wait_until:
            host_id = await self._start_host()
            async with self._sessions.begin() as session:
                placed = await self._fill(session, host_id, self._capacity)
            if not placed:
                return
            unplaced -= placed

    async def _held(self, session: AsyncSession) -> dict[int, int]:
        rows = await session.execute(_HELD, {"hosts": list(self._children)})
        return {row.host_id: row.devices for row in rows}

    async def _fill(self, session: AsyncSession, host_id: int, free: int) -> int:
        values = {"host": host_id, "transport": self._transport.value, "free": free}
        return len((await session.execute(_PLACE, values)).all())

    async def _start_host(self) -> int:
        host_id = await begin_lease(self._sessions, self._settings.server, self._transport, self._capacity)
        logs = self._settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        process = await spawn(
            [sys.executable, "-m", "worker.host", "--host-id", str(host_id)],
            environment=os.environ,
            log_path=logs / "hosts.log",
            cwd=Path.cwd(),
        )
        self._children[host_id] = _Child(host_id, process)
        log.info("host_started", host=host_id, pid=process.pid)
        return host_id

    async def _end_left_behind(self) -> None:
        """End the hosts of a fleet of this server that died before: the kernel kills them with it, and we make sure."""
        while True:
            try:
                async with self._sessions() as session:
                    rows = (await session.execute(_LEFT_BEHIND, {"server": self._settings.server})).all()
                for row in rows:
                    await asyncio.to_thread(_end_process, row.id, row.pid)
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


def _end_process(host_id: int, pid: int | None) -> None:
    """Make sure that the process of a host is gone; one that merely got its number is left alone."""
    try:
        process = psutil.Process(pid) if pid else None
        if process is None or process.cmdline()[-4:] != ["-m", "worker.host", "--host-id", str(host_id)]:
            return
        process.kill()
        process.wait(10)
    except psutil.NoSuchProcess:
        return


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
    async with open_database(settings, pool_size=2) as sessions, only_fleet(sessions, settings.server):
        await Fleet(settings, sessions).run(stop)


def main() -> None:
    """Keep the device hosts of this server running."""
    settings = get_settings()
    configure_logging(debug=settings.debug)
    serve_metrics(settings, "fleet")
    uvloop.run(run_fleet(settings))


if __name__ == "__main__":
    main()
