"""Protection of accounts and contacts at the moment of sending: quiet hours, frequency cap, warm-up, new chats held back."""

import asyncio
from datetime import time, timedelta
from typing import Any

from sqlalchemy import text, update

from siaran.ledger.claims import ClaimRequest, claim_messages
from siaran.ledger.contact_limits import FREQUENCY_CAP
from siaran.ledger.moves import hold_back_batch, move_batch, release_held
from siaran.models import Device, DeviceStrategy, MessageStatus, User
from tests.factories import NOW, add_one_off, add_user, after, new_phone
from tests.ledger.driver import Ledger

# NOW is Monday, 9:00 in Kuala Lumpur.
ONE_HOUR = 3600


async def set_user(ledger: Ledger, **columns: Any) -> None:
    async with ledger.sessions.begin() as session:
        await session.execute(update(User).where(User.id == ledger.user.id).values(**columns))


async def restrict(ledger: Ledger, device: Device, seconds: float = ONE_HOUR) -> None:
    await ledger.change(device, restricted_until_at=after(seconds))


async def has_written(ledger: Ledger, device: Device, phone: str) -> None:
    """The device has a chat with that phone."""
    await ledger.messages(await ledger.campaign(), device, [phone], status=MessageStatus.SENT, sent_at=after(-ONE_HOUR))


async def test_in_quiet_hours_a_device_claims_nothing_but_what_a_person_sends_by_hand(ledger: Ledger) -> None:
    await set_user(ledger, quiet_from=time(20), quiet_until=time(9, 30))
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)

    assert await ledger.claim(device, at=after(1799)) is None
    async with ledger.sessions.begin() as session:
        one_off = await add_one_off(session, device)
    claim = await ledger.claimed(device)
    assert claim.message_id == one_off
    assert (await ledger.claim(device, at=after(1800))) is not None


async def test_on_a_day_that_is_no_sending_day_a_device_claims_nothing(ledger: Ledger) -> None:
    await set_user(ledger, sending_weekdays=[2, 3, 4, 5])
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)

    assert await ledger.claim(device, at=after(15 * ONE_HOUR - 1)) is None
    assert await ledger.claim(device, at=after(15 * ONE_HOUR)) is not None


async def test_quiet_hours_of_one_user_do_not_silence_another(ledger: Ledger) -> None:
    other = Ledger(ledger.sessions)
    await other.open()
    await set_user(ledger, quiet_from=time(8), quiet_until=time(20))
    quiet, loud = await ledger.device(), await other.device(ledger.host)
    await ledger.messages(await ledger.campaign(), quiet)
    await other.messages(await other.campaign(), loud)

    claims = await ledger.claims([quiet, loud])

    assert [claim.device_id for claim in claims] == [loud.id]


async def test_a_contact_gets_no_more_than_the_user_allows_across_campaigns(ledger: Ledger) -> None:
    await set_user(ledger, contact_limit=2, contact_limit_days=7)
    device, phone = await ledger.device(), new_phone()
    for days in (-1, -6, -8):
        campaign = await ledger.campaign()
        await ledger.messages(campaign, device, [phone], status=MessageStatus.DELIVERED, sent_at=NOW + timedelta(days=days))
    campaign = await ledger.campaign()
    [over, free] = await ledger.messages(campaign, device, [phone, new_phone()])

    assert (await ledger.claimed(device)).is_suppressed
    message = await ledger.message(over)
    assert (message.status, message.error_code, message.attempt) == (MessageStatus.SUPPRESSED, FREQUENCY_CAP, 0)
    assert await ledger.attempts(over) == []
    assert (await ledger.claimed(device)).message_id == free
    assert await ledger.counts(campaign) == {"pending": 1, "suppressed": 1}
    await ledger.check()


async def test_the_limit_of_a_contact_forgets_what_is_older_than_its_days(ledger: Ledger) -> None:
    await set_user(ledger, contact_limit=1, contact_limit_days=1)
    device, phone = await ledger.device(), new_phone()
    await ledger.messages(await ledger.campaign(), device, [phone], status=MessageStatus.READ, sent_at=after(-24 * ONE_HOUR))
    await ledger.messages(await ledger.campaign(), device, [phone])

    assert not (await ledger.claimed(device)).is_suppressed


async def test_a_limit_counts_only_the_users_own_messages_and_never_what_is_sent_by_hand(ledger: Ledger) -> None:
    await set_user(ledger, contact_limit=1)
    other = Ledger(ledger.sessions)
    await other.open()
    phone, device = new_phone(), await ledger.device()
    strange = await other.device(ledger.host)
    await other.messages(await other.campaign(), strange, [phone], status=MessageStatus.SENT, sent_at=after(-60))
    await ledger.messages(await ledger.campaign(), device, [phone])
    assert not (await ledger.claimed(device)).is_suppressed
    async with ledger.sessions.begin() as session:
        await add_one_off(session, device, recipient_phone=phone)

    assert not (await ledger.claimed(device)).is_suppressed


async def test_two_devices_that_claim_for_one_contact_at_once_keep_its_limit(ledger: Ledger) -> None:
    await set_user(ledger, contact_limit=1)
    phone = new_phone()
    devices = [await ledger.device() for _ in range(2)]
    for device in devices:
        await ledger.messages(await ledger.campaign(), device, [phone])

    claims = await ledger.claims(devices)

    assert sorted(claim.is_suppressed for claim in claims) == [False, True]


