"""Linking devices to real accounts as the API sees it; what a fleet and its processes do is played by the test."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import ASGITransport, AsyncClient
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from api import linkings
from api.app import create_app
from cli.linking import read_events
from siaran.clock import system_clock
from siaran.linking_accounts import LinkingTask, Superseded, settle, take_up
from siaran.linking_codes import CodeKind, LinkingCode, channel, show_code, tell_end
from siaran.models import Device, DeviceStatus, Pairing, PairingStatus, TransportKind, Unlinking
from siaran.pairings import claim_pairings, expire_pairings, fail_pairings
from siaran.settings import Settings
from tests.api.conftest import BASE_URL, MovableClock, register
from tests.api.devices import add_device, add_linked_device, read_device
from tests.waiting import eventually

SERVER = "here"
LASTS = timedelta(seconds=160)


class Fleet:
    """What a fleet and its processes do to linkings."""

    def __init__(self, session: AsyncSession, redis: Redis) -> None:
        self.session = session
        self.redis = redis

    async def claim(self) -> LinkingTask:
        """Take the one linking that is wanted, as soon as there is one."""
        async with asyncio.timeout(10):
            while not (claimed := await claim_pairings(self.session, SERVER, 5, LASTS)):
                await self.session.rollback()
                await asyncio.sleep(0.02)
        await self.session.commit()
        [one] = claimed
        task = await take_up(self.session, one.pairing_id, SERVER, 1)
        await self.session.commit()
        assert task is not None
        return task

    async def show(self, task: LinkingTask, code: str, kind: CodeKind = CodeKind.QR) -> LinkingCode:
        shown = LinkingCode(kind, code, system_clock() + timedelta(seconds=60))
        await show_code(self.redis, task.pairing_id, shown)
        return shown

    async def link(self, task: LinkingTask, jid: str) -> None:
        await settle(self.session, task, SERVER, jid, system_clock())
        await self.session.commit()

    async def fail(self, task: LinkingTask, code: str, message: str) -> None:
        await fail_pairings(self.session, [task.pairing_id], code, message)
        await self.session.commit()


@pytest.fixture
def fleet(session: AsyncSession, redis: Redis) -> Fleet:
    """A fleet in the hands of the test."""
    return Fleet(session, redis)


async def add_real_device(client: AsyncClient, name: str = "Front desk") -> UUID:
    return await add_device(client, name, transport="whatsapp")


async def begun(
    client: AsyncClient, fleet: Fleet, device_id: UUID, code: str = "the code"
) -> tuple[LinkingTask, dict[str, Any]]:
    """Begin to link a device by QR code; returns the fleet's task and the answer's results."""
    asked = asyncio.create_task(client.get("/app/login", params={"deviceId": str(device_id)}))
    task = await fleet.claim()
    await fleet.show(task, code)
    answer = await asked
    assert answer.status_code == 200, answer.text
    return task, answer.json()["results"]


def events_in(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream."""
    return list(read_events([text.encode()]))


async def linked_real_device(client: AsyncClient, session: AsyncSession, name: str = "Front desk") -> UUID:
    """A device with a link that a fleet has made before."""
    device_id = await add_real_device(client, name)
    values = {"jid": f"60123456789:{uuid4().int % 90}@s.whatsapp.net", "phone": "60123456789", "link_generation": 1}
    await session.execute(update(Device).where(Device.id == device_id).values(status=DeviceStatus.ONLINE, **values))
    await session.commit()
    return device_id


