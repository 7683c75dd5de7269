"""What happens in the middle of slices: hosts are killed, campaigns paused and cancelled, lanes stopped."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import pytest

from siaran.gateway.simulated_record import Transmission
from siaran.reconciliation import Reconciliation
from tests.faults.stage import Stage

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("slices")]

DEVICES = 8
SENDERS = 4
KILLS = 3


async def test_a_host_killed_in_mid_slice_is_replaced_and_its_messages_are_sent_once(stage: Stage) -> None:
    user = await stage.marketer(DEVICES)
    victim = user.devices[0]
    campaign = await user.send(leads=DEVICES * 6, gap=(0, 1))
    await stage.until(lambda: stage.is_in_slice(victim))
    killed = await stage.kill_host(victim)
    await user.hurry(campaign)
    assert await stage.ended(campaign) == ["sent"]
    await stage.until(lambda: stage.are_online(user.devices))
    assert killed not in {(await stage.host_of(device))[0] for device in user.devices}
    await stage.check()


async def test_a_session_store_that_forgets_attempts_shows_as_duplicates(stage: Stage) -> None:
    await stage.ways.network.configure(forget_attempts=True, latency_ms=(800, 1200))
    user = await stage.marketer(DEVICES)
    campaign = await user.send(leads=DEVICES * 12, gap=(0, 0))
    found: Reconciliation | None = None
    for _ in range(KILLS):
        await stage.transmitted(DEVICES)
        await stage.kill_host(user.devices[0])
        await stage.until(lambda: stage.are_online(user.devices))
        await stage.transmitted(DEVICES)
        _, found = await stage.account()
        if found.duplicates:
            break
    await stage.ways.network.configure(latency_ms=(20, 60))
    assert await stage.ended(campaign) == ["sent"]
    _, found = await stage.account()
    assert found.duplicates
    assert not found.lost


def most_of_a_device(transmissions: Sequence[Transmission], after: Sequence[Transmission]) -> int:
    """How many of the transmissions that are not among earlier ones the busiest device made."""
    earlier = {one.id for one in after}
    devices: Counter[UUID] = Counter(one.device_id for one in transmissions if one.id not in earlier)
    return max(devices.values(), default=0)


async def test_campaigns_share_the_devices_fairly_and_pause_resume_and_cancel_hold_from_the_next_message_on(
    stage: Stage,
) -> None:
    user = await stage.marketer(SENDERS)
    first = await user.send(leads=SENDERS * 10, gap=(0, 1))
    second = await user.send(leads=SENDERS * 10, gap=(0, 1))
    await stage.until(lambda: has_begun(stage, user.recipients[second]))
    before = len(await stage.transmissions(user.recipients[first])), len(await stage.transmissions(user.recipients[second]))
    await stage.transmitted(SENDERS * 4)
    shares = [
        len(await stage.transmissions(user.recipients[campaign])) - earlier
        for campaign, earlier in zip((first, second), before, strict=True)
    ]
    assert abs(shares[0] - shares[1]) <= SENDERS, shares

    paused = await user.change(first, "pause")
    assert paused["status"] == "paused"
    at_pause = await stage.transmissions(user.recipients[first])
    await stage.transmitted(SENDERS * 4)
    assert most_of_a_device(await stage.transmissions(user.recipients[first]), at_pause) <= 1

    cancelled = await user.change(second, "cancel")
    assert cancelled["status"] == "cancelled"
    at_cancel = await stage.transmissions(user.recipients[second])
    await stage.until(lambda: is_settled(stage, second))
    statuses = await stage.statuses(second)
    assert statuses["cancelled"] > 0
    at_end = await stage.transmissions(user.recipients[second])
    assert most_of_a_device(at_end, at_cancel) <= 1
    assert statuses["cancelled"] + len(at_end) == SENDERS * 10

    await user.change(first, "resume")
    await user.hurry(first)
    assert await stage.ended(first) == ["sent"]
    assert set(await stage.statuses(first)) <= {"sent", "delivered"}
    assert await stage.transmissions(user.recipients[second]) == at_end
    await stage.check()


async def has_begun(stage: Stage, phones: Sequence[str]) -> bool:
    return len(await stage.transmissions(phones)) >= SENDERS


async def is_settled(stage: Stage, campaign: int) -> bool:
    return not {"pending", "claimed"} & set(await stage.statuses(campaign))


async def test_stop_all_holds_from_the_next_message_on_until_the_lanes_are_resumed(stage: Stage) -> None:
    user = await stage.marketer(SENDERS)
    campaign = await user.send(leads=SENDERS * 7, gap=(0, 1))
    await stage.transmitted(SENDERS * 2)
    assert await user.ask("POST", "/api/workers/stop-all") == {"stopped_count": SENDERS}
    at_stop = await stage.transmissions()
    await asyncio.sleep(2)
    assert most_of_a_device(await stage.transmissions(), at_stop) <= 1
    assert await stage.pending(campaign) > 0
    assert await user.ask("POST", "/api/workers/resume-failed") == {"resumed_count": SENDERS}
    await user.hurry(campaign)
    assert await stage.ended(campaign) == ["sent"]
    await stage.check()
