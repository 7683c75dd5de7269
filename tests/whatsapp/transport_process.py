"""The transport in a process of its own: `python -m tests.whatsapp.transport_process SESSION_FOLDER SOCKET`.

It is driven over the socket and never imported by tests: the library may abort the process that it is loaded in.
"""

import asyncio
import sys
from base64 import b64decode, b64encode
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from siaran.gateway.interface import Body, DeviceRef, MediaFile, MessageType, Rejected
from siaran.gateway.session_files import create_session
from siaran.gateway.whatsapp import WhatsAppTransport
from siaran.gateway.whatsapp_library import load_library, open_client
from tests.whatsapp_server.channel import answer


class Driver:
    """One transport and everything that it has reported, with plain values; the methods are called from the test's process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._transport = WhatsAppTransport(folder, connect_pause_seconds=0.05)
        self._events: list[dict[str, Any]] = []
        self._listening: asyncio.Task[None] | None = None
        self._linking: dict[str, Any] = {}
        self._read: list[str] = []

    async def open(self) -> None:
        await self._transport.open()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self._transport.events():
            self._events.append({"type": type(event).__name__, **_plain(event)})

    def events(self) -> list[dict[str, Any]]:
        return self._events

    async def close(self) -> list[dict[str, Any]]:
        """Close the transport; returns all events, of which there are no more."""
        await self._transport.close()
        assert self._listening is not None
        await self._listening
        return self._events

    async def begin_link(self, device_id: str) -> str:
        """Write a session for a device without a transport; returns the content of the QR code."""
        path = create_session(self._folder, UUID(device_id), 1)
        client = open_client(path, "Siaran")
        code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        online = asyncio.Event()

        async def show(_client: Any, qr: bytes) -> None:
            if not code.done():
                code.set_result(qr.decode())

        async def note(_client: Any, _event: Any) -> None:
            online.set()

        client.event.qr(show)
        client.event(load_library().events.Connected)(note)
        self._linking[device_id] = (client, online, await client.connect())
        return await code

    async def end_link(self, device_id: str) -> None:
        """Wait until a device's first login is over."""
        await self._linking[device_id][1].wait()

    async def connect(self, device_id: str, jid: str, generation: int = 1) -> None:
        await self._transport.connect(DeviceRef(UUID(device_id), jid, generation))

    async def disconnect(self, device_id: str) -> None:
        await self._transport.disconnect(UUID(device_id))

    def state(self, device_id: str) -> str:
        return self._transport.state(UUID(device_id)).value

    def is_over(self, device_id: str) -> bool:
        return self._transport.is_over(UUID(device_id))

    def frozen_since(self, device_id: str) -> str | None:
        since = self._transport.frozen_since(UUID(device_id))
        return since.isoformat() if since else None

    async def send(
        self,
        device_id: str,
        to: str,
        key: str,
        text: str = "",
        kind: str = "text",
        file: str | None = None,
        mime_type: str = "image/jpeg",
        media_url: str | None = None,
        give_up_after: float | None = None,
    ) -> dict[str, Any]:
        """Send; `file` is in base64, `key` in hexadecimal. `give_up_after` cancels the call after so many seconds."""

        async def read() -> MediaFile:
            self._read.append(media_url or "")
            if file is None:
                raise Rejected("media_missing", retryable=False)
            return MediaFile(mime_type, "a file.bin", b64decode(file))

        url = media_url or ("media://file" if file is not None else None)
        body = Body(MessageType(kind), text, url, read if url else None)
        async with asyncio.timeout(give_up_after):
            result = await self._transport.send(UUID(device_id), to, body, bytes.fromhex(key))
        return {"whatsapp_id": result.whatsapp_id, "sent_at": result.sent_at.isoformat()}

    def reads(self) -> list[str]:
        """The media that were read, as often as they were."""
        return self._read

    async def find_attempt(self, device_id: str, key: str, generation: int = 1) -> list[str | None]:
        found = await self._transport.find_attempt(UUID(device_id), "", bytes.fromhex(key), generation)
        return [found.answer.value, found.whatsapp_id]

    async def is_on_whatsapp(self, device_id: str, phones: list[str]) -> dict[str, bool]:
        return await self._transport.is_on_whatsapp(UUID(device_id), phones)

    async def contact_names(self, device_id: str) -> dict[str, str]:
        return await self._transport.contact_names(UUID(device_id))

    async def picture_url(self, device_id: str, chat: str) -> str | None:
        return await self._transport.picture_url(UUID(device_id), chat)

    async def download(self, device_id: str, reference: str) -> str:
        """A file in base64."""
        return b64encode(await self._transport.download(UUID(device_id), b64decode(reference))).decode()

    async def log_out(self, device_id: str) -> None:
        await self._transport.log_out(UUID(device_id))


def _plain(value: Any) -> Any:
    """A value that fits JSON: bytes in base64, times in ISO 8601."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


async def main(folder: Path, socket: Path) -> None:
    """Answer until the process is killed."""
    driver = Driver(folder)
    await driver.open()
    await answer(socket, driver)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
