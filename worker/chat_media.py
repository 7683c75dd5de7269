"""A host's downloads: files of messages that came in are fetched through the devices that got them, a few at a time."""

import asyncio
import contextlib
from datetime import timedelta
from uuid import UUID

import structlog
from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError

from siaran.chat_lines import LARGEST_FILE
from siaran.chat_media import MOST_TRIES, WaitingFile, claim_files, give_up_file, keep_file, put_back_file
from siaran.chat_notices import announce_chats
from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.gateway.interface import Banned, LoggedOut, NotConnected, Rejected, Transport, TransportError
from siaran.models import ChatMediaState

log = structlog.get_logger()

AT_ONCE = 3
"""Files under way in one host: each is in memory as a whole."""

LOOK_SECONDS = 2.0
DOWNLOAD_SECONDS = 90.0
"""Shorter than the pause between two tries of a file."""

NOT_CONNECTED_PAUSE = timedelta(minutes=1)


class ChatDownloads:
    """Fetches the files that wait for devices of one host. Whatever is under way when it is killed is tried again later."""

    def __init__(self, host_id: int, *, transport: Transport, sessions: SessionMaker, redis: Redis, clock: Clock) -> None:
        self._host_id = host_id
        self._transport = transport
        self._sessions = sessions
        self._redis = redis
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: set[UUID] = set()

    async def run(self) -> None:
        """Fetch what waits, for ever."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                await self._look()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        free = AT_ONCE - len(self._tasks)
        if free <= 0:
            return
        try:
            async with self._sessions.begin() as session:
                files = await claim_files(session, self._host_id, self._clock(), most=free, busy=self._silent)
        except (SQLAlchemyError, OSError) as error:
            log.warning("files_not_looked_for", host=self._host_id, error=type(error).__name__)
            return
        for file in files:
            task = asyncio.create_task(self._fetch(file), name=f"chat-file-{file.message_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fetch(self, file: WaitingFile) -> None:
        try:
            await self._settle(file, await self._download(file))
        except (SQLAlchemyError, OSError) as error:  # it comes again after its pause
            log.warning("file_not_noted", message=file.message_id, error=type(error).__name__)

    async def _download(self, file: WaitingFile) -> bytes | ChatMediaState | None:
        """The file, what else has become of it, or None when it is to be tried again after its pause."""
        if file.tries > MOST_TRIES:  # the last try ended with its host
            return ChatMediaState.GONE
        # A call cannot be taken back: until it ends by itself, its device is asked for nothing more.
        work = asyncio.create_task(self._transport.download(file.device_id, file.reference))
        done, _ = await asyncio.wait({work}, timeout=DOWNLOAD_SECONDS)
        if not done:
            self._silent.add(file.device_id)
            work.add_done_callback(lambda ended: self._heard(file.device_id, ended))
            return self._failed(file)
        try:
            content = work.result()
        except (NotConnected, LoggedOut, Banned):
            return ChatMediaState.WAITING
        except Rejected as error:
            return self._failed(file) if error.retryable else ChatMediaState.GONE
        except TransportError as error:
            log.info("file_not_fetched", message=file.message_id, code=error.code)
            return self._failed(file)
        except Exception as error:  # noqa: BLE001 -- whatever the library raised, other files are to be fetched
            log.warning("file_not_fetched", message=file.message_id, error=type(error).__name__)
            return self._failed(file)
        return content if len(content) <= LARGEST_FILE else ChatMediaState.TOO_LARGE

    def _failed(self, file: WaitingFile) -> ChatMediaState | None:
        return ChatMediaState.GONE if file.tries >= MOST_TRIES else None

    def _heard(self, device_id: UUID, work: "asyncio.Task[bytes]") -> None:
        self._silent.discard(device_id)
        with contextlib.suppress(asyncio.CancelledError):
            work.exception()

    async def _settle(self, file: WaitingFile, found: bytes | ChatMediaState | None) -> None:
        if found is None:
            return
        async with self._sessions.begin() as session:
            if isinstance(found, bytes):
                await keep_file(session, file, found, self._clock())
            elif found is ChatMediaState.WAITING:
                await put_back_file(session, file, self._clock() + NOT_CONNECTED_PAUSE)
            else:
                await give_up_file(session, file, found)
        if found is not ChatMediaState.WAITING:
            await announce_chats(self._redis, [file.device_id])
