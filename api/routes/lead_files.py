"""Leads as CSV files: import and export."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from api.auth import AuthenticatedUser, UserDep
from api.context import Context, ContextDep
from api.envelope import Envelope, success
from api.routes.leads import AnyDeviceFilterDep, DeviceId, FilterDep
from siaran.devices import get_device
from siaran.errors import Invalid
from siaran.lead_rows import Verdict
from siaran.leads_export import export_leads
from siaran.leads_import import ImportReport, ImportTarget, LeadImport

router = APIRouter(tags=["leads"])

CSV = "text/csv; charset=utf-8"
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary", "description": "A CSV file in UTF-8."}},
                }
            }
        },
    }
}
"""Describes the upload, which FastAPI does not see: it would receive the whole body before asking who sends it."""
MAX_UPLOAD_BYTES = 512 * 2**20
"""Some four million leads; the file is kept on disk while it is read."""

CSV_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}}}


class RowView(BaseModel):
    """What became of one row of the file."""

    model_config = ConfigDict(from_attributes=True)

    line: int = Field(description="The line on which the row begins; the file's first is 1.")
    phone: str
    verdict: Verdict
    reason: str = Field(description="Why the row was not imported.")


class ImportView(BaseModel):
    """What became of the rows of the file, or would: `success` + `failed` is all of them."""

    dry_run: bool = Field(description="Whether this only says what would happen.")
    success: int = Field(description="Rows that are leads now: `new`, `updated` and `unchanged`.")
    failed: int = Field(description="Rows that were not imported: `duplicates` and `invalid`.")
    new: int
    updated: int
    unchanged: int
    duplicates: int = Field(description="Rows with the phone of an earlier row of the file; the first one counts.")
    invalid: int
    rows: list[RowView] = Field(description="The first 1,000 imported and the first 1,000 other rows; the counts are of all.")

    @classmethod
    def of(cls, report: ImportReport, *, dry_run: bool) -> "ImportView":
        """A report as the user sees it."""
        return cls(
            dry_run=dry_run,
            success=report.success,
            failed=report.failed,
            new=report.counts[Verdict.NEW],
            updated=report.counts[Verdict.UPDATED],
            unchanged=report.counts[Verdict.UNCHANGED],
            duplicates=report.counts[Verdict.DUPLICATE],
            invalid=report.counts[Verdict.INVALID],
            rows=[RowView.model_validate(detail) for detail in report.details],
        )


async def read_upload(request: Request, _: UserDep) -> AsyncIterator[UploadFile]:
    """The uploaded file, received after the log-in has been checked, and closed after the answer has been sent."""
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Invalid.field("file", "is missing: send the CSV file as multipart/form-data")
        yield file


UploadDep = Annotated[UploadFile, Depends(read_upload)]
DryRun = Annotated[bool, Query(description="Only say what would happen, row by row; nothing is written.")]
Rejected = Annotated[
    Literal["csv"] | None,
    Query(description="With `dry_run`: answer with the rejected rows and the reasons as a CSV file instead."),
]


@router.post("/api/leads/import", openapi_extra=UPLOAD, response_model=Envelope[ImportView], max_body_size=MAX_UPLOAD_BYTES)
async def import_user_leads(
    file: UploadDep, user: UserDep, context: ContextDep, *, dry_run: DryRun = False, rejected: Rejected = None
) -> Envelope[ImportView] | StreamingResponse:
    """Import leads from a CSV file; new ones belong to no device unless their row names one."""
    return await _import(file, None, user, context, dry_run=dry_run, rejected=rejected)


@router.post(
    "/api/devices/{device_id}/leads/import",
    openapi_extra=UPLOAD,
    response_model=Envelope[ImportView],
    max_body_size=MAX_UPLOAD_BYTES,
)
async def import_device_leads(
    device_id: DeviceId,
    file: UploadDep,
    user: UserDep,
    context: ContextDep,
    *,
    dry_run: DryRun = False,
    rejected: Rejected = None,
) -> Envelope[ImportView] | StreamingResponse:
    """Import leads from a CSV file; new ones belong to this device unless their row names another of yours."""
    return await _import(file, device_id, user, context, dry_run=dry_run, rejected=rejected)


@router.get("/api/leads/export", response_class=StreamingResponse, responses=CSV_ANSWER)
async def export_user_leads(wanted: AnyDeviceFilterDep, user: UserDep, context: ContextDep) -> StreamingResponse:
    """Your leads as a CSV file, oldest first; importing it again changes nothing."""
    return attachment("leads.csv", export_leads(context.sessions, user.id, wanted))


@router.get("/api/devices/{device_id}/leads/export", response_class=StreamingResponse, responses=CSV_ANSWER)
async def export_device_leads(device_id: DeviceId, wanted: FilterDep, user: UserDep, context: ContextDep) -> StreamingResponse:
    """The leads of one of your devices as a CSV file, oldest first; importing it again changes nothing."""
    async with context.sessions.begin() as session:
        await get_device(session, user.id, device_id)
    return attachment("leads.csv", export_leads(context.sessions, user.id, replace(wanted, device_id=device_id)))


async def _import(
    file: UploadFile,
    device_id: UUID | None,
    user: AuthenticatedUser,
    context: Context,
    *,
    dry_run: bool,
    rejected: Literal["csv"] | None,
) -> Envelope[ImportView] | StreamingResponse:
    if rejected and not dry_run:
        raise Invalid.field("rejected", "goes with dry_run=true only, as it imports nothing")
    target = ImportTarget(user.id, device_id, user.country)
    opened = await LeadImport.open(context.sessions, file.file, target)
    if rejected:
        return attachment("rejected-leads.csv", opened.rejected_csv())
    report = await opened.run(context.sessions, now=context.clock(), dry_run=dry_run)
    verb = "would be" if dry_run else "were"
    message = f"{report.success:,} of {report.rows:,} rows {verb} imported"
    return success(ImportView.of(report, dry_run=dry_run), message)


def attachment(name: str, content: AsyncIterator[bytes]) -> StreamingResponse:
    """A CSV file to download, made while it is sent."""
    return StreamingResponse(content, media_type=CSV, headers={"Content-Disposition": f'attachment; filename="{name}"'})
