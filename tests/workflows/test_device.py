"""A device's lane: sends, gaps, waits, failover, and news that come at awkward moments."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import TimeSkipper

from siaran.contracts import (
    WORKFLOW_QUEUE,
    LaneAction,
    LaneCheck,
    LaneInput,
    LanePlan,
    SendResult,
    SliceEnd,
    device_workflow_id,
)
from siaran.errors import Invalid, NotFound, SiaranError
from siaran.phone import InvalidPhone
from siaran.search_attributes import CAMPAIGN, DEVICE, STATUS
from siaran.temporal import lane_attributes, restart_lanes, signal_lanes, signal_moved
from tests.workflows.conftest import device_worker, workflow_worker
from tests.workflows.stand_ins import LaneStandIns
from workflows.device import DeviceWorkflow
from workflows.options import BULK, DATABASE

SEND = LanePlan(LaneAction.SEND)
END = LanePlan(LaneAction.END)
FAIL_OVER = LanePlan(LaneAction.FAIL_OVER, "device offline")
DRAINED = SendResult(sent=1, failed=0, unknown=0, suppressed=0, ended=SliceEnd.DRAINED)


def stopped(ended: SliceEnd, next_at: datetime | None = None) -> SendResult:
    return SendResult(sent=1, failed=0, unknown=0, suppressed=0, ended=ended, next_at=next_at, campaign_id=7)


def wait(why: str, seconds: float | None = None) -> LanePlan:
    until_at = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    return LanePlan(LaneAction.WAIT, why, until_at)


@pytest.fixture
def lane() -> LaneInput:
    """A lane whose waker has set it running."""
    return LaneInput(uuid4(), uuid4())


async def start(client: Client, lane: LaneInput) -> WorkflowHandle[DeviceWorkflow, str]:
    return await client.start_workflow(
        DeviceWorkflow.run,
        lane,
        id=device_workflow_id(lane.device_id),
        task_queue=WORKFLOW_QUEUE,
        search_attributes=lane_attributes(lane, "starting"),
    )


async def events(handle: WorkflowHandle[DeviceWorkflow, str], kind: EventType.ValueType) -> int:
    """How many events of a kind the newest run has had."""
    history = await handle.fetch_history()
    return sum(event.event_type == kind for event in history.events)


async def reach(handle: WorkflowHandle[DeviceWorkflow, str], kind: EventType.ValueType) -> None:
    """Return once the run has had an event of that kind."""
    async with asyncio.timeout(10):
        while not await events(handle, kind):  # noqa: ASYNC110 -- it happens on the server
            await asyncio.sleep(0.02)


async def test_a_lane_that_was_woken_sends_until_it_is_drained_and_ends(temporal_client: Client, lane: LaneInput) -> None:
    gap_over = stopped(SliceEnd.WINDOW, datetime.now(UTC))
    stand_ins = LaneStandIns([END], [gap_over, gap_over, DRAINED])
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send),
    ):
        handle = await start(temporal_client, lane)

        assert await handle.result() == "nothing left to send"

    assert stand_ins.order == ["send", "send", "send", "plan"]
    assert stand_ins.plans.calls == [LaneCheck(lane.device_id, lane.user_id, SliceEnd.DRAINED)]
    shown = (await handle.describe()).typed_search_attributes
    assert (shown[DEVICE], shown[CAMPAIGN], shown[STATUS]) == (str(lane.device_id), 7, "idle")


async def test_the_gap_after_each_message_is_a_durable_timer(skipper: TimeSkipper, lane: LaneInput) -> None:
    began_at = datetime.now(UTC)
    gaps = [stopped(SliceEnd.WINDOW, began_at + timedelta(hours=number)) for number in (1, 2, 3)]
    stand_ins = LaneStandIns([END], [*gaps, DRAINED])
    async with (
        workflow_worker(skipper.client, stand_ins.activities),
        device_worker(skipper.client, lane.device_id, stand_ins.send),
    ):
        handle = await start(skipper.client, lane)
        await handle.result()

    assert await events(handle, EventType.EVENT_TYPE_TIMER_FIRED) == 3
    assert await skipper.get_current_time(handle) - began_at > timedelta(hours=2.99)


async def test_a_window_that_does_not_say_when_to_go_on_is_planned_anew(temporal_client: Client, lane: LaneInput) -> None:
    stand_ins = LaneStandIns([END], [stopped(SliceEnd.WINDOW)])
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send),
        asyncio.timeout(10),
    ):
        assert await (await start(temporal_client, lane)).result() == "nothing left to send"

    assert stand_ins.plans.calls == [LaneCheck(lane.device_id, lane.user_id, SliceEnd.WINDOW)]


async def test_a_lane_that_hit_a_cap_tells_its_plan_and_waits_until_then(skipper: TimeSkipper, lane: LaneInput) -> None:
    free_at = datetime.now(UTC) + timedelta(hours=5)
    stand_ins = LaneStandIns([wait("cap of the device", 5 * 3600), SEND, END], [stopped(SliceEnd.CAP, free_at), DRAINED])
    async with (
        workflow_worker(skipper.client, stand_ins.activities),
        device_worker(skipper.client, lane.device_id, stand_ins.send),
    ):
        handle = await start(skipper.client, lane)
        await handle.result()

    assert stand_ins.order == ["send", "plan", "plan", "send", "plan"]
    assert stand_ins.plans.calls[0] == LaneCheck(lane.device_id, lane.user_id, SliceEnd.CAP, free_at)
    assert stand_ins.plans.calls[1] == LaneCheck(lane.device_id, lane.user_id)
    assert await skipper.get_current_time(handle) - datetime.now(UTC) > timedelta(hours=4.9)


async def test_a_lane_whose_device_is_away_moves_its_messages_and_looks_again(skipping_client: Client, lane: LaneInput) -> None:
    stand_ins = LaneStandIns([wait("device offline", 60), FAIL_OVER, END], [stopped(SliceEnd.OFFLINE)])
    async with (
        workflow_worker(skipping_client, stand_ins.activities),
        device_worker(skipping_client, lane.device_id, stand_ins.send),
    ):
        await (await start(skipping_client, lane)).result()

    assert stand_ins.order == ["send", "plan", "plan", "fail over", "plan"]
    assert stand_ins.failovers.calls == [lane]


async def test_a_device_that_moved_gives_up_a_send_that_no_host_takes_at_once(temporal_client: Client, lane: LaneInput) -> None:
    stand_ins = LaneStandIns([SEND, END], [DRAINED])
    async with workflow_worker(temporal_client, stand_ins.activities):
        handle = await start(temporal_client, lane)
        await reach(handle, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
        began = time.monotonic()
        await signal_moved(temporal_client, lane.device_id, 2)
        await stand_ins.plans.until(1)
        assert time.monotonic() - began < 3
        async with device_worker(temporal_client, lane.device_id, stand_ins.send):
            assert await handle.result() == "nothing left to send"

    assert stand_ins.order == ["plan", "send", "plan"]


async def test_a_device_that_moved_gives_up_a_send_that_hangs_at_its_old_host_at_once(
    temporal_client: Client, lane: LaneInput
) -> None:
    async def hang() -> SendResult:
        await asyncio.sleep(60)
        return DRAINED

    stand_ins = LaneStandIns([SEND, END], [hang, DRAINED])
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        # Two run at once on this queue, as at two hosts.
        device_worker(temporal_client, lane.device_id, stand_ins.send, at_once=2),
    ):
        handle = await start(temporal_client, lane)
        await stand_ins.sends.until(1)
        began = time.monotonic()
        await signal_moved(temporal_client, lane.device_id, 2)

        assert await handle.result() == "nothing left to send"
        assert time.monotonic() - began < 3

    assert stand_ins.order == ["send", "plan", "send", "plan"]


async def test_a_device_that_moved_cuts_short_what_its_lane_waits_for(temporal_client: Client, lane: LaneInput) -> None:
    stand_ins = LaneStandIns([wait("device offline", 3600), SEND, END], [stopped(SliceEnd.OFFLINE), DRAINED])
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send),
    ):
        handle = await start(temporal_client, lane)
        await stand_ins.plans.until(1)
        await reach(handle, EventType.EVENT_TYPE_TIMER_STARTED)
        await signal_moved(temporal_client, lane.device_id, 2)

        assert await handle.result() == "nothing left to send"

    assert stand_ins.order == ["send", "plan", "plan", "send", "plan"]


async def test_a_wake_cuts_short_what_a_lane_waits_for_and_it_sends_at_once(temporal_client: Client, lane: LaneInput) -> None:
    stand_ins = LaneStandIns([wait("campaign paused"), END], [DRAINED])
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send),
    ):
        handle = await start(temporal_client, lane)
        await stand_ins.plans.until(1)
        assert await signal_lanes(temporal_client, [lane]) == 0

        await handle.result()

    assert stand_ins.order == ["send", "plan", "send", "plan"]


@pytest.mark.parametrize("plan", [END, wait("campaign paused"), wait("next message due", 0)], ids=["end", "wait", "due"])
async def test_a_wake_that_comes_while_a_lane_plans_is_not_lost(
    temporal_client: Client, lane: LaneInput, plan: LanePlan
) -> None:
    async def plan_while_woken() -> LanePlan:
        await signal_lanes(temporal_client, [lane])
        return plan

    stand_ins = LaneStandIns([plan_while_woken, END], [DRAINED])
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send),
    ):
        await (await start(temporal_client, lane)).result()

    assert stand_ins.order == ["send", "plan", "send", "plan"]


async def test_a_lane_that_has_ended_is_brought_back_by_the_same_signal(temporal_client: Client, lane: LaneInput) -> None:
    stand_ins = LaneStandIns([END], [DRAINED])
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send),
    ):
        for _ in range(3):
            assert await signal_lanes(temporal_client, [lane]) == 0
            await temporal_client.get_workflow_handle(device_workflow_id(lane.device_id)).result()

    assert stand_ins.order == ["send", "plan"] * 3


async def test_a_lane_that_is_restarted_plans_anew_whether_or_not_it_is_open(temporal_client: Client, lane: LaneInput) -> None:
    stand_ins = LaneStandIns([wait("campaign paused"), END, END], [DRAINED])
    async with (
        workflow_worker(temporal_client, stand_ins.activities),
        device_worker(temporal_client, lane.device_id, stand_ins.send),
    ):
        handle = await start(temporal_client, lane)
        await stand_ins.plans.until(1)
        for _ in range(2):
            assert await restart_lanes(temporal_client, [lane]) == 0
            handle = temporal_client.get_workflow_handle_for(DeviceWorkflow.run, device_workflow_id(lane.device_id))
            assert await handle.result() == "nothing left to send"

    assert stand_ins.order[:3] == ["send", "plan", "plan"]
    assert stand_ins.order[-1] == "plan"


async def test_news_of_a_device_without_an_open_lane_start_none(temporal_client: Client, lane: LaneInput) -> None:
    await signal_moved(temporal_client, lane.device_id, 2)

    assert [one async for one in temporal_client.list_workflows()] == []


async def test_a_send_that_fails_is_looked_into_after_a_growing_pause(skipper: TimeSkipper, lane: LaneInput) -> None:
    broken = ApplicationError("broken", non_retryable=True)
    stand_ins = LaneStandIns([SEND, SEND, SEND, END], [broken, broken, broken, DRAINED])
    began_at = datetime.now(UTC)
    async with (
        workflow_worker(skipper.client, stand_ins.activities),
        device_worker(skipper.client, lane.device_id, stand_ins.send),
    ):
        handle = await start(skipper.client, lane)
        await handle.result()

    assert stand_ins.order == ["send", "plan"] * 4
    assert await events(handle, EventType.EVENT_TYPE_TIMER_FIRED) == 3
    assert await skipper.get_current_time(handle) - began_at > timedelta(seconds=2 + 4 + 8)


async def test_a_busy_lane_continues_as_new_and_goes_on(skipping_client: Client, lane: LaneInput) -> None:
    async def verbose_send() -> object:
        """A result that lets the history grow as hundreds of sends do."""
        counts = {"sent": 1, "failed": 0, "unknown": 0, "suppressed": 0}
        return {**counts, "ended": "window", "next_at": datetime.now(UTC).isoformat(), "padding": "x" * 1_500_000}

    stand_ins = LaneStandIns([END], [*[verbose_send] * 5, DRAINED])
    async with (
        workflow_worker(skipping_client, stand_ins.activities),
        device_worker(skipping_client, lane.device_id, stand_ins.send),
    ):
        handle = await start(skipping_client, lane)
        assert await handle.result() == "nothing left to send"

    assert stand_ins.order == ["send"] * 6 + ["plan"]
    first = skipping_client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    assert (await first.describe()).status is WorkflowExecutionStatus.CONTINUED_AS_NEW


async def test_a_lane_that_continues_as_new_between_sends_and_plan_plans_first(
    temporal_client: Client, lane: LaneInput
) -> None:
    stand_ins = LaneStandIns([END], [DRAINED])
    async with workflow_worker(temporal_client, stand_ins.activities):
        handle = await start(temporal_client, LaneInput(lane.device_id, lane.user_id, is_open=False))
        assert await handle.result() == "nothing left to send"

    assert stand_ins.order == ["plan"]


async def test_a_database_that_is_away_delays_a_plan_and_does_not_fail_the_lane(
    skipping_client: Client, lane: LaneInput
) -> None:
    stand_ins = LaneStandIns([OSError("away"), OSError("away"), END], [DRAINED])
    async with (
        workflow_worker(skipping_client, stand_ins.activities),
        device_worker(skipping_client, lane.device_id, stand_ins.send),
    ):
        assert await (await start(skipping_client, lane)).result() == "nothing left to send"


@pytest.mark.parametrize("error", [NotFound("no such lane"), Invalid.field("phone", "is empty"), InvalidPhone("is empty")])
async def test_an_error_that_no_new_try_heals_fails_the_lane_for_everybody_to_see(
    skipping_client: Client, lane: LaneInput, error: SiaranError
) -> None:
    stand_ins = LaneStandIns([error], [DRAINED])
    async with (
        workflow_worker(skipping_client, stand_ins.activities),
        device_worker(skipping_client, lane.device_id, stand_ins.send),
        asyncio.timeout(10),
    ):
        handle = await start(skipping_client, lane)
        with pytest.raises(WorkflowFailureError):
            await handle.result()

    assert len(stand_ins.plans.calls) == 1
    assert (await handle.describe()).status is WorkflowExecutionStatus.FAILED


def test_every_error_that_no_new_try_heals_is_named_in_the_policies() -> None:
    """Temporal knows errors by the name of their class alone: a subclass has to be named, too."""
    named = set(DATABASE["retry_policy"].non_retryable_error_types)
    hopeless: list[type[SiaranError]] = [NotFound, Invalid, *Invalid.__subclasses__()]

    assert {kind.__name__ for kind in hopeless} <= named
    assert BULK["retry_policy"].non_retryable_error_types == DATABASE["retry_policy"].non_retryable_error_types
