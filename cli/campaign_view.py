"""How campaigns look on a terminal: one line, the details, and the devices with their bars."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.output import cell, make_table, status_text

ENDED = frozenset({"sent", "failed", "cancelled"})
BAR_WIDTH = 24
NUMBERS = ("leads", "pending", "success", "failed")


def campaign_table(campaigns: Iterable[dict[str, Any]]) -> Table:
    """A list of campaigns."""
    numbers = ("id", "total", "pending", "success", "failed")
    table = make_table("id", "title", "due", "niche", "to", "status", *numbers[1:], numbers=numbers)
    for campaign in campaigns:
        counts = campaign["counts"]
        table.add_row(
            Text(str(campaign["id"])),
            cell(campaign["title"]),
            cell(_due(campaign)),
            cell(campaign["niche"] or "all"),
            cell(campaign["target_status"]),
            status_text(campaign["status"]),
            *(cell(counts[name]) for name in ("total", "pending", "success")),
            cell(counts["failed"] + counts["unknown"]),
        )
    return table


def campaign_details(campaign: dict[str, Any], report: dict[str, Any]) -> RenderableType:
    """Everything about a campaign that has devices' shares."""
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(campaign).items():
        facts.add_row(Text(name, style="bold"), value if isinstance(value, Text) else Text(value))
    return Group(facts, Text(), totals_text(campaign), device_table(report["devices"]))


def device_table(devices: Sequence[dict[str, Any]]) -> Table:
    """The device report: a row for each device, its bar the share of its leads that are done."""
    table = make_table("device", "status", *NUMBERS, "rate", "", numbers=(*NUMBERS, "rate"))
    for device in devices:
        total, pending = device["totalLeads"], device["pendingLeads"]
        done = total - pending
        name = f"{device['name']} (deleted)" if device.get("isDeleted", device.get("is_deleted")) else device["name"]
        table.add_row(
            cell(name),
            status_text(device["status"]),
            *(cell(device[column]) for column in ("totalLeads", "pendingLeads", "successLeads", "failedLeads")),
            Text(f"{device['successRate']:.0f} %" if done else ""),
            ProgressBar(total=max(total, 1), completed=done, width=BAR_WIDTH),
        )
    return table


def totals_text(campaign: dict[str, Any]) -> Text:
    """The counters in a sentence; they add up to the total."""
    counts = campaign["counts"]
    shown = {"success": counts["success"], "failed": counts["failed"], "unknown": counts["unknown"]}
    shown |= {"pending": counts["pending"], "suppressed": counts["suppressed"], "cancelled": counts["cancelled"]}
    always = {"success", "failed", "pending"}
    parts = [f"{number:,} {name}" for name, number in shown.items() if number or name in always]
    return Text(f"{counts['total']:,} messages: " + ", ".join(parts))


def preview_text(preview: dict[str, Any]) -> RenderableType:
    """A message for each recipient of a preview, below what it carries."""
    parts = [] if preview["image_url"] is None else [Text(f"{preview['message_type']}: {preview['image_url']}"), Text()]
    for shown in preview["recipients"]:
        made_up = shown["lead_id"] is None and shown["message_id"] is None
        parts += [Text(f"{shown['name']}, {shown['phone']}{', made up' if made_up else ''}", style="bold")]
        parts += [Text(shown["text"]), Text()]
    return Group(*parts[:-1])


def status_sentence(campaign: dict[str, Any]) -> str:
    """A campaign's status with its reason, if it has one."""
    reason = campaign.get("status_reason")
    return f"{campaign['status']}: {reason}" if reason else str(campaign["status"])


def _due(campaign: dict[str, Any]) -> str:
    return f"{campaign['campaign_date']} {str(campaign['scheduled_time'])[:5]}"


def _facts(campaign: dict[str, Any]) -> dict[str, str | Text]:
    facts: dict[str, str | Text] = {
        "Campaign": f"{campaign['id']}: {campaign['title']}",
        "Status": Text(status_sentence(campaign)),
        "Due": f"{_due(campaign)} ({_local(campaign['scheduled_at'])} here)",
        "Audience": f"{campaign['niche'] or 'all niches'}, {campaign['target_status']}",
        "Message": str(campaign["message"]),
    }
    if campaign["image_url"]:
        facts["Image"] = str(campaign["image_url"])
    facts["Delays"] = f"{campaign['min_delay_seconds']} to {campaign['max_delay_seconds']} s, {campaign['device_strategy']}"
    for name, field in (("Started", "started_at"), ("Ended", "completed_at")):
        if campaign[field]:
            facts[name] = _local(campaign[field])
    return facts


def _local(instant: str) -> str:
    """An instant of the API in this machine's time zone."""
    return f"{datetime.fromisoformat(instant).astimezone():%Y-%m-%d %H:%M:%S}"
