"""`siaran workers`: the lanes of the devices."""

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from cli.output import cell, make_table, print_for, status_text
from cli.session import Json, Yes, confirm, connected

app = typer.Typer(no_args_is_help=True, help="See what the lanes of your devices do, stop and resume them.")

NUMBERS = ("queue", "processed", "failed")


@app.command()
def status(
    only: Annotated[str, typer.Option("--filter", help="all, active, idle, waiting, stopped or error.")] = "all",
    as_json: Json = False,
) -> None:
    """Show the lane of each device."""
    with connected(as_json) as client:
        overview = client.get("/api/workers/status", filter=only, limit=500)
        while (cursor := overview["next_cursor"]) is not None:
            more = client.get("/api/workers/status", filter=only, limit=500, cursor=cursor)
            overview["workers"] += more["workers"]
            overview["next_cursor"] = more["next_cursor"]
    overview["device_workers"] = overview["workers"]
    print_for(as_json, overview, _view(overview))


@app.command("stop-all")
def stop_all(yes: Yes = False, as_json: Json = False) -> None:
    """Stop all of your lanes before their next message; nothing is lost."""
    with connected(as_json) as client:
        confirm("Stop all of your devices from sending?", yes=yes, as_json=as_json)
        stopped = client.post("/api/workers/stop-all")
    print_for(as_json, stopped, f"Stopped {stopped['stopped_count']} workers; `siaran workers resume-failed` resumes them.")


@app.command("resume-failed")
def resume_failed(as_json: Json = False) -> None:
    """Resume the lanes that are stopped or in error."""
    with connected(as_json) as client:
        resumed = client.post("/api/workers/resume-failed")
    print_for(as_json, resumed, f"Resumed {resumed['resumed_count']} workers.")


def _view(overview: dict[str, Any]) -> RenderableType:
    summary = overview["summary"]
    states = ", ".join(f"{summary[f'{state}_workers']} {state}" for state in ("active", "waiting", "idle", "stopped", "error"))
    table = make_table("device", "connection", "worker", *NUMBERS, "campaign", "waits for", numbers=NUMBERS)
    for worker in overview["workers"]:
        table.add_row(
            cell(worker["device_name"]),
            status_text(worker["device_status"]),
            status_text(worker["worker_status"]),
            cell(worker["queue_size"]),
            cell(worker["processed"]),
            cell(worker["failed"]),
            cell(worker["current_campaign_id"]),
            cell(worker["waiting_for"]),
        )
    totals = f"{summary['total_queued']:,} queued, {summary['total_processed']:,} processed, {summary['total_failed']:,} failed"
    return Group(f"{summary['total_workers']} workers: {states}; {totals}.", table)
