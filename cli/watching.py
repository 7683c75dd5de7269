"""Following a campaign live, device by device, until it ends."""

import time
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.campaign_view import ENDED, device_table, status_sentence, totals_text
from cli.errors import Unreachable
from cli.output import errors

if TYPE_CHECKING:
    from cli.client import Client

LOOK_SECONDS = 1.0
OUTAGE_SECONDS = 120.0
"""How long an API that is being restarted is waited for."""

MOST_ROWS = 30


def watch_campaign(client: "Client", campaign_id: int, *, as_json: bool = False) -> dict[str, Any]:
    """Show a campaign's progress until it is sent, failed or cancelled; returns it as it is then.

    Raises `CommandError`; an outage of the API is waited out for two minutes.
    """
    away_since: float | None = None
    shown: RenderableType = Text("Looking …")
    with Live(shown, console=errors, auto_refresh=False, transient=True) as live:
        while True:
            try:
                campaign: dict[str, Any] = client.get(f"/api/campaigns/{campaign_id}")
                if campaign["status"] in ENDED:
                    return campaign
                report = client.get(f"/api/campaigns/{campaign_id}/device-report")
            except Unreachable as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > OUTAGE_SECONDS:
                    raise
                notice = Text(f"Waiting for the API: {error.detail}", style="yellow")
                live.update(Group(shown, notice), refresh=not as_json)
            else:
                away_since = None
                shown = progress_view(campaign, report)
                if not as_json and errors.is_terminal:
                    live.update(shown, refresh=True)
            time.sleep(LOOK_SECONDS)


def progress_view(campaign: dict[str, Any], report: dict[str, Any]) -> RenderableType:
    """A campaign under way: its bar, its totals and its devices."""
    counts = campaign["counts"]
    done = counts["total"] - counts["pending"]
    percent = 100 * done / counts["total"] if counts["total"] else 0.0
    heading = Text.assemble((campaign["title"], "bold"), f"  {status_sentence(campaign)}  {percent:.0f} %")
    devices = report["devices"]
    bar = Table.grid()  # a bar alone does not end its line
    bar.add_row(ProgressBar(total=max(counts["total"], 1), completed=done, width=60))
    parts: list[RenderableType] = [
        heading,
        bar,
        totals_text(campaign),
        device_table(devices[:MOST_ROWS]),
    ]
    if len(devices) > MOST_ROWS:
        parts.append(Text(f"… and {len(devices) - MOST_ROWS} more devices", style="dim"))
    return Group(*parts)
