"""Following an import of leads from the upload to its end, and what is printed of it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rich.console import Group, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cli.errors import Unreachable, usage_error
from cli.output import cell, errors, heading, make_table

if TYPE_CHECKING:
    from cli.client import Client

PATH = "/api/leads/imports"
LOOK_SECONDS = 0.25
OUTAGE_SECONDS = 120.0
"""How long an API that is being restarted is waited for; the import itself goes on meanwhile."""

SHOWN_ROWS = 20
COUNTS = ("new", "updated", "unchanged", "duplicates", "invalid")
UNDER_WAY = {"queued", "running"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a file is to be imported; `columns` maps ours to headings of the file."""

    device_id: str | None
    dry_run: bool
    columns: dict[str, str]
    delimiter: str | None

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the form."""
        fields = {"dry_run": "true" if self.dry_run else "false", "columns": json.dumps(self.columns)}
        return fields | {name: value for name, value in (("device_id", self.device_id), ("delimiter", self.delimiter)) if value}


def parse_map(pairs: list[str]) -> dict[str, str]:
    """`phone=Telefon` and the like as a mapping; raises `CommandError` for anything else."""
    columns = {}
    for pair in pairs:
        column, separator, name = pair.partition("=")
        if not separator:
            raise usage_error(f"--map needs COLUMN=HEADING such as phone=Telefon, not {pair}")
        columns[column.strip()] = name.strip()
    return columns


def run_import(client: "Client", file: Path, wishes: Wishes, *, as_json: bool) -> dict[str, Any]:
    """Upload a file and follow its import to the end; returns it as it is then.

    Raises `CommandError`. The import does not need us: it goes on if this is interrupted.
    """
    with _reading(file, as_json) as content:
        report: dict[str, Any] = client.upload(PATH, file.name, content, wishes.fields)
    verb = "Checking" if report["dry_run"] else "Importing"
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=errors, transient=True, disable=as_json) as progress:
        task = progress.add_task(f"{verb} {file.name}", total=100, rows=0)
        try:
            while report["status"] in UNDER_WAY:
                time.sleep(LOOK_SECONDS)
                report = _look(client, report["id"])
                progress.update(task, completed=report["percent"], rows=report["rows_done"])
        except KeyboardInterrupt:
            errors.print(f"The import goes on without you: siaran leads imports shows {report['id']}.")
            raise
    return report


def _look(client: "Client", import_id: str) -> dict[str, Any]:
    give_up = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            report: dict[str, Any] = client.get(f"{PATH}/{import_id}")
        except Unreachable:
            if time.monotonic() > give_up:
                raise
            time.sleep(1)
        else:
            return report


@contextmanager
def _reading(file: Path, as_json: bool) -> Iterator[BinaryIO]:
    """The file, with a bar that shows how much of it is sent."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=errors, transient=True, disable=as_json) as progress,
        progress.open(file, "rb", description=f"Sending {file.name}") as content,
    ):
        yield content


def rejected_rows(client: "Client", report: dict[str, Any]) -> list[dict[str, Any]]:
    """The first rows that are not imported, in the order of the file."""
    if not report["failed"]:
        return []
    path = f"{PATH}/{report['id']}/rows"
    found = [row for verdict in ("duplicate", "invalid") for row in client.pages(path, limit=SHOWN_ROWS, verdict=verdict)]
    return sorted(found, key=lambda row: int(row["line"]))[:SHOWN_ROWS]


def import_view(report: dict[str, Any], rejected: list[dict[str, Any]]) -> RenderableType:
    """How an import ended, with its first rejected rows."""
    verb = "would be" if report["dry_run"] else "were"
    summary = make_table(*COUNTS, numbers=COUNTS)
    summary.add_row(*(cell(report[count]) for count in COUNTS))
    parts: list[RenderableType] = [f"{report['success']:,} of {report['rows_done']:,} rows {verb} imported.", summary]
    if report["status"] != "done":
        parts.insert(0, f"The import was {report['status']}" + (f": {report['error']}." if report["error"] else "."))
    if rejected:
        table = make_table("line", "phone", "verdict", "reason", numbers=("line",))
        for row in rejected:
            table.add_row(cell(row["line"]), cell(row["phone"]), cell(row["verdict"]), cell(row["reason"]))
        parts += [heading("Not imported"), table]
    if report["failed"] > SHOWN_ROWS:
        parts.append("All of them with --rejected FILE.")
    return Group(*parts)


def imports_view(imports: list[dict[str, Any]]) -> RenderableType:
    """Imports as a table."""
    table = make_table("id", "file", "status", "done", *COUNTS, "begun", numbers=("done", *COUNTS))
    for one in imports:
        done, begun = f"{one['percent']:g} %", str(one["created_at"])[:16].replace("T", " ")
        name = one["file_name"] + (" (dry run)" if one["dry_run"] else "")
        table.add_row(
            cell(one["id"]), cell(name), cell(one["status"]), cell(done), *(cell(one[count]) for count in COUNTS), cell(begun)
        )
    return table
