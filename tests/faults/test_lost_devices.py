"""Devices that drop, are banned or logged out while a campaign runs."""

import asyncio
import os
import signal

import pytest

from tests.faults.stage import Stage

pytestmark = pytest.mark.faults


async def test_messages_of_a_device_that_drops_move_to_the_owners_other_devices_and_bound_ones_wait_for_it(
    stage: Stage,
) -> None:
    neighbour, user = await asyncio.gather(stage.marketer(1), stage.marketer(3))
    dropped = user.devices[0]
    balanced = await user.send(leads=27, gap=(0, 1))
    bound = await user.send(leads=8, gap=(0, 1), owner=dropped, device_strategy="owner")
    await stage.transmitted(6)
    await stage.ways.network.drop(dropped)
    await user.hurry(balanced)
    assert await stage.ended(balanced) == ["sent"]
    assert await stage.pending(bound) > 0

    async def says_that_it_waits() -> bool:
        return await stage.phase(bound) == ("waiting", "every device with messages of this campaign waits: device offline")

    await stage.until(says_that_it_waits)
    moved = [one.device_id for one in await stage.transmissions(user.recipients[balanced])]
    assert set(moved) <= set(user.devices)
    assert moved.count(dropped) < 9
    await stage.ways.network.restore(dropped)
    await user.ask("POST", "/app/reconnect", params={"deviceId": str(dropped)})
    await user.hurry(bound)
    assert await stage.ended(bound) == ["sent"]
    assert {one.device_id for one in await stage.transmissions(user.recipients[bound])} == {dropped}
    assert neighbour.devices[0] not in {one.device_id for one in await stage.transmissions()}
    await stage.check()


async def test_messages_of_banned_and_logged_out_devices_move_and_what_was_claimed_is_not_sent_again(stage: Stage) -> None:
    await stage.ways.network.configure(latency_ms=(600, 1000))
    user = await stage.marketer(6)
    banned, lost, logged_out = user.devices[:3]
    campaign = await user.send(leads=24, gap=(0, 0))
    await stage.transmitted(6)
    await stage.ways.network.ban(banned)
    await stage.ways.network.log_out(lost)
    await user.ask("POST", "/app/logout", params={"deviceId": str(logged_out)})
    assert await stage.ended(campaign) == ["sent"]
    statuses = await stage.statuses(campaign)
    assert set(statuses) <= {"sent", "delivered", "unknown"}
    assert statuses["unknown"] <= 3
    query = "SELECT count(*) FROM user_devices WHERE id = ANY(:devices) AND status = :status"
    assert await stage.number(query, devices=[banned], status="banned") == 1
    assert await stage.number(query, devices=[lost, logged_out], status="logged_out") == 2
    await stage.check()


async def test_messages_move_from_a_device_that_dropped_before_its_host_was_killed(stage: Stage) -> None:
    """The lane waits for a send that died with the host, and the device does not come back to tell it so."""
    await stage.ways.network.configure(latency_ms=(600, 1000))
    user = await stage.marketer(7)
    dropped = user.devices[0]
    campaign = await user.send(leads=42, gap=(0, 1))
    await stage.transmitted(7)
    _, pid = await stage.host_of(dropped)
    await stage.ways.network.drop(dropped)
    await asyncio.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    await stage.ways.network.configure(latency_ms=(20, 60))
    await user.hurry(campaign)
    assert await stage.ended(campaign) == ["sent"]
    assert (await stage.statuses(campaign))["unknown"] <= 7
    await stage.check()
