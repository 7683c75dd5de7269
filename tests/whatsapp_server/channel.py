"""Questions and answers between processes: one JSON line each way over a Unix socket, one connection for each question."""

import asyncio
import json
import traceback
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

LINE_BYTES = 1 << 26


class Refused(Exception):
    """The other process could not do what it was asked: the name of its exception, and its words."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


async def ask(path: Path, name: str, /, **arguments: Any) -> Any:
    """Call a method in another process; raises `Refused`, or `ConnectionError` if that process has ended."""
    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES)
    try:
        writer.write(json.dumps([name, arguments]).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionError(f"{path.name} ended while it was asked to {name}")
    reply = json.loads(line)
    if "error" in reply:
        raise Refused(**reply["error"])
    return reply["answer"]


async def is_answering(path: Path) -> bool:
    """Whether a process listens there: the file alone appears a moment earlier."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.close()
    return True


async def answer(path: Path, methods: object) -> None:
    """Let other processes call the public methods of `methods`, until this task is cancelled."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if not line:  # somebody asked only whether there is anyone
            writer.close()
            return
        name, arguments = json.loads(line)
        reply: dict[str, Any]
        try:
            called = None if name.startswith("_") else getattr(methods, name)(**arguments)
            reply = {"answer": await called if isinstance(called, Awaitable) else called}
        except Exception as error:  # noqa: BLE001 - it is raised again in the process that asked
            traceback.print_exc()
            reply = {"error": {"kind": type(error).__name__, "message": str(error)}}
        writer.write(json.dumps(reply).encode() + b"\n")
        writer.close()

    listener = await asyncio.start_unix_server(serve, path, limit=LINE_BYTES)
    await listener.serve_forever()
