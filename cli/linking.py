"""Linking a device to a real account from the shell: shows its codes until one is scanned."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from cli.errors import CommandError
from cli.output import console, errors

if TYPE_CHECKING:
    from rich.console import Console

    from cli.client import Client

REASONS = {
    "expired": "nobody has scanned the code in time; run the command again",
    "cancelled": "the linking was cancelled",
    "failed": "the linking has failed",
}


def link_account(client: "Client", device_id: str, phone: str | None, *, as_json: bool) -> None:
    """Link a device by QR code, or by a code to type on a phone; raises `CommandError`, and cancels when interrupted.

    Codes go to standard error where standard output is for a machine.
    """
    screen = errors if as_json else console
    try:
        if phone is None:
            client.get("/app/login", deviceId=device_id)
        else:
            client.get("/app/login-with-code", device_id=device_id, phone=phone)
        with client.download(f"/api/devices/{device_id}/link/events") as content:
            for name, told in read_events(content):
                if name == "linked":
                    return
                _show(screen, name, told)
    except KeyboardInterrupt:
        client.delete(f"/api/devices/{device_id}/link")
        raise typer.Abort from None
    raise CommandError("Siaran ended the stream before the linking was over; run the command again")


def read_events(content: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a stream of server-sent events with JSON in them, with their names."""
    rest = b""
    for piece in content:
        *whole, rest = (rest + piece).split(b"\n\n")
        for block in whole:
            fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if not line.startswith(":"))
            if "event" in fields:
                yield fields["event"], json.loads(fields["data"])


def _show(screen: "Console", name: str, told: dict[str, Any]) -> None:
    if name in REASONS:
        raise CommandError(told.get("message") or REASONS[name], name=(told.get("error_code") or name).upper())
    if name == "status" and told["status"] == "scanned":
        screen.print("Scanned. Logging in …")
    if name != "code":
        return
    until = datetime.fromisoformat(told["expires_at"]).astimezone()
    if "pair_code" in told:
        screen.print(Text.assemble("Enter this code on the phone, under Linked devices: ", (told["pair_code"], "bold")))
    else:
        _draw(screen, told["code"])
        screen.print("Scan this with the phone, under Linked devices.")
    screen.print(f"It is good until {until:%H:%M:%S}.")


def _draw(screen: "Console", code: str) -> None:
    import segno  # noqa: PLC0415 -- only this command draws

    drawn = StringIO()
    segno.make(code, micro=False).terminal(out=drawn, compact=True)
    screen.file.write(drawn.getvalue())
    screen.file.flush()
