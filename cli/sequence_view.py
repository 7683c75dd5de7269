"""How sequences look on a terminal: a table, the details with their steps, and the contacts."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.output import cell, heading, make_table, status_text

SHOWN_TEXT = 60
SHOWN_INVALID = 20


def sequence_table(sequences: Iterable[dict[str, Any]]) -> Table:
    """A list of sequences."""
    numbers = ("days", "contacts", "active", "completed", "sent", "rate")
    table = make_table("name", "niche", "to", "status", *numbers, "id", numbers=(*numbers, "id"))
    for sequence in sequences:
        stats = sequence["stats"]
        table.add_row(
            cell(sequence["name"]),
            cell(sequence["niche"] or "all"),
            cell(sequence["target_status"]),
            status_text(sequence["status"]),
            cell(sequence["total_days"]),
            cell(stats["total_contacts"]),
            cell(stats["active_contacts"]),
            cell(stats["completed_contacts"]),
            cell(stats["messages_sent"]),
            cell(f"{stats['success_rate']:.0f} %"),
            cell(sequence["id"]),
        )
    return table


def sequence_details(sequence: dict[str, Any], statistics: dict[str, Any]) -> RenderableType:
    """Everything about a sequence, and what became of the messages of each step."""
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(sequence).items():
        facts.add_row(Text(name, style="bold"), value)
    return Group(facts, Text(), stats_text(sequence["stats"]), step_table(sequence, statistics["steps"]))


def step_table(sequence: dict[str, Any], numbers: Iterable[dict[str, Any]]) -> Table:
    """The steps by day, with the numbers of their messages; those that were taken out have only those."""
    counted = ("pending", "success", "failed")
    table = make_table("day", "time", "type", "text", *counted, numbers=("day", *counted))
    steps = {step["id"]: step for step in sequence["steps"]}
    for row in numbers:
        step = steps.get(row["step_id"], {})
        counts = row["messages"]
        text = " ".join((step.get("content") or step.get("caption") or "").split())
        table.add_row(
            cell(row["day"]),
            cell(step.get("send_time") or sequence["time_schedule"] if step else None),
            cell(step.get("message_type", "taken out")),
            cell(text if len(text) <= SHOWN_TEXT else f"{text[: SHOWN_TEXT - 1]}…"),
            cell(counts["pending"]),
            cell(counts["success"]),
            cell(counts["failed"] + counts["unknown"]),
        )
    return table


def stats_text(stats: dict[str, Any]) -> Text:
    """The contacts and messages of a sequence in a sentence."""
    names = ("active", "paused", "completed", "left")
    parts = [f"{stats[f'{name}_contacts']:,} {name}" for name in names if stats[f"{name}_contacts"] or name == "active"]
    sent = f"{stats['messages_sent']:,} messages sent, {stats['success_rate']:.0f} %"
    return Text(f"{stats['total_contacts']:,} contacts: {', '.join(parts)}; {sent}")


def contact_table(contacts: Iterable[dict[str, Any]]) -> Table:
    """A list of contacts with their progress."""
    table = make_table("id", "name", "phone", "status", "progress", "next message", "last", "why", numbers=("id",))
    for contact in contacts:
        table.add_row(
            Text(str(contact["id"])),
            cell(contact["contact_name"]),
            cell(contact["contact_phone"]),
            status_text(contact["status"]),
            cell(contact["progress"]),
            cell(contact["next_message"]),
            status_text(contact["last_outcome"] or ""),
            cell(contact["last_error"] or contact["left_because"]),
        )
    return table


def enrolled_view(done: dict[str, Any]) -> RenderableType:
    """What enrolling by phone came to, with those who were refused."""
    sentence = Text(f"{done['added']:,} enrolled, {done['already_enrolled']:,} were already.")
    if not done["invalid"]:
        return sentence
    table = make_table("contact", "reason")
    for refused in done["invalid"][:SHOWN_INVALID]:
        table.add_row(cell(refused["contact"]), cell(refused["reason"]))
    hidden = len(done["invalid"]) - SHOWN_INVALID
    more = [Text(f"{hidden:,} more with --json.")] if hidden > 0 else []
    return Group(sentence, heading("Not enrolled"), table, *more)


def summary_view(summary: dict[str, Any]) -> RenderableType:
    """The totals of all sequences, above the list of them."""
    totals, contacts, messages = summary["sequences"], summary["contacts"], summary["messages"]
    outcomes = ", ".join(f"{messages[f'{name}_messages']:,} {name}" for name in ("sent", "failed", "pending"))
    lines = (
        f"{totals['total']:,} sequences: {totals['active']:,} active, {totals['paused']:,} paused, {totals['draft']:,} drafts",
        f"{contacts['total']:,} contacts, {contacts['average_per_sequence']:,.1f} a sequence",
        f"{messages['total_messages']:,} messages: {outcomes}, {messages['success_rate']:.0f} %",
    )
    return Group(*(Text(line) for line in lines), Text(), sequence_table(summary["recent_sequences"]))


def _facts(sequence: dict[str, Any]) -> dict[str, Text]:
    facts = {
        "Sequence": f"{sequence['name']} ({sequence['id']})",
        "Audience": f"{sequence['niche'] or 'all niches'}, {sequence['target_status']}",
        "Time": sequence["time_schedule"] or "that of Day 1",
        "Delays": f"{sequence['min_delay_seconds']} to {sequence['max_delay_seconds']} s, {sequence['device_strategy']}",
        "Leaves": ", ".join(name for name in ("reply", "opt_out") if sequence[f"leave_on_{name}"]).replace("_", "-") or "never",
        "Created": f"{datetime.fromisoformat(sequence['created_at']).astimezone():%Y-%m-%d %H:%M}",
    }
    if sequence["description"]:
        facts["About"] = sequence["description"]
    return {"Status": status_text(sequence["status"]), **{name: Text(value) for name, value in facts.items()}}
