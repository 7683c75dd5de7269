"""Hosts of real accounts: what becomes of messages and devices when hosts die or are renewed, or an account is lost."""

import asyncio
import os
import signal

import psutil
import pytest
from sqlalchemy import select, text

from siaran.host_reads import HostReader
from siaran.models import DeviceStatus, Unlinking
from siaran.unlinkings import want_unlinking
from tests.factories import new_phone
from tests.waiting import eventually
from tests.whatsapp.stage import Owner, Stage

pytestmark = [pytest.mark.whatsapp, pytest.mark.xdist_group("hosts")]

ENDED = {"sent", "delivered", "read", "failed", "unknown"}


async def whatsapp_id(stage: Stage, campaign: int) -> str | None:
    """The id of a campaign's one attempt, as the ledger has it."""
    query = text("""
        SELECT a.whatsapp_id FROM message_attempts a JOIN broadcast_messages m ON m.id = a.message_id
        WHERE m.campaign_id = :campaign
    """)
    async with stage.product.sessions() as session:
        found: str | None = (await session.execute(query, {"campaign": campaign})).scalar_one()
        return found


async def test_a_host_that_is_killed_between_transmission_and_acknowledgement_leaves_a_message_that_its_receipt_proves(
    stage: Stage,
) -> None:
    owner = await stage.owner(devices=1)
    [device] = owner.devices
    number = owner.number(device)
    await stage.whatsapp.answer_messages(answer="ignore", number=number, times=1)
    campaign = await owner.send(1)
    [seen] = await stage.whatsapp.wait_for_transmissions(number)

    before = await stage.kill_host(device)
    await stage.whatsapp.send_receipt(number=number, recipient=seen.recipient, ids=[seen.id], kind="delivered")

    assert await stage.ended(campaign) == {"delivered": 1}
    assert await whatsapp_id(stage, campaign) == seen.id
    assert (await stage.host_of(device))[0] > before
    assert len(await stage.whatsapp.record(number)) == 1
    await stage.check(owner)


async def test_a_log_out_between_transmission_and_acknowledgement_leaves_nobody_able_to_tell(stage: Stage) -> None:
    owner = await stage.owner(devices=2)
    device, neighbour = owner.devices
    number = owner.number(device)
    host = await stage.host_of(neighbour)
    await stage.whatsapp.answer_messages(answer="ignore", number=number, times=1)
    campaign = await owner.send(1, devices=[device])
    await stage.whatsapp.wait_for_transmissions(number)

    await stage.whatsapp.unlink(number=number)

    assert await stage.ended(campaign) == {"unknown": 1}
    row = await stage.reach(device, DeviceStatus.LOGGED_OUT)
    assert row.host_id is None
    assert len(await stage.whatsapp.record(number)) == 1
    await stage.check(owner)
    assert await stage.ended(await owner.send(2, devices=[neighbour])) == {"sent": 2}
    assert await stage.host_of(neighbour) == host, "the other device has noticed nothing"


async def test_a_ban_on_one_device_moves_its_messages_to_the_owners_other_device(stage: Stage) -> None:
    owner = await stage.owner(devices=2)
    banned, other = owner.devices
    host = await stage.host_of(other)
    campaign = await owner.send(16, gap=(0, 1))
    await stage.more_transmitted(owner, 2)

    await stage.whatsapp.ban(owner.number(banned), seconds=3600)

    ended = await stage.ended(campaign)
    assert ended["sent"] + ended["unknown"] == 16, ended
    assert ended["unknown"] <= 1, "only what was under way when the connection was cut"
    row = await stage.device(banned)
    assert (row.status, row.host_id, row.last_error) == (DeviceStatus.BANNED, None, "ban:3600")
    by_device = [entry.device_id for entry in await stage.transmitted(owner)]
    assert by_device.count(other) > 8, "it has sent some of the other's"
    assert await stage.host_of(other) == host
    await stage.check(owner)


async def test_a_new_device_renews_its_host_and_no_message_is_lost_or_repeated(stage: Stage) -> None:
    owner = await stage.owner(devices=2)
    [(before, pid)] = await stage.hosts_of(owner.devices)
    accounts = await stage.accounts(1)
    campaign = await owner.send(20, gap=(0, 1))
    await stage.more_transmitted(owner, 3)

    [added] = await owner.link(accounts)

    await stage.until(lambda: stage.are_online(owner.devices))
    [(after, _)] = await stage.hosts_of(owner.devices)
    assert after > before
    assert not psutil.pid_exists(pid)
    assert await stage.ended(campaign) == {"sent": 20}
    assert await stage.ended(await owner.send(1, devices=[added])) == {"sent": 1}
    await stage.check(owner)


