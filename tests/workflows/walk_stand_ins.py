"""Stand-ins for what the workflows of sequences and of their contacts ask for; the test decides what they are told."""

from collections.abc import Callable, Sequence
from typing import Any

from temporalio import activity

from siaran.contracts import EnrollingResult, SequenceInput, StepOrder, StepPlan, StepRetry
from tests.workflows.stand_ins import Answer, Script


class WalkStandIns:
    """What a contact's workflow asks for."""

    def __init__(self, *plans: Answer) -> None:
        self.plans = Script(*plans)
        self.retries = Script(1)
        self.order: list[str] = []

    @activity.defn(name="take_step")
    async def take_step(self, order: StepOrder) -> StepPlan:
        self.order.append("step")
        plan: StepPlan = await self.plans.answer(order)
        return plan

    @activity.defn(name="retry_step")
    async def retry_step(self, retry: StepRetry) -> int:
        self.order.append("retry")
        return int(await self.retries.answer(retry))

    @property
    def activities(self) -> Sequence[Callable[..., Any]]:
        """All of them, for a worker."""
        return [self.take_step, self.retry_step]


class EnrollStandIns:
    """What a sequence's workflow asks for."""

    def __init__(self, *results: Answer) -> None:
        self.results = Script(*results)

    @activity.defn(name="enroll")
    async def enroll(self, order: SequenceInput) -> EnrollingResult:
        result: EnrollingResult = await self.results.answer(order)
        return result

    @property
    def activities(self) -> Sequence[Callable[..., Any]]:
        """All of them, for a worker."""
        return [self.enroll]
