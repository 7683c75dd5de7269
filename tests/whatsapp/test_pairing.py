"""Linking devices to accounts end to end: the API, the fleet's throw-away processes, the real client, and phones that scan."""

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from datetime import datetime
from io import BytesIO
from uuid import UUID

import psutil
import pytest
from PIL import Image
from sqlalchemy import select

from siaran import unlinkings
from siaran.db import SessionMaker
from siaran.gateway.session_files import linked_jid, session_path
from siaran.models import Activity, PairingStatus
from siaran.settings import Settings
from tests.cli.conftest import listening
from tests.waiting import eventually
from tests.whatsapp.linking_stage import LinkingStage, Person
from tests.whatsapp_server.channel import Refused
from tests.whatsapp_server.harness import WhatsApp

pytestmark = pytest.mark.whatsapp


@pytest.fixture
async def stage(settings: Settings, sessions: SessionMaker, whatsapp: WhatsApp) -> AsyncIterator[LinkingStage]:
    """The API and a fleet that links."""
    async with listening(settings) as url:
        stage = LinkingStage(settings, sessions, whatsapp, url)
        stage.start_fleet()
        yield stage
        for person in stage.people:
            await person.aclose()
        await stage.stop_fleet()


@pytest.fixture
async def person(stage: LinkingStage) -> Person:
    """Somebody who is logged in."""
    return await stage.register()


