"""The activity that works through an import: all rows, each once, whatever breaks off; and what is cleared away after it."""

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities import imports
from activities.imports import ImportActivities, sweep_imports
from activities.resources import Resources
from siaran import lead_imports
from siaran.contracts import LeadImportInput, import_workflow_id
from siaran.errors import Conflict, Invalid, NotFound
from siaran.lead_import_batches import DRY_RUN_ROWS, Progress, begin_import, record_batch
from siaran.lead_imports import (
    KEPT_FOR,
    MOST_OPEN,
    ImportOrder,
    add_import,
    cancel_import,
    check_kept,
    clear_leftovers,
    list_rows,
    rejected_csv,
)
from siaran.lead_merge import MergeRules
from siaran.lead_rows import Batch
from siaran.models import ImportChunk, ImportRejection, ImportRow, ImportStatus, Lead, LeadImport, User
from tests.activities.conftest import HandClock
from tests.factories import NOW, add_device, add_user
from tests.lead_files import ManyLeads

FILE = ManyLeads(2_500)


class Breaks(Exception):
    """The process is killed here."""


class Imports:
    """The imports of one user."""

    def __init__(self, resources: Resources, user: User) -> None:
        self.use = resources
        self.user = user
        self.activities = ImportActivities(resources)

    async def upload(self, content: str, **order: Any) -> LeadImport:
        """Store a file."""
        async with self.use.sessions.begin() as session:
            file = io.BytesIO(content.encode())
            wanted = ImportOrder(country="MY", file_name="leads.csv", **order)
            return await add_import(session, self.user.id, wanted, file, self.use.clock())

    async def run(self, row: LeadImport, on_heartbeat: Callable[..., None] | None = None) -> str:
        """Run the activity; returns how the import ended."""
        environment = ActivityEnvironment()
        environment.on_heartbeat = on_heartbeat or (lambda *_: None)
        order = LeadImportInput(row.id, row.user_id)
        return str((await environment.run(self.activities.import_leads, order)).status)

    async def row(self, row: LeadImport) -> LeadImport:
        """The import as it stands now."""
        async with self.use.sessions() as session:
            return await session.get_one(LeadImport, row.id)

    async def leads(self) -> dict[str, tuple[Any, ...]]:
        """All that an import writes of the user's leads, by phone."""
        query = select(Lead).where(Lead.user_id == self.user.id)
        async with self.use.sessions() as session:
            return {
                lead.phone: (lead.name, lead.niches, lead.journey, lead.device_id, lead.updated_at)
                for lead in await session.scalars(query)
            }

    async def count(self, table: type[Any]) -> int:
        """How many rows a table has."""
        async with self.use.sessions() as session:
            return (await session.execute(select(func.count()).select_from(table))).scalar_one()

    async def rejected(self, row: LeadImport) -> list[dict[str, str]]:
        """The rows of the file of rejected ones."""
        content = b"".join([part async for part in rejected_csv(self.use.sessions, self.user.id, row.id)])
        return list(csv.DictReader(io.StringIO(content.decode(), newline="")))

    async def rows(self, row: LeadImport) -> list[ImportRow]:
        """The verdicts that are kept."""
        async with self.use.sessions() as session:
            return await list_rows(session, self.user.id, row.id, verdict=None, limit=100_000)


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches and chunks for a file that is quickly made."""
    monkeypatch.setattr(imports, "BATCH_ROWS", 400)
    monkeypatch.setattr(lead_imports, "CHUNK_BYTES", 10_000)


@pytest.fixture
async def user(session: AsyncSession) -> User:
    user = await add_user(session)
    await session.commit()
    return user


@pytest.fixture
def their(resources: Resources, user: User, _small_batches: None) -> Imports:
    return Imports(resources, user)


def breaking_at(heartbeat: int) -> Callable[..., None]:
    """Breaks off behind the transaction of that batch."""
    beats = iter(range(1, 1_000))

    def beat(*_: Any) -> None:
        if next(beats) == heartbeat:
            raise Breaks

    return beat


async def test_an_import_makes_leads_and_leaves_no_file_behind(their: Imports) -> None:
    row = await their.upload(FILE.content)
    assert await their.count(ImportChunk) > 5

    assert await their.run(row) == "done"

    row = await their.row(row)
    assert row.counts == FILE.counts
    assert (row.rows_done, row.bytes_done, row.finished_at) == (FILE.rows, row.size_bytes, NOW)
    assert set(await their.leads()) == FILE.phones
    assert await their.count(ImportChunk) == 0


@pytest.mark.parametrize("heartbeat", [1, 3, 7])
async def test_an_import_that_broke_off_goes_on_behind_its_last_batch(their: Imports, clock: HandClock, heartbeat: int) -> None:
    row = await their.upload(FILE.content)
    with pytest.raises(Breaks):
        await their.run(row, breaking_at(heartbeat))
    broken = await their.row(row)
    assert (broken.status, broken.rows_done) == (ImportStatus.RUNNING, min(heartbeat * 400, FILE.rows))
    before = await their.leads()

    clock.now += timedelta(minutes=5)
    assert await their.run(row) == "done"

    assert (await their.row(row)).counts == FILE.counts
    leads = await their.leads()
    assert set(leads) == FILE.phones
    assert {phone: leads[phone] for phone in before} == before, "what was committed is not written again"
    rejected = await their.rejected(row)
    assert len(rejected) == FILE.counts["duplicate"] + FILE.counts["invalid"]
    assert [int(one["line"]) for one in rejected] == sorted({int(one["line"]) for one in rejected})


async def test_an_import_that_breaks_off_again_and_again_equals_an_undisturbed_one(
    their: Imports, resources: Resources, session: AsyncSession
) -> None:
    other = Imports(resources, await add_user(session))
    await session.commit()
    undisturbed = await other.upload(FILE.content)
    await other.run(undisturbed)
    row = await their.upload(FILE.content)
    for _ in range(3):
        with pytest.raises(Breaks):
            await their.run(row, breaking_at(2 + 3 * (_ > 0)))
    await their.run(row)

    assert (await their.row(row)).counts == (await other.row(undisturbed)).counts
    assert await their.leads() == await other.leads()
    assert await their.rejected(row) == await other.rejected(undisturbed)


async def test_importing_the_same_file_again_leaves_every_lead_untouched(their: Imports, clock: HandClock) -> None:
    await their.run(await their.upload(FILE.content))
    before = await their.leads()
    clock.now += timedelta(hours=1)

    again = await their.upload(FILE.content)
    await their.run(again)

    counts = {**FILE.counts, "unchanged": FILE.counts["new"]}
    del counts["new"]
    assert (await their.row(again)).counts == counts
    assert await their.leads() == before


async def test_a_dry_run_changes_no_lead_and_says_what_would_become_of_every_row(their: Imports) -> None:
    row = await their.upload(FILE.content, is_dry_run=True)
    with pytest.raises(Breaks):
        await their.run(row, breaking_at(2))

    assert await their.run(row) == "done"

    assert (await their.row(row)).counts == FILE.counts
    assert await their.leads() == {}
    rows = await their.rows(row)
    assert [one.line for one in rows] == list(range(2, FILE.rows + 2))
    assert (rows[0].verdict, rows[0].reason) == ("invalid", "phone: is empty")
    assert (rows[1].verdict, rows[1].phone) == ("new", "60120000001")
    assert (rows[39].verdict, rows[39].reason) == ("duplicate", "has the phone of line 9")


async def test_only_the_first_verdicts_of_a_long_dry_run_are_kept(their: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DRY_RUN_ROWS >= 10_000
    monkeypatch.setattr("siaran.lead_import_batches.DRY_RUN_ROWS", 1_000)
    row = await their.upload(FILE.content, is_dry_run=True)
    await their.run(row)
    assert [one.line for one in await their.rows(row)] == list(range(2, 1_002))
    assert len(await their.rejected(row)) == FILE.counts["duplicate"] + FILE.counts["invalid"]


async def test_of_an_import_the_first_rejected_rows_are_kept(their: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siaran.lead_import_batches.REJECTED_ROWS", 50)
    row = await their.upload(FILE.content)
    await their.run(row)
    rows = await their.rows(row)
    assert len(rows) == 50
    assert {one.verdict for one in rows} == {"duplicate", "invalid"}


async def test_a_cancelled_import_stops_at_its_batch_and_loses_its_file(their: Imports) -> None:
    row = await their.upload(FILE.content)
    with pytest.raises(Breaks):
        await their.run(row, breaking_at(2))
    async with their.use.sessions.begin() as session:
        await cancel_import(session, their.user.id, row.id, NOW)

    assert await their.run(row) == "cancelled"

    assert (await their.row(row)).rows_done == 800
    assert await their.count(ImportChunk) == 0


async def test_an_import_cancelled_while_it_runs_commits_no_further_batch(their: Imports) -> None:
    row = await their.upload(FILE.content)
    rules = MergeRules(their.user.id, None, frozenset({"name", "phone"}))
    async with their.use.sessions.begin() as session:
        await begin_import(session, their.user.id, row.id, NOW)
    async with their.use.sessions.begin() as session:
        await cancel_import(session, their.user.id, row.id, NOW)
    async with their.use.sessions.begin() as session:
        assert not await record_batch(session, row.id, rules, Batch(), Progress(0, 10), width=2, now=NOW)


async def test_of_two_runs_at_once_the_one_that_is_behind_gives_way(their: Imports) -> None:
    row = await their.upload(FILE.content)

    def another_goes_on(*_: Any) -> None:
        raise Breaks

    with pytest.raises(Breaks):
        await their.run(row, another_goes_on)
    rules = MergeRules(their.user.id, None, frozenset({"name", "phone"}))
    with pytest.raises(Conflict):
        async with their.use.sessions.begin() as session:
            await record_batch(session, row.id, rules, Batch(), Progress(0, 10), width=4, now=NOW)
    assert (await their.row(row)).rows_done == 400


async def test_an_import_whose_file_is_gone_fails_and_says_so(their: Imports, session: AsyncSession) -> None:
    row = await their.upload(FILE.content)
    (last,) = await session.scalars(select(ImportChunk).order_by(ImportChunk.position.desc()).limit(1))
    await session.delete(last)
    await session.commit()

    assert await their.run(row) == "failed"

    assert "missing" in str((await their.row(row)).error)


async def test_what_no_database_takes_as_text_is_rejected_and_can_be_looked_at(their: Imports) -> None:
    row = await their.upload('name,phone\nAli,01\x0023\nSiti,0123456789\n"=1+1",\tx\n', is_dry_run=True)
    assert await their.run(row) == "done"
    assert [one.verdict for one in await their.rows(row)] == ["invalid", "new", "invalid"]
    assert (await their.rejected(row))[1]["name"] == "'=1+1"


async def test_columns_and_separator_hold_for_the_whole_import(their: Imports, session: AsyncSession) -> None:
    device = await add_device(session, their.user)
    await session.commit()
    content = "Pelanggan;Hubungi;status\nAli;0123456789;active\n"
    columns = {"name": "Pelanggan", "phone": "Hubungi", "target_status": ""}
    row = await their.upload(content, columns=columns, device_id=device.id)
    assert (row.columns, row.delimiter) == (columns, ";")
    assert await their.run(row) == "done"
    assert (await their.leads())["60123456789"][0::3] == ("Ali", device.id)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("name,phone\n", "no rows below its header"), ("", "is empty"), ("name\nx\n", "has no column phone")],
)
async def test_a_file_without_leads_is_refused_and_nothing_is_stored(their: Imports, content: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        await their.upload(content)
    assert await their.count(LeadImport) == await their.count(ImportChunk) == 0


async def test_nobody_has_many_imports_open_at_once(their: Imports) -> None:
    rows = [await their.upload("name,phone\nAli,0123456789\n") for _ in range(MOST_OPEN)]
    with pytest.raises(Conflict):
        await their.upload("name,phone\nAli,0123456789\n")
    await their.run(rows[0])
    await their.upload("name,phone\nAli,0123456789\n")


async def test_an_import_that_nobody_has_started_is_started_by_the_sweep(
    their: Imports, clock: HandClock, temporal_client: Client
) -> None:
    row = await their.upload(FILE.content)
    assert await sweep_imports(their.use) == 0, "whoever created it is about to start it"
    clock.now += timedelta(minutes=2)
    assert await sweep_imports(their.use) == 1
    described = await temporal_client.get_workflow_handle(import_workflow_id(row.id)).describe()
    assert described.workflow_type == "LeadImportWorkflow"


async def test_the_file_of_an_import_cancelled_while_nothing_ran_is_removed(their: Imports, clock: HandClock) -> None:
    row = await their.upload(FILE.content)
    kept = await their.upload(FILE.content)
    async with their.use.sessions.begin() as session:
        await cancel_import(session, their.user.id, row.id, NOW)
    clock.now += timedelta(hours=1)
    await sweep_imports(their.use)
    async with their.use.sessions() as session:
        assert set(await session.scalars(select(ImportChunk.import_id))) == {kept.id}


async def test_verdicts_and_rejected_rows_are_cleared_when_their_time_is_over(their: Imports, clock: HandClock) -> None:
    old, young = [await their.upload(FILE.content, is_dry_run=True) for _ in range(2)]
    await their.run(old)
    clock.now += KEPT_FOR
    await their.run(young)
    now = NOW + KEPT_FOR + timedelta(seconds=1)
    for _ in range(2):
        async with their.use.sessions.begin() as session:
            await clear_leftovers(session, now)
    with pytest.raises(NotFound, match="30 days"):
        check_kept(await their.row(old))
    check_kept(await their.row(young))
    assert (await their.row(old)).counts == FILE.counts
    async with their.use.sessions() as session:
        owners: set[UUID] = set(await session.scalars(select(ImportRow.import_id)))
        assert owners | set(await session.scalars(select(ImportRejection.import_id))) == {young.id}
