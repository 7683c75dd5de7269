"""`siaran leads`: importing and exporting CSV files."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.devices import find_device
from cli.errors import ExitCode, usage_error
from cli.files import save
from cli.lead_import import PATH, Wishes, import_view, imports_view, parse_map, rejected_rows, run_import
from cli.output import print_for
from cli.session import Json, connected

if TYPE_CHECKING:
    from cli.client import Client

app = typer.Typer(no_args_is_help=True, help="Import and export leads.")

File = Annotated[Path, typer.Argument(help="A CSV file.", exists=True, dir_okay=False, readable=True)]
DeviceOption = Annotated[str | None, typer.Option(help="A device, by name or id.")]


@app.command("import")
def import_leads(
    file: File,
    *,
    device: DeviceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=HEADING", help="A column of ours and its heading in the file; may be repeated."),
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="comma, semicolon, tab or pipe, if it is not found out.")] = None,
    rejected: Annotated[
        Path | None, typer.Option(help="Also write the rows that are not imported, with the reasons, to this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Import leads from a CSV file; importing it again changes nothing.

    Columns: name, phone, niche, target_status, additional_note, device_id, also under their usual other names, or as --map
    says: --map phone=Hubungi. New leads belong to --device, if given, unless their row names another. The server goes on by
    itself once it has the file.
    """
    with connected(as_json) as client:
        device_id = None if device is None else find_device(client, device)["id"]
        wishes = Wishes(device_id, dry_run, parse_map(columns or []), delimiter)
        report = run_import(client, file, wishes, as_json=as_json)
        if rejected is not None:
            with client.download(f"{PATH}/{report['id']}/rejected") as pieces:
                save(rejected, pieces, as_json)
        first = [] if as_json else rejected_rows(client, report)
    print_for(as_json, report, import_view(report, first))
    if report["status"] != "done" or (report["failed"] and not report["success"]):
        raise typer.Exit(ExitCode.FAILED)


@app.command("imports")
def list_imports(
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Your imports of leads, newest first, and how far they have come."""
    with connected(as_json) as client:
        imports = client.pages(PATH, limit=limit)
    print_for(as_json, imports, imports_view(imports))


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
