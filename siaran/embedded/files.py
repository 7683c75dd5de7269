"""Small files of the data folder, written so that a crash leaves the old or the new content and nobody else reads them."""

import json
import os
import secrets
from pathlib import Path
from typing import Any


def write_private(path: Path, content: str) -> None:
    """Replace `path` in one step, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object stored in `path`, or None when there is no such file."""
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    if not isinstance(stored, dict):
        raise TypeError(f"{path} does not hold a JSON object")
    return stored


def load_secrets(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    """The named secrets kept in `path`; what is missing is drawn at random and stored."""
    kept = read_json(path) or {}
    missing = [name for name in names if name not in kept]
    if missing:
        kept |= {name: secrets.token_urlsafe(32) for name in missing}
        write_private(path, json.dumps(kept, indent=2) + "\n")
    return {name: str(kept[name]) for name in names}
