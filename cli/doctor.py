"""`siaran doctor`: looks at everything that can be wrong with an installation, and says what to do."""

from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cli.errors import ExitCode
from cli.output import console, print_json
from cli.session import Json, reported

if TYPE_CHECKING:
    from cli.doctor_checks import Check

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def doctor(as_json: Json = False) -> None:
    """Check this installation: programs, ports, servers, schema, Temporal, administrator, disk. Fails if a check fails."""
    with reported(as_json):
        # The whole product comes along: `siaran --help` need not wait for it.
        checks: list[Check] = import_module("cli.doctor_run").examine()
    is_ok = all(check.verdict != "failed" for check in checks)
    if as_json:
        print_json({"ok": is_ok, "checks": [asdict(check) for check in checks]})
    else:
        console.print(_view(checks))
    if not is_ok:
        raise typer.Exit(ExitCode.FAILED)


def _view(checks: "list[Check]") -> RenderableType:
    """One line a check, so that nothing is cut off; what to do stands under it."""
    width = max(len(check.name) for check in checks)
    lines: list[Text] = []
    for check in checks:
        lines.append(
            Text.assemble((f"{check.verdict:<8}", STYLES[check.verdict]), (f"{check.name:<{width}}  ", "bold"), check.detail)
        )
        if check.hint:
            lines.append(Text(f"{'':<8}{'':<{width}}  -> {check.hint}"))
    return Group(*lines)
