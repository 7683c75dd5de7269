"""The connections of one process to the simulated network: their states, and what ends them or brings them back."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from siaran.clock import Clock
from siaran.errors import Unavailable
from siaran.gateway import simulated_keys as keys
from siaran.gateway.interface import Banned, DeviceRef, DeviceState, LoggedOut, NotConnected, StateChanged, TransportError
from siaran.gateway.simulated_config import LiveConfig
from siaran.gateway.simulated_control import Notice, NoticeKind
from siaran.gateway.simulated_inbox import Courier, Entry, milliseconds
from siaran.gateway.simulated_scripts import CONNECT, FOR_EVER, RELEASE
from siaran.gateway.simulated_valkey import NetworkValkey

RESUME_RETRY_SECONDS = 1.0
_AT_ONCE = 50

_STATES = {
    "online": DeviceState.ONLINE,
    "dropped": DeviceState.OFFLINE,
    "replaced": DeviceState.REPLACED,
    "banned": DeviceState.BANNED,
    "logged_out": DeviceState.LOGGED_OUT,
}
_ERRORS: dict[DeviceState, type[TransportError]] = {DeviceState.BANNED: Banned, DeviceState.LOGGED_OUT: LoggedOut}


def refusal(standing: str) -> TransportError:
    """The error for a device whose standing with the network is not `online`."""
    return _ERRORS.get(_STATES[standing], NotConnected)(standing)


@dataclass(slots=True, eq=False)
class Connection:
    """One connection of a device; `token` is what the network knows it by, `lost` is set while it is not online."""

    device: DeviceRef
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    state: DeviceState = DeviceState.CONNECTING
    returns: bool = False  # it is wanted, and comes back by itself after an interruption
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    endings: int = 0  # notices that ended it
    comeback: asyncio.Task[None] | None = None


class Connections:
    """All connections of a transport. Follows the control channel (a `Subscriber`), so it learns of every change."""

    def __init__(
        self, valkey: NetworkValkey, config: LiveConfig, courier: Courier, clock: Clock, emit: Callable[[StateChanged], None]
    ) -> None:
        self._valkey = valkey
        self._config = config
        self._courier = courier
        self._clock = clock
        self._emit = emit
        self._by_device: dict[UUID, Connection] = {}
        self.reachable = asyncio.Event()

    def state(self, device_id: UUID) -> DeviceState:
        """The state of a device's connection; `OFFLINE` for a device that is not held."""
        connection = self._by_device.get(device_id)
        return connection.state if connection else DeviceState.OFFLINE

    def is_over(self, device_id: UUID) -> bool:
        """Whether a device's connection does not come back by itself."""
        connection = self._by_device.get(device_id)
        return connection is None or (connection.state is not DeviceState.ONLINE and not connection.returns)

    def online(self, device_id: UUID) -> Connection:
        """The device's connection; raises `NotConnected`, `LoggedOut` or `Banned` if it has none that works."""
        connection = self._by_device.get(device_id)
        if connection is None:
            raise NotConnected("this process does not hold the device")
        if connection.state is not DeviceState.ONLINE:
            raise _ERRORS.get(connection.state, NotConnected)(connection.state.value)
        return connection

    async def connect(self, device: DeviceRef) -> None:
        """Connect a device; raises `LoggedOut`, `Banned` or `NotConnected`, after which it comes online by itself."""
        present = self._by_device.get(device.id)
        if present and present.state is DeviceState.ONLINE and present.device == device:
            return
        if present:
            _give_up(present)
        connection = self._by_device[device.id] = Connection(device)
        if not self.reachable.is_set():
            _wait(connection)
            raise NotConnected("the simulated network does not answer")
        try:
            standing = await self._attach(connection, "connect")
        except Unavailable as error:
            _wait(connection)
            raise NotConnected(error.detail) from error
        if standing != "online":
            raise refusal(standing)
        if self._by_device.get(device.id) is not connection:
            raise NotConnected("disconnected while connecting")
        self.online(device.id)  # raises if a notice ended it meanwhile

    async def disconnect(self, device_id: UUID) -> None:
        """Give a device up; the network learns of it if it can be reached."""
        if connection := self._by_device.pop(device_id, None):
            _give_up(connection)
            await self._release([connection])

    async def disconnect_all(self) -> None:
        """Give every device up."""
        connections = list(self._by_device.values())
        self._by_device.clear()
        for connection in connections:
            _give_up(connection)
        await self._release(connections)

    async def reached(self) -> None:
        """The network answers (again): bring back what was interrupted."""
        await self._config.reload()
        self.reachable.set()
        await self._resume_all(DeviceState.OFFLINE)

    def lost(self) -> None:
        """The network does not answer."""
        self.reachable.clear()
        for connection in self._by_device.values():
            if connection.state in {DeviceState.ONLINE, DeviceState.CONNECTING}:
                self._enter(connection, DeviceState.OFFLINE, "network_lost")

    async def noticed(self, notice: Notice) -> None:
        """Something happened on the network."""
        if notice.kind in {NoticeKind.CONFIGURED, NoticeKind.RESET}:
            await self._config.reload()
        if notice.kind is NoticeKind.RESET:
            await self._resume_all(DeviceState.ONLINE, DeviceState.OFFLINE)
        connection = self._by_device.get(notice.device_id) if notice.device_id else None
        if connection is None:
            return
        if notice.entry is not None:
            self._courier.schedule(connection.device.id, connection.token, [notice.entry])
        elif notice.kind is NoticeKind.RESTORED:
            self._come_back(connection)
        elif connection.token in notice.tokens:
            connection.endings += 1
            self._interrupt(connection, notice.kind.value, notice.until)

    async def _attach(self, connection: Connection, mode: str) -> str:
        """Ask the network for the connection and note the standing it answers; raises `NotReached` or `NoAnswer`."""
        device, endings = connection.device, connection.endings
        standing, until, *inbox = await self._valkey.run(
            CONNECT,
            [
                *(kind(device.id) for kind in (keys.device, keys.connections, keys.inbox)),
                *(keys.CONFIG, keys.taken(device.id)),
            ],
            [str(device.id), connection.token, device.link_generation, milliseconds(self._clock()), mode],
        )
        if self._by_device.get(device.id) is not connection:
            await self._release([connection])
        elif connection.endings != endings:
            pass  # a notice was faster, and is newer than this answer
        elif standing != "online":
            if mode == "resume":
                self._interrupt(connection, standing, int(until) if until else None)
            elif standing == "dropped":
                _wait(connection)
                self._await_end_of_drop(connection, int(until))
            else:
                connection.state = _STATES[standing]
        else:
            self._enter(connection, DeviceState.ONLINE)
            words: list[str] = inbox[0]
            entries = [Entry.parsed(name, value) for name, value in zip(words[::2], words[1::2], strict=True)]
            self._courier.schedule(device.id, connection.token, entries)
        return str(standing)

    def _interrupt(self, connection: Connection, standing: str, until: int | None) -> None:
        detail = standing
        if standing == "banned":
            detail = "ban" if until in {None, FOR_EVER} else f"ban:{max(0, self._seconds_to(until)):.0f}"
        self._enter(connection, _STATES[standing], detail)
        if standing == "dropped":
            self._await_end_of_drop(connection, until or 0)

    def _await_end_of_drop(self, connection: Connection, until: int) -> None:
        if until != FOR_EVER:  # else `restore` brings it back
            self._come_back(connection, until)

    def _enter(self, connection: Connection, state: DeviceState, detail: str = "") -> None:
        if connection.state is state:
            return
        connection.state = state
        if state is DeviceState.ONLINE:
            connection.returns = True
            connection.lost = asyncio.Event()
        else:
            connection.returns = connection.returns and state is DeviceState.OFFLINE
            connection.lost.set()
        device = connection.device
        self._emit(StateChanged(device.id, state, self._clock(), detail, device.link_generation))

    def _come_back(self, connection: Connection, until: int = 0) -> None:
        """Bring an interrupted connection back once a drop has ended (ms)."""
        if connection.comeback and connection.comeback is not asyncio.current_task():
            connection.comeback.cancel()
        connection.comeback = asyncio.create_task(self._resume_after(connection, until))

    async def _resume_after(self, connection: Connection, until: int) -> None:
        await asyncio.sleep(max(0.0, self._seconds_to(until)))
        while connection.returns and connection.state is DeviceState.OFFLINE and self.reachable.is_set():
            try:
                await self._attach(connection, "resume")
            except Unavailable:
                await asyncio.sleep(RESUME_RETRY_SECONDS)
            else:
                return

    async def _resume_all(self, *states: DeviceState) -> None:
        waiting = [one for one in self._by_device.values() if one.returns and one.state in states]
        for start in range(0, len(waiting), _AT_ONCE):
            batch = [self._attach(one, "resume") for one in waiting[start : start + _AT_ONCE]]
            for outcome in await asyncio.gather(*batch, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _release(self, connections: list[Connection]) -> None:
        if not connections or not self.reachable.is_set():
            return
        held = [keys.connections(one.device.id) for one in connections]
        try:
            await self._valkey.run(RELEASE, held, [one.token for one in connections])
        except Unavailable:
            return  # the network forgets it when a newer connection comes

    def _seconds_to(self, until: int) -> float:
        return (until - milliseconds(self._clock())) / 1000


def _give_up(connection: Connection) -> None:
    connection.returns = False
    connection.lost.set()
    if connection.comeback:
        connection.comeback.cancel()


def _wait(connection: Connection) -> None:
    """Not online, but to be once that is possible."""
    connection.state = DeviceState.OFFLINE
    connection.returns = True
    connection.lost.set()
