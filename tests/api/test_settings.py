"""Settings: what users set for themselves, and that nothing else changes."""

import asyncio
from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Lane, LaneState
from tests.api.conftest import register
from tests.api.devices import add_device

FRESH = {
    "full_name": "Aisyah",
    "timezone": "Asia/Kuala_Lumpur",
    "country": "MY",
    "quiet_from": None,
    "quiet_until": None,
    "sending_weekdays": [1, 2, 3, 4, 5, 6, 7],
    "contact_limit": None,
    "contact_limit_days": 7,
    "opt_out_words": ["STOP", "BERHENTI", "UNSUBSCRIBE"],
    "opt_out_reply": "",
    "auto_reply": None,
    "auto_reply_minutes": 1440,
}


@pytest.fixture
async def aisyah(api):
    return await register(api)


async def read(client: AsyncClient) -> dict[str, Any]:
    answer = await client.get("/api/settings")
    assert answer.status_code == 200, answer.text
    results: dict[str, Any] = answer.json()["results"]
    return results


async def change(client: AsyncClient, **fields: object) -> dict[str, Any]:
    answer = await client.put("/api/settings", json=fields)
    assert answer.status_code == 200, answer.text
    results: dict[str, Any] = answer.json()["results"]
    assert results == await read(client)
    return results


async def test_a_new_user_has_the_usual_settings(aisyah):
    assert await read(aisyah) == FRESH


async def test_every_setting_can_be_changed(aisyah):
    wanted = {
        "full_name": "Aisyah binti Ali",
        "timezone": "Asia/Jakarta",
        "country": "ID",
        "quiet_from": "21:30",
        "quiet_until": "08:00",
        "sending_weekdays": [1, 2, 3, 4, 5],
        "contact_limit": 3,
        "contact_limit_days": 14,
        "opt_out_words": ["Tak nak", "STOP"],
        "opt_out_reply": "You will hear from us no more.",
        "auto_reply": "We are back on Monday.",
        "auto_reply_minutes": 60,
    }
    assert await change(aisyah, **wanted) == wanted


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, value in FRESH.items() if field != "quiet_from"])
async def test_what_is_left_out_stays(aisyah, field: str, value: object):
    before = await change(
        aisyah, quiet_from="22:00", quiet_until="07:00", contact_limit=2, contact_limit_days=3, opt_out_words=["Henti"],
        opt_out_reply="Bye", auto_reply="Later", auto_reply_minutes=5, sending_weekdays=[6, 7],
        full_name="A", timezone="UTC", country="SG",
    )  # fmt: skip
    fields = {"quiet_from": None, "quiet_until": None} if field == "quiet_until" else {field: value}

    assert await change(aisyah, **fields) == {**before, **fields}


async def test_settings_are_tidied(aisyah):
    changed = await change(
        aisyah,
        full_name="  Aisyah ",
        country=" sg ",
        sending_weekdays=[7, 1, 7],
        opt_out_words=[" stop ", "STOP!", "Tak   nak"],
        opt_out_reply="  Bye.\r\nBye.  ",
        auto_reply="  ",
        quiet_from="22:00:30",
        quiet_until="07:00",
        unknown=1,
    )
    assert (changed["full_name"], changed["country"]) == ("Aisyah", "SG")
    assert changed["sending_weekdays"] == [1, 7]
    assert changed["opt_out_words"] == ["stop", "Tak nak"]
    assert changed["opt_out_reply"] == "Bye.\nBye."
    assert changed["auto_reply"] == "", "off, which is not the installation's"
    assert (changed["quiet_from"], changed["quiet_until"]) == ("22:00", "07:00")


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"full_name": " "}, "full_name"),
    ({"full_name": "x" * 201}, "full_name"),
    ({"timezone": "Kuala Lumpur"}, "timezone"),
    ({"timezone": None}, "timezone"),
    ({"country": "XX"}, "country"),
    ({"quiet_from": "22:00"}, "quiet_until"),
    ({"quiet_until": "22:00"}, "quiet_from"),
    ({"quiet_from": "22:00", "quiet_until": "22:00"}, "quiet_until"),
    ({"quiet_from": "25:00", "quiet_until": "07:00"}, "quiet_from"),
    ({"quiet_from": "10pm", "quiet_until": "07:00"}, "quiet_from"),
    ({"sending_weekdays": []}, "sending_weekdays"),
    ({"sending_weekdays": [0]}, "sending_weekdays"),
    ({"sending_weekdays": [1, 8]}, "sending_weekdays"),
    ({"sending_weekdays": ["Monday"]}, "sending_weekdays.0"),
    ({"sending_weekdays": None}, "sending_weekdays"),
    ({"contact_limit": 0}, "contact_limit"),
    ({"contact_limit": 1001}, "contact_limit"),
    ({"contact_limit": "many"}, "contact_limit"),
    ({"contact_limit_days": 0}, "contact_limit_days"),
    ({"contact_limit_days": 366}, "contact_limit_days"),
    ({"contact_limit_days": None}, "contact_limit_days"),
    ({"opt_out_words": []}, "opt_out_words"),
    ({"opt_out_words": ["STOP", ""]}, "opt_out_words.1"),
    ({"opt_out_words": ["..."]}, "opt_out_words.0"),
    ({"opt_out_words": ["x" * 51]}, "opt_out_words.0"),
    ({"opt_out_words": [f"word {number}" for number in range(51)]}, "opt_out_words"),
    ({"opt_out_words": "STOP"}, "opt_out_words"),
    ({"opt_out_reply": "x" * 1001}, "opt_out_reply"),
    ({"opt_out_reply": "a\0b"}, "opt_out_reply"),
    ({"auto_reply": "x" * 1001}, "auto_reply"),
    ({"auto_reply": "a\0b"}, "auto_reply"),
    ({"auto_reply": 7}, "auto_reply"),
    ({"auto_reply_minutes": 0}, "auto_reply_minutes"),
    ({"auto_reply_minutes": 43_201}, "auto_reply_minutes"),
    ({"auto_reply_minutes": None}, "auto_reply_minutes"),
]


