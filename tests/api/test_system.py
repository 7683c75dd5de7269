"""Health, status, metrics, and what every answer carries."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from pydantic import SecretStr

from api.app import create_app
from api.routes.system import redacted_url
from siaran.clock import system_clock
from siaran.db import SessionMaker, make_engine, make_sessions
from siaran.models import LaneState, MessageStatus
from siaran.settings import Settings
from tests.api.conftest import BASE_URL, log_in, register
from tests.factories import add_device, add_host
from tests.ledger.driver import Ledger

CLOSED_PORT = 9


@asynccontextmanager
async def serve(settings: Settings, **changes: object) -> AsyncIterator[AsyncClient]:
    """A client of the application with other settings."""
    app = create_app(settings.model_copy(update=changes))
    async with app.router.lifespan_context(app), AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as client:
        yield client


async def test_a_process_that_answers_is_alive(api: AsyncClient):
    answer = await api.get("/health")
    assert (answer.status_code, answer.json()["results"]) == (200, {"status": "healthy"})


async def test_ready_names_the_state_and_latency_of_every_part(api: AsyncClient):
    results = (await api.get("/health/ready")).json()["results"]
    assert results["status"] == "healthy"
    assert set(results["checks"]) == {"postgresql", "redis", "temporal"}
    for check in results["checks"].values():
        assert check["state"] == "up"
        assert 0 < check["latency_ms"] < 2000


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"redis_url": SecretStr(f"redis://127.0.0.1:{CLOSED_PORT}/0")}, "redis"),
        ({"temporal_address": f"127.0.0.1:{CLOSED_PORT}"}, "temporal"),
    ],
)
async def test_without_redis_or_temporal_the_api_is_ready_but_degraded(
    settings: Settings, changes: dict[str, object], part: str
):
    async with serve(settings, **changes) as api:
        answer = await api.get("/health/ready")
    assert (answer.status_code, answer.json()["results"]["status"]) == (200, "degraded")
    down = [name for name, check in answer.json()["results"]["checks"].items() if check["state"] == "down"]
    assert down == [part]


async def test_without_postgresql_the_api_is_not_ready_but_alive(app: FastAPI, api: AsyncClient, settings: Settings):
    engine = make_engine(settings.model_copy(update={"database_url": SecretStr(f"postgresql://127.0.0.1:{CLOSED_PORT}/x")}))
    app.state.context = replace(app.state.context, sessions=make_sessions(engine))
    answer = await api.get("/health/ready")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["results"]["checks"]["postgresql"]["state"] == "down"
    assert (await api.get("/health")).status_code == 200
    assert (await api.get("/api/me", headers={"X-Auth-Token": "any"})).status_code == 503
    await engine.dispose()


async def test_a_user_sees_only_the_state_of_redis_and_what_sends(api: AsyncClient):
    user = await register(api)
    assert (await user.get("/api/system/redis-check")).json()["results"] == {
        "status": "healthy",
        "manager_type": "Temporal durable execution",
    }
    assert set((await user.get("/api/system/status")).json()["results"]) == {"status", "manager_type", "version"}


async def test_an_administrator_sees_the_settings_of_redis_without_its_password(api: AsyncClient, settings: Settings):
    answer = await (await log_in(api)).get("/api/system/redis-check")
    results = answer.json()["results"]
    assert set(results) == {
        "status", "manager_type", "environment_vars", "validation_checks", "final_redis_url", "is_redis_enabled", "message",
    }  # fmt: skip
    assert results["validation_checks"] == {
        "not_empty": True,
        "no_template_vars": True,
        "not_localhost": False,
        "has_redis_scheme": True,
    }
    assert settings.redis_url is not None
    password = re.fullmatch(r"redis://:(.+)@.*", settings.redis_url.get_secret_value())
    assert password
    assert password[1] not in answer.text


async def test_redis_away_is_unhealthy(settings: Settings):
    async with serve(settings, redis_url=SecretStr(f"redis://:hunter2@127.0.0.1:{CLOSED_PORT}/0?password=hunter2")) as api:
        answer = await (await log_in(api)).get("/api/system/redis-check")
    assert answer.json()["results"]["status"] == "unhealthy"
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@cache:6379/0", "redis://***@cache:6379/0"),
        ("rediss://user:p@ss@cache", "rediss://***@cache"),
        ("redis://cache:6379", "redis://cache:6379"),
        ("redis://cache/0?password=secret#secret", "redis://cache/0?***"),
    ],
)
def test_no_part_of_a_url_that_may_be_secret_is_shown(url: str, shown: str):
    assert redacted_url(url) == shown


async def test_an_administrator_sees_where_the_parts_are(api: AsyncClient, settings: Settings):
    results = (await (await log_in(api)).get("/api/system/status")).json()["results"]
    assert results["installation"]["temporal_namespace"] == settings.temporal_namespace
    assert results["checks"]["temporal"]["state"] == "up"


async def test_metrics_are_for_this_machine_and_administrators(app: FastAPI, api: AsyncClient):
    assert (await api.get("/metrics")).status_code == 200
    assert (await api.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"})).status_code == 403
    outside = ASGITransport(app, client=("203.0.113.9", 1))
    admin, user = await log_in(api), await register(api)
    async with AsyncClient(transport=outside, base_url=BASE_URL) as stranger:
        assert (await stranger.get("/metrics")).status_code == 403
        for client, status in ((admin, 200), (user, 403)):
            headers = {"X-Auth-Token": client.cookies["session_token"]}
            assert (await stranger.get("/metrics", headers=headers)).status_code == status


async def test_metrics_count_requests_by_route_and_never_by_path(api: AsyncClient):
    admin = await log_in(api)
    await admin.get("/api/admin/users/6b7e6c9e-0d5c-4a0c-9d0e-0a1b2c3d4e5f")
    await api.get("/no/such/page/60123456789")
    await api.get("/docs/files/swagger-ui.css")
    metrics = (await api.get("/metrics")).text
    assert 'siaran_http_requests_total{method="GET",route="/api/admin/users/{user_id}",status="404"}' in metrics
    assert 'route="unmatched"' in metrics
    assert 'route="/docs/files",status="200"' in metrics
    assert "60123456789" not in metrics
    assert "6b7e6c9e" not in metrics
    assert "# TYPE siaran_devices gauge" in metrics


async def test_metrics_tell_of_hosts_lanes_and_messages_of_everybody(api: AsyncClient, sessions: SessionMaker):
    ledger = Ledger(sessions)
    await ledger.open()
    ended = await ledger.device()
    async with sessions.begin() as session:
        dead = await add_host(session, expires_at=system_clock() - timedelta(minutes=1))
        await add_device(session, ledger.user, dead)
    campaign = await ledger.campaign()
    await ledger.messages(campaign, ended, 3)
    await ledger.messages(campaign, ended, 2, status=MessageStatus.SENT)
    lane = await ledger.lane(ended)
    late_at = system_clock() - timedelta(seconds=90)
    await ledger.change(lane, state=LaneState.RUNNING, last_activity_at=late_at, updated_at=late_at)

    metrics = (await api.get("/metrics")).text

    assert "siaran_hosts 1.0" in metrics
    assert 'siaran_campaign_messages{status="pending"} 3.0' in metrics
    assert 'siaran_campaign_messages{status="sent"} 2.0' in metrics
    assert 'siaran_campaign_messages{status="failed"} 0.0' in metrics
    lateness = re.search(r"^siaran_lane_lateness_seconds (.*)$", metrics, re.MULTILINE)
    assert lateness is not None
    assert 90 <= float(lateness[1]) < 120


async def test_every_answer_carries_security_headers_and_an_id(api: AsyncClient):
    for path in ("/health", "/no/such/page", "/docs", "/docs/files/swagger-ui.css"):
        headers = (await api.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])


async def test_answers_are_kept_by_nobody_but_files_are_asked_for_again(api: AsyncClient):
    assert (await api.get("/health")).headers["cache-control"] == "no-store"
    css = await api.get("/docs/files/swagger-ui.css")
    assert css.headers["cache-control"] == "no-cache"
    again = await api.get("/docs/files/swagger-ui.css", headers={"If-None-Match": css.headers["etag"]})
    assert again.status_code == 304


async def test_a_request_id_is_taken_over_if_it_is_one(api: AsyncClient):
    for given, kept in (("trace-0123456789", True), ("short", False), ("x" * 65, False), ("with spaces in it", False)):
        answer = await api.get("/health", headers={"X-Request-ID": given})
        assert (answer.headers["x-request-id"] == given) is kept
