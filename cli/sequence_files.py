"""Sequences kept as files, in TOML or JSON: the fields of the API, with images beside the file."""

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import usage_error

if TYPE_CHECKING:
    from cli.client import Client

ENDINGS = (".toml", ".json")


def sequence_files(paths: list[Path]) -> list[Path]:
    """The files, and those that lie in the folders; raises `CommandError` where there is none."""
    found = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    files = [file for file in found if file.suffix.lower() in ENDINGS]
    if not files:
        raise usage_error(f"there is no file that ends in {' or '.join(ENDINGS)}")
    return files


def read_sequence(file: Path) -> dict[str, Any]:
    """The sequence that a file describes; raises `CommandError` for what cannot be read, or has no name."""
    try:
        text = file.read_text(encoding="utf-8")
        body = json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise usage_error(f"{file}: {error}") from error
    steps = body.get("steps", []) if isinstance(body, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise usage_error(f"{file}: is no sequence: it must have fields and, under steps, a list of steps")
    if not isinstance(body.get("name"), str) or not body["name"].strip():
        raise usage_error(f"{file}: has no name")
    # What TOML reads as a clock time is one.
    return {**_as_text(body), "steps": [_as_text(step) for step in steps]}


def _as_text(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in fields.items()}


def upload_images(client: "Client", file: Path, body: dict[str, Any]) -> dict[str, Any]:
    """The sequence with every image that is a file beside it uploaded; each is kept once, however often this is done."""
    return {**body, "steps": [_with_image(client, file, step) for step in body["steps"]]}


def _with_image(client: "Client", file: Path, step: dict[str, Any]) -> dict[str, Any]:
    name = next((field for field in ("image_url", "media_url") if step.get(field)), None)
    if name is None or "://" in str(step[name]) or str(step[name]).startswith("/api/media/"):
        return step
    image = file.parent / str(step[name])
    if not image.is_file():
        raise usage_error(f"{file}: there is no file {image}")
    with image.open("rb") as content:
        return {**step, name: client.upload("/api/media", image.name, content)["url"]}