async def test_the_login_waits_for_the_code_and_says_where_to_follow(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    task, login = await begun(client, fleet, device_id)
    assert task.device_id == device_id
    assert login["qr_link"] == f"http://siaran.test/app/qr?device_id={device_id}"
    assert login["events_url"] == f"http://siaran.test/api/devices/{device_id}/link/events"
    assert login["scan_url"] is None
    assert 50 <= login["qr_duration"] <= 60
    picture = await client.get("/app/qr", params={"device_id": str(device_id)})
    assert picture.content.startswith(b"\x89PNG")


async def test_a_page_is_told_everything_in_order_until_the_link(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    task, _ = await begun(client, fleet, device_id, "first")
    # The first code was published before anybody followed.
    stream = asyncio.create_task(client.get(f"/api/devices/{device_id}/link/events"))
    await asyncio.sleep(0.3)
    await fleet.show(task, "second")
    await asyncio.sleep(0.3)
    await fleet.show(task, "", CodeKind.SCANNED)
    await asyncio.sleep(0.3)
    await fleet.link(task, "60123456789:3@s.whatsapp.net")
    await tell_end(fleet.redis, task.pairing_id)
    answer = await asyncio.wait_for(stream, 5)

    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_in(answer.text)
    assert [name for name, _ in events] == ["status", "code", "code", "status", "linked"]
    assert [told["code"] for name, told in events if name == "code"] == ["first", "second"]
    assert events[1][1]["png"].startswith("data:image/png;base64,")
    assert events[3][1]["status"] == "scanned"
    assert events[4][1] == {"device_id": str(device_id), "device_name": "Front desk", "phone": "60123456789"}
    device = await read_device(client, device_id)
    assert (device["status"], device["jid"]) == ("connecting", "60123456789:3@s.whatsapp.net")


async def test_a_page_learns_of_the_end_although_nobody_tells_it(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    task, _ = await begun(client, fleet, device_id)
    stream = asyncio.create_task(client.get(f"/api/devices/{device_id}/link/events"))
    await asyncio.sleep(0.3)
    await fleet.fail(task, "interrupted", "it broke")
    answer = await asyncio.wait_for(stream, 5)
    assert events_in(answer.text)[-1] == ("failed", {"error_code": "interrupted", "message": "it broke"})
    # A browser connects again by itself when a stream ends, unless it is told not to.
    seen = {"last-event-id": f"end:{task.pairing_id}"}
    assert (await client.get(f"/api/devices/{device_id}/link/events", headers=seen)).status_code == 204


async def test_a_page_without_redis_still_learns_of_the_end(
    api: AsyncClient, fleet: Fleet, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    task, _ = await begun(client, fleet, device_id)
    await fleet.fail(task, "interrupted", "it broke")
    away = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")})
    monkeypatch.setattr(linkings, "REDIS_SECONDS", 0.3)
    app = create_app(away)
    async with app.router.lifespan_context(app):
        looks = linkings.follow(app.state.context, task.user_id, task.pairing_id)
        assert [look.pairing.status async for look in looks] == [PairingStatus.FAILED]


async def test_nobody_subscribes_once_the_pages_are_gone(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    task, _ = await begun(client, fleet, device_id)
    streams = [asyncio.create_task(client.get(f"/api/devices/{device_id}/link/events")) for _ in range(3)]
    await asyncio.sleep(0.3)
    assert await fleet.redis.pubsub_numpat() == 1
    await fleet.fail(task, "interrupted", "it broke")
    await asyncio.gather(*streams)

    async def is_quiet() -> bool:
        return await fleet.redis.pubsub_numpat() == 0

    await eventually(is_quiet)


async def test_a_linking_that_no_fleet_takes_is_refused_with_the_reason(
    api: AsyncClient, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linkings, "CLAIM_SECONDS", 0.2)
    client = await register(api)
    device_id = await add_real_device(client)
    answer = await client.get("/app/login", params={"deviceId": str(device_id)})
    assert answer.status_code == 503
    assert "the fleet that links devices is not running" in answer.json()["detail"]
    [pairing] = await session.scalars(select(Pairing))
    assert (pairing.status, pairing.error_code) == (PairingStatus.FAILED, "no_fleet")


async def test_a_pairing_code_is_shown_and_kept(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    params = {"device_id": str(device_id), "phone": "012-345 6789"}
    asked = asyncio.create_task(client.get("/app/login-with-code", params=params))
    task = await fleet.claim()
    assert task.phone == "60123456789"
    await fleet.show(task, "ABCD-1234", CodeKind.PAIR_CODE)
    assert (await asked).json()["results"]["pair_code"] == "ABCD-1234"
    again = await client.post("/app/link-device", json=params)
    assert again.json()["results"] == {"status": "pairing", "message": "Enter ABCD-1234 on the phone"}
    assert (await client.get("/app/qr", params=params)).status_code == 409


async def test_another_way_to_link_takes_the_place_of_the_first(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    first, _ = await begun(client, fleet, device_id)
    asked = asyncio.create_task(
        client.get("/app/login-with-code", params={"device_id": str(device_id), "phone": "60123456789"})
    )
    second = await fleet.claim()
    await fleet.show(second, "ABCD-1234", CodeKind.PAIR_CODE)
    assert (await asked).status_code == 200
    assert second.link_generation == first.link_generation + 1
    with pytest.raises(Superseded):
        await fleet.link(first, "60123456789:3@s.whatsapp.net")
    await fleet.session.rollback()
    assert (await read_device(client, device_id))["jid"] is None


async def test_a_cancelled_linking_can_link_nothing_any_more(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    task, _ = await begun(client, fleet, device_id)
    stream = asyncio.create_task(client.get(f"/api/devices/{device_id}/link/events"))
    await asyncio.sleep(0.3)
    answer = await client.delete(f"/api/devices/{device_id}/link")
    assert answer.json()["results"]["status"] == "cancelled"
    assert events_in((await asyncio.wait_for(stream, 5)).text)[-1][0] == "cancelled"
    assert await fleet.redis.get(channel(task.pairing_id)) is None
    with pytest.raises(Superseded):
        await fleet.link(task, "60123456789:3@s.whatsapp.net")
    await fleet.session.rollback()
    assert (await client.delete(f"/api/devices/{device_id}/link")).json()["results"]["status"] == "idle"


async def test_a_link_is_written_down_once(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    task, _ = await begun(client, fleet, device_id)
    await fleet.link(task, "60123456789:3@s.whatsapp.net")
    await client.put(f"/api/devices/{device_id}", json={"name": "Renamed"})
    await fleet.link(task, "60123456789:3@s.whatsapp.net")
    row = await fleet.session.get_one(Device, device_id, populate_existing=True)
    assert (row.device_name, row.link_generation, row.status) == ("Renamed", 1, DeviceStatus.CONNECTING)


async def test_a_linking_expires_and_a_new_one_can_begin(api: AsyncClient, fleet: Fleet, clock: MovableClock) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    task, _ = await begun(client, fleet, device_id)
    past = system_clock() - timedelta(seconds=1)
    await fleet.session.execute(update(Pairing).where(Pairing.id == task.pairing_id).values(expires_at=past))
    await expire_pairings(fleet.session, SERVER)
    await fleet.session.commit()
    answer = await client.get(f"/api/devices/{device_id}/link/events")
    assert [name for name, _ in events_in(answer.text)] == ["expired"]
    again, _ = await begun(client, fleet, device_id)
    assert again.link_generation == 2


async def test_another_users_linking_does_not_exist(api: AsyncClient, fleet: Fleet) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    device_id = await add_real_device(owner)
    await begun(owner, fleet, device_id)
    for unseen in (device_id, uuid4()):
        requests = [
            stranger.get("/app/login", params={"deviceId": str(unseen)}),
            stranger.get("/app/qr", params={"device_id": str(unseen)}),
            stranger.get("/app/login-with-code", params={"device_id": str(unseen), "phone": "60123456789"}),
            stranger.post("/app/link-device", json={"device_id": str(unseen), "phone": "60123456789"}),
            stranger.get(f"/api/devices/{unseen}/link/events"),
            stranger.delete(f"/api/devices/{unseen}/link"),
            stranger.post("/app/logout", params={"deviceId": str(unseen)}),
        ]
        for answer in await asyncio.gather(*requests):
            assert answer.status_code == 404, answer.url
    assert (await owner.delete(f"/api/devices/{device_id}/link")).json()["results"]["status"] == "cancelled"


async def test_bad_input_names_its_field(api: AsyncClient) -> None:
    client = await register(api)
    device_id = str(await add_real_device(client))
    refused = [
        (await client.get("/app/login-with-code", params={"device_id": device_id, "phone": "12"}), "phone"),
        (await client.post("/app/link-device", json={"device_id": device_id, "phone": "hello"}), "phone"),
        (await client.get("/api/devices/7/link/events"), "device_id"),
        (await client.delete("/api/devices/7/link"), "device_id"),
        (await client.post("/api/devices", json={"name": "Desk", "transport": "pigeon"}), "transport"),
    ]
    for answer, field in refused:
        assert answer.status_code == 422, answer.url
        assert answer.json()["errors"][0]["field"] == field


async def test_a_device_that_is_not_being_linked_has_nothing_to_follow(api: AsyncClient) -> None:
    client = await register(api)
    answer = await client.get(f"/api/devices/{await add_real_device(client)}/link/events")
    assert answer.status_code == 404
    assert "/app/login" in answer.json()["detail"]


async def test_a_linked_device_is_not_linked_again(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = str(await linked_real_device(client, session))
    for path, name in (("/app/login", "deviceId"), ("/app/qr", "device_id"), ("/app/login-with-code", "device_id")):
        answer = await client.get(path, params={name: device_id, "phone": "60198765432"})
        assert answer.status_code == 409
        assert "log it out first" in answer.json()["detail"]


async def test_an_account_that_another_device_has_is_refused_before_and_after(
    api: AsyncClient, session: AsyncSession, fleet: Fleet
) -> None:
    client = await register(api)
    await linked_real_device(client, session, "First")
    device_id = await add_real_device(client, "Second")
    params = {"device_id": str(device_id), "phone": "60123456789"}
    answer = await client.get("/app/login-with-code", params=params)
    assert answer.status_code == 409
    assert "linked to your device First" in answer.json()["detail"]
    task, _ = await begun(client, fleet, device_id)
    with pytest.raises(Exception, match="linked to your device First"):
        await fleet.link(task, "60123456789:99@s.whatsapp.net")
    await session.rollback()
    assert (await read_device(client, device_id))["jid"] is None


async def test_a_user_links_only_a_few_devices_at_once(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    for number in range(5):
        await begun(client, fleet, await add_real_device(client, f"Desk {number}"))
    answer = await client.get("/app/login", params={"deviceId": str(await add_real_device(client, "One more"))})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "30"


@pytest.mark.parametrize("way", ["log out", "delete"])
async def test_the_end_of_a_link_is_to_be_told_to_whatsapp(api: AsyncClient, session: AsyncSession, way: str) -> None:
    client = await register(api)
    device_id = await linked_real_device(client, session)
    jid = (await read_device(client, device_id))["jid"]
    if way == "delete":
        answer = await client.delete(f"/api/devices/{device_id}")
    else:
        answer = await client.get("/app/logout", params={"deviceId": str(device_id)})
    assert answer.status_code == 200
    row = await session.get_one(Device, device_id, populate_existing=True)
    assert (row.jid, row.host_id, row.status) == (None, None, DeviceStatus.LOGGED_OUT)
    [unlinking] = await session.scalars(select(Unlinking))
    assert (unlinking.device_id, unlinking.jid, unlinking.link_generation) == (device_id, jid, 1)
    assert unlinking.done_at is None


async def test_deleting_a_device_cancels_its_linking(api: AsyncClient, fleet: Fleet) -> None:
    client = await register(api)
    device_id = await add_real_device(client)
    task, _ = await begun(client, fleet, device_id)
    await client.delete(f"/api/devices/{device_id}")
    with pytest.raises(Superseded):
        await fleet.link(task, "60123456789:3@s.whatsapp.net")


async def test_a_simulated_device_leaves_nothing_to_be_told(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    await client.post("/app/logout", params={"deviceId": str(device_id)})
    assert (await session.scalars(select(Unlinking))).all() == []


async def test_a_real_device_is_not_linked_with_a_click(api: AsyncClient) -> None:
    client = await register(api)
    answer = await client.post(f"/api/devices/{await add_real_device(client)}/link/simulate")
    assert answer.status_code == 409
    assert "not a simulated device" in answer.json()["detail"]


async def test_a_new_device_is_simulated_only_where_there_is_a_simulated_network(api: AsyncClient, settings: Settings) -> None:
    client = await register(api)
    made = await client.post("/api/devices", json={"name": "Desk"})
    assert made.json()["results"]["device"]["transport"] == TransportKind.SIMULATED
    app = create_app(settings.model_copy(update={"network_url": None}))
    async with app.router.lifespan_context(app), AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as other:
        other.cookies = client.cookies
        made = await other.post("/api/devices", json={"name": "Desk"})
        assert made.json()["results"]["device"]["transport"] == TransportKind.WHATSAPP
        refused = await other.post("/api/devices", json={"name": "Desk", "transport": "simulated"})
        assert refused.json()["errors"] == [
            {"field": "transport", "reason": "there is no simulated network in this deployment"}
        ]


async def test_a_login_without_redis_says_what_is_missing(
    api: AsyncClient, fleet: Fleet, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linkings, "CODE_SECONDS", 0.5)
    client = await register(api)
    device_id = await add_real_device(client)
    app = create_app(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")}))
    async with app.router.lifespan_context(app), AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as other:
        other.cookies = client.cookies
        asked = asyncio.create_task(other.get("/app/login", params={"deviceId": str(device_id)}))
        await fleet.claim()
        answer = await asked
    assert answer.status_code == 503
    assert "Redis does not answer" in answer.json()["detail"]
