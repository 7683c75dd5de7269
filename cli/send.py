"""`siaran send`: single messages and broadcasts that go out at once, and whether a number is on WhatsApp."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cli.devices import find_device
from cli.errors import ExitCode
from cli.files import media_url
from cli.output import cell, heading, make_table, print_for
from cli.session import Json, connected

app = typer.Typer(no_args_is_help=True, help="Send single messages and broadcasts at once; check numbers.")

NOT_SENT = frozenset({"failed", "unknown", "suppressed", "cancelled"})
SHOWN_REFUSED = 20

Phone = Annotated[str, typer.Argument(metavar="PHONE", help="One number, in any form.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="A file here, or an address to fetch it from once.")]
Caption = Annotated[str, typer.Option(help="Text below it.")]
Device = Annotated[
    str | None, typer.Option(help="The device to send from, by name or id; may be left out while only one is linked.")
]
Key = Annotated[str | None, typer.Option(help="Your own name for the message: sent once, however often you ask.")]


@app.command("text")
def send_text(
    phone: Phone,
    message: Annotated[str, typer.Argument(help="The text, sent as it stands.")],
    *,
    device: Device = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Send a text; fails if it was not sent."""
    _send("message", {"phone": phone, "message": message}, device, key=key, as_json=as_json)


@app.command("link")
def send_link(
    phone: Phone,
    link: Annotated[str, typer.Argument(help="An http or https address.")],
    *,
    caption: Caption = "",
    device: Device = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Send a link; fails if it was not sent."""
    _send("link", {"phone": phone, "link": link, "caption": caption}, device, key=key, as_json=as_json)


@app.command("image")
def send_image(
    phone: Phone, file: File, *, caption: Caption = "", device: Device = None, key: Key = None, as_json: Json = False
) -> None:
    """Send an image; fails if it was not sent."""
    _send("image", {"phone": phone, "caption": caption}, device, key=key, as_json=as_json, file=file)


@app.command("file")
def send_file(
    phone: Phone, file: File, *, caption: Caption = "", device: Device = None, key: Key = None, as_json: Json = False
) -> None:
    """Send a file as a document; fails if it was not sent."""
    _send("file", {"phone": phone, "caption": caption}, device, key=key, as_json=as_json, file=file)


@app.command("video")
def send_video(
    phone: Phone, file: File, *, caption: Caption = "", device: Device = None, key: Key = None, as_json: Json = False
) -> None:
    """Send a video; fails if it was not sent."""
    _send("video", {"phone": phone, "caption": caption}, device, key=key, as_json=as_json, file=file)


@app.command("audio")
def send_audio(phone: Phone, file: File, *, device: Device = None, key: Key = None, as_json: Json = False) -> None:
    """Send a recording; fails if it was not sent."""
    _send("audio", {"phone": phone}, device, key=key, as_json=as_json, file=file)


@app.command("location", context_settings={"ignore_unknown_options": True})
def send_location(
    phone: Phone,
    latitude: Annotated[float, typer.Argument(help="Degrees north; negative in the south.")],
    longitude: Annotated[float, typer.Argument(help="Degrees east; negative in the west.")],
    *,
    name: Annotated[str, typer.Option(help="What the place is called.")] = "",
    address: Annotated[str, typer.Option(help="Its address.")] = "",
    device: Device = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Send a place; fails if it was not sent."""
    body = {"phone": phone, "latitude": latitude, "longitude": longitude, "name": name, "address": address}
    _send("location", body, device, key=key, as_json=as_json)


@app.command("contact")
def send_contact(
    phone: Phone,
    contact_name: Annotated[str, typer.Argument(help="Name on the card.")],
    contact_phone: Annotated[str, typer.Argument(help="Number on the card, in any form.")],
    *,
    device: Device = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Send somebody's name and number; fails if it was not sent."""
    body = {"phone": phone, "contact_name": contact_name, "contact_phone": contact_phone}
    _send("contact", body, device, key=key, as_json=as_json)


@app.command("poll")
def send_poll(
    phone: Phone,
    question: Annotated[str, typer.Argument(help="What is asked.")],
    options: Annotated[list[str], typer.Argument(help="2 to 12 answers.")],
    *,
    answers: Annotated[int, typer.Option(help="How many answers one person may choose.")] = 1,
    device: Device = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Send a poll; fails if it was not sent."""
    body = {"phone": phone, "question": question, "options": options, "max_answer": answers}
    _send("poll", body, device, key=key, as_json=as_json)


@app.command("broadcast")
def send_broadcast(
    phones: Annotated[list[str] | None, typer.Argument(help="Numbers in any form; up to 1,000 with those in --phones.")] = None,
    *,
    message: Annotated[str, typer.Option(help="Text, or caption of the file: {{name|friend}}, {Hi|Hello}.")] = "",
    image: Annotated[str | None, typer.Option(help="Image, video or document: a file here, or an address.")] = None,
    phones_file: Annotated[
        Path | None, typer.Option("--phones", help="A text file with one number a line.", exists=True, dir_okay=False)
    ] = None,
    device: Device = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Queue one message to everyone on a list who may get it."""
    with connected(as_json) as client:
        listed = [line.strip() for line in phones_file.read_text("utf-8-sig").splitlines()] if phones_file else []
        body = {
            "phones": [*(phones or []), *(line for line in listed if line)],
            "message": message,
            "image_url": media_url(client, image) if image else None,
            "device_id": find_device(client, device)["id"] if device else None,
        }
        queued = client.post("/send/broadcast", body, key=key)
    print_for(as_json, queued, _broadcast_view(queued))


@app.command("status")
def show_broadcast(
    broadcast_id: Annotated[str, typer.Argument(metavar="BROADCAST", help="The broadcast's id.")], as_json: Json = False
) -> None:
    """Show how far a broadcast has got."""
    with connected(as_json) as client:
        shown = client.get(f"/api/broadcasts/{broadcast_id}")
    counts = ", ".join(f"{number:,} {status}" for status, number in shown["counts"].items())
    print_for(as_json, shown, f"Of {shown['messages']:,} messages: {counts}.")


@app.command("cancel")
def cancel_broadcast(
    broadcast_id: Annotated[str, typer.Argument(metavar="BROADCAST", help="The broadcast's id.")], as_json: Json = False
) -> None:
    """Cancel what a broadcast has not sent yet."""
    with connected(as_json) as client:
        shown = client.post(f"/api/broadcasts/{broadcast_id}/cancel")
    print_for(as_json, shown, f"{shown['counts'].get('cancelled', 0):,} of {shown['messages']:,} messages are cancelled.")


@app.command("check")
def check_number(phone: Phone, *, device: Device = None, as_json: Json = False) -> None:
    """Ask WhatsApp whether a number has an account; fails if it has none."""
    with connected(as_json) as client:
        device_id = find_device(client, device)["id"] if device else None
        found = client.get("/user/check", phone=phone, device_id=device_id)
    print_for(as_json, found, f"{found['phone']} is {'' if found['is_on_whatsapp'] else 'not '}on WhatsApp.")
    if not found["is_on_whatsapp"]:
        raise typer.Exit(ExitCode.FAILED)


def _send(
    kind: str, body: dict[str, Any], device: str | None, *, key: str | None, as_json: bool, file: str | None = None
) -> None:
    with connected(as_json) as client:
        if device is not None:
            body["device_id"] = find_device(client, device)["id"]
        if file is not None:
            body[f"{kind}_url"] = media_url(client, file)
        sent = client.post(f"/send/{kind}", body, key=key)
    reason = f": {sent['error_message']}" if sent["error_message"] else ""
    print_for(as_json, sent, f"Message {sent['message_id']} to {sent['phone']} is {sent['status']}{reason}.")
    if sent["status"] in NOT_SENT:
        raise typer.Exit(ExitCode.FAILED)


def _broadcast_view(queued: dict[str, Any]) -> RenderableType:
    sentence = f"Broadcast {queued['id']}: {queued['messages']:,} messages are queued."
    refused = [line for line in queued["verdicts"] if line["verdict"] != "queued"]
    if not refused:
        return Text(sentence)
    table = make_table("phone", "reason")
    for line in refused[:SHOWN_REFUSED]:
        table.add_row(cell(line["given"]), cell(line["reason"]))
    hidden = len(refused) - SHOWN_REFUSED
    more = [Text(f"{hidden:,} more with --json.")] if hidden > 0 else []
    return Group(Text(sentence), heading("Not sent to"), table, *more)
