"""The session files of real accounts: one SQLite file for each device and link generation, with the keys of that link.

Whoever has such a file speaks for the account, so it is the service user's alone. A new linking writes a new file.
"""

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from siaran.gateway.interface import Attempt, AttemptAnswer, NotConnected

READER = Path(__file__).with_name("session_reader.py")
READ_SECONDS = 15.0

_NAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(\d+)\.db")
_COMPANIONS = ("", "-wal", "-shm", "-journal")
_CANNOT_TELL = Attempt(AttemptAnswer.CANNOT_TELL)


@dataclass(frozen=True, slots=True)
class SessionContents:
    """What a session file holds: the addresses of its linked devices (one, or none once logged out), and the id of the
    message that was looked for.
    """

    jids: tuple[str, ...]
    message_id: str | None


def session_path(folder: Path, device_id: UUID, link_generation: int) -> Path:
    """Where the session of a device's link is kept, whether it exists or not."""
    return folder / f"{device_id}.{link_generation}.db"


def has_session(folder: Path, device_id: UUID, link_generation: int) -> bool:
    """Whether this server keeps the session of a device's link."""
    return session_path(folder, device_id, link_generation).is_file()


def list_sessions(folder: Path) -> set[tuple[UUID, int]]:
    """The devices whose sessions this server keeps, with the generation of each link."""
    if not folder.is_dir():
        return set()
    matches = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return {(UUID(match[1]), int(match[2])) for match in matches if match}


def create_session(folder: Path, device_id: UUID, link_generation: int) -> Path:
    """An empty session file for a new linking, readable by nobody else; one that is there is left as it is.

    Not to be called while this process has a client on the file, see `session_reader`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = session_path(folder, device_id, link_generation)
    if not path.exists():
        path.touch(mode=0o600)
        with closing(sqlite3.connect(path)) as session:
            session.execute("PRAGMA journal_mode = WAL")  # kept in the file: readers and the client do not block each other
    return path


def remove_session(folder: Path, device_id: UUID, link_generation: int) -> None:
    """Delete a session and everything that SQLite keeps beside it; nothing happens if there is none."""
    path = session_path(folder, device_id, link_generation)
    for companion in _COMPANIONS:
        path.with_name(path.name + companion).unlink(missing_ok=True)


async def read_session(path: Path, key: bytes | None = None) -> SessionContents | None:
    """What a session file holds, read by another process; None if there is no such file.

    Safe while a client writes to it. Raises `NotConnected` if it cannot be read at the moment.
    """
    return await asyncio.to_thread(_read, path, key)


async def linked_jid(path: Path) -> str | None:
    """The address of the device that a session file links; None if it links none (any more). Raises `NotConnected`."""
    contents = await read_session(path)
    return contents.jids[0] if contents and contents.jids else None


async def find_attempt(path: Path, key: bytes) -> Attempt:
    """What a session file knows of the attempt with this key; raises `NotConnected` if it cannot be read at the moment.

    The client writes the key, as the message's secret, before it transmits. A log-out deletes all of that with the device.
    """
    contents = await read_session(path, key)
    if contents is None or not contents.jids:
        return _CANNOT_TELL
    if contents.message_id is None:
        return Attempt(AttemptAnswer.NOT_ATTEMPTED)
    return Attempt(AttemptAnswer.ATTEMPTED, contents.message_id)


def _read(path: Path, key: bytes | None) -> SessionContents | None:
    if not path.is_file():
        return None
    command = [sys.executable, "-I", "-S", str(READER), str(path), key.hex() if key else ""]
    try:
        run = subprocess.run(command, capture_output=True, timeout=READ_SECONDS, check=True, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        if not path.exists():
            return None
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise NotConnected(f"the session file cannot be read: {str(said).strip()}") from error
    answer = json.loads(run.stdout)
    return SessionContents(tuple(answer["jids"]), answer["message_id"])
