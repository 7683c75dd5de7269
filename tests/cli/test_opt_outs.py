"""Opt-outs and settings from the shell."""

from pathlib import Path

from tests.cli.conftest import Shell


async def test_phones_are_opted_out_listed_lifted_and_listed_as_lifted(shell: Shell):
    run = await shell.done("optouts", "add", "012-345 6701", "+60123456702", "nobody", "--reason", "asked by phone")
    assert "2 opted out, 0 had before." in run.out
    assert "nobody" in run.out

    assert [row["phone"] for row in await shell.json("optouts", "list")] == ["60123456702", "60123456701"]
    assert "asked by phone" in (await shell.done("optouts", "list", "--search", "6701")).out
    assert "60123456701 may be written to again." in (await shell.done("optouts", "lift", "0123456701")).out
    assert [row["phone"] for row in await shell.json("optouts", "list")] == ["60123456702"]
    assert [row["phone"] for row in await shell.json("optouts", "list", "--lifted")] == ["60123456701"]


async def test_a_file_of_phones_is_imported(shell: Shell, tmp_path: Path):
    file = tmp_path / "phones.txt"
    file.write_text("\ufeff0123456701\n\n 0123456702 \n0123456701\n", "utf-8")
    report = await shell.json("optouts", "import", str(file))
    assert report["added"] == ["60123456701", "60123456702"]
    assert report["already"] == report["invalid"] == []
    again = await shell.json("optouts", "import", str(file))
    assert (again["added"], len(again["already"])) == ([], 2)


async def test_what_makes_no_sense_is_refused(shell: Shell, tmp_path: Path):
    assert (await shell.run("optouts", "add")).exit_code == 2
    assert (await shell.run("optouts", "import", str(tmp_path / "none.txt"))).exit_code == 2
    run = await shell.run("optouts", "add", "nobody")
    assert run.exit_code == 2
    assert "phones.0: " in run.err
    assert (await shell.run("optouts", "lift", "0123456701")).exit_code == 4
    await shell.done("optouts", "add", "0123456701", "0133456701")
    assert (await shell.run("optouts", "lift", "3456701")).exit_code == 2


async def test_opt_outs_are_exported(shell: Shell, tmp_path: Path):
    await shell.done("optouts", "add", "0123456701", "0123456702")
    await shell.done("optouts", "lift", "0123456701")
    file = tmp_path / "opt-outs.csv"
    exported = await shell.json("optouts", "export", str(file))
    assert exported["bytes"] == file.stat().st_size
    assert ("60123456702" in file.read_text(), "60123456701" in file.read_text()) == (True, False)
    assert "60123456701" in (await shell.done("optouts", "export", "--all")).out
    assert (await shell.run("optouts", "export", "--json")).exit_code == 2


async def test_settings_are_shown_and_changed_one_by_one(shell: Shell):
    assert "STOP, BERHENTI, UNSUBSCRIBE" in (await shell.done("settings", "show")).out
    changed = await shell.json(
        "settings", "set", "--quiet", "21:00-08:00", "--weekdays", "Mon,tuesday,sat", "--contact-limit", "2",
        "--opt-out-word", "STOP", "--opt-out-word", "Tak nak", "--opt-out-reply", "Bye",
        "--auto-reply", "Later", "--auto-reply-minutes", "30",
    )  # fmt: skip
    assert (changed["quiet_from"], changed["quiet_until"]) == ("21:00", "08:00")
    assert changed["sending_weekdays"] == [1, 2, 6]
    assert (changed["contact_limit"], changed["contact_limit_days"]) == (2, 7)
    assert changed["opt_out_words"] == ["STOP", "Tak nak"]
    assert (changed["auto_reply"], changed["auto_reply_minutes"]) == ("Later", 30)
    changed = await shell.json("settings", "set", "--auto-reply", "default")
    assert changed["auto_reply"] is None
    out = (await shell.done("settings", "set", "--quiet", "none", "--contact-limit", "none", "--weekdays", "all")).out
    assert "mon, tue, wed, thu, fri, sat, sun" in out
    assert "Tak nak" in out
    assert await shell.json("settings", "show") == {
        **changed, "quiet_from": None, "quiet_until": None, "contact_limit": None, "sending_weekdays": [1, 2, 3, 4, 5, 6, 7],
    }  # fmt: skip


async def test_settings_that_make_no_sense_are_refused(shell: Shell):
    for words, reason in {
        ("--quiet", "late"): "--quiet takes two times",
        ("--quiet", "25:00-08:00"): "quiet_from: ",
        ("--weekdays", "someday"): "--weekdays takes",
        ("--contact-limit", "many"): "--contact-limit takes",
        ("--timezone", "Nowhere"): "timezone: ",
        ("--opt-out-word", "..."): "opt_out_words.0: ",
        (): "say what to change",
    }.items():
        run = await shell.run("settings", "set", *words)
        assert run.exit_code == 2, words
        assert reason in run.err, words
