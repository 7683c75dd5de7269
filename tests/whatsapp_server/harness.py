"""The tests' side: starts the server and real clients as processes, and calls their methods."""

import asyncio
import os
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from siaran.processes import spawn
from tests.waiting import eventually
from tests.whatsapp_server.channel import ask, is_answering
from tests.whatsapp_server.record import SentMedia, Transmission

ROOT = Path(__file__).parents[2]
INTERPOSED = Path(__file__).parent / "interposed"
START_SECONDS = 30.0

_serial = count()


class Process:
    """A Python process that answers on a socket. Every method that it offers there can be called on this object."""

    def __init__(self, socket: Path, running: asyncio.subprocess.Process, log: Path) -> None:
        self.socket = socket
        self.running = running
        self.log = log

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A method of the other process, to be awaited; it raises `channel.Refused` with what was raised there."""

        async def call(**arguments: Any) -> Any:
            return await ask(self.socket, name, **arguments)

        return call

    async def kill(self) -> None:
        """End the process as a crash would, without a chance to clean up."""
        if self.running.returncode is None:
            self.running.kill()
        await self.running.wait()


async def start(module: str, socket: Path, arguments: list[str], environment: dict[str, str], log: Path) -> Process:
    """Start `module` and wait until it answers on its socket; raises `RuntimeError` if it ends."""
    running = await spawn([sys.executable, "-m", module, *arguments], environment=environment, log_path=log, cwd=ROOT)

    async def answers_or_ended() -> bool:
        return running.returncode is not None or await is_answering(socket)

    await eventually(answers_or_ended, within=START_SECONDS)
    if running.returncode is not None:
        raise RuntimeError(f"{module} ended at its start; it wrote {log}")
    return Process(socket, running, log)


class RealClient(Process):
    """The real client in its own process: the methods of `client.Client`."""

    async def wait_for(self, kind: str, *, after: int = 0, within: float = 15.0) -> dict[str, Any]:
        """The first event of a kind, of those from a position on."""
        found: list[dict[str, Any]] = []

        async def reported() -> bool:
            found[:] = [event for event in (await self.events())[after:] if event["type"] == kind]
            return bool(found)

        await eventually(reported, within=within)
        return found[0]

    async def position(self) -> int:
        """How many events there are so far, for `wait_for`."""
        return len(await self.events())

    async def send_file(self, to: str, content: bytes, caption: str) -> str:
        """Send an image; returns the message's id."""
        return str(await self.send_image(to=to, content=b64encode(content).decode(), caption=caption))


class WhatsApp(Process):
    """The server: the methods of `control.Control`, and what tests need more often."""

    def __init__(self, socket: Path, running: asyncio.subprocess.Process, log: Path, endpoints: dict[str, Any]) -> None:
        super().__init__(socket, running, log)
        self.folder = socket.parent
        self.clients: list[RealClient] = []
        self.environment = {
            "HTTPS_PROXY": f"http://127.0.0.1:{endpoints['port']}",
            "NO_PROXY": "127.0.0.1,localhost",
            "SSL_CERT_FILE": endpoints["certificate"],
            "SSL_CERT_DIR": "/nonexistent",
            "WHATSAPP_SERVER_ROOT_KEY": endpoints["root_key"],
            "PYTHONPATH": os.pathsep.join([str(INTERPOSED), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        """What a process needs in its environment for its WhatsApp clients to reach this server and no other."""

    async def start_client(self, session: str) -> RealClient:
        """A client, connected; its session file is named after `session` and outlives it."""
        name = f"{session}-{next(_serial)}"
        socket, log = self.folder / f"{name}.socket", self.folder / f"{name}.log"
        arguments = [str(self.folder / f"{session}.db"), str(socket)]
        process = await start("tests.whatsapp_server.client", socket, arguments, os.environ | self.environment, log)
        client = RealClient(process.socket, process.running, process.log)
        self.clients.append(client)
        await client.connect()
        return client

    async def kill_clients(self) -> None:
        """End every client that was started, as a crash would."""
        while self.clients:
            await self.clients.pop().kill()

    async def link_client(self, number: str) -> RealClient:
        """A client linked to `number` by a QR code, and online."""
        client = await self.start_client(number)
        await self.scan(qr=(await client.wait_for("QR"))["code"], number=number)
        await client.wait_for("Connected")
        return client

    async def record(self, number: str | None = None) -> list[Transmission]:
        """Every transmission that the server has received of one account or of all, in order."""
        return [
            Transmission(**{**entry, "media": SentMedia(**entry["media"]) if entry["media"] else None})
            for entry in await self.transmissions(number=number)
        ]

    async def wait_for_transmissions(self, number: str, count: int = 1, *, within: float = 15.0) -> list[Transmission]:
        """The record of an account as soon as it holds `count` transmissions."""

        async def arrived() -> bool:
            return len(await self.transmissions(number=number)) >= count

        await eventually(arrived, within=within)
        return await self.record(number)

    async def ban(self, number: str, *, seconds: int, code: int = 101) -> None:
        """Ban an account for some time: its connection is cut off, its logins are refused."""
        await self.refuse_logins(number=number, reason=402, code=code, expire=seconds)
        await self.drop(number=number)


@asynccontextmanager
async def run_whatsapp(folder: Path) -> AsyncIterator[WhatsApp]:
    """A server of its own, without accounts; at the end it and all its clients are killed. Keep the folder's path short."""
    control = folder / "control"
    process = await start("tests.whatsapp_server", control, [str(folder)], dict(os.environ), folder / "server.log")
    server = WhatsApp(process.socket, process.running, process.log, await ask(control, "endpoints"))
    try:
        yield server
    finally:
        await server.kill_clients()
        await server.kill()
