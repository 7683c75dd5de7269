"""Files that commands read and write."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.errors import usage_error
from cli.output import errors

if TYPE_CHECKING:
    from cli.client import Client


def media_url(client: "Client", file: str) -> str:
    """What stands for a file: an address as it is, a file of this machine by what its upload is answered with."""
    if "://" in file or file.startswith("/api/media/"):
        return file
    path = Path(file)
    if not path.is_file():
        raise usage_error(f"there is no file {file}")
    with path.open("rb") as content:
        url: str = client.upload("/api/media", path.name, content)["url"]
    return url


def save(file: Path, pieces: Iterator[bytes], as_json: bool) -> int:
    """Write beside the file first, so that a broken connection leaves the old one; returns the size in bytes."""
    draft = file.with_name(f".{file.name}.part")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TimeElapsedColumn())
    size = 0
    try:
        with (
            draft.open("wb") as output,
            Progress(*columns, console=errors, transient=True, disable=as_json) as progress,
        ):
            task = progress.add_task(f"Exporting to {file.name}", total=None)
            for piece in pieces:
                size += output.write(piece)
                progress.update(task, completed=size)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return size
