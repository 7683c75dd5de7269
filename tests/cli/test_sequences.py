"""Sequences from the shell, and the example projects."""

from pathlib import Path
from typing import Any

import pytest

from siaran.db import SessionMaker
from siaran.models import MessageStatus
from tests.api.campaign_rows import add_device, user_id_of
from tests.api.sequence_rows import add_contact, add_message
from tests.cli.conftest import Shell

EXAMPLES = Path(__file__).parents[2] / "examples"

CREATE = ("sequences", "create", "--name", "Promo Merdeka", "--step", "1@09:00=Hai {{name|kawan}}", "--step", "3=Hari ketiga")


async def test_a_sequence_is_created_listed_and_shown(shell: Shell):
    made = await shell.json(*CREATE, "--niche", "EXSTART", "--to", "prospect", "--min-delay", "1", "--max-delay", "2")
    assert (made["status"], made["total_days"], made["niche"], made["max_delay_seconds"]) == ("draft", 3, "EXSTART", 2)
    assert [(step["day"], step["send_time"]) for step in made["steps"]] == [(1, "09:00"), (3, None)]
    out = (await shell.done("sequences", "list")).out
    assert "Promo Merdeka" in out
    assert made["id"] in out
    out = (await shell.done("sequences", "show", "promo merdeka")).out
    assert "Hai {{name|kawan}}" in out
    assert "0 contacts: 0 active" in out
    assert (await shell.json("sequences", "show", made["id"]))["statistics"]["steps"][1]["day"] == 3


async def test_refused_fields_are_named_with_their_reasons(shell: Shell):
    run = await shell.run("sequences", "create", "--name", "x", "--step", "1=Hi", "--step", "2={{nam}}", "--json")
    assert run.exit_code == 2
    assert [error["field"] for error in run.document()["errors"]] == ["steps.1.content"]
    run = await shell.run("sequences", "create", "--name", "x", "--step", "Monday=Hi")
    assert run.exit_code == 2
    assert "DAY=TEXT" in run.err


async def test_an_unknown_sequence_is_not_found(shell: Shell):
    for command in ("show", "start", "pause", "contacts"):
        assert (await shell.run("sequences", command, "Nothing")).exit_code == 4
        assert (await shell.run("sequences", command, "00000000-0000-4000-8000-000000000000")).exit_code == 4


async def test_of_two_with_one_name_the_id_is_asked_for(shell: Shell):
    first = await shell.json(*CREATE)
    await shell.done(*CREATE)
    run = await shell.run("sequences", "start", "Promo Merdeka")
    assert run.exit_code == 2
    assert "2 sequences" in run.err
    assert (await shell.json("sequences", "start", first["id"]))["status"] == "active"


async def test_a_sequence_is_started_paused_and_deleted(shell: Shell):
    await shell.done(*CREATE)
    assert (await shell.json("sequences", "start", "Promo Merdeka"))["status"] == "active"
    assert "paused" in (await shell.done("sequences", "pause", "Promo Merdeka")).out
    assert (await shell.run("sequences", "delete", "Promo Merdeka", stdin="n\n")).exit_code == 1
    assert (await shell.run("sequences", "delete", "Promo Merdeka", "--json")).exit_code == 1
    await shell.done("sequences", "delete", "Promo Merdeka", "--yes")
    assert await shell.json("sequences", "list") == []


async def test_the_example_projects_load_with_one_command_and_again_without_doubling(shell: Shell):
    loaded: list[dict[str, Any]] = await shell.json("sequences", "load", str(EXAMPLES))
    assert [
        (row["name"], row["total_days"], row["min_delay_seconds"], row["max_delay_seconds"], row["status"]) for row in loaded
    ] == [("Promo Merdeka", 5, 10, 20, "draft"), ("Promosi Hari Raya", 7, 15, 30, "draft")]
    assert loaded[0]["steps"][0]["message_type"] == "image"
    again = await shell.json("sequences", "load", str(EXAMPLES))
    assert again == loaded
    assert len(await shell.json("sequences", "list")) == 2
    out = (await shell.done("sequences", "load", str(EXAMPLES / "promo-merdeka.toml"), "--start")).out
    assert out == "Promo Merdeka is loaded, 5 messages in 5 days, and active.\n"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.toml", "name = ", "a.toml"),
        ("a.toml", "description = 'x'", "has no name"),
        ("a.json", "[]", "no sequence"),
        ("a.json", '{"name": "x", "steps": {"day": 1}}', "no sequence"),
        ("a.json", '{"name": "x", "steps": [{"day": 1, "image_url": "none.png"}]}', "none.png"),
        ("a.txt", "", ".toml"),
    ],
)
async def test_a_file_that_is_no_sequence_is_refused(shell: Shell, tmp_path: Path, name: str, content: str, reason: str):
    (tmp_path / name).write_text(content)
    run = await shell.run("sequences", "load", str(tmp_path / name))
    assert run.exit_code == 2
    assert reason in run.err.replace("\n", "")
    assert await shell.json("sequences", "list") == []


async def test_people_are_enrolled_and_listed(shell: Shell):
    await shell.done(*CREATE)
    out = (await shell.done("sequences", "enroll", "Promo Merdeka", "012-345 6789", "+60123456789", "12")).out
    assert "1 enrolled, 1 were already." in out
    assert "12" in out
    assert (await shell.run("sequences", "enroll", "Promo Merdeka", "12")).exit_code == 1
    out = (await shell.done("sequences", "contacts", "Promo Merdeka")).out
    assert "60123456789" in out
    assert "day 0 of 3" in out
    contact = str((await shell.json("sequences", "contacts", "Promo Merdeka"))[0]["id"])
    for action, status in (("pause", "paused"), ("resume", "active"), ("skip", "active"), ("restart", "active")):
        assert (await shell.json("sequences", "contact", "Promo Merdeka", contact, action))["status"] == status
    assert "removed" in (await shell.done("sequences", "contact", "Promo Merdeka", contact, "remove")).out
    assert (await shell.done("sequences", "contacts", "Promo Merdeka")).out == "No contacts.\n"


async def test_the_summary_adds_up(shell: Shell):
    await shell.done(*CREATE, "--start")
    await shell.done("sequences", "enroll", "Promo Merdeka", "0123456789")
    out = (await shell.done("sequences", "summary")).out
    assert "1 sequences: 1 active, 0 paused, 0 drafts" in out
    assert "1 contacts, 1.0 a sequence" in out
    assert (await shell.json("sequences", "summary"))["contacts"]["total"] == 1


async def test_failed_steps_are_retried_an_unknown_one_only_with_a_confirmation(shell: Shell, sessions: SessionMaker):
    made = await shell.json(*CREATE, "--start")
    device = await add_device(sessions, await user_id_of(sessions))
    contact = await add_contact(sessions, made)
    await add_message(sessions, made, contact, device, 1, MessageStatus.FAILED)
    unknown = str(await add_message(sessions, made, contact, device, 3, MessageStatus.UNKNOWN))
    assert (await shell.json("sequences", "retry", "Promo Merdeka", "--contact", str(contact)))["retried"] == 1
    assert "Queued 0 messages" in (await shell.done("sequences", "retry", "Promo Merdeka")).out
    refused = await shell.run("sequences", "retry", "Promo Merdeka", "--message", unknown)
    assert refused.exit_code == 1
    assert "may get it twice" in refused.err
    assert (await shell.json("sequences", "retry", "Promo Merdeka", "--message", unknown, "--confirm"))["retried"] == 1
    assert (await shell.run("sequences", "retry", "Promo Merdeka", "--contact", "1", "--message", "1")).exit_code == 2
