"""What can go wrong for a caller; knows no HTTP. The docstring of an error is its title."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of the input and why it was refused; `field` is a dotted path such as `steps.2.day`."""

    field: str
    reason: str


class SiaranError(Exception):
    """Something went wrong."""

    code = "ERROR"

    def __init__(self, detail: str = "") -> None:
        self.title = (type(self).__doc__ or "").strip().rstrip(".")
        self.detail = detail or self.title
        super().__init__(self.detail)


class NotFound(SiaranError):
    """There is no such thing."""

    code = "NOT_FOUND"


class Invalid(SiaranError):
    """The input is not valid."""

    code = "VALIDATION_ERROR"

    def __init__(self, errors: Sequence[FieldError], detail: str = "") -> None:
        self.errors = tuple(errors)
        super().__init__(detail or "; ".join(f"{error.field}: {error.reason}" for error in self.errors))

    @classmethod
    def field(cls, field: str, reason: str) -> "Invalid":
        """An error of one field."""
        return cls([FieldError(field, reason)])


class Conflict(SiaranError):
    """The request does not fit the present state."""

    code = "CONFLICT"


class Unauthenticated(SiaranError):
    """You are not logged in."""

    code = "UNAUTHORIZED"


class Forbidden(SiaranError):
    """You may not do that."""

    code = "FORBIDDEN"


class TooManyRequests(SiaranError):
    """Too many requests."""

    code = "TOO_MANY_REQUESTS"

    def __init__(self, retry_after_seconds: int, detail: str = "") -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(detail)


class Unavailable(SiaranError):
    """A part of the system does not answer at the moment."""

    code = "UNAVAILABLE"
