"""The Temporal UI behind the API: the list that says what waits for what, and who gets to see it."""

import asyncio
import json
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import select
from temporalio.client import Client

from api.app import create_app
from api.temporal_columns import COLUMNS, UI_COLUMNS, columns_script
from siaran.contracts import CampaignInput, LaneInput
from siaran.db import SessionMaker
from siaran.embedded.temporal import _find_program
from siaran.models import AuditEntry
from siaran.namespaces import SEARCH_ATTRIBUTES
from siaran.settings import Settings
from siaran.temporal import campaign_attributes, lane_attributes
from tests.api.conftest import BASE_URL, MovableClock, another_client, log_in, register
from tests.waiting import eventually

PAGE = {"accept": "text/html,application/xhtml+xml"}
NO_PORT = 9


@pytest.fixture
async def admin(api: AsyncClient) -> AsyncClient:
    return await log_in(api)


@asynccontextmanager
async def serve(settings: Settings, ui_url: str | None) -> AsyncIterator[AsyncClient]:
    """An administrator of an API that knows another Temporal UI."""
    app = create_app(settings.model_copy(update={"temporal_ui_url": ui_url}))
    async with app.router.lifespan_context(app), AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as client:
        yield await log_in(client)


class OtherUi:
    """A server in the UI's place that answers always the same and remembers what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[str] = []

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/temporal"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = (await reader.readexactly(int(length[1]))).decode() if length else ""
        self.asked.append(head + body)
        writer.write(self.answer)
        await writer.drain()
        writer.close()


# The list


class Executions:
    """Executions of two users as campaigns and lanes start them; nothing runs them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.user, self.other, self.device = uuid4(), uuid4(), uuid4()

    async def start(self) -> "Executions":
        campaign, elsewhere = CampaignInput(12, self.user), CampaignInput(13, self.other)
        lane = LaneInput(self.device, self.user)
        for kind, workflow_id, started_with, attributes in (
            ("CampaignWorkflow", "campaign:12", campaign, campaign_attributes(campaign, "waiting: device offline")),
            ("CampaignWorkflow", "campaign:13", elsewhere, campaign_attributes(elsewhere, "sending")),
            ("DeviceWorkflow", f"device:{self.device}", lane, lane_attributes(lane, "waiting: cap of the device")),
            ("SweepWorkflow", "sweep", None, None),
        ):
            await self.client.start_workflow(
                kind,
                args=[started_with] if started_with else [],
                id=workflow_id,
                task_queue="nobody",
                search_attributes=attributes,
            )
        await eventually(self._all_are_visible, within=30)
        return self

    async def _all_are_visible(self) -> bool:
        return len([found async for found in self.client.list_workflows()]) == 4


@pytest.fixture
async def executions(temporal_client: Client) -> Executions:
    return await Executions(temporal_client).start()


async def ids_behind(admin: AsyncClient, settings: Settings, query: str) -> set[str]:
    """The ids of the executions on the list that a browser is led to, as the UI reads them."""
    answer = await admin.get(f"/executions?{query}")
    assert answer.status_code == 303
    link = urlsplit(answer.headers["location"])
    pages = f"/temporal/namespaces/{settings.temporal_namespace}/workflows"
    assert (link.netloc, link.path) == ("", pages)
    [visibility_query] = parse_qs(link.query)["query"]
    url = f"/temporal/api/v1/namespaces/{settings.temporal_namespace}/workflows"
    found = await admin.get(url, params={"query": visibility_query})
    assert found.status_code == 200, found.text
    return {execution["execution"]["workflowId"] for execution in found.json().get("executions", [])}


