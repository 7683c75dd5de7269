"""Leases: renewed while a host lives, over for good once somebody has ended it."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from siaran.db import SessionMaker
from siaran.models import Device, DeviceStatus, Host, TransportKind
from tests.factories import NOW, add_device, add_user
from worker import lease
from worker.lease import LEASE, LeaseLost, begin_lease, end_host, keep_lease, renew_lease


async def begin(sessions: SessionMaker) -> int:
    return await begin_lease(sessions, "here", TransportKind.SIMULATED, 10)


async def seconds_left(sessions: SessionMaker, host_id: int) -> float:
    """By PostgreSQL's clock."""
    query = text("SELECT extract(epoch FROM expires_at - now())::float FROM hosts WHERE id = :host")
    async with sessions() as session:
        return float((await session.execute(query, {"host": host_id})).scalar_one())


async def expire(sessions: SessionMaker, host_id: int) -> None:
    async with sessions.begin() as session:
        statement = text("UPDATE hosts SET expires_at = now() - interval '1 second' WHERE id = :host")
        await session.execute(statement, {"host": host_id})


async def test_every_host_has_a_higher_number_than_those_before_it(sessions: SessionMaker) -> None:
    hosts = [await begin(sessions) for _ in range(3)]

    assert hosts == sorted(set(hosts))
    assert 10 < await seconds_left(sessions, hosts[0]) <= LEASE.total_seconds()


async def test_a_lease_that_ran_out_is_renewed_as_long_as_nobody_has_ended_it(sessions: SessionMaker) -> None:
    """As after a restart of PostgreSQL: the host claimed nothing meanwhile, and nobody took its devices."""
    host_id = await begin(sessions)
    await expire(sessions, host_id)
    assert await seconds_left(sessions, host_id) < 0

    await renew_lease(sessions, host_id)

    assert await seconds_left(sessions, host_id) > 10
    async with sessions() as session:
        assert (await session.get_one(Host, host_id)).pid is not None


async def test_a_host_that_was_ended_learns_it_and_gets_no_lease_again(
    sessions: SessionMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    host_id = await begin(sessions)
    await end_host(sessions, host_id)

    with pytest.raises(LeaseLost):
        await renew_lease(sessions, host_id)
    with pytest.raises(LeaseLost):
        await keep_lease(sessions, host_id)


async def test_ending_a_host_sets_its_devices_free_and_starts_their_minute(sessions: SessionMaker) -> None:
    host_id = await begin(sessions)
    async with sessions.begin() as session:
        host = await session.get_one(Host, host_id)
        user = await add_user(session)
        online = await add_device(session, user, host)
        dropped = await add_device(session, user, host, status=DeviceStatus.OFFLINE, offline_since_at=NOW)
        elsewhere = await add_device(session, user)

    assert set(await end_host(sessions, host_id)) == {online.id, dropped.id}
    assert await end_host(sessions, host_id) == []

    async with sessions() as session:
        rows = {device.id: await session.get_one(Device, device.id) for device in (online, dropped, elsewhere)}
    assert [rows[device.id].host_id for device in (online, dropped, elsewhere)] == [None, None, None]
    assert rows[online.id].status is DeviceStatus.CONNECTING
    since = rows[online.id].offline_since_at
    assert since is not None
    assert since - NOW > timedelta(0)
    assert (rows[dropped.id].status, rows[dropped.id].offline_since_at) == (DeviceStatus.OFFLINE, NOW)
    assert rows[elsewhere.id].offline_since_at is None
