"""How links of real accounts end: interrupted, killed and logged out linkings, and what is left of them."""

import asyncio
import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select

from siaran import unlinkings
from siaran.linking_codes import shown_code
from siaran.models import Pairing, PairingStatus
from tests.cli.conftest import Shell
from tests.waiting import eventually
from tests.whatsapp.linking_stage import PASSWORD, LinkingStage, Person
from tests.whatsapp_server.harness import WhatsApp

pytestmark = pytest.mark.whatsapp


async def test_a_linking_that_is_interrupted_at_its_end_holds(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    async with person.following(device_id) as page:
        jid = await whatsapp.scan(qr=(await page.reach("code"))["code"], number=number, interrupted=True)
        await page.reach("linked")
    assert (await linkings.row(device_id)).jid == jid
    assert len((await whatsapp.status())["logins"][jid]) == 1


async def test_a_linking_process_that_dies_before_the_scan_leaves_nothing(linkings: LinkingStage, person: Person) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    await _kill_process(linkings, device_id)
    pairing = await linkings.ends_as(device_id, PairingStatus.FAILED)
    assert pairing.error_code == "interrupted"
    await linkings.keeps_no_session(device_id)
    await person.begin(device_id)
    assert (await linkings.row(device_id)).link_generation == 2


async def test_a_linking_process_that_dies_after_the_scan_is_logged_out_again(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str
) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    async with person.following(device_id) as page:
        jid = await whatsapp.scan(qr=(await page.reach("code"))["code"], number=number, interrupted=True)
        await _kill_process(linkings, device_id)
        await page.reach("failed")
    await linkings.forgets(jid)
    await linkings.keeps_no_session(device_id)
    [unlinking] = await linkings.unlinkings(device_id)
    assert (unlinking.jid, unlinking.error_code) == (jid, None)
    await eventually(lambda: _is_done(linkings, device_id))
    assert (await linkings.row(device_id)).jid is None


async def test_a_process_that_dies_at_any_moment_leaves_a_whole_link_or_none(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str, redis: Redis
) -> None:
    pauses = [0.0, 0.15, 0.4, 0.8, 1.6]
    devices = [await person.add_device(f"Desk {pause}") for pause in pauses]

    async def scan_and_kill(position: int) -> str:
        device_id = devices[position]
        code = await shown_code(redis, (await linkings.pairing(device_id)).id)
        assert code is not None
        jid = str(await whatsapp.scan(qr=code.code, number=f"{number}{position}"))
        await asyncio.sleep(pauses[position])
        await _kill_process(linkings, device_id)
        return jid

    for device_id in devices:
        await person.begin(device_id)
    jids = await asyncio.gather(*(scan_and_kill(position) for position in range(len(pauses))))

    for device_id, jid in zip(devices, jids, strict=True):
        await eventually(partial(_is_over, linkings, device_id), within=30)
        if (await linkings.pairing(device_id)).status is PairingStatus.LINKED:
            assert (await linkings.row(device_id)).jid == jid
            assert jid in await linkings.linked_jids()
            assert linkings.sessions_kept()[device_id] == 1
        else:
            assert (await linkings.row(device_id)).jid is None
            await linkings.forgets(jid)
            await linkings.keeps_no_session(device_id)


async def test_a_fleet_that_dies_takes_its_linkings_along(linkings: LinkingStage, person: Person) -> None:
    device_id = await person.add_device()
    await person.begin(device_id)
    await linkings.stop_fleet()
    assert (await linkings.pairing(device_id)).status is PairingStatus.FAILED
    linkings.start_fleet()
    await linkings.keeps_no_session(device_id)


@pytest.mark.parametrize("way", ["log out", "delete"])
async def test_the_end_of_a_link_reaches_the_server_and_removes_the_session(
    linkings: LinkingStage, person: Person, number: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(unlinkings, "HOST_HAS_TIME", unlinkings.HOST_HAS_TIME * 0)
    device_id = await person.add_device()
    jid = await linkings.link(person, device_id, number)
    if way == "delete":
        assert (await person.http.delete(f"/api/devices/{device_id}")).status_code == 200
    else:
        answer = await person.http.post("/app/logout", params={"deviceId": str(device_id)})
        assert answer.json()["results"]["status"] == "logged_out"
    assert (await linkings.row(device_id)).jid is None
    await linkings.forgets(jid)
    await linkings.keeps_no_session(device_id)
    assert [row.done_at is not None for row in await linkings.unlinkings(device_id)] == [True]


async def test_a_link_that_the_phone_has_ended_already_needs_no_log_out(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlinkings, "HOST_HAS_TIME", unlinkings.HOST_HAS_TIME * 0)
    device_id = await person.add_device()
    await linkings.link(person, device_id, number)
    await whatsapp.unlink(number=number)
    await person.http.post("/app/logout", params={"deviceId": str(device_id)})
    await linkings.keeps_no_session(device_id)
    assert [(row.done_at is not None, row.error_code) for row in await linkings.unlinkings(device_id)] == [(True, None)]


async def test_a_log_out_that_does_not_reach_whatsapp_is_tried_again(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlinkings, "HOST_HAS_TIME", unlinkings.HOST_HAS_TIME * 0)
    monkeypatch.setattr(unlinkings, "FIRST_PAUSE", unlinkings.FIRST_PAUSE / 10)
    device_id = await person.add_device()
    jid = await linkings.link(person, device_id, number)
    await whatsapp.reach(state="refusing")
    await person.http.post("/app/logout", params={"deviceId": str(device_id)})

    async def has_failed() -> bool:
        return [row.error_code for row in await linkings.unlinkings(device_id)] == ["unreachable"]

    await eventually(has_failed, within=20)
    assert jid in await linkings.linked_jids()
    await whatsapp.reach(state="up")
    await linkings.forgets(jid)
    await linkings.keeps_no_session(device_id)


async def test_a_device_that_was_logged_out_can_be_linked_anew(
    linkings: LinkingStage, person: Person, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlinkings, "HOST_HAS_TIME", unlinkings.HOST_HAS_TIME * 0)
    device_id = await person.add_device()
    first = await linkings.link(person, device_id, number)
    await person.http.post("/app/logout", params={"deviceId": str(device_id)})
    second = await linkings.link(person, device_id, number)
    await linkings.forgets(first)
    assert second in await linkings.linked_jids()
    row = await linkings.row(device_id)
    assert (row.jid, row.link_generation) == (second, 2)
    await eventually(lambda: linkings.sessions_kept() == {device_id: 2}, within=20)


async def test_a_device_is_linked_from_the_shell(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str, tmp_path: Path
) -> None:
    shell = Shell(tmp_path / "config", {"SIARAN_URL": linkings.url})
    await shell.done("login", "--email", "aisyah@example.com", "--password-stdin", stdin=f"{PASSWORD}\n")
    added = await shell.json("devices", "add", "Desk", "--transport", "whatsapp")
    device_id = UUID(added["id"])
    linking = asyncio.create_task(shell.run("devices", "link", "Desk"))
    await eventually(lambda: _is_begun(linkings, device_id), within=20)
    async with person.following(device_id) as page:
        code = (await page.reach("code"))["code"]
        await asyncio.sleep(1.5)  # until the shell shows it, too
        await whatsapp.scan(qr=code, number=number)
        await page.reach("linked")
    run = await linking
    assert run.exit_code == 0, run
    assert run.out.count("▀") > 100
    assert "Scan this with the phone" in run.out
    assert f"Desk is linked to {number}." in run.out


async def test_the_shell_says_why_a_device_cannot_be_linked(
    linkings: LinkingStage, person: Person, whatsapp: WhatsApp, number: str, tmp_path: Path
) -> None:
    shell = Shell(tmp_path / "config", {"SIARAN_URL": linkings.url})
    await shell.done("login", "--email", "aisyah@example.com", "--password-stdin", stdin=f"{PASSWORD}\n")
    await linkings.link(person, await person.add_device("First"), number)
    second = await person.add_device("Second")
    linking = asyncio.create_task(shell.run("devices", "link", "Second", "--json"))
    await eventually(lambda: _is_begun(linkings, second), within=20)
    async with person.following(second) as page:
        code = (await page.reach("code"))["code"]
        await asyncio.sleep(1.5)  # until the shell shows it, too
        await whatsapp.scan(qr=code, number=number)
        await page.reach("failed")
    run = await linking
    assert run.exit_code == 1
    assert run.document()["code"] == "ACCOUNT_TAKEN"
    assert "▀" in run.err


async def _is_over(linkings: LinkingStage, device_id: UUID) -> bool:
    return (await linkings.pairing(device_id)).ended_at is not None


async def _is_begun(linkings: LinkingStage, device_id: UUID) -> bool:
    async with linkings.sessions() as session:
        return await session.scalar(select(func.count()).where(Pairing.device_id == device_id)) == 1


async def _kill_process(linkings: LinkingStage, device_id: UUID) -> None:
    pid = (await linkings.pairing(device_id)).pid
    assert pid is not None
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _is_done(linkings: LinkingStage, device_id: UUID) -> bool:
    return all(row.done_at for row in await linkings.unlinkings(device_id))