async def test_the_list_can_be_narrowed_to_a_campaign_a_device_a_user_or_what_waits(
    admin: AsyncClient, settings: Settings, executions: Executions
):
    lane = f"device:{executions.device}"
    narrowed = {
        "": {"campaign:12", "campaign:13", lane},
        "campaign=12": {"campaign:12"},
        f"device={executions.device}": {lane},
        f"user={executions.user}": {"campaign:12", lane},
        f"user={executions.other}&waiting=1": set(),
        "waiting=1": {"campaign:12", lane},
        'query=WorkflowId="sweep"': {"sweep"},
        'waiting=1&query=WorkflowId="campaign:12" OR WorkflowId="campaign:13"': {"campaign:12"},
    }
    for query, expected in narrowed.items():
        assert (query, await ids_behind(admin, settings, query)) == (query, expected)


async def test_an_execution_on_the_list_says_whose_it_is_and_what_it_waits_for(
    admin: AsyncClient, settings: Settings, executions: Executions
):
    url = f"/temporal/api/v1/namespaces/{settings.temporal_namespace}/workflows"
    [lane] = (await admin.get(url, params={"query": f'SiaranDevice = "{executions.device}"'})).json()["executions"]
    shown = {
        name: json.loads(b64decode(payload["data"])) for name, payload in lane["searchAttributes"]["indexedFields"].items()
    }
    assert shown.items() >= {
        ("SiaranUser", str(executions.user)),
        ("SiaranDevice", str(executions.device)),
        ("SiaranStatus", "waiting: cap of the device"),
    }


@pytest.mark.parametrize("query", ["campaign=0", "campaign=twelve", "device=x", "user=x", "waiting=perhaps"])
async def test_what_cannot_be_listed_is_refused(admin: AsyncClient, query: str):
    answer = await admin.get(f"/executions?{query}")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [query.partition("=")[0]]


async def test_links_to_workflows_lead_through_the_api(admin: AsyncClient, settings: Settings):
    status = (await admin.get("/api/system/status")).json()["results"]
    assert status["installation"]["temporal_ui_url"] == "/executions"
    assert (await admin.get("/temporal")).headers["location"] == "/executions"
    assert (await admin.get("/temporal/")).headers["location"] == "/executions"


def test_the_columns_are_ones_that_the_ui_knows():
    attributes = {key.name for key in SEARCH_ATTRIBUTES}
    assert {column for column in COLUMNS if column not in attributes} <= set(UI_COLUMNS)
    assert {"SiaranCampaign", "SiaranDevice", "SiaranStatus"} <= set(COLUMNS)
    program = _find_program().read_bytes()
    for name in ("namespace-workflow-table-columns", "saved-workflow-queries", *UI_COLUMNS):
        assert name.encode() in program
    labels = ",".join(f"{{label:`{label}`}}" for label in UI_COLUMNS)
    quoted = labels.replace("`", '"')
    assert labels.encode() in program or quoted.encode() in program


def test_a_namespace_cannot_end_the_script():
    assert "</script" not in columns_script("</script><script>alert(1)")


# The UI itself


async def test_every_document_arranges_the_list_and_runs_no_script_but_its_own(admin: AsyncClient, settings: Settings):
    page = await admin.get(f"/temporal/namespaces/{settings.temporal_namespace}/workflows", headers=PAGE)
    assert page.status_code == 200
    inline = [script for script in re.findall(r"<script[^>]*>(.*?)</script>", page.text, re.DOTALL) if script]
    assert inline[0] == columns_script(settings.temporal_namespace)
    assert "sveltekit" in inline[1]
    policy = page.headers["content-security-policy"]
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    hashes = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in inline]
    assert scripts.split() == ["script-src", "'self'", *hashes]
    assert page.headers["x-frame-options"] == "SAMEORIGIN"
    assert page.headers["cache-control"] == "no-store"


async def test_the_files_of_the_ui_come_through_and_are_kept_by_the_browser(admin: AsyncClient):
    page = (await admin.get("/temporal/namespaces", headers=PAGE)).text
    files = re.findall(r'(?:href|import)\W+(/temporal/_app/immutable/[^"]+)', page)
    assert len(files) > 2
    for file in files[:5]:
        answer = await admin.get(file)
        assert (file, answer.status_code) == (file, 200)
        assert answer.content
        assert "javascript" in answer.headers["content-type"] or "css" in answer.headers["content-type"]
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert (await admin.get(files[0], headers={"accept-encoding": "identity"})).headers.get("content-encoding") is None
    assert (await admin.get(files[0], headers={"accept-encoding": "br, gzip"})).headers["content-encoding"] == "gzip"