async def test_a_device_that_its_owner_logs_out_is_unlinked_by_its_host_without_disturbing_the_others(stage: Stage) -> None:
    owner = await stage.owner(devices=2)
    leaving, staying = owner.devices
    host = await stage.host_of(staying)

    async with stage.product.sessions.begin() as session:
        row = await session.merge(await stage.device(leaving))
        await want_unlinking(session, row)
        row.jid, row.host_id, row.status = None, None, DeviceStatus.LOGGED_OUT

    async def is_done() -> bool:
        query = select(Unlinking.done_at, Unlinking.error_code).where(Unlinking.device_id == leaving)
        async with stage.product.sessions() as session:
            done_at, error = (await session.execute(query)).one()
        return done_at is not None and error is None

    await stage.until(is_done, within=10)  # after 15 s a process of its own would do it
    await eventually(lambda: not stage.has_session(leaving))
    assert f"{owner.number(leaving)}:1@s.whatsapp.net" not in (await stage.whatsapp.status())["logins"]
    assert await stage.ended(await owner.send(2, devices=[staying])) == {"sent": 2}
    assert await stage.host_of(staying) == host


async def test_a_device_that_answers_nothing_keeps_nobody_else_from_being_asked(stage: Stage) -> None:
    owner = await stage.owner(devices=2)
    frozen, awake = owner.devices
    known, unknown = new_phone(), new_phone()
    await stage.whatsapp.unregister(numbers=[unknown])
    reader = HostReader(stage.product.sessions, stage.product.redis, stage.product.client)
    await stage.whatsapp.freeze(number=owner.number(frozen))
    questions = [asyncio.create_task(reader.check_numbers(owner.user.id, frozen, [known])) for _ in range(5)]
    await asyncio.sleep(0.5)

    async with asyncio.timeout(5):
        answers = await reader.check_numbers(owner.user.id, awake, [known, unknown])

    assert answers == {known: True, unknown: False}
    await stage.whatsapp.thaw(number=owner.number(frozen))
    outcomes = await asyncio.gather(*questions, return_exceptions=True)
    assert [outcome for outcome in outcomes if not isinstance(outcome, Exception)] == [{known: True}] * 3
    assert [str(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [
        "the device is busy with other questions; try again in a moment"
    ] * 2


async def kill_in_turn(stage: Stage, owner: Owner, kills: int) -> None:
    """SIGKILL one host of an owner's devices after the other, each while messages flow."""
    killed: set[int] = set()
    while len(killed) < kills:
        await stage.more_transmitted(owner)
        alive = [(host, pid) for host, pid in await stage.hosts_online(owner.devices) if host not in killed]
        if alive:
            host, pid = alive[0]
            os.kill(pid, signal.SIGKILL)
            killed.add(host)


async def test_twenty_kills_in_a_row_lose_and_repeat_nothing(stage: Stage) -> None:
    owner = await stage.owner(devices=6)
    campaign = await owner.send(240, gap=(1, 2))

    await kill_in_turn(stage, owner, 20)
    await stage.hurry(campaign)

    ended = await stage.ended(campaign, within=90)
    assert sum(ended.values()) == 240
    assert ended.keys() <= ENDED
    assert ended["sent"] > 200
    await stage.check(owner)


async def test_forty_devices_on_two_hosts_survive_the_death_of_one(stage: Stage) -> None:
    owner = await stage.owner(devices=40)
    first, second = sorted(await stage.hosts_of(owner.devices))
    campaign = await owner.send(160, gap=(0, 1))
    await stage.more_transmitted(owner, 20)

    os.kill(first[1], signal.SIGKILL)

    async def are_back() -> bool:
        hosts = await stage.hosts_of(owner.devices)
        return first not in hosts and await stage.are_online(owner.devices)

    await stage.until(are_back)
    hosts = await stage.hosts_of(owner.devices)
    assert second in hosts, "the other host was left alone"
    assert len(hosts) == 2, "those of the dead one have stayed together"
    ended = await stage.ended(campaign)
    assert ended["sent"] + ended["unknown"] == 160, ended
    await stage.check(owner)

    await kill_the_fleet(stage, owner)


async def kill_the_fleet(stage: Stage, owner: Owner) -> None:
    """A fleet that is killed takes its hosts along; the next one has everything back, and nothing is lost or repeated."""
    hosts = await stage.hosts_of(owner.devices)
    campaign = await owner.send(120, gap=(0, 1))
    await stage.more_transmitted(owner, 20)

    await stage.product.kill("worker.fleet")
    assert not any(psutil.pid_exists(pid) for _, pid in hosts)
    await stage.product.start("worker.fleet")

    async def are_back() -> bool:
        return not hosts & await stage.hosts_of(owner.devices) and await stage.are_online(owner.devices)

    await stage.until(are_back)
    ended = await stage.ended(campaign)
    assert ended["sent"] + ended["unknown"] == 120, ended
    await stage.check(owner)
