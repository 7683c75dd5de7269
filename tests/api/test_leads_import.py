"""Importing leads from CSV files: what becomes of every row, and of the leads that exist."""

import asyncio
import csv
import io
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import func, select

from siaran.lead_rows import Verdict
from siaran.leads_import import ImportTarget, import_leads
from siaran.models import Lead
from tests.api.conftest import another_client, register
from tests.api.devices import add_device

EXAMPLE = Path(__file__).parents[2] / "examples" / "leads.csv"
Results = dict[str, Any]
COUNTS = ("success", "failed", "new", "updated", "unchanged", "duplicates", "invalid")

MESSY = """name,phone,niche,target_status,additional_note
Siti,+60 12-345 6789,"EXSTART,ITADRESS",customer,"she said ""ya"", twice"
Ali,bad,,,
Mei,0120000002,vitac,,
SITI AGAIN,0060123456789,,,
,0120000003,,,
"""


@pytest.fixture
async def aisyah(api):
    return await register(api)


@pytest.fixture
async def stranger(api):
    return await register(api, email="other@example.com", full_name="Other")


async def upload(client: AsyncClient, content: str | bytes, path: str = "/api/leads/import", **params: Any) -> Response:
    data = content.encode() if isinstance(content, str) else content
    return await client.post(path, files={"file": ("leads.csv", data, "text/csv")}, params=params)


async def import_file(client: AsyncClient, content: str | bytes, path: str = "/api/leads/import", **params: Any) -> Results:
    """Import a file; returns the results."""
    answer = await upload(client, content, path, **params)
    assert answer.status_code == 200, answer.text
    results: Results = answer.json()["results"]
    return results


def counts(results: Results) -> tuple[int, ...]:
    return tuple(results[name] for name in COUNTS)


async def leads_of(client: AsyncClient) -> dict[str, Results]:
    """All leads by name."""
    answer = await client.get("/api/leads", params={"limit": 500})
    return {lead["name"]: lead for lead in answer.json()["results"]}


async def test_good_rows_become_leads_and_every_other_row_is_accounted_for(aisyah):
    device_id = str(await add_device(aisyah))
    answer = await upload(aisyah, MESSY, f"/api/devices/{device_id}/leads/import")
    assert answer.json()["message"] == "2 of 5 rows were imported"
    results = answer.json()["results"]
    assert counts(results) == (2, 3, 2, 0, 0, 1, 2)
    assert results["rows"] == [
        {"line": 2, "phone": "60123456789", "verdict": "new", "reason": ""},
        {"line": 3, "phone": "bad", "verdict": "invalid", "reason": "phone: contains 'b', which is no part of a phone number"},
        {"line": 4, "phone": "60120000002", "verdict": "new", "reason": ""},
        {"line": 5, "phone": "60123456789", "verdict": "duplicate", "reason": "has the phone of line 2"},
        {"line": 6, "phone": "0120000003", "verdict": "invalid", "reason": "name: is empty"},
    ]
    leads = await leads_of(aisyah)
    assert list(leads) == ["Mei", "Siti"]
    assert leads["Siti"]["niches"] == ["EXSTART", "ITADRESS"]
    assert leads["Siti"]["target_status"] == "customer"
    assert leads["Siti"]["additional_note"] == 'she said "ya", twice'
    assert (leads["Mei"]["niches"], leads["Mei"]["target_status"]) == (["VITAC"], "prospect")
    assert {lead["device_id"] for lead in leads.values()} == {device_id}
    assert {lead["source"] for lead in leads.values()} == {"import"}


async def test_importing_the_same_file_again_changes_nothing(aisyah, clock):
    await import_file(aisyah, MESSY)
    before = await leads_of(aisyah)
    assert counts(await import_file(aisyah, MESSY)) == (2, 3, 0, 0, 2, 1, 2)
    assert await leads_of(aisyah) == before


async def test_a_dry_run_says_the_same_and_writes_nothing(aisyah):
    assert counts(await import_file(aisyah, MESSY, dry_run=True)) == (2, 3, 2, 0, 0, 1, 2)
    assert await leads_of(aisyah) == {}
    await import_file(aisyah, MESSY)
    before = await leads_of(aisyah)
    changed = MESSY.replace("vitac", "ASMART")
    would_be = await import_file(aisyah, changed, dry_run=True)
    assert await leads_of(aisyah) == before
    done = await import_file(aisyah, changed)
    assert counts(would_be) == counts(done) == (2, 3, 0, 1, 1, 1, 2)
    assert would_be["rows"] == done["rows"]
    assert (would_be["dry_run"], done["dry_run"]) == (True, False)


