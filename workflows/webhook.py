"""A webhook: delivers what is in the outbox for one address, until nothing is pending."""

import contextlib
from dataclasses import replace
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from siaran.contracts import WebhookInput, WebhookReach, WebhookRound
    from siaran.search_attributes import STATUS
    from workflows.options import WEBHOOK


LEAST_WAIT = timedelta(milliseconds=200)
"""However the clocks of the servers differ, a round that found nothing due is not repeated without a pause."""


@workflow.defn
class WebhookWorkflow:
    """The outbox says what is due; signals say only that it wants looking at. Between tries there is a durable timer."""

    @workflow.init
    def __init__(self, order: WebhookInput) -> None:
        self._order = order
        self._has_news = False
        self._delivered = 0
        self._shown = ""

    @workflow.signal
    def news(self) -> None:
        """Something has been written to the outbox."""
        self._has_news = True

    @workflow.signal
    def changed(self) -> None:
        """The webhook has changed, or its owner wants a try at once: how the address did until now does not count."""
        self._order = replace(self._order, reach=WebhookReach())
        self._has_news = True

    @workflow.run
    async def run(self, order: WebhookInput) -> str:
        """Deliver until nothing is pending; returns how many deliveries this run has made."""
        while True:
            await self._hold()
            if workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._order)
            if self._held() > timedelta():
                continue
            self._has_news = False
            before = self._order
            result: WebhookRound = await workflow.execute_activity(
                "deliver_webhooks", before, result_type=WebhookRound, summary="delivering", **WEBHOOK
            )
            self._delivered += result.delivered
            if self._order is before:  # else somebody has changed the webhook meanwhile
                self._order = replace(before, reach=result.reach)
            if result.next_at is None and not self._has_news:
                return f"{self._delivered} delivered to {order.target}"
            self._show()
            if result.next_at is not None and not self._has_news:
                await self._wait(result.next_at - workflow.now())

    async def _hold(self) -> None:
        """Leave an address that is down alone, whatever else is written for it meanwhile."""
        limit = self._held()
        if limit > timedelta():
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(self._is_over, timeout=limit, timeout_summary="the address is down")

    def _is_over(self) -> bool:
        return self._held() <= timedelta() or workflow.info().is_continue_as_new_suggested()

    def _held(self) -> timedelta:
        until_at = self._order.reach.held_until_at
        return timedelta() if until_at is None else until_at - workflow.now()

    async def _wait(self, limit: timedelta) -> None:
        if self._order.reach.held_until_at is None:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._has_news,
                    timeout=max(limit, LEAST_WAIT),
                    timeout_summary="until the next try of what has failed",
                )

    def _show(self) -> None:
        """Show in lists of executions whether the address takes what is sent; written only when that changes."""
        status = "the address is down" if self._order.reach.held_until_at is not None else "delivering"
        if status != self._shown:
            self._shown = status
            workflow.upsert_search_attributes([STATUS.value_set(status)])
