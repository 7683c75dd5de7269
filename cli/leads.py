"""`siaran leads`: importing and exporting CSV files."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.devices import find_device
from cli.errors import ExitCode, usage_error
from cli.files import save
from cli.output import cell, errors, heading, make_table, print_for
from cli.session import Json, connected

if TYPE_CHECKING:
    from cli.client import Client

app = typer.Typer(no_args_is_help=True, help="Import and export leads.")

SHOWN_ROWS = 20
COUNTS = ("new", "updated", "unchanged", "duplicates", "invalid")

File = Annotated[Path, typer.Argument(help="A CSV file.", exists=True, dir_okay=False, readable=True)]
DeviceOption = Annotated[str | None, typer.Option(help="A device, by name or id.")]


@app.command("import")
def import_leads(
    file: File,
    device: DeviceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    rejected: Annotated[
        Path | None, typer.Option(help="Also write the rows that are not imported, with the reasons, to this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Import leads from a CSV file; importing it again changes nothing.

    Columns: name, phone, niche, target_status, additional_note, device_id. New leads belong to --device, if given, unless their
    row names another.
    """
    with connected(as_json) as client:
        path = _leads_path(client, device) + "/import"
        if rejected is not None:
            with _reading(file, "Looking for rejected rows", as_json) as content:
                _write(rejected, client.upload_for_file(path, file.name, content, dry_run=True, rejected="csv"))
        with _reading(file, "Checking" if dry_run else "Importing", as_json) as content:
            report = client.upload(path, file.name, content, dry_run=dry_run)
    print_for(as_json, report, _import_view(report))
    if report["failed"] and not report["success"]:
        raise typer.Exit(ExitCode.FAILED)


@app.command("export")
def export_leads(
    file: Annotated[Path, typer.Argument(help="Where to write; - is standard output.", dir_okay=False)] = Path("-"),
    device: DeviceOption = None,
    niche: Annotated[str | None, typer.Option(help="Only leads with one of these whole tags, comma-separated.")] = None,
    target_status: Annotated[str | None, typer.Option(help="Only `prospect` or `customer`.")] = None,
    as_json: Json = False,
) -> None:
    """Export leads as a CSV file, which can be imported again."""
    to_stdout = str(file) == "-"
    with connected(as_json) as client:
        if to_stdout and as_json:
            raise usage_error("--json needs a FILE to write the leads to")
        path = _leads_path(client, device) + "/export"
        with client.download(path, niche=niche, target_status=target_status) as pieces:
            if to_stdout:
                for piece in pieces:
                    sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
                return
            size = save(file, pieces, as_json)
    print_for(as_json, {"file": str(file), "bytes": size}, f"Wrote {size:,} bytes to {file}.")


def _leads_path(client: "Client", device: str | None) -> str:
    return "/api/leads" if device is None else f"/api/devices/{find_device(client, device)['id']}/leads"


@contextmanager
def _reading(file: Path, verb: str, as_json: bool) -> Iterator[BinaryIO]:
    """The file, with a bar that shows how much of it is sent and goes on turning while the server works."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=errors, transient=True, disable=as_json) as progress,
        progress.open(file, "rb", description=f"{verb} {file.name}") as content,
    ):
        yield content


def _write(file: Path, content: bytes) -> None:
    save(file, iter([content]), as_json=True)


def _import_view(report: dict[str, Any]) -> RenderableType:
    verb = "would be" if report["dry_run"] else "were"
    rows = report["success"] + report["failed"]
    summary = make_table(*COUNTS, numbers=COUNTS)
    summary.add_row(*(cell(report[count]) for count in COUNTS))
    parts: list[RenderableType] = [f"{report['success']:,} of {rows:,} rows {verb} imported.", summary]
    refused = [row for row in report["rows"] if row["reason"]]
    if refused:
        table = make_table("line", "phone", "verdict", "reason", numbers=("line",))
        for row in refused[:SHOWN_ROWS]:
            table.add_row(cell(row["line"]), cell(row["phone"]), cell(row["verdict"]), cell(row["reason"]))
        parts += [heading("Not imported"), table]
    if report["failed"] > SHOWN_ROWS:
        parts.append("More with --json, all of them with --rejected FILE.")
    return Group(*parts)