async def test_an_import_updates_what_its_columns_say_and_keeps_the_rest(aisyah):
    await import_file(aisyah, MESSY)
    results = await import_file(aisyah, "phone;name\n0123456789;Siti Aminah\n60120000002;Mei\n")
    assert counts(results) == (2, 0, 0, 1, 1, 0, 0)
    leads = await leads_of(aisyah)
    assert leads["Siti Aminah"]["niches"] == ["EXSTART", "ITADRESS"]
    assert leads["Siti Aminah"]["target_status"] == "customer"
    assert leads["Siti Aminah"]["additional_note"] == 'she said "ya", twice'
    await import_file(aisyah, "name,phone,niche,status,notes\nSiti Aminah,0123456789,,,\n")
    lead = (await leads_of(aisyah))["Siti Aminah"]
    assert (lead["niches"], lead["target_status"], lead["additional_note"]) == ([], "prospect", "")


async def test_a_lead_keeps_its_device_unless_its_row_names_one(aisyah):
    first, second = str(await add_device(aisyah, "First")), str(await add_device(aisyah, "Second"))
    await import_file(aisyah, "name,phone\nNobody's,0120000001\n")
    await import_file(aisyah, "name,phone\nAli,0120000002\n", f"/api/devices/{first}/leads/import")
    content = f"name,phone,device_id\nNobody's,0120000001,\nAli,0120000002,\nMei,0120000003,{first}\nRaj,0120000004,\n"
    results = await import_file(aisyah, content, f"/api/devices/{second}/leads/import")
    assert counts(results) == (4, 0, 2, 1, 1, 0, 0)
    devices = {name: lead["device_id"] for name, lead in (await leads_of(aisyah)).items()}
    assert devices == {"Nobody's": second, "Ali": first, "Mei": first, "Raj": second}
    await import_file(aisyah, f"name,phone,device_id\nAli,0120000002,{second.upper()}\n")
    assert (await leads_of(aisyah))["Ali"]["device_id"] == second


async def test_rows_and_paths_may_name_only_ones_own_devices(aisyah, stranger):
    theirs = str(await add_device(stranger))
    deleted = str(await add_device(aisyah))
    assert (await aisyah.delete(f"/api/devices/{deleted}")).status_code == 200
    rows = "".join(f"Lead,012000000{n},{device_id}\n" for n, device_id in enumerate([theirs, deleted, uuid4(), "x"]))
    results = await import_file(aisyah, f"name,phone,device_id\n{rows}")
    assert counts(results) == (0, 4, 0, 0, 0, 0, 4)
    assert {row["reason"] for row in results["rows"]} == {"device_id: is none of your devices"}
    for device_id in (theirs, deleted, str(uuid4())):
        assert (await upload(aisyah, MESSY, f"/api/devices/{device_id}/leads/import")).status_code == 404
    assert await leads_of(aisyah) == {}


async def test_two_users_import_the_same_people_apart(aisyah, stranger):
    await import_file(aisyah, MESSY)
    assert counts(await import_file(stranger, MESSY, dry_run=True))[2] == 2
    await import_file(stranger, MESSY.replace("Siti,", "Siti of another,"))
    assert list(await leads_of(aisyah)) == ["Mei", "Siti"]
    assert list(await leads_of(stranger)) == ["Mei", "Siti of another"]


async def test_a_lead_added_by_hand_is_updated_by_an_import(aisyah):
    await aisyah.post("/api/leads", json={"name": "By hand", "phone": "0123456789", "consent_source": "shop"})
    assert counts(await import_file(aisyah, MESSY))[2:5] == (1, 1, 0)
    siti = (await leads_of(aisyah))["Siti"]
    assert (siti["source"], siti["consent_source"]) == ("manual", "shop")


