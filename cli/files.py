"""Files that commands write."""

from collections.abc import Iterator
from pathlib import Path

from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.output import errors


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
