"""The server's side of WebSocket, as much of RFC 6455 as the client uses."""

import asyncio
import hashlib
from base64 import b64encode

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, BINARY, CLOSE, PING, PONG = 0, 2, 8, 9, 10
FINAL, MASKED = 0x80, 0x80


class Closed(Exception):
    """The client has closed the WebSocket, or lost it."""


class WebSocket:
    """A WebSocket whose opening request has been read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def accept(self, key: str) -> None:
        """Answer the opening request with the key that it carried."""
        accepted = b64encode(hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()).decode()
        self.writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accepted}\r\n\r\n".encode()
        )
        await self.writer.drain()

    async def receive(self) -> bytes:
        """The next part of the client's data; raises `Closed` at its end."""
        while True:
            try:
                kind, payload = await self._read_frame()
            except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
                raise Closed from error
            if kind in {CONTINUATION, BINARY}:
                return payload
            if kind == PING:
                await self._write_frame(PONG, payload)
            elif kind == CLOSE:
                raise Closed

    async def send(self, data: bytes) -> None:
        """Send a message; raises `Closed` if the client is gone."""
        await self._write_frame(BINARY, data)

    async def close(self) -> None:
        """Cut the connection off, without a goodbye."""
        self.writer.transport.abort()

    async def _read_frame(self) -> tuple[int, bytes]:
        start, length = await self.reader.readexactly(2)
        length &= ~MASKED
        if length >= 126:
            length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(length)
        pad = (mask * (length // 4 + 1))[:length]
        unmasked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
        return start & 15, unmasked.to_bytes(length, "big")

    async def _write_frame(self, kind: int, payload: bytes) -> None:
        if len(payload) < 126:
            length = bytes([len(payload)])
        elif len(payload) < 1 << 16:
            length = bytes([126]) + len(payload).to_bytes(2, "big")
        else:
            length = bytes([127]) + len(payload).to_bytes(8, "big")
        try:
            self.writer.write(bytes([FINAL | kind]) + length + payload)
            await self.writer.drain()
        except (ConnectionError, RuntimeError) as error:
            raise Closed from error
