"""The shape of every successful answer: `code`, `message`, `results`."""

from typing import Generic, TypeVar

from pydantic import BaseModel

Results = TypeVar("Results")


class Envelope(BaseModel, Generic[Results]):
    """A successful answer; empty lists are `[]`, never `null`."""

    code: str = "SUCCESS"
    message: str
    results: Results


def success(results: Results, message: str = "OK") -> Envelope[Results]:
    """Wrap the results of an endpoint."""
    return Envelope(message=message, results=results)


class ListEnvelope(Envelope[list[Results]], Generic[Results]):
    """A successful answer with one keyset page of a list; `next_cursor`, for `cursor` of the next, is `null` on the last."""

    next_cursor: str | None


def listed(items: list[Results], next_cursor: str | None = None, message: str = "OK") -> ListEnvelope[Results]:
    """Wrap one page of a list whose `results`, as in the original, are the list itself."""
    return ListEnvelope(message=message, results=items, next_cursor=next_cursor)
