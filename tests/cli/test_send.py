"""Sending from the shell: single messages, broadcasts, number checks."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from siaran.db import SessionMaker
from siaran.models import BroadcastMessage, MessageStatus
from tests.cli.conftest import Run, Shell
from tests.media_files import png
from tests.waiting import eventually

PHONE = "60123456789"


@pytest.fixture
async def desk(shell: Shell) -> Shell:
    """Somebody with one linked device."""
    await shell.done("devices", "add", "Desk", "--link")
    return shell


async def ended(sessions: SessionMaker, status: MessageStatus = MessageStatus.SENT) -> bool:
    """End what waits; whether there was something."""
    async with sessions.begin() as session:
        open_ones = (await session.scalars(select(BroadcastMessage).where(BroadcastMessage.status == "pending"))).all()
        for message in open_ones:
            message.status = status
            if status is MessageStatus.FAILED:
                message.error_message = "This number has no WhatsApp account."
    return bool(open_ones)


async def run(shell: Shell, sessions: SessionMaker, *words: str, status: MessageStatus = MessageStatus.SENT) -> Run:
    """Run a command while somebody sends what it queues."""
    running = asyncio.create_task(shell.run("send", *words))
    await eventually(lambda: ended(sessions, status))
    return await running


SENT: list[tuple[tuple[str, ...], str, Any]] = [
    (("text", PHONE, "Hi {{name}}"), "text", "Hi {{name}}"),
    (("link", PHONE, "https://example.com", "--caption", "Look"), "text", "Look\nhttps://example.com"),
    (
        ("location", PHONE, "-3.5", "101.7", "--name", "KLCC"),
        "location",
        {"latitude": -3.5, "longitude": 101.7, "name": "KLCC", "address": ""},
    ),
    (("contact", PHONE, "Siti", "0123456700"), "contact", {"name": "Siti", "phone": "60123456700"}),
    (
        ("poll", PHONE, "When?", "Mon", "Tue", "Wed", "--answers", "2"),
        "poll",
        {"question": "When?", "options": ["Mon", "Tue", "Wed"], "selectable": 2},
    ),
]


async def test_every_kind_of_message_is_sent(desk: Shell, sessions: SessionMaker):
    for words, message_type, content in SENT:
        sent = await run(desk, sessions, *words, "--device", "Desk")
        assert (sent.exit_code, "is sent" in sent.out) == (0, True), sent
        async with sessions() as session:
            row = (await session.scalars(select(BroadcastMessage).order_by(BroadcastMessage.id.desc()).limit(1))).one()
        assert (row.recipient_phone, row.message_type) == (PHONE, message_type)
        assert (row.content if isinstance(content, str) else json.loads(row.content or "")) == content


async def test_a_file_of_this_machine_is_sent(desk: Shell, sessions: SessionMaker, tmp_path: Path):
    file = tmp_path / "promo.png"
    file.write_bytes(png())
    for kind, message_type in (("image", "image"), ("file", "document")):
        sent = await run(desk, sessions, kind, PHONE, str(file), "--caption", "New", "--json")
        assert (sent.document()["message_type"], sent.document()["text"]) == (message_type, "New")
    refused = await desk.run("send", "video", PHONE, str(file))
    assert (refused.exit_code, "video_url: " in refused.err) == (2, True)
    assert (await desk.run("send", "audio", PHONE, str(tmp_path / "none.mp3"))).exit_code == 2


async def test_a_message_that_was_not_sent_fails_with_the_reason(desk: Shell, sessions: SessionMaker):
    failed = await run(desk, sessions, "text", PHONE, "Hi", status=MessageStatus.FAILED)
    assert (failed.exit_code, "no WhatsApp account" in failed.out) == (1, True)
    assert (await desk.run("send", "text", "120363@g.us", "Hi")).exit_code == 2
    assert (await desk.run("send", "text", PHONE, "Hi", "--device", "Nowhere")).exit_code == 4


async def test_a_key_sends_once(desk: Shell, sessions: SessionMaker):
    first = await run(desk, sessions, "text", PHONE, "Hi", "--key", "once", "--json")
    again = await desk.json("send", "text", PHONE, "Hi", "--key", "once")
    assert again["message_id"] == first.document()["message_id"]


async def test_a_broadcast_is_queued_followed_and_cancelled(desk: Shell, sessions: SessionMaker, tmp_path: Path):
    file = tmp_path / "phones.txt"
    file.write_text("\ufeff0123456701\n\n0123456702\n", "utf-8")
    shown = await desk.done("send", "broadcast", "0123456703", "12", "--phones", str(file), "--message", "Hi {{name|friend}}")
    assert "3 messages are queued" in shown.out
    assert "12" in shown.out.partition("Not sent to")[2]
    broadcast = shown.out.split()[1].rstrip(":")
    assert "3 pending" in (await desk.done("send", "status", broadcast)).out
    assert "3 of 3 messages are cancelled" in (await desk.done("send", "cancel", broadcast)).out
    assert (await desk.json("send", "status", broadcast))["is_finished"]
    run = await desk.run("send", "broadcast", "12", "--message", "Hi")
    assert (run.exit_code, "phones.0: " in run.err) == (2, True)


async def test_a_number_is_checked_on_a_device_that_is_online(desk: Shell):
    run = await desk.run("send", "check", PHONE)
    assert (run.exit_code, "online" in run.err) == (1, True)
    assert (await desk.run("send", "check", "12")).exit_code == 2
