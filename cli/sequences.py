"""`siaran sequences`: creating, loading, following and steering sequences and their contacts."""

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.devices import find_device
from cli.errors import CommandError, ExitCode, usage_error
from cli.output import print_for
from cli.sequence_files import read_sequence, sequence_files, upload_images
from cli.sequence_view import contact_table, enrolled_view, sequence_details, sequence_table, summary_view
from cli.session import Json, Yes, confirm, connected, reported

if TYPE_CHECKING:
    from cli.client import Client

app = typer.Typer(no_args_is_help=True, help="Create, load, follow and steer sequences.")

PATH = "/api/sequences"
Name = Annotated[str, typer.Argument(metavar="SEQUENCE", help="The sequence, by name or id.")]
Start = Annotated[bool, typer.Option("--start", help="Also start it: every lead that matches is enrolled.")]

_STEP = re.compile(r"(\d+)(?:@(\d{1,2}:\d{2}))?=(.*)", re.DOTALL)


class Action(StrEnum):
    """What can be done with one contact."""

    PAUSE = "pause"
    RESUME = "resume"
    SKIP = "skip"
    RESTART = "restart"
    REMOVE = "remove"


@app.command()
def create(
    *,
    name: Annotated[str, typer.Option(help="What you call it.")],
    steps: Annotated[
        list[str] | None,
        typer.Option("--step", metavar="DAY[@HH:MM]=TEXT", help="A day's message, such as 2@09:00='Hai {{name|kawan}}'."),
    ] = None,
    niche: Annotated[str, typer.Option(help="Whole tags, comma-separated; without it, every lead.")] = "",
    target_status: Annotated[str, typer.Option("--target-status", "--to", help="prospect, customer or all.")] = "all",
    time: Annotated[str | None, typer.Option(help="HH:MM in your time zone, for steps without a time of their own.")] = None,
    min_delay: Annotated[int | None, typer.Option(help="Shortest gap after a message, in seconds; 10 by default.")] = None,
    max_delay: Annotated[int | None, typer.Option(help="Longest gap after a message, in seconds; 30 by default.")] = None,
    strategy: Annotated[str | None, typer.Option(help="balanced, sticky or owner.")] = None,
    device: Annotated[str | None, typer.Option(help="Send from this device only, by name or id.")] = None,
    leave_on_reply: Annotated[bool, typer.Option("--leave-on-reply", help="Contacts who reply leave it.")] = False,
    start_now: Start = False,
    as_json: Json = False,
) -> None:
    """Create a sequence, a draft unless told to start it."""
    with connected(as_json) as client:
        body = {
            "name": name,
            "niche": niche,
            "target_status": target_status,
            "time_schedule": time,
            "min_delay_seconds": min_delay,
            "max_delay_seconds": max_delay,
            "device_strategy": strategy,
            "device_id": find_device(client, device)["id"] if device else None,
            "leave_on_reply": leave_on_reply,
            "status": "active" if start_now else "draft",
            "steps": [_read_step(step) for step in steps or []],
        }
        made = client.post(PATH, {field: value for field, value in body.items() if value is not None})
    print_for(as_json, made, f"{made['name']} is created, {_days(made)}, and {_standing(made)}.")


@app.command()
def load(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE…", help="TOML or JSON files, or folders of them.", exists=True)],
    *,
    start_now: Start = False,
    as_json: Json = False,
) -> None:
    """Create sequences from files, or bring those of the same name back to what the files say.

    All files are read before anything is changed.
    """
    with connected(as_json) as client:
        bodies = [(file, read_sequence(file)) for file in sequence_files(paths)]
        loaded = [_load(client, file, body, start_now=start_now) for file, body in bodies]
    said = "\n".join(f"{sequence['name']} is loaded, {_days(sequence)}, and {_standing(sequence)}." for sequence in loaded)
    print_for(as_json, loaded, said)


