"""Opt-outs: listing, adding, lifting and exporting them, each by their owner alone."""

import csv
import io
from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Activity, Lead, Suppression
from tests.api.conftest import register

ALI = "60123456701"
BALA = "60123456702"
CHONG = "60123456703"


@pytest.fixture
async def aisyah(api):
    return await register(api)


@pytest.fixture
async def stranger(api):
    return await register(api, email="other@example.com", full_name="Other")


async def add(client: AsyncClient, *phones: str, **fields: object) -> dict[str, Any]:
    """Opt phones out; returns what became of them."""
    answer = await client.post("/api/opt-outs", json={"phones": list(phones), **fields})
    assert answer.status_code == 201, answer.text
    results: dict[str, Any] = answer.json()["results"]
    return results


async def read(client: AsyncClient, **params: str) -> list[dict[str, Any]]:
    answer = await client.get("/api/opt-outs", params=params)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


async def phones(client: AsyncClient, **params: str) -> list[str]:
    return [row["phone"] for row in await read(client, **params)]


async def lift(client: AsyncClient, opt_out_id: int) -> dict[str, Any]:
    answer = await client.post(f"/api/opt-outs/{opt_out_id}/lift")
    assert answer.status_code == 200, answer.text
    results: dict[str, Any] = answer.json()["results"]
    return results


async def test_phones_are_opted_out_in_any_form_and_the_others_reported(aisyah):
    await add(aisyah, BALA)

    became = await add(aisyah, "+60 12-345 6701", "012-3456702", "0123456701", "tiada nombor", "12")

    assert became["added"] == [ALI]
    assert became["already"] == [BALA]
    assert [row["phone"] for row in became["invalid"]] == ["tiada nombor", "12"]
    assert all(row["reason"] for row in became["invalid"])
    assert await phones(aisyah) == [ALI, BALA]


async def test_one_phone_may_be_given_alone_with_a_reason(aisyah):
    answer = await aisyah.post("/api/opt-outs", json={"phone": 60123456701, "reason": " asked by  e-mail "})

    assert answer.status_code == 201, answer.text
    [row] = await read(aisyah)
    assert (row["phone"], row["reason"], row["source"]) == (ALI, "asked by e-mail", "manual")
    assert row["created_at"]
    assert (row["device_id"], row["campaign_id"], row["confirmed_at"], row["lifted_at"]) == (None,) * 4


