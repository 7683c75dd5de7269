"""Messages from contacts to devices, and the history that a phone shares with them."""

import os
import time
import zlib
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import ParseDict
from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as contents
from neonize.proto.waHistorySync import WAWebProtobufsHistorySync_pb2 as histories

from tests.whatsapp_server.accounts import LinkedDevice, Unknown, lid_of
from tests.whatsapp_server.media import HISTORY, KINDS, Upload
from tests.whatsapp_server.nodes import Jid, Node, Value
from tests.whatsapp_server.signal import Correspondent
from tests.whatsapp_server.transmissions import peer_name

if TYPE_CHECKING:
    from tests.whatsapp_server.server import WhatsAppServer


def text_message(text: str) -> contents.Message:
    """A plain text."""
    return contents.Message(conversation=text)


def parse_message(content: dict[str, Any]) -> contents.Message:
    """Any content, by the names of its fields."""
    return ParseDict(content, contents.Message())


def media_message(server: "WhatsAppServer", kind: str, content: bytes, mime_type: str, caption: str) -> contents.Message:
    """A file of a kind in `KINDS`, uploaded as the contact's phone does before it sends."""
    upload = server.media.upload(content, KINDS[kind])
    message = contents.Message()
    part = getattr(message, f"{kind}Message")
    words = {"caption": caption} if caption else {}
    part.MergeFrom(type(part)(URL=upload.url, mimetype=mime_type, **words, **_file_fields(upload)))
    return message


def _file_fields(upload: Upload) -> dict[str, Any]:
    return {
        "directPath": upload.direct_path,
        "mediaKey": upload.media_key,
        "fileSHA256": upload.plain_hash,
        "fileEncSHA256": upload.encrypted_hash,
        "fileLength": upload.length,
    }


async def send_from_contact(
    server: "WhatsAppServer",
    device: LinkedDevice,
    sender: str,
    message: contents.Message,
    name: str,
    chat: str = "",
    message_id: str = "",
    hides_number: bool = False,
) -> str:
    """Deliver a contact's message to a device; returns its id.

    `chat` is the address of a group, or `status@broadcast`; empty, the two talk alone, and WhatsApp may not tell the number.
    """
    source: dict[str, Value] = {"from": lid_of(sender), **({} if hides_number else {"sender_pn": Jid(sender)})}
    if chat:
        source = {"from": Jid.parse(chat), "participant": lid_of(sender), "participant_pn": Jid(sender)}
    attributes: dict[str, Value] = {
        **source,
        **({"id": message_id} if message_id else {}),
        "addressing_mode": "lid",
        "notify": name,
        "type": "text" if message.HasField("conversation") else "media",
    }
    return await _send(server.contacts, lid_of(sender), device, message, attributes)


async def send_from_phone(server: "WhatsAppServer", device: LinkedDevice, recipient: str, message: contents.Message) -> str:
    """Deliver a copy of what the account's owner wrote to `recipient` on the phone; returns its id."""
    sent = contents.Message(
        deviceSentMessage=contents.DeviceSentMessage(destinationJID=str(lid_of(recipient)), message=message)
    )
    attributes: dict[str, Value] = {
        "from": device.lid.bare,
        "recipient": lid_of(recipient),
        "peer_recipient_pn": Jid(recipient),
        "addressing_mode": "lid",
        "type": "text",
    }
    return await _send(server.accounts[device.number].phone, device.lid.bare, device, sent, attributes)


async def send_history(server: "WhatsAppServer", device: LinkedDevice, messages: list[dict[str, Any]]) -> str:
    """Share old messages of the phone, each `{"contact", "id", "text", "from_me", "at"}`; `at` in seconds since 1970."""
    history = histories.HistorySync(syncType=histories.HistorySync.RECENT, chunkOrder=1, progress=100)
    chats: dict[str, Any] = {}
    for position, old in enumerate(messages):
        chat = str(lid_of(old["contact"]))
        if chat not in chats:
            chats[chat] = history.conversations.add(ID=chat)
        entry = chats[chat].messages.add(msgOrderID=position)
        entry.message.key.remoteJID = chat
        entry.message.key.fromMe = old["from_me"]
        entry.message.key.ID = old["id"]
        entry.message.messageTimestamp = int(old["at"])
        entry.message.message.conversation = old["text"]
    upload = server.media.upload(zlib.compress(history.SerializeToString()), HISTORY)
    notification = contents.HistorySyncNotification(
        syncType=contents.HistorySyncType.RECENT, chunkOrder=1, progress=100, **_file_fields(upload)
    )
    message = contents.Message(
        protocolMessage=contents.ProtocolMessage(
            type=contents.ProtocolMessage.HISTORY_SYNC_NOTIFICATION, historySyncNotification=notification
        )
    )
    attributes: dict[str, Value] = {"from": device.jid.bare, "type": "protocol", "category": "peer"}
    return await _send(server.accounts[device.number].phone, device.lid.bare, device, message, attributes)


async def _send(
    correspondent: Correspondent, sender: Jid, device: LinkedDevice, message: contents.Message, attributes: dict[str, Value]
) -> str:
    if device.keys is None:
        raise Unknown(f"{device.jid} has not uploaded its keys yet")
    attributes = {"id": f"3A{os.urandom(8).hex().upper()}", "t": int(time.time()), **attributes}
    kind, ciphertext = correspondent.encrypt(peer_name(sender, device), message.SerializeToString(), device.keys)
    enc = Node("enc", {"v": "2", "type": kind}, ciphertext)
    await device.deliver(Node("message", attributes, [enc]))
    return str(attributes["id"])
