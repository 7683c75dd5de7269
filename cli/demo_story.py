"""What happens in the demo: a user, 15 devices, a campaign, a device that drops, a host that is killed, and the retry."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from cli.campaign_view import ENDED
from cli.client import Client
from cli.demo_audience import Audience, read_audience
from cli.demo_screen import Screen
from cli.demo_servers import DEVICES_A_HOST, FAILOVER_SECONDS, host_processes
from cli.errors import CommandError, Unreachable
from cli.logins import Login
from siaran.embedded.app import api_url
from siaran.embedded.stack import EmbeddedStack
from siaran.gateway.simulated_network import SimulatedNetwork

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LEADS, IMAGE = EXAMPLES / "leads.csv", EXAMPLES / "promo-merdeka.png"
NICHE = "EXSTART"
TARGET_STATUS = "prospect"
COUNTRY = "MY"

EMAIL = "demo@example.com"
PASSWORD = "demo on loopback"  # noqa: S105 -- of an account that exists on this machine while the demo runs
DEVICES = 15
NO_CAP = 1_000_000
FAILURE_RATE = 0.05
SEED = 1957

CAPTION = "{Hai|Salam|Selamat sejahtera} {{name|kawan}}, promo Merdeka bermula hari ini: diskaun 20% untuk set EXSTART."

DROP_AT, KILL_AT = 0.15, 0.35
"""Shares of the campaign after which the device drops and the host is killed."""

LOOK_SECONDS = 0.5
ONLINE_WITHIN = 60.0
ENDS_WITHIN = 150.0
RETRIES = 3
"""The retried fail as often as the others, so a few need another round."""


@dataclass(slots=True)
class Telling:
    """What has happened so far, and who is needed to go on."""

    stack: EmbeddedStack
    screen: Screen
    client: Client
    user_id: UUID
    audience: Audience
    leads: int = 0
    devices: list[dict[str, Any]] = field(default_factory=list)
    campaign: dict[str, Any] = field(default_factory=dict)
    sending_seconds: float = 0.0
    incidents: "list[asyncio.Task[None]]" = field(default_factory=list)

    async def ask(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Talk to the API beside the event loop, which looks after the servers."""
        return await asyncio.to_thread(call, *args, **options)


async def begin(stack: EmbeddedStack, screen: Screen) -> Telling:
    """Register a user, who then is who tells the story."""
    if not LEADS.exists():
        raise CommandError(f"{LEADS} is missing: the demo runs from a checkout")
    audience = read_audience(LEADS, niche=NICHE, target_status=TARGET_STATUS, country=COUNTRY)
    url = api_url(stack)
    account = {"fullname": "Demo", "email": EMAIL, "password": PASSWORD}
    with Client(Login(url)) as nobody:
        answer = await asyncio.to_thread(nobody.request, "POST", "/api/register", body=account)
    screen.say(f"{EMAIL} has registered")
    return Telling(stack, screen, Client(Login(url, answer["token"])), UUID(answer["user"]["id"]), audience)


async def prepare(story: Telling) -> None:
    """Devices, leads, and a network that refuses some messages."""
    async with SimulatedNetwork(story.stack.environment["SIARAN_NETWORK_URL"]) as network:
        await network.configure(seed=SEED, failure_rate=FAILURE_RATE)
    for number in range(1, DEVICES + 1):
        caps = {"max_per_minute": NO_CAP, "max_per_hour": NO_CAP, "max_per_day": NO_CAP}
        added = await story.ask(story.client.post, "/api/devices", {"name": f"Demo {number:02}", **caps})
        story.devices.append(await story.ask(story.client.post, f"/api/devices/{added['device']['id']}/link/simulate"))
    story.screen.say(f"{DEVICES} devices are added and linked; their caps are lifted for the demo")
    with LEADS.open("rb") as file:
        report = await story.ask(story.client.upload, "/api/leads/import", LEADS.name, file)
    story.leads = report["success"]
    refused = f"{report['duplicates']} duplicates and {report['invalid']} invalid rows are not"
    story.screen.say(f"{report['success']} leads are imported from {LEADS.name}; {refused}")
    await _online(story, DEVICES)
    hosts = host_processes(story.stack)
    story.screen.say(f"All devices are online, at {len(hosts)} hosts of up to {DEVICES_A_HOST} devices")


async def send(story: Telling) -> None:
    """Create the campaign and follow it to its end; the device drops and the host dies on the way."""
    with IMAGE.open("rb") as file:
        image = await story.ask(story.client.upload, "/api/media", IMAGE.name, file)
    wanted = {
        "title": "Promo Merdeka",
        "niche": NICHE,
        "target_status": TARGET_STATUS,
        "message": CAPTION,
        "image_url": image["url"],
        "min_delay_seconds": 0,
        "max_delay_seconds": 1,
        "send_now": True,
    }
    story.campaign = await story.ask(story.client.post, "/api/campaigns", wanted)
    preflight = f"{len(story.audience.matched)} of them are {TARGET_STATUS}s of {NICHE}"
    story.screen.say(f"Campaign {story.campaign['id']} is created: {preflight}, delays are short (0 to 1 s)")
    began = story.screen.seconds
    await follow(story, [(DROP_AT, drop_device), (KILL_AT, kill_host)])
    for incident in story.incidents:
        await incident
    story.sending_seconds = story.screen.seconds - began
    counts = story.campaign["counts"]
    story.screen.say(f"The campaign is {story.campaign['status']}: {counts['success']} sent, {_failed(counts)} failed")


