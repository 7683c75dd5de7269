"""What a check of `siaran doctor` says."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `hint` says what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    hint: str = ""


def ok(name: str, detail: str) -> Check:
    """It is as it should be."""
    return Check(name, Verdict.OK, detail)


def warning(name: str, detail: str, hint: str) -> Check:
    """It works, and should be looked after."""
    return Check(name, Verdict.WARNING, detail, hint)


def failed(name: str, detail: str, hint: str) -> Check:
    """It does not work."""
    return Check(name, Verdict.FAILED, detail, hint)


def skipped(name: str, detail: str, hint: str = "") -> Check:
    """It does not apply here."""
    return Check(name, Verdict.SKIPPED, detail, hint)
