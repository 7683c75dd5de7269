"""The server as a whole: its accounts, contacts, script and record, and the connections to it."""

import asyncio
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.whatsapp_server.accounts import Accounts, LinkedDevice
from tests.whatsapp_server.certificate import Certificate
from tests.whatsapp_server.media import MediaStore
from tests.whatsapp_server.nodes import Node
from tests.whatsapp_server.noise import Identity
from tests.whatsapp_server.pairing import QR_CODES, Pairing
from tests.whatsapp_server.record import Record
from tests.whatsapp_server.rules import Rules
from tests.whatsapp_server.signal import Correspondent
from tests.whatsapp_server.tokens import read_tokens

REMOVED = Node("stream:error", {"code": "401"}, [Node("conflict", {"type": "device_removed"})])


class WhatsAppServer:
    """Everything that the server knows. `faults` are the tracebacks of what it did not understand: none in a good test."""

    def __init__(self, folder: Path) -> None:
        self.certificate = Certificate.create(folder)
        self.identity = Identity.generate()
        self.tokens = read_tokens()
        self.accounts = Accounts()
        self.contacts = Correspondent()
        self.unregistered: set[str] = set()
        self.media = MediaStore()
        self.pairings: list[Pairing] = []
        self.qr_codes = QR_CODES
        self.record = Record()
        self.rules = Rules()
        self.faults: list[str] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the connections; its failure is noted among the faults."""
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - a test fails for any fault
            self.faults.append(traceback.format_exc())

    def unlink(self, device: LinkedDevice) -> None:
        """Take a device off its account; its client is told so and turned away from then on."""
        del self.accounts[device.number].devices[device.device]
        if device.connection:
            self.run(device.connection.say_goodbye(REMOVED))
