"""A campaign: sleeps until its time, has its audience expanded, and follows its messages to the end."""

import contextlib
from collections import deque
from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from siaran.contracts import CampaignAction, CampaignInput, CampaignPlan, ExpansionResult, RetryInput
    from siaran.search_attributes import STATUS
    from workflows.options import BULK, DATABASE

NO_DEVICE_INTERVAL = timedelta(seconds=10)
"""How often a campaign whose user has no linked device looks for one."""

BALANCED_INTERVAL = timedelta(seconds=60)
"""How long devices that nothing could be moved between are left as they are: their contacts have chats with them, say."""


@workflow.defn
class CampaignWorkflow:
    """The campaign's row says what phase it is in; a signal says only that the row, or a retry request, wants looking at."""

    @workflow.init
    def __init__(self, campaign: CampaignInput) -> None:
        self._campaign = campaign
        self._changed = False
        self._retries: deque[RetryInput] = deque()
        self._shown = ""
        self._balances_at: datetime | None = None

    @workflow.signal
    def changed(self) -> None:
        """The campaign's row has changed, or its last open message has ended."""
        self._changed = True

    @workflow.signal
    def retry_failed(self, retry: RetryInput) -> None:
        """Send failed messages again, as a row of `campaign_retries` says; also after the campaign has ended."""
        self._retries.append(retry)

    @workflow.run
    async def run(self, campaign: CampaignInput) -> str:
        """Move the campaign on until it has ended; returns its final status and counts."""
        while True:
            await self._retry()
            self._changed = False
            plan = await workflow.execute_activity(
                "plan_campaign", campaign, result_type=CampaignPlan, summary="what next", **DATABASE
            )
            self._show(plan)
            match plan.action:
                case CampaignAction.EXPAND:
                    await self._expand()
                case CampaignAction.REBALANCE if self._balances_at is None or workflow.now() >= self._balances_at:
                    await self._rebalance()
                case CampaignAction.SETTLE_CANCELLED:
                    await workflow.execute_activity(
                        "cancel_pending", campaign, result_type=int, summary="cancelling what is pending", **BULK
                    )
                case CampaignAction.SLEEP | CampaignAction.FOLLOW | CampaignAction.REBALANCE:
                    await self._wait(plan)
                case CampaignAction.END if not self._news():
                    return f"{plan.status}: {plan.done} messages ended"
            if workflow.info().is_continue_as_new_suggested() and not self._retries:
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(campaign)

    def _news(self) -> bool:
        return self._changed or bool(self._retries)

    async def _retry(self) -> None:
        while self._retries:
            await workflow.execute_activity(
                "retry_failed", self._retries[0], result_type=int, summary="sending failed messages again", **BULK
            )
            self._retries.popleft()

    async def _expand(self) -> None:
        result = await workflow.execute_activity(
            "expand_audience", self._campaign, result_type=ExpansionResult, summary="writing the messages", **BULK
        )
        if not result.finished and not result.has_more:
            await self._pause(NO_DEVICE_INTERVAL, "no device, or paused while the messages were written")

    async def _rebalance(self) -> None:
        moved = await workflow.execute_activity(
            "rebalance", self._campaign, result_type=int, summary="evening out the devices", **BULK
        )
        if not moved:
            self._balances_at = workflow.now() + BALANCED_INTERVAL

    async def _wait(self, plan: CampaignPlan) -> None:
        limit = None if plan.until_at is None else max(plan.until_at - workflow.now(), timedelta(milliseconds=100))
        sleeps = plan.action is CampaignAction.SLEEP
        summary = "until the scheduled time" if sleeps else f"{_in_brief(plan)}, {plan.pending} messages pending"
        await self._pause(limit, summary)

    async def _pause(self, limit: timedelta | None, summary: str) -> None:
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(self._news, timeout=limit, timeout_summary=summary)

    def _show(self, plan: CampaignPlan) -> None:
        """Show phase and reason in lists of executions; written only when they change."""
        reason = f": {plan.reason}" if plan.reason else ""
        workflow.set_current_details(f"{plan.status}{reason}\n\n{plan.pending} messages pending, {plan.done} ended")
        status = _in_brief(plan)
        if status != self._shown:
            self._shown = status
            workflow.upsert_search_attributes([STATUS.value_set(status)])


def _in_brief(plan: CampaignPlan) -> str:
    """Phase and cause; a reason goes from the general to the particular, and a list has room for the latter only."""
    cause = plan.reason.rpartition(": ")[2]
    return f"{plan.status}: {cause}" if cause else plan.status
