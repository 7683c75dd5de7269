"""The real WhatsApp client's transport: what a device host uses for linked accounts."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from siaran.clock import Clock, system_clock
from siaran.gateway import session_files
from siaran.gateway import whatsapp_queries as queries
from siaran.gateway.interface import (
    Attempt,
    AttemptAnswer,
    Body,
    DeviceRef,
    DeviceState,
    History,
    Incoming,
    LoggedOut,
    NotConnected,
    Receipt,
    SendResult,
    TransportError,
    TransportEvent,
)
from siaran.gateway.whatsapp_client import Client
from siaran.gateway.whatsapp_errors import query_error
from siaran.gateway.whatsapp_events import read_message, read_receipts
from siaran.gateway.whatsapp_gate import Gate
from siaran.gateway.whatsapp_history import read_history
from siaran.gateway.whatsapp_library import load_library, silence_standard_output
from siaran.gateway.whatsapp_sending import SEND_SECONDS, transmit
from siaran.gateway.whatsapp_threads import Threads
from siaran.gateway.whatsapp_uploads import Uploads

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 8.0
"""How long a device is waited for; it may come online later."""

LOG_OUT_SECONDS = 20.0
CLOSE_SECONDS = 15.0
DISCONNECT_SECONDS = 3.0
LAST_EVENTS_SECONDS = 0.3
PHONES_AT_ONCE = 50


class WhatsAppTransport:
    """A `Transport` for the accounts whose session files are in `session_folder`.

    All devices are connected before the first is used: nothing connects while a call is under way, and no client is ever
    stopped, only let go of. A dropped connection comes back by itself. One loop, one transport: the library knows only the
    first event loop of its process. After `close` the process ends, with `os._exit` to be sure: calls may hang in the library.
    """

    connects_while_serving = False

    def __init__(
        self,
        session_folder: Path,
        *,
        clock: Clock = system_clock,
        app_os: str = "Siaran",
        connect_pause_seconds: float = 0.3,
    ) -> None:
        self._folder = session_folder
        self._clock = clock
        self._app_os = app_os
        self._pause = connect_pause_seconds
        self._clients: dict[UUID, Client] = {}
        self._let_go: list[Client] = []
        self._gate = Gate()
        self._uploads = Uploads(clock)
        self._arrived: asyncio.Queue[tuple[Client, Any] | None] = asyncio.Queue()
        self._events: asyncio.Queue[TransportEvent | None] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None
        self._is_closing = False

    async def open(self) -> None:
        """Load the library, give the event loop threads enough for its calls, and the process no standard output any more."""
        asyncio.get_running_loop().set_default_executor(Threads())
        load_library()
        silence_standard_output()
        self._reading = asyncio.create_task(self._read_arrivals(), name="whatsapp-arrivals")

    async def close(self) -> None:
        """Disconnect what can be disconnected in a few seconds, pass on what has come in, and end `events()`."""
        self._is_closing = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._gate.until_free()  # a connection that is just being made is ended, too
                for client in [*self._clients.values(), *self._let_go]:
                    await self._hang_up(client)
        except TimeoutError:
            logger.warning("some connections end with the process")
        await asyncio.sleep(LAST_EVENTS_SECONDS)
        self._arrived.put_nowait(None)
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=CLOSE_SECONDS)
        self._events.put_nowait(None)

    async def events(self) -> AsyncIterator[TransportEvent]:
        """What happens to the devices of this process, until `close`; for one consumer."""
        while (event := await self._events.get()) is not None:
            yield event

    def handled(self, event: Receipt | Incoming | History) -> None:
        """Nothing: the library acknowledges everything to WhatsApp before it passes it on.

        What has come in and is not written down when the process is killed is lost, a matter of milliseconds.
        """

    async def connect(self, device: DeviceRef) -> None:
        """Connect a device after a pause, `CONNECT_SECONDS` at most; raises `LoggedOut`, `Banned` or `NotConnected`.

        Raises `RuntimeError` while other devices are used.
        """
        async with self._gate.connecting(self._pause if self._clients else 0.0):
            if self._is_closing:
                raise NotConnected("closing")
            client = self._client_for(device)
            if client.connection is None or client.is_over:
                await self._check_session(client)
            await client.connect(CONNECT_SECONDS)

    async def disconnect(self, device_id: UUID) -> None:
        """Let go of a device: nothing is sent or reported for it any more. Its connection ends with the process."""
        if client := self._clients.pop(device_id, None):
            client.let_go()
            self._let_go.append(client)

    def state(self, device_id: UUID) -> DeviceState:
        """The state of a device's connection in this process; `OFFLINE` for a device it does not hold."""
        client = self._clients.get(device_id)
        return client.state if client else DeviceState.OFFLINE

    def frozen_since(self, device_id: UUID) -> datetime | None:
        """Since when a device's connection is there and answers nothing, or a send of it does not end."""
        client = self._clients.get(device_id)
        if client is None:
            return None
        if client.frozen_at is None and client.sending is not None:
            overdue_at = client.sending.began_at + timedelta(seconds=SEND_SECONDS)
            return overdue_at if overdue_at <= self._clock() else None
        return client.frozen_at

    def is_over(self, device_id: UUID) -> bool:
        """Whether a device's connection cannot come back in this process: unlinked, banned, replaced or refused."""
        client = self._clients.get(device_id)
        return client is None or client.is_over

    async def send(self, device_id: UUID, to: str, body: Body, key: bytes) -> SendResult:
        """Transmit one message; see `Transport.send`. A file is uploaded first, which transmits nothing to the recipient.

        While an earlier send of the device has not ended in the library, whatever became of its caller, raises `NotConnected`.
        """
        return await transmit(self._held(device_id), self._uploads, to, body, key, clock=self._clock)

    async def find_attempt(self, device_id: UUID, to: str, key: bytes, link_generation: int) -> Attempt:  # noqa: ARG002 - the key alone finds it
        """What the session file of that generation knows of an attempt; works without a connection.

        Raises `NotConnected` while the file cannot be read, or the attempt is still under way in this process.
        """
        clients = [self._clients.get(device_id), *self._let_go]
        is_under_way = any(client.sending is not None and client.sending.key == key for client in clients if client)
        path = session_files.session_path(self._folder, device_id, link_generation)
        attempt = await session_files.find_attempt(path, key)
        if is_under_way and attempt.answer is AttemptAnswer.NOT_ATTEMPTED:
            raise NotConnected("the attempt is still under way")
        return attempt

    async def is_on_whatsapp(self, device_id: UUID, phones: list[str]) -> dict[str, bool]:
        """Which of the phones have an account; raises `NotConnected`, also when WhatsApp answers for some of them only."""
        client = self._online(device_id)
        found: dict[str, bool] = {}
        for start in range(0, len(phones), PHONES_AT_ONCE):
            found |= await queries.check_numbers(client, phones[start : start + PHONES_AT_ONCE])
        if missing := len(set(phones)) - len(found):
            raise NotConnected(f"WhatsApp said nothing of {missing} numbers")
        return found

    async def contact_names(self, device_id: UUID) -> dict[str, str]:
        """The names under which the account knows its contacts, by phone; raises `NotConnected`."""
        return await queries.contact_names(self._online(device_id))

    async def picture_url(self, device_id: UUID, chat: str) -> str | None:
        """Where the picture of a chat can be read for some time, None where there is none to be seen; raises `NotConnected`."""
        return await queries.picture_url(self._online(device_id), chat)

    async def download(self, device_id: UUID, reference: bytes) -> bytes:
        """The file of a message that came in; raises `NotConnected`, or `Rejected` when WhatsApp has it no more."""
        return await queries.download(self._online(device_id), reference)

    async def log_out(self, device_id: UUID) -> None:
        """Remove the link on WhatsApp's side and delete the session file; raises `NotConnected` if that is not confirmed.

        Reports nothing.
        """
        client = self._held(device_id)
        if client.state is not DeviceState.LOGGED_OUT:
            try:
                await client.ask(lambda library: library.logout(), LOG_OUT_SECONDS)
            except load_library().error as error:
                failure = query_error(str(error))
                if not isinstance(failure, LoggedOut):
                    raise failure from error
        client.let_go()
        client.end(DeviceState.LOGGED_OUT, "logged_out")
        session_files.remove_session(self._folder, device_id, client.device.link_generation)

    def _held(self, device_id: UUID) -> Client:
        client = self._clients.get(device_id)
        if client is None:
            raise NotConnected("this process does not hold the device")
        return client

    def _online(self, device_id: UUID) -> Client:
        client = self._held(device_id)
        client.check_online()
        return client

    def _client_for(self, device: DeviceRef) -> Client:
        present = self._clients.get(device.id)
        if present is not None and present.device == device:
            return present
        if present is not None:
            present.let_go()
            self._let_go.append(present)
        for former in self._let_go:
            if former.device == device and not former.is_over:
                raise RuntimeError("a device that was let go of is connected by another process")
        path = session_files.session_path(self._folder, device.id, device.link_generation)
        client = self._clients[device.id] = Client(
            device,
            path,
            app_os=self._app_os,
            gate=self._gate,
            clock=self._clock,
            report=self._events.put_nowait,
            take=lambda sender, event: self._arrived.put_nowait((sender, event)),
        )
        return client

    async def _check_session(self, client: Client) -> None:
        """The library would offer a QR code for a session without a link, and wait for it for ever."""
        device = client.device
        path = session_files.session_path(self._folder, device.id, device.link_generation)
        contents = await session_files.read_session(path)
        if contents is None:
            raise NotConnected("this server does not have the session file")
        if device.jid not in contents.jids:
            client.end(DeviceState.LOGGED_OUT, "logged_out")
            raise LoggedOut("the session file links the account no more")

    async def _hang_up(self, client: Client) -> None:
        if client.connection is None or client.connection.done() or client.is_over:
            return
        client.let_go()
        await self._gate.until_free()
        try:
            await client.ask(lambda library: library.disconnect(), DISCONNECT_SECONDS)
        except (TransportError, load_library().error) as error:
            logger.warning("device %s ends with the process: %s", client.device.id, type(error).__name__)

    async def _read_arrivals(self) -> None:
        """Turn what has come in into events, in its order."""
        while (arrival := await self._arrived.get()) is not None:
            client, event = arrival
            try:
                await self._read_arrival(client, event)
            except Exception:
                logger.exception("something that came in for device %s could not be read", client.device.id)

    async def _read_arrival(self, client: Client, event: Any) -> None:
        now = self._clock()
        match event.DESCRIPTOR.name:
            case "Receipt":
                for receipt in read_receipts(client.device.id, event, now):
                    self._events.put_nowait(receipt)
            case "Message":
                if message := await read_message(client.device, event, client.phone_of_lid, now):
                    self._events.put_nowait(message)
            case _:
                async for piece in read_history(client.device, event.Data, client.phone_of_lid, now):
                    self._events.put_nowait(piece)
