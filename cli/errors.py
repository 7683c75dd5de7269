"""What a command ends with when it cannot do what it was asked to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell sees of a command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_LOGGED_IN = 3
    NOT_FOUND = 4


@dataclass(frozen=True, slots=True)
class RefusedField:
    """A field of the input and why it was refused."""

    field: str
    reason: str


@dataclass
class CommandError(Exception):
    """A command cannot go on: what to tell the user, and the exit code. `name` is the code of the problem for machines."""

    detail: str
    exit_code: ExitCode = ExitCode.FAILED
    name: str = "FAILED"
    fields: Sequence[RefusedField] = field(default=())

    def __post_init__(self) -> None:
        super().__init__(self.detail)


class Unreachable(CommandError):
    """The API does not answer, or says that a part of it does not; it may come back."""


def usage_error(detail: str) -> CommandError:
    """The command was called in a way that makes no sense."""
    return CommandError(detail, ExitCode.USAGE, "USAGE")
