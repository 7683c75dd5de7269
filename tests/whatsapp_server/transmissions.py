"""Messages from devices: decrypted as their recipients do, recorded, and answered by the script."""

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as contents

from tests.whatsapp_server.accounts import LinkedDevice, lid_of, number_of
from tests.whatsapp_server.media import KINDS
from tests.whatsapp_server.nodes import Jid, Node
from tests.whatsapp_server.queries import correspondent_of
from tests.whatsapp_server.record import SentMedia, Transmission
from tests.whatsapp_server.rules import Answer, Rule
from tests.whatsapp_server.signal import Undecryptable

if TYPE_CHECKING:
    from tests.whatsapp_server.server import WhatsAppServer

MEDIA_FIELDS = {"imageMessage": "image", "videoMessage": "video", "audioMessage": "audio", "documentMessage": "document"}
RECEIPT_TYPES = {
    "delivered": "",
    "read": "read",
    "played": "played",
    "inactive": "inactive",
    "server-error": "server-error",
}


async def receive_message(server: "WhatsAppServer", device: LinkedDevice, node: Node) -> None:
    """Record a transmission, then answer it; answers with a delay do not hold up what follows."""
    recipient = number_of(node.jid_of("to"))
    rule = server.rules.take(device.number, recipient)
    server.record.transmissions.append(_describe(server, device, node, rule))
    connection = device.connection
    if rule.after:
        server.run(_answer_later(server, device, node, rule))
    elif connection:
        await _answer(server, device, node, rule)


async def _answer_later(server: "WhatsAppServer", device: LinkedDevice, node: Node, rule: Rule) -> None:
    await asyncio.sleep(rule.after)
    await _answer(server, device, node, rule)


async def _answer(server: "WhatsAppServer", device: LinkedDevice, node: Node, rule: Rule) -> None:
    if device.connection is None or rule.answer is Answer.IGNORE:
        return
    if rule.answer is Answer.DROP:
        await device.connection.close()
        return
    ack = Node("ack", {"class": "message", "id": node.text_of("id"), "from": node.jid_of("to"), "t": int(time.time())})
    if rule.answer is Answer.REFUSE:
        ack.attributes["error"] = rule.code
    await device.connection.send(ack)
    if rule.answer is Answer.ACK:
        for kind in server.rules.receipts:
            await send_receipt(device, number_of(node.jid_of("to")), [node.text_of("id")], kind)


async def send_receipt(device: LinkedDevice, recipient: str, ids: list[str], kind: str) -> None:
    """Tell a device that its messages were delivered, read or played."""
    first, *others = ids
    receipt = Node("receipt", {"from": lid_of(recipient), "id": first, "t": int(time.time())})
    if RECEIPT_TYPES[kind]:
        receipt.attributes["type"] = RECEIPT_TYPES[kind]
    if others:
        receipt.content = [Node("list", {}, [Node("item", {"id": other}) for other in others])]
    await device.deliver(receipt)


def _describe(server: "WhatsAppServer", device: LinkedDevice, node: Node, rule: Rule) -> Transmission:
    try:
        message = _decrypt(server, device, node)
    except Undecryptable as error:
        server.faults.append(f"nobody can read {node.text_of('id')}: {error}")
        message = contents.Message()
    kind, text, media = _read(server, message)
    return Transmission(
        number=device.number,
        device=device.device,
        recipient=number_of(node.jid_of("to")),
        id=node.text_of("id"),
        type=kind,
        text=text,
        media=media,
        secret=message.messageContextInfo.messageSecret.hex(),
        answer=rule.answer if not rule.code else f"{rule.answer}:{rule.code}",
        received_at=time.time(),
    )


def _decrypt(server: "WhatsAppServer", device: LinkedDevice, node: Node) -> contents.Message:
    """The content that the recipient's phone reads; the copies for other devices say the same."""
    to = node.jid_of("to").bare
    for part in node["participants"].children:
        address = part.jid_of("jid")
        if address == to:
            enc = part["enc"]
            plaintext = correspondent_of(server, address).decrypt(
                peer_name(address, device), enc.data, opens_session=enc.text_of("type") == "pkmsg"
            )
            return contents.Message.FromString(plaintext)
    raise Undecryptable(f"it is not encrypted for {to}")


def peer_name(contact: Jid, device: LinkedDevice) -> str:
    """The name of the conversation between a contact and a device."""
    return f"{number_of(contact)}/{device.number}:{device.device}"


def _read(server: "WhatsAppServer", message: contents.Message) -> tuple[str, str, SentMedia | None]:
    """A message's type, its text or caption, and its file. Of the rest, the text is what a test may want to see."""
    if message.HasField("documentWithCaptionMessage"):
        message = message.documentWithCaptionMessage.message
    for name, kind in MEDIA_FIELDS.items():
        if message.HasField(name):
            part = getattr(message, name)
            content = server.media.open(part.directPath, part.mediaKey, KINDS[kind])
            digest = None if content is None else hashlib.sha256(content).hexdigest()
            return kind, getattr(part, "caption", ""), SentMedia(part.URL, part.mimetype, part.fileLength, digest)
    if message.HasField("extendedTextMessage"):
        return "text", message.extendedTextMessage.text, None
    if message.HasField("conversation"):
        return "text", message.conversation, None
    if message.HasField("locationMessage"):
        place = message.locationMessage
        return "location", f"{place.degreesLatitude} {place.degreesLongitude} {place.name} {place.address}".strip(), None
    if message.HasField("contactMessage"):
        return "contact", message.contactMessage.vcard, None
    if message.HasField("pollCreationMessage"):
        poll = message.pollCreationMessage
        options = ", ".join(option.optionName for option in poll.options)
        return "poll", f"{poll.name}: {options} ({poll.selectableOptionsCount})", None
    return "other", "", None
