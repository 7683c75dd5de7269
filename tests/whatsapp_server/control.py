"""What a test can have the server do, as methods with plain values: they are called from another process."""

from base64 import b64decode
from dataclasses import asdict
from typing import Any

from tests.whatsapp_server import incoming
from tests.whatsapp_server.accounts import Unknown
from tests.whatsapp_server.nodes import Node
from tests.whatsapp_server.pairing import QR_CODES, Pairing
from tests.whatsapp_server.rules import Answer, Rule
from tests.whatsapp_server.server import WhatsAppServer
from tests.whatsapp_server.transmissions import send_receipt
from tests.whatsapp_server.tunnel import Reach, Tunnel


class Control:
    """The remote control. `number` is a linked account's phone number in digits, and means its newest device."""

    def __init__(self, server: WhatsAppServer, tunnel: Tunnel, port: int) -> None:
        self._server = server
        self._tunnel = tunnel
        self._port = port

    def endpoints(self) -> dict[str, Any]:
        """What a client must be given to reach the server: the proxy's port, the certificate, and the key to trust."""
        server = self._server
        return {"port": self._port, "certificate": str(server.certificate.path), "root_key": server.identity.root.public.hex()}

    def reset(self) -> None:
        """Back to a server that answers everything; accounts, sessions and the record stay."""
        self._server.rules.rules.clear()
        self._server.rules.receipts = []
        self._server.unregistered.clear()
        self._server.media.status = 200
        self._server.faults.clear()
        self._server.qr_codes = QR_CODES
        for device in self._server.accounts.devices():
            device.thawed.set()
        self.reach(Reach.UP)

    # The record

    def transmissions(self, number: str | None = None) -> list[dict[str, Any]]:
        """What has been received of a device, or of all, as `record.Transmission`."""
        return [asdict(entry) for entry in self._server.record.transmissions if number in {None, entry.number}]

    def stanzas(self, number: str, tag: str) -> list[dict[str, str]]:
        """The receipts, or `chatstate`s, or `presence`s, that a device sent."""
        return [entry for entry in self._server.record.stanzas if (entry["number"], entry["tag"]) == (number, tag)]

    def uploads(self) -> list[str]:
        return self._server.media.uploaded

    def faults(self) -> list[str]:
        return self._server.faults

    def status(self) -> dict[str, Any]:
        """Connections ever opened; times of logins (seconds since 1970) by device; who is online; stanzas not acknowledged."""
        devices = self._server.accounts.devices()
        return {
            "connections": self._server.connections,
            "logins": {str(device.jid): device.logins for device in devices},
            "online": [device.number for device in devices if device.connection],
            "waiting": {device.number: len(device.outbox) for device in devices},
        }

    # Linking

    async def scan(self, qr: str, number: str, interrupted: bool = False) -> str:
        """Scan a QR code with the phone of `number`; returns the linked device's address.

        If `interrupted`, the connection is lost at the very end: linked, but not told so.
        """
        ref = qr.partition("#")[2].partition(",")[0]
        pairing = next((pairing for pairing in self._server.pairings if ref in pairing.refs), None)
        if pairing is None:
            raise Unknown("the QR code is not valid any more")
        pairing.interrupted = interrupted
        return str((await pairing.scan(qr, self._server.accounts[number])).jid)

    def offer_codes(self, count: int) -> None:
        """How many QR codes an unlinked client gets; WhatsApp gives 6."""
        self._server.qr_codes = count

    async def drop_unlinked(self) -> None:
        """Cut every client off that waits to be linked."""
        for pairing in list(self._server.pairings):
            await pairing.connection.close()

    async def enter_code(self, code: str, number: str) -> str:
        """Type a pairing code in at the phone of `number`; returns the linked device's address."""
        return str((await self._pairing_of(number).enter_code(code, self._server.accounts[number])).jid)

    def _pairing_of(self, number: str) -> Pairing:
        for pairing in self._server.pairings:
            if pairing.code and pairing.code.number == number:
                return pairing
        raise Unknown(f"no client asks for {number}")

    # Messages

    def answer_messages(
        self,
        answer: str,
        code: int = 0,
        number: str | None = None,
        recipient: str | None = None,
        times: int | None = None,
        after: float = 0.0,
    ) -> None:
        """From now on, answer fitting messages so: `ack`, `refuse` with a code, `ignore` or `drop`; `after` is in seconds."""
        self._server.rules.add(Rule(Answer(answer), code, number, recipient, times, after))

    def send_receipts_by_itself(self, kinds: list[str]) -> None:
        """Follow each acknowledgement by these receipts: `delivered`, `read`."""
        self._server.rules.receipts = kinds

    async def send_receipt(self, number: str, recipient: str, ids: list[str], kind: str) -> None:
        """Tell a device that messages were `delivered`, `read` or `played`, or one of the other `RECEIPT_TYPES`."""
        await send_receipt(self._server.accounts.find(number), recipient, ids, kind)

    async def send_text(
        self,
        number: str,
        sender: str,
        text: str,
        name: str = "",
        chat: str = "",
        message_id: str = "",
        hides_number: bool = False,
    ) -> str:
        """Write to a device as a contact, in the group `chat` if one is given; returns the message's id."""
        message, device = incoming.text_message(text), self._server.accounts.find(number)
        return await incoming.send_from_contact(self._server, device, sender, message, name, chat, message_id, hides_number)

    async def send_media(
        self, number: str, sender: str, content: str, kind: str = "image", mime_type: str = "image/jpeg", caption: str = ""
    ) -> str:
        """Send a file of one of `media.KINDS`, given in base64, as a contact; returns the message's id."""
        message = incoming.media_message(self._server, kind, b64decode(content), mime_type, caption)
        return await incoming.send_from_contact(self._server, self._server.accounts.find(number), sender, message, "")

    async def send_content(self, number: str, sender: str, content: dict[str, Any], chat: str = "") -> str:
        """Send any content (a `waE2E.Message` by the names of its fields) as a contact; returns the message's id."""
        message, device = incoming.parse_message(content), self._server.accounts.find(number)
        return await incoming.send_from_contact(self._server, device, sender, message, "", chat)

    async def send_from_phone(self, number: str, recipient: str, text: str) -> str:
        """Write to a contact on the account's own phone, of which its devices get a copy; returns the message's id."""
        message = incoming.text_message(text)
        return await incoming.send_from_phone(self._server, self._server.accounts.find(number), recipient, message)

    async def send_history(self, number: str, messages: list[dict[str, Any]]) -> str:
        """Share old messages of the phone: see `incoming.send_history`."""
        return await incoming.send_history(self._server, self._server.accounts.find(number), messages)

    # Users and media

    def unregister(self, numbers: list[str]) -> None:
        """Have no WhatsApp account under these numbers; every other number has one."""
        self._server.unregistered.update(numbers)

    def set_picture(self, number: str, content: str) -> None:
        self._server.media.files[f"/pictures/{number}"] = b64decode(content)

    def set_media_status(self, status: int) -> None:
        """Answer uploads and downloads with this HTTP status; 200 is normal."""
        self._server.media.status = status

    # Connections

    async def drop(self, number: str) -> None:
        """Cut a device's connection off."""
        if connection := self._server.accounts.find(number).connection:
            await connection.close()

    async def end_stream(self, number: str, code: str = "", conflict: str = "") -> None:
        """End a device's connection with a stream error, such as `code="503"` or `conflict="replaced"`."""
        if connection := self._server.accounts.find(number).connection:
            reasons = [Node("conflict", {"type": conflict})] if conflict else None
            await connection.say_goodbye(Node("stream:error", {"code": code} if code else {}, reasons))

    def unlink(self, number: str) -> None:
        """Remove the device on its phone."""
        self._server.unlink(self._server.accounts.find(number))

    def refuse_logins(self, number: str, reason: int, code: int | None = None, expire: int | None = None) -> None:
        """Refuse a device's next logins.

        402 with a `code` and `expire` (seconds) is a temporary ban, 403 a ban, 401 a log-out, 405 an outdated client.
        """
        details = {"reason": reason, "code": code, "expire": expire}
        failure = {name: str(value) for name, value in details.items() if value is not None}
        self._server.accounts.find(number).login_failure = failure

    def allow_logins(self, number: str) -> None:
        self._server.accounts.find(number).login_failure = None

    def freeze(self, number: str) -> None:
        """Answer nothing on a device's connections, which stay open, until `thaw`."""
        self._server.accounts.find(number).thawed.clear()

    def thaw(self, number: str) -> None:
        """Go on with everything that has come in meanwhile."""
        self._server.accounts.find(number).thawed.set()

    def reach(self, state: str) -> None:
        """What becomes of new connections: `up`, `refusing` or `silent`."""
        if Reach(state) is Reach.UP:
            self._tunnel.open_up()
        self._tunnel.reach = Reach(state)
