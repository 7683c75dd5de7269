"""Imports of leads that go on by themselves after the upload: begin, follow and cancel them, look at what became of rows."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, BinaryIO
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, status
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile

from api.auth import UserDep
from api.context import ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import PagingDep
from api.routes.lead_files import CSV_ANSWER, MAX_UPLOAD_BYTES, RowView, attachment
from siaran.contracts import LeadImportInput
from siaran.errors import Invalid
from siaran.lead_columns import COLUMNS
from siaran.lead_import_starts import start_import
from siaran.lead_imports import (
    ImportOrder,
    add_import,
    cancel_import,
    check_kept,
    get_import,
    list_imports,
    list_rows,
    rejected_csv,
)
from siaran.lead_rows import Verdict
from siaran.leads_csv import DELIMITERS
from siaran.models import ImportStatus, LeadImport

router = APIRouter(tags=["leads"])

ImportId = Annotated[UUID, Path(description="One of your imports.")]

DELIMITER_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}
_LONGEST_FILE_NAME = 200

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "A CSV file in UTF-8."},
                        "device_id": {
                            "type": "string",
                            "format": "uuid",
                            "description": "Your device to which new leads belong whose row names none.",
                        },
                        "dry_run": {"type": "boolean", "description": "Only say what would happen; no lead is changed."},
                        "columns": {
                            "type": "string",
                            "description": "JSON: our columns with the headings that they have in the file, where those are no "
                            'usual ones, such as `{"phone": "Hubungi"}`; an empty heading leaves a column of the file alone. '
                            f"Ours are {', '.join(COLUMNS)}.",
                        },
                        "delimiter": {
                            "type": "string",
                            "description": "What separates the cells, if it is not found out by itself: "
                            "`comma`, `semicolon`, `tab` or `pipe`.",
                        },
                    },
                }
            }
        },
    }
}
"""Describes the upload, which FastAPI does not see: it would receive the whole body before asking who sends it."""


class LeadImportView(BaseModel):
    """An import and how far it has come; the counts are those of the rows done so far."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    status: ImportStatus
    dry_run: bool = Field(validation_alias="is_dry_run", description="Whether it only says what would happen.")
    device_id: UUID | None
    file_name: str
    size_bytes: int
    columns: dict[str, str] = Field(description="Our columns, each with the heading that it has in the file.")
    delimiter: str
    percent: float = Field(0, description="How much of the file is done.")
    eta_seconds: int | None = Field(None, description="How long it will still take, as far as that can be told.")
    rows_done: int
    success: int = Field(0, description="Rows that are leads now, or would be: `new`, `updated` and `unchanged`.")
    failed: int = Field(0, description="Rows that were not imported: `duplicates` and `invalid`.")
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = Field(0, description="Rows with the phone of an earlier row of the file; the first one counts.")
    invalid: int = 0
    error: str | None = Field(description="Why it failed.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: LeadImport) -> "LeadImportView":
        """An import's row as its owner sees it."""
        counts = {verdict: row.counts.get(verdict.value, 0) for verdict in Verdict}
        failed = counts[Verdict.DUPLICATE] + counts[Verdict.INVALID]
        derived = {
            "percent": percent_of(row),
            "eta_seconds": eta_of(row),
            "success": row.rows_done - failed,
            "failed": failed,
            "new": counts[Verdict.NEW],
            "updated": counts[Verdict.UPDATED],
            "unchanged": counts[Verdict.UNCHANGED],
            "duplicates": counts[Verdict.DUPLICATE],
            "invalid": counts[Verdict.INVALID],
        }
        return cls.model_validate(row).model_copy(update=derived)


def percent_of(row: LeadImport) -> float:
    """How much of the file is done, with one decimal; 100 only at the end."""
    if row.status is ImportStatus.DONE:
        return 100.0
    return min(99.9, round(100 * row.bytes_done / row.size_bytes, 1)) if row.size_bytes else 0.0


def eta_of(row: LeadImport) -> int | None:
    """Seconds to the end at the present speed; None while there is none."""
    if row.status is not ImportStatus.RUNNING or row.started_at is None or not row.bytes_done:
        return None
    taken = (row.updated_at - row.started_at).total_seconds()
    return round(taken * (row.size_bytes - row.bytes_done) / row.bytes_done)


@dataclass(frozen=True, slots=True)
class ImportForm:
    """What was sent: the file and, as far as given, how to import it."""

    file: BinaryIO
    file_name: str
    device_id: UUID | None
    is_dry_run: bool
    columns: Mapping[str, str]
    delimiter: str


async def read_import_form(request: Request, _: UserDep) -> AsyncIterator[ImportForm]:
    """The form, received after the log-in has been checked; its file is closed after the answer has been sent."""
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Invalid.field("file", "is missing: send the CSV file as multipart/form-data")
        yield ImportForm(
            file=file.file,
            file_name="".join(char for char in file.filename or "" if char.isprintable())[:_LONGEST_FILE_NAME],
            device_id=_parse(form, "device_id", UUID, "is no device's id"),
            is_dry_run=_parse(form, "dry_run", bool, "is neither true nor false") or False,
            columns=_parse_columns(_text(form, "columns")),
            delimiter=_parse_delimiter(_text(form, "delimiter", strip=False)),
        )


def _text(form: FormData, name: str, *, strip: bool = True) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise Invalid.field(name, "is a file")
    return value.strip() if strip else value


def _parse(form: FormData, name: str, kind: type[Any], reason: str) -> Any:
    text = _text(form, name)
    try:
        return TypeAdapter(kind).validate_python(text) if text else None
    except ValidationError:
        raise Invalid.field(name, reason) from None


def _parse_columns(text: str) -> dict[str, str]:
    try:
        columns = json.loads(text or "{}")
    except ValueError:
        raise Invalid.field("columns", 'is no JSON such as {"phone": "Telefon"}') from None
    if not isinstance(columns, dict):
        raise Invalid.field("columns", 'is no JSON object such as {"phone": "Telefon"}')
    for column, heading in columns.items():
        if not column.isprintable():
            raise Invalid.field("columns", "has a key that is no column of a lead")
        if not isinstance(heading, str) or not heading.isprintable():
            raise Invalid.field(f"columns.{column}", "is no heading of a column")
    return columns


def _parse_delimiter(text: str) -> str:
    delimiter = DELIMITER_NAMES.get(text.strip().lower(), text if text in DELIMITERS else text.strip())
    if delimiter and delimiter not in DELIMITERS:
        raise Invalid.field("delimiter", "is neither comma, semicolon, tab nor pipe")
    return delimiter


@router.post("/api/leads/imports", status_code=status.HTTP_201_CREATED, openapi_extra=UPLOAD, max_body_size=MAX_UPLOAD_BYTES)
async def begin_lead_import(
    form: Annotated[ImportForm, Depends(read_import_form)], user: UserDep, context: ContextDep
) -> Envelope[LeadImportView]:
    """Upload a CSV file of leads, which is then imported in the background, through any restart of the server.

    The header is checked at once: columns may have the usual other names (`nama`, `telefon`, `whatsapp`, `tags`, …) or those
    that `columns` says. Follow the import by its id. A dry run says row by row what would happen. Importing the same file again
    changes nothing.
    """
    order = ImportOrder(
        country=user.country,
        file_name=form.file_name,
        device_id=form.device_id,
        is_dry_run=form.is_dry_run,
        columns=form.columns,
        delimiter=form.delimiter,
    )
    async with context.sessions.begin() as session:
        row = await add_import(session, user.id, order, form.file, context.clock())
    await start_import(context.temporal, LeadImportInput(row.id, user.id))
    return success(LeadImportView.of(row), "The dry run begins" if row.is_dry_run else "The import begins")


@router.get("/api/leads/imports")
async def get_lead_imports(paging: PagingDep, user: UserDep, context: ContextDep) -> ListEnvelope[LeadImportView]:
    """Your imports, newest first."""
    after = paging.after(tuple[datetime, UUID])
    async with context.sessions.begin() as session:
        rows = await list_imports(session, user.id, limit=paging.fetch, after=after)
    page, next_cursor = paging.cut(rows, lambda row: (row.created_at, row.id))
    return listed([LeadImportView.of(row) for row in page], next_cursor)


@router.get("/api/leads/imports/{import_id}")
async def show_lead_import(import_id: ImportId, user: UserDep, context: ContextDep) -> Envelope[LeadImportView]:
    """How far one of your imports has come."""
    async with context.sessions.begin() as session:
        return success(LeadImportView.of(await get_import(session, user.id, import_id)))


@router.post("/api/leads/imports/{import_id}/cancel")
async def cancel_lead_import(import_id: ImportId, user: UserDep, context: ContextDep) -> Envelope[LeadImportView]:
    """Stop an import within a second or so; the rows done until then stay imported. 409 if it has ended by itself."""
    async with context.sessions.begin() as session:
        row = await cancel_import(session, user.id, import_id, context.clock())
    return success(LeadImportView.of(row), f"Import cancelled; {row.rows_done:,} rows were done")


@router.get("/api/leads/imports/{import_id}/rows")
async def get_lead_import_rows(
    import_id: ImportId,
    paging: PagingDep,
    user: UserDep,
    context: ContextDep,
    verdict: Annotated[Verdict | None, Query(description="Only rows of which this became.")] = None,
) -> ListEnvelope[RowView]:
    """What became of single rows, in the order of the file: in a dry run of the first 50,000, else of the first 1,000 rejected.

    All rejected rows are in the file at `…/rejected`; both are kept for 30 days.
    """
    after = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        check_kept(await get_import(session, user.id, import_id))
        rows = await list_rows(
            session, user.id, import_id, verdict=verdict, limit=paging.fetch, after_line=after[0] if after is not None else 0
        )
    page, next_cursor = paging.cut(rows, lambda row: (row.line,))
    return listed([RowView.model_validate(row) for row in page], next_cursor)


@router.get("/api/leads/imports/{import_id}/rejected", response_class=StreamingResponse, responses=CSV_ANSWER)
async def download_rejected_leads(import_id: ImportId, user: UserDep, context: ContextDep) -> StreamingResponse:
    """The rows that were not imported as a CSV file: their cells, then line, verdict and reason.

    Corrected, it can be imported again. Safe to open in a spreadsheet: no cell is taken for a formula. Kept for 30 days.
    """
    async with context.sessions.begin() as session:
        check_kept(await get_import(session, user.id, import_id))
    return attachment("rejected-leads.csv", rejected_csv(context.sessions, user.id, import_id))