REFUSED: list[tuple[dict[str, object], str]] = [
    ({}, "phones"),
    ({"phones": []}, "phones"),
    ({"phones": "x"}, "phones"),
    ({"phones": [None]}, "phones.0"),
    ({"phone": "12"}, "phones.0"),
    ({"phones": ["12", "nobody"]}, "phones.0"),
    ({"phones": ["0123456789"] * 5_001}, "phones"),
    ({"phones": [ALI], "reason": "x" * 201}, "reason"),
    ({"phones": [ALI], "reason": "a\0b"}, "reason"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED)
async def test_bad_input_is_refused_naming_the_field_and_adds_nothing(aisyah, body: dict[str, object], field: str):
    answer = await aisyah.post("/api/opt-outs", json=body)

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert await read(aisyah) == []


async def test_the_list_is_paged_and_searched_by_phone_in_any_form(aisyah):
    for phone in (ALI, BALA, CHONG):
        await add(aisyah, phone)

    first = (await aisyah.get("/api/opt-outs", params={"limit": 2})).json()
    second = (await aisyah.get("/api/opt-outs", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [row["phone"] for row in first["results"]] == [CHONG, BALA]
    assert ([row["phone"] for row in second["results"]], second["next_cursor"]) == ([ALI], None)
    assert await phones(aisyah, search="012-345 6702") == [BALA]
    assert await phones(aisyah, search="6703") == [CHONG]
    assert await phones(aisyah, search="nobody") == []
    for params in ({"state": "x"}, {"limit": 0}, {"cursor": "x"}, {"search": "1" * 101}):
        answer = await aisyah.get("/api/opt-outs", params=params)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] in params


async def test_a_lifted_opt_out_keeps_its_row_and_can_come_back(aisyah):
    await add(aisyah, ALI, BALA)
    [row] = await read(aisyah, search=ALI)

    lifted = await lift(aisyah, row["id"])

    assert lifted["lifted_at"] is not None
    assert await lift(aisyah, row["id"]) == lifted, "lifting it again changes nothing"
    assert await phones(aisyah, state="in_force") == [BALA]
    assert await phones(aisyah, state="lifted") == [ALI]
    assert (await add(aisyah, ALI))["added"] == [ALI]
    assert await phones(aisyah, search=ALI) == [ALI, ALI]
    assert await phones(aisyah, search=ALI, state="in_force") == [ALI]


async def test_what_happens_to_opt_outs_is_in_the_activity_log_without_phones(aisyah, session: AsyncSession):
    await add(aisyah, ALI)
    await lift(aisyah, (await read(aisyah))[0]["id"])

    log = list(await session.scalars(select(Activity).where(Activity.kind.startswith("opt_out.")).order_by(Activity.id)))

    assert [line.kind for line in log] == ["opt_out.added", "opt_out.lifted"]
    assert not [line for line in log if ALI in f"{line.subject} {line.details}"]


async def test_opt_outs_are_their_owners_alone(aisyah, stranger):
    await add(aisyah, ALI)
    [row] = await read(aisyah)

    assert await read(stranger) == []
    answer = await stranger.post(f"/api/opt-outs/{row['id']}/lift")
    assert answer.status_code == 404
    assert (await stranger.post("/api/opt-outs/999999/lift")).json()["detail"] == answer.json()["detail"]
    assert (await stranger.get("/api/opt-outs/export")).text.count("\n") == 1
    assert (await add(stranger, ALI))["added"] == [ALI], "what another user's contact wants says nothing here"
    assert await phones(aisyah, state="in_force") == [ALI]


async def test_numbers_that_are_no_ids_are_refused(aisyah):
    for wrong in ("0", "x", str(2**63)):
        assert (await aisyah.post(f"/api/opt-outs/{wrong}/lift")).status_code == 422


async def test_the_export_is_csv_that_no_spreadsheet_takes_for_formulas(aisyah, stranger, session: AsyncSession):
    await aisyah.post("/api/leads", json={"name": "=SUM(A1)", "phone": ALI})
    await stranger.post("/api/leads", json={"name": "Not hers", "phone": BALA})
    await add(aisyah, ALI, reason="+1 asked")
    await add(aisyah, BALA)
    [row] = await read(aisyah, search=BALA)
    await lift(aisyah, row["id"])

    answer = await aisyah.get("/api/opt-outs/export")

    assert answer.headers["content-type"].startswith("text/csv")
    assert 'filename="opt-outs.csv"' in answer.headers["content-disposition"]
    header, ali, bala = csv.reader(io.StringIO(answer.text))
    assert header == ["phone", "name", "reason", "source", "device", "campaign", "opted_out_at", "lifted_at"]
    assert ali[:6] == [ALI, "'=SUM(A1)", "'+1 asked", "manual", "", ""]
    assert ali[6].endswith("+08:00")
    assert ali[7] == ""
    assert (bala[0], bala[1]) == (BALA, "")
    assert bala[7].endswith("+08:00")
    only = await aisyah.get("/api/opt-outs/export", params={"state": "lifted"})
    assert [line[0] for line in csv.reader(io.StringIO(only.text))] == ["phone", BALA]
    assert (await aisyah.get("/api/opt-outs/export", params={"state": "x"})).status_code == 422


async def upload(client: AsyncClient, content: bytes | str) -> Any:
    """Import a file of opt-outs; returns the answer."""
    data = content.encode() if isinstance(content, str) else content
    return await client.post("/api/opt-outs/import", files={"file": ("list.csv", data)})


@pytest.mark.parametrize(
    "content",
    [
        "0123456701\n+60 12-345 6702\n\n0123456701",
        "\ufeffphone\r\n60123456701\r\n60123456702\r\n",
        'name;Phone;note\nAli;0123456701;"a;b"\nBala;0123456702;\n',
        "phone,reason,lifted_at\n60123456702,STOP,\n'+60123456701,,\n60123456703,STOP,2026-03-01T08:00:00+08:00\n",
    ],
)
async def test_a_file_of_phones_is_imported_once(aisyah, content: str):
    answer = await upload(aisyah, content)

    assert answer.status_code == 201, answer.text
    assert sorted(answer.json()["results"]["added"]) == [ALI, BALA]
    assert answer.json()["results"]["invalid"] == []
    again = (await upload(aisyah, content)).json()["results"]
    assert (again["added"], sorted(again["already"])) == ([], [ALI, BALA])
    assert {row["reason"] for row in await read(aisyah)} == {"imported from list.csv"}


async def test_rows_of_a_file_that_are_no_phones_are_reported_and_the_others_imported(aisyah):
    rows = [f"6012{number:07d}" for number in range(2_500)] + ["nobody"]

    results = (await upload(aisyah, "phone\n" + "\n".join(rows))).json()["results"]

    assert len(results["added"]) == 2_500
    assert [row["phone"] for row in results["invalid"]] == ["nobody"]


@pytest.mark.parametrize(
    ("content", "field", "reason"),
    [
        ("", "file", "holds no phone"),
        ("phone\n", "file", "holds no phone"),
        (b"\xff\xfe0\x001\x00", "file", "UTF-8"),
        ("a\0b", "file", "no text file"),
        ("nobody\nnothing\n", "phones.0", "no part of a phone number"),
        ("0123456701\n" * 100_001, "file", "more than 100,000 rows"),
    ],
)
async def test_a_file_that_makes_no_sense_is_refused(aisyah, content: bytes | str, field: str, reason: str):
    answer = await upload(aisyah, content)

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert reason in answer.json()["errors"][0]["reason"]
    assert await read(aisyah) == []


async def test_without_a_file_nothing_is_imported(aisyah):
    answer = await aisyah.post("/api/opt-outs/import", files={"other": ("x", b"0123456701")})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "file"


async def test_an_export_can_be_imported_by_another_account(aisyah, stranger):
    await add(aisyah, ALI, BALA)
    await lift(aisyah, (await read(aisyah, search=ALI))[0]["id"])

    answer = await upload(stranger, (await aisyah.get("/api/opt-outs/export")).text)

    assert answer.json()["results"]["added"] == [BALA]
    assert await phones(stranger) == [BALA]
    assert await phones(aisyah, state="in_force") == [BALA]


async def test_leads_show_who_has_opted_out_and_can_be_filtered_by_it(aisyah, stranger, session: AsyncSession):
    leads = {}
    for name, phone in (("Ali", ALI), ("Bala", BALA), ("Chong", CHONG)):
        leads[name] = (await aisyah.post("/api/leads", json={"name": name, "phone": phone})).json()["results"]
        assert leads[name]["opted_out_at"] is None
    await add(aisyah, ALI, CHONG)
    await add(stranger, BALA)
    await session.execute(update(Suppression).where(Suppression.phone == CHONG).values(lifted_at=Suppression.created_at))
    await session.commit()

    async def names(**params: str) -> list[str]:
        answer = await aisyah.get("/api/leads", params=params)
        return [lead["name"] for lead in answer.json()["results"]]

    assert await names(opted_out="true") == ["Ali"]
    assert await names(opted_out="false") == ["Chong", "Bala"]
    assert await names() == ["Chong", "Bala", "Ali"]
    shown = (await aisyah.get(f"/api/leads/{leads['Ali']['id']}")).json()["results"]
    assert shown["opted_out_at"] == (await read(aisyah, state="in_force"))[0]["created_at"]
    listed = {lead["name"]: lead["opted_out_at"] for lead in (await aisyah.get("/api/leads")).json()["results"]}
    assert [name for name, at in listed.items() if at] == ["Ali"]
    exported = (await aisyah.get("/api/leads/export", params={"opted_out": "true"})).text
    assert (ALI in exported, BALA in exported) == (True, False)
    assert (await aisyah.get("/api/leads", params={"opted_out": "maybe"})).status_code == 422
    changed = await aisyah.put(f"/api/leads/{leads['Ali']['id']}", json={"name": "Ali bin Abu"})
    assert changed.json()["results"]["opted_out_at"] is not None
    assert await session.get(Lead, leads["Ali"]["id"]) is not None
