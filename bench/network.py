"""How much one process can send through the simulated network, and what that costs: `python -m bench.network`."""

import argparse
import asyncio
import json
import secrets
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from siaran.embedded.options import StackOptions, choose_ports
from siaran.embedded.valkey import EmbeddedValkey
from siaran.errors import Unavailable
from siaran.gateway.interface import Body, DeviceRef, MessageType
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork

BODY = Body(MessageType.TEXT, "Salam, promosi Merdeka bermula hari ini. Balas STOP untuk berhenti.")


@dataclass
class Run:
    """What one run measures; `late` are seconds from when a send was due to when it began."""

    sent: int
    late: list[float]
    events: Counter[str]


async def send_for(transport: SimulatedTransport, device: DeviceRef, gap: float, until: float, run: Run) -> None:
    """Send from one device at a fixed rate, each message to another phone."""
    due = time.monotonic() + secrets.randbelow(1000) / 1000 * gap
    while due < until:
        await asyncio.sleep(due - time.monotonic())
        run.late.append(time.monotonic() - due)
        await transport.send(device.id, f"601{secrets.randbelow(10**8):08d}", BODY, secrets.token_bytes(32))
        run.sent += 1
        due += gap


async def consume(transport: SimulatedTransport, run: Run) -> None:
    """Count the events, as a host would handle them."""
    async for event in transport.events():
        run.events[type(event).__name__] += 1


async def measure(url: str, server: psutil.Process, devices: int, rate: float, seconds: float) -> dict[str, float]:
    """Send at `rate` a minute from each device for some seconds and return the figures."""
    transport, run = SimulatedTransport(url), Run(0, [], Counter())
    await transport.open()
    consumer = asyncio.create_task(consume(transport, run))
    async with SimulatedNetwork(url) as network:
        started = time.monotonic()
        links = [(await network.link(uuid4(), f"6012{number:07d}")).ref for number in range(devices)]
        for device in links:
            await transport.connect(device)
        connect_seconds = time.monotonic() - started
        cpu, server_cpu, begun = time.process_time(), sum(server.cpu_times()[:2]), time.monotonic()
        until = begun + seconds
        await asyncio.gather(*(send_for(transport, device, 60 / rate, until, run) for device in links))
        elapsed = time.monotonic() - begun
        used, server_used = time.process_time() - cpu, sum(server.cpu_times()[:2]) - server_cpu
        recorded = await network.transmitted()
    await transport.close()
    await consumer
    late = sorted(run.late)
    return {
        "devices": devices,
        "offered_per_second": round(devices * rate / 60, 1),
        "sent_per_second": round(run.sent / seconds, 1),
        "recorded": recorded,
        "sent": run.sent,
        "receipts": run.events["Receipt"],
        "late_p50_ms": round(late[len(late) // 2] * 1000, 1),
        "late_p99_ms": round(late[len(late) * 99 // 100] * 1000, 1),
        "process_cpu_percent": round(used / elapsed * 100, 1),
        "valkey_cpu_percent": round(server_used / elapsed * 100, 1),
        "valkey_mb": round(server.memory_info().rss / 2**20, 1),
        "link_and_connect_seconds": round(connect_seconds, 1),
    }


async def answered(url: str) -> None:
    """Wait until the network's Valkey answers."""
    async with SimulatedNetwork(url) as network:
        while True:
            try:
                await network.transmitted()
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def main(arguments: argparse.Namespace) -> None:
    """Run against a Valkey of its own and print the figures."""
    port = choose_ports(StackOptions().with_free_ports(), ["network_port"]).network_port
    with TemporaryDirectory() as folder:
        valkey = EmbeddedValkey(
            name="network", title="Simulated network", folder=Path(folder), port=port, password="bench", append_only=True
        )
        valkey.initialise()
        server = subprocess.Popen(valkey.child().command, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            await answered(valkey.url)
            figures = await measure(
                valkey.url, psutil.Process(server.pid), arguments.devices, arguments.rate, arguments.seconds
            )
        finally:
            server.terminate()
            server.wait()
    if arguments.json:
        print(json.dumps(figures))
        return
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=24.0, help="messages a minute and device")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of a table")
    uvloop.run(main(parser.parse_args()))
