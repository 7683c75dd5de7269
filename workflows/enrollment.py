"""One contact's walk through a sequence: a durable timer for each step, and a ledger row when it is due."""

import contextlib
from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from siaran.contracts import EnrollmentInput, StepAction, StepOrder, StepPlan, StepRetry
    from siaran.search_attributes import STATUS
    from workflows.options import DATABASE, STEP

LONG_HISTORY = 50
"""Events after which a run hands over to the next: contacts are open for months, and a short history is replayed soon."""


@workflow.defn
class EnrollmentWorkflow:
    """The contact's row says where they stand; the workflow keeps nothing but the instant at which to look again."""

    @workflow.init
    def __init__(self, enrollment: EnrollmentInput) -> None:
        self._enrollment = enrollment
        self._next_at: datetime | None = enrollment.next_at
        self._must_look = enrollment.next_at is None
        self._retries: deque[StepRetry] = deque()
        self._shown = ""
        self._why = "the first step"

    @workflow.signal
    def changed(self) -> None:
        """The contact's row, or something that it depends on, has changed."""
        self._must_look = True

    @workflow.signal
    def retry_failed(self, retry: StepRetry) -> None:
        """Send a failed step again; also after the walk has ended."""
        if retry not in self._retries:
            self._retries.append(retry)

    @workflow.run
    async def run(self, enrollment: EnrollmentInput) -> str:
        """Take one step after another until the walk is over; returns how far it came, and why it ended."""
        while True:
            await self._retry()
            if self._must_look or (self._next_at is not None and self._next_at <= workflow.now()):
                plan = await self._look()
                if plan.action is StepAction.END and not self._news():
                    return f"day {plan.day} of {plan.days}: {plan.why}"
            if self._is_long() and not self._news():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(replace(enrollment, next_at=self._next_at, lists_days=False))
            await self._wait()

    def _news(self) -> bool:
        return self._must_look or bool(self._retries)

    def _is_long(self) -> bool:
        info = workflow.info()
        return info.is_continue_as_new_suggested() or info.get_current_history_length() > LONG_HISTORY

    async def _look(self) -> StepPlan:
        self._must_look = False
        order = StepOrder(self._enrollment.enrollment_id, self._enrollment.user_id, workflow.now())
        plan: StepPlan = await workflow.execute_local_activity(
            "take_step", order, result_type=StepPlan, summary="the step that is due", **STEP
        )
        self._next_at, self._why = plan.next_at, plan.why
        self._show(plan)
        return plan

    async def _retry(self) -> None:
        while self._retries:
            await workflow.execute_activity(
                "retry_step", self._retries[0], result_type=int, summary="sending a failed step again", **DATABASE
            )
            self._retries.popleft()

    async def _wait(self) -> None:
        """A durable timer until the next step, which a signal cuts short; without an instant only that ends it."""
        if self._news():
            return
        limit = None if self._next_at is None else max(self._next_at - workflow.now(), timedelta(milliseconds=1))
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(self._news, timeout=limit, timeout_summary=f"waiting: {self._why}")

    def _show(self, plan: StepPlan) -> None:
        """Show how far the contact is on the execution's page, and in lists once the walk is over.

        A list costs the server a write that is dearer than all others of a step together.
        """
        status = f"day {plan.day} of {plan.days}, {plan.why}"
        if status != self._shown:
            self._shown = status
            if self._enrollment.lists_days or plan.action is StepAction.END:
                workflow.upsert_search_attributes([STATUS.value_set(status)])
            workflow.set_current_details(status)
