"""Importing and exporting leads from the shell."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from activities.resources import Resources
from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.settings import Settings
from tests.cli.conftest import Shell
from worker.__main__ import work

LEADS = """\
name,phone,niche,target_status
Aisyah,+60 12-345 6701,EXSTART,prospect
Bala,0123456702,"EXSTART,ITADRESS",customer
Bala again,60123456702,EXSTART,customer
Chong,tiada nombor,VITAC,prospect
"""


@pytest.fixture(autouse=True)
async def _working(settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client) -> AsyncIterator[None]:
    """A worker is there: imports are its work."""
    async with work(Resources(settings, sessions, redis, temporal_client, system_clock)):
        yield


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def leads_file(tmp_path: Path) -> Path:
    file = tmp_path / "leads.csv"
    file.write_text(LEADS)
    return file


async def test_an_import_tells_what_became_of_the_rows(shell: Shell, leads_file: Path):
    run = await shell.done("leads", "import", str(leads_file))
    assert "2 of 4 rows were imported." in run.out
    assert "has the phone of line 3" in run.out
    assert "tiada nombor" in run.out


async def test_an_import_for_machines_is_one_document(shell: Shell, leads_file: Path):
    report = await shell.json("leads", "import", str(leads_file))
    assert (report["new"], report["duplicates"], report["invalid"]) == (2, 1, 1)
    again = await shell.json("leads", "import", str(leads_file))
    assert (again["new"], again["unchanged"]) == (0, 2)


async def test_a_dry_run_writes_nothing(shell: Shell, leads_file: Path):
    run = await shell.done("leads", "import", str(leads_file), "--dry-run")
    assert "2 of 4 rows would be imported." in run.out
    assert (await shell.done("leads", "export")).out.count("\n") == 1


async def test_the_rejected_rows_can_be_kept(shell: Shell, leads_file: Path, tmp_path: Path):
    rejected = tmp_path / "rejected.csv"
    await shell.done("leads", "import", str(leads_file), "--rejected", str(rejected))
    content = rejected.read_text()
    assert "tiada nombor" in content
    assert "Aisyah" not in content
    assert content.count("\n") == 3


async def test_columns_of_other_names_are_mapped(shell: Shell, tmp_path: Path):
    file = tmp_path / "pelanggan.csv"
    file.write_text("Pelanggan;Hubungi;status\nAisyah;0123456701;active\n")
    words = ("leads", "import", str(file), "--map", "name=Pelanggan", "--map", "phone=Hubungi")
    assert "target_status: is neither" in (await shell.run(*words)).out
    report = await shell.json(*words, "--map", "target_status=", "--delimiter", "semicolon")
    assert (report["new"], report["columns"]["phone"]) == (1, "Hubungi")


async def test_a_mapping_that_makes_no_sense_is_refused(shell: Shell, leads_file: Path):
    run = await shell.run("leads", "import", str(leads_file), "--map", "phone")
    assert (run.exit_code, "phone=Telefon" in run.err) == (2, True)
    run = await shell.run("leads", "import", str(leads_file), "--map", "phone=Hubungi")
    assert (run.exit_code, "columns.phone" in run.err) == (2, True)


async def test_imports_are_listed(shell: Shell, leads_file: Path):
    await shell.done("leads", "import", str(leads_file), "--dry-run")
    await shell.done("leads", "import", str(leads_file))
    assert [one["dry_run"] for one in await shell.json("leads", "imports")] == [False, True]
    assert "leads.csv (dry run)" in (await shell.done("leads", "imports")).out


async def test_leads_can_be_imported_for_a_device(shell: Shell, leads_file: Path, tmp_path: Path):
    device = await shell.json("devices", "add", "Front desk")
    await shell.done("leads", "import", str(leads_file), "--device", "front DESK")
    exported = (await shell.done("leads", "export", "--device", "Front desk")).out
    assert exported.count(device["id"]) == 2


async def test_a_file_without_the_required_columns_is_refused(shell: Shell, tmp_path: Path):
    file = tmp_path / "contacts.csv"
    file.write_text("name,email\nAisyah,a@example.com\n")
    run = await shell.run("leads", "import", str(file))
    assert run.exit_code == 2
    assert "phone" in run.err


async def test_an_import_of_which_no_row_is_valid_fails(shell: Shell, tmp_path: Path):
    file = tmp_path / "broken.csv"
    file.write_text("name,phone\nAisyah,none\n")
    assert (await shell.run("leads", "import", str(file))).exit_code == 1


async def test_what_was_exported_can_be_imported_again(shell: Shell, leads_file: Path, tmp_path: Path):
    await shell.done("leads", "import", str(leads_file))
    copy = tmp_path / "copy.csv"
    exported = await shell.json("leads", "export", str(copy))
    assert exported["bytes"] == copy.stat().st_size
    assert (await shell.json("leads", "import", str(copy)))["unchanged"] == 2


async def test_an_export_can_be_narrowed_down(shell: Shell, leads_file: Path):
    await shell.done("leads", "import", str(leads_file))
    out = (await shell.done("leads", "export", "--niche", "ITADRESS", "--target-status", "customer")).out
    assert "60123456702" in out
    assert "60123456701" not in out


async def test_a_refused_export_leaves_the_old_file_alone(shell: Shell, tmp_path: Path):
    file = tmp_path / "leads.csv"
    file.write_text("precious")
    run = await shell.run("leads", "export", str(file), "--target-status", "everybody")
    assert run.exit_code == 2
    assert "target_status" in run.err
    assert file.read_text() == "precious"
    assert names_in(tmp_path) == {"config", "leads.csv"}
