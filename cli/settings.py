"""`siaran settings`: what you set for yourself."""

from typing import Annotated, Any

import typer
from rich.table import Table

from cli.errors import usage_error
from cli.output import cell, make_table, print_for
from cli.session import Json, connected

app = typer.Typer(no_args_is_help=True, help="Show and change your settings.")

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NONE = "none"
"""What a user writes for no quiet hours and no limit."""
DEFAULT = "default"
"""What a user writes for the automatic reply of the installation."""


@app.command()
def show(as_json: Json = False) -> None:
    """Show your settings."""
    with connected(as_json) as client:
        settings = client.get("/api/settings")
    print_for(as_json, settings, _table(settings))


@app.command("set")
def change(
    *,
    name: Annotated[str | None, typer.Option(help="Your name.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Such as Asia/Kuala_Lumpur.")] = None,
    country: Annotated[str | None, typer.Option(help="Two letters; of phones written without a country code.")] = None,
    quiet: Annotated[str | None, typer.Option(metavar="HH:MM-HH:MM", help="Nothing is sent in these hours; `none`.")] = None,
    weekdays: Annotated[str | None, typer.Option(metavar="DAYS", help="Sending days, such as mon,tue,fri; `all`.")] = None,
    contact_limit: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Messages that a contact gets at most; `none` for any number.")
    ] = None,
    contact_limit_days: Annotated[int | None, typer.Option(help="The days over which the limit counts.")] = None,
    opt_out_word: Annotated[
        list[str] | None, typer.Option(help="What contacts reply to opt out; repeat it for several. Replaces the list.")
    ] = None,
    opt_out_reply: Annotated[str | None, typer.Option(help="Sent once to who opts out; empty for nothing.")] = None,
    auto_reply: Annotated[
        str | None, typer.Option(help="Sent to who writes to you; empty for nothing, `default` for the installation's.")
    ] = None,
    auto_reply_minutes: Annotated[int | None, typer.Option(help="None again to the same contact for so many minutes.")] = None,
    as_json: Json = False,
) -> None:
    """Change some settings; the others stay."""
    given = {
        "full_name": name,
        "timezone": timezone,
        "country": country,
        "contact_limit_days": contact_limit_days,
        "opt_out_words": opt_out_word or None,
        "opt_out_reply": opt_out_reply,
        "auto_reply": auto_reply,
        "auto_reply_minutes": auto_reply_minutes,
    }
    wanted: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    with connected(as_json) as client:
        if quiet is not None:
            wanted |= _quiet_hours(quiet)
        if weekdays is not None:
            wanted["sending_weekdays"] = _weekdays(weekdays)
        if auto_reply == DEFAULT:
            wanted["auto_reply"] = None
        if contact_limit is not None:
            wanted["contact_limit"] = _limit(contact_limit)
        if not wanted:
            raise usage_error("say what to change; `siaran settings set --help` lists it")
        settings = client.put("/api/settings", wanted)
    print_for(as_json, settings, _table(settings))


def _quiet_hours(written: str) -> dict[str, str | None]:
    if written == NONE:
        return {"quiet_from": None, "quiet_until": None}
    start, dash, end = (part.strip() for part in written.partition("-"))
    if not (start and dash and end):
        raise usage_error("--quiet takes two times, such as 21:00-08:00, or none")
    return {"quiet_from": start, "quiet_until": end}


def _weekdays(written: str) -> list[int]:
    if written == "all":
        return list(range(1, len(DAYS) + 1))
    names = [name.strip().lower()[:3] for name in written.split(",")]
    if unknown := [name for name in names if name not in DAYS]:
        raise usage_error(f"--weekdays takes {', '.join(DAYS)}, not {unknown[0]!r}")
    return [DAYS.index(name) + 1 for name in names]


def _limit(written: str) -> int | None:
    if written == NONE:
        return None
    if not written.isdecimal():
        raise usage_error("--contact-limit takes a number, or none")
    return int(written)


def _table(settings: dict[str, Any]) -> Table:
    quiet = f"{settings['quiet_from']}-{settings['quiet_until']}" if settings["quiet_from"] else NONE
    limit = settings["contact_limit"]
    table = make_table("setting", "value")
    for label, value in (
        ("name", settings["full_name"]),
        ("timezone", settings["timezone"]),
        ("country", settings["country"]),
        ("quiet hours", quiet),
        ("sending days", ", ".join(DAYS[day - 1] for day in settings["sending_weekdays"])),
        ("contact limit", f"{limit:,} in {settings['contact_limit_days']:,} days" if limit else NONE),
        ("opt-out words", ", ".join(settings["opt_out_words"])),
        ("opt-out reply", settings["opt_out_reply"] or NONE),
        ("automatic reply", DEFAULT if settings["auto_reply"] is None else settings["auto_reply"] or NONE),
        ("at most once in", f"{settings['auto_reply_minutes']:,} minutes"),
    ):
        table.add_row(cell(label), cell(value))
    return table
