"""What can go wrong when the embedded servers start; each message says what to do."""

from pathlib import Path

from siaran.errors import SiaranError


class StackError(SiaranError):
    """The embedded servers cannot start."""

    code = "STACK"


class PortTaken(StackError):
    """Another program listens on a port that a server of ours needs."""

    def __init__(self, title: str, port: int, variable: str) -> None:
        super().__init__(
            f"Port {port} for {title} is taken by another program. "
            f"Stop that program, or set {variable} to another port (0 takes any free one)."
        )
        self.port = port
        self.variable = variable


class FolderInUse(StackError):
    """Another stack runs on the same data folder."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        owner = f"process {pid}" if pid else "another process"
        super().__init__(
            f"Siaran already runs on the data folder {folder} ({owner}). "
            "Stop it first, or set SIARAN_DATA_DIR to another folder."
        )
        self.folder = folder


class ChildFailed(StackError):
    """A child process ended, or gave no answer, when it should have started."""

    def __init__(self, title: str, reason: str, log_path: Path, tail: str) -> None:
        lines = f":\n{tail}" if tail else "."
        super().__init__(f"{title} did not start: {reason}. The end of {log_path}{lines}")
        self.log_path = log_path
