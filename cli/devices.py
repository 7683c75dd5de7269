"""`siaran devices`: adding, changing, linking and trying out devices."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cli.errors import CommandError, ExitCode
from cli.linking import link_account
from cli.output import cell, make_table, print_for, status_text
from cli.session import Json, Yes, confirm, connected

if TYPE_CHECKING:
    from cli.client import Client

app = typer.Typer(no_args_is_help=True, help="Add, change, link and try out devices.")

DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="A device, by name or id.")]
PerMinute = Annotated[int | None, typer.Option(help="Messages a minute at most.")]
PerHour = Annotated[int | None, typer.Option(help="Messages an hour at most.")]
PerDay = Annotated[int | None, typer.Option(help="Messages a day at most.")]
WarmUp = Annotated[
    bool | None, typer.Option("--warm-up/--no-warm-up", help="Let the cap of a day rise step by step, as a new account needs.")
]
Seconds = Annotated[float | None, typer.Option(help="For how long; without it, until `restore`.")]


def find_device(client: "Client", reference: str) -> dict[str, Any]:
    """The device with this id or name; raises `CommandError` for none and for several of the name."""
    devices = client.pages("/api/devices")
    found = [device for device in devices if device["id"] == reference.lower()] or [
        device for device in devices if device["name"].casefold() == reference.casefold()
    ]
    if not found:
        raise CommandError(f"you have no device {reference!r}", ExitCode.NOT_FOUND, "NOT_FOUND")
    if len(found) > 1:
        ids = ", ".join(device["id"] for device in found)
        raise CommandError(f"{len(found)} devices are called {reference!r}; name one by its id: {ids}", ExitCode.USAGE, "USAGE")
    return found[0]


@app.command("list")
def list_devices(as_json: Json = False) -> None:
    """List your devices."""
    with connected(as_json) as client:
        devices = client.pages("/api/devices")
    none = "No devices yet; add one with `siaran devices add NAME --link`."
    print_for(as_json, devices, _table(devices) if devices else none)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What you call it.")],
    *,
    link: Annotated[bool, typer.Option("--link", help="Link it at once.")] = False,
    transport: Annotated[
        str | None, typer.Option(help="`whatsapp` for a real account, `simulated` for the simulated network.")
    ] = None,
    per_minute: PerMinute = None,
    per_hour: PerHour = None,
    per_day: PerDay = None,
    warm_up: WarmUp = None,
    as_json: Json = False,
) -> None:
    """Add a device."""
    with connected(as_json) as client:
        body = {"name": name, "transport": transport, **_caps(per_minute, per_hour, per_day, warm_up)}
        device = client.post("/api/devices", body)["device"]
        if link:
            device = _link(client, device, None, as_json)
    linked = f", linked to {device['phone']}" if link else f"; link it with `siaran devices link {device['id']}`"
    print_for(as_json, device, f"Added {device['name']} ({device['id']}){linked}.")


@app.command()
def rename(device: DeviceArgument, name: Annotated[str, typer.Argument(help="The new name.")], as_json: Json = False) -> None:
    """Rename a device."""
    with connected(as_json) as client:
        changed = client.put(f"/api/devices/{find_device(client, device)['id']}", {"name": name})
    print_for(as_json, changed, f"It is {changed['name']} now.")


@app.command()
def caps(
    device: DeviceArgument,
    *,
    per_minute: PerMinute = None,
    per_hour: PerHour = None,
    per_day: PerDay = None,
    warm_up: WarmUp = None,
    as_json: Json = False,
) -> None:
    """Show or change how fast a device may send."""
    with connected(as_json) as client:
        found = find_device(client, device)
        wanted = _caps(per_minute, per_hour, per_day, warm_up)
        shown = client.put(f"/api/devices/{found['id']}", wanted) if wanted else found
    sentence = (
        f"{shown['name']}: at most {shown['max_per_minute']:,} a minute, {shown['max_per_hour']:,} an hour, "
        f"{shown['max_per_day']:,} a day."
    )
    print_for(as_json, shown, sentence + _plan_sentence(shown["warm_up"]))


@app.command()
def delete(device: DeviceArgument, yes: Yes = False, as_json: Json = False) -> None:
    """Delete a device for good; what it has not sent moves to the others."""
    with connected(as_json) as client:
        found = find_device(client, device)
        confirm(f"Delete {found['name']} for good?", yes=yes, as_json=as_json)
        deleted = client.delete(f"/api/devices/{found['id']}")
    print_for(as_json, deleted, f"Deleted {found['name']}.")


@app.command()
def link(
    device: DeviceArgument,
    phone: Annotated[
        str | None,
        typer.Option(
            help="Number of the account: for a code to type there instead of a QR code. A simulated device gets it at once."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Link a device to an account: shows a QR code to scan, anew until it is scanned."""
    with connected(as_json) as client:
        linked = _link(client, find_device(client, device), phone, as_json)
    print_for(as_json, linked, f"{linked['name']} is linked to {linked['phone']}.")