async def retry_failed(story: Telling) -> None:
    """Have what failed sent again, by a signal to the campaign's workflow, which had ended; the dropped device is back."""
    device = story.devices[0]
    await story.ask(story.client.post, f"/api/devices/{device['id']}/simulate", {"action": "restore"})
    await story.ask(story.client.post, "/app/reconnect", deviceId=device["id"])
    await _online(story, DEVICES)
    story.screen.say(f"{device['name']} is online again")
    path = f"/api/campaigns/{story.campaign['id']}/retry-failed"
    for _ in range(RETRIES):
        if story.campaign["counts"]["failed"] == 0:
            return
        queued = (await story.ask(story.client.post, path))["retried"]
        if not queued:
            return
        story.screen.say(f"{queued} failed messages are retried by a signal to the workflow")
        await reopened(story, story.campaign["completed_at"])
        await follow(story, [])
    counts = story.campaign["counts"]
    story.screen.say(f"After the retries: {counts['success']} sent, {_failed(counts)} failed")


async def drop_device(story: Telling) -> None:
    """One device loses its connection for good; what it has not sent moves to the others."""
    device = story.devices[0]
    await story.ask(story.client.post, f"/api/devices/{device['id']}/simulate", {"action": "drop"})
    story.screen.say(f"{device['name']} has dropped; its messages will move after {FAILOVER_SECONDS} s", "yellow")
    left = await _pending_of(story, device["id"])
    while (now := await _pending_of(story, device["id"])) > 0:
        left = max(left, now)
        await asyncio.sleep(LOOK_SECONDS)
    story.screen.say(f"The {left} messages that {device['name']} had not sent have moved to other devices", "green")


async def kill_host(story: Telling) -> None:
    """A host is killed in the middle of its sends; the fleet starts another, which settles what was under way."""
    before = host_processes(story.stack)
    victim = before[-1]
    victim.kill()
    killed_at = story.screen.seconds
    story.screen.say(f"A device host (process {victim.pid}) was killed with SIGKILL while its devices were sending", "yellow")
    known = {host.pid for host in before}
    while not (fresh := _others(story.stack, known)):  # noqa: ASYNC110 -- the fleet is another process
        await asyncio.sleep(0.1)
    # The dropped device stays away.
    await _online(story, DEVICES - 1)
    took = story.screen.seconds - killed_at
    story.screen.say(f"A new host (process {fresh[0].pid}) holds its devices again, {took:.1f} s after the kill", "green")


Incident = Callable[[Telling], Awaitable[None]]


async def follow(story: Telling, incidents: list[tuple[float, Incident]]) -> None:
    """Show the campaign until it ends; each incident begins when its share of the messages is done.

    A campaign that does not end in time is left as it is: the result shows what is pending.
    """
    due = list(incidents)
    give_up_at = story.screen.seconds + ENDS_WITHIN
    with story.screen.live():
        while story.screen.seconds < give_up_at:
            await look(story)
            counts = story.campaign["counts"]
            if story.campaign["status"] in ENDED:
                return
            while due and counts["total"] and counts["total"] - counts["pending"] >= due[0][0] * counts["total"]:
                story.incidents.append(asyncio.create_task(_begin(due.pop(0)[1], story)))
            await asyncio.sleep(LOOK_SECONDS)
    reason = story.campaign["status_reason"] or "it is still sending"
    story.screen.say(f"The campaign has not ended within {ENDS_WITHIN:.0f} s: {reason}", "red")


async def _begin(incident: Incident, story: Telling) -> None:
    async with asyncio.timeout(ONLINE_WITHIN):
        await incident(story)


async def look(story: Telling) -> None:
    """Read the campaign and its device report, and show them; an API that is away is asked again later."""
    path = f"/api/campaigns/{story.campaign['id']}"
    try:
        story.campaign = await story.ask(story.client.get, path)
        report = await story.ask(story.client.get, f"{path}/device-report")
    except Unreachable as error:
        story.screen.say(f"The API does not answer: {error.detail}", "red")
        return
    story.screen.update(story.campaign, report)


async def reopened(story: Telling, ended_at: str | None) -> None:
    """Wait until the signal has reached the workflow: the campaign, which ended at that instant, is under way again."""
    async with asyncio.timeout(ONLINE_WITHIN):
        while story.campaign["completed_at"] == ended_at:
            await asyncio.sleep(LOOK_SECONDS / 2)
            await look(story)


async def _online(story: Telling, wanted: int) -> None:
    async with asyncio.timeout(ONLINE_WITHIN):
        while True:
            devices = await story.ask(story.client.pages, "/api/devices")
            if sum(device["status"] == "online" for device in devices) >= wanted:
                return
            await asyncio.sleep(LOOK_SECONDS / 2)


async def _pending_of(story: Telling, device_id: str) -> int:
    report = await story.ask(story.client.get, f"/api/campaigns/{story.campaign['id']}/device-report")
    return sum(device["pendingLeads"] for device in report["devices"] if device["id"] == device_id)


def _others(stack: EmbeddedStack, known: set[int]) -> list[psutil.Process]:
    return [host for host in host_processes(stack) if host.pid not in known]


def _failed(counts: dict[str, int]) -> int:
    return counts["failed"] + counts["unknown"]
