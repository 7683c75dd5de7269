"""A contact's workflow: its timers, its signals, its short histories, and what comes after its end."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import TimeSkipper

from siaran.contracts import (
    EnrollmentInput,
    StepAction,
    StepOrder,
    StepPlan,
    StepRetry,
    enrollment_workflow_id,
)
from siaran.search_attributes import SEQUENCE, STATUS, USER
from siaran.sequence_signals import request_step_retry, signal_enrollments, start_enrollments
from tests.workflows.conftest import workflow_worker
from tests.workflows.walk_stand_ins import WalkStandIns

CONTACT = EnrollmentInput(17, uuid4(), 4, uuid4())
ID = enrollment_workflow_id(CONTACT.sequence_id, CONTACT.lead_id)
RETRY = StepRetry(17, CONTACT.user_id, 99)
PARKED = StepPlan(StepAction.WAIT, None, 1, 3, "paused")
OVER = StepPlan(StepAction.END, None, 3, 3, "completed")


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def wait(days: float, day: int = 1) -> StepPlan:
    return StepPlan(StepAction.WAIT, in_days(days), day, 3, "next 2026-03-04 09:00")


async def start(client: Client, next_at: datetime | None) -> None:
    assert await start_enrollments(client, [replace(CONTACT, next_at=next_at)]) == [True]


async def end(client: Client) -> str:
    async with asyncio.timeout(20):
        result: str = await client.get_workflow_handle(ID).result()
        return result


async def test_a_contact_sleeps_until_each_step_and_then_takes_it(skipper: TimeSkipper) -> None:
    stand_ins = WalkStandIns(wait(2), wait(3, 2), OVER)
    async with workflow_worker(skipper.client, stand_ins.activities):
        first = in_days(1)
        await start(skipper.client, first)
        assert await end(skipper.client) == "day 3 of 3: completed"

    orders: list[StepOrder] = stand_ins.plans.calls
    late = [order.now - due for order, due in zip(orders, [first, in_days(2), in_days(3)], strict=True)]
    assert all(timedelta(seconds=-20) < one < timedelta(seconds=20) for one in late), late
    assert {(order.enrollment_id, order.user_id) for order in orders} == {(17, CONTACT.user_id)}


async def test_a_contact_whose_time_is_not_known_is_looked_at_at_once(temporal_client: Client) -> None:
    stand_ins = WalkStandIns(OVER)
    async with workflow_worker(temporal_client, stand_ins.activities):
        await start(temporal_client, None)
        await end(temporal_client)

    assert stand_ins.order == ["step"]


async def test_a_change_is_looked_at_at_once_however_far_the_step_is(temporal_client: Client) -> None:
    stand_ins = WalkStandIns(wait(9), PARKED, OVER)
    async with workflow_worker(temporal_client, stand_ins.activities):
        await start(temporal_client, in_days(9))
        for looks in (1, 2, 3):
            assert await signal_enrollments(temporal_client, [CONTACT]) == 1
            await stand_ins.plans.until(looks)
        await end(temporal_client)

    assert len(stand_ins.plans.calls) == 3


async def test_starting_twice_starts_once_and_a_signal_after_the_end_begins_a_new_run(temporal_client: Client) -> None:
    stand_ins = WalkStandIns(OVER)
    async with workflow_worker(temporal_client, stand_ins.activities):
        await start(temporal_client, in_days(9))
        await start(temporal_client, None)
        assert stand_ins.order == []
        for _ in range(2):
            await signal_enrollments(temporal_client, [CONTACT])
            await end(temporal_client)

    assert stand_ins.order == ["step", "step"]


async def test_a_retry_is_carried_out_in_a_walk_and_after_its_end(temporal_client: Client) -> None:
    stand_ins = WalkStandIns(PARKED, OVER)
    async with workflow_worker(temporal_client, stand_ins.activities):
        await start(temporal_client, in_days(9))
        assert await request_step_retry(temporal_client, CONTACT, RETRY)
        await stand_ins.retries.until(1)
        assert stand_ins.order == ["retry"], "it changes nothing about when the next step is due"
        stand_ins.plans.replace(OVER)
        await signal_enrollments(temporal_client, [CONTACT])
        await end(temporal_client)
        assert await request_step_retry(temporal_client, CONTACT, RETRY)
        await end(temporal_client)

    assert stand_ins.retries.calls == [RETRY, RETRY]


async def test_a_database_that_is_away_only_delays_a_step(temporal_client: Client) -> None:
    stand_ins = WalkStandIns(ApplicationError("away", type="OperationalError"), OVER)
    async with workflow_worker(temporal_client, stand_ins.activities):
        await start(temporal_client, None)
        assert await end(temporal_client) == "day 3 of 3: completed"

    assert stand_ins.order == ["step", "step"]


async def test_a_walk_of_a_year_has_short_histories_and_forgets_nothing(skipper: TimeSkipper) -> None:
    days = 60
    stand_ins = WalkStandIns(*(wait(day + 1, day) for day in range(1, days)), OVER)
    async with workflow_worker(skipper.client, stand_ins.activities):
        await start(skipper.client, in_days(1))
        await end(skipper.client)

    assert len(stand_ins.plans.calls) == days
    runs = [run async for run in skipper.client.list_workflows(f"WorkflowId = '{ID}'")]
    assert sum(run.status is WorkflowExecutionStatus.CONTINUED_AS_NEW for run in runs) >= 5
    history = await skipper.client.get_workflow_handle(ID, run_id=runs[-1].run_id).fetch_history()
    assert len(history.events) < 80


async def test_an_execution_says_what_it_waits_for_and_lists_say_how_it_ended(temporal_client: Client) -> None:
    stand_ins = WalkStandIns(wait(9, 2), OVER)
    async with workflow_worker(temporal_client, stand_ins.activities):
        await start(temporal_client, None)
        await stand_ins.plans.until(1)
        handle = temporal_client.get_workflow_handle(ID)
        async with asyncio.timeout(10):
            while not (details := await current_details(handle)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        open_attributes = (await handle.describe()).typed_search_attributes
        history = await handle.fetch_history()
        await signal_enrollments(temporal_client, [CONTACT])
        await end(temporal_client)
        attributes = (await handle.describe()).typed_search_attributes

    assert details == "day 2 of 3, next 2026-03-04 09:00"
    assert open_attributes[STATUS] == "under way"
    assert attributes[STATUS] == "day 3 of 3, completed"
    assert (attributes[USER], attributes[SEQUENCE]) == (str(CONTACT.user_id), str(CONTACT.sequence_id))
    timers = [event for event in history.events if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED]
    assert b"waiting: next 2026-03-04 09:00" in timers[-1].user_metadata.summary.data


async def current_details(handle: WorkflowHandle[Any, Any]) -> str:
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details
