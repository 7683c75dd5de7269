"""What messages carry that is neither text nor a file: kept in the ledger as JSON, and checked before they get there."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, ValidationInfo, field_validator

from siaran.gateway.interface import MessageType

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
OptionalLine = Annotated[str, StringConstraints(strip_whitespace=True, max_length=255, pattern=r"^[^\x00]*$")]


class Location(BaseModel):
    """A place; degrees north and east."""

    model_config = ConfigDict(frozen=True)

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    name: OptionalLine = ""
    address: OptionalLine = ""

    def describe(self) -> str:
        """The place in words."""
        degrees = f"{self.latitude:.6f}, {self.longitude:.6f}"
        return "Location: " + ", ".join(part for part in (self.name, self.address, degrees) if part)


class ContactCard(BaseModel):
    """Somebody's name and number; `phone` is digits in international form."""

    model_config = ConfigDict(frozen=True)

    name: Line
    phone: str = Field(pattern=r"^\d{6,15}$")

    def describe(self) -> str:
        """The card in words."""
        return f"Contact: {self.name}, +{self.phone}"


class Poll(BaseModel):
    """A question with answers to choose from, at most `selectable` of them."""

    model_config = ConfigDict(frozen=True)

    question: Line
    options: Annotated[tuple[Line, ...], Field(min_length=2, max_length=12)]
    selectable: int = Field(1, ge=1)

    @field_validator("options")
    @classmethod
    def _distinct(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(options)) < len(options):
            raise ValueError("must differ from each other")
        return options

    @field_validator("selectable")
    @classmethod
    def _possible(cls, selectable: int, info: ValidationInfo) -> int:
        if selectable > len(info.data.get("options", ())) > 0:
            raise ValueError("is more than there are options")
        return selectable

    def describe(self) -> str:
        """The poll in words, an option a line."""
        return "\n".join([f"Poll: {self.question}", *(f"- {option}" for option in self.options)])


Content = Location | ContactCard | Poll

CONTENTS: dict[str, type[Content]] = {
    MessageType.LOCATION: Location,
    MessageType.CONTACT: ContactCard,
    MessageType.POLL: Poll,
}
"""What the JSON of a message of these types is."""


def is_content(message_type: str, text: str) -> bool:
    """Whether a transport can read what a message of this type carries; a text, or a caption, is anything."""
    kind = CONTENTS.get(message_type)
    if kind is None:
        return True
    try:
        kind.model_validate_json(text)
    except ValidationError:
        return False
    return True


def describe_content(message_type: str, text: str) -> str:
    """What people read in place of a message's JSON; a text or caption, and what cannot be read, as it stands."""
    kind = CONTENTS.get(message_type)
    if kind is None:
        return text
    try:
        return kind.model_validate_json(text).describe()
    except ValidationError:
        return text
