"""The fleet's part in linking: which linkings it takes and ends, which sessions it removes, which links it ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from siaran import pairings, unlinkings
from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.gateway.session_files import create_session, list_sessions
from siaran.models import Device, DeviceStatus, Pairing, PairingMethod, PairingStatus, TransportKind, Unlinking, User
from siaran.settings import Settings
from siaran.unlinkings import Session
from tests.factories import add_device, add_user
from tests.waiting import eventually
from worker.pairings import Pairings

HERE, ELSEWHERE = "here", "elsewhere"
LASTS = timedelta(seconds=60)


class Rows:
    """Devices and linkings as they may stand."""

    def __init__(self, sessions: SessionMaker, user: User) -> None:
        self.sessions = sessions
        self.user = user

    async def device(self, **columns: Any) -> Device:
        """A device of a real account, without a link unless told."""
        unlinked = {"transport": TransportKind.WHATSAPP, "jid": None, "link_generation": 0, **columns}
        async with self.sessions.begin() as session:
            return await add_device(session, self.user, **unlinked)

    async def pairing(self, device: Device, **columns: Any) -> UUID:
        """A linking that is wanted unless told."""
        now = system_clock()
        values = {"method": PairingMethod.QR, "expires_at": now + LASTS, **columns}
        async with self.sessions.begin() as session:
            row = Pairing(user_id=device.user_id, device_id=device.id, **values)
            session.add(row)
            await session.flush()
            return row.id

    async def status(self, pairing_id: UUID) -> tuple[PairingStatus, str | None]:
        async with self.sessions() as session:
            row = await session.get_one(Pairing, pairing_id)
            return row.status, row.error_code


@pytest.fixture
async def rows(sessions: SessionMaker) -> Rows:
    async with sessions.begin() as session:
        return Rows(sessions, await add_user(session))


@pytest.fixture
def here(settings: Settings) -> Settings:
    return settings.model_copy(update={"server": HERE})


@pytest.fixture
async def fleet(here: Settings, sessions: SessionMaker) -> AsyncIterator[None]:
    """The fleet of this server at work."""
    stop = asyncio.Event()
    run = asyncio.create_task(Pairings(here, sessions).run(stop))
    yield
    stop.set()
    await run


async def test_wanted_linkings_are_taken_once_oldest_first_and_up_to_a_number(rows: Rows) -> None:
    devices = [await rows.device(link_generation=4) for _ in range(3)]
    wanted = [await rows.pairing(device) for device in devices]
    async with rows.sessions.begin() as session:
        first = await pairings.claim_pairings(session, HERE, 2, LASTS)
        async with rows.sessions.begin() as other:
            second = await pairings.claim_pairings(other, ELSEWHERE, 2, LASTS)
    assert sorted(one.pairing_id for one in first) == sorted(wanted[:2])
    assert [one.pairing_id for one in second] == wanted[2:]
    assert [one.link_generation for one in (*first, *second)] == [5, 5, 5]
    async with rows.sessions() as session:
        row = await session.get_one(Pairing, wanted[0])
        assert (row.status, row.server) == (PairingStatus.RUNNING, HERE)
        assert [(await session.get_one(Device, device.id)).link_generation for device in devices] == [5, 5, 5]


async def test_a_device_that_somebody_changes_right_now_is_left_for_the_next_look(rows: Rows) -> None:
    device = await rows.device()
    await rows.pairing(device)
    async with rows.sessions.begin() as holder:
        await holder.execute(select(Device).where(Device.id == device.id).with_for_update())
        async with asyncio.timeout(2), rows.sessions.begin() as session:
            assert await pairings.claim_pairings(session, HERE, 2, LASTS) == []


async def test_only_what_took_too_long_expires(rows: Rows) -> None:
    now = system_clock()
    running: dict[str, Any] = {"status": PairingStatus.RUNNING}
    cases: dict[PairingStatus, list[dict[str, Any]]] = {
        PairingStatus.EXPIRED: [
            {**running, "server": HERE, "expires_at": now - timedelta(seconds=1)},
            {**running, "server": ELSEWHERE, "expires_at": now - timedelta(minutes=2)},
            {"created_at": now - timedelta(minutes=3)},
        ],
        PairingStatus.RUNNING: [
            {**running, "server": HERE},
            {**running, "server": ELSEWHERE, "expires_at": now - timedelta(seconds=30)},
        ],
        PairingStatus.WANTED: [{}],
    }
    made = [(status, await rows.pairing(await rows.device(), **case)) for status, each in cases.items() for case in each]
    async with rows.sessions.begin() as session:
        await pairings.expire_pairings(session, HERE)
    for status, pairing_id in made:
        assert (await rows.status(pairing_id))[0] is status


async def test_linkings_of_a_fleet_that_died_have_failed(rows: Rows, here: Settings, sessions: SessionMaker) -> None:
    ours = await rows.pairing(await rows.device(), status=PairingStatus.RUNNING, server=HERE, pid=1)
    theirs = await rows.pairing(await rows.device(), status=PairingStatus.RUNNING, server=ELSEWHERE, pid=1)
    stop = asyncio.Event()
    stop.set()
    await Pairings(here, sessions).run(stop)
    assert await rows.status(ours) == (PairingStatus.FAILED, "interrupted")
    assert (await rows.status(theirs))[0] is PairingStatus.RUNNING


async def test_a_session_file_without_a_link_is_removed_unless_it_is_needed(
    rows: Rows, here: Settings, sessions: SessionMaker
) -> None:
    folder = here.session_folder
    linked = {"jid": "60123456789:1@s.whatsapp.net", "link_generation": 3}
    online = await rows.device(**linked)
    logged_out = await rows.device(jid=None, link_generation=3)
    deleted = await rows.device(jid="60123456780:1@s.whatsapp.net", link_generation=3, deleted_at=system_clock())
    removed_on_phone = await rows.device(jid="60123456781:1@s.whatsapp.net", link_generation=3, status=DeviceStatus.LOGGED_OUT)
    banned = await rows.device(jid="60123456782:1@s.whatsapp.net", link_generation=3, status=DeviceStatus.BANNED)
    being_linked = await rows.device(jid=None, link_generation=3)
    await rows.pairing(being_linked, status=PairingStatus.RUNNING, server=ELSEWHERE)
    just_ended = await rows.device(jid=None, link_generation=3)
    await rows.pairing(just_ended, status=PairingStatus.CANCELLED, server=ELSEWHERE, ended_at=system_clock())
    for device in (online, logged_out, deleted, removed_on_phone, banned, being_linked, just_ended):
        create_session(folder, device.id, 3)
    stranger = uuid4()
    create_session(folder, stranger, 1)
    create_session(folder, online.id, 2)
    create_session(folder, online.id, 4)  # the database was restored to an earlier state

    fleet = Pairings(here, sessions)
    await fleet._tidy()

    kept = {(one.id, 3) for one in (online, banned, being_linked, just_ended)} | {(stranger, 1), (online.id, 4)}
    assert list_sessions(folder) == kept


async def test_the_session_of_a_link_that_is_to_be_ended_is_kept(rows: Rows, here: Settings, sessions: SessionMaker) -> None:
    device = await rows.device(jid="60123456789:1@s.whatsapp.net", link_generation=1)
    create_session(here.session_folder, device.id, 1)
    async with sessions.begin() as session:
        await unlinkings.want_unlinking(session, device)
        await session.execute(update(Device).where(Device.id == device.id).values(jid=None))
    await Pairings(here, sessions)._tidy()
    assert list_sessions(here.session_folder) == {(device.id, 1)}


async def test_an_unlinking_is_taken_where_its_session_is_and_again_after_a_growing_pause(rows: Rows) -> None:
    device = await rows.device(jid="60123456789:1@s.whatsapp.net", link_generation=2)
    kept = Session(device.id, 2)
    async with rows.sessions.begin() as session:
        await unlinkings.want_unlinking(session, device)
        await unlinkings.want_unlinking(session, device)
        assert await unlinkings.claim_unlinkings(session, [kept], 5) == []  # the host has time first
        await session.execute(update(Unlinking).values(try_at=system_clock() - timedelta(seconds=1)))
        assert await unlinkings.claim_unlinkings(session, [Session(device.id, 1), Session(uuid4(), 2)], 5) == []
        [due] = await unlinkings.claim_unlinkings(session, [kept], 5)
        assert due.session == kept
        assert await unlinkings.claim_unlinkings(session, [kept], 5) == []
    pauses = []
    for _ in range(3):
        async with rows.sessions.begin() as session:
            row = (await session.scalars(select(Unlinking))).one()
            pauses.append(round((row.try_at - system_clock()).total_seconds(), -1))
            await session.execute(update(Unlinking).values(try_at=system_clock() - timedelta(seconds=1)))
        async with rows.sessions.begin() as session:
            assert len(await unlinkings.claim_unlinkings(session, [kept], 5)) == 1
    assert pauses == [30, 60, 120]
    async with rows.sessions.begin() as session:
        await unlinkings.close_unlinking(session, due.unlinking_id)
        assert await unlinkings.open_unlinking(session, device.id, 2) is None


async def test_a_host_that_sees_to_an_unlinking_is_left_to_it(rows: Rows) -> None:
    device = await rows.device(jid="60123456789:1@s.whatsapp.net", link_generation=2)
    async with rows.sessions.begin() as session:
        await unlinkings.want_unlinking(session, device)
        await session.execute(update(Unlinking).values(try_at=system_clock() - timedelta(seconds=1)))
        assert await unlinkings.open_unlinking(session, device.id, 2) is not None
        assert await unlinkings.claim_unlinkings(session, [Session(device.id, 2)], 5) == []
        assert await unlinkings.open_unlinking(session, device.id, 1) is None


async def test_an_unlinking_without_a_session_is_given_up_once_whatsapp_has_forgotten_the_device(rows: Rows) -> None:
    device = await rows.device(jid="60123456789:1@s.whatsapp.net", link_generation=2)
    async with rows.sessions.begin() as session:
        await unlinkings.want_unlinking(session, device)
    for days, done in ((29, False), (31, True)):
        async with rows.sessions.begin() as session:
            await session.execute(update(Unlinking).values(requested_at=system_clock() - timedelta(days=days)))
            await unlinkings.give_up(session)
        async with rows.sessions() as session:
            row = (await session.scalars(select(Unlinking))).one()
            assert (row.done_at is not None, row.error_code) == (done, "no_session" if done else None)


@pytest.mark.usefixtures("fleet")
async def test_a_linking_whose_process_cannot_even_begin_has_failed(rows: Rows, tmp_path: Path) -> None:
    # Its process finds no database in its environment.
    pairing_id = await rows.pairing(await rows.device())

    async def has_failed() -> bool:
        return await rows.status(pairing_id) == (PairingStatus.FAILED, "interrupted")

    await eventually(has_failed, within=30)
    assert "no database" in (tmp_path / "logs" / "linking.log").read_text()
