"""What analytics count: on which day of the owner's calendar, and never twice."""

import asyncio
from datetime import date, timedelta

from sqlalchemy import text

from siaran.gateway.interface import ReceiptKind
from siaran.ledger.counters import recount_days
from siaran.ledger.moves import give_up_batch
from siaran.ledger.records import record_outcomes
from siaran.models import MessageStatus
from tests.factories import NOW, add_one_off
from tests.ledger.driver import Ledger, receipt_of, record_of, whatsapp_id

TODAY = date(2026, 3, 2)
TOMORROW = date(2026, 3, 3)
MIDNIGHT = NOW + timedelta(hours=15)
"""In Kuala Lumpur, where the user is; still the same day in UTC."""


async def test_a_message_counts_on_the_local_day_it_was_sent_even_if_it_is_read_on_another(ledger: Ledger):
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, 2)
    before = await ledger.claimed(device)
    await ledger.record(record_of(before, at=MIDNIGHT - timedelta(seconds=1)))
    after = await ledger.claimed(device)
    await ledger.record(record_of(after, at=MIDNIGHT))
    assert await ledger.days() == {(device.id, TODAY): {"sent": 1}, (device.id, TOMORROW): {"sent": 1}}
    await ledger.receive(receipt_of(before, ReceiptKind.DELIVERED, MIDNIGHT + timedelta(hours=1)))
    assert (await ledger.days())[device.id, TODAY] == {"sent": 1, "delivered": 1}
    await ledger.receive(receipt_of(before, ReceiptKind.READ, MIDNIGHT + timedelta(days=3)))
    assert (await ledger.days())[device.id, TODAY] == {"sent": 1, "delivered": 1, "read": 1}
    assert (await ledger.days())[device.id, TOMORROW] == {"sent": 1}
    await ledger.check()


async def test_records_and_receipts_that_come_twice_count_once(ledger: Ledger):
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    for _ in range(2):
        await ledger.record(record_of(claim))
        await ledger.receive(receipt_of(claim, ReceiptKind.READ))
    assert await ledger.days() == {(device.id, TODAY): {"sent": 1, "delivered": 1, "read": 1}}


async def test_a_receipt_that_comes_before_its_record_counts_once(ledger: Ledger):
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.receive(receipt_of(claim))
    assert await ledger.days() == {}
    await ledger.record(record_of(claim))
    assert await ledger.days() == {(device.id, TODAY): {"sent": 1, "delivered": 1}}


async def test_a_failure_counts_on_the_day_it_was_tried_until_it_is_retried(ledger: Ledger):
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    first = await ledger.claimed(device)
    await ledger.record(record_of(first, MessageStatus.FAILED, error_code="rate_limited", is_retryable=True))
    assert await ledger.days() == {(device.id, TODAY): {"failed": 1}}
    await ledger.retry(campaign, MIDNIGHT)
    assert await ledger.days() == {}
    second = await ledger.claimed(device, at=MIDNIGHT)
    await ledger.record(record_of(second, MessageStatus.FAILED, error_code="rate_limited", is_retryable=True, at=MIDNIGHT))
    assert await ledger.days() == {(device.id, TOMORROW): {"failed": 1}}
    await ledger.check()


async def test_an_unknown_message_that_a_receipt_resolves_counts_as_sent_then(ledger: Ledger):
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.record(record_of(claim, MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claim)))
    assert await ledger.days() == {(device.id, TODAY): {"failed": 1}}
    await ledger.receive(receipt_of(claim, ReceiptKind.DELIVERED, MIDNIGHT))
    assert await ledger.days() == {(device.id, TOMORROW): {"sent": 1, "delivered": 1}}
    await ledger.check()


async def test_one_off_messages_count_too(ledger: Ledger):
    device = await ledger.device()
    async with ledger.sessions.begin() as session:
        await add_one_off(session, device)
    await ledger.record(record_of(await ledger.claimed(device)))
    assert await ledger.days() == {(device.id, TODAY): {"sent": 1}}
    await ledger.check_days()


async def test_what_only_a_removed_device_could_have_sent_counts_as_failed(ledger: Ledger):
    device = await ledger.device()
    campaign = await ledger.campaign(device_id=device.id)
    await ledger.messages(campaign, device, 2)
    await ledger.change(device, deleted_at=NOW)
    async with ledger.sessions.begin() as session:
        assert await give_up_batch(session, ledger.user.id, device.id, NOW) == 2
    assert await ledger.days() == {(device.id, TODAY): {"failed": 2}}
    await ledger.check()


async def test_counting_again_in_another_zone_moves_days_and_keeps_replies(ledger: Ledger):
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    await ledger.record(record_of(await ledger.claimed(device), at=MIDNIGHT))
    async with ledger.sessions.begin() as session:
        await session.execute(text("UPDATE message_analytics SET replied = 5"))
        await session.execute(text("UPDATE users SET timezone = 'Asia/Kathmandu'"))
        await recount_days(session, ledger.user.id)
    assert await ledger.days() == {(device.id, TODAY): {"sent": 1}, (device.id, TOMORROW): {"replied": 5}}


async def test_counting_again_waits_for_what_is_being_counted_and_counts_it_once(ledger: Ledger):
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    record = record_of(await ledger.claimed(device))

    async def count_again() -> None:
        async with ledger.sessions.begin() as session:
            await recount_days(session, ledger.user.id)

    async with ledger.sessions.begin() as session:
        await record_outcomes(session, [record])
        counting = asyncio.create_task(count_again())
        done, _ = await asyncio.wait([counting], timeout=0.3)
        assert not done
    await counting
    assert await ledger.days() == {(device.id, TODAY): {"sent": 1}}


async def test_what_is_recorded_while_days_are_counted_again_falls_on_days_of_the_new_zone(ledger: Ledger):
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    record = record_of(await ledger.claimed(device), at=MIDNIGHT)
    async with ledger.sessions.begin() as session:
        await session.execute(text("UPDATE users SET timezone = 'Asia/Kathmandu'"))
        await recount_days(session, ledger.user.id)
        recording = asyncio.create_task(ledger.record(record))
        done, _ = await asyncio.wait([recording], timeout=0.3)
        assert not done
    await recording
    assert await ledger.days() == {(device.id, TODAY): {"sent": 1}}
    await ledger.check_days()
