"""Linking simulated devices: the code on the page, the scan, pairing codes, log-out and reconnect."""

import asyncio
from datetime import timedelta
from io import BytesIO
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
import segno
from httpx import AsyncClient, Response
from PIL import Image
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.clock import system_clock
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.models import Device, DeviceStatus, Host, Lane, LaneState, TransportKind
from tests.api.conftest import MovableClock, register
from tests.api.devices import add_device, add_linked_device, add_messages, read_device

OTHER_SITE = {"sec-fetch-site": "cross-site"}


async def begin_login(client: AsyncClient, device_id: UUID) -> dict[str, object]:
    """The results of `/app/login`."""
    answer = await client.get("/app/login", params={"deviceId": str(device_id)})
    assert answer.status_code == 200, answer.text
    results: dict[str, object] = answer.json()["results"]
    return results


async def scan(client: AsyncClient, login: dict[str, object]) -> Response:
    """Click on the QR code."""
    return await client.post(urlsplit(str(login["scan_url"])).path)


def modules(png: bytes) -> list[list[bool]]:
    """The dark modules of a QR code's picture, without its quiet zone."""
    picture = Image.open(BytesIO(png)).convert("L")
    size = picture.width // 8
    rows = [[picture.getpixel((x * 8 + 4, y * 8 + 4)) == 0 for x in range(size)] for y in range(size)]
    return [row[4:-4] for row in rows[4:-4]]


async def test_the_qr_code_holds_the_address_that_scans_it(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client)
    login = await begin_login(client, device_id)
    assert login["qr_link"] == f"http://siaran.test/app/qr?device_id={device_id}"
    assert isinstance(login["qr_duration"], int)
    assert 50 <= login["qr_duration"] <= 60
    picture = await client.get(str(login["qr_link"]))
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["cache-control"] == "no-store"
    expected = segno.make(str(login["scan_url"]), micro=False)
    assert modules(picture.content) == [[bool(module) for module in row] for row in expected.matrix]


async def test_the_picture_stays_the_same_until_the_code_expires(api: AsyncClient, clock: MovableClock) -> None:
    client = await register(api)
    params = {"device_id": str(await add_device(client))}
    first = (await client.get("/app/qr", params=params)).content
    assert (await client.get("/app/qr", params=params)).content == first
    clock.advance(timedelta(seconds=61))
    assert (await client.get("/app/qr", params=params)).content != first


async def test_a_scan_links_the_device_that_the_code_was_made_for(api: AsyncClient, network_url: str) -> None:
    client = await register(api)
    bystander, device_id = await add_device(client, "Bystander"), await add_device(client, "Scanned")
    login = await begin_login(client, device_id)
    await begin_login(client, bystander)
    answer = await scan(client, login)
    assert answer.status_code == 200
    device = answer.json()["results"]
    async with SimulatedNetwork(network_url) as network:
        known = await network.device(device_id)
    assert known.linked
    assert (device["id"], device["status"]) == (str(device_id), "connecting")
    assert (device["jid"], device["phone"]) == (known.jid, known.phone)
    assert (await read_device(client, bystander))["jid"] is None


async def test_a_click_on_the_code_in_a_browser_scans_it(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client)
    path = urlsplit(str((await begin_login(client, device_id))["scan_url"])).path
    assert (await client.get(path, headers=OTHER_SITE)).status_code == 403
    assert (await read_device(client, device_id))["jid"] is None
    assert (await client.get(path, headers={"sec-fetch-site": "none"})).status_code == 200
    assert (await read_device(client, device_id))["jid"] is not None


async def test_a_code_works_once(api: AsyncClient) -> None:
    client = await register(api)
    login = await begin_login(client, await add_device(client))
    assert (await scan(client, login)).status_code == 200
    assert (await scan(client, login)).status_code == 404


