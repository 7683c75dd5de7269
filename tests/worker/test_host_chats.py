"""A host keeps the chats of its devices, and tells who looks at them; where chats are not to be stored it keeps nothing."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from siaran.chat_notices import chat_channel
from siaran.chats import ChatLine, list_lines
from siaran.clock import system_clock
from siaran.models import ChatMessage, Device, DeviceStatus, IncomingMessage
from siaran.settings import Settings
from tests.factories import new_phone
from tests.worker.conftest import RunningHost, until


async def talk(running_host: RunningHost) -> tuple[Device, str]:
    """A device sends a message, and its recipient answers; returns the device and the recipient."""
    device, campaign = await running_host.add_device(), await running_host.ledger.campaign()
    await running_host.reach(device, DeviceStatus.ONLINE)
    phone = new_phone()
    await running_host.ledger.messages(campaign, device, [phone])
    claim = await running_host.ledger.claimed(device, at=system_clock())
    await running_host.host._sends._transmitter.transmit(claim, gap=timedelta(0))
    await running_host.network.reply(device.id, phone, "Thanks")
    return device, phone


async def lines(running_host: RunningHost, device: Device, phone: str) -> Sequence[ChatLine]:
    """What is in the chat."""
    async with running_host.ledger.sessions() as session:
        return await list_lines(session, device.user_id, device.id, phone, limit=10, before=None)


async def test_what_is_sent_answered_and_delivered_shows_in_the_chat_and_is_told(
    running_host: RunningHost, redis: Redis
) -> None:
    async with redis.pubsub() as channel:
        await channel.psubscribe("siaran:chats:*")
        device, phone = await talk(running_host)

        async def is_complete() -> bool:
            return [line.status for line in await lines(running_host, device, phone)] == ["received", "delivered"]

        await until(is_complete)
        notice = None
        async with asyncio.timeout(5):
            while notice is None:
                notice = await channel.get_message(ignore_subscribe_messages=True, timeout=1)

    assert [line.text for line in await lines(running_host, device, phone)] == ["Thanks", "Hi Ali"]
    assert notice["channel"] == chat_channel(device.id)


class TestWithoutStorage:
    """Chats are not to be stored."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"chat_storage": False})

    async def test_contacts_are_heard_and_nothing_is_kept(self, running_host: RunningHost) -> None:
        _, phone = await talk(running_host)

        async def is_heard() -> bool:
            async with running_host.ledger.sessions() as session:
                return await session.scalar(select(IncomingMessage.sender)) == phone

        await until(is_heard)
        async with running_host.ledger.sessions() as session:
            assert not list(await session.scalars(select(ChatMessage)))
