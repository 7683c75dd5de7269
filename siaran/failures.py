"""How failures are written into workflow histories: their type and code, never a text that could name a person."""

from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError, FailureError


class DiscreetFailureConverter(DefaultFailureConverter):
    """Keeps what Temporal's own errors say and replaces the message of every other exception by its type.

    A database error quotes the row it failed on; histories are read by operators of all tenants.
    """

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """See the base class; `code` of an exception, if it has one, becomes the message."""
        if not isinstance(exception, FailureError):
            name = type(exception).__name__
            discreet = ApplicationError(str(getattr(exception, "code", name)), type=name)
            discreet.__traceback__ = exception.__traceback__
            discreet.__cause__ = exception.__cause__ or (None if exception.__suppress_context__ else exception.__context__)
            exception = discreet
        super().to_failure(exception, payload_converter, failure)
