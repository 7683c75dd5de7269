"""Workers: what lanes do, stopping and resuming them, each by its owner alone."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import event, update
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from siaran.clock import system_clock
from siaran.contracts import device_workflow_id
from siaran.models import Device, DeviceStatus, Lane, LaneState, MessageStatus
from tests.api.conftest import MovableClock, register
from tests.api.devices import add_device, add_linked_device, add_messages

NOW = system_clock()
LONG_AGO = NOW - timedelta(minutes=11)


@pytest.fixture(autouse=True)
def _it_is_now(clock: MovableClock) -> None:
    """However long the tests before this one took, a lane that moved at `NOW` has just moved."""
    clock.advance(NOW - system_clock())


async def set_lane(session: AsyncSession, device_id: UUID, **values: object) -> None:
    """Put a lane into a state, as its workflow would."""
    await session.execute(update(Lane).where(Lane.device_id == device_id).values(**values))
    await session.commit()


async def statuses(client: AsyncClient) -> list[str]:
    """The worker statuses, oldest device first."""
    answer = await client.get("/api/workers/status")
    assert answer.status_code == 200, answer.text
    return [worker["worker_status"] for worker in answer.json()["results"]["device_workers"]]


async def test_the_overview_counts_devices_queues_and_messages(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    busy, idle = await add_device(client, "Busy"), await add_device(client, "Idle")
    campaign_id = await add_messages(session, busy, 3, at=NOW)
    await add_messages(session, busy, 2, at=NOW, status=MessageStatus.SENT)
    await session.execute(update(Device).where(Device.id == busy).values(status=DeviceStatus.ONLINE))
    await set_lane(
        session,
        busy,
        state=LaneState.RUNNING,
        processed=8,
        failed=2,
        current_campaign_id=campaign_id,
        last_activity_at=NOW,
        last_error="invalid_number",
    )
    results = (await client.get("/api/workers/status")).json()["results"]
    assert (results["total_workers"], results["user_devices"], results["connected_devices"]) == (2, 2, 1)
    assert results["filter"] == "all"
    assert results["workers"] == results["device_workers"]
    first, second = results["device_workers"]
    assert datetime.fromisoformat(first.pop("last_activity")) == NOW
    assert first == {
        "device_id": str(busy),
        "device_name": "Busy",
        "device_status": "online",
        "worker_status": "active",
        "queue_size": 3,
        "processed": 8,
        "failed": 2,
        "success_rate": 75.0,
        "current_campaign_id": campaign_id,
        "current_sequence_id": None,
        "waiting_for": None,
        "waiting_until_at": None,
        "last_error": "invalid_number",
    }
    assert (second["device_id"], second["worker_status"], second["queue_size"]) == (str(idle), "idle", 0)
    summary = {
        "total_workers": 2,
        "active_workers": 1,
        "idle_workers": 1,
        "waiting_workers": 0,
        "stopped_workers": 0,
        "error_workers": 0,
        "total_queued": 3,
        "total_processed": 8,
        "total_failed": 2,
    }
    assert results["summary"] == summary
    assert (await client.get("/api/broadcast/stats")).json()["results"] == summary


async def test_the_overview_shows_no_one_elses_lanes(api: AsyncClient, session: AsyncSession) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    await add_messages(session, await add_device(owner), 2, at=NOW)
    results = (await stranger.get("/api/workers/status")).json()["results"]
    assert (results["total_workers"], results["device_workers"]) == (0, [])
    assert (await stranger.get("/api/broadcast/stats")).json()["results"]["total_queued"] == 0


async def test_deleted_devices_have_no_worker(api: AsyncClient) -> None:
    client = await register(api)
    device_id = await add_device(client)
    await client.delete(f"/api/devices/{device_id}")
    assert await statuses(client) == []
    assert (await client.get(f"/api/workers/device/{device_id}")).status_code == 404


async def test_queues_are_counted_by_one_statement_however_many_devices(
    api: AsyncClient, app: object, session: AsyncSession
) -> None:
    client = await register(api)
    for name in ("A", "B", "C"):
        await add_messages(session, await add_device(client, name), 2, at=NOW)
    seen: list[str] = []
    engine = app.state.context.sessions.kw["bind"].sync_engine  # type: ignore[attr-defined]  # FastAPI's state is untyped

    def note(*args: object) -> None:
        seen.append(str(args[2]))

    event.listen(engine, "before_cursor_execute", note)
    results = (await client.get("/api/workers/status")).json()["results"]
    event.remove(engine, "before_cursor_execute", note)
    assert results["summary"]["total_queued"] == 6
    assert len([statement for statement in seen if "broadcast_messages" in statement]) == 1


STATUSES: list[tuple[dict[str, object], dict[str, object], str]] = [
    ({}, {}, "idle"),
    ({"state": LaneState.RUNNING}, {}, "active"),
    ({"state": LaneState.WAITING, "waiting_for": "cap of the device"}, {}, "waiting"),
    ({"state": LaneState.WAITING, "paused_at": NOW}, {}, "stopped"),
    ({"state": LaneState.WAITING}, {"status": DeviceStatus.BANNED}, "error"),
    ({"state": LaneState.WAITING}, {"status": DeviceStatus.OFFLINE}, "waiting"),
    ({"state": LaneState.RUNNING, "updated_at": LONG_AGO}, {}, "error"),
    ({"state": LaneState.RUNNING, "updated_at": LONG_AGO, "last_activity_at": NOW}, {}, "active"),
    ({"state": LaneState.WAITING, "updated_at": LONG_AGO}, {}, "waiting"),
    ({"state": LaneState.WAITING, "updated_at": LONG_AGO, "waiting_until_at": LONG_AGO}, {}, "error"),
    ({"state": LaneState.WAITING, "updated_at": LONG_AGO, "waiting_until_at": NOW}, {}, "waiting"),
]


async def test_a_worker_status_says_what_the_lane_does(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_device(client)
    await add_messages(session, device_id, 1, at=LONG_AGO)
    plain = {"state": LaneState.ASLEEP, "updated_at": NOW}
    plain |= dict.fromkeys(("waiting_for", "waiting_until_at", "paused_at", "last_activity_at"))
    for lane, device, expected in STATUSES:
        values = {"status": DeviceStatus.ONLINE, **device}
        await session.execute(update(Device).where(Device.id == device_id).values(**values))
        await set_lane(session, device_id, **{**plain, **lane})
        assert await statuses(client) == [expected], (lane, device)


async def test_a_banned_device_with_nothing_to_send_is_idle(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_device(client)
    await session.execute(update(Device).where(Device.id == device_id).values(status=DeviceStatus.BANNED))
    await session.commit()
    assert await statuses(client) == ["idle"]


async def test_lanes_are_filtered_by_device_campaign_and_status(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    first, second = await add_device(client, "First"), await add_device(client, "Second")
    campaign_id = await add_messages(session, first, 1, at=NOW)
    await set_lane(session, second, state=LaneState.RUNNING)

    async def names(**params: object) -> list[str]:
        answer = await client.get("/api/workers/status", params={name: str(value) for name, value in params.items()})
        results = answer.json()["results"]
        assert results["total_workers"] == 2
        assert results["summary"]["total_workers"] == len(results["workers"])
        return [worker["device_name"] for worker in results["workers"]]

    assert await names(filter="all") == ["First", "Second"]
    assert await names(filter="device", id=second) == ["Second"]
    assert await names(filter="campaign", id=campaign_id) == ["First"]
    assert await names(filter="active") == ["Second"]
    assert await names(filter="stopped") == []


async def test_lanes_come_page_by_page_with_totals_of_all(api: AsyncClient) -> None:
    client = await register(api)
    for name in ("A", "B", "C"):
        await add_device(client, name)
    first = (await client.get("/api/workers/status", params={"limit": 2})).json()["results"]
    second = (await client.get("/api/workers/status", params={"limit": 2, "cursor": first["next_cursor"]})).json()["results"]
    assert [worker["device_name"] for worker in first["workers"] + second["workers"]] == ["A", "B", "C"]
    assert first["summary"]["total_workers"] == second["summary"]["total_workers"] == 3
    assert second["next_cursor"] is None


async def test_a_filter_by_something_needs_a_good_id_of_ones_own(api: AsyncClient, session: AsyncSession) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    device_id = await add_device(owner)
    campaign_id = await add_messages(session, device_id, 1, at=NOW)
    for chosen, theirs in (("device", device_id), ("campaign", campaign_id), ("sequence", uuid4())):
        for params in ({"filter": chosen}, {"filter": chosen, "id": "x"}):
            answer = await stranger.get("/api/workers/status", params=params)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["field"] == "id"
        answer = await stranger.get("/api/workers/status", params={"filter": chosen, "id": str(theirs)})
        assert answer.status_code == 404, chosen


async def test_an_unknown_filter_is_refused(api: AsyncClient) -> None:
    answer = await (await register(api)).get("/api/workers/status", params={"filter": "busy"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "filter"


async def test_the_worker_of_a_device_tells_what_it_sends_for(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_device(client)
    campaign_id = await add_messages(session, device_id, 4, at=NOW, title="Merdeka")
    await set_lane(
        session, device_id, state=LaneState.WAITING, waiting_for="cap of the device", current_campaign_id=campaign_id
    )
    answer = await client.get(f"/api/workers/device/{device_id}")
    assert answer.json()["results"] == {
        "device_id": str(device_id),
        "device_name": "Front desk",
        "worker_exists": True,
        "status": "waiting",
        "queue_size": 4,
        "processed_count": 0,
        "failed_count": 0,
        "success_rate": 0.0,
        "last_activity": None,
        "is_active": False,
        "current_campaign": {"id": campaign_id, "name": "Merdeka", "status": "sending"},
        "current_sequence": None,
        "message": "Front desk waits: cap of the device",
    }


async def test_a_sleeping_lane_sends_for_nothing(api: AsyncClient, session: AsyncSession) -> None:
    client = await register(api)
    device_id = await add_device(client)
    await set_lane(session, device_id, current_campaign_id=await add_messages(session, device_id, 0, at=NOW))
    results = (await client.get(f"/api/workers/device/{device_id}")).json()["results"]
    assert (results["worker_exists"], results["current_campaign"]) == (False, None)


async def test_stop_all_stops_ones_own_lanes_durably(api: AsyncClient) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    for name in ("A", "B"):
        await add_device(owner, name)
    await add_device(stranger)
    answer = await owner.post("/api/workers/stop-all")
    assert answer.json()["results"] == {"stopped_count": 2}
    assert await statuses(owner) == ["stopped", "stopped"]
    assert await statuses(stranger) == ["idle"]
    assert (await owner.post("/api/workers/stop-all")).json()["results"] == {"stopped_count": 0}


async def test_resuming_frees_stopped_lanes_and_wakes_them(
    api: AsyncClient, session: AsyncSession, temporal_client: Client
) -> None:
    client = await register(api)
    stopped, running = await add_linked_device(client, "Stopped"), await add_device(client, "Running")
    await add_messages(session, stopped, 1, at=NOW)
    await set_lane(session, stopped, state=LaneState.WAITING, paused_at=NOW, last_error="x")
    await set_lane(session, running, state=LaneState.RUNNING)
    answer = await client.post("/api/workers/resume-failed")
    assert answer.json()["results"] == {"resumed_count": 1}
    assert await statuses(client) == ["active", "active"]
    lane = await session.get_one(Lane, stopped, populate_existing=True)
    assert (lane.paused_at, lane.last_error, lane.wakes) == (None, None, 1)
    workflow = await temporal_client.get_workflow_handle(device_workflow_id(stopped)).describe()
    assert workflow.workflow_type == "DeviceWorkflow"
    assert (await client.post("/api/workers/resume-failed")).json()["results"] == {"resumed_count": 0}


async def test_resuming_restarts_a_stuck_lane(api: AsyncClient, session: AsyncSession, temporal_client: Client) -> None:
    client = await register(api)
    device_id = await add_device(client)
    await add_messages(session, device_id, 1, at=LONG_AGO)
    await set_lane(session, device_id, state=LaneState.RUNNING, updated_at=LONG_AGO)
    assert (await client.post("/api/workers/resume-failed")).json()["results"] == {"resumed_count": 1}
    assert await statuses(client) == ["active"]
    workflow = await temporal_client.get_workflow_handle(device_workflow_id(device_id)).describe()
    assert workflow.workflow_type == "DeviceWorkflow"


async def test_one_lane_is_stopped_and_resumed_alone(api: AsyncClient) -> None:
    client = await register(api)
    device_id, _ = await add_device(client, "A"), await add_device(client, "B")
    answer = await client.post(f"/api/workers/device/{device_id}/stop")
    assert (answer.json()["results"]["status"], answer.json()["results"]["message"]) == (
        "stopped",
        "A is stopped; resume it to send",
    )
    assert await statuses(client) == ["stopped", "idle"]
    answer = await client.post(f"/api/workers/device/{device_id}/resume")
    assert answer.status_code == 200
    assert "stopped" not in await statuses(client)


async def test_another_users_worker_does_not_exist(api: AsyncClient) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    running, stopped = await add_device(owner), await add_device(owner)
    await owner.post(f"/api/workers/device/{stopped}/stop")
    for method, device_id, path in (("GET", running, ""), ("POST", running, "/stop"), ("POST", stopped, "/resume")):
        answer = await stranger.request(method, f"/api/workers/device/{device_id}{path}")
        assert answer.status_code == 404, path
    assert await statuses(owner) == ["idle", "stopped"]


async def test_nobody_resumes_someone_elses_lanes(api: AsyncClient) -> None:
    owner, stranger = await register(api), await register(api, email="other@example.com")
    await add_device(owner)
    await owner.post("/api/workers/stop-all")
    assert (await stranger.post("/api/workers/resume-failed")).json()["results"] == {"resumed_count": 0}
    assert await statuses(owner) == ["stopped"]


async def test_workers_need_a_login(api: AsyncClient) -> None:
    for path in ("/api/workers/status", "/api/broadcast/stats"):
        assert (await api.get(path)).status_code == 401
    for path in ("/api/workers/stop-all", "/api/workers/resume-failed"):
        assert (await api.post(path)).status_code == 401
