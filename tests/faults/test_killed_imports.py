"""Imports of leads whose worker, or API, is killed in the middle."""

import csv
import io
import os
import signal
from uuid import UUID

import pytest

from siaran.embedded.stack import EmbeddedStack
from tests.faults.stage import Marketer, Stage
from tests.lead_files import ManyLeads

pytestmark = pytest.mark.faults

FILE = ManyLeads(120_000)
PATH = "/api/leads/imports"


async def rows_done(stage: Stage, import_id: str) -> int:
    """How many rows of an import are committed."""
    return await stage.number("SELECT rows_done FROM lead_imports WHERE id = :id", id=UUID(import_id))


async def test_an_import_whose_worker_and_api_are_killed_equals_an_undisturbed_one(
    stage: Stage, product: EmbeddedStack
) -> None:
    user: Marketer = await stage.marketer(0)
    begun = await user.ask("POST", PATH, files={"file": ("leads.csv", FILE.content, "text/csv")})
    for name, rows in (("worker", 10_000), ("api", 30_000), ("worker", 50_000)):

        async def is_there(rows: int = rows) -> bool:
            return await rows_done(stage, begun["id"]) >= rows

        await stage.until(is_there)
        assert await rows_done(stage, begun["id"]) < FILE.rows, "over before the kill"
        pid = product.supervisor.pid(name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def has_ended() -> bool:
        return bool((await user.ask("GET", f"{PATH}/{begun['id']}"))["finished_at"])

    await stage.until(has_ended)
    ended = await user.ask("GET", f"{PATH}/{begun['id']}")
    assert (ended["status"], ended["rows_done"]) == ("done", FILE.rows)
    assert (ended["new"], ended["duplicates"], ended["invalid"]) == tuple(FILE.counts.values())
    assert (ended["updated"], ended["unchanged"]) == (0, 0), "no row was imported twice"
    leads = "SELECT count(*) FROM leads WHERE user_id = :user AND updated_at = created_at"
    assert await stage.number(leads, user=user.id) == len(FILE.phones)
    assert await stage.number("SELECT count(*) FROM lead_import_chunks WHERE user_id = :user", user=user.id) == 0
    answer = await stage.ways.http.get(f"{PATH}/{begun['id']}/rejected", headers={"X-Auth-Token": user.token})
    lines = [int(row["line"]) for row in csv.DictReader(io.StringIO(answer.text, newline=""))]
    assert len(lines) == len(set(lines)) == FILE.counts["duplicate"] + FILE.counts["invalid"]
