"""Devices: adding, listing, changing and deleting them, each by its owner alone."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.clock import system_clock
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.models import BroadcastMessage, Device, Lane, LaneState, MessageStatus
from siaran.settings import Settings
from tests.api.conftest import MovableClock, register
from tests.api.devices import add_device, add_linked_device, add_messages, read_device


async def test_a_new_device_has_the_default_caps(api: AsyncClient) -> None:
    client = await register(api)
    answer = await client.post("/api/devices", json={"name": " Front desk "})
    assert answer.status_code == 201
    device = answer.json()["results"]["device"]
    UUID(device.pop("id"))
    assert device.pop("created_at") == device.pop("updated_at")
    assert device == {
        "name": "Front desk",
        "phone": "",
        "jid": None,
        "status": "offline",
        "lastSeen": None,
        "transport": "simulated",
        "max_per_minute": 20,
        "max_per_hour": 500,
        "max_per_day": 5000,
        "min_delay_seconds": 10,
        "max_delay_seconds": 30,
        "warm_up": None,
        "is_active": True,
        "restricted_until_at": None,
        "last_error": None,
        "last_error_at": None,
    }


async def test_a_new_device_has_a_sleeping_lane(api: AsyncClient, session: AsyncSession) -> None:
    device_id = await add_device(await register(api))
    lane = (await session.execute(select(Lane).where(Lane.device_id == device_id))).scalar_one()
    assert lane.state == LaneState.ASLEEP
    assert lane.user_id == (await session.get_one(Device, device_id)).user_id


async def test_a_device_can_be_added_with_caps_of_its_own(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client, max_per_minute=5, min_delay_seconds=0, max_delay_seconds=1)
    device = await read_device(client, device_id)
    assert (device["max_per_minute"], device["max_per_hour"], device["min_delay_seconds"]) == (5, 500, 0)


def is_about(at: datetime, expected: datetime) -> bool:
    """Whether an instant is the expected one, but for the time that a request takes."""
    return abs(at - expected) < timedelta(seconds=30)


async def warm_up(client: AsyncClient, device_id: UUID, **plan: object) -> dict[str, Any] | None:
    """Change a device's warm-up plan; returns it as it stands then."""
    answer = await client.patch(f"/api/devices/{device_id}", json={"warm_up": plan})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] | None = answer.json()["results"]["warm_up"]
    return found


async def test_a_device_can_be_added_with_the_usual_warm_up_plan(api: AsyncClient, clock: MovableClock) -> None:
    client = await register(api)
    device_id = await add_device(client, warm_up={})
    plan = (await read_device(client, device_id))["warm_up"]
    assert isinstance(plan, dict)
    assert (plan["first_day"], plan["daily_step"], plan["cap_today"]) == (50, 50, 50)
    began = datetime.fromisoformat(plan["started_at"])
    assert is_about(began, clock())
    assert datetime.fromisoformat(plan["ends_at"]) == began + timedelta(days=99)


async def test_the_cap_of_a_warming_device_rises_day_by_day_up_to_its_own(api: AsyncClient, clock: MovableClock) -> None:
    client = await register(api)
    device_id = await add_device(client, max_per_day=100, warm_up={"first_day": 20, "daily_step": 30})
    seen = []
    for _ in range(8):
        plan = (await read_device(client, device_id))["warm_up"]
        assert isinstance(plan, dict)
        seen.append(plan["cap_today"])
        clock.advance(timedelta(hours=12))
    assert seen == [20, 20, 50, 50, 80, 80, 100, 100]


async def test_changing_a_plan_under_way_keeps_its_days_and_stopping_it_ends_it(api: AsyncClient, clock: MovableClock) -> None:
    client = await register(api)
    device_id = await add_device(client)
    started = await warm_up(client, device_id, first_day=20)
    assert started is not None
    for _ in range(3):
        clock.advance(timedelta(hours=16))
        await read_device(client, device_id)
    changed = await warm_up(client, device_id, daily_step=10)
    assert changed is not None
    assert changed["started_at"] == started["started_at"]
    assert (changed["first_day"], changed["daily_step"], changed["cap_today"]) == (20, 10, 40)
    assert await warm_up(client, device_id, on=False) is None
    again = await warm_up(client, device_id)
    assert again is not None
    assert is_about(datetime.fromisoformat(again["started_at"]), clock())
    assert again["first_day"] == 50


async def test_a_plan_begins_with_the_link_to_an_account_and_goes_on_when_that_is_linked_again(
    api: AsyncClient, clock: MovableClock
) -> None:
    client = await register(api)
    device_id = await add_device(client, warm_up={})
    began = []
    for _ in range(2):
        clock.advance(timedelta(hours=5))
        link = await client.post("/app/link-device", json={"device_id": str(device_id), "phone": "60123456789"})
        assert link.status_code == 200, link.text
        plan = (await read_device(client, device_id))["warm_up"]
        assert isinstance(plan, dict)
        began.append(datetime.fromisoformat(plan["started_at"]))
        await client.get("/app/logout", params={"deviceId": str(device_id)})
    assert began[0] == began[1]
    assert is_about(began[0], clock() - timedelta(hours=5))