async def test_a_scanned_code_links_exactly_that_device_of_that_user(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    device_id, bystander = await person.add_device(), await person.add_device("Bystander")
    login = await person.begin(device_id)
    assert login["events_url"].endswith(f"/api/devices/{device_id}/link/events")
    assert 30 <= login["qr_duration"] <= 60

    async with person.following(device_id) as page:
        code = await page.reach("code")
        jid = await whatsapp.scan(qr=code["code"], number=number)
        linked = await page.reach("linked")

    assert linked == {"device_id": str(device_id), "device_name": "Front desk", "phone": number}
    assert [told["status"] for told in page.named("status")][-2:] == ["running", "scanned"]
    row = await stage.row(device_id)
    assert (row.jid, row.phone, row.status, row.link_generation) == (jid, number, "connecting", 1)
    assert (await stage.row(bystander)).jid is None
    path = session_path(stage.settings.session_folder, device_id, 1)
    assert await linked_jid(path) == jid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len((await whatsapp.status())["logins"][jid]) == 1
    async with stage.sessions() as session:
        kinds = set(await session.scalars(select(Activity.kind).where(Activity.device_id == device_id)))
    assert kinds == {"device.added", "device.linked"}


async def test_the_picture_shows_the_code_that_the_stream_tells(stage: LinkingStage, person: Person) -> None:
    device_id = await person.add_device()
    login = await person.begin(device_id)
    async with person.following(device_id) as page:
        code = await page.reach("code")
        picture = await person.http.get(login["qr_link"])
    assert code["code"].startswith("https://wa.me/settings/linked_devices#")
    assert code["qr_link"] == login["qr_link"]
    assert datetime.fromisoformat(code["expires_at"]) == datetime.fromisoformat(login["expires_at"])
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(BytesIO(picture.content)).width > 300


async def test_codes_follow_each_other_until_one_is_scanned(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    await whatsapp.offer_codes(count=2)  # then the client shows each for 20 seconds
    device_id = await person.add_device()
    await person.begin(device_id)
    async with person.following(device_id) as page:
        first = await page.reach("code")
        second = await page.reach("code", 2)
        assert second["code"] != first["code"]
        third = await page.reach("code", 3, within=60)  # of a new connection: the two are used up
        await whatsapp.scan(qr=third["code"], number=number)
        await page.reach("linked")
    assert (await stage.row(device_id)).phone == number


async def test_a_lost_connection_brings_a_fresh_code(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    async with person.following(device_id) as page:
        first = await page.reach("code")
        await whatsapp.drop_unlinked()
        second = await page.reach("code", 2)
        with pytest.raises(Refused):
            await whatsapp.scan(qr=first["code"], number=number)
        await whatsapp.scan(qr=second["code"], number=number)
        await page.reach("linked")


async def test_asking_again_goes_on_with_the_same_linking(stage: LinkingStage, person: Person) -> None:
    device_id = await person.add_device()
    first = await person.begin(device_id)
    assert (await person.begin(device_id))["expires_at"] == first["expires_at"]
    assert (await stage.row(device_id)).link_generation == 1


async def test_a_cancelled_linking_leaves_nothing_behind(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    async with person.following(device_id) as page:
        code = (await page.reach("code"))["code"]
        pid = (await stage.pairing(device_id)).pid
        assert pid is not None
        answer = await person.http.delete(f"/api/devices/{device_id}/link")
        assert answer.json()["results"]["status"] == "cancelled"
        await page.reach("cancelled", within=3)
    await eventually(lambda: not psutil.pid_exists(pid))
    await stage.keeps_no_session(device_id)
    with pytest.raises(Refused):
        await whatsapp.scan(qr=code, number=number)
    assert (await person.device(device_id))["jid"] is None


async def test_a_code_that_nobody_scans_expires(settings: Settings, sessions: SessionMaker, whatsapp: WhatsApp) -> None:
    short = settings.model_copy(update={"pairing_seconds": 6.0})
    async with listening(short) as url:
        stage = LinkingStage(short, sessions, whatsapp, url)
        stage.start_fleet()
        person = await stage.register()
        device_id = await person.add_device()
        await person.begin(device_id)
        async with person.following(device_id) as page:
            await page.reach("expired")
        await stage.keeps_no_session(device_id)
        await person.http.aclose()
        await stage.stop_fleet()
    assert (await stage.pairing(device_id)).status is PairingStatus.EXPIRED


async def test_a_code_typed_on_the_phone_links_the_device(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    device_id = await person.add_device()
    answer = await person.http.get("/app/login-with-code", params={"device_id": str(device_id), "phone": f"+{number}"})
    assert answer.status_code == 200, answer.text
    assert (await person.http.get("/app/qr", params={"device_id": str(device_id)})).status_code == 409
    async with person.following(device_id) as page:
        assert (await page.reach("code"))["pair_code"] == answer.json()["results"]["pair_code"]
        await whatsapp.enter_code(code=answer.json()["results"]["pair_code"], number=number)
        assert (await page.reach("linked"))["phone"] == number


async def test_a_second_device_of_an_account_is_refused_and_logged_out_again(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    first, second = await person.add_device("First"), await person.add_device("Second")
    kept = await stage.link(person, first, number)
    await person.begin(second)
    async with person.following(second) as page:
        refused = await whatsapp.scan(qr=(await page.reach("code"))["code"], number=number)
        failure = await page.reach("failed")
    assert failure["error_code"] == "account_taken"
    assert f"{number} is linked to your device First already" in failure["message"]
    await stage.forgets(refused)
    await stage.keeps_no_session(second)
    assert kept in await stage.linked_jids()
    assert ((await stage.row(second)).jid, (await stage.row(first)).jid) == (None, kept)

    by_code = await person.http.get("/app/login-with-code", params={"device_id": str(second), "phone": f"+{number}"})
    assert by_code.status_code == 409
    assert "linked to your device First" in by_code.json()["detail"]


async def test_a_linking_that_is_interrupted_at_its_end_holds(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    async with person.following(device_id) as page:
        jid = await whatsapp.scan(qr=(await page.reach("code"))["code"], number=number, interrupted=True)
        await page.reach("linked")
    assert (await stage.row(device_id)).jid == jid
    assert len((await whatsapp.status())["logins"][jid]) == 1


async def test_a_linking_process_that_dies_before_the_scan_leaves_nothing(stage: LinkingStage, person: Person) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    await _kill_process(stage, device_id)
    pairing = await stage.ends_as(device_id, PairingStatus.FAILED)
    assert pairing.error_code == "interrupted"
    await stage.keeps_no_session(device_id)
    await person.begin(device_id)
    assert (await stage.row(device_id)).link_generation == 2


async def test_a_linking_process_that_dies_after_the_scan_is_logged_out_again(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    async with person.following(device_id) as page:
        jid = await whatsapp.scan(qr=(await page.reach("code"))["code"], number=number, interrupted=True)
        await _kill_process(stage, device_id)
        await page.reach("failed")
    await stage.forgets(jid)
    await stage.keeps_no_session(device_id)
    [unlinking] = await stage.unlinkings(device_id)
    assert (unlinking.jid, unlinking.error_code) == (jid, None)
    await eventually(lambda: _is_done(stage, device_id))
    assert (await stage.row(device_id)).jid is None


async def test_a_fleet_that_dies_takes_its_linkings_along(stage: LinkingStage, person: Person) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    await stage.stop_fleet()
    assert (await stage.pairing(device_id)).status is PairingStatus.FAILED
    stage.start_fleet()
    await stage.keeps_no_session(device_id)


async def test_two_users_who_link_at_once_get_each_their_own_account(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp, number: str, contact: str
) -> None:
    other = await stage.register("badrul@example.com")
    devices = [await person.add_device(), await other.add_device()]
    await asyncio.gather(person.begin(devices[0]), other.begin(devices[1]))
    async with person.following(devices[0]) as mine, other.following(devices[1]) as theirs:
        codes = [(await page.reach("code"))["code"] for page in (mine, theirs)]
        jids = await asyncio.gather(whatsapp.scan(qr=codes[1], number=contact), whatsapp.scan(qr=codes[0], number=number))
        await asyncio.gather(mine.reach("linked"), theirs.reach("linked"))
    rows = [await stage.row(device_id) for device_id in devices]
    assert [row.jid for row in rows] == [jids[1], jids[0]]
    assert [row.phone for row in rows] == [number, contact]
    assert rows[0].user_id != rows[1].user_id


@pytest.mark.parametrize("way", ["log out", "delete"])
async def test_the_end_of_a_link_reaches_the_server_and_removes_the_session(
    stage: LinkingStage, person: Person, number: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(unlinkings, "HOST_HAS_TIME", unlinkings.HOST_HAS_TIME * 0)
    device_id = await person.add_device()
    jid = await stage.link(person, device_id, number)
    if way == "delete":
        assert (await person.http.delete(f"/api/devices/{device_id}")).status_code == 200
    else:
        answer = await person.http.post("/app/logout", params={"deviceId": str(device_id)})
        assert answer.json()["results"]["status"] == "logged_out"
    assert (await stage.row(device_id)).jid is None
    await stage.forgets(jid)
    await stage.keeps_no_session(device_id)
    assert [row.done_at is not None for row in await stage.unlinkings(device_id)] == [True]


async def test_a_device_that_was_logged_out_can_be_linked_anew(
    stage: LinkingStage, person: Person, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlinkings, "HOST_HAS_TIME", unlinkings.HOST_HAS_TIME * 0)
    device_id = await person.add_device()
    first = await stage.link(person, device_id, number)
    await person.http.post("/app/logout", params={"deviceId": str(device_id)})
    second = await stage.link(person, device_id, number)
    await stage.forgets(first)
    assert second in await stage.linked_jids()
    row = await stage.row(device_id)
    assert (row.jid, row.link_generation) == (second, 2)
    await eventually(lambda: stage.sessions_kept() == {device_id: 2}, within=20)


async def test_a_server_that_cannot_be_reached_is_named_as_the_reason(
    stage: LinkingStage, person: Person, whatsapp: WhatsApp
) -> None:
    await whatsapp.reach(state="refusing")
    device_id = await person.add_device()
    answer = await person.http.get("/app/login", params={"deviceId": str(device_id)})
    assert answer.status_code == 503
    assert answer.json()["detail"] == "WhatsApp cannot be reached from this server"


async def _kill_process(stage: LinkingStage, device_id: UUID) -> None:
    pid = (await stage.pairing(device_id)).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def _is_done(stage: LinkingStage, device_id: UUID) -> bool:
    return all(row.done_at for row in await stage.unlinkings(device_id))
