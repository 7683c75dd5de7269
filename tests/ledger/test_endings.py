"""Cancelling what is pending, and sending again what failed."""

import pytest

from siaran.ledger import endings
from siaran.models import Device, MessageStatus
from tests.factories import after
from tests.ledger.driver import Ledger, record_of

FAILED = MessageStatus.FAILED


async def fail(ledger: Ledger, device: Device, *, at: float = 0, is_retryable: bool = True) -> int:
    """Let the device's next message fail; returns its id."""
    claim = await ledger.claimed(device, at=after(at))
    await ledger.record(record_of(claim, FAILED, error_code="e1", is_retryable=is_retryable, at=after(at)))
    return claim.message_id


async def test_a_retry_makes_failed_messages_pending_and_due_at_once(ledger: Ledger) -> None:
    campaign, devices = await ledger.campaign(), [await ledger.device() for _ in range(2)]
    ids = []
    for device in devices:
        await ledger.messages(campaign, device)
        ids.append(await fail(ledger, device))

    assert sorted(await ledger.retry(campaign, after(60))) == sorted(device.id for device in devices)

    for message_id in ids:
        message = await ledger.message(message_id)
        assert (message.status, message.scheduled_at, message.attempt) == (MessageStatus.PENDING, after(60), 1)
        assert (message.error_code, message.error_message, message.is_retryable) == (None, None, False)
    assert await ledger.counts(campaign) == {"pending": 2}
    assert (await ledger.claimed(devices[0], at=after(60))).attempt == 2
    await ledger.check()


async def test_what_cannot_be_retried_stays_failed(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    message_id = await fail(ledger, device, is_retryable=False)

    assert await ledger.retry(campaign, after(60)) == []
    assert await ledger.retry(campaign, after(60), message_id=message_id) == []
    assert await ledger.counts(campaign) == {"failed": 1}


async def test_unknown_messages_are_only_sent_again_singly(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    await ledger.record(record_of(await ledger.claimed(device), MessageStatus.UNKNOWN))

    assert await ledger.retry(campaign, after(60)) == []
    assert await ledger.retry(campaign, after(60), device_id=device.id) == []
    assert await ledger.retry(campaign, after(60), message_id=message_id) == [device.id]
    assert await ledger.counts(campaign) == {"pending": 1}
    await ledger.check()


async def test_a_retry_of_one_device_or_message_leaves_the_others(ledger: Ledger) -> None:
    campaign, first, second = await ledger.campaign(), await ledger.device(), await ledger.device()
    await ledger.messages(campaign, first, 2)
    await ledger.messages(campaign, second, 2)
    failed = [await fail(ledger, device, at=number) for number in range(2) for device in (first, second)]

    assert await ledger.retry(campaign, after(60), device_id=first.id) == [first.id] * 2
    assert await ledger.counts(campaign, second) == {"failed": 2}
    assert await ledger.retry(campaign, after(60), message_id=failed[1]) == [second.id]
    assert await ledger.counts(campaign) == {"pending": 3, "failed": 1}
    await ledger.check()


async def test_a_message_that_fails_again_during_the_retry_is_not_taken_up_twice(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    message_id = await fail(ledger, device)
    assert await ledger.retry(campaign, after(60)) == [device.id]
    assert await fail(ledger, device, at=61) == message_id

    assert await ledger.retry(campaign, after(60)) == []

    assert await ledger.counts(campaign) == {"failed": 1}
    assert await ledger.retry(campaign, after(62)) == [device.id]
    await ledger.check()


async def test_retries_and_cancellations_work_in_batches(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "BATCH", 2)
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, 5)
    for number in range(5):
        await fail(ledger, device, at=number)

    assert [len(await ledger.retry(campaign, after(60))) for _ in range(4)] == [2, 2, 1, 0]
    assert [await ledger.cancel(campaign) for _ in range(4)] == [2, 2, 1, 0]
    assert await ledger.counts(campaign) == {"cancelled": 5}
    await ledger.check()


async def test_a_retry_of_another_user_or_campaign_changes_nothing(ledger: Ledger) -> None:
    campaign, other, device = await ledger.campaign(), await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    await fail(ledger, device)
    stranger = Ledger(ledger.sessions)
    await stranger.open()

    async with ledger.sessions.begin() as session:
        queued = await endings.retry_batch(session, stranger.user.id, campaign.id, after(60), device_id=None, message_id=None)
        cancelled = await endings.cancel_batch(session, stranger.user.id, campaign.id)

    assert (queued, cancelled) == ([], 0)
    assert await ledger.retry(other, after(60)) == []
    assert await ledger.counts(campaign) == {"failed": 1}


async def test_cancelling_leaves_what_is_under_way_or_over(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, 3)
    await ledger.record(record_of(await ledger.claimed(device)))
    claim = await ledger.claimed(device)

    assert await ledger.cancel(campaign) == 1
    assert await ledger.counts(campaign) == {"pending": 1, "sent": 1, "cancelled": 1}
    await ledger.record(record_of(claim))
    assert await ledger.counts(campaign) == {"sent": 2, "cancelled": 1}
    await ledger.check()
