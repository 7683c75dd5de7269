"""The fleet's part in linking real accounts: a throw-away process for each linking, and for each link that is to be ended."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psutil
import structlog
from sqlalchemy.exc import SQLAlchemyError

from siaran import pairings, unlinkings
from siaran.db import SessionMaker
from siaran.gateway.interface import NotConnected
from siaran.gateway.session_files import linked_jid, list_sessions, remove_session, session_path
from siaran.processes import spawn
from siaran.settings import Settings
from siaran.unlinkings import Session
from worker.patrol import patrol

log = structlog.get_logger()

LOOK_SECONDS = 0.5
TIDY_SECONDS = 60.0
MOST_LINKINGS = 20
"""Processes at once that link; each takes about 100 MB."""

MOST_UNLINKINGS = 4
OVERDUE = timedelta(seconds=90)
"""How long a process may go on after the end of its linking: it may have to log an account out."""

UNLINKING_SECONDS = 120.0
LINK = "worker.pairing"
UNLINK = "worker.pairing_end"


@dataclass(slots=True)
class _Child:
    """A throw-away process; `session` is what it works on, `pairing_id` is None for one that ends a link."""

    process: asyncio.subprocess.Process
    session: Session
    pairing_id: UUID | None = None
    started_at: float = field(default_factory=time.monotonic)


class Pairings:
    """Links accounts and ends links on this server, until told to stop. It never imports the WhatsApp library itself."""

    def __init__(self, settings: Settings, sessions: SessionMaker, environment: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._environment = environment
        self._folder = settings.session_folder
        self._children: list[_Child] = []
        self._tidy_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Look after linkings until told to stop; those that run then end at once, as failed."""
        await self._end_left_behind()
        await patrol(self._look, stop, every_seconds=LOOK_SECONDS, waits="pairings_wait")
        await self._stop_all()

    async def _look(self) -> None:
        async with self._sessions.begin() as session:
            await pairings.expire_pairings(session, self._settings.server)
        await self._end_children()
        await self._bury()
        if time.monotonic() >= self._tidy_at:
            await self._tidy()
        await self._start_unlinkings()
        await self._start_linkings()

    # Children

    async def _end_children(self) -> None:
        """Kill the processes of linkings that were cancelled or took too long; they are buried when they are gone."""
        linking = {pairing_id: child for child in self._children if (pairing_id := child.pairing_id) is not None}
        if linking:
            async with self._sessions() as session:
                ended = await pairings.ended_pairings(session, list(linking), OVERDUE)
            for pairing_id, to_be_killed in ended.items():
                if to_be_killed:
                    _kill(linking[pairing_id].process)
        for child in self._children:
            if child.pairing_id is None and time.monotonic() - child.started_at > UNLINKING_SECONDS:
                _kill(child.process)

    async def _bury(self) -> None:
        """See to what processes that have ended leave behind."""
        for child in [one for one in self._children if one.process.returncode is not None]:
            if child.pairing_id is not None:
                await self._fail([child.pairing_id])
            self._children.remove(child)
            self._tidy_at = 0.0

    async def _fail(self, pairing_ids: Sequence[UUID]) -> None:
        code, message = pairings.INTERRUPTED
        async with self._sessions.begin() as session:
            if await pairings.fail_pairings(session, pairing_ids, code, message):
                log.warning("linking_interrupted", pairings=[str(one) for one in pairing_ids])

    async def _start_linkings(self) -> None:
        free = MOST_LINKINGS - sum(child.pairing_id is not None for child in self._children)
        if free <= 0:
            return
        lasts = timedelta(seconds=self._settings.pairing_seconds)
        async with self._sessions.begin() as session:
            claimed = await pairings.claim_pairings(session, self._settings.server, free, lasts)
        for one in claimed:
            try:
                process = await self._spawn(LINK, "--pairing-id", str(one.pairing_id))
            except OSError as error:
                log.warning("linking_not_started", pairing=str(one.pairing_id), error=type(error).__name__)
                await self._fail([one.pairing_id])
                continue
            self._children.append(_Child(process, Session(one.device_id, one.link_generation), one.pairing_id))
            log.info("linking_started", pairing=str(one.pairing_id), device=str(one.device_id), pid=process.pid)

    async def _start_unlinkings(self) -> None:
        free = MOST_UNLINKINGS - sum(child.pairing_id is None for child in self._children)
        if free <= 0:
            return
        async with self._sessions.begin() as session:
            due = []
            if await unlinkings.are_any_due(session) and (kept := self._kept()):
                due = await unlinkings.claim_unlinkings(session, kept, free)
        for one in due:
            process = await self._spawn(UNLINK, "--unlinking-id", str(one.unlinking_id))
            self._children.append(_Child(process, one.session))
            log.info("unlinking_started", unlinking=one.unlinking_id, device=str(one.session.device_id), pid=process.pid)

    async def _spawn(self, module: str, option: str, value: str) -> asyncio.subprocess.Process:
        logs = self._settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", module, option, value]
        return await spawn(command, environment=self._environment, log_path=logs / "linking.log", cwd=Path.cwd())

    # Session files

    def _kept(self) -> list[Session]:
        """The sessions that this server keeps, without those that its own processes have at hand."""
        busy = {child.session for child in self._children}
        return [one for named in list_sessions(self._folder) if (one := Session(*named)) not in busy]

    async def _tidy(self) -> None:
        """Remove sessions that belong to nothing; one that an account still knows has to be logged out first."""
        self._tidy_at = time.monotonic() + TIDY_SECONDS
        kept = self._kept()
        async with self._sessions.begin() as session:
            await unlinkings.give_up(session)
            outdated = await unlinkings.outdated_sessions(session, kept, self._settings.server)
        for one in outdated:
            try:
                await self._clear(one)
            except NotConnected as error:
                log.warning("session_not_read", device=str(one.device_id), error=error.detail)

    async def _clear(self, outdated: Session) -> None:
        """Remove a session, or have it logged out first."""
        device_id, generation = outdated.device_id, outdated.link_generation
        jid = await linked_jid(session_path(self._folder, device_id, generation))
        if jid is None:
            remove_session(self._folder, device_id, generation)
            log.info("session_removed", device=str(device_id), generation=generation)
            return
        async with self._sessions.begin() as session:
            await unlinkings.want_unlinking_of(session, outdated, jid)

    # Beginning and end

    async def _end_left_behind(self) -> None:
        """End the linkings of a fleet of this server that died before: the kernel kills them with it, and we make sure."""
        while True:
            try:
                async with self._sessions() as session:
                    rows = await pairings.left_behind(session, self._settings.server)
                for pairing_id, pid in rows:
                    await asyncio.to_thread(_end_process, pairing_id, pid)
                if rows:
                    await self._fail([pairing_id for pairing_id, _ in rows])
            except (SQLAlchemyError, OSError) as error:
                log.warning("pairings_wait", error=type(error).__name__)
                await asyncio.sleep(1)
            else:
                return

    async def _stop_all(self) -> None:
        for child in self._children:
            _kill(child.process)
            await child.process.wait()
        try:
            await self._bury()
        except (SQLAlchemyError, OSError) as error:
            log.warning("pairings_left_behind", error=type(error).__name__)


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()


def _end_process(pairing_id: UUID, pid: int | None) -> None:
    """Make sure that the process of a linking is gone; one that merely got its number is left alone."""
    try:
        process = psutil.Process(pid) if pid else None
        if process is None or process.cmdline()[-4:] != ["-m", LINK, "--pairing-id", str(pairing_id)]:
            return
        process.kill()
        process.wait(10)
    except psutil.NoSuchProcess:
        return
