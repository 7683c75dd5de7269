"""The demo: whom it expects to reach, what it makes of its end, and that it keeps to itself."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.demo_audience import read_audience
from cli.demo_result import Result
from cli.demo_servers import empty, forget_settings_from_outside, free_ports
from cli.demo_story import COUNTRY, LEADS, NICHE, TARGET_STATUS
from cli.errors import CommandError
from siaran.embedded.options import StackOptions
from siaran.embedded.runtime import Runtime
from siaran.gateway.simulated_record import NetworkCounts
from siaran.lead_rows import RowRules, read_batches
from siaran.leads_csv import LeadFile
from siaran.processes import ProcessMark
from siaran.reconciliation import Contradiction, Reason, Reconciliation

CLEAN = Reconciliation([], [], [])


def result(found: Reconciliation = CLEAN, *, matched: int = 3, leads: int = 5, **counts: int) -> Result:
    shown = dict.fromkeys(("success", "failed", "unknown", "pending", "suppressed", "cancelled"), 0) | counts
    return Result(
        campaign={"counts": shown},
        report={},
        network=NetworkCounts(0, 0, 0, 0, {}, {}),
        found=found,
        leads=leads,
        expected_leads=5,
        matched=matched,
        seconds=61.27,
        sending_seconds=30.0,
        memory={},
    )


def test_the_demo_reads_the_file_as_the_import_does():
    audience = read_audience(LEADS, niche=NICHE, target_status=TARGET_STATUS, country=COUNTRY)
    with LEADS.open("rb") as file:
        rows = [row for batch in read_batches(LeadFile(file), RowRules(COUNTRY, set()), 1000) for row in batch.rows]
    assert audience.leads == {row.phone for row in rows}
    assert audience.matched == {row.phone for row in rows if row.target_status == TARGET_STATUS and NICHE in row.niches}
    assert audience.rows > len(audience.leads) > len(audience.matched) > 300


def test_of_several_rows_with_a_phone_the_first_valid_one_counts(tmp_path: Path):
    file = tmp_path / "leads.csv"
    file.write_text(
        "name,phone,niche,target_status\n"
        ",012-345 6701,EXSTART,prospect\n"
        'Aisyah,012-345 6701,"VITAC, exstart",\n'
        "Aisyah,+60123456701,VITAC,customer\n"
        "Bala,0123456702,EXSTARTER,prospect\n"
        "Chong,nothing,EXSTART,prospect\n"
        "Devi,0123456703,EXSTART,customer\n"
    )
    audience = read_audience(file, niche="EXSTART", target_status="prospect", country="MY")
    assert audience.rows == 6
    assert audience.leads == {"60123456701", "60123456702", "60123456703"}
    assert audience.matched == {"60123456701"}


def test_the_last_line_has_exactly_the_promised_keys():
    assert result(success=2, failed=1).summary() == {
        "leads": 5,
        "matched": 3,
        "sent": 2,
        "failed": 1,
        "pending": 0,
        "lost": 0,
        "duplicates": 0,
        "seconds": 61.3,
    }


def test_a_demo_that_adds_up_has_no_faults():
    assert result(success=1, failed=1, unknown=1).faults() == []


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"success": 2}, id="totals that do not add up"),
        pytest.param({"success": 2, "pending": 1}, id="something is pending"),
        pytest.param({"success": 2, "suppressed": 1}, id="somebody was suppressed"),
        pytest.param({"success": 3, "leads": 4}, id="not all leads were imported"),
        pytest.param({"success": 3, "found": Reconciliation([(1, "60")], [], [])}, id="lost"),
        pytest.param({"success": 3, "found": Reconciliation([], [(1, "60")], [])}, id="duplicate"),
        pytest.param({"success": 3, "found": Reconciliation([], [], [Contradiction(Reason.DENIED, "60")])}, id="unaccounted"),
    ],
)
def test_whatever_does_not_add_up_is_a_fault(bad: dict[str, Any]):
    assert len(result(**bad).faults()) == 1


def test_the_demo_forgets_the_addresses_of_real_servers(monkeypatch: pytest.MonkeyPatch):
    names = ("DB_URI", "DATABASE_URL", "REDIS_URL", "TEMPORAL_ADDRESS", "TEMPORAL_API_KEY", "SIARAN_POSTGRES_PORT", "APP_PORT")
    for name in names:
        monkeypatch.setenv(name, "somewhere")
    forget_settings_from_outside()
    assert not set(names) & set(os.environ)


def test_a_port_that_is_taken_is_left_to_others():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        options = free_ports(StackOptions().with_free_ports().model_copy(update={"api_port": taken}))
    assert options.api_port == 0


def test_what_an_earlier_demo_left_is_removed(tmp_path: Path):
    (tmp_path / "demo" / "postgres").mkdir(parents=True)
    empty(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_a_demo_that_runs_is_left_alone(tmp_path: Path):
    owner = ProcessMark.of(os.getpid())
    assert owner is not None
    runtime = Runtime(owner=owner, started_at=datetime.now(UTC), environment={}, ports={}, children=[], marks=[])
    runtime.write(tmp_path)
    with pytest.raises(CommandError, match=f"process {os.getpid()}"):
        empty(tmp_path)
    assert tmp_path.exists()
