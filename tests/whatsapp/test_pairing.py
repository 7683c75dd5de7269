"""Linking devices to accounts end to end: the API, the fleet's throw-away processes, the real client, and phones that scan."""

import asyncio
import stat
from datetime import datetime
from io import BytesIO

import psutil
import pytest
from PIL import Image
from sqlalchemy import select

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


async def test_a_scanned_code_links_exactly_that_device_of_that_user(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
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
    row = await linkings.row(device_id)
    assert (row.jid, row.phone, row.status, row.link_generation) == (jid, number, "connecting", 1)
    assert (await linkings.row(bystander)).jid is None
    path = session_path(linkings.settings.session_folder, device_id, 1)
    assert await linked_jid(path) == jid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len((await whatsapp.status())["logins"][jid]) == 1
    async with linkings.sessions() as session:
        kinds = set(await session.scalars(select(Activity.kind).where(Activity.device_id == device_id)))
    assert kinds == {"device.added", "device.linked"}


async def test_the_picture_shows_the_code_that_the_stream_tells(linkings: LinkingStage, person: Person) -> None:
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
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
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
    assert (await linkings.row(device_id)).phone == number


async def test_a_lost_connection_brings_a_fresh_code(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
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


async def test_asking_again_goes_on_with_the_same_linking(linkings: LinkingStage, person: Person) -> None:
    device_id = await person.add_device()
    first = await person.begin(device_id)
    assert (await person.begin(device_id))["expires_at"] == first["expires_at"]
    assert (await linkings.row(device_id)).link_generation == 1


async def test_a_cancelled_linking_leaves_nothing_behind(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    async with person.following(device_id) as page:
        code = (await page.reach("code"))["code"]
        pid = (await linkings.pairing(device_id)).pid
        assert pid is not None
        answer = await person.http.delete(f"/api/devices/{device_id}/link")
        assert answer.json()["results"]["status"] == "cancelled"
        await page.reach("cancelled", within=3)
    await eventually(lambda: not psutil.pid_exists(pid))
    await linkings.keeps_no_session(device_id)
    with pytest.raises(Refused):
        await whatsapp.scan(qr=code, number=number)
    assert (await person.device(device_id))["jid"] is None


async def test_a_code_that_nobody_scans_expires(settings: Settings, sessions: SessionMaker, whatsapp: WhatsApp) -> None:
    short = settings.model_copy(update={"pairing_seconds": 6.0})
    async with listening(short) as url:
        linkings = LinkingStage(short, sessions, whatsapp, url)
        linkings.start_fleet()
        person = await linkings.register()
        device_id = await person.add_device()
        await person.begin(device_id)
        async with person.following(device_id) as page:
            await page.reach("expired")
        await linkings.keeps_no_session(device_id)
        await person.http.aclose()
        await linkings.stop_fleet()
    assert (await linkings.pairing(device_id)).status is PairingStatus.EXPIRED


async def test_a_code_typed_on_the_phone_links_the_device(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
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
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    first, second = await person.add_device("First"), await person.add_device("Second")
    kept = await linkings.link(person, first, number)
    await person.begin(second)
    async with person.following(second) as page:
        refused = await whatsapp.scan(qr=(await page.reach("code"))["code"], number=number)
        failure = await page.reach("failed")
    assert failure["error_code"] == "account_taken"
    assert f"{number} is linked to your device First already" in failure["message"]
    await linkings.forgets(refused)
    await linkings.keeps_no_session(second)
    assert kept in await linkings.linked_jids()
    assert ((await linkings.row(second)).jid, (await linkings.row(first)).jid) == (None, kept)

    by_code = await person.http.get("/app/login-with-code", params={"device_id": str(second), "phone": f"+{number}"})
    assert by_code.status_code == 409
    assert "linked to your device First" in by_code.json()["detail"]


async def test_two_users_who_link_at_once_get_each_their_own_account(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str, contact: str
) -> None:
    other = await linkings.register("badrul@example.com")
    devices = [await person.add_device(), await other.add_device()]
    await asyncio.gather(person.begin(devices[0]), other.begin(devices[1]))
    async with person.following(devices[0]) as mine, other.following(devices[1]) as theirs:
        codes = [(await page.reach("code"))["code"] for page in (mine, theirs)]
        jids = await asyncio.gather(whatsapp.scan(qr=codes[1], number=contact), whatsapp.scan(qr=codes[0], number=number))
        await asyncio.gather(mine.reach("linked"), theirs.reach("linked"))
    rows = [await linkings.row(device_id) for device_id in devices]
    assert [row.jid for row in rows] == [jids[1], jids[0]]
    assert [row.phone for row in rows] == [number, contact]
    assert rows[0].user_id != rows[1].user_id


async def test_a_server_that_cannot_be_reached_is_named_as_the_reason(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp
) -> None:
    await whatsapp.reach(state="refusing")
    device_id = await person.add_device()
    answer = await person.http.get("/app/login", params={"deviceId": str(device_id)})
    assert answer.status_code == 503
    assert answer.json()["detail"] == "WhatsApp cannot be reached from this server"
