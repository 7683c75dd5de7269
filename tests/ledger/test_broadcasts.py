"""Broadcasts on their lane: they take turns with campaigns, heed what those heed, and stay with their device."""

from collections import Counter
from datetime import UTC, datetime, time
from itertools import pairwise

import pytest

from siaran.broadcasts import NewBroadcast, queue_broadcast
from siaran.lane_standing import lane_standing
from siaran.ledger.moves import give_up_batch
from siaran.models import ONE_OFF, Broadcast, BroadcastMessage, Device, MessageStatus, broadcast_source
from tests.factories import NOW, new_phone
from tests.ledger.driver import Ledger, record_of


@pytest.fixture
async def device(ledger: Ledger) -> Device:
    """The one device that sends."""
    return await ledger.device()


async def queue(ledger: Ledger, device: Device, number: int = 5, text: str = "Hi") -> Broadcast:
    phones = tuple(f"+{new_phone()}" for _ in range(number))
    wanted = NewBroadcast(phones=phones, text=text, device_id=device.id)
    async with ledger.sessions.begin() as session:
        broadcast, _ = await queue_broadcast(session, ledger.user.id, wanted, country="MY", now=NOW)
    return broadcast


async def test_broadcasts_and_campaigns_take_turns_behind_single_messages(ledger: Ledger, device: Device) -> None:
    broadcast = await queue(ledger, device)
    campaign = await ledger.campaign()
    await ledger.messages(campaign, device, 5)
    async with ledger.sessions.begin() as session:
        row = {"source": ONE_OFF, "recipient_phone": new_phone(), "content": "Now", "scheduled_at": NOW}
        session.add(BroadcastMessage(user_id=ledger.user.id, device_id=device.id, **row))

    sources, last = [], ""
    for _ in range(7):
        claim = await ledger.claimed(device, after_source=last)
        await ledger.record(record_of(claim))
        last = claim.source
        sources.append(last)

    assert sources[0] == ONE_OFF
    assert Counter(sources[1:]) == {broadcast_source(broadcast.id): 3, f"campaign:{campaign.id}": 3}
    assert all(one != other for one, other in pairwise(sources))


async def test_the_text_is_filled_in_for_each_contact(ledger: Ledger, device: Device) -> None:
    await queue(ledger, device, 1, "Hi {{name|friend}}")
    claim = await ledger.claimed(device)
    assert (claim.content, claim.message_type) == ("Hi friend", "text")


async def test_a_broadcast_heeds_quiet_hours_and_the_limit_per_contact(ledger: Ledger, device: Device) -> None:
    await queue(ledger, device, 1)
    await ledger.change(ledger.user, quiet_from=time(21), quiet_until=time(8), contact_limit=1)
    night = datetime(2026, 3, 2, 15, tzinfo=UTC)
    assert await ledger.claim(device, at=night) is None
    day = datetime(2026, 3, 3, 2, tzinfo=UTC)
    claim = await ledger.claimed(device, at=day)
    await ledger.record(record_of(claim, at=day))
    again = NewBroadcast(phones=(f"+{claim.phone}",), text="Again", device_id=device.id)
    async with ledger.sessions.begin() as session:
        await queue_broadcast(session, ledger.user.id, again, country="MY", now=day)
    assert (await ledger.claimed(device, at=day)).is_suppressed


async def test_a_broadcast_never_moves_to_another_device(ledger: Ledger, device: Device) -> None:
    broadcast = await queue(ledger, device)
    await ledger.device()
    async with ledger.sessions() as session:
        standing = await lane_standing(session, ledger.user.id, device.id, NOW)
    assert (standing.has_pending, standing.can_move, standing.has_bound) == (True, False, True)
    assert await ledger.move(device) == {}

    await ledger.change(device, deleted_at=NOW)
    async with ledger.sessions.begin() as session:
        assert await give_up_batch(session, ledger.user.id, device.id, NOW) == broadcast.messages
    assert await ledger.status(broadcast.first_message_id) is MessageStatus.FAILED
