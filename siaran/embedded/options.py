"""What can be chosen about the embedded servers, read from environment variables."""

import random
import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from siaran.embedded.errors import PortTaken

LOOPBACK = "127.0.0.1"

# The default ports lie below 32768, where Linux takes the ports of outgoing connections from: a client that keeps
# connecting to a server that is down could otherwise be given the server's own port and hold it.
FIRST_FREE_PORT = 20_000


class StackOptions(BaseSettings):
    """Ports and sizes of the embedded servers; a port of 0 means any free one."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    api_port: int = Field(3000, validation_alias=AliasChoices("APP_PORT", "PORT"), ge=0, le=65535)
    temporal_port: int = Field(7233, validation_alias="SIARAN_TEMPORAL_PORT", ge=0, le=65535)
    temporal_ui_port: int = Field(8233, validation_alias="SIARAN_TEMPORAL_UI_PORT", ge=0, le=65535)
    postgres_port: int = Field(15432, validation_alias="SIARAN_POSTGRES_PORT", ge=0, le=65535)
    valkey_port: int = Field(16379, validation_alias="SIARAN_VALKEY_PORT", ge=0, le=65535)
    network_port: int = Field(16380, validation_alias="SIARAN_NETWORK_PORT", ge=0, le=65535)

    postgres_shared_buffers: str = Field("256MB", validation_alias="SIARAN_POSTGRES_SHARED_BUFFERS")
    postgres_fsync: bool = Field(True, validation_alias="SIARAN_POSTGRES_FSYNC")
    temporal_gogc: str = Field("100", validation_alias="SIARAN_TEMPORAL_GOGC")
    temporal_gomemlimit: str = Field("off", validation_alias="SIARAN_TEMPORAL_GOMEMLIMIT")
    temporal_time_skipping: bool = Field(False, validation_alias="SIARAN_TEMPORAL_TIME_SKIPPING")

    def with_free_ports(self) -> "StackOptions":
        """The same options with every port left open, for tests and second stacks on a machine."""
        return self.model_copy(update=dict.fromkeys(PORTS, 0))


PORTS: dict[str, tuple[str, str]] = {
    "api_port": ("the API", "APP_PORT"),
    "temporal_port": ("Temporal", "SIARAN_TEMPORAL_PORT"),
    "temporal_ui_port": ("the Temporal UI", "SIARAN_TEMPORAL_UI_PORT"),
    "postgres_port": ("PostgreSQL", "SIARAN_POSTGRES_PORT"),
    "valkey_port": ("Valkey", "SIARAN_VALKEY_PORT"),
    "network_port": ("the simulated network's Valkey", "SIARAN_NETWORK_PORT"),
}
"""For each option that is a port: what listens there, and the variable that sets it."""


def choose_ports(options: StackOptions, wanted: Collection[str]) -> StackOptions:
    """The options with a free port in place of each 0 among the `wanted`; raises `PortTaken` for one in use."""
    chosen: dict[str, int] = {}
    with ExitStack() as held:  # every port is held until all are chosen, so that none is given out twice
        for name in sorted(wanted, key=lambda name: getattr(options, name) == 0):
            port: int = getattr(options, name)
            listener = _listen(port) if port else _listen_anywhere()
            if listener is None:
                raise PortTaken(PORTS[name][0], port, PORTS[name][1])
            held.enter_context(closing(listener))
            chosen[name] = listener.getsockname()[1]
    return options.model_copy(update=chosen)


def _listen(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As the servers do: connections of a server that has just stopped do not count as taken.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(1)
    except OSError:
        listener.close()
        return None
    return listener


def _listen_anywhere() -> socket.socket:
    for port in _candidates():
        listener = _listen(port)
        if listener is not None:
            return listener
    raise OSError("no free TCP port on this machine")


def _candidates() -> Iterator[int]:
    try:
        outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        outgoing = 32_768
    last = outgoing if outgoing > FIRST_FREE_PORT + 1000 else 65_536
    yield from random.sample(range(FIRST_FREE_PORT, last), k=last - FIRST_FREE_PORT)
