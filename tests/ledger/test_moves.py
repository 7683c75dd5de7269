"""Failover: what moves, where to, and what stays."""

from collections import Counter

import pytest
from sqlalchemy import text

from siaran.ledger import moves
from siaran.models import CampaignStatus, Device, DeviceStatus, DeviceStrategy, MessageStatus
from tests.factories import NOW, add_device, add_one_off, add_user, after
from tests.ledger.driver import Ledger


async def devices_of(ledger: Ledger, message_ids: list[int]) -> list[object]:
    return [(await ledger.message(message_id)).device_id for message_id in message_ids]


async def test_pending_messages_move_to_the_other_devices_in_turn(ledger: Ledger) -> None:
    campaign, away = await ledger.campaign(), await ledger.device()
    others = sorted([await ledger.device() for _ in range(3)], key=lambda device: device.id)
    ids = await ledger.messages(campaign, away, 7)
    await ledger.change(away, status=DeviceStatus.OFFLINE)

    moved = await ledger.move(away)

    assert moved == {others[0].id: 3, others[1].id: 2, others[2].id: 2}
    assert await devices_of(ledger, ids) == [others[number % 3].id for number in range(7)]
    assert await ledger.counts(campaign, away) == {}
    assert await ledger.counts(campaign) == {"pending": 7}
    await ledger.check()


async def test_messages_move_in_batches(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "BATCH", 4)
    campaign, away, _ = await ledger.campaign(), await ledger.device(), await ledger.device()
    await ledger.messages(campaign, away, 10)

    batches = [sum((await ledger.move(away)).values()) for _ in range(4)]

    assert batches == [4, 4, 2, 0]
    assert await ledger.counts(campaign, away) == {}
    await ledger.check()


async def test_claimed_and_ended_messages_stay(ledger: Ledger) -> None:
    campaign, away, other = await ledger.campaign(), await ledger.device(), await ledger.device()
    [claimed] = await ledger.messages(campaign, away)
    await ledger.claimed(away)
    ended = [
        (await ledger.messages(campaign, away, status=status))[0]
        for status in MessageStatus
        if status not in {MessageStatus.PENDING, MessageStatus.CLAIMED}
    ]
    pending = await ledger.messages(campaign, away, 2)

    assert await ledger.move(away) == {other.id: 2}

    assert set(await devices_of(ledger, [claimed, *ended])) == {away.id}
    assert set(await devices_of(ledger, pending)) == {other.id}
    await ledger.check()


async def test_messages_that_are_bound_to_their_device_wait_for_it(ledger: Ledger) -> None:
    away, other = await ledger.device(), await ledger.device()
    by_owner = await ledger.campaign(device_strategy=DeviceStrategy.OWNER)
    of_one_device = await ledger.campaign(device_id=away.id)
    sticky = await ledger.campaign(device_strategy=DeviceStrategy.STICKY)
    for campaign in (by_owner, of_one_device, sticky):
        await ledger.messages(campaign, away, 2)
    async with ledger.sessions.begin() as session:
        one_off = await add_one_off(session, away)

    assert await ledger.move(away) == {other.id: 2}

    assert await ledger.counts(sticky, other) == {"pending": 2}
    assert await ledger.counts(by_owner, away) == await ledger.counts(of_one_device, away) == {"pending": 2}
    assert (await ledger.message(one_off)).device_id == away.id
    await ledger.check()


async def test_messages_of_a_paused_campaign_move_too_and_stay_paused(ledger: Ledger) -> None:
    campaign, away, other = await ledger.campaign(status=CampaignStatus.PAUSED), await ledger.device(), await ledger.device()
    await ledger.messages(campaign, away)

    assert await ledger.move(away) == {other.id: 1}
    assert await ledger.claim(other) is None


async def test_nothing_moves_to_a_device_that_cannot_send(ledger: Ledger) -> None:
    campaign, away = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, away)
    unfit: list[dict[str, object]] = [
        {"status": DeviceStatus.OFFLINE},
        {"status": DeviceStatus.BANNED},
        {"is_active": False},
        {"deleted_at": NOW},
        {"restricted_until_at": after(60)},
        {"host_id": None},
    ]
    for columns in unfit:
        other = await ledger.device()
        await ledger.change(other, **columns)

        assert await ledger.move(away) == {}, columns

    assert await ledger.counts(campaign, away) == {"pending": 1}


async def test_nothing_moves_to_a_paused_lane_a_dead_host_or_another_user(ledger: Ledger) -> None:
    dead = Ledger(ledger.sessions)
    await dead.open()
    campaign, away = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, away)
    paused, orphan = await ledger.device(), await ledger.device(dead.host)
    await ledger.change(await ledger.lane(paused), paused_at=NOW)
    await ledger.end_lease(dead.host)
    async with ledger.sessions.begin() as session:
        await add_device(session, await add_user(session), ledger.host)

    assert await ledger.move(away) == {}
    assert orphan.status == DeviceStatus.ONLINE


async def test_a_row_that_is_being_claimed_is_left_where_it_is(ledger: Ledger) -> None:
    campaign, away, other = await ledger.campaign(), await ledger.device(), await ledger.device()
    [held, free] = await ledger.messages(campaign, away, 2)

    async with ledger.sessions() as session:
        await session.execute(text("SELECT 1 FROM broadcast_messages WHERE id = :id FOR UPDATE"), {"id": held})
        assert await ledger.move(away) == {other.id: 1}
        await session.rollback()

    assert await devices_of(ledger, [held, free]) == [away.id, other.id]
    await ledger.check()


async def test_devices_that_fail_over_to_each_other_lose_nothing(ledger: Ledger) -> None:
    campaign = await ledger.campaign()
    devices: list[Device] = [await ledger.device() for _ in range(3)]
    ids = [message_id for device in devices for message_id in await ledger.messages(campaign, device, 5)]
    for away in devices * 2:
        await ledger.change(away, status=DeviceStatus.OFFLINE)
        await ledger.move(away)
        await ledger.check()
        await ledger.change(away, status=DeviceStatus.ONLINE)

    holders = Counter(await devices_of(ledger, ids))

    assert holders.total() == 15
    assert devices[2].id not in holders
    assert await ledger.counts(campaign) == {"pending": 15}
