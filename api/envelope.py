"""The shape of every successful answer: `code`, `message`, `results`."""

from typing import Generic, TypeVar

from pydantic import BaseModel

Results = TypeVar("Results")


class Envelope(BaseModel, Generic[Results]):
    """A successful answer; empty lists are `[]`, never `null`."""

    code: str = "SUCCESS"
    message: str
    results: Results


class Page(BaseModel, Generic[Results]):
    """One keyset page; `next_cursor` goes into `cursor` of the next request and is `null` on the last page."""

    items: list[Results]
    next_cursor: str | None


def success(results: Results, message: str = "OK") -> Envelope[Results]:
    """Wrap the results of an endpoint."""
    return Envelope(message=message, results=results)


class ListEnvelope(Envelope[list[Results]], Generic[Results]):
    """A successful answer with one keyset page of a list; `next_cursor` is `null` on the last page."""

    next_cursor: str | None


def listed(items: list[Results], next_cursor: str | None = None, message: str = "OK") -> ListEnvelope[Results]:
    """Wrap one page of a list whose `results`, as in the original, are the list itself."""
    return ListEnvelope(message=message, results=items, next_cursor=next_cursor)
