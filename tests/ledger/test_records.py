"""Records: how attempts end, once each, at any age and from any host."""

import asyncio
from random import shuffle

import pytest
from sqlalchemy import text

from siaran.gateway.interface import ReceiptKind
from siaran.models import AttemptOutcome, CampaignStatus, MessageStatus
from tests.factories import NOW, after
from tests.ledger.driver import Ledger, receipt_of, record_of

UNKNOWN = {"error_code": "outcome_unknown", "error_message": "Nobody can tell."}


async def test_a_sent_message_says_when_and_under_which_id(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)

    await ledger.record(record_of(claim, at=after(2), began_at=after(1)))

    message = await ledger.message(message_id)
    assert (message.status, message.sent_at, message.error_code) == (MessageStatus.SENT, after(2), None)
    [attempt] = await ledger.attempts(message_id)
    assert (attempt.outcome, attempt.whatsapp_id) == (AttemptOutcome.SENT, f"wa-{message_id}-1")
    assert (attempt.attempted_at, attempt.finished_at) == (after(1), after(2))
    assert await ledger.counts(campaign) == {"sent": 1}
    await ledger.check()


@pytest.mark.parametrize("is_retryable", [True, False])
async def test_a_rejected_message_says_why_and_whether_sending_it_again_can_help(ledger: Ledger, is_retryable: bool) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)

    await ledger.record(
        record_of(claim, MessageStatus.FAILED, error_code="e1", error_message="Refused.", is_retryable=is_retryable)
    )

    message = await ledger.message(message_id)
    assert (message.status, message.error_code, message.error_message) == (MessageStatus.FAILED, "e1", "Refused.")
    assert (message.is_retryable, message.sent_at) == (is_retryable, None)
    assert [attempt.outcome for attempt in await ledger.attempts(message_id)] == [AttemptOutcome.REJECTED]
    assert await ledger.counts(campaign) == {"failed": 1}
    await ledger.check()


async def test_a_message_that_was_not_handed_over_is_pending_again_and_due_at_once(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)

    await ledger.record(record_of(claim, MessageStatus.PENDING, error_code="not_connected"))

    assert await ledger.status(message_id) == MessageStatus.PENDING
    assert (await ledger.claimed(device)).message_id == message_id
    assert await ledger.counts(campaign) == {"pending": 1}
    await ledger.check()


async def test_evidence_that_comes_late_turns_unknown_into_sent(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim, MessageStatus.UNKNOWN, **UNKNOWN))
    assert await ledger.counts(campaign) == {"unknown": 1}

    await ledger.record(record_of(claim, at=after(3600)))

    message = await ledger.message(message_id)
    assert (message.status, message.sent_at, message.error_code) == (MessageStatus.SENT, after(3600), None)
    assert [attempt.outcome for attempt in await ledger.attempts(message_id)] == [AttemptOutcome.SENT]
    assert await ledger.counts(campaign) == {"sent": 1}
    await ledger.check()


@pytest.mark.parametrize("late", [MessageStatus.FAILED, MessageStatus.PENDING, MessageStatus.UNKNOWN])
async def test_nothing_that_comes_late_lowers_what_was_sent(ledger: Ledger, late: MessageStatus) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim))

    await ledger.record(record_of(claim, late, error_code="late"))

    message = await ledger.message(message_id)
    assert (message.status, message.error_code) == (MessageStatus.SENT, None)
    assert [attempt.outcome for attempt in await ledger.attempts(message_id)] == [AttemptOutcome.SENT]
    await ledger.check()


@pytest.mark.parametrize("status", [MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.UNKNOWN, MessageStatus.PENDING])
async def test_writing_a_record_twice_changes_nothing_the_second_time(ledger: Ledger, status: MessageStatus) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    record = record_of(await ledger.claimed(device), status, next_send_at=after(9))
    await ledger.record(record)
    first = (await ledger.message(message_id), await ledger.lane(device))

    await ledger.record(record)

    again = (await ledger.message(message_id), await ledger.lane(device))
    for before, now in zip(first, again, strict=True):
        for column in before.__table__.columns.keys():  # noqa: SIM118 -- a collection of columns is no dict
            assert getattr(now, column) == getattr(before, column), column
    assert len(await ledger.attempts(message_id)) == 1
    await ledger.check()


async def test_a_failed_older_attempt_does_not_overwrite_a_newer_one(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    first = await ledger.claimed(device)
    await ledger.record(record_of(first, MessageStatus.PENDING, error_code="not_connected"))
    await ledger.claimed(device)

    await ledger.record(record_of(first, MessageStatus.FAILED, error_code="late"))

    message = await ledger.message(message_id)
    assert (message.status, message.attempt, message.error_code) == (MessageStatus.CLAIMED, 2, None)
    outcomes = [attempt.outcome for attempt in await ledger.attempts(message_id)]
    assert outcomes == [AttemptOutcome.NOT_ATTEMPTED, AttemptOutcome.OPEN]
    await ledger.check()


async def test_evidence_of_an_older_attempt_cancels_a_pending_retry(ledger: Ledger) -> None:
    """A record is no weaker evidence than a receipt: what has arrived must not go out again."""
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim, MessageStatus.UNKNOWN, **UNKNOWN))
    assert await ledger.retry(campaign, after(60), message_id=message_id) == [device.id]

    await ledger.record(record_of(claim, at=after(1)))

    assert await ledger.status(message_id) == MessageStatus.SENT
    assert await ledger.claim(device, at=after(120)) is None
    assert await ledger.counts(campaign) == {"sent": 1}
    await ledger.check()


