"""The lane of a device: sends its due messages one activity after another, and ends when nothing is left."""

import asyncio
import contextlib
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from siaran.contracts import (
        FailoverResult,
        LaneAction,
        LaneCheck,
        LaneInput,
        LanePlan,
        Moved,
        SendInput,
        SendResult,
        SliceEnd,
        device_queue,
    )
    from siaran.search_attributes import CAMPAIGN, STATUS
    from workflows.options import BULK, DATABASE, SEND

BACK_OFF = timedelta(seconds=1)
BACK_OFF_LIMIT = timedelta(seconds=30)


@workflow.defn
class DeviceWorkflow:
    """Nothing sends except a device's lane. What is due stands in the ledger; the lane keeps no list of its own."""

    @workflow.init
    def __init__(self, lane: LaneInput) -> None:
        self._lane = lane
        self._check = LaneCheck(lane.device_id, lane.user_id)
        self._woken = False
        self._moved = False
        self._failures = 0
        self._shown = ""
        self._campaign: int | None = None

    @workflow.signal
    def wake(self) -> None:
        """Rows have been committed for this device; whoever signals has set the lane running."""
        self._woken = True

    @workflow.signal
    def moved(self, _host: Moved) -> None:
        """Another host holds the device now: a send that waits for the old one is of no use."""
        self._moved = True

    @workflow.run
    async def run(self, lane: LaneInput) -> str:
        """Send, wait or end, as the ledger says; returns why it ended."""
        must_plan = not lane.is_open
        while True:
            if workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(LaneInput(lane.device_id, lane.user_id, is_open=not must_plan))
            if not must_plan:
                must_plan = await self._send()
                continue
            self._woken = self._moved = False
            plan = await self._plan()
            match plan.action:
                case LaneAction.SEND:
                    must_plan = False
                case LaneAction.FAIL_OVER:
                    await self._fail_over(plan)
                case LaneAction.WAIT:
                    must_plan = not await self._wait(plan)
                case LaneAction.END if not self._woken:
                    self._show("idle")
                    return "nothing left to send"
                case LaneAction.END:
                    must_plan = False

    async def _plan(self) -> LanePlan:
        plan: LanePlan = await workflow.execute_activity(
            "plan_lane", self._check, result_type=LanePlan, summary="what next", **DATABASE
        )
        self._check = LaneCheck(self._lane.device_id, self._lane.user_id)
        return plan

    async def _fail_over(self, plan: LanePlan) -> None:
        self._show(f"moving messages: {plan.why}")
        await workflow.execute_activity(
            "fail_over", self._lane, result_type=FailoverResult, summary=f"moving messages away: {plan.why}", **BULK
        )

    async def _wait(self, plan: LanePlan) -> bool:
        """Wait as planned; True when a waker has set the lane running, False when it has to plan again."""
        self._show(f"waiting: {plan.why}")
        await self._pause_until(plan.until_at, f"waiting: {plan.why}", woken=True)
        return self._woken

    async def _send(self) -> bool:
        """Run one send activity and the gap after it; True when the lane has to plan."""
        self._show("sending")
        self._moved = False
        result = await self._race()
        if result is None:
            return True
        self._failures = 0
        if result.campaign_id is not None and result.campaign_id != self._campaign:
            self._campaign = result.campaign_id
            workflow.upsert_search_attributes([CAMPAIGN.value_set(result.campaign_id)])
        if result.ended is SliceEnd.WINDOW and result.next_at is not None:
            await self._pause_until(result.next_at, "gap before the next message", woken=False)
            return False
        self._check = LaneCheck(self._lane.device_id, self._lane.user_id, result.ended, result.next_at)
        return True

    async def _race(self) -> SendResult | None:
        """The send activity against the news that the device has moved; None when it has to be planned anew."""
        send: asyncio.Task[SendResult] = workflow.start_activity(
            "send",
            SendInput(self._lane.device_id, self._lane.user_id),
            task_queue=device_queue(self._lane.device_id),
            result_type=SendResult,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            summary="due messages of this device",
            **SEND,
        )
        await workflow.wait_condition(lambda: send.done() or self._moved)
        if not send.done():
            send.cancel()
            # Not awaited by itself: a cancel of the whole lane could then be taken for the end of its send.
            await workflow.wait([send])
        try:
            return send.result()
        except (ActivityError, asyncio.CancelledError):
            if not self._moved:
                # Lane state comes from the ledger; a failed activity only says that somebody has to look.
                self._failures += 1
                back_off = min(BACK_OFF * 2 ** min(self._failures, 10), BACK_OFF_LIMIT)
                await self._pause_until(workflow.now() + back_off, "back-off after a failed send", woken=False)
            return None

    async def _pause_until(self, until_at: datetime | None, summary: str, *, woken: bool) -> None:
        """A durable timer that a move, and where asked a wake, cuts short; without an instant only those end it."""
        timeout = None if until_at is None else max(until_at - workflow.now(), timedelta(0))
        if timeout == timedelta(0):
            return
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._moved or (woken and self._woken), timeout=timeout, timeout_summary=summary
            )

    def _show(self, status: str) -> None:
        """Show what the lane does in lists of executions; written only when it changes."""
        if status != self._shown:
            self._shown = status
            workflow.upsert_search_attributes([STATUS.value_set(status)])
            workflow.set_current_details(status)
