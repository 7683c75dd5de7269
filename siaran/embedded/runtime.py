"""The file that tells other programs on this machine what runs on a data folder: addresses, ports, processes."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from siaran.embedded.files import read_json, write_private
from siaran.embedded.supervisor import ChildState
from siaran.processes import ProcessMark

NAME = "runtime.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A running stack: who runs it, how child processes reach its servers (secrets included), and what became of each child."""

    owner: ProcessMark
    started_at: datetime
    environment: dict[str, str]
    ports: dict[str, int]
    children: list[ChildState]
    marks: list[ProcessMark]

    def write(self, data_dir: Path) -> None:
        """Store this in the data folder, readable by its owner only."""
        content = asdict(self)
        write_private(data_dir / NAME, json.dumps(content, indent=2, default=_as_text) + "\n")


def read_runtime(data_dir: Path) -> Runtime | None:
    """What runs on `data_dir`, or None; a stack that was killed counts as not running."""
    runtime = read_last_runtime(data_dir)
    return runtime if runtime and runtime.owner.find() else None


def read_last_runtime(data_dir: Path) -> Runtime | None:
    """What was last written about `data_dir`, whether or not it still runs; None after a clean stop."""
    stored = read_json(data_dir / NAME)
    if stored is None:
        return None
    return Runtime(
        owner=ProcessMark(**stored["owner"]),
        started_at=datetime.fromisoformat(stored["started_at"]),
        environment=stored["environment"],
        ports=stored["ports"],
        children=[_state(child) for child in stored["children"]],
        marks=[ProcessMark(**mark) for mark in stored["marks"]],
    )


def remove_runtime(data_dir: Path) -> None:
    """Say that nothing runs on `data_dir` any more."""
    (data_dir / NAME).unlink(missing_ok=True)


def _state(stored: dict[str, Any]) -> ChildState:
    up_since = stored.pop("up_since_at")
    return ChildState(**stored, up_since_at=datetime.fromisoformat(up_since) if up_since else None)


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot store a {type(value).__name__}")
