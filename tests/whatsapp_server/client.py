"""The real client in a process of its own: `python -m tests.whatsapp_server.client SESSION_FILE SOCKET`.

It is driven over the socket and never imported by tests: the library may abort the process that it is loaded in.
"""

import asyncio
import os
import sys
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from neonize.aioze.client import ClientFactory, NewAClient
from neonize.events import EVENT_TO_INT
from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as contents
from neonize.utils.enum import ChatPresence, ChatPresenceMedia, ReceiptType
from neonize.utils.jid import build_jid

from tests.whatsapp_server.channel import answer

THREADS = 64
"""Every call into the library occupies one; the default of a small machine is soon used up."""

OWN_DEVICE_EVENT = 0
"""The library keeps this one to itself."""


class Client:
    """One client and everything that it has reported; the methods are called from the test's process."""

    def __init__(self, session: Path) -> None:
        self._session = session
        self._events: list[dict[str, Any]] = []
        self._messages: dict[str, contents.Message] = {}
        self._client: Any = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Resume the session in the file, or begin to link a new one."""
        linked = ClientFactory(str(self._session)).get_all_devices() if self._session.exists() else []
        self._client = NewAClient(str(self._session), jid=linked[0].JID if linked else None)
        for kind, number in EVENT_TO_INT.items():
            if number != OWN_DEVICE_EVENT:
                self._client.event(kind)(self._note)
        self._client.event.qr(self._note_qr)
        self._task = await self._client.connect()
        self._task.add_done_callback(self._note_end)

    async def _note(self, _client: Any, event: Any) -> None:
        self._events.append({"type": event.DESCRIPTOR.name, **MessageToDict(event)})
        if event.DESCRIPTOR.name == "Message":
            self._messages[event.Info.ID] = event.Message

    async def _note_qr(self, _client: Any, qr: bytes) -> None:
        self._events.append({"type": "QR", "code": qr.decode()})

    def _note_end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        self._events.append({"type": "Ended", "error": str(error or "")})

    def events(self) -> list[dict[str, Any]]:
        return self._events

    async def ask_for_code(self, phone: str) -> str:
        return str(await self._client.PairPhone(phone, True))

    async def is_connected(self) -> bool:
        return bool(await self._client.is_connected)

    async def send_text(self, to: str, text: str, secret: str = "") -> str:
        """Send a text, with a message secret in hexadecimal if wanted; returns the message's id."""
        message = contents.Message(extendedTextMessage=contents.ExtendedTextMessage(text=text))
        if secret:
            message.messageContextInfo.messageSecret = bytes.fromhex(secret)
        return str((await self._client.send_message(build_jid(to), message)).ID)

    async def send_image(self, to: str, content: str, caption: str) -> str:
        return str((await self._client.send_image(build_jid(to), b64decode(content), caption=caption)).ID)

    async def check(self, phones: list[str]) -> dict[str, bool]:
        answers = await self._client.is_on_whatsapp(*(f"+{phone}" for phone in phones))
        return {entry.Query.lstrip("+"): entry.IsIn for entry in answers}

    async def picture(self, phone: str) -> str:
        return str((await self._client.get_profile_picture(build_jid(phone))).URL)

    async def mark_read(self, phone: str, ids: list[str]) -> None:
        chat = build_jid(phone)
        await self._client.mark_read(*ids, chat=chat, sender=chat, receipt=ReceiptType.READ)

    async def show_typing(self, phone: str) -> None:
        composing, text = ChatPresence.CHAT_PRESENCE_COMPOSING, ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
        await self._client.send_chat_presence(build_jid(phone), composing, text)

    async def download(self, message_id: str) -> str:
        """The file of a received message in base64."""
        return b64encode(await self._client.download_any(self._messages[message_id])).decode()

    async def log_out(self) -> None:
        await self._client.logout()

    async def stop(self) -> None:
        """Disconnect in good order."""
        await self._client.stop()


async def main(session: Path, socket: Path) -> None:
    """Answer until the process is killed."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    await answer(socket, Client(session))


if __name__ == "__main__":
    os.environ["NEONIZE_BOT_TAG"] = "off"
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