async def test_rejected_rows_can_be_downloaded_corrected_and_imported(aisyah):
    messy = MESSY + '"=SUM(A1)",x,"a\nb",,-5\n'
    answer = await upload(aisyah, messy, dry_run=True, rejected="csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="rejected-leads.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(row["line"], row["verdict"]) for row in rows] == [
        ("3", "invalid"),
        ("5", "duplicate"),
        ("6", "invalid"),
        ("7", "invalid"),
    ]
    assert rows[2]["reason"] == "name: is empty"
    assert (rows[3]["name"], rows[3]["niche"], rows[3]["additional_note"]) == ("'=SUM(A1)", "a\nb", "'-5")
    assert await leads_of(aisyah) == {}
    corrected = answer.text.replace(",x,", ",0120000009,").replace(",bad,", ",0120000008,")
    assert counts(await import_file(aisyah, corrected)) == (3, 1, 3, 0, 0, 0, 1)
    assert (await leads_of(aisyah))["=SUM(A1)"]["additional_note"] == "-5"


async def test_rejected_rows_are_not_mixed_with_an_import(aisyah):
    answer = await upload(aisyah, MESSY, rejected="csv")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "rejected"
    assert await leads_of(aisyah) == {}


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_file_that_is_none_of_leads_is_refused(aisyah, dry_run):
    for content, reason in (("", "is empty"), ("a,b\n1,2\n", "has no column name"), (b"PK\x03\x04", "is an Excel workbook")):
        answer = await upload(aisyah, content, dry_run=dry_run)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "file"
        assert reason in answer.json()["errors"][0]["reason"]
    bodies: list[Results] = [{"files": {"other": b"x"}}, {"data": {"file": "text"}}, {"json": {}}, {}]
    for body in bodies:
        answer = await aisyah.post("/api/leads/import", **body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "file"


async def test_nobody_imports_or_exports_without_a_login(api):
    for method, path in (
        ("POST", "/api/leads/import"),
        ("POST", f"/api/devices/{uuid4()}/leads/import"),
        ("GET", "/api/leads/export"),
    ):
        answer = await another_client(api).request(method, path)
        assert answer.status_code == 401


async def test_the_example_file_is_imported_as_its_readme_says(aisyah):
    content = EXAMPLE.read_bytes()
    assert counts(await import_file(aisyah, content)) == (980, 28, 980, 0, 0, 20, 8)
    assert counts(await import_file(aisyah, content)) == (980, 28, 0, 0, 980, 20, 8)


def many(rows: int) -> bytes:
    """A file with so many good rows, every 20th twice, and every 50th without a phone."""
    lines = ["name,phone,niche,notes"]
    for n in range(rows):
        phone = "" if n % 50 == 0 else 60_120_000_000 + n
        lines += [f'Lead {n},{phone},"EXSTART,N{n % 7}","a note, of {n}"'] * (2 if n % 20 == 1 else 1)
    return "\n".join(lines).encode()


async def test_a_file_of_many_batches_is_counted_in_full_and_its_details_are_capped(aisyah, sessions):
    results = await import_file(aisyah, many(12_000))
    assert counts(results) == (11_760, 840, 11_760, 0, 0, 600, 240)
    verdicts = Counter(row["verdict"] for row in results["rows"])
    assert verdicts["new"] == 1_000
    assert verdicts["duplicate"] + verdicts["invalid"] == 840
    assert [row["line"] for row in results["rows"]] == sorted(row["line"] for row in results["rows"])
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Lead)) == 11_760
    assert counts(await import_file(aisyah, many(12_000))) == (11_760, 840, 0, 0, 11_760, 600, 240)


async def test_imports_of_one_user_at_the_same_time_neither_fail_nor_double_anyone(aisyah, sessions):
    user_id = UUID((await aisyah.post("/api/leads", json={"name": "x", "phone": "0199999999"})).json()["results"]["user_id"])
    lines = many(6_000).splitlines()
    backwards = b"\n".join([lines[0], *reversed(lines[1:])])
    target = ImportTarget(user_id, None, "MY")
    now = datetime.now(UTC)
    reports = await asyncio.gather(
        *(import_leads(sessions, io.BytesIO(content), target, now=now) for content in (b"\n".join(lines), backwards))
    )
    assert sum(report.counts[Verdict.NEW] for report in reports) == 5_880
    assert {report.success for report in reports} == {5_880}


async def test_progress_is_told_after_each_batch(aisyah, sessions):
    user_id = UUID((await aisyah.post("/api/leads", json={"name": "x", "phone": "0199999999"})).json()["results"]["user_id"])
    done: list[int] = []
    report = await import_leads(
        sessions, io.BytesIO(many(6_000)), ImportTarget(user_id, None, "MY"), now=datetime.now(UTC), on_batch=done.append
    )
    assert done == [5_000, 6_300]
    assert report.rows == 6_300