def _link(client: "Client", device: dict[str, Any], phone: str | None, as_json: bool) -> dict[str, Any]:
    """Link a device in the way of its kind; returns it as it is then."""
    if device["transport"] == "whatsapp":
        link_account(client, device["id"], phone, as_json=as_json)
    elif phone is None:
        client.post(f"/api/devices/{device['id']}/link/simulate")
    else:
        client.post("/app/link-device", {"device_id": device["id"], "phone": phone})
    linked: dict[str, Any] = client.get(f"/api/devices/{device['id']}")
    return linked


@app.command("log-out")
def log_out(device: DeviceArgument, yes: Yes = False, as_json: Json = False) -> None:
    """End a device's link; what it has not sent moves to the others."""
    with connected(as_json) as client:
        found = find_device(client, device)
        confirm(f"Log {found['name']} out of its account?", yes=yes, as_json=as_json)
        line = client.post("/app/logout", deviceId=found["id"])
    print_for(as_json, line, f"{found['name']} is logged out.")


@app.command()
def reconnect(device: DeviceArgument, as_json: Json = False) -> None:
    """Connect a linked device again."""
    with connected(as_json) as client:
        line = client.post("/app/reconnect", deviceId=find_device(client, device)["id"])
    print_for(as_json, line, f"{line['device_name']} is {line['status']}.")


@app.command()
def drop(device: DeviceArgument, seconds: Seconds = None, as_json: Json = False) -> None:
    """Break the connection of a simulated device."""
    _simulate(device, "drop", "has lost its connection", as_json, seconds=seconds)


@app.command()
def ban(device: DeviceArgument, seconds: Seconds = None, as_json: Json = False) -> None:
    """Ban the account of a simulated device."""
    _simulate(device, "ban", "is banned", as_json, seconds=seconds)


@app.command()
def restore(device: DeviceArgument, as_json: Json = False) -> None:
    """End a drop or a ban of a simulated device."""
    _simulate(device, "restore", "may connect again", as_json)


@app.command()
def restrict(
    device: DeviceArgument,
    off: Annotated[bool, typer.Option("--off", help="Lift the restriction.")] = False,
    as_json: Json = False,
) -> None:
    """Keep a simulated device from opening new chats (error 463)."""
    _simulate(device, "restrict", "may open new chats again" if off else "may open no new chats", as_json, on=not off)


def _simulate(device: str, action: str, what: str, as_json: bool, **options: float | bool | None) -> None:
    with connected(as_json) as client:
        found = find_device(client, device)
        given = {name: value for name, value in options.items() if value is not None}
        done = client.post(f"/api/devices/{found['id']}/simulate", {"action": action, **given})
    print_for(as_json, done, f"{found['name']} {what}.")


def _caps(per_minute: int | None, per_hour: int | None, per_day: int | None, warm_up: bool | None) -> dict[str, Any]:
    plan = None if warm_up is None else {"on": warm_up}
    given = {"max_per_minute": per_minute, "max_per_hour": per_hour, "max_per_day": per_day, "warm_up": plan}
    return {name: value for name, value in given.items() if value is not None}


def _plan_sentence(plan: dict[str, Any] | None) -> str:
    if plan is None:
        return ""
    rise = f"{plan['first_day']:,} on the first day and {plan['daily_step']:,} more each day"
    return f" It warms up, {rise}: {plan['cap_today']:,} a day for now."


def _table(devices: list[dict[str, Any]]) -> Table:
    numbers = ("a minute", "an hour", "a day")
    table = make_table("name", "phone", "status", *numbers, "id", numbers=numbers)
    for device in devices:
        table.add_row(
            cell(device["name"]),
            cell(device["phone"] or "not linked"),
            status_text(device["status"]),
            *(cell(device[cap]) for cap in ("max_per_minute", "max_per_hour", "max_per_day")),
            cell(device["id"]),
        )
    return table
