"""One client's connection, from its handshake to its end."""

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.whatsapp_server.accounts import LinkedDevice
from tests.whatsapp_server.nodes import SERVER, Node, Value
from tests.whatsapp_server.noise import Frames
from tests.whatsapp_server.pairing import Pairing
from tests.whatsapp_server.queries import QueryRefused, answer_query
from tests.whatsapp_server.transmissions import receive_message
from tests.whatsapp_server.websocket import Closed, WebSocket

if TYPE_CHECKING:
    from tests.whatsapp_server.server import WhatsAppServer

GOODBYE_SECONDS = 0.2
"""How long a client has to read a last stanza before the connection is cut off."""

NOTED = {"receipt", "chatstate", "presence"}
"""What devices send besides messages and queries that a test may want to see."""


class Connection:
    """A connection of a linked device, or of a client that is not linked yet."""

    def __init__(self, server: "WhatsAppServer", socket: WebSocket) -> None:
        self.server = server
        self.socket = socket
        self.frames = Frames(socket, server.tokens)
        self.device: LinkedDevice | None = None
        self.pairing: Pairing | None = None
        self.ending = False

    async def run(self) -> None:
        """Serve the client until either side ends the connection."""
        try:
            payload = await self.frames.shake_hands(self.server.identity)
            if payload.HasField("devicePairingData"):
                await self._begin_pairing()
            elif not await self._log_in(str(payload.username), payload.device):
                return
            while True:
                node = await self.frames.receive()
                if self.device:
                    await self.device.thawed.wait()
                if not self.ending:  # as WhatsApp: nothing counts after the last stanza
                    await self._handle(node)
        except Closed:
            pass
        finally:
            self._end()

    async def send(self, node: Node) -> None:
        """Send a stanza; lost without a word if the connection is gone."""
        if self.device:
            await self.device.thawed.wait()
        with suppress(Closed):
            await self.frames.send(node)

    async def close(self) -> None:
        """Cut the connection off."""
        await self.socket.close()

    async def say_goodbye(self, node: Node) -> None:
        """Send a last stanza, and cut the connection off once the client has had time to read it."""
        self.ending = True
        await self.send(node)
        await asyncio.sleep(GOODBYE_SECONDS)
        await self.close()

    async def _begin_pairing(self) -> None:
        self.pairing = Pairing(self)
        self.server.pairings.append(self.pairing)
        await self.pairing.offer(self.server.qr_codes)

    async def _log_in(self, number: str, device_number: int) -> bool:
        account = self.server.accounts.get(number)
        device = account.devices.get(device_number) if account else None
        failure = device.login_failure if device else {"reason": "401"}
        if device is None or failure:
            await self.say_goodbye(Node("failure", {**(failure or {})}))
            return False
        if device.connection:
            replaced = Node("stream:error", {}, [Node("conflict", {"type": "replaced"})])
            self.server.run(device.connection.say_goodbye(replaced))
        device.connection, self.device = self, device
        device.logins.append(time.time())
        await self.send(Node("success", {"t": int(time.time()), "lid": device.lid, "location": "loopback"}))
        for node in list(device.outbox.values()):
            await self.send(Node(node.tag, {**node.attributes, "offline": "0"}, node.content))
        await self.send(Node("ib", {"from": SERVER}, [Node("offline", {"count": len(device.outbox)})]))
        return True

    async def _handle(self, node: Node) -> None:
        if node.tag == "iq":
            await self._handle_query(node)
        elif self.device and node.tag == "message":
            await receive_message(self.server, self.device, node)
        elif self.device and node.tag in {"ack", "receipt"}:
            self.device.acknowledge(node)
        if self.device and node.tag in NOTED:
            noted = {name: str(value) for name, value in node.attributes.items()}
            state = {"state": node.children[0].tag} if node.tag == "chatstate" and node.children else {}
            self.server.record.stanzas.append({"tag": node.tag, "number": self.device.number, **noted, **state})

    async def _handle_query(self, node: Node) -> None:
        if node.text_of("type") in {"result", "error"}:
            if self.pairing and self.pairing.signed and node.text_of("id") == "pair-success":
                self.pairing.signed.set_result(node)
            return
        reply: dict[str, Value] = {"from": SERVER, "id": node.text_of("id")}
        try:
            content = answer_query(self.server, self, node)
        except QueryRefused as error:
            failure = Node("error", {"code": error.code, "text": error.text})
            await self.send(Node("iq", {**reply, "type": "error"}, [failure]))
        else:
            await self.send(Node("iq", {**reply, "type": "result"}, content))

    def _end(self) -> None:
        if self.device and self.device.connection is self:
            self.device.connection = None
        if self.pairing:
            self.server.pairings.remove(self.pairing)
