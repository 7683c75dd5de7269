"""How the demo ended: the device report, what the network recorded, and whether everything adds up."""

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cli.campaign_view import device_table, totals_text
from cli.demo_servers import memory_by_process
from cli.demo_story import Telling
from cli.output import cell, heading, make_table
from siaran.attempt_keys import secret_of
from siaran.db import open_database
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.gateway.simulated_record import NetworkCounts
from siaran.reconciliation import Reconciliation, reconcile_campaigns


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a demo; `seconds` are those since its start, set-up of the servers included."""

    campaign: dict[str, Any]
    report: dict[str, Any]
    network: NetworkCounts
    found: Reconciliation
    leads: int
    expected_leads: int
    matched: int
    seconds: float
    sending_seconds: float
    memory: dict[str, int]

    @property
    def sent(self) -> int:
        """Messages that the recipients have."""
        return int(self.campaign["counts"]["success"])

    @property
    def failed(self) -> int:
        """Messages that were refused, or of which nobody can tell."""
        return int(self.campaign["counts"]["failed"] + self.campaign["counts"]["unknown"])

    @property
    def pending(self) -> int:
        """Messages that came to no end."""
        return int(self.campaign["counts"]["pending"])

    def faults(self) -> list[str]:
        """Everything that must not be; empty if the demo went well."""
        faults = [f"lost: {phone}" for _, phone in self.found.lost]
        faults += [f"delivered more than once: {phone}" for _, phone in self.found.duplicates]
        faults += [f"{one.reason}: {one.phone}" for one in self.found.unaccounted]
        if self.leads != self.expected_leads:
            faults.append(f"{self.leads} leads were imported, the file has {self.expected_leads}")
        if self.sent + self.failed + self.pending != self.matched:
            faults.append(f"{self.sent} sent + {self.failed} failed + {self.pending} pending are not {self.matched}")
        if self.pending:
            faults.append(f"{self.pending} messages are still pending")
        return faults

    def summary(self) -> dict[str, int | float]:
        """The last line of `siaran demo --json`."""
        return {
            "leads": self.leads,
            "matched": self.matched,
            "sent": self.sent,
            "failed": self.failed,
            "pending": self.pending,
            "lost": len(self.found.lost),
            "duplicates": len(self.found.duplicates),
            "seconds": round(self.seconds, 1),
        }


async def read_result(story: Telling) -> Result:
    """Read the ledger and the network's record, and compare them with the file."""
    seconds = story.screen.seconds
    settings = story.stack.settings
    path = f"/api/campaigns/{story.campaign['id']}"
    campaign = await story.ask(story.client.get, path)
    async with (
        SimulatedNetwork(story.stack.environment["SIARAN_NETWORK_URL"]) as network,
        open_database(settings, pool_size=1) as sessions,
        sessions() as session,
    ):
        expected = {story.campaign["id"]: story.audience.matched}
        found = await reconcile_campaigns(session, network, story.user_id, expected, secret_of(settings))
        counts = await network.counts()
    return Result(
        campaign=campaign,
        report=await story.ask(story.client.get, f"{path}/device-report"),
        network=counts,
        found=found,
        leads=story.leads,
        expected_leads=len(story.audience.leads),
        matched=len(story.audience.matched),
        seconds=seconds,
        sending_seconds=story.sending_seconds,
        memory=memory_by_process(story.stack),
    )


def result_view(result: Result) -> RenderableType:
    """The result for people."""
    return Group(
        Text(),
        heading("Device report"),
        device_table(result.report["devices"]),
        Text(),
        heading("What the simulated network recorded"),
        _network_table(result),
        Text(),
        heading("Memory, shared pages divided"),
        _memory_table(result.memory),
        Text(),
        totals_text(result.campaign),
        _speed(result),
        Text(),
        *_verdict(result),
    )


def _network_table(result: Result) -> RenderableType:
    rows = {
        "delivered": result.network.transmissions,
        "refused": sum(result.network.rejections.values()),
        "lost": len(result.found.lost),
        "duplicates": len(result.found.duplicates),
        "unaccounted": len(result.found.unaccounted),
    }
    table = make_table("", "messages", numbers=("messages",))
    for name, number in rows.items():
        bad = name in {"lost", "duplicates", "unaccounted"} and number > 0
        table.add_row(Text(name), Text(f"{number:,}", style="bold red" if bad else ""))
    return table


def _memory_table(memory: dict[str, int]) -> RenderableType:
    table = make_table("", "MB", numbers=("MB",))
    for name, used in memory.items():
        table.add_row(cell(name), Text(f"{used / 1e6:.0f}"))
    return table


def _speed(result: Result) -> Text:
    rate = result.network.transmissions / result.sending_seconds if result.sending_seconds else 0.0
    return Text(
        f"{rate:.1f} messages a second from 15 devices while the campaign went out, in {result.sending_seconds:.0f} s; "
        f"{result.seconds:.0f} s in all."
    )


def _verdict(result: Result) -> list[Text]:
    faults = result.faults()
    if not faults:
        unknown = result.campaign["counts"]["unknown"]
        left_open = (
            f"{unknown} unknown: kill or drop left it open whether they were sent, so only a person may send them again."
        )
        verdict = Text("Nothing was lost, nothing was sent twice, and the totals add up.", style="bold green")
        return [Text(left_open), verdict] if unknown else [verdict]
    return [Text(f"{len(faults)} faults:", style="bold red"), *(Text(f"  {fault}", style="red") for fault in faults[:20])]
