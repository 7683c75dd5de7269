"""Campaigns from the shell."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.models import BroadcastMessage, Campaign, CampaignCount, CampaignStatus, Device, MessageStatus, campaign_source
from tests.cli.conftest import Run, Shell
from tests.media_files import png
from tests.waiting import eventually

CREATE = ("campaigns", "create", "--title", "Promo Merdeka", "--to", "prospect", "--message", "Hai {{name|kawan}}")
NEXT_MONTH = f"{system_clock() + timedelta(days=30):%Y-%m-%d}"
LATER = ("--date", NEXT_MONTH, "--time", "09:00")


@pytest.fixture
async def failed_campaign(shell: Shell, sessions: SessionMaker) -> int:
    """A campaign that has ended, with one message that failed and one of which nobody can tell."""
    await shell.done("devices", "add", "Desk", "--link")
    campaign_id: int = (await shell.json(*CREATE, *LATER))["id"]
    now = system_clock()
    async with sessions.begin() as session:
        campaign = await session.get_one(Campaign, campaign_id)
        device = (await session.execute(select(Device))).scalar_one()
        campaign.status, campaign.expanded_at, campaign.completed_at = CampaignStatus.SENT, now, now
        for phone, status in (("60123456701", MessageStatus.FAILED), ("60123456702", MessageStatus.UNKNOWN)):
            message = BroadcastMessage(
                user_id=device.user_id,
                device_id=device.id,
                campaign_id=campaign_id,
                source=campaign_source(campaign_id),
                recipient_phone=phone,
                status=status,
                is_retryable=status is MessageStatus.FAILED,
                attempt=1,
                scheduled_at=now,
                claimed_at=now,
            )
            session.add(message)
        session.add(CampaignCount(user_id=device.user_id, campaign_id=campaign_id, device_id=device.id, failed=1, unknown=1))
    return campaign_id


async def set_status(sessions: SessionMaker, campaign_id: int, status: CampaignStatus) -> None:
    async with sessions.begin() as session:
        (await session.get_one(Campaign, campaign_id)).status = status


async def test_a_campaign_is_created_and_listed(shell: Shell):
    campaign = await shell.json(*CREATE, *LATER, "--niche", "EXSTART", "--min-delay", "1", "--max-delay", "2")
    assert campaign["status"] == "scheduled"
    assert (campaign["niche"], campaign["min_delay_seconds"], campaign["max_delay_seconds"]) == ("EXSTART", 1, 2)
    out = (await shell.done("campaigns", "list")).out
    assert "Promo Merdeka" in out
    assert f"{NEXT_MONTH} 09:00" in out
    assert [found["id"] for found in await shell.json("campaigns", "list", "--status", "scheduled")] == [campaign["id"]]
    assert await shell.json("campaigns", "list", "--status", "paused") == []


async def test_a_campaign_without_a_date_is_due_at_once(shell: Shell):
    campaign = await shell.json(*CREATE)
    assert campaign["scheduled_at"][:19] <= system_clock().isoformat()[:19]


async def test_a_time_without_a_date_is_wrong_usage(shell: Shell):
    run = await shell.run(*CREATE, "--time", "09:00")
    assert run.exit_code == 2
    assert "--date" in run.err


async def test_refused_fields_are_named_with_their_reasons(shell: Shell):
    run = await shell.run("campaigns", "create", "--title", "x", "--to", "all", "--message", "Hi", *LATER)
    assert run.exit_code == 2
    assert "target_status: " in run.err
    run = await shell.run("campaigns", "create", "--title", "x", "--to", "prospect", "--message", "{{nam}}", *LATER, "--json")
    assert run.exit_code == 2
    assert [error["field"] for error in run.document()["errors"]] == ["message"]


async def test_an_unknown_campaign_is_not_found(shell: Shell):
    for command in ("show", "watch", "pause", "resume", "retry", "copy", "preview"):
        assert (await shell.run("campaigns", command, "4711")).exit_code == 4


async def test_a_campaign_is_paused_resumed_and_cancelled(shell: Shell):
    campaign_id = str((await shell.json(*CREATE, *LATER))["id"])
    assert (await shell.json("campaigns", "pause", campaign_id))["status"] == "paused"
    assert (await shell.json("campaigns", "resume", campaign_id))["status"] == "scheduled"
    assert (await shell.run("campaigns", "cancel", campaign_id, "--json")).exit_code == 1
    assert (await shell.run("campaigns", "cancel", campaign_id, stdin="n\n")).exit_code == 1
    assert (await shell.json("campaigns", "cancel", campaign_id, "--yes"))["status"] == "cancelled"
    refused = await shell.run("campaigns", "resume", campaign_id)
    assert refused.exit_code == 1
    assert "cancelled" in refused.err


async def test_a_campaign_is_shown_with_its_devices(shell: Shell, failed_campaign: int):
    out = (await shell.done("campaigns", "show", str(failed_campaign))).out
    assert "Hai {{name|kawan}}" in out
    assert "2 messages: 0 success, 1 failed, 1 unknown, 0 pending" in out
    assert "Desk" in out
    document = await shell.json("campaigns", "show", str(failed_campaign))
    assert document["device_report"]["failedLeads"] == 2


async def test_an_image_is_a_file_of_this_machine(shell: Shell, tmp_path: Path):
    file = tmp_path / "promo.png"
    file.write_bytes(png())
    campaign = await shell.json(*CREATE, *LATER, "--image", str(file))
    assert campaign["message_type"] == "image"
    again = await shell.json(*CREATE, *LATER, "--image", campaign["image_url"])
    assert again["image_url"] == campaign["image_url"]
    run = await shell.run(*CREATE, *LATER, "--image", str(tmp_path / "none.png"))
    assert run.exit_code == 2
    run = await shell.run(*CREATE, *LATER, "--image", "http://127.0.0.1:1/promo.png")
    assert run.exit_code == 2
    assert "image_url: " in run.err


async def test_a_campaign_is_copied_and_previewed(shell: Shell):
    campaign_id = str((await shell.json(*CREATE, *LATER))["id"])
    copy = await shell.json("campaigns", "copy", campaign_id)
    assert (copy["status"], copy["title"]) == ("paused", "Promo Merdeka (copy)")
    copy = await shell.json("campaigns", "copy", campaign_id, "--date", NEXT_MONTH, "--time", "10:00", "--title", "Again")
    assert (copy["status"], copy["scheduled_time"], copy["title"]) == ("scheduled", "10:00", "Again")
    assert (await shell.run("campaigns", "copy", campaign_id, "--time", "10:00")).exit_code == 2
    out = (await shell.done("campaigns", "preview", campaign_id)).out
    assert "Hai Aisyah" in out
    assert "made up" in out


async def test_a_test_message_is_queued_and_its_end_is_the_exit_code(shell: Shell, sessions: SessionMaker):
    await shell.done("devices", "add", "Desk", "--link")
    campaign_id = str((await shell.json(*CREATE, *LATER))["id"])
    testing = asyncio.create_task(shell.run("campaigns", "test", campaign_id, "012-345 6789", "--device", "Desk", "--json"))
    await eventually(lambda: _fail_messages(sessions))
    run = await testing
    assert run.exit_code == 1
    assert (run.document()["status"], run.document()["text"]) == ("failed", "Hai Aisyah")
    assert (await shell.run("campaigns", "test", campaign_id, "12")).exit_code == 2


async def _fail_messages(sessions: SessionMaker) -> bool:
    async with sessions.begin() as session:
        messages = (await session.scalars(select(BroadcastMessage))).all()
        for message in messages:
            message.status = MessageStatus.FAILED
    return bool(messages)


async def test_a_retry_takes_what_failed_and_can_be_retried(shell: Shell, failed_campaign: int):
    assert (await shell.json("campaigns", "retry", str(failed_campaign), "--device", "Desk"))["retried"] == 1
    assert "Queued 0 messages" in (await shell.done("campaigns", "retry", str(failed_campaign))).out


async def test_an_unknown_message_is_retried_only_with_a_confirmation(
    shell: Shell, failed_campaign: int, sessions: SessionMaker
):
    async with sessions() as session:
        query = select(BroadcastMessage.id).where(BroadcastMessage.status == MessageStatus.UNKNOWN)
        message = str((await session.execute(query)).scalar_one())
    refused = await shell.run("campaigns", "retry", str(failed_campaign), "--message", message)
    assert refused.exit_code == 1
    assert "may get it twice" in refused.err
    assert (await shell.json("campaigns", "retry", str(failed_campaign), "--message", message, "--confirm"))["retried"] == 1


async def test_a_retry_of_a_device_and_a_message_at_once_is_wrong_usage(shell: Shell, failed_campaign: int):
    run = await shell.run("campaigns", "retry", str(failed_campaign), "--device", "Desk", "--message", "1")
    assert run.exit_code == 2


async def test_watching_a_campaign_ends_with_it(shell: Shell, sessions: SessionMaker, failed_campaign: int):
    await set_status(sessions, failed_campaign, CampaignStatus.SENDING)
    watching: asyncio.Task[Run] = asyncio.create_task(shell.run("campaigns", "watch", str(failed_campaign), "--json"))
    await asyncio.sleep(1.5)
    assert not watching.done()
    await set_status(sessions, failed_campaign, CampaignStatus.SENT)
    run = await watching
    assert run.exit_code == 0
    assert json.loads(run.out)["status"] == "sent"


async def test_watching_a_campaign_that_failed_fails(shell: Shell, sessions: SessionMaker, failed_campaign: int):
    await set_status(sessions, failed_campaign, CampaignStatus.FAILED)
    run = await shell.run("campaigns", "watch", str(failed_campaign))
    assert run.exit_code == 1
    assert f"Campaign {failed_campaign} is failed" in run.out
