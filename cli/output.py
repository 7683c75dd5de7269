"""What commands print: tables and sentences for people, or one JSON document for machines."""

import json
import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cli.errors import CommandError

console = Console()
errors = Console(stderr=True, soft_wrap=True)

STATUS_STYLES = {
    "online": "green",
    "active": "green",
    "sent": "green",
    "sending": "cyan",
    "scheduled": "cyan",
    "connecting": "yellow",
    "waiting": "yellow",
    "paused": "yellow",
    "stopped": "yellow",
    "offline": "red",
    "failed": "red",
    "error": "red",
    "banned": "red",
    "logged_out": "red",
    "cancelled": "dim",
    "idle": "dim",
    "draft": "dim",
    "completed": "green",
    "left": "yellow",
    "removed": "dim",
}


def print_json(document: Any) -> None:
    """Print a document on one line, and nothing else."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_for(as_json: bool, document: Any, rendered: RenderableType) -> None:
    """Print the document for machines, or what is rendered of it for people."""
    if as_json:
        print_json(document)
    else:
        console.print(Text(rendered) if isinstance(rendered, str) else rendered)


def print_error(error: CommandError, as_json: bool) -> None:
    """Say why a command ends: on stderr, or as the JSON document that a machine waits for on stdout."""
    if as_json:
        fields = [{"field": refused.field, "reason": refused.reason} for refused in error.fields]
        print_json({"code": error.name, "detail": error.detail, "errors": fields})
        return
    if not error.fields:
        errors.print(Text(error.detail, style="red"))
    for refused in error.fields:
        errors.print(Text.assemble((f"{refused.field}: ", "bold red"), (refused.reason, "red")))


def status_text(status: str) -> Text:
    """A status in its colour."""
    return Text(status.replace("_", " "), style=STATUS_STYLES.get(status, ""))


def make_table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """A table without frills; the columns in `numbers` are aligned to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=column in numbers)
    return table


def heading(text: str) -> Text:
    """What stands above a table."""
    return Text(text, style="bold underline")


def cell(value: object) -> Text:
    """A value as plain text: what users typed is never read as markup."""
    return Text("" if value is None else f"{value:,}" if isinstance(value, int) else str(value))
