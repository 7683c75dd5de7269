"""Devices and workers from the shell."""

from uuid import uuid4

from tests.cli.conftest import Shell


async def test_a_device_is_added_linked_and_listed(shell: Shell):
    device = await shell.json("devices", "add", "Front desk", "--link", "--per-minute", "5")
    assert device["jid"]
    assert device["max_per_minute"] == 5
    out = (await shell.done("devices", "list")).out
    assert "Front desk" in out
    assert device["phone"] in out


async def test_a_device_is_named_by_name_or_id(shell: Shell):
    device = await shell.json("devices", "add", "Front desk")
    await shell.done("devices", "rename", "front desk", "Back desk")
    renamed = await shell.json("devices", "rename", device["id"], "Side desk")
    assert renamed["name"] == "Side desk"


async def test_an_unknown_device_is_not_found(shell: Shell):
    run = await shell.run("devices", "rename", str(uuid4()), "x", "--json")
    assert run.exit_code == 4
    assert run.document()["code"] == "NOT_FOUND"


async def test_a_name_that_two_devices_have_is_refused(shell: Shell):
    await shell.done("devices", "add", "Desk")
    await shell.done("devices", "add", "Desk")
    run = await shell.run("devices", "rename", "Desk", "x")
    assert run.exit_code == 2
    assert "name one by its id" in run.err


async def test_a_device_can_warm_up_and_says_so(shell: Shell):
    added = await shell.json("devices", "add", "Desk", "--warm-up")
    assert added["warm_up"]["first_day"] == 50
    shown = (await shell.done("devices", "caps", "Desk")).out
    assert "50 on the first day and 50 more each day: 50 a day for now" in " ".join(shown.split())
    assert (await shell.json("devices", "caps", "Desk", "--no-warm-up"))["warm_up"] is None


async def test_caps_are_shown_and_changed(shell: Shell):
    await shell.done("devices", "add", "Desk")
    assert "at most 20 a minute, 500 an hour, 5,000 a day" in (await shell.done("devices", "caps", "Desk")).out
    changed = await shell.json("devices", "caps", "Desk", "--per-day", "100")
    assert (changed["max_per_minute"], changed["max_per_day"]) == (20, 100)


async def test_a_refused_field_is_named(shell: Shell):
    await shell.done("devices", "add", "Desk")
    run = await shell.run("devices", "caps", "Desk", "--per-minute", "0")
    assert run.exit_code == 2
    assert "max_per_minute: " in run.err


async def test_a_device_is_linked_to_a_phone_of_ones_own(shell: Shell):
    await shell.done("devices", "add", "Desk")
    linked = await shell.json("devices", "link", "Desk", "--phone", "012-345 6789")
    assert linked["phone"] == "60123456789"


async def test_a_simulated_device_can_be_dropped_and_restored(shell: Shell):
    await shell.done("devices", "add", "Desk", "--link")
    assert (await shell.json("devices", "drop", "Desk", "--seconds", "5"))["action"] == "drop"
    assert (await shell.json("devices", "restore", "Desk"))["action"] == "restore"
    assert (await shell.json("devices", "ban", "Desk"))["action"] == "ban"
    assert (await shell.json("devices", "restrict", "Desk", "--off"))["action"] == "restrict"


async def test_a_device_without_a_link_has_nothing_to_drop(shell: Shell):
    await shell.done("devices", "add", "Desk")
    run = await shell.run("devices", "drop", "Desk")
    assert run.exit_code == 1
    assert "not linked" in run.err


async def test_a_device_is_logged_out_and_reconnecting_it_is_refused(shell: Shell):
    await shell.done("devices", "add", "Desk", "--link")
    await shell.done("devices", "reconnect", "Desk")
    await shell.done("devices", "log-out", "Desk", "--yes")
    assert (await shell.run("devices", "reconnect", "Desk")).exit_code == 1


async def test_deleting_asks_first(shell: Shell):
    await shell.done("devices", "add", "Desk")
    assert (await shell.run("devices", "delete", "Desk", stdin="n\n")).exit_code == 1
    assert len(await shell.json("devices", "list")) == 1
    assert (await shell.run("devices", "delete", "Desk", "--json")).exit_code == 1
    await shell.done("devices", "delete", "Desk", stdin="y\n")
    assert await shell.json("devices", "list") == []


async def test_what_users_typed_is_shown_as_they_typed_it(shell: Shell):
    await shell.done("devices", "add", "[bold]Desk[/bold] [red")
    assert "[bold]Desk[/bold] [red" in (await shell.done("devices", "list")).out


async def test_workers_are_shown_stopped_and_resumed(shell: Shell):
    await shell.done("devices", "add", "Desk", "--link")
    assert (await shell.json("workers", "stop-all", "--yes"))["stopped_count"] == 1
    overview = await shell.json("workers", "status")
    assert [worker["worker_status"] for worker in overview["workers"]] == ["stopped"]
    assert "1 stopped" in (await shell.done("workers", "status", "--filter", "stopped")).out
    assert (await shell.json("workers", "resume-failed"))["resumed_count"] == 1


async def test_stopping_everything_asks_first(shell: Shell):
    assert (await shell.run("workers", "stop-all", "--json")).exit_code == 1
