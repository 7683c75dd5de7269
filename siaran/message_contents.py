"""What locations, contact cards and polls say: kept in the ledger as JSON, and checked before they get there."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]


class Location(BaseModel):
    """A place; degrees north and east."""

    model_config = ConfigDict(frozen=True)

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    name: str = Field("", max_length=255)
    address: str = Field("", max_length=255)


class ContactCard(BaseModel):
    """Somebody's name and number; `phone` is digits in international form."""

    model_config = ConfigDict(frozen=True)

    name: Line
    phone: str = Field(pattern=r"^\d{6,15}$")


class Poll(BaseModel):
    """A question with answers to choose from, at most `selectable` of them."""

    model_config = ConfigDict(frozen=True)

    question: Line
    options: Annotated[tuple[Line, ...], Field(min_length=2, max_length=12)]
    selectable: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.options)) < len(self.options):
            raise ValueError("options must differ from each other")
        if self.selectable > len(self.options):
            raise ValueError("selectable is larger than the number of options")
        return self