@app.command("list")
def list_sequences(
    *,
    status: Annotated[str | None, typer.Option(help="Only draft, active or paused ones.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of the name or of the niche.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """List your sequences, newest first."""
    with connected(as_json) as client:
        found = client.pages(PATH, limit=limit, status=status, search=search)
    print_for(as_json, found, sequence_table(found) if found else "No sequences.")


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show a sequence, its steps, and what became of their messages."""
    with connected(as_json) as client:
        sequence = find_sequence(client, name)
        statistics = client.get(f"{PATH}/{sequence['id']}/stats")
    print_for(as_json, {**sequence, "statistics": statistics}, sequence_details(sequence, statistics))


@app.command()
def start(name: Name, as_json: Json = False) -> None:
    """Start a sequence, or let it go on after a pause, everyone from where they are."""
    _steer(name, "start", as_json)


@app.command()
def pause(name: Name, as_json: Json = False) -> None:
    """Stop sending from the next message on; everyone keeps their place."""
    _steer(name, "pause", as_json)


@app.command()
def delete(name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Delete a sequence: nothing more of it is sent; what was sent stays in the reports."""
    with reported(as_json):
        confirm(f"Delete the sequence {name}?", yes=yes, as_json=as_json)
    with connected(as_json) as client:
        done = client.delete(f"{PATH}/{find_sequence(client, name)['id']}")
    print_for(as_json, done, f"{name} is deleted.")


@app.command()
def contacts(
    name: Name,
    *,
    status: Annotated[str | None, typer.Option(help="Only active, paused, completed, left or removed ones.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of the name or of the phone.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """List the contacts of a sequence with their progress."""
    with connected(as_json) as client:
        sequence = find_sequence(client, name)
        found = client.pages(f"{PATH}/{sequence['id']}/contacts", limit=limit, status=status, search=search)
    print_for(as_json, found, contact_table(found) if found else "No contacts.")


@app.command()
def enroll(
    name: Name,
    phones: Annotated[list[str], typer.Argument(metavar="PHONE…", help="Phones in any form.")],
    *,
    as_json: Json = False,
) -> None:
    """Enroll people by phone, each once; fails if none of them could be."""
    with connected(as_json) as client:
        sequence = find_sequence(client, name)
        done = client.post(f"{PATH}/{sequence['id']}/contacts", {"contacts": phones})
    print_for(as_json, done, enrolled_view(done))
    if done["invalid"] and not done["added"] and not done["already_enrolled"]:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def contact(
    name: Name,
    contact_id: Annotated[int, typer.Argument(metavar="ID", help="The contact's number in the sequence.", min=1)],
    action: Annotated[Action, typer.Argument(help="What to do.")],
    as_json: Json = False,
) -> None:
    """Pause, resume, restart or remove one contact, or skip their next step."""
    with connected(as_json) as client:
        path = f"{PATH}/{find_sequence(client, name)['id']}/contacts/{contact_id}"
        done = client.delete(path) if action is Action.REMOVE else client.post(f"{path}/{action}")
    print_for(as_json, done, f"{done['contact_phone']} is {done['status']}, {done['progress']}.")


@app.command()
def retry(
    name: Name,
    *,
    contact_id: Annotated[int | None, typer.Option("--contact", help="Only this contact, by number.", min=1)] = None,
    message: Annotated[int | None, typer.Option(help="Only this message, by number.", min=1)] = None,
    confirm_repeat: Annotated[
        bool, typer.Option("--confirm", help="With --message: even though the person may get it twice.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send again what failed and can be retried, by signals to the contacts' workflows."""
    with connected(as_json) as client:
        if contact_id is not None and message is not None:
            raise usage_error("--contact and --message exclude each other")
        path = f"{PATH}/{find_sequence(client, name)['id']}"
        if message is not None:
            done = client.post(f"{path}/messages/{message}/retry", {"confirm": confirm_repeat})
        else:
            done = client.post(f"{path}/contacts/{contact_id}/retry-failed" if contact_id else f"{path}/retry-failed")
    print_for(as_json, done, f"Queued {done['retried']:,} messages for retry.")


@app.command()
def summary(as_json: Json = False) -> None:
    """Add up all your sequences, their contacts and messages."""
    with connected(as_json) as client:
        found = client.get(f"{PATH}/summary")
    print_for(as_json, found, summary_view(found))


def find_sequence(client: "Client", name: str) -> dict[str, Any]:
    """A sequence by its id or its whole name; raises `CommandError` for none, and for a name that several have."""
    try:
        found: dict[str, Any] = client.get(f"{PATH}/{UUID(name)}")
    except ValueError:
        return _one(_named(client, name), name)
    return found


def _named(client: "Client", name: str) -> list[dict[str, Any]]:
    wanted = " ".join(name.split()).casefold()
    return [row for row in client.pages(PATH, search=" ".join(name.split())) if row["name"].casefold() == wanted]


def _one(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    if not found:
        raise CommandError(f"there is no sequence {name}", ExitCode.NOT_FOUND, "NOT_FOUND")
    if len(found) > 1:
        raise usage_error(f"{len(found)} sequences are called {name}; give the id of one: siaran sequences list")
    return found[0]


def _load(client: "Client", file: Path, body: dict[str, Any], *, start_now: bool) -> dict[str, Any]:
    present = _named(client, body["name"])
    wanted = upload_images(client, file, body) | ({"status": "active"} if start_now else {})
    if present:
        loaded: dict[str, Any] = client.put(f"{PATH}/{_one(present, body['name'])['id']}", wanted)
    else:
        loaded = client.post(PATH, wanted)
    return loaded


def _read_step(written: str) -> dict[str, Any]:
    match = _STEP.fullmatch(written)
    if match is None:
        raise usage_error(f"--step {written!r}: write it as DAY=TEXT or DAY@HH:MM=TEXT")
    day, time, text = match.groups()
    return {"day": int(day), "content": text} | ({"send_time": time.zfill(5)} if time else {})


def _steer(name: str, action: str, as_json: bool) -> None:
    with connected(as_json) as client:
        sequence = client.post(f"{PATH}/{find_sequence(client, name)['id']}/{action}")
    print_for(as_json, sequence, f"{sequence['name']} is {sequence['status']}.")


def _days(sequence: dict[str, Any]) -> str:
    return f"{sequence['total_steps']} messages in {sequence['total_days']} days"


def _standing(sequence: dict[str, Any]) -> str:
    return "a draft" if sequence["status"] == "draft" else str(sequence["status"])
