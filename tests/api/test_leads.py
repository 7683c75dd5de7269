"""Leads: adding, reading, changing and deleting them, each by their owner alone."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import select

from siaran.models import BroadcastMessage
from tests.api.conftest import register
from tests.api.devices import add_device

Results = dict[str, Any]

SITI: Results = {
    "name": "Siti Aminah",
    "phone": "+60 12-345 6789",
    "niche": "EXSTART, itadress",
    "target_status": "customer",
    "additional_note": "likes tea",
}


@pytest.fixture
async def aisyah(api):
    return await register(api)


@pytest.fixture
async def stranger(api):
    return await register(api, email="other@example.com", full_name="Other")


async def add(client: AsyncClient, **fields: object) -> Results:
    """Add a lead; returns it."""
    answer = await client.post("/api/leads", json={**SITI, **fields})
    assert answer.status_code == 201, answer.text
    results: Results = answer.json()["results"]
    return results


async def read(client: AsyncClient, path: str = "/api/leads", **params: str) -> Any:
    """One page of a list; returns its leads."""
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


async def names(client: AsyncClient, path: str = "/api/leads", **params: str) -> list[str]:
    return [lead["name"] for lead in await read(client, path, **params)]


async def test_a_lead_is_created_with_everything_it_was_given(aisyah):
    device_id = str(await add_device(aisyah))
    lead = await add(aisyah, device_id=device_id, consent_source="shop", consent_at="2026-03-01T08:00:00+08:00")
    assert lead == await read(aisyah, f"/api/leads/{lead['id']}")
    assert isinstance(lead["id"], int)
    assert lead["name"] == "Siti Aminah"
    assert lead["phone"] == "60123456789"
    assert lead["niche"] == "EXSTART, itadress"
    assert lead["niches"] == ["EXSTART", "ITADRESS"]
    assert lead["target_status"] == "customer"
    assert lead["additional_note"] == lead["journey"] == "likes tea"
    assert lead["status"] == "new"
    assert lead["source"] == "manual"
    assert lead["device_id"] == device_id
    assert lead["consent_source"] == "shop"
    assert datetime.fromisoformat(lead["consent_at"]) == datetime(2026, 3, 1, tzinfo=UTC)
    assert lead["created_at"] == lead["updated_at"]
    assert lead["last_interaction"] is None


async def test_a_name_and_a_phone_are_enough(aisyah):
    answer = await aisyah.post("/api/leads", json={"name": "Ali", "phone": "0123456789"})
    assert answer.status_code == 201
    lead = answer.json()["results"]
    assert (lead["niche"], lead["niches"], lead["target_status"], lead["device_id"]) == ("", [], "prospect", None)


async def test_the_fields_of_the_original_are_understood(aisyah):
    answer = await aisyah.post(
        "/api/leads",
        json={"name": "Ali", "phone": 60123456789, "status": "customer", "journey": "x", "device_id": "", "unknown": 1},
    )
    assert answer.status_code == 201, answer.text
    lead = answer.json()["results"]
    assert (lead["target_status"], lead["additional_note"], lead["device_id"]) == ("customer", "x", None)


REFUSED: list[tuple[Results, str, str]] = [
    ({"name": " "}, "name", "is empty"),
    ({"name": "x" * 201}, "name", "is longer than 200 characters"),
    ({"name": "a\0b"}, "name", "contains a NUL character"),
    ({"name": None}, "name", "valid string"),
    ({"phone": ""}, "phone", "is empty"),
    ({"phone": "12"}, "phone", "is neither a number of MY nor an international one"),
    ({"target_status": "all"}, "target_status", "is neither prospect nor customer"),
    ({"niche": "x" * 101}, "niche", "has a tag of over 100 characters"),
    ({"additional_note": "x" * 10_001}, "additional_note", "is longer than 10,000 characters"),
    ({"device_id": "x"}, "device_id", "valid UUID"),
    ({"consent_at": "2026-03-01T08:00:00"}, "consent_at", "timezone"),
    ({"consent_at": "0001-01-01T00:00:00+08:00"}, "consent_at", "is out of range"),
]


async def test_bad_input_is_refused_naming_the_field_and_changes_nothing(aisyah):
    lead = await add(aisyah)
    for fields, field, reason in REFUSED:
        answers = [
            await aisyah.post("/api/leads", json={**SITI, "phone": "0123456780", **fields}),
            await aisyah.put(f"/api/leads/{lead['id']}", json={"niche": "NEW", **fields}),
        ]
        for answer in answers:
            assert answer.status_code == 422, answer.text
            assert [error["field"] for error in answer.json()["errors"]] == [field]
            assert reason in answer.json()["errors"][0]["reason"]
    assert await read(aisyah) == [lead]


async def test_everything_that_is_wrong_is_said_at_once(aisyah):
    answer = await aisyah.post("/api/leads", json={"name": "", "phone": "x", "status": "lost"})
    assert {error["field"] for error in answer.json()["errors"]} == {"name", "phone", "target_status"}


async def test_a_phone_that_a_lead_has_already_is_a_conflict_that_names_the_lead(aisyah):
    siti = await add(aisyah)
    for phone in ("0123456789", "60123456789"):
        answer = await aisyah.post("/api/leads", json={"name": "Another", "phone": phone})
        assert answer.status_code == 409
        assert f"lead {siti['id']} (Siti Aminah) has the phone 60123456789" in answer.json()["detail"]
    ali = await add(aisyah, name="Ali", phone="0123456780")
    answer = await aisyah.put(f"/api/leads/{ali['id']}", json={"name": "Changed", "phone": "012-345 6789"})
    assert answer.status_code == 409
    assert f"lead {siti['id']} " in answer.json()["detail"]
    assert await read(aisyah) == [ali, siti]


async def test_of_two_who_add_the_same_phone_at_once_one_wins(aisyah):
    answers = await asyncio.gather(*(aisyah.post("/api/leads", json={**SITI, "name": f"Siti {n}"}) for n in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert len(await read(aisyah)) == 1


async def test_two_users_may_have_the_same_contact(aisyah, stranger):
    mine, theirs = await add(aisyah), await add(stranger)
    assert mine["id"] != theirs["id"]
    assert mine["phone"] == theirs["phone"]


CHANGES: list[tuple[Results, Results]] = [
    ({"name": "Siti binti Ali"}, {"name": "Siti binti Ali"}),
    ({"phone": "013-987 6543"}, {"phone": "60139876543"}),
    ({"niche": "vitac"}, {"niche": "vitac", "niches": ["VITAC"]}),
    ({"niche": ""}, {"niche": "", "niches": []}),
    ({"status": "prospect"}, {"target_status": "prospect"}),
    ({"target_status": ""}, {}),
    ({"journey": "prefers coffee"}, {"additional_note": "prefers coffee", "journey": "prefers coffee"}),
    ({"additional_note": None}, {"additional_note": "", "journey": ""}),
    ({"device_id": None}, {"device_id": None}),
    ({}, {}),
]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_changing_one_field_leaves_the_others(aisyah, clock, method):
    lead = await add(aisyah, device_id=str(await add_device(aisyah)))
    for change, expected in CHANGES:
        clock.advance(timedelta(minutes=5))
        answer = await aisyah.request(method, f"/api/leads/{lead['id']}", json=change)
        assert answer.status_code == 200, answer.text
        changed = answer.json()["results"]
        assert changed == await read(aisyah, f"/api/leads/{lead['id']}")
        assert changed == {**lead, **expected, "updated_at": changed["updated_at"]}
        assert (changed["updated_at"] == lead["updated_at"]) is (expected == {})
        lead = changed


async def test_a_lead_that_is_sent_back_as_it_was_read_does_not_change(aisyah):
    lead = await add(aisyah, device_id=str(await add_device(aisyah)))
    answer = await aisyah.put(f"/api/leads/{lead['id']}", json=lead)
    assert answer.json()["results"] == lead


async def test_a_deleted_lead_is_gone_but_what_it_got_stays(aisyah, sessions):
    device_id = await add_device(aisyah)
    lead = await add(aisyah)
    async with sessions.begin() as session:
        session.add(
            BroadcastMessage(
                user_id=lead["user_id"],
                device_id=device_id,
                lead_id=lead["id"],
                source="one-off",
                recipient_phone=lead["phone"],
                content="Hi",
                scheduled_at=datetime.now(UTC),
            )
        )
    answer = await aisyah.delete(f"/api/leads/{lead['id']}")
    assert (answer.status_code, answer.json()["results"]) == (200, {"id": lead["id"]})
    assert (await aisyah.get(f"/api/leads/{lead['id']}")).status_code == 404
    assert (await aisyah.delete(f"/api/leads/{lead['id']}")).status_code == 404
    async with sessions() as session:
        messages = (await session.execute(select(BroadcastMessage))).scalars().all()
    assert [message.lead_id for message in messages] == [lead["id"]]
    await add(aisyah)


async def test_nobody_else_sees_changes_or_deletes_a_lead(aisyah, stranger):
    lead = await add(aisyah)
    path = f"/api/leads/{lead['id']}"
    nothing = f"/api/leads/{lead['id'] + 1}"
    for method, body in (("GET", None), ("PUT", {"name": "Mine"}), ("PATCH", {"name": "Mine"}), ("DELETE", None)):
        theirs = await stranger.request(method, path, json=body)
        none = await stranger.request(method, nothing, json=body)
        assert theirs.status_code == 404
        assert theirs.json() == none.json()
    assert await read(stranger) == []
    assert await read(stranger, "/api/leads/niches") == []
    assert await read(aisyah) == [lead]


async def test_a_lead_cannot_belong_to_a_device_of_somebody_else(aisyah, stranger):
    theirs, mine = str(await add_device(stranger)), str(await add_device(aisyah))
    lead = await add(aisyah, device_id=mine)
    for device_id in (theirs, str(uuid4())):
        answers = [
            await aisyah.post("/api/leads", json={**SITI, "phone": "0123456780", "device_id": device_id}),
            await aisyah.put(f"/api/leads/{lead['id']}", json={"device_id": device_id}),
            await aisyah.get(f"/api/devices/{device_id}/leads"),
        ]
        assert [answer.status_code for answer in answers] == [404] * 3
        assert {answer.json()["detail"] for answer in answers} == {"no such device"}
        assert await read(aisyah, device_id=device_id) == []
    assert await read(aisyah) == [lead]


async def test_nobody_gets_in_without_a_login(api):
    for method, path in (("GET", "/api/leads"), ("POST", "/api/leads"), ("GET", "/api/leads/niches"), ("PUT", "/api/leads/1")):
        answer = await api.request(method, path, json=SITI if method != "GET" else None)
        assert answer.status_code == 401


async def test_leads_come_newest_first_in_pages(aisyah):
    for n in range(5):
        await add(aisyah, name=f"Lead {n}", phone=f"012000000{n}")
    pages, cursor = [], None
    while True:
        answer = (await aisyah.get("/api/leads", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        pages.append([lead["name"] for lead in answer["results"]])
        if (cursor := answer["next_cursor"]) is None:
            break
        await add(aisyah, name="Newcomer", phone=f"01300000{len(pages):02}")
    assert pages == [["Lead 4", "Lead 3"], ["Lead 2", "Lead 1"], ["Lead 0"]]
    assert (await aisyah.get("/api/leads", params={"cursor": "rubbish"})).status_code == 422


async def test_leads_are_found_by_status_device_and_whole_niche(aisyah):
    device_id = str(await add_device(aisyah))
    await add(aisyah, name="A", phone="0120000001", niche="EXSTART,ITADRESS", target_status="prospect", device_id=device_id)
    await add(aisyah, name="B", phone="0120000002", niche="itadress", target_status="customer")
    await add(aisyah, name="C", phone="0120000003", niche="ITADRESSES", target_status="prospect")
    await add(aisyah, name="D", phone="0120000004", niche="", target_status="prospect", device_id=device_id)
    assert await names(aisyah, target_status="prospect") == ["D", "C", "A"]
    assert await names(aisyah, niche="ITADRESS") == ["B", "A"]
    assert await names(aisyah, niche=" itadresses, exstart") == ["C", "A"]
    assert await names(aisyah, niche="ITADRES") == []
    assert await names(aisyah, niche="ITADRESS", target_status="prospect") == ["A"]
    assert await names(aisyah, device_id=device_id) == ["D", "A"]
    assert await names(aisyah, f"/api/devices/{device_id}/leads") == ["D", "A"]
    assert await names(aisyah, f"/api/devices/{device_id}/leads", niche="EXSTART") == ["A"]
    assert (await aisyah.get("/api/leads", params={"target_status": "all"})).status_code == 422
    assert await read(aisyah, "/api/leads/niches") == [
        {"niche": "EXSTART", "leads": 1},
        {"niche": "ITADRESS", "leads": 2},
        {"niche": "ITADRESSES", "leads": 1},
    ]


async def test_leads_are_found_by_part_of_name_or_phone(aisyah):
    await add(aisyah)
    await add(aisyah, name="Kedai 100% Halal", phone="0198887777")
    both = ["Kedai 100% Halal", "Siti Aminah"]
    searches = {
        both[0]: ["100%", "0% h", "kedai"],
        both[1]: ["siti", "  AMINAH ", "012-345", "+60 12 3456789", "6789"],
    }
    for name, texts in searches.items():
        for text in texts:
            assert await names(aisyah, search=text) == [name]
    for text in ("a", "\0", ""):
        assert await names(aisyah, search=text) == both
    for text in ("_", "01", "siti_"):
        assert await names(aisyah, search=text) == []
