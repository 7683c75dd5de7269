"""Activities that stand in for the real ones, under the same names: what workflows are told, the test decides."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from temporalio import activity

from siaran.contracts import (
    CampaignInput,
    CampaignPlan,
    ExpansionResult,
    FailoverResult,
    LaneCheck,
    LaneInput,
    LanePlan,
    RetryInput,
    SendInput,
)

Answer = Any
"""A value to return, an error to raise, or a function that is awaited for a value."""


class Script:
    """Answers in their order, the last one for ever; `calls` keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = deque(answers)
        self.calls: list[Any] = []
        self.called = asyncio.Condition()

    def replace(self, *answers: Answer) -> None:
        """Give these answers from now on."""
        self._answers = deque(answers)

    async def answer(self, question: Any) -> Any:
        """The next answer."""
        self.calls.append(question)
        async with self.called:
            self.called.notify_all()
        answer = self._answers.popleft() if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return await answer() if callable(answer) else answer

    async def until(self, calls: int, *, within: float = 10.0) -> None:
        """Return once it has been asked so often."""
        async with asyncio.timeout(within), self.called:
            await self.called.wait_for(lambda: len(self.calls) >= calls)


class CampaignStandIns:
    """What a campaign's workflow asks for."""

    def __init__(self, *plans: Answer) -> None:
        self.plans = Script(*plans)
        self.expansions = Script(ExpansionResult(messages=10, devices=2, finished=True))
        self.cancellations = Script(3)
        self.retries = Script(2)
        self.rebalances = Script(0)
        self.order: list[str] = []

    @activity.defn(name="plan_campaign")
    async def plan_campaign(self, campaign: CampaignInput) -> CampaignPlan:
        self.order.append("plan")
        plan: CampaignPlan = await self.plans.answer(campaign)
        return plan

    @activity.defn(name="expand_audience")
    async def expand_audience(self, campaign: CampaignInput) -> ExpansionResult:
        self.order.append("expand")
        result: ExpansionResult = await self.expansions.answer(campaign)
        return result

    @activity.defn(name="cancel_pending")
    async def cancel_pending(self, campaign: CampaignInput) -> int:
        self.order.append("cancel")
        return int(await self.cancellations.answer(campaign))

    @activity.defn(name="retry_failed")
    async def retry_failed(self, retry: RetryInput) -> int:
        self.order.append("retry")
        return int(await self.retries.answer(retry))

    @activity.defn(name="rebalance")
    async def rebalance(self, campaign: CampaignInput) -> int:
        self.order.append("rebalance")
        return int(await self.rebalances.answer(campaign))

    @property
    def activities(self) -> Sequence[Callable[..., Any]]:
        """All of them, for a worker."""
        return [self.plan_campaign, self.expand_audience, self.cancel_pending, self.retry_failed, self.rebalance]


class LaneStandIns:
    """What a lane asks for; `sends` answers on the device's own queue."""

    def __init__(self, plans: Sequence[Answer], sends: Sequence[Answer] = ()) -> None:
        self.plans = Script(*plans)
        self.sends = Script(*sends)
        self.failovers = Script(FailoverResult(moved=4, devices=2))
        self.order: list[str] = []

    @activity.defn(name="plan_lane")
    async def plan_lane(self, check: LaneCheck) -> LanePlan:
        self.order.append("plan")
        plan: LanePlan = await self.plans.answer(check)
        return plan

    @activity.defn(name="fail_over")
    async def fail_over(self, lane: LaneInput) -> FailoverResult:
        self.order.append("fail over")
        result: FailoverResult = await self.failovers.answer(lane)
        return result

    @activity.defn(name="send")
    async def send(self, order: SendInput) -> Any:
        self.order.append("send")
        return await self.sends.answer(order)

    @property
    def activities(self) -> Sequence[Callable[..., Any]]:
        """Those of the queue `siaran`."""
        return [self.plan_lane, self.fail_over]
