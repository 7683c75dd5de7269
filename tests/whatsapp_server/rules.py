"""How messages are answered: the test's script."""

from dataclasses import dataclass, field
from enum import StrEnum


class Answer(StrEnum):
    """What the server does with a message that it has received."""

    ACK = "ack"
    """Acknowledge it."""

    REFUSE = "refuse"
    """Answer with an error code."""

    IGNORE = "ignore"
    """Say nothing, as when the acknowledgement is lost."""

    DROP = "drop"
    """Cut the connection off instead of acknowledging."""


@dataclass(slots=True)
class Rule:
    """An answer for the messages of one device or of all, to one recipient or to all, and for how many of them."""

    answer: Answer
    code: int = 0
    number: str | None = None
    recipient: str | None = None
    times: int | None = None
    after: float = 0.0

    def fits(self, number: str, recipient: str) -> bool:
        return self.times != 0 and self.number in {None, number} and self.recipient in {None, recipient}


@dataclass(slots=True)
class Rules:
    """The script: the newest rule that fits is applied; `receipts` follow each acknowledgement by themselves."""

    rules: list[Rule] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)

    def add(self, rule: Rule) -> None:
        self.rules.insert(0, rule)

    def take(self, number: str, recipient: str) -> Rule:
        """The rule for one message, used up once; without any, messages are acknowledged at once."""
        for rule in self.rules:
            if rule.fits(number, recipient):
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return Rule(Answer.ACK)
