"""One device's client: its connection as the library's events tell it, and its calls, none of which is waited for without end.

The library's own `is_connected` and `is_logged_in` are never asked: they hang with the connection, and stay true after a ban.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from siaran.clock import Clock
from siaran.gateway.interface import (
    Banned,
    DeviceRef,
    DeviceState,
    LoggedOut,
    NotConnected,
    StateChanged,
    TransportError,
)
from siaran.gateway.session_files import read_session
from siaran.gateway.whatsapp_gate import Gate
from siaran.gateway.whatsapp_library import load_library, open_client

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 2.0
"""How often a connecting that takes long looks whether the session is gone: the library can lose the event that says so."""

LOOKUP_SECONDS = 5.0
_MOST_PHONES = 10_000

_ERRORS: dict[DeviceState, type[TransportError]] = {DeviceState.BANNED: Banned, DeviceState.LOGGED_OUT: LoggedOut}


@dataclass(frozen=True, slots=True)
class Sending:
    """A message that the library is sending; the device can send no other until it says how that ended."""

    key: bytes
    began_at: datetime


class Client:
    """A device and its client; `report` is told of its connection, `take` is given receipts, messages and histories."""

    def __init__(
        self,
        device: DeviceRef,
        path: Path,
        *,
        app_os: str,
        gate: Gate,
        clock: Clock,
        report: Callable[[StateChanged], None],
        take: Callable[["Client", Any], None],
    ) -> None:
        self.device = device
        self.state = DeviceState.OFFLINE
        self.detail = ""
        self.is_over = False
        """Whether this connection never comes back by itself: unlinked, banned, replaced or refused."""
        self.is_let_go = False
        self.frozen_at: datetime | None = None
        self.sending: Sending | None = None
        self.changes = 0
        """How often the connection has been interrupted or made."""
        self.connection: asyncio.Task[None] | None = None
        self._path = path
        self._app_os = app_os
        self._gate = gate
        self._clock = clock
        self._report = report
        self._take = take
        self._client: Any = None
        self._settled = asyncio.Event()
        self._phones: dict[str, str] = {}

    def check_online(self) -> None:
        """Raises `LoggedOut`, `Banned` or `NotConnected` if nothing can be sent."""
        if self.is_let_go or self.state is not DeviceState.ONLINE:
            raise _ERRORS.get(self.state, NotConnected)(self.detail or self.state.value)

    async def connect(self, within: float) -> None:
        """Connect and wait until the device is online, for a number of seconds at most; see `Transport.connect`."""
        if self.state is DeviceState.ONLINE:
            return
        if self.connection is None or self.connection.done() or self.is_over:
            await self._begin()
        await self._wait_until_settled(within)
        self.check_online()

    async def ask(self, call: Callable[[Any], Awaitable[T]], within: float) -> T:
        """One call into the library; raises `NotConnected` if it takes longer than so many seconds: it goes on unheard.

        Raises what the library raises.
        """
        task = self.begin(call)
        await asyncio.wait({task}, timeout=within)
        if not task.done():
            raise NotConnected("the library did not answer in time")
        return task.result()

    def begin(self, call: Callable[[Any], Awaitable[T]]) -> "asyncio.Task[T]":
        """Begin a call into the library, which nothing can cancel; raises `NotConnected`, and then it was not made."""
        if self._client is None:
            raise NotConnected("the device was never connected")
        self._gate.begin_call()
        task = asyncio.create_task(_awaited(call(self._client)))
        task.add_done_callback(self._end_call)
        return task

    async def phone_of_lid(self, lid: str) -> str | None:
        """The phone number behind WhatsApp's own number of a user, if this session has learnt it."""
        if lid in self._phones:
            return self._phones[lid]
        library = load_library()
        jid = library.events.JID(User=lid, Server="lid", Device=0, RawAgent=0, Integrator=0, IsEmpty=False)
        await self._gate.until_free()
        try:
            found = await self.ask(lambda client: client.get_pn_from_lid(jid), LOOKUP_SECONDS)
        except (TransportError, library.error) as error:
            logger.warning("no phone number for a user of device %s: %s", self.device.id, type(error).__name__)
            return None
        phone = str(found.User)
        if phone:
            if len(self._phones) >= _MOST_PHONES:
                self._phones.clear()
            self._phones[lid] = phone
        return phone or None

    def let_go(self) -> None:
        """Report no more of this connection. What comes in is still passed on: the library has acknowledged it already."""
        self.is_let_go = True
        self.frozen_at = None

    def end(self, state: DeviceState, detail: str) -> None:
        """The connection is over."""
        self.is_over = True
        self.frozen_at = None
        self._enter(state, detail)

    # Connecting

    async def _begin(self) -> None:
        client = open_client(self._path, self._app_os)
        self.state, self.detail, self.is_over = DeviceState.CONNECTING, "", False
        self._settled.clear()
        self._client = client
        self._listen(client)
        self.connection = await client.connect()  # returns at once, with a task for the life of the connection
        self.connection.add_done_callback(self._note_end)

    async def _wait_until_settled(self, within: float) -> None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + within
        while self.state is DeviceState.CONNECTING and (left := give_up - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await self._settled.wait()
            except TimeoutError:
                contents = await read_session(self._path)
                if contents is not None and not contents.jids:  # a file that is away says nothing
                    self.end(DeviceState.LOGGED_OUT, "logged_out")

    def _note_end(self, connection: "asyncio.Task[None]") -> None:
        if connection.cancelled() or connection is not self.connection:
            return
        logger.info("the connection of device %s has ended: %s", self.device.id, connection.exception())
        if self.state is DeviceState.CONNECTING:
            self._enter(DeviceState.OFFLINE, "unreachable")
        elif not self.is_over:
            self._note_deafness()
        self._settled.set()

    def _note_deafness(self) -> None:
        """The library passes nothing on any more: it stops at an event of a kind that it has no name for.

        Its connection is closed, so that WhatsApp keeps what comes in now for the next process.
        """
        self.end(DeviceState.OFFLINE, "deaf")
        try:
            self.begin(lambda client: client.disconnect())
        except NotConnected:
            logger.warning("device %s stays connected although nobody hears it", self.device.id)

    def _end_call(self, task: "asyncio.Task[Any]") -> None:
        self._gate.end_call()
        if not task.cancelled():
            task.exception()  # nobody may wait for it any more

    # What the library reports

    def _listen(self, client: Any) -> None:
        kinds = load_library().events
        handlers: dict[Any, Callable[[Any], None]] = {
            kinds.Connected: self._note_connected,
            kinds.Disconnected: self._note_interruption("dropped"),
            kinds.StreamError: lambda event: self._note_interruption(f"stream_error:{event.Code}")(event),
            kinds.KeepAliveTimeout: self._note_silence,
            kinds.KeepAliveRestored: self._note_sound,
            kinds.LoggedOut: self._note_log_out,
            kinds.StreamReplaced: lambda _: self.end(DeviceState.REPLACED, "replaced"),
            kinds.TemporaryBan: lambda ban: self.end(DeviceState.BANNED, f"ban:{ban.Expire}" if ban.Expire > 0 else "ban"),
            kinds.ClientOutdated: lambda _: self.end(DeviceState.OFFLINE, "client_outdated"),
            kinds.ConnectFailure: lambda _: self.end(DeviceState.OFFLINE, "connect_refused"),
            kinds.Receipt: lambda event: self._take(self, event),
            kinds.Message: lambda event: self._take(self, event),
            kinds.HistorySync: lambda event: self._take(self, event),
        }
        for kind, handle in handlers.items():
            client.event(kind)(self._guarded(client, handle))

    def _guarded(self, client: Any, handle: Callable[[Any], None]) -> Callable[[Any, Any], Awaitable[None]]:
        async def guarded(_client: Any, event: Any) -> None:
            if client is not self._client:
                return
            try:
                handle(event)
            except Exception:  # the library would swallow it without a word
                logger.exception("an event of device %s was not understood", self.device.id)

        return guarded

    def _note_connected(self, _event: Any) -> None:
        self.changes += 1
        if not self.is_over:
            self.frozen_at = None
            self._enter(DeviceState.ONLINE, "")

    def _note_interruption(self, detail: str) -> Callable[[Any], None]:
        def note(_event: Any) -> None:
            self.changes += 1
            if not self.is_over:
                self.frozen_at = None
                self._enter(DeviceState.OFFLINE, detail)

        return note

    def _note_silence(self, _event: Any) -> None:
        if self.state is DeviceState.ONLINE:
            self.frozen_at = self._clock()
            self._enter(DeviceState.OFFLINE, "frozen")

    def _note_sound(self, _event: Any) -> None:
        if self.frozen_at is not None and not self.is_over:
            self._note_connected(_event)

    def _note_log_out(self, event: Any) -> None:
        reason = type(event).DESCRIPTOR.fields_by_name["Reason"].enum_type.values_by_number.get(event.Reason)
        name = reason.name.lower() if reason is not None and event.HasField("Reason") else "logged_out"
        self.end(DeviceState.LOGGED_OUT, name if name == "logged_out" else f"logged_out:{name}")

    def _enter(self, state: DeviceState, detail: str) -> None:
        if (state, detail) == (self.state, self.detail):
            return
        self.state, self.detail = state, detail
        self._settled.set()
        if not self.is_let_go:
            self._report(StateChanged(self.device.id, state, self._clock(), detail))


async def _awaited(call: Awaitable[T]) -> T:
    return await call