async def test_evidence_of_an_older_attempt_counts_while_a_newer_one_fails(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    first = await ledger.claimed(device)
    await ledger.record(record_of(first, MessageStatus.UNKNOWN, **UNKNOWN))
    await ledger.retry(campaign, after(60), message_id=message_id)
    second = await ledger.claimed(device, at=after(61))
    await ledger.record(record_of(second, MessageStatus.FAILED, error_code="e1", is_retryable=True))

    await ledger.record(record_of(first, at=after(2)))

    message = await ledger.message(message_id)
    assert (message.status, message.error_code, message.is_retryable) == (MessageStatus.SENT, None, False)
    outcomes = [attempt.outcome for attempt in await ledger.attempts(message_id)]
    assert outcomes == [AttemptOutcome.SENT, AttemptOutcome.REJECTED]
    await ledger.check()


@pytest.mark.parametrize("status", [CampaignStatus.CANCELLED, CampaignStatus.PAUSED])
async def test_a_record_lands_after_its_campaign_was_stopped(ledger: Ledger, status: CampaignStatus) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id, _] = await ledger.messages(campaign, device, 2)
    claim = await ledger.claimed(device)
    await ledger.change(campaign, status=status)

    await ledger.record(record_of(claim))

    assert await ledger.status(message_id) == MessageStatus.SENT
    assert await ledger.counts(campaign) == {"pending": 1, "sent": 1}
    await ledger.check()


async def test_a_record_lands_after_its_host_was_ended(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.change(ledger.host, ended_at=NOW)
    await ledger.change(device, host_id=None)

    await ledger.record(record_of(claim))

    assert await ledger.status(message_id) == MessageStatus.SENT


async def test_a_lane_shows_what_its_device_did_last(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, 4)
    ends = [MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.PENDING, MessageStatus.UNKNOWN]
    for number, status in enumerate(ends):
        claim = await ledger.claimed(device, at=after(number))
        code = None if status is MessageStatus.SENT else f"e{number}"
        await ledger.record(record_of(claim, status, at=after(number), next_send_at=after(number + 10), error_code=code))

    lane = await ledger.lane(device)

    assert (lane.processed, lane.failed) == (3, 2)
    assert (lane.last_activity_at, lane.next_send_at, lane.last_error) == (after(3), after(13), "e3")
    assert (lane.last_source, lane.current_campaign_id) == (claim.source, campaign.id)


async def test_records_of_many_devices_are_written_together(ledger: Ledger) -> None:
    campaigns = [await ledger.campaign() for _ in range(2)]
    devices = [await ledger.device() for _ in range(5)]
    for device in devices:
        for campaign in campaigns:
            await ledger.messages(campaign, device, 2)
    for _ in range(4):
        claims = await ledger.claims(devices)
        assert len(claims) == 5
        ends = [MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.UNKNOWN, MessageStatus.SENT, MessageStatus.SENT]
        await ledger.record(*(record_of(claim, end) for claim, end in zip(claims, ends, strict=True)))
        await ledger.check()

    totals = [await ledger.counts(campaign) for campaign in campaigns]
    assert sum(sum(counts.values()) for counts in totals) == 20
    assert [sum(counts.get(name, 0) for counts in totals) for name in ("sent", "failed", "unknown")] == [12, 4, 4]


async def test_a_receipt_that_was_quicker_than_the_record_is_joined_by_it(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.receive(receipt_of(claim, ReceiptKind.DELIVERED, after(1)))
    assert await ledger.status(message_id) == MessageStatus.CLAIMED

    await ledger.record(record_of(claim, at=after(2)))

    message = await ledger.message(message_id)
    assert (message.status, message.sent_at, message.delivered_at) == (MessageStatus.DELIVERED, after(2), after(1))
    assert await ledger.kept_receipts() == []
    assert await ledger.counts(campaign) == {"delivered": 1}
    await ledger.check()


async def test_records_and_wakes_of_the_same_lanes_never_deadlock(ledger: Ledger) -> None:
    campaign, devices = await ledger.campaign(), [await ledger.device() for _ in range(20)]
    for device in devices:
        await ledger.messages(campaign, device, 6)
    lock = text("SELECT 1 FROM lanes WHERE device_id = ANY(:devices) ORDER BY device_id FOR UPDATE")

    async def lock_lanes() -> None:
        for _ in range(30):
            async with ledger.sessions.begin() as session:
                await session.execute(lock, {"devices": [device.id for device in devices]})

    async def record() -> None:
        for _ in range(6):
            claims = await ledger.claims(devices)
            shuffle(claims)
            await ledger.record(*(record_of(claim) for claim in claims))

    await asyncio.gather(lock_lanes(), lock_lanes(), record())

    assert await ledger.counts(campaign) == {"sent": 120}
