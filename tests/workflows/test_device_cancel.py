"""An operator cancels a lane's execution: it closes as cancelled whatever it is doing, and may be brought back."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError

from siaran.contracts import WORKFLOW_QUEUE, LaneAction, LaneInput, LanePlan, SendResult, SliceEnd, device_workflow_id
from siaran.temporal import lane_attributes, signal_lanes, signal_moved
from tests.workflows.conftest import device_worker, workflow_worker
from tests.workflows.stand_ins import Answer, LaneStandIns
from workflows.device import DeviceWorkflow

SEND = LanePlan(LaneAction.SEND)
END = LanePlan(LaneAction.END)
FAIL_OVER = LanePlan(LaneAction.FAIL_OVER, "device offline")
DRAINED = SendResult(sent=1, failed=0, unknown=0, suppressed=0, ended=SliceEnd.DRAINED)
IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)
GAP = SendResult(sent=1, failed=0, unknown=0, suppressed=0, ended=SliceEnd.WINDOW, next_at=IN_AN_HOUR)

Handle = WorkflowHandle[DeviceWorkflow, str]


async def hang() -> None:
    await asyncio.sleep(30)


@pytest.fixture
def lane() -> LaneInput:
    """A lane whose waker has set it running."""
    return LaneInput(uuid4(), uuid4())


async def start(client: Client, lane: LaneInput) -> Handle:
    return await client.start_workflow(
        DeviceWorkflow.run,
        lane,
        id=device_workflow_id(lane.device_id),
        task_queue=WORKFLOW_QUEUE,
        search_attributes=lane_attributes(lane, "starting"),
    )


async def reach(handle: Handle, kind: EventType.ValueType) -> None:
    """Return once the run has had an event of that kind."""
    async with asyncio.timeout(10):
        while True:
            history = await handle.fetch_history()
            if any(event.event_type == kind for event in history.events):
                return
            await asyncio.sleep(0.02)


async def expect_cancelled(handle: Handle) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED


BROKEN = ApplicationError("broken", non_retryable=True)


@pytest.mark.parametrize(
    ("plans", "sends", "doing"),
    [
        ([END], [hang], EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED),
        ([END], [GAP], EventType.EVENT_TYPE_TIMER_STARTED),
        ([LanePlan(LaneAction.WAIT, "device offline", IN_AN_HOUR)], [DRAINED], EventType.EVENT_TYPE_TIMER_STARTED),
        ([END], [BROKEN], EventType.EVENT_TYPE_TIMER_STARTED),
    ],
    ids=["sending", "in a gap", "waiting", "backing off"],
)
async def test_a_cancelled_lane_closes_as_cancelled(
    temporal_client: Client, lane: LaneInput, plans: list[Answer], sends: list[Answer], doing: EventType.ValueType
) -> None:
    stand_ins = LaneStandIns(plans, sends)
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send),
    ):
        handle = await start(temporal_client, lane)
        await reach(handle, doing)

        await handle.cancel()

        await expect_cancelled(handle)


@pytest.mark.parametrize("plans", [[hang], [FAIL_OVER]], ids=["planning", "moving messages"])
async def test_a_lane_that_is_cancelled_while_it_waits_for_the_database_closes_as_cancelled(
    temporal_client: Client, lane: LaneInput, plans: list[Answer]
) -> None:
    stand_ins = LaneStandIns(plans, [DRAINED])
    stand_ins.failovers.replace(hang)
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send),
    ):
        handle = await start(temporal_client, lane)
        await (stand_ins.failovers if plans == [FAIL_OVER] else stand_ins.plans).until(1)

        await handle.cancel()

        await expect_cancelled(handle)


async def test_a_cancel_is_not_lost_among_the_news_that_the_device_has_moved(temporal_client: Client, lane: LaneInput) -> None:
    """Both come while no worker runs, so that the lane gets them at once: it is giving its send up when it is cancelled."""
    stand_ins = LaneStandIns([END], [DRAINED])
    async with workflow_worker(temporal_client, stand_ins.activities):
        handle = await start(temporal_client, lane)
        await reach(handle, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
    await signal_moved(temporal_client, lane.device_id, 2)
    await handle.cancel()

    async with workflow_worker(temporal_client, stand_ins.activities):
        await expect_cancelled(handle)

    assert stand_ins.order == []


async def test_a_cancelled_lane_is_brought_back_by_the_next_wake(temporal_client: Client, lane: LaneInput) -> None:
    stand_ins = LaneStandIns([END], [hang, DRAINED])
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send, at_once=2),
    ):
        handle = await start(temporal_client, lane)
        await stand_ins.sends.until(1)
        await handle.cancel()
        await expect_cancelled(handle)

        assert await signal_lanes(temporal_client, [lane]) == 0

        again = temporal_client.get_workflow_handle_for(DeviceWorkflow.run, device_workflow_id(lane.device_id))
        assert await again.result() == "nothing left to send"
