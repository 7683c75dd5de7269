"""`siaran campaigns`: creating, following and steering campaigns."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group

from cli.campaign_view import campaign_details, campaign_table, device_table, preview_text, status_sentence, totals_text
from cli.devices import find_device
from cli.errors import ExitCode, usage_error
from cli.files import media_url
from cli.output import print_for
from cli.session import Json, Yes, confirm, connected, reported
from cli.watching import watch_campaign

if TYPE_CHECKING:
    from cli.client import Client

app = typer.Typer(no_args_is_help=True, help="Create, follow and steer campaigns.")

Id = Annotated[int, typer.Argument(metavar="ID", help="The campaign's number.", min=1)]
NOT_SENT = frozenset({"failed", "unknown", "suppressed", "cancelled"})

Watch = Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")]


@app.command()
def create(
    *,
    title: Annotated[str, typer.Option(help="What you call it.")],
    target_status: Annotated[str, typer.Option("--target-status", "--to", help="`prospect` or `customer`.")],
    message: Annotated[
        str, typer.Option(help="Text, or caption of the image: {{name}}, {{phone}}, {{niche}}, {{name|friend}}, {Hi|Hello}.")
    ] = "",
    niche: Annotated[str, typer.Option(help="Whole tags, comma-separated; without it, every lead.")] = "",
    image: Annotated[
        str | None, typer.Option("--image", help="Image, video or document: a file here, or an address to fetch it from once.")
    ] = None,
    date: Annotated[str | None, typer.Option(help="YYYY-MM-DD in your time zone; without it, now.")] = None,
    time: Annotated[str | None, typer.Option(help="HH:MM in your time zone.")] = None,
    min_delay: Annotated[int | None, typer.Option(help="Shortest gap after a message, in seconds; 10 by default.")] = None,
    max_delay: Annotated[int | None, typer.Option(help="Longest gap after a message, in seconds; 30 by default.")] = None,
    strategy: Annotated[str | None, typer.Option(help="balanced, sticky or owner.")] = None,
    device: Annotated[str | None, typer.Option(help="Send from this device only, by name or id.")] = None,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Create a campaign; without a date it goes out at once."""
    with connected(as_json) as client:
        if time is not None and date is None:
            raise usage_error("--time needs --date")
        body = {
            "title": title,
            "target_status": target_status,
            "message": message,
            "niche": niche,
            "image_url": media_url(client, image) if image else None,
            "campaign_date": date,
            "scheduled_time": time,
            "send_now": date is None,
            "min_delay_seconds": min_delay,
            "max_delay_seconds": max_delay,
            "device_strategy": strategy,
            "device_id": find_device(client, device)["id"] if device else None,
        }
        campaign = client.post("/api/campaigns", {name: value for name, value in body.items() if value is not None})
        if not watch:
            due = f"{campaign['campaign_date']} at {campaign['scheduled_time'][:5]}" if date else "now"
            print_for(as_json, campaign, f"Campaign {campaign['id']} is created and due {due}.")
            return
        _watch(client, campaign["id"], as_json)


