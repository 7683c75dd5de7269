"""Imports that go on in the background: begun, followed, cancelled, and what can be seen of their rows."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from redis.asyncio import Redis
from sqlalchemy import func, select
from temporalio.client import Client

from activities.resources import Resources
from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.models import ImportChunk, ImportStatus, LeadImport
from siaran.settings import Settings
from tests.api.conftest import register
from tests.api.devices import add_device
from tests.lead_files import ManyLeads
from tests.waiting import eventually
from worker.__main__ import work

PATH = "/api/leads/imports"
COUNTS = ("success", "failed", "new", "updated", "unchanged", "duplicates", "invalid")

MESSY = """nama;no. telefon;tags;status;catatan
Siti;+60 12-345 6789;"EXSTART,ITADRESS";customer;"she said ""ya"", twice"
Ali;bad;;;
Mei;0120000002;vitac;;
SITI AGAIN;0060123456789;;;
=HYPERLINK(1);;;;
"""

Results = dict[str, Any]


@pytest.fixture
async def aisyah(api: AsyncClient) -> AsyncClient:
    return await register(api)


@pytest.fixture
async def stranger(api: AsyncClient) -> AsyncClient:
    return await register(api, email="other@example.com", full_name="Other")


@pytest.fixture
async def _working(
    settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client, app: FastAPI
) -> AsyncIterator[None]:
    """A worker is there."""
    async with work(Resources(settings, sessions, redis, temporal_client, system_clock)):
        yield


async def upload(client: AsyncClient, content: str | bytes, **fields: str) -> Response:
    data = content.encode() if isinstance(content, str) else content
    return await client.post(PATH, files={"file": ("leads.csv", data, "text/csv")}, data=fields)


async def begin(client: AsyncClient, content: str | bytes, **fields: str) -> Results:
    answer = await upload(client, content, **fields)
    assert answer.status_code == 201, answer.text
    results: Results = answer.json()["results"]
    return results


async def look(client: AsyncClient, import_id: str) -> Results:
    answer = await client.get(f"{PATH}/{import_id}")
    assert answer.status_code == 200, answer.text
    results: Results = answer.json()["results"]
    return results


async def import_file(client: AsyncClient, content: str | bytes, **fields: str) -> Results:
    """Import a file; returns the import as it ended."""
    begun = await begin(client, content, **fields)
    ended: Results = {}

    async def has_ended() -> bool:
        ended.update(await look(client, begun["id"]))
        return ended["finished_at"] is not None

    await eventually(has_ended, within=60)
    return ended


def counts(results: Results) -> tuple[int, ...]:
    return tuple(results[name] for name in COUNTS)


async def leads_of(client: AsyncClient) -> dict[str, Results]:
    answer = await client.get("/api/leads", params={"limit": 500})
    return {lead["name"]: lead for lead in answer.json()["results"]}


@pytest.mark.usefixtures("_working")
async def test_an_import_goes_on_in_the_background_and_can_be_followed_to_its_end(aisyah: AsyncClient) -> None:
    device_id = str(await add_device(aisyah))
    begun = await begin(aisyah, MESSY, device_id=device_id)
    assert (begun["status"], begun["percent"], begun["rows_done"]) == ("queued", 0, 0)
    assert (begun["file_name"], begun["size_bytes"], begun["delimiter"]) == ("leads.csv", len(MESSY), ";")
    assert begun["columns"] == {
        "name": "nama",
        "phone": "no. telefon",
        "niche": "tags",
        "target_status": "status",
        "additional_note": "catatan",
    }

    async def has_ended() -> bool:
        return bool((await look(aisyah, begun["id"]))["status"] == "done")

    await eventually(has_ended, within=60)
    ended = await look(aisyah, begun["id"])
    assert counts(ended) == (2, 3, 2, 0, 0, 1, 2)
    assert (ended["rows_done"], ended["percent"], ended["eta_seconds"], ended["error"]) == (5, 100, None, None)
    siti = (await leads_of(aisyah))["Siti"]
    assert (siti["niches"], siti["target_status"], siti["additional_note"], siti["device_id"]) == (
        ["EXSTART", "ITADRESS"],
        "customer",
        'she said "ya", twice',
        device_id,
    )
    listed = (await aisyah.get(PATH)).json()
    assert [one["id"] for one in listed["results"]] == [begun["id"]]


@pytest.mark.usefixtures("_working")
async def test_importing_the_same_file_again_changes_nothing(aisyah: AsyncClient) -> None:
    await import_file(aisyah, MESSY)
    before = await leads_of(aisyah)
    assert counts(await import_file(aisyah, MESSY)) == (2, 3, 0, 0, 2, 1, 2)
    assert await leads_of(aisyah) == before


@pytest.mark.usefixtures("_working")
async def test_a_dry_run_says_row_by_row_what_would_happen_and_changes_nothing(aisyah: AsyncClient) -> None:
    await aisyah.post("/api/leads", json={"name": "Mei", "phone": "0120000002"})
    before = await leads_of(aisyah)
    ended = await import_file(aisyah, MESSY, dry_run="true")
    assert ended["dry_run"] is True
    assert counts(ended) == (2, 3, 1, 1, 0, 1, 2)
    assert await leads_of(aisyah) == before
    rows: list[Results] = []
    wanted: dict[str, Any] = {"limit": 2}
    while wanted.get("cursor", "") is not None:
        page = (await aisyah.get(f"{PATH}/{ended['id']}/rows", params=wanted)).json()
        rows += page["results"]
        wanted["cursor"] = page["next_cursor"]
    assert [(row["line"], row["phone"], row["verdict"]) for row in rows] == [
        (2, "60123456789", "new"),
        (3, "bad", "invalid"),
        (4, "60120000002", "updated"),
        (5, "60123456789", "duplicate"),
        (6, "", "invalid"),
    ]
    assert rows[3]["reason"] == "has the phone of line 2"
    only = (await aisyah.get(f"{PATH}/{ended['id']}/rows", params={"verdict": "updated"})).json()["results"]
    assert [row["line"] for row in only] == [4]


@pytest.mark.usefixtures("_working")
async def test_rejected_rows_can_be_downloaded_safely_corrected_and_imported(aisyah: AsyncClient) -> None:
    ended = await import_file(aisyah, MESSY)
    answer = await aisyah.get(f"{PATH}/{ended['id']}/rejected")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="rejected-leads.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(row["line"], row["verdict"]) for row in rows] == [("3", "invalid"), ("5", "duplicate"), ("6", "invalid")]
    assert list(rows[0]) == ["nama", "no. telefon", "tags", "status", "catatan", "line", "verdict", "reason"]
    assert rows[2]["nama"] == "'=HYPERLINK(1)"
    corrected = answer.text.replace(",bad,", ",0120000008,")
    assert counts(await import_file(aisyah, corrected)) == (2, 1, 1, 1, 0, 0, 1)


@pytest.mark.usefixtures("_working")
async def test_columns_of_any_name_can_be_mapped_and_others_left_alone(aisyah: AsyncClient) -> None:
    content = "Pelanggan|Hubungi|status\nAli|0123456789|active\n"
    columns = json.dumps({"name": "Pelanggan", "phone": "hubungi", "target_status": ""})
    ended = await import_file(aisyah, content, columns=columns, delimiter="pipe")
    assert counts(ended)[:3] == (1, 0, 1)
    assert (await leads_of(aisyah))["Ali"]["phone"] == "60123456789"


@pytest.mark.usefixtures("_working")
async def test_a_file_with_a_byte_order_mark_and_many_batches_is_imported_in_full(
    aisyah: AsyncClient, sessions: SessionMaker
) -> None:
    many = ManyLeads(12_000)
    ended = await import_file(aisyah, b"\xef\xbb\xbf" + many.content.encode())
    assert (ended["new"], ended["duplicates"], ended["invalid"]) == tuple(many.counts.values())
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(ImportChunk)) == 0


async def test_an_import_that_has_not_begun_is_cancelled_and_stays_so(aisyah: AsyncClient) -> None:
    begun = await begin(aisyah, MESSY)
    for _ in range(2):
        answer = await aisyah.post(f"{PATH}/{begun['id']}/cancel")
        assert (answer.status_code, answer.json()["results"]["status"]) == (200, "cancelled")
    assert await leads_of(aisyah) == {}


async def test_an_import_that_has_ended_cannot_be_cancelled(aisyah: AsyncClient, sessions: SessionMaker) -> None:
    begun = await begin(aisyah, MESSY)
    async with sessions.begin() as session:
        (await session.get_one(LeadImport, UUID(begun["id"]))).status = ImportStatus.DONE
    answer = await aisyah.post(f"{PATH}/{begun['id']}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")


async def test_progress_is_told_in_percent_and_seconds(aisyah: AsyncClient, sessions: SessionMaker) -> None:
    begun = await begin(aisyah, MESSY)
    async with sessions.begin() as session:
        row = await session.get_one(LeadImport, UUID(begun["id"]))
        row.status, row.size_bytes, row.bytes_done = ImportStatus.RUNNING, 400, 100
        row.started_at, row.updated_at = row.created_at, row.created_at + timedelta(seconds=10)
    seen = await look(aisyah, begun["id"])
    assert (seen["status"], round(seen["percent"]), seen["eta_seconds"]) == ("running", 25, 30)


async def test_a_file_that_is_none_of_leads_is_refused_and_nothing_is_kept(aisyah: AsyncClient, sessions: SessionMaker) -> None:
    refused = {
        "is empty": b"",
        "has no rows below its header": b"name,phone\n",
        "has no column phone": b"name,email\nAli,x\n",
        "UTF-16": "name,phone\nAli,1\n".encode("utf-16"),
        "UTF-8": b"nam\xe9,phone\nAli,1\n",
        "Excel": b"PK\x03\x04",
        "NUL": b"name\0,phone\nAli,1\n",
    }
    for reason, content in refused.items():
        answer = await upload(aisyah, content)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "file"
        assert reason in answer.json()["errors"][0]["reason"]
    answer = await aisyah.post(PATH, data={"file": "text"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "file")
    assert (await aisyah.get(PATH)).json()["results"] == []
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(ImportChunk)) == 0


@pytest.mark.parametrize(
    ("field", "value", "refused"),
    [
        ("device_id", "front desk", "device_id"),
        ("dry_run", "perhaps", "dry_run"),
        ("columns", "phone=Telefon", "columns"),
        ("columns", "[]", "columns"),
        ("columns", '{"phone": 7}', "columns.phone"),
        ("columns", '{"phone": "\\ud800"}', "columns.phone"),
        ("columns", '{"\\ud800": "nama"}', "columns"),
        ("columns", '{"phone": "Hubungi"}', "columns.phone"),
        ("columns", '{"nickname": "nama"}', "columns.nickname"),
        ("delimiter", "#", "delimiter"),
    ],
)
async def test_bad_wishes_are_refused_by_name(aisyah: AsyncClient, field: str, value: str, refused: str) -> None:
    answer = await upload(aisyah, MESSY, **{field: value})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [refused]


async def test_someone_elses_import_and_device_are_like_none(aisyah: AsyncClient, stranger: AsyncClient) -> None:
    theirs = (await begin(stranger, MESSY))["id"]
    for import_id in (theirs, str(uuid4())):
        answers = [
            await aisyah.get(f"{PATH}/{import_id}"),
            await aisyah.post(f"{PATH}/{import_id}/cancel"),
            await aisyah.get(f"{PATH}/{import_id}/rows"),
            await aisyah.get(f"{PATH}/{import_id}/rejected"),
        ]
        assert [answer.status_code for answer in answers] == [404] * 4
    assert (await aisyah.get(PATH)).json()["results"] == []
    assert (await look(stranger, theirs))["status"] == "queued"
    device = str(await add_device(stranger))
    assert (await upload(aisyah, MESSY, device_id=device)).status_code == 404


async def test_imports_are_listed_page_by_page_newest_first(aisyah: AsyncClient) -> None:
    ids = [(await begin(aisyah, MESSY))["id"] for _ in range(3)]
    first = (await aisyah.get(PATH, params={"limit": 2})).json()
    second = (await aisyah.get(PATH, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [one["id"] for one in first["results"] + second["results"]] == ids[::-1]
    assert second["next_cursor"] is None
    assert (await aisyah.get(PATH, params={"cursor": "x"})).status_code == 422