async def test_details_of_an_execution_can_be_framed_under_the_uis_own_policy(admin: AsyncClient):
    frame = await admin.get("/temporal/render?content=waiting%3A **device**&theme=light", headers=PAGE)
    assert "waiting: <strong>device</strong>" in frame.text
    assert "script-src 'nonce-" in frame.headers["content-security-policy"]
    assert "sandbox" in frame.headers["content-security-policy"]


async def test_what_changes_an_execution_reaches_temporal_and_is_noted(
    admin: AsyncClient, settings: Settings, executions: Executions, sessions: SessionMaker
):
    url = f"/temporal/api/v1/namespaces/{settings.temporal_namespace}/workflows/campaign%3A12"
    signal = {"signalName": "changed"}
    assert (await admin.post(f"{url}/signal/changed", json=signal)).status_code == 400  # the UI's own defence holds as well
    headers = {"x-csrf-token": admin.cookies["_csrf"]}
    answer = await admin.post(f"{url}/signal/changed", json=signal, headers=headers)
    assert answer.status_code == 200, answer.text
    history = await executions.client.get_workflow_handle("campaign:12").fetch_history()
    assert history.events[-1].workflow_execution_signaled_event_attributes.signal_name == "changed"
    _, entry = await notes(sessions)
    path = f"api/v1/namespaces/{settings.temporal_namespace}/workflows/campaign:12/signal/changed"
    assert (entry.action, entry.subject, entry.details) == ("temporal.changed", f"temporal:{path}", {"method": "POST"})
    assert entry.actor_id is not None


async def test_a_query_changes_nothing_and_is_not_noted(admin: AsyncClient, settings: Settings, sessions: SessionMaker):
    url = f"/temporal/api/v1/namespaces/{settings.temporal_namespace}/workflows/campaign%3A99/query/__stack_trace"
    await admin.get("/temporal/api/v1/settings")
    answer = await admin.post(url, json={}, headers={"x-csrf-token": admin.cookies["_csrf"]})
    assert answer.status_code == 404
    assert await notes(sessions) == []


async def notes(sessions: SessionMaker) -> list[AuditEntry]:
    async with sessions() as session:
        return list(await session.scalars(select(AuditEntry).where(AuditEntry.action.startswith("temporal."))))


async def test_looking_at_the_ui_keeps_the_login_open(admin: AsyncClient, clock: MovableClock):
    clock.advance(timedelta(hours=20))
    answer = await admin.get("/temporal/api/v1/settings")
    names = {cookie.partition("=")[0] for cookie in answer.headers.get_list("set-cookie")}
    assert names == {"session_token", "_csrf"}


# Who gets in


PATHS = ("/executions", "/temporal", "/temporal/", "/temporal/namespaces", "/temporal/api/v1/namespaces")


async def test_only_administrators_get_in(api: AsyncClient, admin: AsyncClient):
    user = await register(api)
    for path in PATHS:
        assert (path, (await another_client(api).get(path)).status_code) == (path, 401)
        assert (path, (await user.get(path)).status_code) == (path, 403)
        assert (path, (await user.post(path, json={})).status_code) in {(path, 403), (path, 405)}
    reader = (await admin.post("/api/api-keys", json={"name": "reader", "scopes": ["read"]})).json()["results"]["key"]
    script = another_client(api, x_auth_token=reader)
    assert (await script.get("/temporal/api/v1/namespaces")).status_code == 403


