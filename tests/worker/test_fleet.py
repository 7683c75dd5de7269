"""The fleet: which devices a host gets."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from siaran.db import SessionMaker
from siaran.models import Device, DeviceStatus, Host, TransportKind
from siaran.settings import Settings
from tests.factories import NOW, add_device, add_host, add_user
from worker.fleet import Fleet, Group, regroup
from worker.placement import place_devices, waiting_devices


@pytest.fixture
async def host(sessions: SessionMaker) -> Host:
    """A host with room."""
    async with sessions.begin() as session:
        return await add_host(session)


async def fill(sessions: SessionMaker, host: Host, free: int) -> int:
    """Give a host up to so many of the devices that wait for one; returns how many it got."""
    async with sessions.begin() as session:
        waiting = [device for device, _ in await waiting_devices(session, TransportKind.SIMULATED)]
        return len(await place_devices(session, TransportKind.SIMULATED, host.id, waiting, free))


async def held_by(sessions: SessionMaker, host: Host) -> list[Device]:
    async with sessions() as session:
        return list(await session.scalars(select(Device).where(Device.host_id == host.id)))


async def test_a_host_never_gets_more_devices_than_it_has_room_for(sessions: SessionMaker, host: Host) -> None:
    async with sessions.begin() as session:
        for _ in range(3):
            user = await add_user(session)
            for _ in range(5):
                await add_device(session, user)

    assert [await fill(sessions, host, 4) for _ in range(5)] == [4, 4, 4, 3, 0]
    assert len(await held_by(sessions, host)) == 15


async def test_a_device_that_has_just_been_placed_has_time_to_connect_before_its_messages_move(
    sessions: SessionMaker, host: Host
) -> None:
    async with sessions.begin() as session:
        user = await add_user(session)
        fresh = await add_device(session, user)
        back = await add_device(session, user, offline_since_at=NOW)

    await fill(sessions, host, 2)

    since = {device.id: device.offline_since_at for device in await held_by(sessions, host)}
    assert since[fresh.id] is not None
    assert since[back.id] == NOW


async def test_a_device_that_cannot_connect_is_not_placed(sessions: SessionMaker, host: Host) -> None:
    unfit: list[dict[str, Any]] = [
        {"jid": None},
        {"is_active": False},
        {"deleted_at": NOW},
        {"status": DeviceStatus.BANNED},
        {"status": DeviceStatus.LOGGED_OUT},
        {"transport": TransportKind.WHATSAPP},
    ]
    async with sessions.begin() as session:
        user = await add_user(session)
        for columns in unfit:
            await add_device(session, user, **columns)

    assert await fill(sessions, host, 10) == 0


async def test_a_device_that_another_host_holds_stays_there(sessions: SessionMaker, host: Host) -> None:
    async with sessions.begin() as session:
        other = await add_host(session)
        await add_device(session, await add_user(session), other)

    assert await fill(sessions, host, 10) == 0
    assert len(await held_by(sessions, other)) == 1


async def test_what_could_not_be_given_to_anybody_is_not_given_by_its_name_either(sessions: SessionMaker, host: Host) -> None:
    """Between looking who waits and placing them, a device may have been removed."""
    async with sessions.begin() as session:
        user = await add_user(session)
        fit, removed = await add_device(session, user), await add_device(session, user, deleted_at=NOW)

    async with sessions.begin() as session:
        placed = await place_devices(session, TransportKind.SIMULATED, host.id, [removed.id, fit.id], 10)

    assert placed == [fit.id]


async def test_an_account_whose_session_is_elsewhere_waits_and_starts_no_host(
    settings: Settings, sessions: SessionMaker
) -> None:
    async with sessions.begin() as session:
        device = await add_device(session, await add_user(session), transport=TransportKind.WHATSAPP)
    fleet = Fleet(settings, sessions, TransportKind.WHATSAPP)

    await fleet._look()

    async with sessions() as session:
        assert (await session.get_one(Device, device.id)).host_id is None
        assert list(await session.scalars(select(Host))) == []


def test_the_devices_of_a_renewed_host_stay_together_and_wait_for_nothing() -> None:
    devices = [uuid4() for _ in range(20)]

    assert regroup(devices, 100.0, lived=50.0, quick_deaths=3, has_crashed=False) == [Group(devices, 100.0)]
    assert regroup(devices, 100.0, lived=50.0, quick_deaths=3, has_crashed=True) == [Group(devices, 100.0)]
    assert regroup([], 100.0, lived=50.0, quick_deaths=0, has_crashed=True) == []


def test_a_host_that_wants_to_be_renewed_at_its_very_start_gets_a_pause() -> None:
    [group] = regroup([uuid4()], 100.0, lived=0.5, quick_deaths=0, has_crashed=False)

    assert group.ready_at == 102.0


def test_a_device_that_brings_its_host_down_each_time_is_soon_alone() -> None:
    devices = [uuid4() for _ in range(20)]
    poison, group, sizes = devices[13], Group(devices), []
    while len(group.devices) > 1:
        groups = regroup(group.devices, 0.0, lived=3.0, quick_deaths=group.quick_deaths, has_crashed=True)
        assert sum(len(one.devices) for one in groups) == len(group.devices)
        [group] = [one for one in groups if poison in one.devices]
        sizes.append((len(group.devices), group.ready_at))

    assert [size for size, _ in sizes][:3] == [20, 10, 5], "one quick death may be chance"
    assert [pause for _, pause in sizes] == [0.25 * 2**number for number in range(len(sizes))]
