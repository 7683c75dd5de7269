"""Bodies of requests that send something: JSON or a form, as callers of the original send them, with or without a file."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_origin
from uuid import UUID

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect

from siaran.errors import Invalid
from siaran.media_types import LARGEST, MEGABYTE

MULTIPART = "multipart/form-data"
FORMS = (MULTIPART, "application/x-www-form-urlencoded")
JSON = "application/json"

LARGEST_BODY = LARGEST + MEGABYTE


def _nothing_for_empty(value: Any) -> Any:
    """Forms send an empty text where nothing was filled in."""
    return None if isinstance(value, str) and not value.strip() else value


class Order(BaseModel):
    """Whom to send to, and from which device."""

    phone: str = Field(
        max_length=64,
        description="One number in any form, or a contact's address; groups are refused.",
        examples=["60123456789@s.whatsapp.net"],
    )
    device_id: Annotated[UUID | None, BeforeValidator(_nothing_for_empty)] = Field(
        None, description="The device to send from, never another; may be left out while only one is linked."
    )
    wait_seconds: float = Field(8, ge=0, le=20, description="How long to wait for the outcome before answering 202.")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a form, and what its sender called and declared it."""

    content: bytes
    file_name: str
    declared: str


Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, model: type[Body], file: str | None = None) -> tuple[Body, Upload | None]:
    """The body of a request, JSON or a form, with the file in the form's field `file` if it has one.

    Raises what FastAPI does for a body that does not fit, and `Invalid` for a file that is too large or breaks off.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in FORMS:
        return _validated(model, await request.body()), None
    try:
        async with request.form(max_files=1, max_fields=100) as form:
            upload = await _uploaded(form.get(file), file) if file else None
            return _validated(model, _fields(form, model)), upload
    except ClientDisconnect as error:
        raise Invalid.field(file or "body", "was not sent to its end") from error


def describe_body(model: type[BaseModel], file: str | None = None, about: str = "") -> dict[str, Any]:
    """`openapi_extra` of an operation with such a body; FastAPI does not see it, since it is read after asking who sends it."""
    schema = model.model_json_schema()
    form = schema
    if file:
        field = {"type": "string", "format": "binary", "description": about}
        form = {**schema, "properties": {**schema["properties"], file: field}}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}, MULTIPART: {"schema": form}}}}


async def _uploaded(part: UploadFile | str | None, field: str) -> Upload | None:
    # A browser sends an empty file without a name where none was chosen.
    if not isinstance(part, UploadFile) or not (part.filename or part.size):
        return None
    if (part.size or 0) > LARGEST:
        raise Invalid.field(field, f"is too large: more than {LARGEST // MEGABYTE} MB")
    return Upload(await part.read(), part.filename or "", (part.content_type or "").lower())


def _fields(form: FormData, model: type[BaseModel]) -> dict[str, Any]:
    """The texts of a form by name; lists are repeated fields, also as `name[]`, and what was left empty may stay out."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        given = [value for value in [*form.getlist(name), *form.getlist(f"{name}[]")] if isinstance(value, str)]
        if given and (given != [""] or info.is_required()):
            fields[name] = given if get_origin(info.annotation) in {list, tuple} else given[-1]
    return fields


def _validated(model: type[Body], given: bytes | dict[str, Any]) -> Body:
    try:
        return model.model_validate_json(given) if isinstance(given, bytes) else model.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