async def test_two_hosts_that_claim_for_one_contact_at_once_keep_its_limit(ledger: Ledger) -> None:
    await set_user(ledger, contact_limit=1)
    phone = new_phone()
    first, second = [await ledger.device() for _ in range(2)]
    for device in (first, second):
        await ledger.messages(await ledger.campaign(), device, [phone])

    async with ledger.sessions() as session:
        [mine] = await claim_messages(session, ledger.host.id, [ClaimRequest(first.id, "")], NOW)
        theirs = asyncio.create_task(ledger.claimed(second))
        done, _ = await asyncio.wait([theirs], timeout=0.3)
        assert not done
        await session.commit()

    assert not mine.is_suppressed
    assert (await theirs).is_suppressed


async def test_a_device_that_warms_up_has_the_cap_of_its_day(ledger: Ledger) -> None:
    plan: dict[str, Any] = {"warm_up_started_at": NOW - timedelta(days=2), "warm_up_first_day": 20, "warm_up_daily_step": 5}
    device = await ledger.device(**plan)
    await ledger.messages(await ledger.campaign(), device)

    assert (await ledger.claimed(device)).caps.per_day == 30


async def test_a_restricted_device_goes_on_with_chats_it_has(ledger: Ledger) -> None:
    device, known, heard = await ledger.device(), new_phone(), new_phone()
    await has_written(ledger, device, known)
    async with ledger.sessions.begin() as session:
        await session.execute(
            text("""
                INSERT INTO incoming_messages (device_id, sender, whatsapp_id, day, is_reply, received_at, user_id)
                VALUES (:device, :sender, 'w', '2026-03-01', false, :at, :user)
            """),
            {"device": device.id, "sender": heard, "at": NOW, "user": ledger.user.id},
        )
    await restrict(ledger, device)
    first, second = await ledger.campaign(), await ledger.campaign()
    await ledger.messages(first, device, [known, new_phone()])
    await ledger.messages(second, device, [heard])

    claims = [await ledger.claim(device), await ledger.claim(device)]
    assert [claim and claim.phone for claim in claims] == [known, heard]
    assert await ledger.claim(device) is None


async def test_a_chat_of_another_device_is_no_chat_of_a_restricted_one(ledger: Ledger) -> None:
    device, other, phone = await ledger.device(), await ledger.device(), new_phone()
    await has_written(ledger, other, phone)
    await restrict(ledger, device)
    await ledger.messages(await ledger.campaign(), device, [phone])

    assert await ledger.claim(device) is None


async def test_a_restricted_device_gives_away_new_chats_only(ledger: Ledger) -> None:
    device, other, known = await ledger.device(), await ledger.device(), new_phone()
    await has_written(ledger, device, known)
    await restrict(ledger, device)
    campaign = await ledger.campaign()
    await ledger.messages(campaign, device, [known, new_phone(), new_phone()])

    async with ledger.sessions.begin() as session:
        moved = await move_batch(session, ledger.user.id, device.id, NOW, new_chats_only=True)

    assert moved == {other.id: 2}
    assert (await ledger.claimed(device)).phone == known
    await ledger.check()


async def test_new_chats_that_only_a_restricted_device_may_open_wait_until_it_may(ledger: Ledger) -> None:
    device, known = await ledger.device(), new_phone()
    await has_written(ledger, device, known)
    await restrict(ledger, device)
    campaign = await ledger.campaign(device_strategy=DeviceStrategy.OWNER)
    [kept, held] = await ledger.messages(campaign, device, [known, new_phone()])

    async with ledger.sessions.begin() as session:
        assert await hold_back_batch(session, ledger.user.id, device.id, NOW) == 1
        assert await hold_back_batch(session, ledger.user.id, device.id, NOW) == 0

    assert (await ledger.message(kept)).scheduled_at == NOW
    assert (await ledger.message(held)).scheduled_at == after(ONE_HOUR)
    assert (await ledger.claimed(device)).message_id == kept
    assert await ledger.claim(device, at=after(ONE_HOUR - 1)) is None
    assert (await ledger.claim(device, at=after(ONE_HOUR))) is not None


async def test_what_a_restricted_device_had_put_off_is_due_at_the_device_it_moves_to(ledger: Ledger) -> None:
    device, campaign = await ledger.device(), await ledger.campaign()
    await restrict(ledger, device)
    [held] = await ledger.messages(campaign, device)
    async with ledger.sessions.begin() as session:
        assert await hold_back_batch(session, ledger.user.id, device.id, NOW) == 1

    other = await ledger.device()
    assert await ledger.move(device) == {other.id: 1}

    assert (await ledger.claimed(other)).message_id == held


async def test_what_was_put_off_is_due_again_when_the_restriction_is_lifted_before_its_end(ledger: Ledger) -> None:
    device, campaign = await ledger.device(), await ledger.campaign()
    await restrict(ledger, device)
    [held] = await ledger.messages(campaign, device)
    [later] = await ledger.messages(campaign, device, scheduled_at=after(2 * ONE_HOUR))
    async with ledger.sessions.begin() as session:
        assert await hold_back_batch(session, ledger.user.id, device.id, NOW) == 1

    async with ledger.sessions.begin() as session:
        assert await release_held(session, ledger.user.id, device.id, after(ONE_HOUR + 60), after(5)) == 1, "it was prolonged"

    assert (await ledger.message(held)).scheduled_at == after(5)
    assert (await ledger.message(later)).scheduled_at == after(2 * ONE_HOUR)


async def test_nobody_holds_back_the_messages_of_another_user(ledger: Ledger) -> None:
    device = await ledger.device()
    await restrict(ledger, device)
    await ledger.messages(await ledger.campaign(), device)

    async with ledger.sessions.begin() as session:
        stranger = await add_user(session)
        assert await hold_back_batch(session, stranger.id, device.id, NOW) == 0
