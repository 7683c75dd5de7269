"""What the tests of the simulated network send, and how they wait for what happens elsewhere."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import uuid4

from siaran.gateway.interface import Body, DeviceRef, MessageType, SendResult, Transport
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.gateway.simulated_record import Transmission

TEXT = Body(MessageType.TEXT, "Salam")
PHONE = "60123456789"

Answer = TypeVar("Answer")


def new_key() -> bytes:
    """An idempotency key."""
    return secrets.token_bytes(32)


async def linked(network: SimulatedNetwork, phone: str = "60198765432") -> DeviceRef:
    """A new device, linked."""
    return (await network.link(uuid4(), phone)).ref


async def connected(network: SimulatedNetwork, transport: Transport) -> DeviceRef:
    """A new device, linked and connected."""
    device = await linked(network)
    await transport.connect(device)
    return device


async def sent(transport: Transport, device: DeviceRef, to: str = PHONE, key: bytes | None = None) -> SendResult:
    """Send the usual text."""
    return await transport.send(device.id, to, TEXT, key or new_key())


async def recorded(network: SimulatedNetwork) -> list[Transmission]:
    """Everything the network accepted."""
    return [one async for one in network.transmissions()]


async def until(question: Callable[[], Awaitable[Answer]], *, within: float = 10.0) -> Answer:
    """Ask until the answer is true; raises `TimeoutError` if it is not within that many seconds."""
    async with asyncio.timeout(within):
        while not (answer := await question()):  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.01)
        return answer