async def test_bad_input_is_refused_naming_the_field_and_changes_nothing(aisyah):
    for fields, field in REFUSED:
        answer = await aisyah.put("/api/settings", json={"full_name": "Somebody else", **fields})
        assert answer.status_code == 422, (fields, answer.text)
        assert [error["field"] for error in answer.json()["errors"]] == [field], fields
    assert await read(aisyah) == FRESH


async def test_all_that_is_wrong_is_said_at_once(aisyah):
    answer = await aisyah.put("/api/settings", json={"country": "XX", "contact_limit": -1, "opt_out_words": ["!"]})
    assert {error["field"] for error in answer.json()["errors"]} == {"country", "contact_limit", "opt_out_words.0"}


async def test_settings_are_each_users_own(aisyah, api):
    stranger = await register(api, email="other@example.com", full_name="Other")
    await change(aisyah, contact_limit=1, opt_out_reply="Bye")
    assert await read(stranger) == {**FRESH, "full_name": "Other"}


async def test_lanes_that_wait_look_again_when_it_changes_what_they_wait_for(aisyah, api, session: AsyncSession):
    waiting, _asleep = await add_device(aisyah), await add_device(aisyah)
    theirs = await add_device(await register(api, email="other@example.com", full_name="Other"))
    waits = update(Lane).where(Lane.device_id.in_([waiting, theirs])).values(state=LaneState.WAITING)
    await session.execute(waits)
    await session.commit()

    async def running() -> set[object]:
        found = await session.scalars(select(Lane.device_id).where(Lane.state == LaneState.RUNNING))
        await session.commit()
        return set(found)

    await change(aisyah, opt_out_reply="Bye", full_name="Somebody")
    assert await running() == set()
    await change(aisyah, contact_limit=None)
    assert await running() == set(), "nothing is different"
    await change(aisyah, quiet_from="22:00", quiet_until="07:00")
    assert await running() == {waiting}
    await session.execute(waits)
    await session.commit()
    assert (await aisyah.patch("/api/me", json={"timezone": "Asia/Tokyo"})).status_code == 200
    assert await running() == {waiting}


async def test_a_lane_that_was_about_to_sleep_on_what_was_set_before_looks_again(aisyah, session: AsyncSession):
    device_id = await add_device(aisyah)
    lane = await session.get_one(Lane, device_id)
    lane.state = LaneState.RUNNING
    await session.commit()
    await session.refresh(lane, with_for_update=True)  # as a lane does while it reads what it has to heed
    changing = asyncio.create_task(change(aisyah, quiet_from="22:00", quiet_until="07:00"))
    await asyncio.wait([changing], timeout=0.5)

    lane.state, lane.waiting_for = LaneState.WAITING, "quiet hours"
    await session.commit()
    await changing

    found = await session.execute(select(Lane.state, Lane.waiting_for).where(Lane.device_id == device_id))
    assert found.one() == (LaneState.RUNNING, None)
