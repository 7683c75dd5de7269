"""What a host writes of its devices' connections."""

from datetime import UTC, datetime

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, Interceptor, OutboundInterceptor, SignalWorkflowInput
from temporalio.service import RPCError, RPCStatusCode

from siaran.contracts import WORKFLOW_QUEUE, LaneInput, device_workflow_id
from siaran.db import SessionMaker
from siaran.gateway.interface import DeviceState, StateChanged
from siaran.models import Device, DeviceStatus, LaneState
from tests.ledger.driver import Ledger
from tests.waiting import eventually
from worker.device_news import DeviceNews

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


class BusyOnce(Interceptor):
    """Temporal, which has no time for the first signal."""

    def __init__(self) -> None:
        self.refused = 0

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 -- the library's name
        owner = self

        class Outbound(OutboundInterceptor):
            async def signal_workflow(self, input: SignalWorkflowInput) -> None:  # noqa: A002 -- the library's name
                if not owner.refused:
                    owner.refused += 1
                    raise RPCError("busy", RPCStatusCode.DEADLINE_EXCEEDED, b"")
                await super().signal_workflow(input)

        return Outbound(next)


async def settle(_device: object, _user: object) -> None:
    """Nothing is open."""


async def test_a_lane_is_told_of_its_device_although_temporal_was_busy(sessions: SessionMaker, temporal_client: Client) -> None:
    ledger = Ledger(sessions)
    await ledger.open()
    device = await ledger.device(status=DeviceStatus.CONNECTING)
    await ledger.change(await ledger.lane(device), state=LaneState.RUNNING)
    lane = LaneInput(device.id, device.user_id)
    handle = await temporal_client.start_workflow(
        "DeviceWorkflow", lane, id=device_workflow_id(device.id), task_queue=WORKFLOW_QUEUE
    )
    busy = BusyOnce()
    client = Client(
        temporal_client.service_client,
        namespace=temporal_client.namespace,
        data_converter=temporal_client.data_converter,
        interceptors=[busy],
    )
    news = DeviceNews(ledger.host.id, sessions=sessions, client=client, clock=lambda: NOW, settle=settle)
    await news.submit(StateChanged(device.id, DeviceState.ONLINE, NOW, ""))

    async def told() -> bool:
        events = (await handle.fetch_history()).events
        return any(event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED for event in events)

    await eventually(told)
    await news.end()
    await news.close()
    assert busy.refused == 1


async def test_news_of_an_earlier_link_says_nothing_of_the_present_one(sessions: SessionMaker, temporal_client: Client) -> None:
    ledger = Ledger(sessions)
    await ledger.open()
    device = await ledger.device(status=DeviceStatus.CONNECTING, link_generation=2)

    news = DeviceNews(ledger.host.id, sessions=sessions, client=temporal_client, clock=lambda: NOW, settle=settle)
    await news.submit(StateChanged(device.id, DeviceState.LOGGED_OUT, NOW, "logged_out", 1))
    async with sessions() as session:
        assert (await session.get_one(Device, device.id)).status is DeviceStatus.CONNECTING

    await news.submit(StateChanged(device.id, DeviceState.LOGGED_OUT, NOW, "logged_out", 2))
    await news.close()
    async with sessions() as session:
        assert (await session.get_one(Device, device.id)).status is DeviceStatus.LOGGED_OUT