async def test_a_browser_is_shown_where_to_log_in_at_the_address_it_wanted(api: AsyncClient):
    for client, status in ((another_client(api), 401), (await register(api), 403)):
        for path in PATHS:
            page = await client.get(path, headers=PAGE)
            assert (path, page.status_code) == (path, status)
            assert 'type="password"' in page.text
            [nonce] = re.findall(r"script-src 'nonce-([^']+)'", page.headers["content-security-policy"])
            assert f'<script nonce="{nonce}">' in page.text
            assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_another_site_can_change_nothing(admin: AsyncClient, settings: Settings):
    url = f"/temporal/api/v1/namespaces/{settings.temporal_namespace}/workflows/campaign%3A12/terminate"
    answer = await admin.post(url, json={}, headers={"sec-fetch-site": "cross-site"})
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


# Between the API and the UI


async def test_nothing_that_opens_the_api_is_passed_on(settings: Settings):
    ui = OtherUi(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nX-Said: yes\r\n\r\n{}")
    async with ui.listen() as url, serve(settings, url) as admin:
        token = admin.cookies["session_token"]
        headers = {
            "cookie": f"_csrf=theirs; session_token={token}; theme=dark",
            "authorization": f"Bearer {token}",
            "x-auth-token": token,
            "x-csrf-token": "theirs",
            "x-forwarded-for": "192.0.2.1",
            "connection": "x-hop",
            "x-hop": "by hop",
            "te": "trailers",
        }
        answer = await admin.post("/temporal/api/v1/x%2Fy/z?a=%20b&c=%60d%60", json={"some": "body"}, headers=headers)
    assert (answer.status_code, answer.headers["x-said"]) == (200, "yes")
    assert "connection" not in answer.headers
    [asked] = ui.asked
    assert asked.startswith("POST /temporal/api/v1/x%2Fy/z?a=%20b&c=%60d%60 HTTP/1.1\r\n")
    assert asked.endswith('{"some":"body"}')
    assert token not in asked
    passed_on = asked.lower()
    assert "cookie: _csrf=theirs; theme=dark\r\n" in passed_on
    assert "x-csrf-token: theirs" in passed_on
    for absent in ("authorization", "x-auth-token", "x-forwarded-for", "x-hop", "te: trailers", "siaran.test"):
        assert absent not in passed_on


async def test_an_answer_is_passed_on_while_it_comes_in(settings: Settings):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    ui = OtherUi(head + b"".join(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000) for _ in range(20)) + b"0\r\n\r\n")
    async with ui.listen() as url, serve(settings, url) as admin:
        answer = await admin.get("/temporal/api/v1/large")
    assert len(answer.content) == 2_000_000


async def test_no_path_leads_out_of_the_uis_own(settings: Settings):
    ui = OtherUi(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    async with ui.listen() as url, serve(settings, url) as admin:
        for path in ("/temporal/%2e%2e/secret", "/temporal/a/..%2f..%2fsecret", "/temporal/%2E/x"):
            assert (path, (await admin.get(path)).status_code) == (path, 404)
    assert ui.asked == []


async def test_a_ui_that_is_away_is_a_bad_gateway(settings: Settings):
    async with serve(settings, f"http://127.0.0.1:{NO_PORT}/temporal") as admin:
        answer = await admin.get("/temporal/namespaces")
    assert_problem(answer, 502, "BAD_GATEWAY")


async def test_a_ui_elsewhere_is_linked_to_and_not_passed_on(settings: Settings):
    async with serve(settings, "https://cloud.example/") as admin:
        answer = await admin.get("/executions?campaign=12")
        passed_on = await admin.get("/temporal/namespaces")
    base = f"https://cloud.example/namespaces/{settings.temporal_namespace}/workflows"
    assert answer.headers["location"] == f"{base}?query=%60SiaranCampaign%60%3D12"
    assert_problem(passed_on, 404, "NOT_FOUND")


async def test_without_a_ui_there_is_no_list(settings: Settings):
    async with serve(settings, None) as admin:
        assert_problem(await admin.get("/executions"), 404, "NOT_FOUND")
        assert_problem(await admin.get("/temporal/namespaces"), 404, "NOT_FOUND")
        status = (await admin.get("/api/system/status")).json()["results"]
    assert "temporal_ui_url" not in status["installation"]


def assert_problem(answer: Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (status, code)
