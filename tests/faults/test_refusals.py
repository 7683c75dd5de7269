"""Messages that the network refuses, or whose acknowledgement it loses, and sending them again."""

import pytest
from temporalio.client import WorkflowExecutionStatus

from siaran.contracts import campaign_workflow_id
from tests.faults.stage import Marketer, Stage

pytestmark = pytest.mark.faults

DEVICES = 6


async def test_failed_messages_are_retried_by_signal_after_the_end_by_the_owner_and_by_an_administrator(stage: Stage) -> None:
    user, administrator = await stage.marketer(DEVICES), await stage.administrator()
    await stage.ways.network.configure(failure_rate=0.6)
    campaign = await user.send(leads=DEVICES * 5, gap=(0, 0))
    assert await stage.ended(campaign) == ["sent"]
    failed = (await stage.statuses(campaign))["failed"]
    assert failed > 0
    runs: set[str] = set()
    await stage.until(lambda: has_run(stage, campaign, runs))

    assert await retry(user, campaign) == failed
    await stage.until(lambda: has_run(stage, campaign, runs))
    failed_again = (await stage.statuses(campaign))["failed"]
    assert 0 < failed_again < failed

    await stage.ways.network.configure(failure_rate=0)
    assert await retry(administrator, campaign, "/api/admin/campaigns") == failed_again
    await stage.until(lambda: has_run(stage, campaign, runs))
    await stage.until(lambda: are_all(stage, campaign, "delivered"))
    audited = await administrator.ask("GET", "/api/admin/audit-log", params={"owner_id": str(user.id)})
    assert [(entry["action"], entry["subject"]) for entry in audited] == [("campaign.retried", campaign_workflow_id(campaign))]
    await stage.check()


async def retry(who: Marketer, campaign: int, where: str = "/api/campaigns") -> int:
    retried: int = (await who.ask("POST", f"{where}/{campaign}/retry-failed"))["retried"]
    return retried


async def has_run(stage: Stage, campaign: int, before: set[str]) -> bool:
    """Whether the campaign's workflow has completed another run than those before; notes it as one of them."""
    last = await stage.ways.temporal.get_workflow_handle(campaign_workflow_id(campaign)).describe()
    if last.status is not WorkflowExecutionStatus.COMPLETED or last.run_id in before:
        return False
    before.add(str(last.run_id))
    return True


async def are_all(stage: Stage, campaign: int, status: str) -> bool:
    return set(await stage.statuses(campaign)) == {status}


async def test_messages_whose_acknowledgement_is_lost_end_by_a_late_one_or_as_unknown_and_are_not_repeated(
    stage: Stage,
) -> None:
    # Nothing but an acknowledgement can tell here: no phone is on, so no delivery receipt comes.
    await stage.ways.network.configure(ack_loss_rate=0.5, ack_timeout_seconds=0.3, late_ack=True, delivered_rate=0)
    user = await stage.marketer(DEVICES)
    answered = await user.send(leads=DEVICES * 2, gap=(0, 0))
    assert await stage.ended(answered) == ["sent"]
    await stage.until(lambda: are_all(stage, answered, "sent"))

    await stage.ways.network.configure(late_ack=False)
    unanswered = await user.send(leads=DEVICES * 2, gap=(0, 0))
    assert await stage.ended(unanswered) == ["sent"]
    assert (await stage.statuses(unanswered)).keys() == {"sent", "unknown"}
    assert len(await stage.transmissions()) == DEVICES * 4
    await stage.check()