REFUSED: list[tuple[dict[str, object], str]] = [
    ({}, "name"),
    ({"name": "  "}, "name"),
    ({"name": "x" * 101}, "name"),
    ({"name": "a\0b"}, "name"),
    ({"name": "Desk", "max_per_minute": 0}, "max_per_minute"),
    ({"name": "Desk", "max_per_day": 10**20}, "max_per_day"),
    ({"name": "Desk", "max_per_hour": "many"}, "max_per_hour"),
    ({"name": "Desk", "min_delay_seconds": -1}, "min_delay_seconds"),
    ({"name": "Desk", "min_delay_seconds": 40}, "min_delay_seconds"),
    ({"name": "Desk", "warm_up": {"first_day": 0}}, "warm_up.first_day"),
    ({"name": "Desk", "warm_up": {"daily_step": 10**7}}, "warm_up.daily_step"),
    ({"name": "Desk", "warm_up": {"on": "perhaps"}}, "warm_up.on"),
    ({"name": "Desk", "transport": "pigeon"}, "transport"),
]


async def test_a_refused_device_names_the_field_and_leaves_nothing(api: AsyncClient) -> None:
    client = await register(api)
    for fields, refused in REFUSED:
        answer = await client.post("/api/devices", json=fields)
        assert answer.status_code == 422, fields
        assert [error["field"] for error in answer.json()["errors"]] == [refused]
    assert (await client.get("/api/devices")).json()["results"] == []


async def test_a_device_of_a_real_account_begins_without_a_link(api: AsyncClient) -> None:
    answer = await (await register(api)).post("/api/devices", json={"name": "Desk", "transport": "whatsapp"})
    device = answer.json()["results"]["device"]
    assert (device["transport"], device["status"], device["jid"], device["phone"]) == ("whatsapp", "offline", None, "")


async def test_two_devices_may_share_a_name(api: AsyncClient) -> None:
    client = await register(api)
    assert await add_device(client, "Desk") != await add_device(client, "Desk")


