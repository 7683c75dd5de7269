"""`siaran optouts`: who is not written to any more."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cli.errors import CommandError, ExitCode, usage_error
from cli.files import save
from cli.output import cell, heading, make_table, print_for
from cli.session import Json, connected

if TYPE_CHECKING:
    from cli.client import Client

app = typer.Typer(no_args_is_help=True, help="List, add, lift, import and export opt-outs.")

SHOWN_INVALID = 20

Lifted = Annotated[bool, typer.Option("--lifted", help="Those that have been lifted instead of those in force.")]


@app.command("list")
def list_opt_outs(
    search: Annotated[str | None, typer.Option(help="Only phones that contain this.")] = None,
    lifted: Lifted = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List who has opted out of your messages."""
    with connected(as_json) as client:
        rows = client.pages("/api/opt-outs", limit=limit, search=search, state=_state(lifted))
    print_for(as_json, rows, _table(rows) if rows else "Nobody.")


@app.command()
def add(
    phones: Annotated[list[str], typer.Argument(help="Phone numbers in any usual form.")],
    reason: Annotated[str, typer.Option(help="Why, for your own records.")] = "",
    as_json: Json = False,
) -> None:
    """Opt phones out by hand: nothing is sent to them from now on."""
    with connected(as_json) as client:
        report = client.post("/api/opt-outs", {"phones": phones, "reason": reason})
    print_for(as_json, report, _added_view(report))


@app.command("import")
def import_opt_outs(
    file: Annotated[
        Path,
        typer.Argument(
            help="A CSV file with a column `phone`, or a text file with one phone a line.",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Opt out the phones in a file; importing it again changes nothing."""
    with connected(as_json) as client, file.open("rb") as content:
        report = client.upload("/api/opt-outs/import", file.name, content)
    print_for(as_json, report, _added_view(report))


@app.command()
def lift(
    phone: Annotated[str, typer.Argument(help="A phone number in any usual form.")],
    as_json: Json = False,
) -> None:
    """Let a phone be written to again, because its owner has agreed."""
    with connected(as_json) as client:
        lifted = client.post(f"/api/opt-outs/{_find(client, phone)}/lift")
    print_for(as_json, lifted, f"{lifted['phone']} may be written to again.")


@app.command("export")
def export_opt_outs(
    file: Annotated[Path, typer.Argument(help="Where to write; - is standard output.", dir_okay=False)] = Path("-"),
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have been lifted.")] = False,
    as_json: Json = False,
) -> None:
    """Export who has opted out as a CSV file."""
    to_stdout = str(file) == "-"
    with connected(as_json) as client:
        if to_stdout and as_json:
            raise usage_error("--json needs a FILE to write to")
        with client.download("/api/opt-outs/export", state=None if everything else _state(lifted=False)) as pieces:
            if to_stdout:
                for piece in pieces:
                    sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
                return
            size = save(file, pieces, as_json)
    print_for(as_json, {"file": str(file), "bytes": size}, f"Wrote {size:,} bytes to {file}.")


def _state(lifted: bool) -> str:
    return "lifted" if lifted else "in_force"


def _find(client: "Client", phone: str) -> int:
    """The opt-out in force of a phone; raises `CommandError` for none and for a part that several phones have."""
    rows = client.pages("/api/opt-outs", search=phone, state=_state(lifted=False))
    digits = "".join(filter(str.isdigit, phone)).lstrip("0")
    found = [row for row in rows if digits and row["phone"].endswith(digits)]
    if not found:
        raise CommandError(f"{phone} has not opted out", ExitCode.NOT_FOUND, "NOT_FOUND")
    if len(found) > 1:
        raise usage_error(f"{len(found)} phones end in {phone}; give all of its digits")
    return int(found[0]["id"])


def _table(rows: list[dict[str, Any]]) -> RenderableType:
    table = make_table("phone", "name", "since", "reason", "source", "campaign", "lifted")
    for row in rows:
        lifted = row["lifted_at"]
        table.add_row(
            cell(row["phone"]),
            cell(row["name"]),
            cell(_minute(row["created_at"])),
            cell(row["reason"]),
            cell(row["source"]),
            cell(row["campaign_title"]),
            cell(_minute(lifted) if lifted else None),
        )
    return table


def _minute(at: str) -> str:
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M")


def _added_view(report: dict[str, list[Any]]) -> RenderableType:
    sentence = f"{len(report['added']):,} opted out, {len(report['already']):,} had before."
    if not report["invalid"]:
        return Text(sentence)
    table = make_table("phone", "reason")
    for refused in report["invalid"][:SHOWN_INVALID]:
        table.add_row(cell(refused["phone"]), cell(refused["reason"]))
    hidden = len(report["invalid"]) - SHOWN_INVALID
    more = [Text(f"{hidden:,} more with --json.")] if hidden > 0 else []
    return Group(Text(sentence), heading("Not added"), table, *more)
