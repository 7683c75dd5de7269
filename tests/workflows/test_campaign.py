"""A campaign's workflow: its timer, its signals, its end, and what comes after it."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import TimeSkipper

from siaran.contracts import (
    WORKFLOW_QUEUE,
    CampaignAction,
    CampaignInput,
    CampaignPlan,
    ExpansionResult,
    RetryInput,
    campaign_workflow_id,
)
from siaran.search_attributes import CAMPAIGN, STATUS, USER
from siaran.temporal import campaign_attributes, nudge_campaign, request_retry
from tests.workflows.conftest import workflow_worker
from tests.workflows.stand_ins import CampaignStandIns
from workflows.campaign import CampaignWorkflow

CAMPAIGN_7 = CampaignInput(7, uuid4())
EXPAND = CampaignPlan(CampaignAction.EXPAND, "sending")
SENT = CampaignPlan(CampaignAction.END, "sent", done=10)
PAUSED = CampaignPlan(CampaignAction.SLEEP, "paused")


def follow(seconds: float = 10) -> CampaignPlan:
    return CampaignPlan(CampaignAction.FOLLOW, "sending", datetime.now(UTC) + timedelta(seconds=seconds), pending=5)


def sleep(days: float) -> CampaignPlan:
    return CampaignPlan(CampaignAction.SLEEP, "scheduled", datetime.now(UTC) + timedelta(days=days))


async def start(client: Client) -> WorkflowHandle[CampaignWorkflow, str]:
    return await client.start_workflow(
        CampaignWorkflow.run,
        CAMPAIGN_7,
        id=campaign_workflow_id(7),
        task_queue=WORKFLOW_QUEUE,
        search_attributes=campaign_attributes(CAMPAIGN_7, "starting"),
    )


async def events(handle: WorkflowHandle[CampaignWorkflow, str], kind: EventType.ValueType) -> int:
    """How many events of a kind the newest run has had."""
    history = await handle.fetch_history()
    return sum(event.event_type == kind for event in history.events)


async def test_a_campaign_sleeps_for_a_month_and_then_goes_out(skipper: TimeSkipper) -> None:
    stand_ins = CampaignStandIns(sleep(33), EXPAND, follow(33 * 86400 + 10), SENT)
    async with workflow_worker(skipper.client, stand_ins.activities):
        handle = await start(skipper.client)

        assert await handle.result() == "sent: 10 messages ended"

    assert stand_ins.order == ["plan", "plan", "expand", "plan", "plan"]
    assert await skipper.get_current_time(handle) - datetime.now(UTC) > timedelta(days=32.9)


async def test_a_campaign_that_is_rescheduled_or_started_now_looks_at_once(temporal_client: Client) -> None:
    stand_ins = CampaignStandIns(sleep(30), sleep(60), EXPAND, SENT)
    async with workflow_worker(temporal_client, stand_ins.activities):
        handle = await start(temporal_client)
        await stand_ins.plans.until(1)
        await nudge_campaign(temporal_client, CAMPAIGN_7)
        await stand_ins.plans.until(2)
        assert stand_ins.order == ["plan", "plan"]
        await nudge_campaign(temporal_client, CAMPAIGN_7)

        assert await handle.result() == "sent: 10 messages ended"

    assert stand_ins.order == ["plan", "plan", "plan", "expand", "plan"]


async def test_a_paused_campaign_waits_without_a_timer_until_it_is_resumed(temporal_client: Client) -> None:
    stand_ins = CampaignStandIns(PAUSED, follow(3600), SENT)
    async with workflow_worker(temporal_client, stand_ins.activities):
        handle = await start(temporal_client)
        await stand_ins.plans.until(1)
        await asyncio.sleep(0.3)
        assert stand_ins.order == ["plan"]
        assert await events(handle, EventType.EVENT_TYPE_TIMER_STARTED) == 0
        for calls in (2, 3):
            await nudge_campaign(temporal_client, CAMPAIGN_7)
            await stand_ins.plans.until(calls)

        assert await handle.result() == "sent: 10 messages ended"


async def test_a_cancelled_campaign_cancels_what_is_pending_and_ends(skipping_client: Client) -> None:
    settle = CampaignPlan(CampaignAction.SETTLE_CANCELLED, "cancelled", pending=3)
    stand_ins = CampaignStandIns(settle, CampaignPlan(CampaignAction.END, "cancelled", done=3))
    async with workflow_worker(skipping_client, stand_ins.activities):
        assert await (await start(skipping_client)).result() == "cancelled: 3 messages ended"

    assert stand_ins.order == ["plan", "cancel", "plan"]


async def test_a_campaign_whose_expansion_was_stopped_looks_for_a_device_every_ten_seconds(skipper: TimeSkipper) -> None:
    stand_ins = CampaignStandIns(EXPAND, EXPAND, EXPAND, SENT)
    stopped = ExpansionResult(messages=0, devices=0, finished=False)
    stand_ins.expansions._answers.extendleft([stopped, stopped])
    async with workflow_worker(skipper.client, stand_ins.activities):
        handle = await start(skipper.client)
        await handle.result()

    assert stand_ins.order == ["plan", "expand", "plan", "expand", "plan", "expand", "plan"]
    assert await events(handle, EventType.EVENT_TYPE_TIMER_FIRED) == 2
    assert await skipper.get_current_time(handle) - datetime.now(UTC) > timedelta(seconds=15)


async def test_devices_that_nothing_can_be_moved_between_are_left_alone_while_the_campaign_goes_on(
    skipper: TimeSkipper,
) -> None:
    began_at = datetime.now(UTC)
    uneven = [
        CampaignPlan(CampaignAction.REBALANCE, "sending", began_at + timedelta(seconds=seconds), pending=5)
        for seconds in (3, 3, 6, 70, 73)
    ]
    stand_ins = CampaignStandIns(*uneven, SENT)
    async with workflow_worker(skipper.client, stand_ins.activities):
        handle = await start(skipper.client)
        await handle.result()

    assert stand_ins.order == ["plan", "rebalance", "plan", "plan", "plan", "plan", "rebalance", "plan"]
    assert await events(handle, EventType.EVENT_TYPE_TIMER_FIRED) == 3


async def test_news_that_come_while_a_campaign_decides_to_end_are_not_lost(temporal_client: Client) -> None:
    async def end_while_signalled() -> CampaignPlan:
        await nudge_campaign(temporal_client, CAMPAIGN_7)
        return SENT

    stand_ins = CampaignStandIns(end_while_signalled, SENT)
    async with workflow_worker(temporal_client, stand_ins.activities):
        await (await start(temporal_client)).result()

    assert stand_ins.order == ["plan", "plan"]


async def test_a_retry_that_comes_while_a_campaign_decides_to_end_is_carried_out(temporal_client: Client) -> None:
    retry = RetryInput(7, CAMPAIGN_7.user_id, uuid4())

    async def end_while_signalled() -> CampaignPlan:
        await request_retry(temporal_client, retry)
        return SENT

    stand_ins = CampaignStandIns(end_while_signalled, SENT)
    async with workflow_worker(temporal_client, stand_ins.activities):
        await (await start(temporal_client)).result()

    assert stand_ins.order == ["plan", "retry", "plan"]
    assert stand_ins.retries.calls == [retry]


async def test_a_retry_after_the_end_is_a_signal_that_opens_a_new_run(temporal_client: Client) -> None:
    stand_ins = CampaignStandIns(SENT)
    retries = [RetryInput(7, CAMPAIGN_7.user_id, uuid4()) for _ in range(2)]
    async with workflow_worker(temporal_client, stand_ins.activities):
        first = await start(temporal_client)
        await first.result()
        assert await request_retry(temporal_client, retries[0])
        second = temporal_client.get_workflow_handle(campaign_workflow_id(7))
        assert await second.result() == "sent: 10 messages ended"
        assert await request_retry(temporal_client, retries[1])
        await second.result()

    description = await second.describe()
    assert description.run_id != first.first_execution_run_id
    assert stand_ins.order == ["plan", "retry", "plan", "retry", "plan"]
    assert stand_ins.retries.calls == retries


async def test_a_database_that_is_away_delays_a_campaign_and_does_not_fail_it(skipping_client: Client) -> None:
    stand_ins = CampaignStandIns(OSError("away"), OSError("away"), SENT)
    async with workflow_worker(skipping_client, stand_ins.activities):
        assert await (await start(skipping_client)).result() == "sent: 10 messages ended"


async def test_a_campaign_that_goes_on_for_long_continues_as_new_and_keeps_its_way(skipping_client: Client) -> None:
    async def verbose_plan() -> object:
        return {"action": "follow", "status": "sending", "until_at": datetime.now(UTC).isoformat(), "padding": "x" * 1_500_000}

    stand_ins = CampaignStandIns(*[verbose_plan] * 5, SENT)
    async with workflow_worker(skipping_client, stand_ins.activities):
        handle = await start(skipping_client)
        assert await handle.result() == "sent: 10 messages ended"

    assert stand_ins.order == ["plan"] * 6
    first = skipping_client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    assert (await first.describe()).status is WorkflowExecutionStatus.CONTINUED_AS_NEW


async def test_lists_of_executions_say_whose_campaign_it_is_and_what_it_waits_for(temporal_client: Client) -> None:
    reason = "every device with messages of this campaign waits: device offline"
    waiting = CampaignPlan(CampaignAction.FOLLOW, "waiting", datetime.now(UTC) + timedelta(hours=1), reason, pending=5)
    stand_ins = CampaignStandIns(waiting, waiting, SENT)
    async with workflow_worker(temporal_client, stand_ins.activities):
        handle = await start(temporal_client)
        await stand_ins.plans.until(1)
        await nudge_campaign(temporal_client, CAMPAIGN_7)
        await stand_ins.plans.until(2)
        await nudge_campaign(temporal_client, CAMPAIGN_7)
        await handle.result()

    shown = (await handle.describe()).typed_search_attributes
    assert (shown[CAMPAIGN], shown[USER], shown[STATUS]) == (7, str(CAMPAIGN_7.user_id), "sent")
    upserts = await events(handle, EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES)
    assert upserts == 2, "written only when it changes"
