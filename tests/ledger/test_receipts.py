"""Receipts: early or late, once or often, for the newest attempt or an older one."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from siaran.gateway.interface import Receipt, ReceiptKind
from siaran.ledger.receipts import apply_receipts
from siaran.ledger.records import record_outcomes
from siaran.models import AttemptOutcome, MessageStatus
from tests.factories import NOW, add_one_off, after
from tests.ledger.driver import Ledger, receipt_of, record_of, whatsapp_id


async def test_delivered_and_then_read_raise_a_sent_message_step_by_step(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim))

    await ledger.receive(receipt_of(claim, ReceiptKind.DELIVERED, after(3)))
    assert await ledger.counts(campaign) == {"delivered": 1}
    await ledger.receive(receipt_of(claim, ReceiptKind.READ, after(9)))

    message = await ledger.message(message_id)
    assert (message.status, message.sent_at) == (MessageStatus.READ, NOW)
    assert (message.delivered_at, message.read_at) == (after(3), after(9))
    assert await ledger.counts(campaign) == {"read": 1}
    await ledger.check()


async def test_a_message_that_was_read_was_delivered(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim))

    await ledger.receive(receipt_of(claim, ReceiptKind.READ, after(9)))
    await ledger.receive(receipt_of(claim, ReceiptKind.DELIVERED, after(3)))

    message = await ledger.message(message_id)
    assert (message.status, message.read_at) == (MessageStatus.READ, after(9))
    assert message.delivered_at is not None
    await ledger.check()


async def test_receipts_that_come_twice_or_together_do_no_harm(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim))
    receipts = [receipt_of(claim, kind, after(3)) for kind in (ReceiptKind.READ, ReceiptKind.DELIVERED, ReceiptKind.READ)]

    await ledger.receive(*receipts)
    await ledger.receive(*receipts)

    assert await ledger.counts(campaign) == {"read": 1}
    assert await ledger.kept_receipts() == []
    await ledger.check()


async def test_a_receipt_that_came_before_its_record_and_comes_again_after_it_does_no_harm(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.receive(receipt_of(claim))
    await ledger.record(record_of(claim))

    await ledger.receive(receipt_of(claim))

    assert await ledger.counts(campaign) == {"delivered": 1}
    assert await ledger.kept_receipts() == []
    await ledger.check()


async def test_a_receipt_that_fits_nothing_is_kept_once(ledger: Ledger) -> None:
    device = await ledger.device()
    receipt = Receipt(device.id, "elsewhere", ReceiptKind.DELIVERED, NOW)

    await ledger.receive(receipt, receipt)
    await ledger.receive(receipt)

    assert await ledger.kept_receipts() == [("elsewhere", "delivered")]


async def test_a_receipt_of_a_device_that_does_not_exist_is_passed_over(ledger: Ledger) -> None:
    await ledger.receive(Receipt(uuid4(), "nobody", ReceiptKind.DELIVERED, NOW))

    assert await ledger.kept_receipts() == []


async def test_a_receipt_for_the_same_id_on_another_device_is_not_taken_for_this_one(ledger: Ledger) -> None:
    campaign, device, other = await ledger.campaign(), await ledger.device(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim))

    await ledger.receive(Receipt(other.id, whatsapp_id(claim), ReceiptKind.READ, NOW))

    assert await ledger.status(message_id) == MessageStatus.SENT


@pytest.mark.parametrize("kind", list(ReceiptKind))
async def test_a_receipt_settles_what_was_unknown(ledger: Ledger, kind: ReceiptKind) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim, MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claim), error_code="outcome_unknown"))

    await ledger.receive(receipt_of(claim, kind, after(5)))

    message = await ledger.message(message_id)
    assert (message.status, message.sent_at, message.error_code) == (MessageStatus(kind.value), after(5), None)
    assert [attempt.outcome for attempt in await ledger.attempts(message_id)] == [AttemptOutcome.SENT]
    assert await ledger.counts(campaign) == {kind.value: 1}
    await ledger.check()


async def test_a_receipt_for_an_older_attempt_cancels_a_pending_retry(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim, MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claim)))
    await ledger.retry(campaign, after(60), message_id=message_id)
    assert await ledger.counts(campaign) == {"pending": 1}

    await ledger.receive(receipt_of(claim))

    assert await ledger.claim(device, at=after(120)) is None
    assert await ledger.counts(campaign) == {"delivered": 1}
    await ledger.check()


async def test_a_receipt_finds_its_message_after_a_retry_moved_to_another_device(ledger: Ledger) -> None:
    campaign, old, new = await ledger.campaign(), await ledger.device(), await ledger.device()
    [message_id] = await ledger.messages(campaign, old)
    claim = await ledger.claimed(old)
    await ledger.record(record_of(claim, MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claim)))
    await ledger.retry(campaign, after(60), message_id=message_id)
    await ledger.move(old)

    await ledger.receive(receipt_of(claim))

    assert await ledger.claim(new, at=after(120)) is None
    assert await ledger.counts(campaign, new) == {"delivered": 1}
    await ledger.check()


async def test_the_record_of_a_newer_attempt_does_not_lower_what_a_receipt_has_raised(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    first = await ledger.claimed(device)
    await ledger.record(record_of(first, MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(first)))
    await ledger.retry(campaign, after(60), message_id=message_id)
    second = await ledger.claimed(device, at=after(61))
    await ledger.receive(receipt_of(first, ReceiptKind.READ, after(62)))

    await ledger.record(record_of(second, MessageStatus.FAILED, error_code="e1", is_retryable=True))

    message = await ledger.message(message_id)
    assert (message.status, message.error_code) == (MessageStatus.READ, None)
    await ledger.check()


async def test_a_receipt_of_a_one_off_message_changes_no_counter(ledger: Ledger) -> None:
    device = await ledger.device()
    async with ledger.sessions.begin() as session:
        message_id = await add_one_off(session, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim))

    await ledger.receive(receipt_of(claim))

    assert await ledger.status(message_id) == MessageStatus.DELIVERED
    await ledger.check()


@pytest.mark.parametrize("odd", ["3EB0\x00", "3EB0" * 1000])
async def test_a_receipt_whose_id_is_none_holds_up_no_other(ledger: Ledger, odd: str) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device, 1)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim))

    await ledger.receive(replace(receipt_of(claim), whatsapp_id=odd), receipt_of(claim))

    assert await ledger.status(message_id) == MessageStatus.DELIVERED
    assert await ledger.kept_receipts() == []


async def test_a_receipt_and_its_record_find_each_other_when_they_are_written_at_the_same_time(ledger: Ledger) -> None:
    """Neither transaction sees what the other has not committed: one of them has to wait."""
    campaign, device = await ledger.campaign(), await ledger.device()
    ids = await ledger.messages(campaign, device, 2)
    first, second = [await ledger.claimed(device) for _ in ids]

    async with ledger.sessions() as recording:
        await record_outcomes(recording, [record_of(first)])
        receiving = asyncio.create_task(ledger.receive(receipt_of(first)))
        await asyncio.sleep(0.3)
        await recording.commit()
        await receiving
    async with ledger.sessions() as receiving_session:
        await apply_receipts(receiving_session, [receipt_of(second)])
        recording_task = asyncio.create_task(ledger.record(record_of(second)))
        await asyncio.sleep(0.3)
        await receiving_session.commit()
        await recording_task

    assert [await ledger.status(message_id) for message_id in ids] == [MessageStatus.DELIVERED] * 2
    assert await ledger.kept_receipts() == []
    await ledger.check()
