"""Where the Temporal UI is, and the addresses of what it shows. It knows no tenants: only administrators get to it."""

from urllib.parse import quote, urlsplit

from siaran.search_attributes import STATUS, USER
from siaran.settings import Settings

UI_PATH = "/temporal"
"""The path under which the UI runs so that the API can pass it on under the same path of its own."""

EXECUTIONS_PATH = "/executions"
"""Where the API leads a browser to the list of executions, whatever UI there is."""

OWNED = f"`{USER.name}` is not null"
"""The visibility query for all that belongs to a user; the sweep, every half minute, would push it off the first page."""

WAITING = f'`ExecutionStatus`="Running" AND `{STATUS.name}` STARTS_WITH "waiting"'
"""The visibility query for what waits at the moment."""


def is_behind_api(settings: Settings) -> bool:
    """Whether the API passes the UI on; one with another path, Temporal Cloud's say, has a log-in of its own."""
    return settings.temporal_ui_url is not None and urlsplit(settings.temporal_ui_url).path.rstrip("/") == UI_PATH


def workflow_link(settings: Settings, workflow_id: str) -> str | None:
    """Where a workflow is shown, within the API's origin if the API passes the UI on; None without a UI."""
    pages = _namespace_pages(settings)
    return pages and f"{pages}/workflows/{quote(workflow_id, safe=':')}"


def list_link(settings: Settings, query: str) -> str | None:
    """Where the executions that a visibility query finds are listed; None without a UI."""
    pages = _namespace_pages(settings)
    return pages and f"{pages}/workflows" + (f"?query={quote(query)}" if query else "")


def _namespace_pages(settings: Settings) -> str | None:
    if not settings.temporal_ui_url:
        return None
    root = UI_PATH if is_behind_api(settings) else settings.temporal_ui_url.rstrip("/")
    return f"{root}/namespaces/{quote(settings.temporal_namespace, safe='')}"