@app.command("list")
def list_campaigns(
    *,
    status: Annotated[str | None, typer.Option(help="Only campaigns in this phase.")] = None,
    niche: Annotated[str | None, typer.Option(help="Only campaigns to one of these whole tags.")] = None,
    date: Annotated[str | None, typer.Option(help="Only campaigns of this date, YYYY-MM-DD.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """List your campaigns, latest due first."""
    with connected(as_json) as client:
        found = client.pages("/api/campaigns", limit=limit, status=status, niche=niche, date=date)
    print_for(as_json, found, campaign_table(found) if found else "No campaigns.")


@app.command()
def show(campaign_id: Id, as_json: Json = False) -> None:
    """Show a campaign and its devices."""
    with connected(as_json) as client:
        campaign, report = _read(client, campaign_id)
    print_for(as_json, {**campaign, "device_report": report}, campaign_details(campaign, report))


@app.command()
def watch(campaign_id: Id, as_json: Json = False) -> None:
    """Follow a campaign until it ends; fails if it failed or was cancelled."""
    with connected(as_json) as client:
        _watch(client, campaign_id, as_json)


@app.command()
def start(campaign_id: Id, as_json: Json = False) -> None:
    """Start a campaign now, whenever it was scheduled for."""
    _steer(campaign_id, "start", as_json)


@app.command()
def pause(campaign_id: Id, as_json: Json = False) -> None:
    """Stop sending from the next message on; nothing is lost."""
    _steer(campaign_id, "pause", as_json)


@app.command()
def resume(campaign_id: Id, as_json: Json = False) -> None:
    """Go on where it was paused."""
    _steer(campaign_id, "resume", as_json)


@app.command()
def cancel(campaign_id: Id, yes: Yes = False, as_json: Json = False) -> None:
    """End a campaign for good; what is pending is not sent."""
    with reported(as_json):
        confirm(f"Cancel campaign {campaign_id} for good?", yes=yes, as_json=as_json)
    _steer(campaign_id, "cancel", as_json)


@app.command()
def copy(
    campaign_id: Id,
    *,
    date: Annotated[str | None, typer.Option(help="YYYY-MM-DD in your time zone; without it, the copy waits paused.")] = None,
    time: Annotated[str | None, typer.Option(help="HH:MM in your time zone; without it, the original's.")] = None,
    title: Annotated[str | None, typer.Option(help="Another title.")] = None,
    as_json: Json = False,
) -> None:
    """Copy a campaign: the same message to the same audience, on another date."""
    with connected(as_json) as client:
        if time is not None and date is None:
            raise usage_error("--time needs --date")
        body = {"campaign_date": date, "scheduled_time": time, "title": title}
        made = client.post(f"/api/campaigns/{campaign_id}/copy", body)
    print_for(as_json, made, f"Campaign {made['id']} is a copy of {campaign_id} and {status_sentence(made)}.")


@app.command()
def preview(
    campaign_id: Id,
    *,
    lead: Annotated[int | None, typer.Option(help="Only for this lead, by its number.", min=1)] = None,
    limit: Annotated[int, typer.Option(help="For how many recipients at most.", min=1, max=20)] = 3,
    as_json: Json = False,
) -> None:
    """Show the message as its recipients see it."""
    with connected(as_json) as client:
        shown = client.get(f"/api/campaigns/{campaign_id}/preview", lead_id=lead, limit=limit)
    print_for(as_json, shown, preview_text(shown))


@app.command("test")
def send_test(
    campaign_id: Id,
    phone: Annotated[str, typer.Argument(metavar="PHONE", help="One number, in any form.")],
    *,
    device: Annotated[str | None, typer.Option(help="The device to send from, by name or id.")] = None,
    as_json: Json = False,
) -> None:
    """Send the campaign's message to one number, ahead of the rest; fails if it was not sent."""
    with connected(as_json) as client:
        body = {"phone": phone, "device_id": find_device(client, device)["id"] if device else None}
        sent = client.post(f"/api/campaigns/{campaign_id}/test", body)
    reason = f": {sent['error_message']}" if sent["error_message"] else ""
    print_for(as_json, sent, f"Message {sent['message_id']} to {sent['phone']} is {sent['status']}{reason}.")
    if sent["status"] in NOT_SENT:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def retry(
    campaign_id: Id,
    *,
    device: Annotated[str | None, typer.Option(help="Only what failed on this device, by name or id.")] = None,
    message: Annotated[int | None, typer.Option(help="Only this message, by its number.", min=1)] = None,
    confirm_repeat: Annotated[
        bool, typer.Option("--confirm", help="With --message: even though the person may get it twice.")
    ] = False,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Send again what failed and can be retried, by a signal to the campaign's workflow, also after its end."""
    with connected(as_json) as client:
        if device is not None and message is not None:
            raise usage_error("--device and --message exclude each other")
        path = f"/api/campaigns/{campaign_id}"
        if message is not None:
            done = client.post(f"{path}/messages/{message}/retry", {"confirm": confirm_repeat})
        elif device is not None:
            done = client.post(f"{path}/device/{find_device(client, device)['id']}/retry-failed")
        else:
            done = client.post(f"{path}/retry-failed")
        if not watch:
            print_for(as_json, done, f"Queued {done['retried']:,} messages for retry.")
            return
        _watch(client, campaign_id, as_json)


def _read(client: "Client", campaign_id: int) -> tuple[dict[str, Any], dict[str, Any]]:
    path = f"/api/campaigns/{campaign_id}"
    return client.get(path), client.get(f"{path}/device-report")


def _steer(campaign_id: int, action: str, as_json: bool) -> None:
    with connected(as_json) as client:
        campaign = client.post(f"/api/campaigns/{campaign_id}/{action}")
    print_for(as_json, campaign, f"Campaign {campaign_id} is {status_sentence(campaign)}.")


def _watch(client: "Client", campaign_id: int, as_json: bool) -> None:
    campaign = watch_campaign(client, campaign_id, as_json=as_json)
    report = client.get(f"/api/campaigns/{campaign_id}/device-report")
    ended = f"Campaign {campaign_id} is {status_sentence(campaign)}."
    shown = Group(ended, totals_text(campaign), device_table(report["devices"]))
    print_for(as_json, {**campaign, "device_report": report}, shown)
    if campaign["status"] != "sent":
        raise typer.Exit(ExitCode.FAILED)
