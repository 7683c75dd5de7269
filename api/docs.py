"""The OpenAPI document, and Swagger UI for it from files of this machine instead of a CDN."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from api.auth import SESSION_COOKIE
from api.problems import MEDIA_TYPE, Problem

DESCRIPTION = """\
WhatsApp campaigns and sequences from many devices, every one of them a durable workflow.

**Log in** with `POST /login`; the answer sets the cookie `session_token` and holds the same token for
`Authorization: Bearer` or `X-Auth-Token`. Scripts use an **API key** (`POST /api/api-keys`) the same way. A key has scopes:
`read` for every GET, `write` for everything that changes something, `send` for messages sent at once, `admin` for
administrators' endpoints.

**Answers** are `{"code": "SUCCESS", "message": "…", "results": …}`; **errors** are `application/problem+json` (RFC 9457) with
`errors[]` naming the fields. Someone else's row is answered like one that does not exist: 404.

**Lists** come in pages: `limit` (50, at most 500), and `cursor` with the `next_cursor` that stands beside the `results` of the
page before.
"""

TAGS = [
    {"name": "accounts", "description": "Registering, logging in and out, the account itself."},
    {"name": "sessions", "description": "Passwords and open log-ins."},
    {"name": "api keys", "description": "Keys for scripts."},
    {"name": "settings", "description": "Sending hours, limits per contact, and how contacts opt out."},
    {"name": "administration", "description": "Users and the audit log; for administrators."},
    {"name": "devices", "description": "WhatsApp accounts: adding, renaming, caps, status."},
    {"name": "linking", "description": "Linking devices by QR code or pairing code, logging out, reconnecting."},
    {"name": "chats", "description": "What devices and their contacts write to each other, to look at."},
    {"name": "leads", "description": "Contacts: editing, filtering, import and export as CSV."},
    {"name": "opt-outs", "description": "Contacts who are not written to any more."},
    {"name": "campaigns", "description": "One message to all leads that match."},
    {"name": "sequences", "description": "Messages day by day, to every contact on a timeline of their own."},
    {"name": "media", "description": "Images, videos and documents that messages carry."},
    {"name": "messages", "description": "Single messages: test sends, and what became of a message."},
    {"name": "sending", "description": "Sending at once: texts, files, polls, lists of numbers; checking numbers."},
    {"name": "analytics", "description": "What was sent, received, read and replied, day by day."},
    {"name": "activity", "description": "The log of what happened to your campaigns, devices and leads."},
    {"name": "webhooks", "description": "Addresses that are told of messages, receipts and other events."},
    {"name": "workers", "description": "The lanes in which devices send."},
    {"name": "system", "description": "Health, status and metrics."},
]

SECURITY_SCHEMES = {
    "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE, "description": "Set by logging in."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or the token of a login."},
    "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "An API key or the token of a login."},
}

PUBLIC: dict[str, Any] = {"security": []}
"""`openapi_extra` of an operation that needs no login."""

PROBLEMS = {
    "401": "Not logged in, or the login has ended.",
    "403": "Not allowed to this user or key, or sent by another site.",
    "404": "There is no such thing, or it is someone else's.",
    "422": "The input is not valid; `errors` names the fields.",
    "503": "A part of the system does not answer at the moment.",
}

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Siaran API</title>
<link rel="icon" href="/docs/files/favicon.png">
<link rel="stylesheet" href="/docs/files/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/files/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

# A file of its own, because the content security policy forbids scripts inside pages.
START = """\
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application, with its errors and ways to log in; built once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, tags=TAGS, routes=app.routes, openapi_version="3.1.0"
        )
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"))
        schemas["Problem"] = problem
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        components["securitySchemes"] = SECURITY_SCHEMES
        document["security"] = [{name: []} for name in SECURITY_SCHEMES]
        for item in document["paths"].values():
            for operation in item.values():
                _document_problems(operation)
        app.openapi_schema = document
    return app.openapi_schema


def _document_problems(operation: dict[str, Any]) -> None:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, description in PROBLEMS.items():
        operation["responses"][status] = {"description": description, "content": content}


def install_docs(app: FastAPI) -> None:
    """Serve the document at `/openapi.json` and its page at `/docs`."""
    app.openapi = lambda: build_openapi(app)  # type: ignore[method-assign]  # the way FastAPI documents
    swagger = StaticFiles(directory=Path(str(files("fastapi_offline"))) / "static")
    app.mount("/docs/files", swagger, name="docs-files")

    @app.get("/docs", include_in_schema=False)
    def read_docs() -> HTMLResponse:
        return HTMLResponse(PAGE)

    @app.get("/docs/start.js", include_in_schema=False)
    def read_docs_start() -> Response:
        return Response(START, media_type="text/javascript")
