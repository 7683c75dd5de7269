"""The sweep of claims that nobody will settle, and what a settlement looks at."""

from siaran.ledger.settlement import CLAIM_LIMIT
from siaran.models import AttemptOutcome, DeviceStatus, MessageStatus
from tests.factories import NOW, add_one_off, after
from tests.ledger.driver import Ledger, receipt_of, record_of, whatsapp_id

LATE = after(CLAIM_LIMIT.total_seconds() + 1)


async def test_a_claim_of_a_dead_host_becomes_unknown_after_ten_minutes(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    await ledger.claimed(device)
    await ledger.end_lease(ledger.host)

    assert await ledger.sweep(after(CLAIM_LIMIT.total_seconds() - 1)) == 0
    assert await ledger.sweep(LATE) == 1
    assert await ledger.sweep(LATE) == 0

    message = await ledger.message(message_id)
    assert (message.status, message.error_code) == (MessageStatus.UNKNOWN, "outcome_unknown")
    [attempt] = await ledger.attempts(message_id)
    assert (attempt.outcome, attempt.finished_at) == (AttemptOutcome.UNKNOWN, LATE)
    assert await ledger.counts(campaign) == {"unknown": 1}
    await ledger.check()


async def test_a_claim_of_a_device_that_never_came_back_online_is_swept(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    await ledger.claimed(device)
    await ledger.change(device, status=DeviceStatus.OFFLINE)

    assert await ledger.sweep(LATE) == 1


async def test_a_claim_that_a_live_host_works_on_is_left_to_it(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)

    assert await ledger.sweep(LATE) == 0

    await ledger.record(record_of(claim))
    await ledger.check()


async def test_a_swept_message_that_did_arrive_is_sent_after_all(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    ids = await ledger.messages(campaign, device, 2)
    claims = [await ledger.claimed(device) for _ in ids]
    await ledger.end_lease(ledger.host)
    assert await ledger.sweep(LATE) == 2

    await ledger.record(record_of(claims[0]))
    await ledger.record(record_of(claims[1], MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claims[1])))

    assert [await ledger.status(message_id) for message_id in ids] == [MessageStatus.SENT, MessageStatus.UNKNOWN]
    await ledger.check()


async def test_the_id_of_a_swept_attempt_is_kept_so_that_its_receipt_still_counts(ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    claim = await ledger.claimed(device)
    await ledger.end_lease(ledger.host)
    await ledger.sweep(LATE)
    await ledger.record(record_of(claim, MessageStatus.UNKNOWN, whatsapp_id=whatsapp_id(claim)))

    await ledger.receive(receipt_of(claim))

    assert await ledger.status(message_id) == MessageStatus.DELIVERED
    await ledger.check()


async def test_open_claims_are_those_of_one_device_with_the_link_they_were_made_under(ledger: Ledger) -> None:
    campaign, device, other = await ledger.campaign(), await ledger.device(link_generation=3), await ledger.device()
    await ledger.messages(campaign, device, 2)
    await ledger.messages(campaign, other)
    async with ledger.sessions.begin() as session:
        await add_one_off(session, other)
    claim = await ledger.claimed(device)
    await ledger.claimed(other)
    await ledger.change(device, link_generation=4)

    [found] = await ledger.open_claims(device)

    assert (found.message_id, found.attempt, found.phone) == (claim.message_id, 1, claim.phone)
    assert (found.link_generation, found.whatsapp_id, found.attempted_at) == (3, None, NOW)
