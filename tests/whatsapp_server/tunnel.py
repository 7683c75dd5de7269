"""The way in: an HTTP proxy that leads every host name to this server, with TLS inside."""

import asyncio
import contextlib
import json
import ssl
import traceback
from dataclasses import dataclass
from enum import StrEnum

from tests.whatsapp_server.connection import Connection
from tests.whatsapp_server.server import WhatsAppServer
from tests.whatsapp_server.websocket import WebSocket

CHAT_HOST = "web.whatsapp.com"
HEAD_END = b"\r\n\r\n"
BACKLOG = 2048


class Reach(StrEnum):
    """What becomes of new connections."""

    UP = "up"
    REFUSING = "refusing"
    """They are closed at once, as with no network."""

    SILENT = "silent"
    """They are accepted and never answered."""


@dataclass(frozen=True, slots=True)
class Request:
    """The head of an HTTP request, with its header names in small letters."""

    method: str
    target: str
    headers: dict[str, str]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> "Request":
        """Read up to the empty line."""
        first, *lines = (await reader.readuntil(HEAD_END)).decode("latin-1").strip().split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.split(":", 1) for line in lines)
        return cls(method, target, {name.strip().lower(): value.strip() for name, value in pairs})


class Tunnel:
    """The listening proxy."""

    def __init__(self, server: WhatsAppServer) -> None:
        self.server = server
        self.reach = Reach.UP
        self._context: ssl.SSLContext = server.certificate.context()
        self._held: list[asyncio.StreamWriter] = []

    async def listen(self) -> int:
        """Listen on a free port of the loopback interface; returns it."""
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=BACKLOG)
        return int(listener.sockets[0].getsockname()[1])

    def open_up(self) -> None:
        """Be reachable again; what was accepted in silence is closed."""
        self.reach = Reach.UP
        for writer in self._held:
            writer.close()
        self._held.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.reach is Reach.SILENT:
            self._held.append(writer)
            return
        try:
            if self.reach is Reach.UP:
                await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError):
            pass
        except Exception:  # noqa: BLE001 - a test fails for any fault
            self.server.faults.append(traceback.format_exc())
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await Request.read(reader)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.start_tls(self._context)
        if connect.target.startswith(CHAT_HOST):
            await self._serve_chat(reader, writer)
        else:
            await self._serve_media(reader, writer)

    async def _serve_chat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await Request.read(reader)
        if "sec-websocket-key" not in request.headers:
            await _respond(writer, 404)
            return
        self.server.connections += 1
        socket = WebSocket(reader, writer)
        await socket.accept(request.headers["sec-websocket-key"])
        await Connection(self.server, socket).run()

    async def _serve_media(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await Request.read(reader)
        body = await reader.readexactly(int(request.headers.get("content-length", "0")))
        media, path = self.server.media, request.target.partition("?")[0]
        if media.status != 200:
            await _respond(writer, media.status)
        elif request.method == "POST":
            await _respond(writer, 200, json.dumps(media.put(path, body)).encode())
        elif request.method == "DELETE":
            media.files.pop(path, None)
            await _respond(writer, 200)
        elif path in media.files:
            await _respond(writer, 200, media.files[path])
        else:
            await _respond(writer, 404)


async def _respond(writer: asyncio.StreamWriter, status: int, body: bytes = b"") -> None:
    writer.write(f"HTTP/1.1 {status} .\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    await writer.drain()
