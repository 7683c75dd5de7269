"""A process that sends one message through the simulated network, to be killed on the way: `python -m tests.gateway.sender`."""

import asyncio
import sys
from uuid import UUID

from siaran.gateway.interface import Body, DeviceRef, MessageType
from siaran.gateway.simulated import SimulatedTransport


async def main(url: str, device_id: str, jid: str, generation: str, to: str, key: str) -> None:
    """Connect the device and send."""
    transport = SimulatedTransport(url)
    await transport.open()
    device = DeviceRef(UUID(device_id), jid, int(generation))
    await transport.connect(device)
    await transport.send(device.id, to, Body(MessageType.TEXT, "Salam"), bytes.fromhex(key))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
