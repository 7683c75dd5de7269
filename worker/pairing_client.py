"""The WhatsApp client of a throw-away process: one session file, and what happens to it, one event after another."""

import asyncio
import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siaran.gateway.interface import NotConnected
from siaran.gateway.whatsapp_library import load_library, open_client
from siaran.gateway.whatsapp_threads import Threads

STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Code:
    """The content of the QR code to show now."""

    content: str


@dataclass(frozen=True, slots=True)
class Paired:
    """The phone has agreed, and the session file holds the link; the login follows by itself."""


@dataclass(frozen=True, slots=True)
class Online:
    """Logged in."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection has ended for good, with a stable code and what is known of the reason."""

    code: str
    detail: str = ""


class CodeRefused(Exception):
    """WhatsApp gives no code for a phone."""


Event = Code | Paired | Online | Lost

LOGIN_STATUSES = {
    "timeout": Lost("disconnected"),  # the codes are used up, or the connection was lost
    "err-client-outdated": Lost("outdated"),
    "err-scanned-without-multidevice": Lost("phone_outdated"),
    "passkey-request": Lost("passkey"),
    "error": Lost("refused"),
    "err-unexpected-state": Lost("refused", "a login in place of a linking"),
}
"""What the library says while it has no link. It delivers no event then."""


class PairingClient:
    """Links a session file without a link, or logs in with one that has a link."""

    def __init__(self, path: Path, app_os: str) -> None:
        self._client = open_client(path, app_os=app_os)
        self._happened: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    async def connect(self) -> None:
        """Begin; all that follows comes out of `next_event`."""
        self._loop.set_default_executor(Threads())
        events, on = load_library().events, self._client.event
        on.qr(self._note_code)
        on(events.PairStatus)(self._note_pairing)
        on(events.Connected)(self._noting(Online()))
        on(events.Disconnected)(self._noting(Lost("disconnected")))
        on(events.LoggedOut)(self._noting(Lost("logged_out")))
        on(events.StreamReplaced)(self._noting(Lost("replaced")))
        on(events.TemporaryBan)(self._noting(Lost("banned")))
        on(events.ClientOutdated)(self._noting(Lost("outdated")))
        on(events.ConnectFailure)(self._noting(Lost("refused")))
        # Its own method does nothing, and it offers no other way to hear of a linking that has failed.
        self._client._NewAClient__onLoginStatus = self._note_login_status  # noqa: SLF001
        connection = await self._client.connect()
        connection.add_done_callback(self._note_end)

    async def next_event(self, within: float) -> Event | None:
        """What happens next; None if it is nothing for so many seconds."""
        try:
            async with asyncio.timeout(within):
                return await self._happened.get()
        except TimeoutError:
            return None

    async def ask_for_code(self, phone: str) -> str:
        """A code to type on the phone (digits, international form), to be asked for after the first QR code.

        Raises `CodeRefused`.
        """
        from neonize.utils.enum import ClientType  # noqa: PLC0415 -- loaded already by now

        try:
            # WhatsApp takes the names of well-known browsers only.
            return str(await self._client.PairPhone(phone, True, client_type=ClientType.CHROME))
        except load_library().error as error:
            raise CodeRefused(str(error)) from error

    async def log_out(self) -> None:
        """Have WhatsApp forget the link; the session file forgets it too. Raises `NotConnected`."""
        try:
            await self._client.logout()
        except load_library().error as error:
            raise NotConnected(str(error)) from error

    async def stop(self) -> None:
        """Disconnect, as far as that is possible in a few seconds. Never to be called while QR codes are shown: it hangs."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._client.stop()
        except TimeoutError:
            return

    async def _note_code(self, _client: Any, content: bytes) -> None:
        self._happened.put_nowait(Code(content.decode()))

    async def _note_pairing(self, _client: Any, status: Any) -> None:
        failed = status.Status == status.ERROR
        self._happened.put_nowait(Lost("refused", status.Error) if failed else Paired())

    def _note_login_status(self, _client: int, status: int) -> None:
        """Called by a thread of the library, with the address of a text."""
        said = ctypes.string_at(status).decode()
        if said in LOGIN_STATUSES:
            self._loop.call_soon_threadsafe(self._happened.put_nowait, LOGIN_STATUSES[said])

    def _noting(self, event: Event) -> Any:
        async def note(_client: Any, _event: Any) -> None:
            self._happened.put_nowait(event)

        return note

    def _note_end(self, connection: "asyncio.Task[None]") -> None:
        error = None if connection.cancelled() else connection.exception()
        self._happened.put_nowait(Lost("unreachable", str(error or "")))
