"""The throw-away process of one linking: `python -m worker.pairing --pairing-id ID`.

It links one session file, of one device of one user, to whichever account scans the code, and writes that down once it has
logged in. Killed at any moment it leaves behind at most a session file, which its fleet removes, and ends the link if WhatsApp
knows it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.cache import open_redis
from siaran.clock import system_clock
from siaran.db import SessionMaker, open_database
from siaran.errors import Conflict
from siaran.gateway.session_files import create_session, linked_jid
from siaran.linking_accounts import ACCOUNT_TAKEN, LinkingTask, Superseded, settle, take_up
from siaran.linking_codes import CodeKind, LinkingCode, show_code, tell_end
from siaran.models import PairingMethod
from siaran.pairings import fail_pairings, note_scan
from siaran.settings import Settings
from worker.pairing_client import Code, CodeRefused, Lost, Online, Paired, PairingClient
from worker.pairing_process import begin_again, run_and_leave

log = structlog.get_logger()

FIRST_CODE_SECONDS = 60.0
NEXT_CODE_SECONDS = 20.0
"""How long WhatsApp takes the first QR code of a connection, and each of the five after it."""

CODE_MARGIN_SECONDS = 5.0
ANSWER_SECONDS = 45.0
LOGIN_SECONDS = 10.0
"""How long the login may take; then a new connection is tried, for as long as the linking lasts."""

PAUSE_SECONDS = 2.0
WRITE_TRIES = 30
REDIS_SECONDS = 3.0

MESSAGES = {
    "unreachable": "WhatsApp cannot be reached from this server",
    "silent": "WhatsApp has not answered",
    "refused": "WhatsApp has refused the linking",
    "code_refused": "WhatsApp gives no code for this phone; check its number, or scan a QR code",
    "outdated": "WhatsApp does not take this version of Siaran any more; it has to be upgraded",
    "phone_outdated": "the phone's WhatsApp is too old to link devices; update it",
    "passkey": "WhatsApp asks for a passkey to link this account, which Siaran cannot give",
    "banned": "WhatsApp has banned the account",
    "logged_out": "the account has removed the device again",
    "replaced": "another program uses the same session",
}


class Linking:
    """One linking at work."""

    def __init__(self, settings: Settings, sessions: SessionMaker, redis: Redis, task: LinkingTask) -> None:
        self._settings = settings
        self._sessions = sessions
        self._redis = redis
        self._task = task

    async def run(self) -> None:
        """Link the session, unless that was done before this process began again, log in, and write the link down."""
        path = create_session(self._settings.session_folder, self._task.device_id, self._task.link_generation)
        has_link = await linked_jid(path) is not None
        client = PairingClient(path, self._settings.app_os)
        await client.connect()
        if has_link or await self._pair(client):
            await self._log_in(client, path)

    async def _pair(self, client: PairingClient) -> bool:
        """Show codes until the phone agrees; returns whether it did."""
        shown, patience = 0, ANSWER_SECONDS
        while True:
            match await client.next_event(patience):
                case Code(content):
                    lasts = NEXT_CODE_SECONDS if shown else FIRST_CODE_SECONDS
                    if self._task.method is PairingMethod.QR:
                        await self._show(CodeKind.QR, content, lasts)
                    elif not shown and not await self._show_pair_code(client):
                        return False
                    shown, patience = shown + 1, lasts + CODE_MARGIN_SECONDS
                case Paired():
                    await self._show(CodeKind.SCANNED, "", LOGIN_SECONDS)
                    return await self._write(lambda session: note_scan(session, self._task.pairing_id, self._settings.server))
                case Lost("disconnected"):
                    await asyncio.sleep(PAUSE_SECONDS)
                    begin_again()
                case Lost(code, detail):
                    await self._fail(code, detail)
                    return False
                case None if shown:
                    begin_again()  # its codes are used up
                case None:
                    await self._fail("silent")
                    return False

    async def _show_pair_code(self, client: PairingClient) -> bool:
        try:
            code = await client.ask_for_code(self._task.phone)
        except CodeRefused as error:
            await self._fail("code_refused", str(error))
            return False
        await self._show(CodeKind.PAIR_CODE, code, FIRST_CODE_SECONDS + 5 * NEXT_CODE_SECONDS)
        return True

    async def _log_in(self, client: PairingClient, path: Path) -> None:
        """Wait for the login that ends every linking, disconnect, and write the link down: a host takes over from here."""
        while True:
            match await client.next_event(LOGIN_SECONDS):
                case Online():
                    break
                case Lost("disconnected") | Paired() | Code():
                    continue
                case Lost("unreachable"):
                    await asyncio.sleep(PAUSE_SECONDS)
                    begin_again()
                case Lost(code, detail):
                    await self._fail(code, detail)
                    return
                case None:
                    begin_again()
        # What the phone now begins to share would be lost on this process.
        await client.stop()
        jid = await linked_jid(path)
        if jid is None:
            await self._fail("logged_out")
            return
        try:
            await self._write(lambda session: settle(session, self._task, self._settings.server, jid, system_clock()))
        except Conflict as error:
            await self._fail(ACCOUNT_TAKEN, message=error.detail)
        except Superseded:
            log.info("linking_superseded", pairing=str(self._task.pairing_id))
        else:
            log.info("linked", pairing=str(self._task.pairing_id), device=str(self._task.device_id))

    async def _show(self, kind: CodeKind, code: str, lasts: float) -> None:
        shown = LinkingCode(kind, code, system_clock() + timedelta(seconds=lasts))
        await self._tell(show_code(self._redis, self._task.pairing_id, shown))

    async def tell_end(self) -> None:
        """Tell whoever watches that there is no code any more."""
        await self._tell(tell_end(self._redis, self._task.pairing_id))

    async def _tell(self, telling: Awaitable[None]) -> None:
        """Whoever watches looks into PostgreSQL, too; the next code is told anew."""
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                await telling
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("code_not_told", pairing=str(self._task.pairing_id), error=type(error).__name__)

    async def _fail(self, code: str, detail: str = "", *, message: str = "") -> None:
        log.warning("linking_failed", pairing=str(self._task.pairing_id), reason=code, detail=detail)
        said = message or MESSAGES.get(code, MESSAGES["refused"])
        await self._write(lambda session: fail_pairings(session, [self._task.pairing_id], code, said))

    async def _write(self, change: Callable[[AsyncSession], Awaitable[object]]) -> bool:
        """Make a change that may be made twice, through an outage of the database; returns whether it said anything but no."""
        for left in reversed(range(WRITE_TRIES)):
            try:
                async with self._sessions.begin() as session:
                    return await change(session) is not False
            except (SQLAlchemyError, OSError) as error:
                log.warning("linking_waits", error=type(error).__name__)
                if not left:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError("the last try returns or raises")


async def link(settings: Settings, row: str) -> None:
    """Do what a pairing row asks for."""
    pairing_id = UUID(row)
    async with open_database(settings, pool_size=1) as sessions, open_redis(settings) as redis:
        async with sessions.begin() as session:
            task = await take_up(session, pairing_id, settings.server, os.getpid())
        if task is None:
            return
        linking = Linking(settings, sessions, redis, task)
        try:
            await linking.run()
        finally:
            await linking.tell_end()


if __name__ == "__main__":
    run_and_leave("--pairing-id", link)
