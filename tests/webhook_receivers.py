"""Receivers of webhooks: HTTP servers on loopback that keep what they get and answer as a test says."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.waiting import eventually


@dataclass(frozen=True, slots=True)
class Request:
    """What came."""

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def delivery(self) -> int:
        """The delivery's number."""
        return int(self.headers["x-siaran-delivery"])


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer; `never` keeps the sender waiting until it gives up."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    never: bool = False


class WebhookReceiver:
    """One server; `reply` says what it answers, and may be replaced at any time."""

    def __init__(self) -> None:
        self.got: list[Request] = []
        self.reply: Callable[[Request], Reply] = lambda _: Reply()
        self.url = ""
        self.open_at_once = 0
        self._open = 0

    @property
    def events(self) -> list[str]:
        """The events that came, in their order."""
        return [request.json["event"] for request in self.got]

    @property
    def data(self) -> list[dict[str, Any]]:
        """What they said."""
        return [request.json["data"] for request in self.got]

    def always(self, status: int, **headers: str) -> None:
        """Answer everything like this."""
        self.reply = lambda _: Reply(status, {name.replace("_", "-"): value for name, value in headers.items()})

    def never(self) -> None:
        """Answer nothing."""
        self.reply = lambda _: Reply(never=True)

    async def has_got(self, count: int, *, within: float = 10.0) -> list[Request]:
        """What came, once it is so much."""
        await eventually(lambda: len(self.got) >= count, within=within)
        return self.got

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with any number of requests."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer_one(reader, writer):
                    pass
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read(reader)
        self.got.append(request)
        reply = self.reply(request)
        self._open += 1
        self.open_at_once = max(self.open_at_once, self._open)
        try:
            if reply.never:
                await reader.read()
                return False
        finally:
            self._open -= 1
        await _answer(writer, reply)
        return True


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
    return Request(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def _answer(writer: asyncio.StreamWriter, reply: Reply) -> None:
    headers = {"content-length": str(len(reply.body)), **reply.headers}
    lines = [f"HTTP/1.1 {reply.status} Answer", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body)
    await writer.drain()


@asynccontextmanager
async def webhook_receiver() -> AsyncIterator[WebhookReceiver]:
    """A receiver that answers 200 to everything until told otherwise."""
    receiver = WebhookReceiver()
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(receiver.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