async def test_a_code_scanned_twice_at_once_links_once(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_device(client)
    login = await begin_login(client, device_id)
    answers = await asyncio.gather(scan(client, login), scan(client, login))
    assert sorted(answer.status_code for answer in answers) in ([200, 404], [200, 409])
    assert (await session.get_one(Device, device_id)).link_generation == 1


async def test_an_expired_code_links_nothing(api: AsyncClient, clock: MovableClock) -> None:
    client = await register(api)
    device_id = await add_device(client)
    login = await begin_login(client, device_id)
    clock.advance(timedelta(seconds=61))
    answer = await scan(client, login)
    assert answer.status_code == 409
    assert "expired" in answer.json()["detail"]
    assert (await read_device(client, device_id))["jid"] is None


async def test_another_user_cannot_scan_the_code(api: AsyncClient) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    device_id = await add_device(owner)
    login = await begin_login(owner, device_id)
    assert (await scan(stranger, login)).status_code == 404
    assert (await scan(api, login)).status_code == 401
    assert (await read_device(owner, device_id))["jid"] is None
    assert (await scan(owner, login)).status_code == 200


CHANGING_GETS = [
    ("/app/login", "deviceId"),
    ("/app/qr", "device_id"),
    ("/app/logout", "deviceId"),
    ("/app/reconnect", "deviceId"),
    ("/app/login-with-code", "device_id"),
]
POSTS = [("/app/logout", "deviceId"), ("/app/reconnect", "deviceId")]


async def test_another_users_device_does_not_exist(api: AsyncClient) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    device_id = await add_linked_device(owner)
    before = await read_device(owner, device_id)
    requests = [("GET", *get) for get in CHANGING_GETS] + [("POST", *post) for post in POSTS]
    for method, path, name in requests:
        for unseen in (device_id, uuid4()):
            answer = await stranger.request(method, path, params={name: str(unseen), "phone": "60123456789"})
            assert answer.status_code == 404, (method, path)
    assert await read_device(owner, device_id) == before


async def test_another_users_device_cannot_be_linked_by_phone(api: AsyncClient) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    device_id = await add_device(owner)
    answer = await stranger.post("/app/link-device", json={"device_id": str(device_id), "phone": "60123456789"})
    assert answer.status_code == 404
    assert (await read_device(owner, device_id))["jid"] is None


async def test_gets_that_change_something_refuse_other_sites(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    before = await read_device(client, device_id)
    for path, name in CHANGING_GETS:
        answer = await client.get(path, params={name: str(device_id), "phone": "60123456789"}, headers=OTHER_SITE)
        assert answer.status_code == 403, path
    assert await read_device(client, device_id) == before


async def test_a_linked_device_shows_no_code(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    for path, name in (("/app/login", "deviceId"), ("/app/qr", "device_id")):
        answer = await client.get(path, params={name: str(device_id)})
        assert answer.status_code == 409
        assert "log it out first" in answer.json()["detail"]
    assert (await client.post(f"/api/devices/{device_id}/link/simulate")).status_code == 409


async def test_a_phone_number_links_a_device_at_once(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client)
    answer = await client.post("/app/link-device", json={"device_id": str(device_id), "phone": "012-345 6789"})
    assert answer.status_code == 200
    assert answer.json()["results"] == {"status": "linked", "message": "Front desk is linked to 60123456789"}
    device = await read_device(client, device_id)
    assert device["phone"] == "60123456789"
    assert str(device["jid"]).startswith("60123456789:")


async def test_a_phone_that_is_none_is_refused(api: AsyncClient) -> None:
    client = await register(api)
    device_id = str(await add_device(client))
    for phone in ("", "hello", "12"):
        answer = await client.post("/app/link-device", json={"device_id": device_id, "phone": phone})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "phone"
        answer = await client.get("/app/login-with-code", params={"device_id": device_id, "phone": phone})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "phone"


async def test_one_account_is_linked_to_one_device(api: AsyncClient, network_url: str) -> None:
    client = await register(api)
    first, second = await add_device(client, "First"), await add_device(client, "Second")
    body = {"device_id": str(first), "phone": "60123456789"}
    assert (await client.post("/app/link-device", json=body)).status_code == 200
    answer = await client.post("/app/link-device", json={**body, "device_id": str(second)})
    assert answer.status_code == 409
    assert "linked to your device First" in answer.json()["detail"]
    paired = await client.get("/app/login-with-code", params={"device_id": str(second), "phone": "60123456789"})
    assert paired.status_code == 409
    assert (await read_device(client, second))["jid"] is None
    async with SimulatedNetwork(network_url) as network:
        assert (await network.device(first)).linked

    await client.get("/app/logout", params={"deviceId": str(first)})
    assert (await client.post("/app/link-device", json={**body, "device_id": str(second)})).status_code == 200


async def test_two_devices_linked_to_one_account_at_once_end_with_one(api: AsyncClient) -> None:
    client = await register(api)
    devices = [await add_device(client, name) for name in ("First", "Second")]
    bodies = [{"device_id": str(device_id), "phone": "60123456789"} for device_id in devices]
    answers = await asyncio.gather(*(client.post("/app/link-device", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_pairing_code_links_the_device_after_a_moment(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client)
    answer = await client.get("/app/login-with-code", params={"device_id": str(device_id), "phone": "0123456789"})
    assert answer.status_code == 200
    left, dash, right = answer.json()["results"]["pair_code"].partition("-")
    assert (len(left), dash, len(right)) == (4, "-", 4)
    # The test's client returns only when the work after the answer is done.
    device = await read_device(client, device_id)
    assert (device["phone"], device["status"]) == ("60123456789", "connecting")


async def test_a_device_linked_before_its_code_is_typed_in_keeps_that_link(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_device(client)
    pairing = asyncio.create_task(
        client.get("/app/login-with-code", params={"device_id": str(device_id), "phone": "60123456789"})
    )
    await asyncio.sleep(0.5)
    answer = await client.post("/app/link-device", json={"device_id": str(device_id), "phone": "60198765432"})
    assert answer.status_code == 200
    assert (await pairing).status_code == 200
    row = await session.get_one(Device, device_id)
    assert (row.phone, row.link_generation) == ("60198765432", 1)


async def test_logging_out_ends_the_link_here_and_on_the_network(
    api: AsyncClient, session: AsyncSession, network_url: str
) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    await add_messages(session, device_id, 1, at=system_clock())
    answer = await client.get("/app/logout", params={"deviceId": str(device_id)})
    assert answer.status_code == 200
    assert answer.json()["results"] == {"device_id": str(device_id), "device_name": "Front desk", "status": "logged_out"}
    assert (await read_device(client, device_id))["jid"] is None
    async with SimulatedNetwork(network_url) as network:
        assert not (await network.device(device_id)).linked
    lane = await session.get_one(Lane, device_id, populate_existing=True)
    assert (lane.state, lane.wakes) == (LaneState.RUNNING, 1)


async def test_a_new_link_is_a_new_generation(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    await client.post("/app/logout", params={"deviceId": str(device_id)})
    await client.post(f"/api/devices/{device_id}/link/simulate")
    row = await session.get_one(Device, device_id)
    assert (row.link_generation, row.status) == (2, DeviceStatus.CONNECTING)


async def test_a_device_logged_out_on_the_phone_can_be_linked_again(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    # What its host notes when the network tells it.
    await session.execute(update(Device).where(Device.id == device_id).values(status=DeviceStatus.LOGGED_OUT))
    await session.commit()
    assert (await read_device(client, device_id))["jid"] is None
    assert (await client.post("/app/reconnect", params={"deviceId": str(device_id)})).status_code == 409
    assert (await scan(client, await begin_login(client, device_id))).status_code == 200
    device = await read_device(client, device_id)
    assert device["status"] == "connecting"
    assert device["jid"] is not None


@pytest.mark.parametrize("path", ["/app/logout?deviceId={}", "/api/devices/{}"])
async def test_a_device_without_a_link_is_at_no_host(api: AsyncClient, session: AsyncSession, path: str) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    host = Host(server="here", transport=TransportKind.SIMULATED, capacity=1, expires_at=system_clock())
    session.add(host)
    await session.flush()
    await session.execute(update(Device).where(Device.id == device_id).values(host_id=host.id, status=DeviceStatus.ONLINE))
    await session.commit()
    answer = await client.request("POST" if "logout" in path else "DELETE", path.format(device_id))
    assert answer.status_code == 200
    assert (await session.get_one(Device, device_id, populate_existing=True)).host_id is None


async def test_logging_out_a_device_without_a_link_changes_nothing(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client)
    answer = await client.post("/app/logout", params={"deviceId": str(device_id)})
    assert answer.json()["results"]["status"] == "offline"


async def test_reconnecting_an_offline_device_shows_it_connecting(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    await session.execute(update(Device).where(Device.id == device_id).values(status=DeviceStatus.OFFLINE))
    await session.commit()
    answer = await client.get("/app/reconnect", params={"deviceId": str(device_id)})
    assert answer.json()["results"] == {"device_id": str(device_id), "device_name": "Front desk", "status": "connecting"}


async def test_reconnecting_leaves_an_online_device_online(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    await session.execute(update(Device).where(Device.id == device_id).values(status=DeviceStatus.ONLINE))
    await session.commit()
    answer = await client.post("/app/reconnect", params={"deviceId": str(device_id)})
    assert answer.json()["results"]["status"] == "online"


async def test_a_device_without_a_link_cannot_reconnect(api: AsyncClient) -> None:
    client = await register(api)
    answer = await client.post("/app/reconnect", params={"deviceId": str(await add_device(client))})
    assert answer.status_code == 409


async def test_a_malformed_device_id_names_its_field(api: AsyncClient) -> None:
    answer = await (await register(api)).get("/app/login", params={"deviceId": "7"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "deviceId"