async def test_the_list_holds_ones_own_devices_page_by_page(api: AsyncClient) -> None:
    client = await register(api)
    await add_device(await register(api, email="other@example.com"), "Not mine")
    for name in ("A", "B", "C"):
        await add_device(client, name)
    first = (await client.get("/api/devices", params={"limit": 2})).json()
    second = (await client.get("/api/devices", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [device["name"] for device in first["results"] + second["results"]] == ["A", "B", "C"]
    assert second["next_cursor"] is None


async def test_the_list_can_be_narrowed_to_a_status(api: AsyncClient) -> None:
    client = await register(api)
    await add_device(client, "Unlinked")
    await add_linked_device(client, "Linked")
    answer = await client.get("/api/devices", params={"status": "connecting"})
    assert [device["name"] for device in answer.json()["results"]] == ["Linked"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_changing_one_field_leaves_the_others(api: AsyncClient, method: str) -> None:
    client = await register(api)
    device_id = await add_device(client, "Desk", max_per_minute=7, max_per_day=900)
    before = await read_device(client, device_id)
    answer = await client.request(method, f"/api/devices/{device_id}", json={"max_per_day": 50, "name": None})
    assert answer.status_code == 200
    changed = answer.json()["results"]
    assert changed["max_per_day"] == 50
    assert {**before, "max_per_day": 50, "updated_at": changed["updated_at"]} == changed


async def test_a_rename_keeps_the_caps(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client, "Desk", max_per_hour=9)
    await client.put(f"/api/devices/{device_id}", json={"name": "Counter"})
    device = await read_device(client, device_id)
    assert (device["name"], device["max_per_hour"]) == ("Counter", 9)


async def test_a_delay_that_contradicts_the_stored_one_is_refused(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client)
    answer = await client.patch(f"/api/devices/{device_id}", json={"min_delay_seconds": 31, "max_per_day": 1})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "min_delay_seconds"
    assert (await read_device(client, device_id))["max_per_day"] == 5000


async def test_a_deleted_device_is_gone_but_its_history_stays(
    api: AsyncClient, session: AsyncSession, settings: Settings
) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    await add_messages(session, device_id, 3, status=MessageStatus.SENT, at=system_clock())
    before = system_clock()
    answer = await client.delete(f"/api/devices/{device_id}")
    assert answer.status_code == 200
    assert (await client.get(f"/api/devices/{device_id}")).status_code == 404
    assert (await client.get("/api/devices")).json()["results"] == []
    row = await session.get_one(Device, device_id, populate_existing=True)
    assert (row.is_active, row.status, row.jid) == (False, "logged_out", None)
    assert row.deleted_at is not None
    assert row.deleted_at >= before
    assert row.offline_since_at == row.deleted_at - settings.failover_after
    messages = select(BroadcastMessage).where(BroadcastMessage.device_id == device_id)
    assert len((await session.execute(messages)).scalars().all()) == 3


async def test_deleting_logs_the_device_out_on_the_network(api: AsyncClient, network_url: str) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    await client.delete(f"/api/devices/{device_id}")
    async with SimulatedNetwork(network_url) as network:
        assert not (await network.device(device_id)).linked


async def test_a_lane_that_waits_for_a_cap_looks_again_when_the_cap_changes(api: AsyncClient, session: AsyncSession) -> None:
    maker = await register(api)
    waiting, asleep = [await session.get_one(Lane, await add_device(maker)) for _ in range(2)]
    waiting.state, waiting.waiting_for = LaneState.WAITING, "cap of the device"
    await session.commit()

    for lane in (waiting, asleep):
        assert (await maker.patch(f"/api/devices/{lane.device_id}", json={"max_per_day": 6000})).status_code == 200

    await session.refresh(waiting)
    await session.refresh(asleep)
    assert (waiting.state, asleep.state) == (LaneState.RUNNING, LaneState.ASLEEP)


async def test_deleting_wakes_the_lane_even_if_it_was_stopped(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    await add_messages(session, device_id, 1, at=system_clock())
    await client.post("/api/workers/stop-all")
    await client.delete(f"/api/devices/{device_id}")
    lane = (await session.execute(select(Lane).where(Lane.device_id == device_id))).scalar_one()
    assert (lane.state, lane.wakes, lane.paused_at) == (LaneState.RUNNING, 1, None)


async def test_a_device_that_was_never_linked_can_be_deleted(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client)
    assert (await client.delete(f"/api/devices/{device_id}")).status_code == 200
    assert (await client.delete(f"/api/devices/{device_id}")).status_code == 404


REQUESTS: list[tuple[str, str, dict[str, object] | None]] = [
    ("GET", "", None),
    ("PUT", "", {"name": "Mine now"}),
    ("PATCH", "", {"max_per_day": 1}),
    ("DELETE", "", None),
    ("POST", "/simulate", {"action": "ban"}),
    ("POST", "/link/simulate", None),
]


async def test_another_users_device_does_not_exist(api: AsyncClient, network_url: str) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    device_id = await add_linked_device(owner)
    before = await read_device(owner, device_id)
    for method, path, body in REQUESTS:
        theirs = await stranger.request(method, f"/api/devices/{device_id}{path}", json=body)
        nobodys = await stranger.request(method, f"/api/devices/{uuid4()}{path}", json=body)
        assert (theirs.status_code, nobodys.status_code) == (404, 404), (method, path)
        assert theirs.json() == nobodys.json()
    assert await read_device(owner, device_id) == before
    async with SimulatedNetwork(network_url) as network:
        assert (await network.device(device_id)).banned_until is None


async def test_devices_need_a_login(api: AsyncClient) -> None:
    assert (await api.get("/api/devices")).status_code == 401
    assert (await api.post("/api/devices", json={"name": "Desk"})).status_code == 401


async def test_failures_can_be_tried_out(api: AsyncClient, network_url: str, clock: MovableClock) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)

    async def simulate(**body: object) -> None:
        answer = await client.post(f"/api/devices/{device_id}/simulate", json=body)
        assert answer.status_code == 200, answer.text

    async with SimulatedNetwork(network_url) as network:
        await simulate(action="drop", seconds=60)
        dropped_until = (await network.device(device_id)).dropped_until
        assert dropped_until is not None
        assert 55 < (dropped_until - clock()).total_seconds() <= 60
        await simulate(action="restore")
        assert (await network.device(device_id)).dropped_until is None
        await simulate(action="ban")
        assert (await network.device(device_id)).banned_until is not None
        await simulate(action="restore")
        await simulate(action="restrict")
        assert (await network.device(device_id)).restricted
        await simulate(action="restrict", on=False)
        assert not (await network.device(device_id)).restricted
        await simulate(action="log_out")
        assert not (await network.device(device_id)).linked


async def test_a_failure_that_does_not_exist_is_refused(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_linked_device(client)
    for body, refused in (({}, "action"), ({"action": "explode"}, "action"), ({"action": "drop", "seconds": -1}, "seconds")):
        answer = await client.post(f"/api/devices/{device_id}/simulate", json=body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == refused


async def test_nothing_happens_to_a_device_without_a_link(api: AsyncClient) -> None:
    client = await register(api)
    answer = await client.post(f"/api/devices/{await add_device(client)}/simulate", json={"action": "drop"})
    assert answer.status_code == 409
    assert "link it first" in answer.json()["detail"]
