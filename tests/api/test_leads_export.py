"""Exporting leads as CSV: complete, safe in a spreadsheet, and importing it again changes nothing."""

import csv
import io
from uuid import uuid4

import pytest
from httpx import AsyncClient

from tests.api.conftest import register
from tests.api.devices import add_device

HEADER = "name,phone,niche,target_status,additional_note,device_id"

LEADS = [
    {"name": "Siti Aminah", "phone": "0120000001", "niche": "EXSTART,ITADRESS", "additional_note": 'said "ya",\ntwice'},
    {"name": "=cmd|' /C calc'!A0", "phone": "0120000002", "additional_note": "+60 is not a sum", "target_status": "customer"},
    {"name": "@mei", "phone": "0120000003", "niche": "-VITAC", "additional_note": "'=quoted already"},
    {"name": "'Abdul 陈", "phone": "+6591234567", "niche": "it;ad", "additional_note": "  padded\r\nlines\t"},
]


@pytest.fixture
async def aisyah(api):
    return await register(api)


async def add_leads(client: AsyncClient) -> str:
    """Add the leads, the first two to a device; returns its id."""
    device_id = str(await add_device(client))
    for n, lead in enumerate(LEADS):
        answer = await client.post("/api/leads", json={**lead, "device_id": device_id if n < 2 else None})
        assert answer.status_code == 201, answer.text
    return device_id


async def export(client: AsyncClient, path: str = "/api/leads/export", **params: str) -> list[dict[str, str]]:
    """The rows of an export."""
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.text.splitlines()[0] == HEADER
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


async def test_an_export_holds_every_lead_oldest_first(aisyah):
    device_id = await add_leads(aisyah)
    answer = await aisyah.get("/api/leads/export")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="leads.csv"'
    rows = await export(aisyah)
    assert [row["phone"] for row in rows] == ["60120000001", "60120000002", "60120000003", "6591234567"]
    assert rows[0] == {
        "name": "Siti Aminah",
        "phone": "60120000001",
        "niche": "EXSTART,ITADRESS",
        "target_status": "prospect",
        "additional_note": 'said "ya",\ntwice',
        "device_id": device_id,
    }
    assert rows[3]["device_id"] == ""


async def test_no_cell_of_an_export_is_a_formula(aisyah):
    await add_leads(aisyah)
    rows = await export(aisyah)
    assert (rows[1]["name"], rows[1]["additional_note"]) == ("'=cmd|' /C calc'!A0", "'+60 is not a sum")
    assert (rows[2]["name"], rows[2]["niche"], rows[2]["additional_note"]) == ("'@mei", "'-VITAC", "''=quoted already")
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


async def test_importing_an_export_changes_nothing(aisyah, api):
    device_id = await add_leads(aisyah)
    answer = await aisyah.get("/api/leads/export")
    before = (await aisyah.get("/api/leads")).json()["results"]
    for path in ("/api/leads/import", f"/api/devices/{device_id}/leads/import"):
        again = await aisyah.post(path, files={"file": answer.content})
        results = again.json()["results"]
        expected = 4 if path == "/api/leads/import" else 2  # leads without a device get the path's
        assert (results["unchanged"], results["new"], results["failed"]) == (expected, 0, 0)
        if expected == 4:
            assert (await aisyah.get("/api/leads")).json()["results"] == before


async def test_another_user_who_imports_it_has_the_same_leads(aisyah, api):
    device_id = await add_leads(aisyah)
    answer = await aisyah.get("/api/leads/export")
    other = await register(api, email="other@example.com")
    imported = await other.post("/api/leads/import", files={"file": answer.content.replace(device_id.encode(), b"")})
    assert imported.json()["results"]["new"] == 4
    theirs = await other.get("/api/leads/export")
    assert theirs.content == answer.content.replace(device_id.encode(), b"")


async def test_leads_of_a_deleted_device_are_exported_without_it_and_keep_it(aisyah):
    device_id = await add_leads(aisyah)
    await aisyah.delete(f"/api/devices/{device_id}")
    answer = await aisyah.get("/api/leads/export")
    assert device_id not in answer.text
    again = await aisyah.post("/api/leads/import", files={"file": answer.content})
    assert again.json()["results"]["unchanged"] == 4


async def test_an_export_can_be_filtered(aisyah):
    device_id = await add_leads(aisyah)

    async def phones(path: str = "/api/leads/export", **params: str) -> list[str]:
        return [row["phone"][-1] for row in await export(aisyah, path, **params)]

    assert await phones(target_status="customer") == ["2"]
    assert await phones(niche="itadress") == ["1"]
    assert await phones(search="mei") == ["3"]
    assert await phones(device_id=device_id) == ["1", "2"]
    assert await phones(f"/api/devices/{device_id}/leads/export") == ["1", "2"]
    assert await phones(f"/api/devices/{device_id}/leads/export", target_status="customer") == ["2"]
    assert await phones(search="nobody") == []


async def test_nobody_exports_the_leads_of_somebody_else(aisyah, api):
    device_id = await add_leads(aisyah)
    other = await register(api, email="other@example.com")
    assert await export(other) == []
    assert await export(other, device_id=device_id) == []
    for path in (f"/api/devices/{device_id}/leads/export", f"/api/devices/{uuid4()}/leads/export"):
        assert (await other.get(path)).status_code == 404


async def test_an_export_of_several_pages_is_complete(aisyah):
    lines = ["name,phone", *(f"Lead {n},{60_120_000_000 + n}" for n in range(5_003))]
    await aisyah.post("/api/leads/import", files={"file": "\n".join(lines).encode()})
    rows = await export(aisyah)
    assert [row["name"] for row in rows] == [f"Lead {n}" for n in range(5_003)]
