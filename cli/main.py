"""The command line `siaran`."""

import typer

from cli import campaigns, devices, leads, opt_outs, processes, send, sequences, settings, workers
from cli.demo import demo
from cli.doctor import doctor
from cli.login import login, logout

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="WhatsApp campaigns and sequences from thousands of devices.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or refused input, 3 not logged in, 4 not found.",
)

RUN = "Run Siaran"
USE = "Use a Siaran that runs"

for command in (processes.up, demo, processes.api, processes.worker, processes.fleet, processes.migrate, doctor):
    app.command(rich_help_panel=RUN)(command)
for command in (login, logout):
    app.command(rich_help_panel=USE)(command)
for name, group in {
    "leads": leads.app,
    "optouts": opt_outs.app,
    "campaigns": campaigns.app,
    "sequences": sequences.app,
    "send": send.app,
    "devices": devices.app,
    "workers": workers.app,
    "settings": settings.app,
}.items():
    app.add_typer(group, name=name, rich_help_panel=USE)


@app.callback()
def main() -> None:
    """WhatsApp campaigns and sequences from thousands of devices."""
