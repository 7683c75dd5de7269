"""What a host writes of its devices' connections."""

from datetime import UTC, datetime

from temporalio.client import Client

from siaran.db import SessionMaker
from siaran.gateway.interface import DeviceState, StateChanged
from siaran.models import Device, DeviceStatus
from tests.ledger.driver import Ledger
from worker.device_news import DeviceNews

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


async def test_news_of_an_earlier_link_says_nothing_of_the_present_one(sessions: SessionMaker, temporal_client: Client) -> None:
    ledger = Ledger(sessions)
    await ledger.open()
    device = await ledger.device(status=DeviceStatus.CONNECTING, link_generation=2)

    async def settle(_device: object, _user: object) -> None:
        """Nothing is open."""

    news = DeviceNews(ledger.host.id, sessions=sessions, client=temporal_client, clock=lambda: NOW, settle=settle)
    await news.submit(StateChanged(device.id, DeviceState.LOGGED_OUT, NOW, "logged_out", 1))
    async with sessions() as session:
        assert (await session.get_one(Device, device.id)).status is DeviceStatus.CONNECTING

    await news.submit(StateChanged(device.id, DeviceState.LOGGED_OUT, NOW, "logged_out", 2))
    await news.close()
    async with sessions() as session:
        assert (await session.get_one(Device, device.id)).status is DeviceStatus.LOGGED_OUT
